/** The queue settings: what belongs together is shown together, and re-ranking is followed. */
import { call } from "../net/api.js";

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

const card = document.querySelector("[data-rank-state]");
const state = document.querySelector("[data-rerank-state]");

async function follow() {
  const status = await call("GET", card.dataset.statusUrl);
  const round = status.round;
  if (round && (round.state === "queued" || round.state === "running")) {
    state.textContent = round.step_message ? `Working: ${round.step_message} …` : "Waiting for the worker …";
    setTimeout(follow, 700);
  } else if (round?.state === "failed") {
    state.textContent = `It failed: ${round.error}`;
  } else {
    state.textContent = "Done.";
    window.location.reload();
  }
}

card.addEventListener("api:done", () => {
  state.textContent = "Starting …";
  setTimeout(follow, 300);
});

const replay = document.querySelector("[data-replay-card]");

async function followReplay() {
  const { state: now, progress } = await call("GET", replay.dataset.replayUrl);
  if (now !== "queued" && now !== "running") {
    window.location.reload();
    return;
  }
  replay.querySelector("[data-replay-progress]").textContent = `${progress.message || "waiting for the worker"} …`;
  Object.assign(replay.querySelector("[data-replay-bar]"), { max: progress.total || 1, value: progress.done });
  setTimeout(followReplay, 1500);
}

if (["queued", "running"].includes(replay?.dataset.replayState)) followReplay();
