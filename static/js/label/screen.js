/** Everything of the labeling page that is seen; knows no queue and sends nothing. */
import { Banners } from "./banners.js";
import { Dialogs } from "./dialogs.js";
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
const EMPTY_TITLES = {
  done: "All done",
  leased: "Nothing free at the moment",
  skipped: "Only skipped images are left",
  waiting: "The rest is for other people",
  no_images: "No images yet",
  sending: "One moment",
  error: "The queue cannot be reached",
  closed: "This project is closed to you",
};
const OTHER_USER =
  "Somebody else is signed in now. The labels of the former user stay in this browser until they sign in again. Reload the page to go on.";
const NOT_KEPT =
  "This browser cannot store anything (is the disk full?). Labels are sent as always, but keep this tab open until it says Saved.";

export class LabelScreen {
  #page;
  #config;
  #banners;
  #dialogs;

  constructor(page, config) {
    this.#page = page;
    this.#config = config;
    this.#banners = new Banners((name) => this.#find(name));
    this.#dialogs = new Dialogs(page, config);
    this.why = new WhyPanel(this.#find("why"));
    this.stage = new Stage(this.#find("stage"), this.#find("image"), {
      user: config.user_id,
      onZoom: (percent) => (this.#find("zoom").textContent = `${percent} %`),
    });
    this.#find("several").hidden = config.kind !== "several_classes";
    this.#bindLight();
  }

  get classPlaces() {
    return { list: this.#find("classes"), searchBox: this.#find("search-box"), search: this.#find("search") };
  }

  #find(name) {
    return this.#page.querySelector(`[data-${name}]`);
  }

  // --- The image --------------------------------------------------------------------------

  /** Show an image with why it was served and what the model says. */
  showImage(image, why, suggestion) {
    this.#setMode("label");
    this.stage.show(image.display_url, image.width, image.height);
    this.#showCaption(image);
    this.#find("stage").setAttribute("aria-label", `Image to label: ${image.file_name}`);
    this.why.show(why);
    this.#showSuggestion(suggestion, why);
  }

  /** The next image is on its way: the old one must not be taken for it. */
  showLoading() {
    this.#setMode("loading");
    this.#showSuggestion(null, null);
    this.why.show(null);
  }

  showBroken(image) {
    this.#setMode("broken");
    this.stage.clear();
    this.#showCaption(image);
  }

  /** Nothing to label: say why, and what can be done. */
  showEmpty(empty) {
    this.#setMode("empty");
    this.stage.clear();
    this.why.show(null);
    this.#showSuggestion(null, null);
    this.#find("empty-title").textContent = EMPTY_TITLES[empty.reason] ?? "Nothing to label";
    const free = empty.next_free_at
      ? ` The next one is free at ${clock(empty.next_free_at)} at the latest; this page looks by itself.`
      : "";
    const waits = empty.reason === "error" ? " This page keeps trying; labels on their way are safe in this browser." : "";
    this.#find("empty-text").textContent = empty.sentence + free + waits;
    this.#page.querySelector("[data-do='unskip']").hidden = !empty.n_skipped_by_you;
    this.#find("empty-progress").hidden = empty.reason === "closed";
    this.#find("empty-home").hidden = empty.reason !== "closed";
    this.#find("empty-upload").hidden = empty.reason !== "no_images" || !this.#config.can_lead;
    this.say(`${this.#find("empty-title").textContent}. ${empty.sentence}`);
  }

  #setMode(mode) {
    this.#find("work").dataset.work = mode;
    this.#find("empty").hidden = mode !== "empty";
    this.#find("broken").hidden = mode !== "broken";
  }

  #showCaption(image) {
    this.#find("file-name").textContent = image.file_name;
    this.#find("size").textContent = `${image.width} × ${image.height}`;
  }

  #showSuggestion(suggestion, why) {
    this.#find("suggestion").hidden = !suggestion;
    this.#find("no-suggestion").hidden = !why || Boolean(suggestion);
    this.#find("no-suggestion").textContent = why ? noSuggestion(why) : "";
    if (!suggestion) return;
    const classes = suggestion.class_ids.map((id) => this.#config.classes.find((entry) => entry.id === id));
    this.#find("suggestion-dot").style.background = classes[0]?.colour ?? "";
    this.#find("suggestion-name").textContent = classes.map((entry) => entry?.name ?? "a newer class").join(", ");
    this.#find("suggestion-share").textContent = `${Math.round(suggestion.probability * 100)} %`;
  }

  /** Mark that an older image is being looked at; `text` is empty in the queue. */
  showReview(text) {
    this.#find("review").hidden = !text;
    this.#find("review-text").textContent = text;
  }

  // --- The state of things ----------------------------------------------------------------

  showSaveState(state, unsent) {
    const [text, style] = SAVE_STATES[state];
    const badge = this.#find("save-state");
    badge.textContent = unsent > 1 && state !== "saved" ? `${text} ${unsent}` : text;
    badge.className = `badge ${style}`;
    this.#banners.login(state === "signed-out", unsent);
    if (state === "other-user") this.showProblem(OTHER_USER);
  }

  showStatus(status) {
    this.#find("progress").max = Math.max(status.n_images, 1);
    this.#find("progress").value = status.n_labelled;
    this.#find("progress-text").textContent =
      `${status.n_labelled.toLocaleString("en")} / ${status.n_images.toLocaleString("en")}`;
    this.#find("suggestion-place").hidden = !status.model;
    const [text, style] = roundText(status);
    this.#find("round").textContent = text;
    this.#find("round").className = `badge label-round ${style}`;
  }

  showRanking(status) {
    this.#banners.ranking(status);
  }

  showProblem(text) {
    this.#banners.problem(text);
  }

  showPassing(text) {
    this.#banners.passing(text);
  }

  clearPassing() {
    this.#banners.clearPassing();
  }

  warnOfStorage() {
    this.showProblem(NOT_KEPT);
  }

  say(text) {
    this.#find("live").textContent = text;
  }

  /** One message at a time: with fast keys they would pile up over the image. */
  toast(text) {
    this.#find("toasts").replaceChildren();
    toast(text, 2500);
  }

  open(name) {
    this.#dialogs.open(name);
  }

  askSkip(then) {
    this.#dialogs.askSkip(then);
  }

  // --- Brightness and contrast ------------------------------------------------------------

  toggleAdjust() {
    const panel = this.#page.getElementById("adjust");
    panel.hidden = !panel.hidden;
    this.#page.querySelector("[data-do='adjust']").setAttribute("aria-expanded", String(!panel.hidden));
    this.#showLight();
  }

  adjust(name, change) {
    this.stage.adjust(name, change);
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
        this.#showLight();
      });
    }
    this.#showLight();
  }

  #showLight() {
    const light = this.stage.light;
    for (const [name, value] of Object.entries(light)) this.#find(name).value = value;
    const isPlain = light.brightness === 100 && light.contrast === 100;
    this.#page.querySelector("[data-do='adjust']").classList.toggle("is-on", !isPlain);
  }
}

/** @returns {string} why the model suggests nothing */
export function noSuggestion(why) {
  if (why.explored) {
    return "Suggestion hidden: this image was drawn at random to measure accuracy.";
  }
  if (why.kind === "begun") return "Suggestion hidden: this project asks several people for their own answer.";
  return why.model ? "The model expects none of the classes here." : "No suggestion: no model has seen this image yet.";
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
  const next = n ? `next in ${n} label${n === 1 ? "" : "s"}` : "next soon";
  return [status.model ? `Model ${status.model.number} · ${next}` : `First model in ${n} label${n === 1 ? "" : "s"}`, ""];
}
