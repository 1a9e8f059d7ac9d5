/** The webhooks: "everything" replaces the list of kinds, and results appear by themselves. */
import "../ui/api_forms.js";

const POLL_MS = 3000;

for (const group of document.querySelectorAll("[data-events]")) {
  const all = group.querySelector("[data-all]");
  const kinds = group.querySelector("[data-kinds]");
  const follow = () => {
    kinds.hidden = all.checked;
    for (const field of kinds.querySelectorAll("input")) field.disabled = all.checked;
  };
  all.addEventListener("change", follow);
  // The boxes have their new state only after the event.
  group.form.addEventListener("reset", () => setTimeout(follow));
  follow();
}

/** Whether a reload would take something away: a secret, a dialog, an opened answer, a typed word. */
function isInUse() {
  const typed = [...document.querySelectorAll('input[type="text"]')].some((field) => field.value !== field.defaultValue);
  return typed || document.querySelector("[data-secret]:not([hidden]), dialog[open], details[open]") !== null;
}

if (document.querySelector("[data-pending]")) {
  setInterval(() => {
    if (!document.hidden && !isInUse()) window.location.reload();
  }, POLL_MS);
}
