/** Creating a project on one page: classes as rows, images held until the project exists. */
import "../upload/upload_panel.js";
import { call } from "../net/api.js";
import { classesOf, freeKey, parseNames, placesFor } from "../ui/class_rows.js";

const config = JSON.parse(document.getElementById("project-config").textContent);
const form = document.querySelector("[data-new-project]");
const rows = form.querySelector("[data-class-rows]");
const uploads = form.querySelector("upload-panel");

function addRow() {
  const index = rows.children.length;
  const row = document.createElement("div");
  row.className = "class-row";
  const colour = Object.assign(document.createElement("input"), { type: "color", value: config.palette[index % config.palette.length] });
  colour.setAttribute("aria-label", "Colour of the class");
  const text = Object.assign(document.createElement("input"), { type: "text", maxLength: 80, placeholder: `Class ${index + 1}` });
  text.setAttribute("aria-label", `Name of class ${index + 1}`);
  text.dataset.className = "";
  const key = Object.assign(document.createElement("input"), { type: "text", value: freeKey(readClasses().map((entry) => entry.hotkey)), maxLength: 1, placeholder: "key" });
  key.className = "key-input";
  key.setAttribute("aria-label", `Key of class ${index + 1}`);
  const remove = Object.assign(document.createElement("button"), { type: "button", className: "button button-quiet", textContent: "✕" });
  remove.setAttribute("aria-label", "Remove this class");
  remove.addEventListener("click", () => row.remove());
  row.append(colour, text, key, remove);
  rows.append(row);
  return text;
}

rows.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !("className" in event.target.dataset)) return;
  event.preventDefault();
  const next = event.target.closest(".class-row").nextElementSibling;
  (next?.querySelector("[data-class-name]") ?? addRow()).focus();
});

rows.addEventListener("paste", (event) => {
  const names = parseNames(event.clipboardData.getData("text"));
  if (names.length < 2 || !("className" in event.target.dataset)) return;
  event.preventDefault();
  const fields = [...rows.querySelectorAll("[data-class-name]")];
  const places = placesFor(fields.map((field) => field.value), fields.indexOf(event.target), names.length);
  names.forEach((name, index) => ((fields[places[index]] ?? addRow()).value = name));
});

form.querySelector("[data-add-class]").addEventListener("click", () => addRow().focus());

function showError(name, text) {
  const place = form.querySelector(`[data-error="${name}"]`) ?? form.querySelector('[data-error="form"]');
  place.textContent = text;
  place.hidden = !text;
}

function readClasses() {
  return [...rows.children].map((row) => {
    const [colour, name, hotkey] = row.querySelectorAll("input");
    return { colour: colour.value, name: name.value, hotkey: hotkey.value };
  });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const name of ["name", "classes", "form"]) showError(name, "");
  const { classes, problem } = classesOf(readClasses(), config.taken_keys);
  if (!form.elements.name.value.trim()) return showError("name", "Give the project a name."), form.elements.name.focus();
  if (problem) return showError("classes", problem);
  const button = form.querySelector("[data-create]");
  button.disabled = true;
  try {
    const project = await call("POST", "/api/v1/projects/", {
      name: form.elements.name.value,
      kind: form.elements.kind.value,
      instructions: form.elements.instructions.value,
      classes,
    });
    await startUploads(project);
  } catch (error) {
    button.disabled = false;
    showError("form", error.message);
  }
  return undefined;
});

async function startUploads(project) {
  const page = `/projects/${project.id}/images/`;
  if (!uploads.size) return window.location.assign(page);
  form.querySelectorAll("input, textarea, button[data-add-class]").forEach((field) => (field.disabled = true));
  uploads.scrollIntoView({ block: "center" });
  document.addEventListener("upload:finished", ({ detail }) => {
    // What was refused must be readable before the page goes on.
    if (detail.refused || detail.failed) showContinue(page);
    else window.location.assign(page);
  });
  return uploads.release(project.url);
}

function showContinue(page) {
  const button = form.querySelector("[data-create]");
  const go = Object.assign(document.createElement("a"), { className: "button button-primary", href: page });
  go.textContent = "Go to the project";
  go.dataset.continue = "";
  button.replaceWith(go);
  go.focus();
}

for (let index = 0; index < 3; index += 1) addRow();
