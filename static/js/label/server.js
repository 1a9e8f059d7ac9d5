/** The requests of the labeling page. */
import { call, getIfChanged } from "../net/api.js";

/** One claim holds and names no more leases than this. */
const MOST = 20;
const DAY_S = 86_400;

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
    const body = { n: Math.min(Math.max(n, 1), MOST), client: this.#client, fresh, keep: keep.slice(0, MOST) };
    return call("POST", `${this.#api}queue/claim/`, body);
  }

  /** Prolong what this tab holds, and claim nothing; what is missing in the answer was lost. */
  prolong() {
    return call("POST", `${this.#api}queue/claim/`, { n: 0, client: this.#client });
  }

  submitRequest(lease, classIds, seconds) {
    // A page left open for days must not have its label refused for the time it took.
    const body = { lease, class_ids: classIds, seconds: Math.min(seconds, DAY_S) };
    return { url: `${this.#api}queue/submit/`, body };
  }

  skipRequest(lease, reason) {
    return { url: `${this.#api}queue/leases/${lease}/skip/`, body: { reason } };
  }

  /** Send an entry of the outbox. */
  send(entry) {
    return call("POST", entry.url, entry.body, { headers: { "Idempotency-Key": entry.key } });
  }

  undo(annotation, key) {
    const headers = { "Idempotency-Key": key };
    return call("POST", `${this.#api}queue/undo/`, { annotation, client: this.#client }, { headers });
  }

  edit(annotation, classIds) {
    const headers = { "If-Match": `"${annotation}"` };
    const body = { class_ids: classIds };
    return call("PUT", `${this.#annotations}${annotation}/`, body, { headers });
  }

  /** Take one skip back; the answer holds its image again. */
  unskipOne(lease) {
    return call("POST", `${this.#api}queue/unskip/`, { lease, client: this.#client });
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
    const { answer, etag } = await getIfChanged(`${this.#api}queue/status/`, this.#etag);
    this.#etag = etag;
    return answer;
  }

  /** Give one image back to the queue. */
  release(token) {
    return call("POST", `${this.#api}queue/leases/${token}/release/`, {});
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
