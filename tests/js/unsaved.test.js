import assert from "node:assert/strict";
import { test } from "node:test";
import { Unsaved } from "../../static/js/ui/unsaved.js";

test("a form is unsaved from the first edit until the server has it", () => {
  const fields = { batch_size: 20 };
  const unsaved = new Unsaved(() => fields);
  assert.equal(unsaved.isDirty, false);

  fields.batch_size = 7;
  assert.equal(unsaved.isDirty, true);
  unsaved.sending();
  assert.equal(unsaved.isDirty, true);
  unsaved.saved();
  assert.equal(unsaved.isDirty, false);
});

test("what is typed while the form is sent is not taken for saved", () => {
  const fields = { batch_size: 7 };
  const unsaved = new Unsaved(() => fields);

  fields.batch_size = 8;
  unsaved.sending();
  fields.batch_size = 9;
  unsaved.saved();

  assert.equal(unsaved.isDirty, true);
  fields.batch_size = 8;
  assert.equal(unsaved.isDirty, false);
});
