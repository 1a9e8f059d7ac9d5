import assert from "node:assert/strict";
import { test } from "node:test";
import { Outbox } from "../../static/js/label/outbox.js";
import { inMemory } from "../../static/js/label/outbox_storage.js";

const offline = () => Object.assign(new Error("offline"), { status: 0, isTemporary: true });
const signedOut = () => Object.assign(new Error("sign in"), { status: 401, needsLogin: true });
const refused = () => Object.assign(new Error("no such lease"), { status: 404 });
const entry = (key) => ({ key, url: "/submit", body: { lease: `lease-${key}` } });
const settled = () => new Promise((done) => setTimeout(done, 5));

function setUp({ answers = [], user = 1, storage = inMemory(), whoAmI = async () => user } = {}) {
  const sent = [];
  const waits = [];
  const outbox = new Outbox({
    user,
    storage,
    whoAmI,
    wait: (then) => waits.push(then),
    send: async (item) => {
      const answer = answers.shift();
      if (answer instanceof Error) throw answer;
      sent.push(item.key);
      return answer ?? {};
    },
  });
  return { outbox, sent, storage, wake: () => waits.splice(0).forEach((then) => then()) };
}

test("labels are sent in the order they were given", async () => {
  const { outbox, sent } = setUp();

  for (const key of ["a", "b", "c"]) outbox.add(entry(key));
  await settled();

  assert.deepEqual(sent, ["a", "b", "c"]);
  assert.equal(outbox.state, "saved");
});

test("a lost connection keeps everything, in order, until it is back", async () => {
  const { outbox, sent, wake, storage } = setUp({ answers: [offline(), offline()] });
  await outbox.add(entry("a"));
  await settled();
  await outbox.add(entry("b"));
  await settled();

  assert.equal(outbox.state, "offline");
  assert.equal((await storage.all(1)).length, 2);
  wake();
  await settled();

  assert.deepEqual(sent, ["a", "b"]);
  assert.equal(outbox.state, "saved");
  assert.equal((await storage.all(1)).length, 0);
});

test("a closed tab loses nothing: the next page sends what was left", async () => {
  const storage = inMemory();
  const first = setUp({ storage, answers: [offline(), offline(), offline()] });
  await first.outbox.add(entry("a"));
  await first.outbox.add(entry("b"));

  const second = setUp({ storage });
  const left = await second.outbox.load();
  await settled();

  assert.equal(left, 2);
  assert.deepEqual(second.sent, ["a", "b"]);
});

test("another person on the same browser never sends mine", async () => {
  const storage = inMemory();
  const mine = setUp({ storage, user: 1, answers: [offline()] });
  await mine.outbox.add(entry("a"));

  const theirs = setUp({ storage, user: 2 });
  await theirs.outbox.load();
  await settled();

  assert.deepEqual(theirs.sent, []);
  assert.equal((await storage.all(1)).length, 1);
});

test("after an expired login sending goes on for the same person only", async () => {
  let current = 2;
  const { outbox, sent, wake } = setUp({ answers: [signedOut()], whoAmI: async () => current });
  await outbox.add(entry("a"));
  await settled();
  assert.equal(outbox.state, "signed-out");

  wake();
  await settled();
  assert.equal(outbox.state, "other-user");
  assert.deepEqual(sent, []);

  current = 1;
  wake();
  await settled();
  assert.deepEqual(sent, ["a"]);
});

test("what the server refuses for good is reported and does not block the rest", async () => {
  const { outbox, sent } = setUp({ answers: [refused()] });
  const reported = [];
  outbox.addEventListener("refused", (event) => reported.push(event.detail.entry.key));

  await outbox.add(entry("a"));
  await outbox.add(entry("b"));
  await settled();

  assert.deepEqual(reported, ["a"]);
  assert.deepEqual(sent, ["b"]);
});

test("a label that was not sent yet can be taken back without the server", async () => {
  const { outbox, sent, wake } = setUp({ answers: [offline()] });
  await outbox.add(entry("a"));
  await outbox.add(entry("b"));
  await settled();

  assert.equal(await outbox.takeBack("b"), true);
  wake();
  await settled();

  assert.deepEqual(sent, ["a"]);
  assert.equal(await outbox.takeBack("a"), false);
});

test("a full disk keeps no label from the server", async () => {
  const storage = { ...inMemory(), put: async () => { throw new Error("quota"); } };
  const { outbox, sent } = setUp({ storage });
  const warned = [];
  outbox.addEventListener("not-kept", (event) => warned.push(event.detail.entry.key));

  await outbox.add(entry("a"));
  await settled();

  assert.deepEqual(sent, ["a"]);
  assert.deepEqual(warned, ["a"]);
});

test("a label refused because somebody else signed in waits for its owner", async () => {
  let current = 2;
  const { outbox, sent, wake } = setUp({ answers: [refused()], whoAmI: async () => current });

  await outbox.add(entry("a"));
  await settled();
  assert.equal(outbox.state, "other-user");

  current = 1;
  wake();
  await settled();
  assert.deepEqual(sent, ["a"]);
});

test("a label taken back in the tab that gave it is not sent by another", async () => {
  const storage = inMemory();
  const first = setUp({ storage, answers: [offline()] });
  await first.outbox.add(entry("a"));
  await first.outbox.add(entry("b"));
  const second = setUp({ storage, answers: [offline()] });
  await second.outbox.load();
  await settled();

  await first.outbox.takeBack("b");
  second.wake();
  await settled();

  assert.deepEqual(second.sent, ["a"]);
});

test("a page may be closed without a question once its labels are on the disk", async () => {
  let written;
  const storage = { ...inMemory(), isDurable: true, put: () => new Promise((done) => (written = done)) };
  const { outbox } = setUp({ storage, answers: [offline()] });

  outbox.add(entry("a"));
  assert.equal(outbox.hasUnkept, true);
  written();
  await settled();

  assert.equal(outbox.state, "offline");
  assert.equal(outbox.hasUnkept, false);
});

test("labels that the browser cannot keep are asked about until the server has them", async () => {
  const { outbox, wake } = setUp({ answers: [offline()] });
  await outbox.add(entry("a"));
  await settled();
  assert.equal(outbox.hasUnkept, true);

  wake();
  await settled();

  assert.equal(outbox.hasUnkept, false);
});
