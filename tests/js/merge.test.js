import assert from "node:assert/strict";
import { test } from "node:test";
import { merge } from "../../static/js/ui/merge.js";

test("what only they changed is taken over, and what both changed is shown", () => {
  const loaded = { name: "Pets", instructions: "one", batch: 20 };
  const mine = { name: "Pets", instructions: "mine", batch: 20 };
  const theirs = { name: "Animals", instructions: "theirs", batch: 20, version: 3 };

  assert.deepEqual(merge(loaded, mine, theirs), { taken: ["name"], conflicts: ["instructions"] });
});

test("the same change by both is no conflict, and nothing of theirs is taken twice", () => {
  const loaded = { name: "Pets", rule: null };

  assert.deepEqual(merge(loaded, { name: "A", rule: 4 }, { name: "A", rule: null }), { taken: [], conflicts: [] });
});
