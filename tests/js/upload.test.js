import assert from "node:assert/strict";
import { test } from "node:test";
import { addressesOf, sentenceOf } from "../../static/js/upload/addresses.js";
import { filesBelow, isZip, pathOf, readableSize } from "../../static/js/upload/folder.js";
import { fullTable, problemLines, withoutLine } from "../../static/js/upload/report.js";
import { outcomeOf } from "../../static/js/upload/send_image.js";
import { UploadQueue } from "../../static/js/upload/upload_queue.js";

const file = (name, size = 10) => ({ name, size, type: "" });
const finished = (queue) => new Promise((done) => queue.addEventListener("finished", (event) => done(event.detail), { once: true }));
const broken = () => Object.assign(new Error("offline"), { isTemporary: true });

test("every file is sent once, some at a time, and counted by its answer", async () => {
  let running = 0;
  let most = 0;
  const queue = new UploadQueue({
    parallel: 3,
    send: async (item) => {
      most = Math.max(most, (running += 1));
      await new Promise((done) => setTimeout(done, 2));
      running -= 1;
      return { result: item.file.name.startsWith("dup") ? "duplicate" : "added", reason: "" };
    },
  });
  queue.add([file("a"), file("b"), file("dup"), file("c"), file("d")]);

  const done = finished(queue);
  queue.start();
  const counts = await done;

  assert.equal(most, 3);
  assert.deepEqual([counts.added, counts.duplicate, counts.done, counts.sent], [4, 1, 5, 50]);
});

test("the answer to one file says what became of it", () => {
  const answer = { created: [], duplicates: [], rejected: [] };

  assert.deepEqual(outcomeOf({ ...answer, created: [{ id: 1 }] }), { result: "added", reason: "" });
  assert.deepEqual(outcomeOf({ ...answer, duplicates: [{ id: 1, detail: "here as a" }] }), { result: "duplicate", reason: "here as a" });
  assert.deepEqual(outcomeOf({ ...answer, rejected: [{ name: "b", detail: "no picture" }] }), { result: "refused", reason: "no picture" });
});

test("a broken connection is tried again until it works", async () => {
  const tries = new Map();
  const queue = new UploadQueue({
    wait: async () => {},
    send: async (item) => {
      const n = (tries.get(item.file.name) ?? 0) + 1;
      tries.set(item.file.name, n);
      if (n < 4) throw broken();
      return { result: "added" };
    },
  });
  queue.add([file("a"), file("b")]);

  const done = finished(queue);
  queue.start();

  assert.equal((await done).added, 2);
  assert.equal(tries.get("a"), 4);
});

test("what the server refuses for good is listed and can be tried again by hand", async () => {
  let isFixed = false;
  const queue = new UploadQueue({
    send: async () => {
      if (!isFixed) throw new Error("too large");
      return { result: "added" };
    },
  });
  queue.add([file("a")]);
  let done = finished(queue);
  queue.start();
  assert.equal((await done).failed, 1);
  assert.equal(queue.items[0].reason, "too large");

  isFixed = true;
  done = finished(queue);
  queue.retryFailed();

  assert.equal((await done).added, 1);
});

test("files the server has already are not sent", async () => {
  const sent = [];
  const queue = new UploadQueue({
    parallel: 1,
    send: async (item) => {
      sent.push(item.file.name);
      return { result: "added" };
    },
  });
  const files = [file("a"), file("b"), file("c")];
  queue.add(files);
  queue.markDuplicates([files[1]]);

  const done = finished(queue);
  queue.start();
  const counts = await done;

  assert.deepEqual(sent, ["a", "c"]);
  assert.equal(counts.duplicate, 1);
});

test("cancelling leaves nothing waiting", async () => {
  const queue = new UploadQueue({ parallel: 1, send: () => new Promise(() => {}) });
  queue.add([file("a"), file("b")]);
  queue.start();

  queue.cancel();

  assert.equal(queue.items[1].state, "failed");
});

