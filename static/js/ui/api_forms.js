/**
 * Forms that talk to the API without a page load.
 *
 * <form data-api="PATCH" action="/api/v1/…" data-done="Saved" data-then="reload">
 *
 * `data-on="change"` sends at each change; `data-confirm` asks first; `data-then` is "reload", an
 * address, "message" (shows the answer's message, then reloads), "secret" (shows a field of the answer
 * once) or "event" (only dispatches api:done).
 * `data-version` is what the form was filled from: what somebody else saved since is not overwritten
 * unseen.
 */
import { change } from "../net/api.js";
import { clearConflict, showConflict } from "./conflicts.js";
import { toast } from "./toast.js";

/** As long as two sentences take to read. */
const MESSAGE_MS = 6000;

function valueOf(field) {
  if (field.type === "checkbox") return field.checked;
  if (field.value === "" && field.dataset.empty === "null") return null;
  if (field.dataset.type === "percent") return Number(field.value) / 100;
  if (field.type === "number" || field.dataset.type === "number") return Number(field.value);
  return field.value;
}

/** @returns {object | undefined} the fields of a form as the API takes them */
export function bodyOf(form) {
  const fields = [...form.elements].filter(
    (field) => field.name && !field.disabled && (field.type !== "radio" || field.checked),
  );
  if (!fields.length) return form.dataset.api === "POST" ? {} : undefined;
  const body = Object.fromEntries(fields.map((field) => [field.name, valueOf(field)]));
  // Boxes of one name with `data-list` are the list of those that are ticked.
  const boxes = fields.filter((field) => "list" in field.dataset);
  for (const { name } of boxes) {
    body[name] = boxes.filter((box) => box.name === name && box.checked).map((box) => box.value);
  }
  return body;
}

function showErrors(form, error) {
  form.querySelectorAll("[data-api-error]").forEach((shown) => shown.remove());
  for (const field of form.elements) field.removeAttribute?.("aria-invalid");
  if (!error) return;
  const entries = error.body?.errors ?? [];
  const placed = entries.filter((entry) => place(form, entry.pointer.slice(1), entry.message));
  if (placed.length < Math.max(entries.length, 1)) toast(error.message, 8000);
}

function place(form, name, message) {
  const field = form.elements[name];
  const group = field instanceof RadioNodeList ? field[0].closest("fieldset") : null;
  if (!group && !field?.setAttribute) return false;
  if (!group) field.setAttribute("aria-invalid", "true");
  const shown = document.createElement("p");
  shown.className = "error";
  shown.dataset.apiError = "";
  shown.textContent = message;
  if (group) group.append(shown);
  else field.insertAdjacentElement("afterend", shown);
  return true;
}

function finish(form, answer) {
  const then = form.dataset.then;
  form.dispatchEvent(new CustomEvent("api:done", { bubbles: true, detail: answer }));
  if (form.dataset.done) toast(form.dataset.done);
  if (then === "reload") setTimeout(() => window.location.reload(), form.dataset.done ? 700 : 0);
  else if (then === "message") {
    toast(answer.message, MESSAGE_MS);
    setTimeout(() => window.location.reload(), MESSAGE_MS);
  } else if (then === "secret") showSecret(form, answer);
  else if (then && then !== "event") window.location.assign(then);
}

function showSecret(form, answer) {
  const box = form.parentElement.querySelector("[data-secret]");
  box.hidden = false;
  box.querySelector("input").value = answer[form.dataset.secretField ?? "token"];
  box.querySelector("input").select();
  form.reset();
}

async function send(form) {
  if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) return;
  const buttons = form.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  const body = bodyOf(form);
  try {
    const { answer, version } = await change(form.dataset.api, form.getAttribute("action"), body, form.dataset.version);
    if (form.dataset.version) Object.assign(form.dataset, { version });
    loaded.set(form, body);
    showErrors(form, null);
    clearConflict(form);
    finish(form, answer);
  } catch (error) {
    if (error.status === 412 && error.body.current) tellChanged(form, body, error.body);
    else showErrors(form, error);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

/** Keep both: theirs is shown, mine stays in the form, and saving again is for what is there now. */
function tellChanged(form, mine, { current, version }) {
  showConflict(form, { loaded: loaded.get(form), mine, theirs: current, read: bodyOf });
  loaded.set(form, { ...loaded.get(form), ...current });
  form.dataset.version = version;
}

/** What each form with a version held when it was last the same as on the server. */
const loaded = new WeakMap();

for (const form of document.querySelectorAll("form[data-version]")) loaded.set(form, bodyOf(form));

for (const form of document.querySelectorAll("form[data-api]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
  if (form.dataset.on === "change") form.addEventListener("change", () => send(form));
}
