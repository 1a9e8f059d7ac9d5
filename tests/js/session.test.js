import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { LabelHistory } from "../../static/js/label/history.js";
import { LabelSession } from "../../static/js/label/session.js";
import { Outbox } from "../../static/js/label/outbox.js";
import { inMemory } from "../../static/js/label/outbox_storage.js";
import { Prefetch } from "../../static/js/label/prefetch.js";
import { QueueBuffer } from "../../static/js/label/queue_buffer.js";

const settled = () => new Promise((done) => setTimeout(done, 5));
/** As long after now as a person needs at least. */
const later = () => performance.now() + 1000;
const lease = (n, suggestion = null) => ({
  token: `t${n}`,
  image: { id: n, display_url: `/${n}`, file_name: `${n}.jpg` },
  why: { top_classes: [] },
  suggestion,
});

beforeEach(() => {
  globalThis.requestAnimationFrame = queueMicrotask;
});

/** A session with a real buffer, history, prefetch and outbox; screen, feed and server are recorded. */
async function setUp({ kind = "one_class", leases = [lease(1), lease(2), lease(3)], load = async () => ({}), ...server } = {}) {
  const screen = recorder(["showImage", "showLoading", "showBroken", "showEmpty", "showProblem", "showPassing", "toast"]);
  const panel = { chosen: [], choose: (ids) => (panel.chosen = ids), toggle: (id) => panel.chosen.push(id), flash: () => {} };
  const submitted = [];
  const buffer = new QueueBuffer();
  const prefetch = new Prefetch(load);
  const fakeServer = {
    submitRequest: (token, classIds) => ({ url: "/submit", body: { lease: token, class_ids: classIds } }),
    skipRequest: (token, reason) => ({ url: "/skip", body: { reason, lease: undefined, token } }),
    mine: async () => [],
    whoAmI: async () => 1,
    ...server,
  };
  let nextId = 100;
  const send = fakeServer.send ?? (async (entry) => {
    submitted.push(entry.body);
    return entry.url === "/submit" ? { annotation: { id: (nextId += 1) }, status: {} } : { status: {} };
  });
  const outbox = new Outbox({ user: 1, send, whoAmI: fakeServer.whoAmI, storage: inMemory(), wait: () => 0 });
  const feed = new EventTarget();
  Object.assign(feed, {
    run: () => {},
    notice: () => {},
    leave: () => {},
    emptiness: { reason: "done", sentence: "" },
    prefetch: () => prefetch.want([buffer.current, ...buffer.ahead].filter(Boolean).map((item) => item.image)),
    topUpIfShort: async () => {},
    topUp: async () => {
      const hadNone = !buffer.current;
      buffer.add(leases.splice(0));
      feed.prefetch();
      if (buffer.current) feed.dispatchEvent(new CustomEvent("arrived", { detail: hadNone }));
    },
  });
  let key = 0;
  const session = new LabelSession({
    config: { kind, user_id: 1 }, server: fakeServer, outbox, screen, panel, buffer, prefetch, feed,
    history: new LabelHistory(), newKey: () => `key${(key += 1)}`,
  });
  await session.start();
  await settled();
  const shown = () => screen.calls.filter(([name]) => name === "showImage").map(([, image]) => image.id);
  return { session, screen, panel, buffer, feed, submitted, shown };
}

function recorder(names) {
  const calls = [];
  const target = { calls };
  for (const name of names) target[name] = (...values) => calls.push([name, ...values]);
  return new Proxy(target, { get: (object, name) => object[name] ?? (() => {}) });
}

test("a class key labels the image on the screen and the next one is there at once", async () => {
  const { session, submitted, shown } = await setUp();

  session.choose(7);
  assert.deepEqual(shown(), [1, 2]);

  await settled();
  assert.deepEqual(submitted, [{ lease: "t1", class_ids: [7] }]);
});

test("an image that is not on the screen yet cannot be labelled", async () => {
  let arrive;
  const load = (url) => (url === "/2" ? new Promise((done) => (arrive = done)) : Promise.resolve());
  const { session, submitted, shown } = await setUp({ load });
  session.choose(7);

  session.choose(7);
  await settled();
  assert.equal(submitted.length, 1);

  arrive();
  await settled();
  session.choose(8, later());
  await settled();
  assert.deepEqual(shown(), [1, 2, 3]);
  assert.deepEqual(submitted.map((body) => body.lease), ["t1", "t2"]);
});

