/** Talking to the server: JSON in and out, CSRF token, problem+json as errors. */

/** The server said no, or could not be reached (`status` 0). */
export class ApiError extends Error {
  /** @param {{status: number, code: string, detail: string, body?: object}} problem */
  constructor({ status, code, detail, body = {} }) {
    super(detail);
    this.status = status;
    this.code = code;
    this.body = body;
  }

  /** Whether trying the same again later can help. */
  get isTemporary() {
    if (this.code === "idempotency-in-progress") return true;
    return [0, 408, 425, 429].includes(this.status) || this.status >= 500;
  }

  /** Whether the session has ended, or its token has: visiting the login page mends both. */
  get needsLogin() {
    return this.status === 401 || (this.status === 403 && /csrf/i.test(this.message));
  }
}

/** @returns {string} the token Django wants with every write */
export function csrfToken() {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith("csrftoken="));
  return found ? decodeURIComponent(found.slice("csrftoken=".length)) : "";
}

/**
 * @param {string} method
 * @param {string} url
 * @param {object} [body]
 * @param {{headers?: object, keepalive?: boolean}} [options]
 * @returns {Promise<any>} the decoded answer; null when there is none
 * @throws {ApiError}
 */
export async function call(method, url, body, options = {}) {
  const { answer } = await request(method, url, body, options);
  return answer;
}

/**
 * Change a version of something: refused with 412 when somebody else has changed it since.
 * @param {string} method
 * @param {string} url
 * @param {object} [body]
 * @param {string} version the version that was seen, without quotes; "" for whatever is there
 * @returns {Promise<{answer: any, version: string}>}
 * @throws {ApiError}
 */
export async function change(method, url, body, version) {
  const headers = version ? { "If-Match": `"${version}"` } : {};
  const { answer, response } = await request(method, url, body, { headers });
  return { answer, version: (response.headers.get("ETag") ?? "").replace(/^W\/|"/g, "") };
}

/**
 * Poll: nothing is sent back while nothing has changed.
 * @param {string} url
 * @param {string} etag of the last answer, or ""
 * @returns {Promise<{answer: any, etag: string}>} `answer` is null when nothing has changed
 * @throws {ApiError}
 */
export async function getIfChanged(url, etag) {
  const headers = etag ? { "If-None-Match": etag } : {};
  const { answer, response } = await request("GET", url, undefined, { headers });
  return { answer, etag: response.headers.get("ETag") ?? etag };
}

async function request(method, url, body, options) {
  const headers = { Accept: "application/json", ...options.headers };
  if (method !== "GET") headers["X-CSRFToken"] = csrfToken();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(url, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      keepalive: options.keepalive ?? false,
    });
  } catch {
    throw new ApiError({ status: 0, code: "offline", detail: "The server cannot be reached." });
  }
  if (response.status === 204 || response.status === 304) return { answer: null, response };
  const answer = await decoded(response);
  if (!response.ok) throw problemOf(response.status, answer);
  return { answer, response };
}

async function decoded(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}

function problemOf(status, answer) {
  const detail =
    answer.errors?.map((entry) => entry.message).join(" ") ||
    answer.detail ||
    `The server answered with an error (${status}).`;
  return new ApiError({ status, code: answer.code ?? "error", detail, body: answer });
}
