/** Keys and buttons to commands. */
import { commandOf } from "./keymap.js";

const PAN = 80;
const REPEATING = /zoom|pan|dark|bright|contrast/;
/** Commands that finish an image: a double click must not finish the next one as well. */
const LABELING = new Set(["accept", "submit", "none", "undo"]);
const DOUBLE_CLICK_MS = 300;
/** For so long after a dialog was closed Enter may have been meant for the dialog. */
const AFTER_DIALOG_MS = 250;

/**
 * @param {Document} page
 * @param {{session: object, screen: object, panel: object, classes: object[]}} parts
 */
export function bindKeys(page, { session, screen, panel, classes }) {
  const commands = {
    enter: (at, by) => session.enter(at, by),
    accept: (at, by) => session.accept(at, by),
    submit: (at, by) => session.submitChosen(at, by),
    none: (at, by) => session.submitNone(at, by),
    skip: () => session.canSkip && screen.askSkip((reason) => session.skip(reason)),
    undo: () => session.undo(),
    previous: () => session.previous(),
    next: () => session.next(),
    search: () => panel.focusSearch(),
    unskip: () => session.unskip(),
    "check-again": () => session.checkAgain(),
    "reload-image": () => session.reloadImage(),
    "zoom-in": () => screen.stage.zoom(1),
    "zoom-out": () => screen.stage.zoom(-1),
    fit: () => screen.stage.fit(),
    "pan-left": () => screen.stage.pan(PAN, 0),
    "pan-right": () => screen.stage.pan(-PAN, 0),
    "pan-up": () => screen.stage.pan(0, PAN),
    "pan-down": () => screen.stage.pan(0, -PAN),
    darker: () => screen.adjust("brightness", -10),
    brighter: () => screen.adjust("brightness", 10),
    "less-contrast": () => screen.adjust("contrast", -10),
    "more-contrast": () => screen.adjust("contrast", 10),
    "reset-view": () => screen.resetView(),
    adjust: () => screen.toggleAdjust(),
    why: () => screen.why.toggle(),
    instructions: () => screen.open("instructions"),
    help: () => screen.open("help"),
    dismiss: () => screen.showProblem(""),
  };
  const run = async (command, at, by) => {
    try {
      await commands[command](at, by);
    } catch (error) {
      session.report(error);
    }
  };
  let clickedAt = -Infinity;
  let closedAt = -Infinity;

  page.addEventListener("close", (event) => (closedAt = event.timeStamp), true);

  page.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || isTyping(event)) return;
    // Enter and space on a focused button press that button, but once, however long they are held.
    if (/^(Enter| )$/.test(event.key) && event.target.closest("button, a, summary")) {
      if (event.repeat) event.preventDefault();
      return;
    }
    const found = commandOf(event, classes);
    if (!found) return;
    event.preventDefault();
    // A key held down must not label image after image.
    if (event.repeat && !REPEATING.test(found.command)) return;
    if (found.command === "enter" && event.timeStamp - closedAt < AFTER_DIALOG_MS) return;
    if (found.command === "class") session.choose(found.classId, event.timeStamp, event.key);
    else run(found.command, event.timeStamp, event.key);
  });
  page.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do], summary");
    if (!button) return;
    // After a click of the mouse, Enter must not press the same button again.
    if (event.detail) button.blur();
    const command = button.dataset.do;
    if (!command) return;
    if (LABELING.has(command) && event.timeStamp - clickedAt < DOUBLE_CLICK_MS) return;
    clickedAt = event.timeStamp;
    run(command, event.timeStamp);
  });
}

/** Whether a key belongs to the field that has the focus. A dialog just closed may keep the focus for a frame. */
function isTyping({ key, target }) {
  const dialog = target.closest?.("dialog");
  if (dialog) return dialog.open;
  if (target.closest?.("input[type='range']")) return /^(Arrow|Home|End|Page)/.test(key);
  return Boolean(target.closest?.("textarea, select, input"));
}
