/** The lines above the image that say what happened: a new order, a problem, a lost session. */

const RANKING_MS = 6000;

export class Banners {
  #find;
  #timer = 0;
  #isPassing = false;

  /** @param {(name: string) => HTMLElement} find by the name of a data attribute */
  constructor(find) {
    this.#find = find;
  }

  /** A new ranking is followed from now on. */
  ranking(status) {
    const from = status.model ? ` from model ${status.model.number}` : "";
    const banner = this.#find("banner-ranking");
    banner.textContent = `New order${from}: the images after this one follow it.`;
    banner.hidden = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (banner.hidden = true), RANKING_MS);
  }

  /** Something the person should read; stays until it is dismissed. */
  problem(text) {
    this.#isPassing = false;
    this.#find("problem").textContent = text;
    this.#find("banner-problem").hidden = !text;
  }

  /** Something that holds for the image on the screen only. */
  passing(text) {
    if (!this.#find("banner-problem").hidden && !this.#isPassing) return;
    this.problem(text);
    this.#isPassing = true;
  }

  clearPassing() {
    if (this.#isPassing) this.problem("");
  }

  /** The session is over; what was decided waits in this browser. */
  login(isNeeded, unsent) {
    this.#find("banner-login").hidden = !isNeeded;
    const labels = unsent === 1 ? "Your last label is" : `Your last ${unsent} labels are`;
    this.#find("unsent").textContent = unsent ? `${labels} kept safely in this browser.` : "";
  }
}
