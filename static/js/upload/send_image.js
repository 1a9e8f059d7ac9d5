/** Sending one picture, with progress. */
import { ApiError, call, csrfToken } from "../net/api.js";

/**
 * @param {{created: object[], duplicates: {detail: string}[], rejected: {detail: string}[]}} answer to one file
 * @returns {{result: "added" | "duplicate" | "refused", reason: string}}
 */
export function outcomeOf({ duplicates, rejected }) {
  if (rejected.length) return { result: "refused", reason: rejected[0].detail };
  if (duplicates.length) return { result: "duplicate", reason: duplicates[0].detail };
  return { result: "added", reason: "" };
}

/**
 * @param {string} url
 * @param {File} file
 * @param {(bytes: number) => void} onProgress
 * @returns {Promise<{result: string, reason: string}>}
 */
export function sendImage(url, file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("file", file, file.name);
    request.open("POST", url);
    request.setRequestHeader("X-CSRFToken", csrfToken());
    request.responseType = "json";
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      const answer = request.response ?? {};
      if (request.status === 200) resolve(outcomeOf(answer));
      else reject(new ApiError({ status: request.status, code: answer.code, detail: answer.detail ?? "The server refused the file." }));
    };
    request.onerror = () => reject(new ApiError({ status: 0, code: "offline", detail: "The server cannot be reached." }));
    request.send(body);
  });
}

/** @returns {Promise<string | null>} the file's sha-256, or null where the browser cannot tell */
async function sha256(file) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @returns {Promise<File[]>} those of the files the server has already */
export async function knownFiles(url, files) {
  const hashes = new Map();
  for (const file of files) {
    const hash = await sha256(file);
    if (hash) hashes.set(hash, [...(hashes.get(hash) ?? []), file]);
  }
  if (!hashes.size) return [];
  const { known } = await call("POST", url, { sha256: [...hashes.keys()] });
  return known.flatMap((hash) => hashes.get(hash) ?? []);
}
