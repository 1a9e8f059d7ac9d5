/**
 * What was decided but is not on the server yet. Sent in order, one at a time, each with a key of
 * its own, so that sending twice does no harm. Kept in the browser's storage until answered, so that
 * a closed tab, a lost connection or an expired login loses nothing.
 */

const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];

/**
 * @typedef {{key: string, user: number, url: string, body: object, made: number}} Entry `made` orders them
 * @typedef {"saved" | "saving" | "offline" | "signed-out" | "other-user"} State
 */
export class Outbox extends EventTarget {
  #entries = [];
  #state = "saved";
  #running = false;
  #tries = 0;
  #timer = 0;
  #lastMade = 0;
  /** Keys that an earlier page left behind: another tab may hold them as well. */
  #inherited = new Set();
  /** Keys of entries that are neither in the storage nor on the server. */
  #unkept = new Set();
  #send;
  #storage;
  #whoAmI;
  #user;
  #wait;

  /**
   * @param {{user: number, send: (entry: Entry) => Promise<any>, whoAmI: () => Promise<number>,
   *   storage: {isDurable: boolean, all(user: number): Promise<Entry[]>, put(entry: Entry): Promise<void>,
   *   remove(key: string): Promise<void>}, wait?: (then: () => void, ms: number) => number}} parts
   */
  constructor({ user, send, whoAmI, storage, wait = (then, ms) => setTimeout(then, ms) }) {
    super();
    this.#user = user;
    this.#send = send;
    this.#whoAmI = whoAmI;
    this.#storage = storage;
    this.#wait = wait;
  }

  get state() {
    return this.#state;
  }

  get size() {
    return this.#entries.length;
  }

  /** Whether closing the page now could lose something. */
  get hasUnkept() {
    return this.#unkept.size > 0;
  }

  /** Whether an entry is still on its way. */
  holds(key) {
    return this.#entries.some((entry) => entry.key === key);
  }

  /** Lease tokens of what is not sent yet. */
  get leases() {
    return this.#entries.map((entry) => entry.body.lease).filter(Boolean);
  }

  /** Load what an earlier page left behind, and send it. Only this user's entries. */
  async load() {
    const left = (await this.#storage.all(this.#user)).sort((a, b) => a.made - b.made);
    const known = new Set(this.#entries.map((entry) => entry.key));
    const inherited = left.filter((entry) => !known.has(entry.key));
    for (const entry of inherited) this.#inherited.add(entry.key);
    this.#entries = [...inherited, ...this.#entries];
    if (inherited.length) this.flush();
    return inherited.length;
  }

  /** Keep an entry and start sending. */
  async add({ key, url, body }) {
    this.#lastMade = Math.max(Date.now(), this.#lastMade + 1);
    const entry = { key, url, body, user: this.#user, made: this.#lastMade };
    this.#entries.push(entry);
    // While the connection is gone the page must go on saying so.
    this.#become(this.#state === "saved" ? "saving" : this.#state);
    this.#unkept.add(key);
    try {
      await this.#storage.put(entry);
      if (this.#storage.isDurable) this.#unkept.delete(key);
    } catch (error) {
      // A full disk must not keep the label from the server.
      this.dispatchEvent(new CustomEvent("not-kept", { detail: { entry, error } }));
    }
    this.flush();
  }

  /** Take an entry back that has not been sent; false when it is too late. */
  async takeBack(key) {
    const index = this.#entries.findIndex((entry) => entry.key === key);
    if (index < 0 || (index === 0 && this.#running)) return false;
    this.#entries.splice(index, 1);
    this.#unkept.delete(key);
    await this.#storage.remove(key);
    if (!this.#entries.length) this.#become("saved");
    return true;
  }

  /** Try now, for example because the connection came back. */
  retryNow() {
    clearTimeout(this.#timer);
    this.#tries = 0;
    this.flush();
  }

  /** Send what waits; resolves when nothing waits or sending has to pause. */
  async flush() {
    if (this.#running) return;
    this.#running = true;
    clearTimeout(this.#timer);
    try {
      while (this.#entries.length && (await this.#sendFirst()));
    } finally {
      this.#running = false;
    }
    if (!this.#entries.length) this.#become("saved");
  }

  async #sendFirst() {
    const entry = this.#entries[0];
    try {
      if (this.#state === "signed-out" || this.#state === "other-user") await this.#checkUser();
      if (await this.#wasTakenElsewhere(entry)) return true;
      const answer = await this.#send(entry);
      await this.#remove(entry);
      this.#tries = 0;
      this.dispatchEvent(new CustomEvent("sent", { detail: { entry, answer } }));
      if (this.#entries.length) this.#become("saving");
      return true;
    } catch (error) {
      return this.#failed(entry, error);
    }
  }

  /** An inherited entry that left the storage was sent, or taken back, by the tab that made it. */
  async #wasTakenElsewhere(entry) {
    if (!this.#inherited.has(entry.key)) return false;
    const kept = await this.#storage.all(this.#user);
    if (kept.some((other) => other.key === entry.key)) return false;
    this.#entries = this.#entries.filter((other) => other !== entry);
    return true;
  }

  async #checkUser() {
    const user = await this.#whoAmI();
    if (user !== this.#user) throw Object.assign(new Error("another user"), { otherUser: true });
  }

  async #failed(entry, error) {
    if (error.otherUser) return this.#pause("other-user");
    if (error.needsLogin) return this.#pause("signed-out");
    if (error.isTemporary) return this.#pause("offline");
    if (error.status === undefined) throw error;
    // A lease of mine is unknown to somebody else: then the label waits for me instead of going.
    try {
      await this.#checkUser();
    } catch (reason) {
      return this.#failed(entry, reason);
    }
    await this.#remove(entry);
    this.dispatchEvent(new CustomEvent("refused", { detail: { entry, error } }));
    return true;
  }

  async #remove(entry) {
    this.#entries = this.#entries.filter((other) => other.key !== entry.key);
    this.#unkept.delete(entry.key);
    try {
      await this.#storage.remove(entry.key);
    } catch (error) {
      // Sent again by a later page it does no harm: the key is the same.
      this.dispatchEvent(new CustomEvent("not-kept", { detail: { entry, error } }));
    }
  }

  #pause(state) {
    this.#become(state);
    const after = RETRY_MS[Math.min(this.#tries++, RETRY_MS.length - 1)];
    this.#timer = this.#wait(() => this.flush(), after);
    return false;
  }

  #become(state) {
    const changed = state !== this.#state;
    this.#state = state;
    if (changed || state !== "saved") this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
