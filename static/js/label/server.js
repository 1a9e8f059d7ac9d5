/** The requests of the labeling page. */
import { call } from "../net/api.js";

export class LabelServer {
  #api;
  #annotations;
  #client;
  #etag = "";

  /** @param {{api: string, annotations: string, client: string}} where */
  constructor({ api, annotations, client }) {
    this.#api = api;
    this.#annotations = annotations;
    this.#client = client;
  }

  /** Hold `n` images; with `fresh`, give back all but `keep` first. */
  claim(n, { fresh = false, keep = [] } = {}) {
    const body = { n: Math.min(Math.max(n, 1), 20), client: this.#client, fresh, keep };
    return call("POST", `${this.#api}queue/claim/`, body);
  }

  submitRequest(lease, classIds, seconds) {
    return { url: `${this.#api}queue/submit/`, body: { lease, class_ids: classIds, seconds } };
  }

  skipRequest(lease, reason) {
    return { url: `${this.#api}queue/leases/${lease}/skip/`, body: { reason } };
  }

  /** Send an entry of the outbox. */
  send(entry) {
    return call("POST", entry.url, entry.body, { headers: { "Idempotency-Key": entry.key } });
  }

  undo(annotation) {
    return call("POST", `${this.#api}queue/undo/`, { annotation, client: this.#client });
  }

  edit(annotation, classIds) {
    const headers = { "If-Match": `"${annotation}"` };
    const body = { class_ids: classIds };
    return call("PUT", `${this.#annotations}${annotation}/`, body, { headers });
  }

  unskip() {
    return call("POST", `${this.#api}queue/unskip/`, {});
  }

  async mine() {
    return (await call("GET", `${this.#api}annotations/mine/`)).results;
  }

  async whoAmI() {
    return (await call("GET", "/api/v1/me/")).id;
  }

  /** @returns {Promise<object | null>} null when nothing has changed */
  async status() {
    const response = await fetch(`${this.#api}queue/status/`, {
      headers: { Accept: "application/json", "If-None-Match": this.#etag },
      credentials: "same-origin",
    });
    if (!response.ok) return null;
    this.#etag = response.headers.get("ETag") ?? "";
    return response.json();
  }

  /** Give leases back while the page is going away. */
  releaseOnLeave(tokens) {
    for (const token of tokens) {
      call("POST", `${this.#api}queue/leases/${token}/release/`, {}, { keepalive: true }).catch(
        // The page is gone; the lease runs out by itself.
        () => null,
      );
    }
  }
}
