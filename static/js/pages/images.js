/** The gallery: the viewer, deleting, and the progress of embedding. */
import "../upload/address_panel.js";
import "../upload/upload_panel.js";
import { call } from "../net/api.js";
import { paintColours } from "../ui/colours.js";
import { toast } from "../ui/toast.js";

const POLL_MS = 2000;
const viewer = document.getElementById("viewer");
const part = (name) => viewer.querySelector(`[data-viewer-${name}]`);
let shown = null;

paintColours();

document.addEventListener("click", (event) => {
  const tile = event.target.closest("[data-tile]");
  if (!tile) return;
  shown = tile;
  const { display, name, facts, said, why, original } = tile.dataset;
  part("image").src = display;
  part("image").alt = name;
  part("name").textContent = name;
  part("facts").textContent = facts;
  part("said").textContent = said || "Not labelled yet";
  part("why").textContent = why;
  part("original").href = original;
  viewer.showModal();
});

/** Send a change of the image in the viewer; it is then no longer in this list. */
async function change(method, path, done) {
  try {
    await call(method, path);
    shown.closest("li").remove();
    viewer.close();
    toast(done);
  } catch (error) {
    toast(error.message);
  }
}

part("delete")?.addEventListener("click", () => {
  if (!window.confirm("Delete this image? You find it under the status Deleted and can restore it there.")) return;
  change("DELETE", `${part("delete").dataset.url}${shown.dataset.id}/`, "Image deleted");
});

part("restore")?.addEventListener("click", () =>
  change("POST", `${part("restore").dataset.url}${shown.dataset.id}/restore/`, "Image restored"),
);

const statusUrl = document.querySelector("[data-status-url]").dataset.statusUrl;
const box = document.querySelector("[data-embedding]");

function showEmbedding(status) {
  const left = status.n_images - status.n_embedded - status.n_embedding_failures;
  box.hidden = left <= 0;
  box.querySelector("[data-embedding-text]").textContent =
    status.embedding?.state === "failed"
      ? `Embedding stopped: ${status.embedding.error}`
      : `The backbone is reading the images: ${status.n_embedded} of ${status.n_images}. They can be labelled meanwhile.`;
  box.querySelector("[data-embedding-bar]").max = Math.max(status.n_images, 1);
  box.querySelector("[data-embedding-bar]").value = status.n_embedded;
}

async function poll() {
  try {
    showEmbedding(await call("GET", statusUrl));
  } catch {
    // The next poll tries again.
  }
  setTimeout(poll, POLL_MS);
}

showEmbedding(JSON.parse(document.getElementById("queue-status").textContent));
setTimeout(poll, POLL_MS);

document.addEventListener("upload:finished", (event) => {
  const { added, refused, failed } = event.detail;
  // What was refused must be readable: the page is reloaded by the person then.
  if (added && !refused && !failed) setTimeout(() => window.location.reload(), 1500);
});
