import assert from "node:assert/strict";
import { test } from "node:test";

import { formatLine } from "../gateway/log.js";

const TIME = "2026-11-22T14:59:01.123Z";

function line(fields: object): string {
  return formatLine(JSON.stringify({ level: 30, time: TIME, ...fields }));
}

test("writes one readable line with time, level, message and fields", () => {
  assert.equal(
    line({ msg: "publisher opened", id: "a1", stream: "live/livestream", ms: 5, reason: "said so", codecs: ["h264"] }),
    '2026-11-22 14:59:01.123Z info  publisher opened id=a1 stream=live/livestream ms=5 reason="said so" codecs=["h264"]\n',
  );
  assert.match(line({ level: 50, msg: "x" }), /Z error x\n$/);
});

test("nothing that a client sends begins a line of its own or steers the terminal", () => {
  const text = line({ msg: "a\nb", stream: "x\r\n2026 info  fake\u001b[2J", key: "\u2028\u009b" });
  assert.equal(text.split("\n").length, 2);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
  assert.doesNotMatch(text.slice(0, -1), /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
});

test("shows the stack of an error, and only the message of a warning", () => {
  const err = { type: "Error", message: "boom", stack: "Error: boom\n    at a (x.js:1:2)" };
  assert.equal(
    line({ level: 50, msg: "failed", err }),
    "2026-11-22 14:59:01.123Z error failed error=boom\n    Error: boom\n    at a (x.js:1:2)\n",
  );
  assert.equal(line({ level: 40, msg: "failed", err }), "2026-11-22 14:59:01.123Z warn  failed error=boom\n");
});
