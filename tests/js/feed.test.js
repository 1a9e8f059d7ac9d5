import assert from "node:assert/strict";
import { test } from "node:test";
import { QueueFeed } from "../../static/js/label/feed.js";
import { QueueBuffer } from "../../static/js/label/queue_buffer.js";

const lease = (token, id = token) => ({ token, expires_at: "t", image: { id, display_url: `/${id}` } });
const status = (ranking) => ({ ranking: ranking && { number: ranking }, model: null });
const settled = () => new Promise((done) => setTimeout(done, 5));
const signedOut = () => Object.assign(new Error("sign in"), { status: 401, needsLogin: true });

function setUp({ answers = [], prolonged = [], statuses = [], unsent = [] } = {}) {
  const asked = [];
  const heard = [];
  const released = [];
  const buffer = new QueueBuffer();
  const give = (list) => {
    const next = list.shift();
    if (next instanceof Error) throw next;
    return next ?? null;
  };
  const feed = new QueueFeed({
    leaseMinutes: 10,
    buffer,
    outbox: { leases: unsent },
    prefetch: { want: () => {} },
    server: {
      claim: async (n, options = {}) => {
        asked.push({ n, ...options });
        return give(answers);
      },
      prolong: async () => give(prolonged),
      status: async () => give(statuses),
      release: async (token) => void released.push(token),
      releaseOnLeave: (tokens) => released.push(...tokens),
    },
  });
  for (const name of ["arrived", "nothing", "status", "ranking", "lost", "login", "closed"]) {
    feed.addEventListener(name, (event) => heard.push([name, event.detail]));
  }
  const said = (name) => heard.filter((entry) => entry[0] === name).map((entry) => entry[1]);
  return { feed, buffer, asked, said, released };
}

test("images are claimed some ahead, and overlapping wishes share one claim", async () => {
  const { feed, buffer, asked, said } = setUp({
    answers: [{ leases: [lease("a"), lease("b")], empty: null, status: status(1) }],
    unsent: ["x"],
  });

  await Promise.all([feed.topUp(), feed.topUp()]);

  assert.deepEqual(asked, [{ n: 7 }]);
  assert.deepEqual(buffer.tokens, ["a", "b"]);
  assert.deepEqual(said("arrived"), [true]);
});

test("a new ranking replaces the images ahead but keeps the one on the screen and unsent labels", async () => {
  const { feed, buffer, asked, said } = setUp({
    answers: [
      { leases: [lease("a"), lease("b"), lease("c")], empty: null, status: status(1) },
      { leases: [lease("a"), lease("b"), lease("z")], empty: null, status: status(2) },
    ],
    statuses: [status(2)],
    unsent: ["u"],
  });
  await feed.topUp();

  await feed.poll();
  await settled();

  assert.deepEqual(asked[1], { n: 7, fresh: true, keep: ["a", "b", "u"] });
  assert.deepEqual(buffer.tokens, ["a", "b", "z"]);
  assert.equal(said("ranking").length, 1);
});

test("what is given back for a new order is not shown while the answer is on its way", async () => {
  let answer;
  const late = new Promise((done) => (answer = done));
  const { feed, buffer } = setUp({
    answers: [{ leases: [lease("a"), lease("b"), lease("c")], empty: null, status: status(1) }, late],
    statuses: [status(2)],
  });
  await feed.topUp();
  await feed.poll();
  await settled();

  buffer.finishCurrent();
  assert.equal(buffer.current.token, "b");
  buffer.finishCurrent();
  assert.equal(buffer.current, null);
  answer({ leases: [lease("b"), lease("z")], empty: null, status: status(2) });
  await settled();

  assert.deepEqual(buffer.tokens, ["z"]);
});

test("a claim that is on its way is waited for before a new order is followed", async () => {
  let answer;
  const late = new Promise((done) => (answer = done));
  const { feed, buffer, asked } = setUp({
    answers: [
      { leases: [lease("a")], empty: null, status: status(1) },
      late,
      { leases: [lease("a"), lease("b"), lease("z")], empty: null, status: status(2) },
    ],
    statuses: [status(2)],
  });
  await feed.topUp();
  const wish = feed.topUp();
  await feed.poll();
  await settled();
  assert.equal(asked.length, 2);

  answer({ leases: [lease("a"), lease("b"), lease("c")], empty: null, status: status(2) });
  await wish;
  await settled();

  assert.deepEqual(asked[2], { n: 6, fresh: true, keep: ["a", "b"] });
  assert.deepEqual(buffer.tokens, ["a", "b", "z"]);
});

test("the first ranking a page sees is no news", async () => {
  const { feed, said } = setUp({ answers: [{ leases: [lease("a")], empty: null, status: status(4) }] });

  await feed.topUp();

  assert.deepEqual(said("ranking"), []);
});

test("an empty queue says why and is asked again only when something changed", async () => {
  const why = { reason: "leased", sentence: "Two are with other people." };
  const nothing = { leases: [], empty: why, status: status(1) };
  const { feed, asked, said } = setUp({
    answers: [nothing, { leases: [lease("a")], empty: null, status: status(1) }],
    statuses: [null, status(1)],
  });

  await feed.topUp();
  await feed.poll();
  assert.equal(asked.length, 1);
  await feed.poll();

  assert.deepEqual(said("nothing"), [why]);
  assert.deepEqual(said("arrived"), [true]);
});

