import assert from "node:assert/strict";
import { before, test } from "node:test";

import fc from "fast-check";

import { NutError, type NutFrame, NutReader } from "../../transcoder/nut.js";
import { runFfmpeg } from "../support/clip.js";

const TONE = ["-f", "lavfi", "-i", "sine=duration=2", "-c:a", "libopus", "-ar", "48000"];
const PICTURES = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=2", "-c:v", "libx264", "-bf", "0", "-g", "25"];
const NUT = ["-f", "nut", "pipe:1"];

let audio: Buffer;
let video: Buffer;
let both: Buffer;
before(async () => {
  audio = await runFfmpeg([...TONE, ...NUT]);
  video = await runFfmpeg([...PICTURES, ...NUT]);
  both = await runFfmpeg([...TONE.slice(0, 4), ...PICTURES.slice(0, 4), ...TONE.slice(4), ...PICTURES.slice(4), ...NUT]);
});

function read(chunks: Iterable<Buffer>): { frames: NutFrame[]; reader: NutReader } {
  const frames: NutFrame[] = [];
  const reader = new NutReader((frame) => frames.push(frame));
  for (const chunk of chunks) reader.push(chunk);
  return { frames, reader };
}

test("reads Opus: every packet, its time and the codec's data", () => {
  const { frames, reader } = read([audio]);
  const stream = reader.stream(0);
  assert.equal(stream?.streamClass, "audio");
  assert.equal(stream?.timeBaseDenominator, 48_000);
  assert.equal(stream?.codecSpecificData.subarray(0, 8).toString(), "OpusHead");
  assert.ok(frames.length >= 100);
  for (let i = 1; i < 100; i++) assert.equal((frames[i]?.pts ?? 0) - (frames[i - 1]?.pts ?? 0), 960);
});

test("reads H.264: key frames where they were asked for, sizes of all kinds", () => {
  const { frames, reader } = read([video]);
  assert.equal(reader.stream(0)?.streamClass, "video");
  assert.equal(frames.length, 50);
  assert.deepEqual(
    frames.flatMap((frame, i) => (frame.isKey ? [i] : [])),
    [0, 25],
  );
  for (const frame of frames) assert.ok(frame.data.readUIntBE(0, 3) === 1 || frame.data.readUInt32BE(0) === 1, "a start code");
});

test("tells the frames of two streams apart", () => {
  const { frames, reader } = read([both]);
  const classes = frames.map((frame) => reader.stream(frame.streamId)?.streamClass);
  assert.equal(classes.filter((name) => name === "video").length, 50);
  assert.ok(classes.filter((name) => name === "audio").length >= 100);
});

test("gives the same however the bytes are cut", () => {
  const whole = read([both]).frames;
  for (const size of [1, 7, 1_000]) {
    const chunks: Buffer[] = [];
    const source = size === 1 ? both.subarray(0, 20_000) : both;
    for (let offset = 0; offset < source.length; offset += size) chunks.push(source.subarray(offset, offset + size));
    const { frames } = read(chunks);
    assert.ok(frames.length > 3);
    assert.deepEqual(frames, whole.slice(0, frames.length));
    if (size !== 1) assert.equal(frames.length, whole.length);
  }
});

test("does not hold the memory it was given", () => {
  const copy = Buffer.from(audio);
  const { frames } = read([copy]);
  const before = frames.map((frame) => Buffer.from(frame.data));
  copy.fill(0);
  assert.deepEqual(
    frames.map((frame) => frame.data),
    before,
  );
});

test("refuses what is not NUT", () => {
  assert.throws(() => read([Buffer.alloc(100)]), NutError);
  assert.throws(() => read([Buffer.concat([audio.subarray(0, 25), Buffer.alloc(100)])]), NutError);
});

test("takes broken bytes without anything but a NutError, and within bounds", () => {
  const places = fc.array(fc.tuple(fc.integer({ min: 25, max: 6_000 }), fc.integer({ min: 0, max: 255 })), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(fc.constantFrom("audio", "video", "both"), places, (which, changes) => {
      const bytes = Buffer.from({ audio, video, both }[which].subarray(0, 60_000));
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      try {
        const { frames } = read([bytes.subarray(0, 3_000), bytes.subarray(3_000)]);
        for (const frame of frames) assert.ok(Number.isSafeInteger(frame.pts));
      } catch (error) {
        assert.ok(error instanceof NutError, String(error));
      }
    }),
    { seed: 2, numRuns: 500 },
  );
});
