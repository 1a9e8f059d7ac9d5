/** Whether a press can be meant for the image on the screen: one that follows too soon is a bounce. Pure. */

/** The same key again: a bouncing switch, or a finger that pressed twice. */
const SAME_KEY_MS = 250;
/** Another key: somebody fast, but nobody sees an image sooner. */
const OTHER_KEY_MS = 80;
/** What came before counts for every key, for example the digit that chose a reason to skip. */
export const ANY_KEY = "any";

export class Pace {
  #last = "";
  #paintedAt = -Infinity;

  /** An image was finished with this key; the next one is not on the glass yet. */
  finished(key) {
    this.#last = key;
    this.#paintedAt = Infinity;
  }

  /** An image is on the glass. */
  painted(at) {
    if (this.#paintedAt === Infinity) this.#paintedAt = at;
  }

  /** @returns {boolean} whether a press of this key at this time counts; one that does not is forgotten */
  allows(key, at) {
    const isSame = this.#last === ANY_KEY || this.#last === key;
    return at - this.#paintedAt >= (isSame ? SAME_KEY_MS : OTHER_KEY_MS);
  }
}
