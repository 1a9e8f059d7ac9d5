/** The images this tab holds: the one on the screen and the ones behind it, in served order. */

/** For so long a claim that was on its way may bring an image that was finished meanwhile. */
const LATE_ANSWER_MS = 15_000;

export class QueueBuffer {
  /** @type {object[]} leases, the first is on the screen */
  #items = [];
  /** Tokens that were labelled or skipped: they must not come in again. */
  #done = new Set();
  /** @type {Map<number, number>} image -> when it was finished here */
  #finished = new Map();

  get current() {
    return this.#items[0] ?? null;
  }

  get ahead() {
    return this.#items.slice(1);
  }

  get size() {
    return this.#items.length;
  }

  get tokens() {
    return this.#items.map((item) => item.token);
  }

  /**
   * Add leases from a claim behind those held.
   * @returns {object[]} leases of images that were finished here while the claim was on its way:
   *   nobody will label them again, so they should be given back
   */
  add(leases, now = Date.now()) {
    const known = new Set(this.tokens);
    const spare = [];
    for (const lease of leases) {
      if (known.has(lease.token) || this.#done.has(lease.token)) continue;
      const held = this.#items.find((item) => imageOf(item) === imageOf(lease));
      if (held) Object.assign(held, { token: lease.token, expires_at: lease.expires_at });
      else if (now - (this.#finished.get(imageOf(lease)) ?? -Infinity) < LATE_ANSWER_MS) spare.push(lease);
      else this.#items.push(lease);
    }
    return spare;
  }

  /** Forget all but the first ones; return the tokens of those. */
  cutTo(n) {
    this.#items = this.#items.slice(0, n);
    return this.tokens;
  }

  /** Keep the current one and put these behind it: a new ranking has come. */
  replaceAhead(leases, now = Date.now()) {
    this.#items = this.#items.slice(0, 1);
    return this.add(leases, now);
  }

  /** The current one is finished: move on, and return it. */
  finishCurrent(now = Date.now()) {
    const finished = this.#items.shift() ?? null;
    if (finished) {
      this.#done.add(finished.token);
      this.#finished.set(imageOf(finished), now);
    }
    return finished;
  }

  /** Put an image before all others: its label was taken back. */
  putBack(lease) {
    this.#reopen(lease);
    this.#items.unshift(lease);
  }

  /** Put an image behind the one on the screen: its label was not accepted. */
  putNext(lease) {
    this.#reopen(lease);
    this.#items.splice(1, 0, lease);
  }

  /** Let finished images come again: the person took skipped ones back. */
  reopenAll() {
    this.#finished.clear();
  }

  /** Renew the end of the leases still held; return those that are held no longer. */
  renew(leases) {
    const held = new Map(leases.map((lease) => [lease.token, lease.expires_at]));
    const lost = this.#items.filter((item) => !held.has(item.token));
    for (const item of this.#items) {
      if (held.has(item.token)) item.expires_at = held.get(item.token);
    }
    return lost;
  }

  /** Forget leases that were lost, but for the one on the screen: its label is still kept. */
  drop(tokens) {
    const gone = new Set(tokens);
    this.#items = this.#items.filter((item, index) => index === 0 || !gone.has(item.token));
  }

  /** Forget all: nothing can be labelled here any more. */
  clear() {
    this.#items = [];
  }

  #reopen(lease) {
    this.#done.delete(lease.token);
    this.#finished.delete(imageOf(lease));
    this.#items = this.#items.filter((item) => imageOf(item) !== imageOf(lease));
  }
}

function imageOf(lease) {
  return lease.image.id;
}
