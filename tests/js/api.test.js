import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError } from "../../static/js/net/api.js";

const error = (status, code = "x") => new ApiError({ status, code, detail: "" });

test("a request that is still being worked on is sent again and one that is refused is not", () => {
  assert.equal(error(409, "idempotency-in-progress").isTemporary, true);
  assert.equal(error(429, "rate-limited").isTemporary, true);
  assert.equal(error(503).isTemporary, true);
  assert.equal(error(0).isTemporary, true);
  assert.equal(error(409, "lease-lost").isTemporary, false);
  assert.equal(error(422).isTemporary, false);
});
