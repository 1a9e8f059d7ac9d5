/** Sending a large file in pieces (tus 1.0): after a break it goes on where it was. */
import { ApiError, csrfToken } from "../net/api.js";

const PIECE = 8 * 1024 * 1024;

function remembered(file) {
  return `upload:${file.name}:${file.size}:${file.lastModified}`;
}

async function request(method, url, headers, body) {
  let response;
  try {
    response = await fetch(url, {
      method,
      body,
      headers: { "Tus-Resumable": "1.0.0", "X-CSRFToken": csrfToken(), ...headers },
      credentials: "same-origin",
    });
  } catch {
    throw new ApiError({ status: 0, code: "offline", detail: "The server cannot be reached." });
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new ApiError({ status: response.status, code: answer.code ?? "error", detail: answer.detail ?? `Error ${response.status}` });
  }
  return response;
}

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

async function create(url, file) {
  const response = await request("POST", url, {
    "Upload-Length": String(file.size),
    "Upload-Metadata": `filename ${base64(file.name)}`,
  });
  return new URL(response.headers.get("Location")).pathname;
}

/** @returns {Promise<{location: string, offset: number}>} a new upload, or an interrupted one */
async function openUpload(url, file) {
  const key = remembered(file);
  const known = localStorage.getItem(key);
  if (known?.startsWith(url)) {
    try {
      const response = await request("HEAD", known, {});
      return { location: known, offset: Number(response.headers.get("Upload-Offset")) };
    } catch (error) {
      if (error.isTemporary) throw error;
    }
  }
  const location = await create(url, file);
  localStorage.setItem(key, location);
  return { location, offset: 0 };
}

/**
 * @param {string} url where uploads begin
 * @param {File} file
 * @param {(bytes: number) => void} onProgress
 * @returns {Promise<string>} the id of the import that unpacks it
 */
export async function sendZip(url, file, onProgress) {
  let { location, offset } = await openUpload(url, file);
  let response = null;
  while (offset < file.size || !response) {
    const piece = file.slice(offset, offset + PIECE);
    response = await request("PATCH", location, {
      "Upload-Offset": String(offset),
      "Content-Type": "application/offset+octet-stream",
    }, piece);
    offset = Number(response.headers.get("Upload-Offset"));
    onProgress(offset);
  }
  localStorage.removeItem(remembered(file));
  return response.headers.get("X-Import-Id");
}