test("a dropped folder gives all files below it, without clutter", async () => {
  const entry = (name) => ({ name, isFile: true, file: (then) => then(file(name)) });
  const folder = (name, children) => {
    const groups = [children.slice(0, 2), children.slice(2), []];
    return { name, isDirectory: true, createReader: () => ({ readEntries: (then) => then(groups.shift()) }) };
  };

  const found = await filesBelow(folder("all", [entry("a.jpg"), entry(".DS_Store"), folder("sub", [entry("b.jpg"), entry("Thumbs.db")])]));

  assert.deepEqual(found.map((item) => item.name), ["a.jpg", "b.jpg"]);
});

test("zips are told by name or type and sizes are readable", () => {
  assert.equal(isZip(file("a.ZIP")), true);
  assert.equal(isZip(file("a.jpg")), false);
  assert.equal(readableSize(999), "999 B");
  assert.equal(readableSize(1_234_567), "1.2 MB");
});

test("a dropped file is told by its folder", async () => {
  const [found] = await filesBelow({ name: "a.jpg", isFile: true, fullPath: "/all/sub/a.jpg", file: (then) => then(file("a.jpg")) });

  assert.equal(pathOf(found), "all/sub/a.jpg");
  assert.equal(pathOf({ name: "b.jpg", webkitRelativePath: "picked/b.jpg" }), "picked/b.jpg");
  assert.equal(pathOf(file("c.jpg")), "c.jpg");
});

test("the lines and the number of those without one add up to what was not added", () => {
  const sent = (name, state, reason = "") => ({ file: file(name), state, reason });
  const items = [sent("photos.zip", "added"), sent("dup.jpg", "duplicate", "here"), sent("bad.jpg", "refused", "no picture"), sent("off.jpg", "failed", "offline")];
  // Of the zip's 5000 refusals the server names 200 at once, of its 50 duplicates none.
  const fromZip = Array.from({ length: 200 }, (_, n) => ({ archive: "photos.zip", file_name: `day/${n}.jpg`, reason: "no picture" }));

  const lines = problemLines(items, fromZip, 100);
  const more = withoutLine({ refused: 5001, failed: 1, duplicates: 51 }, lines.length);

  assert.equal(lines.length + more, 5053);
  assert.deepEqual(lines.slice(0, 3).map((line) => line.name), ["bad.jpg", "off.jpg", "photos.zip: day/0.jpg"]);
});

test("the full table holds every file sent and every file of the zips", () => {
  const items = [
    { file: file("photos.zip"), state: "added", reason: "" },
    { file: file('=a,"b".jpg'), state: "refused", reason: "no picture" },
  ];
  const ofZip = "archive,file,result,reason\r\nphotos.zip,day/1.jpg,refused,no picture\r\nphotos.zip,day/2.jpg,duplicate,here\r\n";

  const table = fullTable(items, [ofZip], (item) => isZip(item.file));

  assert.equal(table, [
    "archive,file,result,reason",
    `,"'=a,""b"".jpg",refused,no picture`,
    "photos.zip,day/1.jpg,refused,no picture",
    "photos.zip,day/2.jpg,duplicate,here",
    "",
  ].join("\r\n"));
});

test("web addresses are taken one a line, without blank lines and space around them", () => {
  assert.deepEqual(addressesOf("  https://a.example/1.jpg \r\n\n https://b.example/x y.png\n"), ["https://a.example/1.jpg", "https://b.example/x y.png"]);
  assert.deepEqual(addressesOf(" \n "), []);
});

test("the sentence of a fetch says how far it is and what became of the addresses", () => {
  const state = { state: "running", n_entries: 9, n_added: 2, n_duplicates: 1, n_refused: 0, error: "" };

  assert.equal(sentenceOf(state), "Fetching 3 of 9: 2 added, 1 here already.");
  assert.equal(sentenceOf({ ...state, state: "done", n_refused: 6 }), "Finished: 2 added, 1 here already, 6 refused.");
  assert.equal(sentenceOf({ ...state, state: "failed", error: "No room." }), "Stopped: 2 added, 1 here already. No room.");
});
