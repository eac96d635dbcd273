import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { formatLine, openLog } from "../gateway/log.js";

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

test("writes everything out before the end, and lets a reader that stalls lose lines instead of waiting for it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sluice-log-"));
  const path = join(folder, "pipe");
  execFileSync("mkfifo", [path]);
  const descriptor = openSync(path, constants.O_RDWR | constants.O_NONBLOCK); // one end that is both, so that nothing blocks
  try {
    const log = openLog({ level: "debug", format: "text" }, descriptor);
    log.logger.info("first");
    await log.flush();
    const buffer = Buffer.alloc(1 << 16);
    assert.match(buffer.toString("utf8", 0, readSync(descriptor, buffer)), /^\S+ \S+Z info {2}first\n$/);

    const machines = openLog({ level: "info", format: "json" }, descriptor);
    machines.logger.warn({ id: "a1" }, "second");
    await machines.flush();
    const { time, ...fields } = JSON.parse(buffer.toString("utf8", 0, readSync(descriptor, buffer))) as Record<string, unknown>;
    assert.ok(typeof time === "string");
    assert.deepEqual(fields, { level: "warn", id: "a1", msg: "second" });

    const started = performance.now();
    for (let index = 0; index < 10_000; index++) log.logger.debug({ index, text: "x".repeat(1000) }, "nobody reads");
    await log.flush();
    assert.ok(performance.now() - started < 10_000); // a pipe holds 64 KiB: an output that waits would never come here

    let text = "";
    for (const limit = performance.now() + 20_000; !text.includes("were lost"); ) {
      assert.ok(performance.now() < limit, "the number of lost lines is never told");
      text += readAvailable(descriptor, buffer);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const [, lost] = /(\d+) log lines were lost/.exec(text) ?? [];
    const shown = text.split("\n").filter((line) => line.includes("nobody reads")).length;
    assert.equal(shown + Number(lost), 10_000);
  } finally {
    closeSync(descriptor);
    rmSync(folder, { recursive: true });
  }
});

function readAvailable(descriptor: number, buffer: Buffer): string {
  try {
    return buffer.toString("utf8", 0, readSync(descriptor, buffer));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EAGAIN") return "";
    throw error;
  }
}

test("a log that nobody can read any more holds nothing up", async () => {
  const log = openLog({ level: "info", format: "json" }, 1_000_000); // no such descriptor: every write fails
  for (let index = 0; index < 10; index++) log.logger.info("into the void");
  await log.flush();
  await log.flush();
});

test("what one client makes happen again and again is written so often and then counted, in both forms", async () => {
  for (const format of ["text", "json"] as const) {
    const folder = mkdtempSync(join(tmpdir(), "sluice-log-"));
    const path = join(folder, "log");
    const descriptor = openSync(path, "w");
    try {
      const log = openLog({ level: "info", format }, descriptor);
      const child = log.logger.child({ session: "a1" });
      for (let count = 0; count < 1_000; count++) child.info({ peer: "192.0.2.1", count }, "rtmp publish refused");
      log.logger.info({ peer: "192.0.2.2" }, "rtmp publish refused");
      log.logger.info("something else");
      await log.flush();
      const lines = readFileSync(path, "utf8").trimEnd().split("\n");
      assert.ok(lines.length >= 103 && lines.length < 120, `${lines.length} lines`);
      assert.match(lines.at(-3) ?? "", /192\.0\.2\.2/);
      assert.match(lines.at(-2) ?? "", /something else/);
      const written = lines.filter(
        (line) => /publish refused.*192\.0\.2\.1|192\.0\.2\.1.*publish refused"\}$/.test(line) && !/left out/.test(line),
      );
      const last = lines.at(-1) ?? "";
      assert.match(last, /log lines left out/);
      const [, count] = /"?count"?[=:](\d+)/.exec(last) ?? [];
      assert.equal(Number(count), 1_000 - written.length);
    } finally {
      closeSync(descriptor);
      rmSync(folder, { recursive: true });
    }
  }
});
