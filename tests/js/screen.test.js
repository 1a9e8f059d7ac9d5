import assert from "node:assert/strict";
import { test } from "node:test";
import { noSuggestion } from "../../static/js/label/screen.js";

test("a page without a suggestion says whether it is hidden, missing or none", () => {
  assert.match(noSuggestion({ kind: "heuristic", explored: true, model: 3 }), /hidden.*at random/);
  assert.match(noSuggestion({ kind: "begun", model: 3 }), /hidden.*several people/);
  assert.match(noSuggestion({ kind: "heuristic", model: 3 }), /none of the classes/);
  assert.match(noSuggestion({ kind: "unranked", model: null }), /no model has seen/);
});
