/**
 * Sends files some at a time, tries again when the connection breaks, and keeps count. Knows neither
 * the page nor how a file is sent.
 */

const RETRY_MS = [1000, 2000, 4000, 8000, 15000, 30000];

/**
 * @typedef {{file: {name: string, size: number}, state: "waiting" | "sending" | "added" | "duplicate"
 *   | "refused" | "failed", sent: number, reason: string, tries: number}} Item
 */
export class UploadQueue extends EventTarget {
  /** @type {Item[]} */
  items = [];
  #send;
  #parallel;
  #running = 0;
  #cancelled = false;
  #wait;

  /**
   * @param {{send: (item: Item, onProgress: (bytes: number) => void) => Promise<object>,
   *   parallel?: number, wait?: (ms: number) => Promise<void>}} parts `send` resolves with
   *   `{result, reason}`; it rejects with `isTemporary` when trying again can help
   */
  constructor({ send, parallel = 3, wait = (ms) => new Promise((done) => setTimeout(done, ms)) }) {
    super();
    this.#send = send;
    this.#parallel = parallel;
    this.#wait = wait;
  }

  get isBusy() {
    return this.items.some((item) => item.state === "waiting" || item.state === "sending");
  }

  /** @returns {{added: number, duplicate: number, refused: number, failed: number, total: number,
   *   done: number, bytes: number, sent: number}} */
  get counts() {
    const counts = { added: 0, duplicate: 0, refused: 0, failed: 0, total: this.items.length, done: 0, bytes: 0, sent: 0 };
    for (const item of this.items) {
      const isDone = item.state !== "waiting" && item.state !== "sending";
      if (isDone) counts[item.state] += 1;
      counts.done += isDone ? 1 : 0;
      counts.bytes += item.file.size;
      counts.sent += isDone ? item.file.size : Math.min(item.sent, item.file.size);
    }
    return counts;
  }

  /** Add files that wait. */
  add(files) {
    for (const file of files) {
      this.items.push({ file, state: "waiting", sent: 0, reason: "", tries: 0 });
    }
    this.#changed();
  }

  /** Some files are known to the server already: they need not be sent. */
  markDuplicates(files) {
    const known = new Set(files);
    for (const item of this.items) {
      if (item.state === "waiting" && known.has(item.file)) this.#finish(item, "duplicate", "The same picture is here already.");
    }
  }

  /** Start sending; more files may be added meanwhile. */
  start() {
    this.#cancelled = false;
    while (this.#running < this.#parallel && this.#startNext());
  }

  cancel() {
    this.#cancelled = true;
    for (const item of this.items) {
      if (item.state === "waiting") this.#finish(item, "failed", "Cancelled.");
    }
  }

  retryFailed() {
    for (const item of this.items) {
      if (item.state === "failed") Object.assign(item, { state: "waiting", sent: 0, tries: 0, reason: "" });
    }
    this.start();
  }

  #startNext() {
    const item = this.items.find((entry) => entry.state === "waiting");
    if (!item || this.#cancelled) return false;
    item.state = "sending";
    this.#running += 1;
    this.#sendOne(item).finally(() => {
      this.#running -= 1;
      this.start();
      if (!this.#running && !this.isBusy) this.dispatchEvent(new CustomEvent("finished", { detail: this.counts }));
    });
    return true;
  }

  async #sendOne(item) {
    while (!this.#cancelled) {
      try {
        const answer = await this.#send(item, (bytes) => this.#progress(item, bytes));
        return this.#finish(item, answer.result, answer.reason ?? "");
      } catch (error) {
        if (!error.isTemporary) return this.#finish(item, "failed", error.message);
        item.reason = "The connection broke; trying again …";
        this.#changed();
        await this.#wait(RETRY_MS[Math.min(item.tries++, RETRY_MS.length - 1)]);
      }
    }
    return this.#finish(item, "failed", "Cancelled.");
  }

  #progress(item, bytes) {
    item.sent = bytes;
    this.#changed();
  }

  #finish(item, state, reason) {
    Object.assign(item, { state, reason });
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("changed"));
  }
}
