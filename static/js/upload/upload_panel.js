/**
 * <upload-panel data-project-url="/api/v1/projects/7/"></upload-panel>
 *
 * Drop or pick files, folders and zips. With `data-held` the files wait until `release(projectUrl)`
 * (the project does not exist yet). Dispatches `upload:finished` with {added, duplicates, refused, failed}.
 */
import { droppedFiles, isZip, readableSize } from "./folder.js";
import { fullTable, problemLines, withoutLine } from "./report.js";
import { knownFiles, sendImage } from "./send_image.js";
import { sendZip } from "./send_zip.js";
import { UploadQueue } from "./upload_queue.js";
import { call } from "../net/api.js";
import { toast } from "../ui/toast.js";

const SHOWN = 100;
const POLL_MS = 1000;
const ASK_KNOWN_BELOW = 64 * 1024 * 1024;
const ASK_AT_ONCE = 50;

const isUnpacked = (item) => isZip(item.file) && item.state === "added";

const MARKUP = `
  <div class="upload-drop" data-drop>
    <p class="upload-title">Drop photos, folders or a zip here</p>
    <p class="soft small">JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF. The same picture twice is taken once.</p>
    <div class="row upload-picks">
      <label class="button" tabindex="0">Choose files<input type="file" multiple accept="image/*,.zip" class="visually-hidden" tabindex="-1" data-files></label>
      <label class="button" tabindex="0">Choose a folder<input type="file" webkitdirectory class="visually-hidden" tabindex="-1" data-folder></label>
    </div>
  </div>
  <div class="upload-state" data-state hidden>
    <p class="upload-sum number" data-sum role="status"></p>
    <progress data-bar max="1" value="0" aria-label="Upload"></progress>
    <ul class="upload-problems plain-list" data-problems></ul>
    <div class="row">
      <button class="button button-small" type="button" data-cancel>Stop</button>
      <button class="button button-small" type="button" data-retry hidden>Try the failed ones again</button>
      <button class="button button-small" type="button" data-list hidden>Download the full list (CSV)</button>
    </div>
  </div>`;

class UploadPanel extends HTMLElement {
  #queue = new UploadQueue({ send: (item, onProgress) => this.#send(item, onProgress) });
  #url = "";
  #drawing = false;
  #imported = { added: 0, duplicates: 0, refused: 0 };
  #importProblems = [];
  #importUrls = [];

  connectedCallback() {
    this.innerHTML = MARKUP;
    this.#url = this.dataset.projectUrl ?? "";
    this.#bindPicks();
    this.#queue.addEventListener("changed", () => this.#drawSoon());
    this.#queue.addEventListener("finished", () => this.#finished());
    this.#find("cancel").addEventListener("click", () => this.#queue.cancel());
    this.#find("retry").addEventListener("click", () => this.#queue.retryFailed());
    this.#find("list").addEventListener("click", () => this.#download());
    window.addEventListener("beforeunload", (event) => {
      if (this.#queue.isBusy && this.#url) event.preventDefault();
    });
  }

  /** How many files were chosen. */
  get size() {
    return this.#queue.items.length;
  }

  /** Start sending what was held. */
  release(projectUrl) {
    this.#url = projectUrl;
    this.#begin(this.#queue.items.map((item) => item.file));
  }

  #find(name) {
    return this.querySelector(`[data-${name}]`);
  }

