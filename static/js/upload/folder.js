/** Files out of what was dropped or picked, folders included. */

const CLUTTER = /^(\.|Thumbs\.db$|desktop\.ini$)/i;

/** @type {WeakMap<File, string>} where dropped files lay; a picked folder's files know it themselves */
const paths = new WeakMap();

/** @returns {string} the file's name with its folder, as far as the browser tells */
export function pathOf(file) {
  return paths.get(file) || file.webkitRelativePath || file.name;
}

/** @returns {Promise<File[]>} all files below a dropped entry */
export async function filesBelow(entry) {
  if (CLUTTER.test(entry.name)) return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    paths.set(file, (entry.fullPath ?? "").replace(/^\//, ""));
    return [file];
  }
  if (!entry.isDirectory) return [];
  const reader = entry.createReader();
  const found = [];
  // A reader gives its entries in groups; an empty group is the end.
  for (;;) {
    const group = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!group.length) return found;
    for (const child of group) found.push(...(await filesBelow(child)));
  }
}

/** @returns {Promise<File[]>} */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const groups = await Promise.all(entries.map(filesBelow));
  return groups.flat();
}

/** @returns {boolean} whether a file has to be unpacked by the server */
export function isZip(file) {
  return /\.zip$/i.test(file.name) || file.type === "application/zip";
}

/** @returns {string} "12.3 MB" */
export function readableSize(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
