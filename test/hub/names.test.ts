import assert from "node:assert/strict";
import { test } from "node:test";

import { displayName, shownId } from "../../gateway/hub/names.js";

test("a stream is app/stream, with its vhost only when that is not the default one", () => {
  assert.equal(displayName({ vhost: "__defaultVhost__", app: "live", stream: "livestream" }), "live/livestream");
  assert.equal(displayName({ vhost: "a.example", app: "live", stream: "livestream" }), "a.example/live/livestream");
});

test("the id that is shown is always the same, short, and no part of the session's own", () => {
  const id = "Zm9vYmFyYmF6cXV4MTIzNDU2";
  assert.equal(shownId(id), shownId(id));
  assert.match(shownId(id), /^[0-9a-f]{10}$/);
  assert.ok(!id.includes(shownId(id)) && !id.startsWith(shownId(id).slice(0, 4)));
  assert.notEqual(shownId(id), shownId(`${id}x`));
});