  #bindPicks() {
    for (const name of ["files", "folder"]) {
      const input = this.#find(name);
      input.addEventListener("change", () => {
        this.#take([...input.files]);
        input.value = "";
      });
      input.parentElement.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          input.click();
        }
      });
    }
    const drop = this.#find("drop");
    for (const name of ["dragenter", "dragover"]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.add("is-over");
      });
    }
    drop.addEventListener("dragleave", () => drop.classList.remove("is-over"));
    drop.addEventListener("drop", async (event) => {
      event.preventDefault();
      drop.classList.remove("is-over");
      this.#take(await droppedFiles(event.dataTransfer));
    });
  }

  #take(files) {
    const wanted = files.filter((file) => file.size || !file.name.startsWith("."));
    this.#queue.add(wanted);
    if (this.#url) this.#begin(wanted);
  }

  async #begin(files) {
    this.#queue.start();
    // What an earlier, interrupted upload has sent already need not be sent again.
    const small = files.filter((file) => !isZip(file) && file.size < ASK_KNOWN_BELOW);
    if (small.length < 20) return;
    for (let start = 0; start < small.length && this.#queue.isBusy; start += ASK_AT_ONCE) {
      const some = small.slice(start, start + ASK_AT_ONCE);
      const known = await knownFiles(`${this.#url}images/known/`, some).catch(() => []);
      this.#queue.markDuplicates(known);
    }
  }

  async #send(item, onProgress) {
    if (!isZip(item.file)) return sendImage(`${this.#url}images/`, item.file, onProgress);
    const id = await sendZip(`${this.#url}uploads/`, item.file, onProgress);
    return this.#followImport(item, `${this.#url}imports/${id}/`);
  }

  async #followImport(item, url) {
    for (;;) {
      const state = await call("GET", url);
      const { done, total } = state.progress;
      item.reason = total ? `unpacking: ${done} of ${total}` : "waiting to be unpacked";
      this.#drawSoon();
      if (state.state === "failed") return { result: "refused", reason: state.error };
      if (state.state === "done" || state.state === "cancelled") return this.#importDone(state, url);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  #importDone(state, url) {
    this.#imported.added += state.n_added;
    this.#imported.duplicates += state.n_duplicates;
    this.#imported.refused += state.n_refused;
    this.#importUrls.push(url);
    this.#importProblems.push(...(state.refused ?? []).map((entry) => ({ ...entry, archive: state.file_name })));
    return { result: "added", reason: `${state.n_added} pictures` };
  }

  #totals() {
    const counts = this.#queue.counts;
    const zips = this.#queue.items.filter(isUnpacked).length;
    return {
      added: counts.added - zips + this.#imported.added,
      duplicates: counts.duplicate + this.#imported.duplicates,
      refused: counts.refused + this.#imported.refused,
      failed: counts.failed,
    };
  }

  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #draw() {
    const counts = this.#queue.counts;
    const totals = this.#totals();
    this.#find("state").hidden = !counts.total;
    this.#find("bar").max = Math.max(counts.bytes, 1);
    this.#find("bar").value = counts.sent;
    this.#find("cancel").hidden = !this.#queue.isBusy || !this.#url;
    this.#find("retry").hidden = this.#queue.isBusy || !totals.failed;
    this.#find("sum").textContent = this.#url
      ? this.#sentence(counts, totals)
      : `${counts.total} files chosen (${readableSize(counts.bytes)}). They are sent when the project is created.`;
    this.#drawProblems();
  }

  #sentence(counts, totals) {
    const parts = [`${totals.added} added`];
    if (totals.duplicates) parts.push(`${totals.duplicates} here already`);
    if (totals.refused) parts.push(`${totals.refused} refused`);
    if (totals.failed) parts.push(`${totals.failed} not sent`);
    const zip = this.#queue.items.find((item) => item.state === "sending" && item.reason);
    const doing = this.#queue.isBusy
      ? `${counts.done} of ${counts.total} files, ${readableSize(counts.sent)} of ${readableSize(counts.bytes)}`
      : "Finished";
    return [`${doing}: ${parts.join(", ")}.`, zip ? `${zip.file.name}: ${zip.reason}` : ""].join(" ");
  }

  #drawProblems() {
    const problems = problemLines(this.#queue.items, this.#importProblems, SHOWN);
    const more = withoutLine(this.#totals(), problems.length);
    this.#find("list").hidden = this.#queue.isBusy || more <= 0;
    const rows = problems.map(({ name, reason, isDuplicate }) => {
      const row = document.createElement("li");
      const title = document.createElement("b");
      title.textContent = name;
      row.className = isDuplicate ? "soft" : "upload-refused";
      row.append(title, ` ${reason}`);
      return row;
    });
    if (more > 0) {
      const last = document.createElement("li");
      last.textContent = `and ${more} more`;
      rows.push(last);
    }
    this.#find("problems").replaceChildren(...rows);
  }

  async #download() {
    const answers = await Promise.all(this.#importUrls.map((url) => fetch(`${url}entries.csv`, { credentials: "same-origin" })));
    if (answers.some((answer) => !answer.ok)) return toast("The list could not be fetched. Try again.");
    const tables = await Promise.all(answers.map((answer) => answer.text()));
    const link = document.createElement("a");
    // The mark in front tells spreadsheets that it is UTF-8.
    const table = `\ufeff${fullTable(this.#queue.items, tables, isUnpacked)}`;
    link.href = URL.createObjectURL(new Blob([table], { type: "text/csv" }));
    link.download = "upload.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  #finished() {
    this.#draw();
    const { added, duplicates, refused, failed } = this.#totals();
    const detail = { added, duplicates, refused, failed };
    this.dispatchEvent(new CustomEvent("upload:finished", { bubbles: true, detail }));
  }
}

customElements.define("upload-panel", UploadPanel);
