/** What became of each file: the lines under the sum, and the full list as a table. */
import { pathOf } from "./folder.js";

const HEADER = ["archive", "file", "result", "reason"];
const TOLD = new Set(["refused", "failed", "duplicate"]);

/**
 * @param {import("./upload_queue.js").Item[]} items what was sent
 * @param {{archive: string, file_name: string, reason: string}[]} fromZips what was refused inside zips
 * @param {number} most how many lines
 * @returns {{name: string, reason: string, isDuplicate: boolean}[]} refusals first
 */
export function problemLines(items, fromZips, most) {
  const own = items
    .filter((item) => TOLD.has(item.state))
    .map((item) => ({ name: pathOf(item.file), reason: item.reason, isDuplicate: item.state === "duplicate" }));
  const unpacked = fromZips.map((entry) => ({ name: `${entry.archive}: ${entry.file_name}`, reason: entry.reason, isDuplicate: false }));
  return [...own, ...unpacked].sort((a, b) => Number(a.isDuplicate) - Number(b.isDuplicate)).slice(0, most);
}

/** @returns {number} how many files that were not added have no line of their own */
export function withoutLine({ refused, failed, duplicates }, nLines) {
  return refused + failed + duplicates - nLines;
}

function csvField(text) {
  // Spreadsheets would run a name that starts like a formula.
  const safe = /^[=+\-@]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/**
 * @param {import("./upload_queue.js").Item[]} items what was sent
 * @param {string[]} tables the server's table of each zip
 * @param {(item: object) => boolean} isUnpacked whether an item is a zip that the server has unpacked
 * @returns {string} one table of everything; a zip that was unpacked is there by its files
 */
export function fullTable(items, tables, isUnpacked) {
  const own = items
    .filter((item) => !isUnpacked(item))
    .map((item) => ["", pathOf(item.file), item.state, item.reason].map(csvField).join(","));
  const unpacked = tables.map((table) => table.trimEnd().split("\r\n").slice(1).join("\r\n"));
  return [HEADER.join(","), ...own, ...unpacked.filter(Boolean), ""].join("\r\n");
}
