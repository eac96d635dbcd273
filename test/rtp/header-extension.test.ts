import assert from "node:assert/strict";
import { test } from "node:test";

import { HeaderExtension } from "../../gateway/rtp/header-extension.js";

test("nothing in use writes nothing", () => {
  const extension = new HeaderExtension({ mid: 0, transportCc: 0, playoutDelay: 0 }, "0");
  assert.equal(extension.full(1, 2), undefined);
  assert.equal(extension.plain(1), undefined);
});

test("writes one-byte elements and pads to words", () => {
  const extension = new HeaderExtension({ mid: 9, transportCc: 4, playoutDelay: 5 }, "v1");
  assert.equal(extension.full(0xabcd, 0x001002)?.toString("hex"), "bede0003" + "41abcd" + "917631" + "52001002" + "0000");
  assert.equal(extension.plain(0x1234)?.toString("hex"), "bede0001" + "411234" + "00");
});

test("without a transport-wide number the same bytes are written always", () => {
  const extension = new HeaderExtension({ mid: 9, transportCc: 0, playoutDelay: 0 }, "0");
  assert.equal(extension.full(1, 0)?.toString("hex"), "bede0001" + "9030" + "0000");
  assert.equal(extension.plain(2)?.toString("hex"), extension.full(1, 0)?.toString("hex"));
});

test("never longer than the room that is kept for it: a long mid is left out", () => {
  const extension = new HeaderExtension({ mid: 9, transportCc: 4, playoutDelay: 5 }, "a-mid-of-sixteen");
  assert.equal(extension.full(1, 0)?.length, 12);
  const alone = new HeaderExtension({ mid: 9, transportCc: 4, playoutDelay: 0 }, "a-mid-of-sixteen");
  assert.equal(alone.full(1, 0)?.length, 24);
});
