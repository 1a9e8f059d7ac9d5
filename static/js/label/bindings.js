/** Keys and buttons to commands. */
import { commandOf } from "./keymap.js";

const PAN = 80;

/** @param {Document} page */
export function bindKeys(page, session, screen, classes) {
  const commands = {
    enter: () => session.enter(),
    accept: () => session.accept(),
    submit: () => session.submitChosen(),
    none: () => session.submitNone(),
    skip: () => session.canSkip && screen.askSkip((reason) => session.skip(reason)),
    undo: () => session.undo(),
    previous: () => session.previous(),
    next: () => session.next(),
    search: () => session.panel.focusSearch(),
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
    darker: () => screen.stage.adjust("brightness", -10),
    brighter: () => screen.stage.adjust("brightness", 10),
    "less-contrast": () => screen.stage.adjust("contrast", -10),
    "more-contrast": () => screen.stage.adjust("contrast", 10),
    "reset-view": () => screen.resetView(),
    adjust: () => screen.toggleAdjust(),
    why: () => screen.why.toggle(),
    instructions: () => screen.open("instructions"),
    help: () => screen.open("help"),
  };

  page.addEventListener("keydown", (event) => {
    if (page.querySelector("dialog[open]") || isTyping(event.target)) return;
    const found = commandOf(event, classes);
    if (!found) return;
    // Enter and space on a focused button press that button.
    if (event.key === "Enter" && event.target.closest("button, a, summary")) return;
    event.preventDefault();
    // A key held down must not label image after image.
    if (event.repeat && !/zoom|pan|dark|bright|contrast/.test(found.command)) return;
    if (found.command === "class") session.choose(found.classId);
    else commands[found.command]();
  });
  page.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) commands[button.dataset.do]?.();
  });
}

function isTyping(target) {
  return Boolean(target.closest?.("textarea, select, input:not([type='range'])"));
}