test("an image that cannot be loaded can be skipped but not labelled", async () => {
  const load = async (url) => {
    if (url === "/1") throw new Error("404");
  };
  const { session, screen, submitted, shown } = await setUp({ load });
  assert.ok(screen.calls.some(([name]) => name === "showBroken"));

  session.choose(7);
  session.skip("bad_image");
  await settled();

  assert.deepEqual(submitted.map((body) => body.token ?? body.lease), ["t1"]);
  assert.deepEqual(shown(), [2]);
});

test("enter accepts the suggestion, or what is chosen when something is", async () => {
  const leases = [lease(1, { class_ids: [3], probability: 0.9 }), lease(2, { class_ids: [3], probability: 0.9 })];
  const { session, submitted } = await setUp({ kind: "several_classes", leases });

  session.enter();
  await settled();
  session.choose(4);
  session.choose(5);
  session.enter(later());
  await settled();

  assert.deepEqual(submitted.map((body) => body.class_ids), [[3], [4, 5]]);
});

test("undo takes the label back from the server and shows its image again", async () => {
  const undone = [];
  const { session, shown } = await setUp({
    undo: async (annotation) => {
      undone.push(annotation);
      return { lease: { ...lease(1), token: "t1b" }, status: {} };
    },
  });
  session.choose(7);
  await settled();

  await session.undo();
  await settled();

  assert.deepEqual(undone, [101]);
  assert.equal(shown().at(-1), 1);
});

test("a refused label says which one and its image comes again", async () => {
  const refuse = async () => {
    throw Object.assign(new Error("This class was deleted."), { status: 422 });
  };
  const { session, screen, buffer } = await setUp({ send: refuse });

  session.choose(7);
  await settled();

  assert.match(screen.calls.find(([name]) => name === "showProblem")[1], /1\.jpg was not accepted: This class was deleted/);
  assert.deepEqual(buffer.tokens, ["t2", "t1", "t3"]);
});

test("looking back and choosing another class changes that label and nothing else", async () => {
  const edits = [];
  const { session, submitted } = await setUp({
    edit: async (annotation, classIds) => {
      edits.push([annotation, classIds]);
      return { annotation: { id: 500 } };
    },
  });
  session.choose(7);
  await settled();

  session.previous();
  await settled();
  session.choose(8, later());
  await settled();

  assert.deepEqual(edits, [[101, [8]]]);
  assert.equal(submitted.length, 1);
});

test("a label a reviewer changed meanwhile is said with both, and the next press is for theirs", async () => {
  const edits = [];
  const current = { id: 300, class_ids: [9], author: "Anna" };
  const stale = Object.assign(new Error("changed"), { status: 412, body: { current, by: "Rita" } });
  const { session, screen, panel } = await setUp({
    edit: async (annotation, classIds) => {
      edits.push([annotation, classIds]);
      if (edits.length === 1) throw stale;
      return { annotation: { id: 500 } };
    },
  });
  panel.namesOf = (ids) => ids.map((id) => `class ${id}`).join(", ");
  session.choose(7);
  await settled();
  session.previous();
  await settled();

  session.choose(8, later());
  await settled();

  const [text] = screen.calls.filter(([name]) => name === "showPassing").map(([, words]) => words);
  assert.equal(text, "Rita changed this label to class 9 meanwhile. Press it again to make it class 8.");
  assert.deepEqual(panel.chosen, [9]);
  session.choose(8, later());
  await settled();
  assert.deepEqual(edits, [[101, [8]], [300, [8]]]);
});

test("nobody labels in the name of somebody else who signed in meanwhile", async () => {
  let user = 1;
  const { session, submitted } = await setUp({ whoAmI: async () => user });
  user = 2;

  await session.comeBack();
  session.choose(7);
  await settled();

  assert.deepEqual(submitted, []);
});

test("the same key pressed again at once labels one image, and is not kept for later", async () => {
  const { session, submitted } = await setUp();

  const pressedAt = performance.now();
  session.choose(7, pressedAt, "1");
  session.choose(7, pressedAt, "1");
  await settled();
  session.choose(7, pressedAt + 150, "1");
  await settled();
  assert.equal(submitted.length, 1);

  session.choose(7, performance.now() + 260, "1");
  await settled();
  assert.deepEqual(submitted.map((body) => body.lease), ["t1", "t2"]);
});

