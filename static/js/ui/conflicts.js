/**
 * A form whose object somebody else changed meanwhile. What only they changed is taken over into the
 * form; where both did, theirs is shown beside and mine stays. Saving again is then knowingly done.
 */
import { merge } from "./merge.js";

const LONG = 60;

/**
 * @param {HTMLFormElement} form
 * @param {{loaded: object, mine: object, theirs: object, read: (form: HTMLFormElement) => object}} what
 */
export function showConflict(form, { loaded, mine, theirs, read }) {
  const { taken, conflicts } = merge(loaded, mine, theirs);
  for (const name of taken) setField(form, name, theirs[name]);
  const box = document.createElement("div");
  box.className = "notice notice-warn";
  box.dataset.conflict = "";
  box.setAttribute("role", "alert");
  box.append(paragraph("Somebody saved something else meanwhile, so nothing of yours is saved yet."));
  const now = read(form);
  for (const name of conflicts) box.append(...shown(form, name, theirs[name], now[name]));
  if (taken.length) box.append(paragraph(`Taken over from them: ${taken.map((name) => titleOf(form, name)).join(", ")}.`));
  box.append(paragraph(conflicts.length ? "Save again to replace theirs with yours." : "Save again to save yours as well."));
  clearConflict(form);
  const button = form.querySelector("button:not([type='button'])");
  (button.closest(".row") ?? button).insertAdjacentElement("beforebegin", box);
  // The button below it stays in sight too.
  box.scrollIntoView({ block: "nearest" });
  button.scrollIntoView({ block: "nearest" });
}

export function clearConflict(form) {
  form.querySelector("[data-conflict]")?.remove();
}

function shown(form, name, theirs, mine) {
  const title = titleOf(form, name);
  const [a, b] = [theirs, mine].map((value) => textOf(form, name, value));
  if (a.length <= LONG && b.length <= LONG) return [paragraph(`${title}: theirs is “${a}”, yours is “${b}”.`)];
  const text = document.createElement("textarea");
  Object.assign(text, { readOnly: true, value: a, rows: 6 });
  text.setAttribute("aria-label", `${title} as somebody else saved it`);
  return [paragraph(`${title}: yours is still in the form. Theirs is:`), text];
}

function paragraph(text) {
  return Object.assign(document.createElement("p"), { textContent: text });
}

function fieldsOf(form, name) {
  return [...form.elements].filter((field) => field.name === name);
}

function setField(form, name, value) {
  for (const field of fieldsOf(form, name)) {
    if (field.type === "radio") field.checked = field.value === String(value);
    else if (field.type === "checkbox") field.checked = Boolean(value);
    else if (value === null) field.value = "";
    else field.value = field.dataset.type === "percent" ? Math.round(value * 100) : value;
    if (field.type !== "radio" || field.checked) {
      for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
    }
  }
}

function titleOf(form, name) {
  const [field] = fieldsOf(form, name);
  const title =
    field.type === "radio"
      ? field.closest("fieldset")?.querySelector("legend")
      : (field.closest("label")?.querySelector("b") ?? form.querySelector(`label[for="${field.id}"]`));
  return (title?.firstChild?.textContent || title?.textContent || name).trim().replace(/:$/, "");
}

function textOf(form, name, value) {
  const [field] = fieldsOf(form, name);
  if (value === null || value === "") return "nothing";
  if (field.type === "checkbox") return value ? "on" : "off";
  if (field.dataset.type === "percent") return `${Math.round(value * 100)} %`;
  if (field.type !== "radio") return String(value);
  const chosen = fieldsOf(form, name).find((radio) => radio.value === String(value));
  return chosen?.closest("label")?.querySelector("b")?.textContent ?? String(value);
}
