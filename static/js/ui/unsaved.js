/** Whether a form holds edits that nobody has saved: pure. */

export class Unsaved {
  #read;
  #saved;
  #sent = "";

  /** @param {() => object} read gives the fields of the form */
  constructor(read) {
    this.#read = () => JSON.stringify(read());
    this.#saved = this.#read();
  }

  get isDirty() {
    return this.#read() !== this.#saved;
  }

  /** What the form holds now is on its way to the server. */
  sending() {
    this.#sent = this.#read();
  }

  /** The server has what was sent; what was typed meanwhile is not saved. */
  saved() {
    this.#saved = this.#sent;
  }
}
