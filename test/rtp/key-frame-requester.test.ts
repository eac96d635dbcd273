import assert from "node:assert/strict";
import { test } from "node:test";

import { KeyFrameRequester } from "../../gateway/rtp/key-frame-requester.js";

function run(requester: KeyFrameRequester, from: number, to: number): void {
  for (let now = from; now <= to; now++) requester.onTimeout(now);
}

test("repeats until the key frame comes, with growing distance", () => {
  const at: number[] = [];
  const requester = new KeyFrameRequester((now) => void at.push(now));
  requester.request(1000);
  run(requester, 1001, 2000);
  assert.deepEqual(at, [1000, 1200, 1500, 1950]);
  requester.onKeyFrame();
  run(requester, 2001, 9000);
  assert.equal(at.length, 4);
  assert.equal(requester.nextTimeout(), Number.POSITIVE_INFINITY);
});

test("merges what many viewers ask for, and limits the rate between two key frames", () => {
  const at: number[] = [];
  const requester = new KeyFrameRequester((now) => void at.push(now));
  for (let viewer = 0; viewer < 100; viewer++) requester.request(1000 + viewer / 10);
  assert.deepEqual(at, [1000]);
  requester.onKeyFrame();
  requester.request(1050);
  assert.equal(at.length, 1, "the wish waits");
  assert.equal(requester.nextTimeout(), 1300);
  run(requester, 1051, 1400);
  assert.deepEqual(at, [1000, 1300]);
});

test("gives up on a sender that has none, and asks anew when somebody wants one", () => {
  let count = 0;
  const requester = new KeyFrameRequester(() => void count++);
  requester.request(0);
  for (let now = 0; now < 100_000; now += 100) requester.onTimeout(now);
  assert.equal(count, 30);
  assert.equal(requester.state, "idle");
  requester.request(100_000);
  assert.equal(count, 31);
});
