/** The classes of a new project, from what was typed or pasted: pure. */

/** @returns {string[]} names from a pasted list: lines, or commas on one line */
export function parseNames(text) {
  const lines = text.includes("\n") ? text.split(/\r?\n/) : text.split(/[,;\t]/);
  return [...new Set(lines.map((line) => line.trim().slice(0, 80)).filter(Boolean))];
}

/**
 * Where pasted names go: into the empty rows first, then into new ones below.
 * @param {string[]} rows the names there are
 * @param {number} at the row pasted into; what it holds is replaced
 * @param {number} n how many names
 * @returns {number[]} a row for each name, in order; `rows.length` and above are new rows
 */
export function placesFor(rows, at, n) {
  const from = rows[at].trim() ? at : 0;
  const empty = rows.map((_, index) => index).filter((index) => index === at || (index >= from && !rows[index].trim()));
  return Array.from({ length: n }, (_, index) => empty[index] ?? rows.length + index - empty.length);
}

/** @returns {string} the first digit no row has, or "" */
export function freeKey(taken) {
  return [..."123456789"].find((key) => !taken.includes(key)) ?? "";
}

/**
 * @param {{name: string, colour: string, hotkey: string}[]} rows
 * @param {string[]} takenKeys keys the labeling page uses itself
 * @returns {{classes: object[], problem: string}} the named rows, or what is wrong with them
 */
export function classesOf(rows, takenKeys) {
  const classes = rows
    .map((row) => ({ ...row, name: row.name.trim(), hotkey: row.hotkey.trim().toLowerCase() }))
    .filter((row) => row.name);
  const names = new Set();
  const keys = new Set();
  for (const { name, hotkey } of classes) {
    if (names.has(name.toLowerCase())) return { classes, problem: `There are two classes called “${name}”.` };
    if (hotkey && !/^[1-9a-z]$/.test(hotkey)) return { classes, problem: `“${hotkey}” is no key: use 1-9 or a-z.` };
    if (takenKeys.includes(hotkey)) return { classes, problem: `The key “${hotkey}” does something else on the labeling page.` };
    if (hotkey && keys.has(hotkey)) return { classes, problem: `The key “${hotkey}” is given to two classes.` };
    names.add(name.toLowerCase());
    if (hotkey) keys.add(hotkey);
  }
  return { classes, problem: "" };
}
