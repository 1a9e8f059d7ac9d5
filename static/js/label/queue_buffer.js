/** The images this tab holds: the one on the screen and the ones behind it, in served order. */

export class QueueBuffer {
  /** @type {object[]} leases, the first is on the screen */
  #items = [];
  /** Tokens that were labelled, skipped or given back: they must not come in again. */
  #done = new Set();

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

  /** Add leases from a claim behind those held; known and finished ones are left out. */
  add(leases) {
    const known = new Set(this.tokens);
    const fresh = leases.filter((lease) => !known.has(lease.token) && !this.#done.has(lease.token));
    this.#items.push(...fresh);
    return fresh;
  }

  /** Keep the current one and put these behind it: a new ranking has come. */
  replaceAhead(leases) {
    this.#items = this.#items.slice(0, 1);
    return this.add(leases);
  }

  /** The current one is finished: move on, and return it. */
  finishCurrent() {
    const finished = this.#items.shift() ?? null;
    if (finished) this.#done.add(finished.token);
    return finished;
  }

  /** Put an image before all others: its label was taken back. */
  putBack(lease) {
    this.#done.delete(lease.token);
    this.#items = [lease, ...this.#items.filter((item) => item.token !== lease.token)];
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
}
