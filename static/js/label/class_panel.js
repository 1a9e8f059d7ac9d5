/** The classes as buttons, with a search where there are many. */
import { MANY } from "./keymap.js";

/** The second click of a double click on a class is meant for the image that has just gone. */
const DOUBLE_CLICK_MS = 300;

export class ClassPanel {
  #classes;
  #list;
  #search;
  #onChoose;
  #chosen = new Set();
  #clicked = { id: 0, at: -Infinity };

  /**
   * @param {{list: HTMLElement, searchBox: HTMLElement, search: HTMLInputElement}} places
   * @param {{id: number, name: string, colour: string, hotkey: string}[]} classes
   * @param {(id: number, pressedAt: number, by?: string) => void} onChoose
   */
  constructor({ list, searchBox, search }, classes, onChoose) {
    this.#list = list;
    this.#search = search;
    this.#classes = classes;
    this.#onChoose = onChoose;
    searchBox.hidden = classes.length <= MANY;
    search.addEventListener("input", () => this.#draw());
    search.addEventListener("keydown", (event) => this.#searchKey(event));
    list.addEventListener("click", (event) => {
      const button = event.target.closest("[data-class]");
      if (!button) return;
      // After a click of the mouse, Enter must mean the suggestion and not this button again.
      if (event.detail) button.blur();
      const [id, at] = [Number(button.dataset.class), event.timeStamp];
      if (id === this.#clicked.id && at - this.#clicked.at < DOUBLE_CLICK_MS) return;
      this.#clicked = { id, at };
      this.#onChoose(id, at);
    });
    this.#draw();
  }

  /** @returns {string} the names of classes, for people */
  namesOf(ids) {
    const names = ids.map((id) => this.#classes.find((entry) => entry.id === id)?.name ?? "a newer class");
    return names.length ? names.map((name) => `“${name}”`).join(", ") : "none of the classes";
  }

  get chosen() {
    return [...this.#chosen];
  }

  /** Mark some classes as chosen, and no others. */
  choose(ids) {
    this.#chosen = new Set(ids);
    this.#mark();
  }

  toggle(id) {
    if (!this.#chosen.delete(id)) this.#chosen.add(id);
    this.#mark();
  }

  /** Let a button light up for a moment: the key was understood. */
  flash(id) {
    const button = this.#list.querySelector(`[data-class="${id}"]`);
    if (!button) return;
    button.classList.add("is-flashing");
    setTimeout(() => button.classList.remove("is-flashing"), 120);
  }

  focusSearch() {
    if (this.#search.closest("[hidden]")) return;
    this.#search.focus();
    this.#search.select();
  }

  #matching() {
    const text = this.#search.value.trim().toLowerCase();
    return this.#classes.filter((entry) => entry.name.toLowerCase().includes(text));
  }

  #searchKey(event) {
    if (event.key === "Escape") this.#leaveSearch();
    if (event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat) return;
    const [first] = this.#matching();
    this.#leaveSearch();
    if (first) this.#onChoose(first.id, event.timeStamp, event.key);
  }

  #leaveSearch() {
    this.#search.value = "";
    this.#draw();
    this.#search.blur();
  }

  #draw() {
    const shown = this.#matching();
    this.#list.replaceChildren(...shown.map((entry) => this.#button(entry)));
    // Enter takes the first match: show which one that is.
    if (this.#search.value.trim()) this.#list.firstElementChild?.classList.add("is-first");
    // Without any class the page itself says so.
    if (!shown.length && this.#classes.length) {
      const nothing = document.createElement("p");
      nothing.className = "class-list-more";
      nothing.textContent = "No class has this in its name.";
      this.#list.append(nothing);
    }
    this.#mark();
  }

  #button(entry) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "class-button";
    button.dataset.class = entry.id;
    const dot = document.createElement("i");
    dot.className = "dot";
    dot.style.background = entry.colour;
    const name = document.createElement("span");
    name.textContent = entry.name;
    button.append(dot, name);
    if (entry.hotkey) {
      const key = document.createElement("kbd");
      key.textContent = entry.hotkey.toUpperCase();
      button.append(key);
    }
    return button;
  }

  #mark() {
    for (const button of this.#list.querySelectorAll("[data-class]")) {
      button.setAttribute("aria-pressed", String(this.#chosen.has(Number(button.dataset.class))));
    }
  }
}
