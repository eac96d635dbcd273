import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import type { Frame } from "../../gateway/media/frame.js";
import { MediaChild } from "../../transcoder/child.js";
import { FfmpegTranscoders, findFfmpeg } from "../../transcoder/ffmpeg.js";
import type { TranscodedFrame } from "../../transcoder/transcoder.js";
import { childrenOf, eventually } from "../support/child.js";
import { demoClip } from "../support/clip.js";

const sound = demoClip({ duration: 2, tracks: "audio" });

async function soundFrames(): Promise<{ config: Buffer; frames: Frame[] }> {
  const clip = await sound;
  return {
    config: clip.find((frame) => frame.isConfig)?.data ?? Buffer.alloc(0),
    frames: clip.filter((frame) => frame.kind === "audio" && !frame.isConfig),
  };
}

test("finds ffmpeg and what it can do", async () => {
  const found = await findFfmpeg("");
  assert.ok(typeof found !== "string");
  assert.ok(found.libopus && found.libx264 && found.nut);
  assert.match(found.version, /^\S+$/);
});

test("says which configured ffmpeg does not run, and refuses to transcode", async () => {
  const transcoders = await FfmpegTranscoders.create({ path: "/nonexistent/ffmpeg" });
  assert.match(transcoders.audioRefusal ?? "", /\/nonexistent\/ffmpeg/);
  assert.equal(transcoders.audioRefusal, transcoders.videoRefusal);
  const events = { onFrame: () => {}, onEnd: () => {} };
  assert.throws(() => transcoders.audio({ codec: "aac", config: Buffer.alloc(2), bitrate: 64_000 }, events), /nonexistent/);
  await transcoders.close();
});

test("says what a poor ffmpeg lacks", async () => {
  const folder = await mkdtemp(join(tmpdir(), "poor-ffmpeg-"));
  const path = join(folder, "ffmpeg");
  await writeFile(
    path,
    '#!/bin/sh\ncase "$2" in -version) echo "ffmpeg version 9.9 Copyright";; -muxers) echo "  E nut             NUT";; esac\n',
  );
  await chmod(path, 0o755);
  const transcoders = await FfmpegTranscoders.create({ path });
  await rm(folder, { recursive: true });
  assert.match(transcoders.audioRefusal ?? "", /9\.9.*without libopus$/);
  assert.match(transcoders.videoRefusal ?? "", /without libx264$/);
});

test("makes Opus of AAC, and is gone after close", async () => {
  const { config, frames } = await soundFrames();
  const transcoders = await FfmpegTranscoders.create();
  const out: TranscodedFrame[] = [];
  const transcoder = transcoders.audio(
    { codec: "aac", config, bitrate: 64_000 },
    { onFrame: (frame) => out.push(frame), onEnd: assert.fail },
  );
  for (const [i, frame] of frames.entries()) assert.equal(transcoder.write(frame.data, i * 21_333, i * 21_333, true), true);
  await eventually("two seconds of Opus", () => (out.length >= 97 ? true : undefined));
  assert.equal(out[0]?.pts, -2_500, "the encoder's lead-in");
  assert.equal(out[40]?.pts, 40 * 20_000 - 2_500);
  transcoder.close();
  transcoder.close();
  const count = out.length;
  assert.equal(transcoder.write(Buffer.alloc(10), 0, 0, true), false);
  await transcoders.close();
  assert.equal(transcoders.running, 0);
  assert.equal(out.length, count);
  assert.deepEqual(
    childrenOf(process.pid).filter((child) => child.command.includes("ffmpeg")),
    [],
  );
});

test("tells that the child was killed, once, and with how", async () => {
  const { config, frames } = await soundFrames();
  const transcoders = await FfmpegTranscoders.create();
  const ends: string[] = [];
  let count = 0;
  const events = { onFrame: () => void count++, onEnd: (reason: string) => void ends.push(reason) };
  const transcoder = transcoders.audio({ codec: "aac", config, bitrate: 64_000 }, events);
  for (const [i, frame] of frames.entries()) transcoder.write(frame.data, i * 21_333, 0, true);
  await eventually("output", () => (count > 10 ? true : undefined));
  const [child] = childrenOf(process.pid).filter((one) => one.command.includes("ffmpeg"));
  assert.ok(child !== undefined);
  process.kill(child.pid, "SIGKILL");
  await eventually("the end", () => (ends.length > 0 ? true : undefined));
  for (let i = 0; i < 100; i++) transcoder.write(Buffer.alloc(1_000), 3_000_000, 0, true); // into the void
  transcoder.close();
  await transcoders.close();
  assert.deepEqual(ends, ["ended by SIGKILL"]);
});

