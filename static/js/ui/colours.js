/** Colours chosen by people: set by script, because the page allows no inline styles. */

/** @param {ParentNode} [root] */
export function paintColours(root = document) {
  for (const element of root.querySelectorAll("[data-colour]")) {
    element.style.background = element.dataset.colour;
  }
}
