/** The dialogs of the labeling page: keys, instructions, skip reasons. */
import { helpOf } from "./keymap.js";

const SKIP_REASONS = [
  ["unsure", "I cannot tell"],
  ["bad_image", "The image is broken or unusable"],
  ["no_class_fits", "No class fits"],
  ["other", "Another reason"],
];

/** Keys that close a dialog of text; Escape closes every dialog. */
const CLOSING = { help: ["?", "h", "Enter"], instructions: ["i", "Enter"], skip: [] };

export class Dialogs {
  #page;

  /**
   * @param {Document} page
   * @param {{kind: string, classes: object[]}} config
   */
  constructor(page, config) {
    this.#page = page;
    this.#drawHelp(config);
    // What is typed into a dialog must not reach the keys of the page behind it. A dialog that has just
    // closed can still hold the focus until the next frame: by then the keys are the page's again.
    for (const dialog of page.querySelectorAll("dialog")) {
      dialog.addEventListener("keydown", (event) => this.#keyInside(event, dialog));
    }
  }

  #keyInside(event, dialog) {
    if (!dialog.open) return;
    event.stopPropagation();
    const isClosing = CLOSING[dialog.dataset.dialog]?.includes(event.key.length > 1 ? event.key : event.key.toLowerCase());
    // Held since the dialog was opened, or meant for a link in the text.
    if (!isClosing || event.repeat || (event.key === "Enter" && event.target.closest("a, button"))) return;
    event.preventDefault();
    dialog.close();
  }

  open(name) {
    this.#dialog(name).showModal();
  }

  /** Ask for the reason; digits choose it, Escape goes back. */
  askSkip(then) {
    const dialog = this.#dialog("skip");
    const buttons = SKIP_REASONS.map(([reason, text], index) => {
      const button = this.#page.createElement("button");
      button.type = "button";
      button.className = "button";
      button.append(this.#key(String(index + 1)), text);
      button.addEventListener("click", () => {
        dialog.close();
        then(reason);
      });
      return button;
    });
    dialog.onkeydown = (event) => {
      const button = event.repeat ? null : buttons[Number(event.key) - 1];
      if (!button) return;
      event.preventDefault();
      button.click();
    };
    dialog.querySelector("[data-skip-reasons]").replaceChildren(...buttons);
    dialog.showModal();
  }

  #dialog(name) {
    return this.#page.querySelector(`[data-dialog="${name}"]`);
  }

  #key(name) {
    const key = this.#page.createElement("kbd");
    key.textContent = name;
    return key;
  }

  #drawHelp({ kind, classes }) {
    const rows = helpOf(classes, kind).map(({ keys, says }) => {
      const row = this.#page.createElement("div");
      const left = this.#page.createElement("dt");
      keys.forEach((key, index) => left.append(index ? " or " : "", this.#key(key)));
      const right = this.#page.createElement("dd");
      right.textContent = says;
      row.append(left, right);
      return row;
    });
    this.#page.querySelector("[data-help]").replaceChildren(...rows);
  }
}
