/** The name of this browser tab: each tab holds images of its own. */

const KEY = "client";

function random() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @returns {string} a new random key; also where the page is not served by https */
export function newKey() {
  return random() + random();
}

/**
 * The id survives a reload. A duplicated tab copies the session storage, so the id is held by a lock
 * and a second holder takes a new one.
 * @returns {Promise<string>}
 */
export async function clientId() {
  const id = sessionStorage.getItem(KEY) ?? random();
  const mine = await hold(id);
  const used = mine ? id : random();
  if (!mine) await hold(used);
  sessionStorage.setItem(KEY, used);
  return used;
}

function hold(id) {
  // Without locks (plain http on another machine) every page load counts as a new tab.
  if (!navigator.locks) return Promise.resolve(false);
  return new Promise((resolve) => {
    navigator.locks.request(`tab-${id}`, { ifAvailable: true }, (lock) => {
      resolve(Boolean(lock));
      return lock ? new Promise(() => {}) : undefined;
    });
  });
}