test("another class key counts sooner, and so does enter", async () => {
  const leases = [lease(1), lease(2), lease(3, { class_ids: [3], probability: 0.9 })];
  const { session, submitted } = await setUp({ leases });

  const pressedAt = performance.now();
  session.choose(7, pressedAt, "1");
  await settled();
  session.choose(8, pressedAt + 40, "2");
  await settled();
  assert.equal(submitted.length, 1);
  session.choose(8, performance.now() + 90, "2");
  await settled();
  session.enter(performance.now() + 90, "Enter");
  session.enter(performance.now() + 95, "Enter");
  await settled();

  assert.deepEqual(submitted.map((body) => body.class_ids), [[7], [8], [3]]);
});

test("the digit that chose a reason to skip does not label the next image", async () => {
  const { session, submitted } = await setUp();

  const pressedAt = performance.now();
  session.skip("unsure");
  await settled();
  session.choose(7, pressedAt + 150, "1");
  await settled();

  assert.deepEqual(submitted.map((body) => body.token ?? body.lease), ["t1"]);
});

test("a bounce while looking back changes that label and does not label the next image", async () => {
  const edits = [];
  const { session, submitted } = await setUp({
    edit: async (annotation, classIds) => {
      edits.push(classIds);
      return { annotation: { id: 500 } };
    },
  });
  session.choose(7, performance.now(), "1");
  await settled();
  session.previous();
  await settled();

  const pressedAt = performance.now();
  session.choose(8, later(), "2");
  session.choose(8, later(), "2");
  await settled();
  session.choose(8, pressedAt + 150, "2");
  await settled();

  assert.deepEqual(edits, [[8]]);
  assert.equal(submitted.length, 1);
});

test("undo right after a skip takes the skip back and not the label before it", async () => {
  const unskipped = [];
  const { session, shown, screen } = await setUp({
    unskipOne: async (token) => {
      unskipped.push(token);
      return { lease: { ...lease(2), token: "t2b" }, status: {} };
    },
    undo: async () => ({ lease: { ...lease(1), token: "t1b" }, status: {} }),
  });
  session.choose(7);
  await settled();
  session.skip("unsure");
  await settled();

  await session.undo();
  await settled();
  assert.deepEqual(unskipped, ["t2"]);
  assert.equal(shown().at(-1), 2);
  await session.undo();
  await settled();

  assert.equal(shown().at(-1), 1);
  assert.deepEqual(screen.calls.filter(([name]) => name === "toast").map(([, text]) => text).slice(-2), ["Skip taken back", "Label taken back"]);
});

test("a skip that somebody else's work has overtaken is said, and the next undo takes the label", async () => {
  const { session, shown } = await setUp({
    unskipOne: async () => {
      throw Object.assign(new Error("Somebody else has labelled the skipped image meanwhile."), { status: 409 });
    },
    undo: async () => ({ lease: { ...lease(1), token: "t1b" }, status: {} }),
  });
  session.choose(7);
  await settled();
  session.skip("unsure");
  await settled();

  await assert.rejects(session.undo(), /Somebody else has labelled/);
  await session.undo();
  await settled();

  assert.equal(shown().at(-1), 1);
});

test("a label kept after its person was removed is delivered, and the person is told", async () => {
  const message = "You were removed from this project meanwhile.";
  const { session, screen } = await setUp({
    send: async () => ({ annotation: { id: 1, outcome: "after_removal" }, message, status: null }),
  });

  session.choose(7);
  await settled();

  assert.deepEqual(screen.calls.filter(([name]) => name === "showProblem"), [["showProblem", message]]);
});

test("when the project is closed nothing can be labelled any more", async () => {
  const { session, screen, submitted, feed, buffer } = await setUp();

  buffer.clear();
  feed.dispatchEvent(new CustomEvent("closed", { detail: { reason: "closed", sentence: "Archived." } }));
  session.choose(7, later());
  await settled();

  assert.deepEqual(submitted, []);
  assert.deepEqual(screen.calls.at(-1), ["showEmpty", { reason: "closed", sentence: "Archived." }]);
});
