/**
 * <address-panel data-project-url="/api/v1/projects/7/"></address-panel>
 *
 * Paste web addresses of pictures, one a line; the server fetches them. Dispatches `upload:finished`
 * as the upload panel does.
 */
import { addressesOf, sentenceOf } from "./addresses.js";
import { call } from "../net/api.js";

const POLL_MS = 1000;
const AT_ONCE = 1000;

const MARKUP = `
  <details class="address-open">
    <summary>Add by web address</summary>
    <form class="address-form">
      <label for="addresses">Addresses of pictures, one a line</label>
      <textarea id="addresses" rows="5" required spellcheck="false" autocomplete="off" placeholder="https://example.org/photo.jpg"></textarea>
      <button class="button">Fetch them</button>
    </form>
    <div class="upload-state" data-state hidden>
      <p class="upload-sum number" data-sum role="status"></p>
      <progress data-bar max="1" value="0" aria-label="Fetching"></progress>
      <ul class="upload-problems plain-list" data-problems></ul>
      <a class="button button-small" data-list hidden>Download the full list (CSV)</a>
    </div>
  </details>`;

class AddressPanel extends HTMLElement {
  connectedCallback() {
    this.innerHTML = MARKUP;
    const form = this.querySelector("form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start(form);
    });
  }

  #find(name) {
    return this.querySelector(`[data-${name}]`);
  }

  async #start(form) {
    const urls = addressesOf(form.querySelector("textarea").value);
    if (!urls.length) return;
    const button = form.querySelector("button");
    button.disabled = true;
    this.#find("state").hidden = false;
    this.#find("list").hidden = true;
    this.#find("problems").replaceChildren();
    try {
      if (urls.length > AT_ONCE) throw new Error(`At most ${AT_ONCE} addresses at once; these are ${urls.length}.`);
      const url = this.dataset.projectUrl;
      const started = await call("POST", `${url}images/`, { urls });
      form.reset();
      await this.#follow(`${url}imports/${started.id}/`);
    } catch (error) {
      this.#find("bar").value = 0;
      this.#find("sum").textContent = error.message;
    } finally {
      button.disabled = false;
    }
  }

  async #follow(url) {
    for (;;) {
      const state = await call("GET", url);
      this.#draw(state, url);
      if (state.state !== "queued" && state.state !== "running") return this.#finished(state);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  #draw(state, url) {
    this.#find("sum").textContent = sentenceOf(state);
    this.#find("bar").max = Math.max(state.n_entries, 1);
    this.#find("bar").value = state.n_added + state.n_duplicates + state.n_refused;
    const rows = state.refused.map(({ file_name: name, reason }) => {
      const row = document.createElement("li");
      const title = document.createElement("b");
      title.textContent = name;
      row.className = "upload-refused";
      row.append(title, ` ${reason}`);
      return row;
    });
    this.#find("problems").replaceChildren(...rows);
    this.#find("list").hidden = state.n_refused <= rows.length;
    this.#find("list").href = `${url}entries.csv`;
  }

  #finished(state) {
    const detail = {
      added: state.n_added,
      duplicates: state.n_duplicates,
      refused: state.n_refused,
      failed: state.state === "done" ? 0 : 1,
    };
    this.dispatchEvent(new CustomEvent("upload:finished", { bubbles: true, detail }));
  }
}

customElements.define("address-panel", AddressPanel);
