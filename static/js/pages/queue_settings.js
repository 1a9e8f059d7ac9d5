/** The queue settings: what belongs together is shown together, re-ranking is followed, no edit is lost. */
import { call } from "../net/api.js";
import { bodyOf } from "../ui/api_forms.js";
import { Unsaved } from "../ui/unsaved.js";

const SAVED = "Saved. Used from the next ranking on.";
const JUST_SAVED = "queue-settings-saved";
const POLL_MS = 700;
const POLL_REPLAY_MS = 1500;

const slider = document.getElementById("exploration");
const output = document.querySelector("[data-exploration-output]");
slider.addEventListener("input", () => (output.textContent = `${slider.value} %`));

const budget = document.querySelector("[data-budget-value]");
const showBudget = () => {
  const kind = document.querySelector("[name='budget_kind']:checked").value;
  budget.hidden = kind === "whole_pool";
};
document.querySelectorAll("[name='budget_kind']").forEach((radio) => radio.addEventListener("change", showBudget));
showBudget();

// --- Edits that are not saved ------------------------------------------------------------------

const form = document.querySelector("[data-settings-form]");
const saveState = document.querySelector("[data-save-message]");
const unsaved = new Unsaved(() => bodyOf(form) ?? {});

function showEdits() {
  if (!saveState) return;
  saveState.classList.toggle("is-open", unsaved.isDirty);
  if (unsaved.isDirty) saveState.textContent = "Not saved yet.";
  else if (saveState.textContent === "Not saved yet.") saveState.textContent = "";
}

/** Reload when nothing can be lost; else say that the page is behind. */
function reloadOr(place, what) {
  if (unsaved.isDirty) place.textContent = `Ready. Save or reload to see ${what}.`;
  else window.location.reload();
}

form.addEventListener("input", showEdits);
form.addEventListener("change", showEdits);
form.addEventListener("submit", () => unsaved.sending());
form.addEventListener("api:done", () => {
  unsaved.saved();
  showEdits();
  if (unsaved.isDirty) return;
  keepMessage();
  window.location.reload();
});
window.addEventListener("beforeunload", (event) => {
  if (unsaved.isDirty) event.preventDefault();
});

function keepMessage() {
  try {
    sessionStorage.setItem(JUST_SAVED, window.location.pathname);
  } catch {
    // Forbidden storage only means that the page comes back without the message.
  }
}

function wasJustSaved() {
  try {
    const page = sessionStorage.getItem(JUST_SAVED);
    sessionStorage.removeItem(JUST_SAVED);
    return page === window.location.pathname;
  } catch {
    return false;
  }
}

if (saveState && wasJustSaved()) saveState.textContent = SAVED;

// --- The ranking -----------------------------------------------------------------------------

const card = document.querySelector("[data-rank-state]");
const state = document.querySelector("[data-rerank-state]");
const isUnderWay = (name) => name === "queued" || name === "running";

async function follow() {
  let round;
  try {
    round = (await call("GET", card.dataset.statusUrl)).round;
  } catch {
    // The next poll tries again.
    setTimeout(follow, POLL_MS * 3);
    return;
  }
  if (isUnderWay(round?.state)) {
    state.textContent = round.step_message ? `Working: ${round.step_message} …` : "Waiting for the worker …";
    setTimeout(follow, POLL_MS);
  } else if (round?.state === "failed") {
    state.textContent = `It failed: ${round.error}`;
  } else {
    reloadOr(state, "the new order");
  }
}

card.addEventListener("api:done", () => {
  state.textContent = "Starting …";
  setTimeout(follow, 300);
});
if (state && isUnderWay(card.dataset.roundState)) follow();

// --- Who has what ----------------------------------------------------------------------------

const holders = document.querySelector("[data-holders-card]");
holders?.addEventListener("api:done", () => reloadOr(holders.querySelector("[data-holders-state]"), "who has what"));

// --- The bake-off ----------------------------------------------------------------------------

const replay = document.querySelector("[data-replay-card]");
const part = (name) => replay.querySelector(`[data-replay-${name}]`);

async function followReplay(url) {
  let found;
  try {
    found = await call("GET", url);
  } catch {
    // The next poll tries again.
    setTimeout(followReplay, POLL_REPLAY_MS * 2, url);
    return;
  }
  const { state: now, progress } = found;
  if (!isUnderWay(now)) {
    part("bar").hidden = true;
    reloadOr(part("progress"), "the result");
    return;
  }
  part("progress").textContent = `${progress.message || "waiting for the worker"} …`;
  Object.assign(part("bar"), { hidden: false, max: progress.total || 1, value: progress.done });
  setTimeout(followReplay, POLL_REPLAY_MS, url);
}

replay?.addEventListener("api:done", ({ target, detail }) => {
  if (!unsaved.isDirty) window.location.reload();
  else followReplay(`${target.getAttribute("action")}${detail.id}/`);
});
if (isUnderWay(replay?.dataset.replayState)) followReplay(replay.dataset.replayUrl);
