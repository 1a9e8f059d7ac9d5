/** Downloads and decodes images before they are needed. */

/** @typedef {{ready: Promise<boolean>, isReady: boolean, hasFailed: boolean, kept?: unknown}} Decoded */
export class Prefetch {
  /** @type {Map<string, Decoded>} address -> image */
  #images = new Map();
  #load;

  /** @param {(url: string, isUrgent: boolean) => Promise<unknown>} [load] resolves when the image can be painted */
  constructor(load = loadAndDecode) {
    this.#load = load;
  }

  /** Start on these images, in their order, and forget all others. */
  want(images) {
    const urls = new Set(images.map((image) => image.display_url));
    for (const url of this.#images.keys()) {
      if (!urls.has(url)) this.#images.delete(url);
    }
    images.forEach((image, index) => {
      if (!this.#images.has(image.display_url)) this.#start(image, index === 0);
    });
  }

  /** Whether the image can be painted at once. */
  isReady(image) {
    return this.#images.get(image.display_url)?.isReady ?? false;
  }

  /**
   * An image that failed before is tried once more: the connection may be back.
   * @returns {Promise<boolean>} false when the image cannot be shown
   */
  ready(image) {
    const known = this.#images.get(image.display_url);
    if (!known || known.hasFailed) this.#start(image, true);
    return this.#images.get(image.display_url).ready;
  }

  #start(image, isUrgent) {
    const entry = { isReady: false, hasFailed: false, ready: Promise.resolve(false) };
    this.#images.set(image.display_url, entry);
    entry.ready = this.#load(image.display_url, isUrgent).then(
      (kept) => {
        entry.isReady = true;
        entry.kept = kept;
        return true;
      },
      () => {
        entry.hasFailed = true;
        return false;
      },
    );
  }
}

async function loadAndDecode(url, isUrgent) {
  const image = new Image();
  image.fetchPriority = isUrgent ? "high" : "auto";
  image.src = url;
  await image.decode();
  // Kept by the caller: a decoded image nobody holds may be thrown away by the browser.
  return image;
}
