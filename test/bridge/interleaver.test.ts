import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { Interleaver } from "../../gateway/bridge/interleaver.js";
import type { Frame } from "../../gateway/media/frame.js";
import { FakeClock } from "../support/fake-clock.js";
import { audioFrame, videoFrame } from "../support/frames.js";

function setUp(): { clock: FakeClock; out: Frame[]; interleaver: Interleaver; order: () => string[] } {
  const clock = new FakeClock();
  const out: Frame[] = [];
  const interleaver = new Interleaver(clock, (frame) => void out.push(frame));
  return { clock, out, interleaver, order: () => out.map((frame) => `${frame.kind[0]}${frame.dts / 1000}`) };
}

test("a picture waits for the sound before it", () => {
  const { interleaver, order } = setUp();
  interleaver.expect("audio", true);
  interleaver.expect("video", true);
  for (const ms of [0, 40, 80]) interleaver.push(videoFrame(ms * 1000));
  assert.deepEqual(order(), []);
  for (const ms of [10, 31, 52]) interleaver.push(audioFrame(ms * 1000));
  assert.deepEqual(order(), ["v0", "a10", "a31", "v40", "a52"]);
});

test("a track that nobody expects is not waited for", () => {
  const { interleaver, order } = setUp();
  interleaver.push(videoFrame(0));
  interleaver.push(videoFrame(40_000));
  assert.deepEqual(order(), ["v0", "v40"]);
  interleaver.expect("audio", true);
  interleaver.push(videoFrame(80_000));
  assert.deepEqual(order(), ["v0", "v40"]);
  interleaver.expect("audio", false);
  assert.deepEqual(order(), ["v0", "v40", "v80"]);
});

test("patience ends; sound that comes after that is left out, and the next is waited for longer", () => {
  const { clock, interleaver, order } = setUp();
  interleaver.expect("audio", true);
  interleaver.push(videoFrame(100_000));
  clock.advance(299);
  assert.deepEqual(order(), []);
  clock.advance(1);
  assert.deepEqual(order(), ["v100"]);
  interleaver.push(audioFrame(50_000));
  interleaver.push(audioFrame(120_000));
  assert.deepEqual(order(), ["v100", "a120"]);
  assert.equal(interleaver.dropped, 1);
  interleaver.push(videoFrame(140_000));
  clock.advance(310);
  assert.deepEqual(order(), ["v100", "a120"]);
  clock.advance(10);
  assert.deepEqual(order(), ["v100", "a120", "v140"]);
});

test("a picture that comes too late is decoded a little later", () => {
  const { clock, interleaver, out } = setUp();
  interleaver.expect("video", true);
  interleaver.push(audioFrame(100_000));
  clock.advance(200);
  interleaver.push(videoFrame(90_000));
  assert.deepEqual(
    out.map((frame) => [frame.kind, frame.dts, frame.pts]),
    [
      ["audio", 100_000, 100_000],
      ["video", 100_000, 100_000],
    ],
  );
});

test("clear leaves nothing behind", () => {
  const { clock, interleaver, out } = setUp();
  interleaver.expect("audio", true);
  interleaver.push(videoFrame(0));
  interleaver.clear();
  clock.advance(1000);
  assert.equal(out.length, 0);
  assert.equal(clock.pending, 0);
});

test("whatever comes when, what leaves is in order, no picture is lost, and nothing waits for ever", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 90 })), { maxLength: 80 }),
      (steps) => {
        const { clock, interleaver, out } = setUp();
        interleaver.expect("audio", true);
        interleaver.expect("video", true);
        const next = { audio: 0, video: 0 };
        let pictures = 0;
        for (const [isVideo, step, wait] of steps) {
          const kind = isVideo ? "video" : "audio";
          next[kind] += step * 1000;
          if (isVideo) pictures++;
          interleaver.push(isVideo ? videoFrame(next.video) : audioFrame(next.audio));
          clock.advance(wait);
        }
        clock.advance(2000);
        assert.equal(out.filter((frame) => frame.kind === "video").length, pictures);
        assert.equal(out.length + interleaver.dropped, steps.length);
        for (let i = 1; i < out.length; i++) assert.ok((out[i] as Frame).dts >= (out[i - 1] as Frame).dts);
        assert.equal(clock.pending, 0);
      },
    ),
  );
});
