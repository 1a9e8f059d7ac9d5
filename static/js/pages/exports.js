/** The exports: starting one, how far each is, and the list when one has ended. */
import { call } from "../net/api.js";
import { toast } from "../ui/toast.js";

const POLL_MS = 1500;
const FAILED_MS = 8000;
const form = document.querySelector("[data-export-form]");
const list = () => document.querySelector("[data-exports]");

/** Show the options the chosen format knows. */
function followFormat() {
  const chosen = form.querySelector("[name=format]:checked");
  form.querySelector("[data-for-pictures]").hidden = !("pictures" in chosen.dataset);
  form.querySelector("[data-for-history]").hidden = chosen.value !== "jsonl";
  form.querySelector("[data-for-names]").hidden = !["csv", "jsonl", "label_studio"].includes(chosen.value);
}

function isAskedFor(name) {
  const box = form.elements[name];
  return box.checked && !box.closest("label").hidden;
}

function bodyOf() {
  const { format, images, chosen, pictures } = form.elements;
  const filters = { images: images.value, chosen: chosen.value };
  if (form.elements.class.value) filters.class_ids = [Number(form.elements.class.value)];
  return {
    format: format.value,
    filters,
    pictures: pictures.value,
    history: isAskedFor("history"),
    names: isAskedFor("names"),
  };
}

/** Take the list from the server anew; what was chosen in the form stays. */
async function refresh() {
  const answer = await fetch(window.location.href, { credentials: "same-origin" });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-exports]");
  if (fresh) list().replaceWith(fresh);
}

async function change(method, url) {
  try {
    await call(method, url);
    await refresh();
  } catch (error) {
    toast(error.message, FAILED_MS);
  }
}

function show(row, found) {
  const { done, total, message } = found.progress;
  row.querySelector("[data-bar]").value = total ? (100 * done) / total : 0;
  const said = found.state === "queued" ? "waiting for the worker" : message || "starting";
  row.querySelector("[data-said]").textContent = said[0].toUpperCase() + said.slice(1);
}

async function poll() {
  try {
    let hasEnded = false;
    for (const row of list().querySelectorAll("[data-open]")) {
      const found = await call("GET", row.dataset.open);
      if (["queued", "running"].includes(found.state)) show(row, found);
      else hasEnded = true;
    }
    if (hasEnded) await refresh();
  } catch (error) {
    // Deleted by somebody else; anything but that the next poll tries again.
    if (error.status === 404) await refresh().catch(() => {});
  }
  setTimeout(poll, document.hidden ? 5 * POLL_MS : POLL_MS);
}

form.addEventListener("change", followFormat);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await call("POST", form.getAttribute("action"), bodyOf());
    await refresh();
  } catch (error) {
    toast(error.message, FAILED_MS);
  } finally {
    button.disabled = false;
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-cancel], [data-delete]");
  if (!button) return;
  if (button.dataset.cancel) change("POST", button.dataset.cancel);
  else if (window.confirm("Delete this export and its file?")) change("DELETE", button.dataset.delete);
});

followFormat();
setTimeout(poll, POLL_MS);
