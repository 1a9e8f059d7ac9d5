/** The progress page reloads itself when a round ends. */
import { call } from "../net/api.js";
import { paintColours } from "../ui/colours.js";

const POLL_MS = 3000;
const page = document.querySelector("[data-progress-page]");

paintColours();

async function poll() {
  try {
    const status = await call("GET", page.dataset.statusUrl);
    const round = `${status.round?.id ?? ""}-${status.round?.state ?? ""}`;
    if (round !== page.dataset.knownRound) window.location.reload();
  } catch {
    // The next poll tries again.
  }
  setTimeout(poll, document.hidden ? 5 * POLL_MS : POLL_MS);
}

setTimeout(poll, POLL_MS);
