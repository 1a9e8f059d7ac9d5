/** Why the person was given this image, in numbers and in a sentence. */

const SETTING = "why-open";

/** @returns {string} "3 minutes ago" */
export function ago(iso, now = Date.now()) {
  const seconds = Math.max((now - Date.parse(iso)) / 1000, 0);
  if (seconds < 60) return "just now";
  const [value, unit] =
    seconds < 3600 ? [seconds / 60, "minute"]
    : seconds < 86400 ? [seconds / 3600, "hour"]
    : [seconds / 86400, "day"];
  const whole = Math.floor(value);
  return `${whole} ${unit}${whole === 1 ? "" : "s"} ago`;
}

/** @returns {string} the line about the model, or about there being none */
export function modelLine(why) {
  if (!why.model) return "";
  return `Model ${why.model}, trained on ${why.model_n_labels} labels ${ago(why.model_created_at)}.`;
}

export class WhyPanel {
  #root;

  /** @param {HTMLDetailsElement} root */
  constructor(root) {
    this.#root = root;
    root.open = wasOpen() ?? window.matchMedia("(min-width: 900px)").matches;
    root.addEventListener("toggle", () => keepOpen(root.open));
  }

  toggle() {
    this.#root.open = !this.#root.open;
  }

  /** @param {object | null} why as the API gives it */
  show(why) {
    this.#root.hidden = !why;
    if (!why) return;
    this.#text("[data-why-sentence]", why.sentence);
    const hasScore = typeof why.score === "number";
    this.#find("[data-why-score-box]").hidden = !hasScore;
    if (hasScore) {
      this.#text("[data-why-heuristic]", `${why.heuristic_title} score`);
      this.#text("[data-why-score]", why.score.toFixed(2));
      this.#find("[data-why-meter]").value = why.score;
    }
    this.#find("[data-why-classes]").replaceChildren(...why.top_classes.slice(0, 4).map(classRow));
    this.#text("[data-why-model]", [poolLine(why), modelLine(why)].filter(Boolean).join(" "));
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }

  #text(selector, text) {
    this.#find(selector).textContent = text;
  }
}

function wasOpen() {
  try {
    return JSON.parse(localStorage.getItem(SETTING) ?? "null");
  } catch {
    return null;
  }
}

function keepOpen(isOpen) {
  try {
    localStorage.setItem(SETTING, JSON.stringify(isOpen));
  } catch {
    // Forbidden storage only means that the choice ends with the page.
    return;
  }
}

/** @returns {string} how much of the pool the ranking looked at */
export function poolLine(why) {
  if (!why.ranking || !why.n_pool) return "";
  const scored = why.n_candidates ?? why.n_positions;
  const share = scored < why.n_pool ? `${scored.toLocaleString("en")} of` : "all";
  return `Ranking ${why.ranking} looked at ${share} ${why.n_pool.toLocaleString("en")} open images.`;
}

function classRow({ name, probability }) {
  const row = document.createElement("li");
  const label = document.createElement("span");
  label.textContent = name;
  const bar = document.createElement("span");
  bar.className = "why-bar";
  const fill = document.createElement("i");
  fill.style.width = `${Math.round(probability * 100)}%`;
  bar.append(fill);
  const share = document.createElement("span");
  share.className = "number";
  share.textContent = `${Math.round(probability * 100)} %`;
  row.append(label, bar, share);
  return row;
}
