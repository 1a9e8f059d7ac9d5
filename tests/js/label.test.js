import assert from "node:assert/strict";
import { test } from "node:test";
import { DEPTH, LabelHistory } from "../../static/js/label/history.js";
import { KEYS, commandOf, helpOf, nameOf } from "../../static/js/label/keymap.js";
import { fitted, moved, zoomedAt } from "../../static/js/label/viewport.js";
import { ago, modelLine } from "../../static/js/label/why_panel.js";
import { Prefetch } from "../../static/js/label/prefetch.js";
import { classesOf, freeKey, parseNames, placesFor } from "../../static/js/ui/class_rows.js";

const press = (key, more = {}) => ({ key, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...more });

test("no key means two things", () => {
  const all = KEYS.flatMap((entry) => entry.keys);

  assert.equal(new Set(all).size, all.length);
});

test("a class key chooses its class and the table knows the rest", () => {
  const classes = [{ id: 7, name: "cat", hotkey: "1" }, { id: 8, name: "dog", hotkey: "" }];

  assert.deepEqual(commandOf(press("1"), classes), { command: "class", classId: 7 });
  assert.deepEqual(commandOf(press("z", { ctrlKey: true }), classes), { command: "undo" });
  assert.deepEqual(commandOf(press("?", { shiftKey: true }), classes), { command: "help" });
  assert.deepEqual(commandOf(press("ArrowLeft", { shiftKey: true }), classes), { command: "pan-left" });
  assert.equal(commandOf(press("1", { ctrlKey: true }), classes), null);
  assert.equal(commandOf(press("q"), classes), null);
  assert.equal(nameOf(press("S")), "s");
});

test("the help lists the classes first and every command once", () => {
  const rows = helpOf([{ id: 1, name: "cat", hotkey: "1" }]);

  assert.deepEqual(rows[0], { keys: ["1"], says: "cat" });
  assert.ok(rows.every((row) => row.says));
  assert.equal(rows.filter((row) => row.keys.includes("0")).length, 0);
  const many = Array.from({ length: 14 }, (_, index) => ({ id: index, name: `class ${index + 1}`, hotkey: index < 9 ? String(index + 1) : "" }));
  const bySearch = helpOf(many, "one_class")[9];
  assert.deepEqual(bySearch, { keys: ["/"], says: "By search: class 10, class 11, class 12, class 13, class 14" });
  assert.match(helpOf([...many, ...many.slice(9)], "one_class")[9].says, /class 14, class 10 and 4 more$/);
  assert.equal(helpOf([{ id: 1, name: "cat", hotkey: "" }], "one_class")[0].says, "By a click: cat");
  assert.equal(helpOf([], "several_classes").filter((row) => row.keys.includes("0")).length, 1);
});

test("the history keeps the last twenty and looks back and forth", () => {
  const history = new LabelHistory();
  for (let n = 0; n < DEPTH + 5; n += 1) history.push({ key: `k${n}`, annotation: null, image: { id: n }, classIds: [n] });

  assert.equal(history.size, DEPTH);
  assert.equal(history.newest.key, `k${DEPTH + 4}`);
  history.older();
  history.older();
  assert.equal(history.shown.key, `k${DEPTH + 3}`);
  history.newer();
  history.newer();
  assert.equal(history.isLookingBack, false);
  history.answered("k10", 99);
  history.remove(history.newest);
  assert.equal(history.size, DEPTH - 1);
});

test("labels of earlier visits can be looked at below those given since, the newest first", () => {
  const history = new LabelHistory();
  history.push({ key: "new", annotation: null, image: { id: 9 }, classIds: [1] });
  history.fill([{ id: 3, image: { id: 5 }, class_ids: [1] }, { id: 2, image: { id: 6 }, class_ids: [2] }]);

  history.older();
  assert.equal(history.shown.key, "new");
  history.older();
  assert.equal(history.shown.annotation, 3);
  history.older();
  assert.equal(history.shown.annotation, 2);
  assert.equal(history.older(), false);
});

test("an image is fitted into the middle of its window", () => {
  assert.deepEqual(fitted({ width: 200, height: 100 }, { width: 400, height: 400 }), { scale: 2, x: 0, y: 100 });
});

