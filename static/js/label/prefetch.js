/** Downloads and decodes images before they are needed. */

/** @typedef {{url: string, ready: Promise<boolean>, isReady: boolean}} Decoded */
export class Prefetch {
  /** @type {Map<string, Decoded>} token -> image */
  #images = new Map();
  #load;

  /** @param {(url: string) => Promise<void>} [load] resolves when the image can be painted */
  constructor(load = loadAndDecode) {
    this.#load = load;
  }

  /** Start on the images of these leases, in their order, and forget all others. */
  want(leases) {
    const tokens = new Set(leases.map((lease) => lease.token));
    for (const token of this.#images.keys()) {
      if (!tokens.has(token)) this.#images.delete(token);
    }
    for (const lease of leases) {
      if (!this.#images.has(lease.token)) this.#start(lease);
    }
  }

  /** Whether the image can be painted at once. */
  isReady(lease) {
    return this.#images.get(lease.token)?.isReady ?? false;
  }

  /** @returns {Promise<boolean>} false when the image cannot be shown */
  ready(lease) {
    if (!this.#images.has(lease.token)) this.#start(lease);
    return this.#images.get(lease.token).ready;
  }

  /** Load an image that failed once more. */
  again(lease) {
    this.#images.delete(lease.token);
    return this.ready(lease);
  }

  #start(lease) {
    const entry = { url: lease.image.display_url, isReady: false, ready: Promise.resolve(false) };
    this.#images.set(lease.token, entry);
    entry.ready = this.#load(entry.url).then(
      (kept) => {
        entry.isReady = true;
        entry.kept = kept;
        return true;
      },
      () => false,
    );
  }
}

async function loadAndDecode(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  // Kept by the caller: a decoded image nobody holds may be thrown away by the browser.
  return image;
}
