/** Short messages that go away by themselves; also read aloud. */

/**
 * @param {string} text
 * @param {number} [milliseconds]
 */
export function toast(text, milliseconds = 4000) {
  const place = document.querySelector("[data-toasts]");
  const shown = document.createElement("p");
  shown.className = "toast";
  shown.style.margin = "0";
  shown.textContent = text;
  place.append(shown);
  setTimeout(() => shown.remove(), milliseconds);
}
