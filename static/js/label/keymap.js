/** Key -> command: the one table behind the keyboard and the help. */

/** @type {{keys: string[], command: string, says: string}[]} */
export const KEYS = [
  { keys: ["Enter"], command: "enter", says: "Accept the suggestion, or submit what is chosen" },
  { keys: ["s"], command: "skip", says: "Skip this image, with a reason" },
  { keys: ["z", "Control+z", "Meta+z"], command: "undo", says: "Undo the last label or skip (up to 20)" },
  { keys: ["ArrowLeft", "p"], command: "previous", says: "Look at the previous image" },
  { keys: ["ArrowRight"], command: "next", says: "Forward again, to the queue" },
  { keys: ["/"], command: "search", says: "Find a class by name" },
  { keys: ["0"], command: "none", says: "None of the classes is in the image" },
  { keys: ["+", "="], command: "zoom-in", says: "Zoom in and out (or the wheel, or two fingers)" },
  { keys: ["-"], command: "zoom-out", says: "" },
  { keys: ["f"], command: "fit", says: "Fit the image into the window" },
  { keys: ["Shift+ArrowLeft"], command: "pan-left", says: "Move the image (or drag it)" },
  { keys: ["Shift+ArrowRight"], command: "pan-right", says: "" },
  { keys: ["Shift+ArrowUp"], command: "pan-up", says: "" },
  { keys: ["Shift+ArrowDown"], command: "pan-down", says: "" },
  { keys: ["["], command: "darker", says: "Darker, brighter" },
  { keys: ["]"], command: "brighter", says: "" },
  { keys: ["{"], command: "less-contrast", says: "Less, more contrast" },
  { keys: ["}"], command: "more-contrast", says: "" },
  { keys: ["r"], command: "reset-view", says: "Reset zoom, brightness and contrast" },
  { keys: ["w"], command: "why", says: "Show or hide why you were given this image" },
  { keys: ["i"], command: "instructions", says: "Instructions" },
  { keys: ["?", "h"], command: "help", says: "These keys" },
];

const MODIFIER_FREE = new Set(["+", "?", "{", "}", "/", "=", "[", "]"]);
const SHOWN = {
  "+": "+ −", "[": "[ ]", "{": "{ }",
  ArrowLeft: "←", ArrowRight: "→", "Shift+ArrowLeft": "Shift ← → ↑ ↓", "Control+z": "Ctrl Z",
  "Meta+z": "⌘ Z", z: "Z", s: "S", p: "P", f: "F", r: "R", w: "W", i: "I", h: "H",
};

/**
 * @param {{key: string, ctrlKey: boolean, metaKey: boolean, altKey: boolean, shiftKey: boolean}} event
 * @returns {string} the name of a key press as the table writes it
 */
export function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const parts = [];
  if (event.ctrlKey) parts.push("Control");
  if (event.metaKey) parts.push("Meta");
  if (event.altKey) parts.push("Alt");
  // Shift is part of characters such as "?", but means something with the arrows.
  if (event.shiftKey && !MODIFIER_FREE.has(event.key)) parts.push("Shift");
  return [...parts, key].join("+");
}

/**
 * @param {object} event a key press
 * @param {{id: number, hotkey: string}[]} classes
 * @returns {{command: string, classId?: number} | null}
 */
export function commandOf(event, classes) {
  const name = nameOf(event);
  const chosen = classes.find((entry) => entry.hotkey && entry.hotkey === name);
  if (chosen) return { command: "class", classId: chosen.id };
  const found = KEYS.find((entry) => entry.keys.includes(name));
  return found ? { command: found.command } : null;
}

/** Digits reach nine classes; with more of them there is a search. */
export const MANY = 9;
const NAMED = 6;

function othersRow(names, nClasses) {
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
  const listed = names.slice(0, NAMED).join(", ") + more;
  return nClasses > MANY ? { keys: ["/"], says: `By search: ${listed}` } : { keys: [], says: `By a click: ${listed}` };
}

/** @returns {{keys: string[], says: string}[]} what the help lists for a kind of project */
export function helpOf(classes, kind) {
  const hotkeys = classes.filter((entry) => entry.hotkey);
  const isUsed = (entry) => entry.says && (entry.command !== "none" || kind === "several_classes");
  const rows = KEYS.filter(isUsed).map((entry) => ({
    keys: entry.keys.filter((key) => key !== "=" && key !== "Meta+z").map((key) => SHOWN[key] ?? key),
    says: entry.says,
  }));
  const others = classes.filter((entry) => !entry.hotkey).map((entry) => entry.name);
  return [
    ...hotkeys.map((entry) => ({ keys: [entry.hotkey.toUpperCase()], says: entry.name })),
    ...(others.length ? [othersRow(others, classes.length)] : []),
    ...rows,
  ];
}