test("zooming keeps the point under the pointer where it is", () => {
  const view = { scale: 1, x: 10, y: 20 };
  const pointer = { x: 110, y: 70 };

  const zoomed = zoomedAt(view, 2, pointer, 1);

  assert.equal((pointer.x - zoomed.x) / zoomed.scale, (pointer.x - view.x) / view.scale);
  assert.equal((pointer.y - zoomed.y) / zoomed.scale, (pointer.y - view.y) / view.scale);
  assert.equal(zoomedAt(view, 1e9, pointer, 1).scale, 16);
  assert.equal(zoomedAt(view, 1e-9, pointer, 0.2).scale, 0.05);
  assert.equal(zoomedAt(view, 1e9, pointer, 30).scale, 30);
});

test("an image cannot be moved out of sight", () => {
  const image = { width: 100, height: 100 };
  const window = { width: 300, height: 300 };

  const gone = moved({ scale: 1, x: 0, y: 0 }, -5000, 5000, image, window);

  assert.deepEqual(gone, { scale: 1, x: -40, y: 240 });
});

test("ages are said as people say them", () => {
  const now = Date.parse("2026-01-01T12:00:00Z");

  assert.equal(ago("2026-01-01T11:59:40Z", now), "just now");
  assert.equal(ago("2026-01-01T11:58:30Z", now), "1 minute ago");
  assert.equal(ago("2026-01-01T09:00:00Z", now), "3 hours ago");
  assert.equal(modelLine({ model: null }), "");
});

test("images are decoded in the order they will be needed, and forgotten when they are not", async () => {
  const started = [];
  const prefetch = new Prefetch(async (url) => {
    started.push(url);
    if (url === "broken") throw new Error("no");
    return {};
  });
  const images = ["a", "broken", "c"].map((url) => ({ display_url: url }));

  prefetch.want(images);

  assert.deepEqual(started, ["a", "broken", "c"]);
  assert.equal(await prefetch.ready(images[0]), true);
  assert.equal(prefetch.isReady(images[0]), true);
  prefetch.want([images[2]]);
  assert.equal(prefetch.isReady(images[0]), false);
});

test("an image that failed is tried again when its turn comes", async () => {
  let isOnline = false;
  const prefetch = new Prefetch(async () => {
    if (!isOnline) throw new Error("no");
  });
  const image = { display_url: "a" };
  prefetch.want([image]);
  await new Promise((done) => setTimeout(done));

  assert.equal(await prefetch.ready(image), false);
  isOnline = true;

  assert.equal(await prefetch.ready(image), true);
});

test("a pasted list becomes classes", () => {
  assert.deepEqual(parseNames("cat\n dog \n\ncat\r\nbird"), ["cat", "dog", "bird"]);
  assert.deepEqual(parseNames("cat, dog; bird"), ["cat", "dog", "bird"]);
});

test("a pasted list fills the empty rows before it makes new ones", () => {
  assert.deepEqual(placesFor(["", "", ""], 0, 3), [0, 1, 2]);
  assert.deepEqual(placesFor(["", "", ""], 2, 4), [0, 1, 2, 3]);
  assert.deepEqual(placesFor(["", "cat", ""], 0, 4), [0, 2, 3, 4]);
  assert.deepEqual(placesFor(["", "cat", ""], 1, 3), [1, 2, 3]);
  assert.equal(freeKey(["1", "3"]), "2");
  assert.equal(freeKey([..."123456789"]), "");
});

test("classes with the same name or key are refused with a sentence", () => {
  const row = (name, hotkey = "") => ({ name, hotkey, colour: "#000000" });

  assert.equal(classesOf([row("cat", "1"), row(""), row("dog", "2")], []).classes.length, 2);
  assert.match(classesOf([row("cat"), row("Cat")], []).problem, /two classes called/);
  assert.match(classesOf([row("cat", "1"), row("dog", "1")], []).problem, /given to two/);
  assert.match(classesOf([row("cat", "s")], ["s"]).problem, /something else/);
  assert.match(classesOf([row("cat", "!")], []).problem, /is no key/);
});
