/** The last labels of the person: what undo takes back and what "previous" shows. */

export const DEPTH = 20;

/**
 * @typedef {{key: string, annotation: number | null, image: object, classIds: number[],
 *   lease: object | null}} Step
 */
export class LabelHistory {
  /** @type {Step[]} the newest last */
  #steps = [];
  /** How many steps back the person looks; 0 is the queue. */
  #back = 0;

  get size() {
    return this.#steps.length;
  }

  get isLookingBack() {
    return this.#back > 0;
  }

  get back() {
    return this.#back;
  }

  get newest() {
    return this.#steps.at(-1) ?? null;
  }

  /** The step looked at, or null. */
  get shown() {
    return this.#back ? this.#steps.at(-this.#back) : null;
  }

  /** Put the labels of earlier visits below those given since, newest first as the server lists them. */
  fill(annotations) {
    const known = new Set(this.#steps.map((step) => step.image.id));
    const earlier = annotations
      .filter((entry) => !known.has(entry.image.id))
      .map((entry) => ({
        key: "",
        annotation: entry.id,
        image: entry.image,
        classIds: entry.class_ids,
        lease: null,
      }))
      .reverse();
    this.#steps = [...earlier, ...this.#steps].slice(-DEPTH);
  }

  /** @param {Step} step */
  push(step) {
    this.#steps.push(step);
    this.#steps = this.#steps.slice(-DEPTH);
    this.#back = 0;
  }

  /** @returns {Step | null} the step that was sent with this key */
  find(key) {
    return this.#steps.find((entry) => entry.key && entry.key === key) ?? null;
  }

  /** The server has answered: from now on the label has an id. */
  answered(key, annotation) {
    const step = this.find(key);
    if (step) step.annotation = annotation;
  }

  /** Another annotation stands for the step looked at. */
  edited(annotation, classIds) {
    if (this.shown) Object.assign(this.shown, { annotation, classIds });
  }

  remove(step) {
    this.#steps = this.#steps.filter((entry) => entry !== step);
    this.#back = 0;
  }

  /** Look one further back; false at the end. */
  older() {
    if (this.#back >= this.#steps.length) return false;
    this.#back += 1;
    return true;
  }

  /** Look one less far back. */
  newer() {
    this.#back = Math.max(this.#back - 1, 0);
  }

  toQueue() {
    this.#back = 0;
  }
}