test("when an image ahead was lost another takes its place, quietly", async () => {
  const { feed, buffer, said } = setUp({
    answers: [
      { leases: [lease("a"), lease("b")], empty: null, status: status(1) },
      { leases: [lease("a"), lease("c")], empty: null, status: status(1) },
    ],
    prolonged: [{ leases: [lease("a")] }],
  });
  await feed.topUp();

  await feed.keepAlive();

  assert.deepEqual(said("lost"), []);
  assert.deepEqual(buffer.tokens, ["a", "c"]);
});

test("a person who lost the image on the screen gets nothing more before they do something", async () => {
  const { feed, buffer, asked, said, released } = setUp({
    answers: [
      { leases: [lease("a"), lease("b"), lease("c")], empty: null, status: status(1) },
      { leases: [lease("d")], empty: null, status: status(2) },
    ],
    prolonged: [{ leases: [lease("b")] }],
    statuses: [{ ...status(2), n_held_by_you: 1 }],
  });
  await feed.topUp();

  await feed.poll();
  await feed.keepAlive();
  await settled();

  assert.equal(said("lost").length, 1);
  assert.deepEqual(buffer.tokens, ["a"]);
  assert.deepEqual(released, ["b"]);
  assert.equal(asked.length, 1);
  buffer.finishCurrent();
  await feed.topUpIfShort();
  assert.deepEqual(buffer.tokens, ["d"]);
});

test("released by a lead, the image on the screen is told lost within one poll", async () => {
  const { feed, said } = setUp({
    answers: [{ leases: [lease("a"), lease("b")], empty: null, status: status(1) }],
    prolonged: [{ leases: [] }],
    statuses: [{ ...status(1), n_held_by_you: 2 }, { ...status(1), n_held_by_you: 0 }],
  });
  await feed.topUp();

  await feed.poll();
  assert.equal(said("lost").length, 0);
  await feed.poll();

  assert.equal(said("lost").length, 1);
});

test("a project that is closed to the person says so once, and goes on when it is open again", async () => {
  const gone = Object.assign(new Error("The project is archived."), { status: 410 });
  const { feed, buffer, said } = setUp({
    answers: [
      { leases: [lease("a")], empty: null, status: status(1) },
      { leases: [lease("b")], empty: null, status: status(1) },
    ],
    statuses: [gone, gone, status(1)],
  });
  await feed.topUp();

  await feed.poll();
  await feed.poll();
  assert.deepEqual(said("closed"), [{ reason: "closed", sentence: "The project is archived." }]);
  assert.equal(buffer.size, 0);
  await feed.poll();

  assert.deepEqual(buffer.tokens, ["b"]);
});

test("an ended session is noticed without giving a label, and its return too", async () => {
  const { feed, said } = setUp({ statuses: [signedOut(), null] });
  feed.topUpIfShort = async () => {};

  await feed.poll();
  await feed.poll();

  assert.deepEqual(said("login").slice(0, 2), [false, true]);
});

test("a failing claim with nothing on the screen says so instead of claiming that all is done", async () => {
  const { feed, said } = setUp({ answers: [new Error("The server cannot be reached.")] });

  await feed.topUp();

  assert.deepEqual(said("nothing"), [{ reason: "error", sentence: "The server cannot be reached." }]);
});

test("leaving gives back what was neither labelled nor waits to be sent", async () => {
  const { feed, released } = setUp({
    answers: [{ leases: [lease("a"), lease("b")], empty: null, status: status(1) }],
    unsent: ["a"],
  });
  await feed.topUp();

  feed.leave();

  assert.deepEqual(released, ["b"]);
});

test("an image that comes after the last one was labelled meanwhile is shown", async () => {
  const buffer = new QueueBuffer();
  buffer.add([lease("a")]);
  let answer;
  const feed = new QueueFeed({
    leaseMinutes: 10,
    server: { claim: () => new Promise((done) => (answer = done)), release: async () => null },
    outbox: { leases: [] },
    buffer,
    prefetch: { want() {} },
  });
  const arrived = [];
  feed.addEventListener("arrived", (event) => arrived.push(event.detail));

  const claim = feed.topUp();
  buffer.finishCurrent();
  answer({ leases: [lease("b")], empty: null, status: status(1) });
  await claim;

  assert.deepEqual(arrived, [true]);
});

test("an image that comes to a screen that is empty after prolonging is shown", async () => {
  const { feed, buffer, said } = setUp({
    answers: [
      { leases: [lease("a")], empty: null, status: status(1) },
      { leases: [lease("b")], empty: null, status: status(1) },
    ],
    prolonged: [{ leases: [] }],
  });
  await feed.topUp();

  const claim = feed.keepAlive();
  buffer.finishCurrent();
  await claim;

  assert.deepEqual(said("arrived"), [true, true]);
});
