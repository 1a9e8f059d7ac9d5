import assert from "node:assert/strict";
import { test } from "node:test";
import { QueueBuffer } from "../../static/js/label/queue_buffer.js";

const lease = (token) => ({ token, expires_at: "t0" });

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
