import assert from "node:assert/strict";
import { test } from "node:test";
import { QueueBuffer } from "../../static/js/label/queue_buffer.js";

const lease = (token, id = token) => ({ token, expires_at: "t0", image: { id } });

test("images are shown in the order they were served", () => {
  const buffer = new QueueBuffer();

  buffer.add([lease("a"), lease("b")]);
  buffer.add([lease("b"), lease("c")]);

  assert.deepEqual(buffer.tokens, ["a", "b", "c"]);
  assert.equal(buffer.finishCurrent().token, "a");
  assert.equal(buffer.current.token, "b");
});

test("a finished image does not come in again with a late answer", () => {
  const buffer = new QueueBuffer();
  buffer.add([lease("a"), lease("b")]);
  buffer.finishCurrent();

  buffer.add([lease("a"), lease("c")]);

  assert.deepEqual(buffer.tokens, ["b", "c"]);
});

test("a new ranking replaces what is behind the image on the screen", () => {
  const buffer = new QueueBuffer();
  buffer.add([lease("a"), lease("b"), lease("c")]);

  buffer.replaceAhead([lease("a"), lease("x"), lease("y")]);

  assert.deepEqual(buffer.tokens, ["a", "x", "y"]);
});

test("an image whose label was taken back is shown first", () => {
  const buffer = new QueueBuffer();
  buffer.add([lease("a"), lease("b")]);
  buffer.finishCurrent();

  buffer.putBack(lease("a"));

  assert.deepEqual(buffer.tokens, ["a", "b"]);
});

test("lost leases are dropped but for the image on the screen", () => {
  const buffer = new QueueBuffer();
  buffer.add([lease("a"), lease("b"), lease("c")]);

  const lost = buffer.renew([{ token: "c", expires_at: "t1" }]);
  buffer.drop(lost.map((item) => item.token));

  assert.deepEqual(lost.map((item) => item.token), ["a", "b"]);
  assert.deepEqual(buffer.tokens, ["a", "c"]);
  assert.equal(buffer.ahead[0].expires_at, "t1");
});

test("an image that is finished while a claim is on its way is given back, not shown again", () => {
  const buffer = new QueueBuffer();
  buffer.add([lease("a", 1), lease("b", 2)]);
  buffer.finishCurrent(1000);

  const spare = buffer.add([lease("a2", 1), lease("c", 3)], 2000);

  assert.deepEqual(spare.map((item) => item.token), ["a2"]);
  assert.deepEqual(buffer.tokens, ["b", "c"]);
  assert.deepEqual(buffer.add([lease("a3", 1)], 60_000), []);
});

test("an image that is held already goes on under its newer lease", () => {
  const buffer = new QueueBuffer();
  buffer.add([lease("a", 1), lease("b", 2)]);
  const shown = buffer.current;

  buffer.add([lease("a2", 1)]);

  assert.equal(buffer.current, shown);
  assert.deepEqual(buffer.tokens, ["a2", "b"]);
});

test("an image whose label was refused comes next, not under the hands", () => {
  const buffer = new QueueBuffer();
  buffer.add([lease("a"), lease("b"), lease("c")]);
  const refused = buffer.finishCurrent();

  buffer.putNext(refused);

  assert.deepEqual(buffer.tokens, ["b", "a", "c"]);
});
