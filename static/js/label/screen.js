/** Everything of the labeling page that is seen; knows no queue and sends nothing. */
import { helpOf } from "./keymap.js";
import { Stage } from "./stage.js";
import { WhyPanel } from "./why_panel.js";
import { toast } from "../ui/toast.js";

const SAVE_STATES = {
  saved: ["Saved", "badge-ok"],
  saving: ["Saving…", ""],
  offline: ["Offline", "badge-warn"],
  "signed-out": ["Signed out", "badge-warn"],
  "other-user": ["Another user", "badge-danger"],
};
const SKIP_REASONS = [
  ["unsure", "I cannot tell"],
  ["bad_image", "The image is broken or unusable"],
  ["no_class_fits", "No class fits"],
  ["other", "Another reason"],
];
const EMPTY_TITLES = {
  done: "All done",
  leased: "Nothing free at the moment",
  skipped: "Only skipped images are left",
  no_images: "No images yet",
};

export class LabelScreen {
  #page;
  #config;

  constructor(page, config) {
    this.#page = page;
    this.#config = config;
    this.why = new WhyPanel(this.#find("why"));
    this.stage = new Stage(this.#find("stage"), this.#find("image"), (percent) => {
      this.#find("zoom").textContent = `${percent} %`;
    });
    this.#find("several").hidden = config.kind !== "several_classes";
    this.#drawHelp();
    this.#bindLight();
  }

  get classPlaces() {
    return { list: this.#find("classes"), searchBox: this.#find("search-box"), search: this.#find("search") };
  }

  #find(name) {
    return this.#page.querySelector(`[data-${name}]`);
  }

  /** Show an image with why it was served and what the model says. */
  showImage(image, why, suggestion) {
    this.#find("empty").hidden = true;
    this.#find("broken").hidden = true;
    this.stage.show(image.display_url, image.width, image.height);
    this.#find("file-name").textContent = image.file_name;
    this.#find("size").textContent = `${image.width} × ${image.height}`;
    this.#find("stage").setAttribute("aria-label", `Image to label: ${image.file_name}`);
    this.why.show(why);
    this.#showSuggestion(suggestion);
  }

  showBroken() {
    this.#find("broken").hidden = false;
  }

  /** Nothing to label: say why, and what can be done. */
  showEmpty(empty) {
    this.stage.clear();
    this.why.show(null);
    this.#showSuggestion(null);
    this.#find("empty").hidden = false;
    this.#find("empty-title").textContent = EMPTY_TITLES[empty.reason] ?? "Nothing to label";
    const free = empty.next_free_at ? ` The next one is free at ${clock(empty.next_free_at)} at the latest.` : "";
    this.#find("empty-text").textContent = empty.sentence + free;
    this.#page.querySelector("[data-do='unskip']").hidden = !empty.n_skipped_by_you;
    this.#find("empty-upload").hidden = empty.reason !== "no_images" || !this.#config.can_lead;
  }

  #showSuggestion(suggestion) {
    const box = this.#find("suggestion");
    box.hidden = !suggestion;
    if (!suggestion) return;
    const classes = suggestion.class_ids.map((id) => this.#config.classes.find((entry) => entry.id === id));
    this.#find("suggestion-dot").style.background = classes[0]?.colour ?? "";
    this.#find("suggestion-name").textContent = classes.map((entry) => entry?.name).join(", ");
    this.#find("suggestion-share").textContent = `${Math.round(suggestion.probability * 100)} %`;
  }

  /** Mark that an older image is being looked at; `text` is empty in the queue. */
  showReview(text) {
    this.#find("review").hidden = !text;
    this.#find("review-text").textContent = text;
  }

  showSaveState(state, unsent) {
    const [text, style] = SAVE_STATES[state];
    const badge = this.#find("save-state");
    badge.textContent = unsent > 1 && state !== "saved" ? `${text} ${unsent}` : text;
    badge.className = `badge ${style}`;
    this.#find("banner-login").hidden = state !== "signed-out";
    this.#find("unsent").textContent = unsent === 1 ? "Your last label is" : `Your last ${unsent} labels are`;
    if (state === "other-user") {
      this.showProblem("Somebody else is signed in now. Labels of the former user stay in this browser until they sign in again. Reload the page to go on.");
    }
  }