test("gives the last lines of a child that fails, and logs a bounded number of them", async () => {
  const lines: string[] = [];
  const reason = await new Promise<string>((resolve) => {
    new MediaChild({
      command: process.execPath,
      arguments: [
        "-e",
        "for (let i = 0; i < 300; i++) console.error('line ' + i); process.stderr.write('the cause'); process.exitCode = 3",
      ],
      queueLimit: 1_000,
      onOutput: () => {},
      onEnd: resolve,
      log: (line) => lines.push(line),
    });
  });
  assert.equal(reason, "ended with code 3; line 298; line 299; the cause");
  assert.equal(lines.length, 101);
});

test("refuses bytes beyond its queue instead of keeping them", async () => {
  const child = new MediaChild({
    command: process.execPath,
    arguments: ["-e", "setInterval(() => {}, 1000)"], // reads nothing
    queueLimit: 1_000_000,
    onOutput: () => {},
    onEnd: () => assert.fail("it was closed"),
    log: () => {},
  });
  let taken = 0;
  while (taken < 100 && child.write(Buffer.alloc(100_000))) taken++;
  assert.ok(taken >= 10 && taken < 20, `${taken} writes were taken`);
  child.close();
  await child.gone; // it reads no end of input: SIGTERM ends it
});

test("ends a child that ignores its input's end and SIGTERM", { timeout: 10_000 }, async () => {
  let isReady = false;
  const child = new MediaChild({
    command: process.execPath,
    arguments: ["-e", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('ready')"],
    queueLimit: 1_000,
    onOutput: () => {
      isReady = true;
    },
    onEnd: () => assert.fail("it was closed"),
    log: () => {},
  });
  await eventually("ready", () => (isReady ? true : undefined));
  child.close();
  await child.gone;
});

for (const [what, args, expected] of [
  ["an event", [], /ENOENT/],
  ["an exception", ["\0"], /null bytes/],
] as const) {
  test(`tells a command that cannot be started, by ${what}`, async () => {
    const reason = await new Promise<string>((resolve) => {
      new MediaChild({
        command: "/nonexistent/ffmpeg",
        arguments: args,
        queueLimit: 1_000,
        onOutput: () => {},
        onEnd: resolve,
        log: () => {},
      }).write(Buffer.alloc(10));
    });
    assert.match(reason, expected);
  });
}

test("ends a child whose output makes no sense", async () => {
  const reason = await new Promise<string>((resolve) => {
    new MediaChild({
      command: process.execPath,
      arguments: ["-e", "console.log('x')"],
      queueLimit: 1_000,
      onOutput: () => {
        throw new Error("not a NUT file");
      },
      onEnd: resolve,
      log: () => {},
    });
  });
  assert.equal(reason, "not a NUT file");
});

test("stays out of the terminal's signals", async () => {
  const { config, frames } = await soundFrames();
  const transcoders = await FfmpegTranscoders.create();
  const ends: string[] = [];
  const transcoder = transcoders.audio(
    { codec: "aac", config, bitrate: 64_000 },
    { onFrame: () => {}, onEnd: (reason) => ends.push(reason) },
  );
  transcoder.write(frames[0]?.data ?? Buffer.alloc(0), 0, 0, true);
  const [child] = childrenOf(process.pid).filter((one) => one.command.includes("ffmpeg"));
  assert.ok(child !== undefined);
  if (process.platform === "linux") {
    const { readFile } = await import("node:fs/promises");
    const groupOf = async (pid: number) => (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ")[2];
    assert.notEqual(await groupOf(child.pid), await groupOf(process.pid), "a process group of its own: Ctrl-C does not reach it");
  }
  await transcoders.close();
  assert.deepEqual(ends, []);
});
