/** A list of web addresses: reading it from a text, and how fetching it stands. */

/** @returns {string[]} the addresses of a text, one a line */
export function addressesOf(text) {
  return text.split(/\s*\n\s*/).map((line) => line.trim()).filter(Boolean);
}

/** @returns {string} how an import stands, for people */
export function sentenceOf(state) {
  const parts = [`${state.n_added} added`];
  if (state.n_duplicates) parts.push(`${state.n_duplicates} here already`);
  if (state.n_refused) parts.push(`${state.n_refused} refused`);
  const done = state.n_added + state.n_duplicates + state.n_refused;
  const isOver = state.state !== "queued" && state.state !== "running";
  const doing = isOver ? (state.state === "done" ? "Finished" : "Stopped") : `Fetching ${done} of ${state.n_entries}`;
  return `${doing}: ${parts.join(", ")}.${state.error && isOver ? ` ${state.error}` : ""}`;
}