  showStatus(status) {
    this.#find("progress").max = Math.max(status.n_images, 1);
    this.#find("progress").value = status.n_labelled;
    this.#find("progress-text").textContent =
      `${status.n_labelled.toLocaleString("en")} / ${status.n_images.toLocaleString("en")}`;
    const [text, style] = roundText(status);
    this.#find("round").textContent = text;
    this.#find("round").className = `badge label-round ${style}`;
  }

  showRanking(text) {
    const banner = this.#find("banner-ranking");
    banner.textContent = text;
    banner.hidden = false;
    clearTimeout(this.rankingTimer);
    this.rankingTimer = setTimeout(() => (banner.hidden = true), 6000);
  }

  showProblem(text) {
    this.#find("banner-problem").textContent = text;
    this.#find("banner-problem").hidden = !text;
  }

  say(text) {
    this.#find("live").textContent = text;
  }

  toast(text) {
    toast(text);
  }

  open(name) {
    this.#page.querySelector(`[data-dialog="${name}"]`).showModal();
  }

  /** Ask for the reason; digits choose it, Escape goes back. */
  askSkip(then) {
    const dialog = this.#page.querySelector('[data-dialog="skip"]');
    const buttons = SKIP_REASONS.map(([reason, text], index) => {
      const button = this.#page.createElement("button");
      button.type = "button";
      button.className = "button";
      const key = this.#page.createElement("kbd");
      key.textContent = String(index + 1);
      button.append(key, text);
      button.addEventListener("click", () => {
        dialog.close();
        then(reason);
      });
      return button;
    });
    dialog.onkeydown = (event) => buttons[Number(event.key) - 1]?.click();
    this.#find("skip-reasons").replaceChildren(...buttons);
    dialog.showModal();
  }

  toggleAdjust() {
    const panel = this.#page.getElementById("adjust");
    panel.hidden = !panel.hidden;
    this.#page.querySelector("[data-do='adjust']").setAttribute("aria-expanded", String(!panel.hidden));
    this.#showLight();
  }

  resetView() {
    this.stage.reset();
    this.#showLight();
  }

  #bindLight() {
    for (const name of ["brightness", "contrast"]) {
      this.#find(name).addEventListener("input", (event) => {
        this.stage.setLight(name, Number(event.target.value));
      });
    }
  }

  #showLight() {
    for (const [name, value] of Object.entries(this.stage.light)) this.#find(name).value = value;
  }

  #drawHelp() {
    const rows = helpOf(this.#config.classes).map(({ keys, says }) => {
      const row = this.#page.createElement("tr");
      const left = this.#page.createElement("td");
      left.className = "nowrap";
      keys.forEach((key, index) => {
        const shown = this.#page.createElement("kbd");
        shown.textContent = key;
        left.append(index ? " or " : "", shown);
      });
      const right = this.#page.createElement("td");
      right.textContent = says;
      row.append(left, right);
      return row;
    });
    this.#find("help").replaceChildren(...rows);
  }
}

function clock(iso) {
  return new Date(iso).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

/** @returns {[string, string]} what the badge about the rounds says, and its style */
export function roundText(status) {
  const round = status.round;
  if (round?.state === "running" || round?.state === "queued") return ["Training…", "badge-accent"];
  if (round?.state === "failed") return ["Last training failed", "badge-danger"];
  const embedding = status.embedding;
  if (embedding?.state === "running" && !status.ranking) {
    return [`Reading images ${embedding.done} / ${embedding.total}`, "badge-accent"];
  }
  const n = status.labels_until_round;
  const model = status.model ? `Model ${status.model.number} · ` : "";
  return [`${model}${n} label${n === 1 ? "" : "s"} to the next`, ""];
}
