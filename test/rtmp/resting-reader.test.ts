import assert from "node:assert/strict";
import { test } from "node:test";

import { RestingReader } from "../../gateway/rtmp/resting-reader.js";
import { FakeClock } from "../support/fake-clock.js";

function set() {
  const clock = new FakeClock();
  const calls: string[] = [];
  let watched = false;
  const socket = { pause: () => calls.push("pause"), resume: () => calls.push("resume"), readableLength: 0 };
  const reader = new RestingReader(socket, clock, () => watched);
  const watch = (now: boolean): void => {
    watched = now;
  };
  return { clock, calls, reader, watch, socket };
}

test("reads everything at once in the first seconds, then seven times a second", () => {
  const { clock, calls, reader } = set();
  for (let ms = 0; ms < 2_900; ms += 100) {
    reader.read(31_250); // 2.5 Mbit/s
    clock.advance(100);
  }
  assert.deepEqual(calls, []);
  clock.advance(200);
  reader.read(62_500);
  assert.deepEqual(calls, ["pause"]);
  clock.advance(149);
  assert.deepEqual(calls, ["pause"]);
  clock.advance(1);
  assert.deepEqual(calls, ["pause", "resume"]);
});

test("does not rest while somebody watches", () => {
  const { clock, calls, reader, watch } = set();
  clock.advance(5_000);
  watch(true);
  reader.read(1_000);
  assert.deepEqual(calls, []);
  watch(false);
  reader.read(1_000);
  assert.deepEqual(calls, ["pause"]);
});

test("hands out all that was read meanwhile before it rests again", () => {
  const { clock, calls, reader, socket } = set();
  clock.advance(5_000);
  reader.read(500);
  clock.advance(150);
  socket.readableLength = 1_000; // two pieces that came before the kernel was left alone
  for (socket.readableLength of [500, 0]) {
    assert.deepEqual(calls, ["pause", "resume"]);
    reader.read(500);
  }
  assert.deepEqual(calls, ["pause", "resume", "pause"]);
});

test("rests shorter the more comes, and not at all for a very fast publisher", () => {
  const { clock, calls, reader } = set();
  clock.advance(5_000);
  reader.read(5_000 * 1_250); // 10 Mbit/s: 48 KiB are there in 39.3 ms
  clock.advance(39);
  assert.deepEqual(calls, ["pause"]);
  clock.advance(1);
  assert.deepEqual(calls, ["pause", "resume"]);
  reader.read(100 * 12_500);
  assert.deepEqual(calls, ["pause", "resume"]);
});

test("leaves no timer behind and the socket reading", () => {
  const { clock, calls, reader } = set();
  clock.advance(5_000);
  reader.read(100);
  reader.stop();
  assert.equal(clock.pending, 0);
  assert.deepEqual(calls, ["pause", "resume"]);
});
