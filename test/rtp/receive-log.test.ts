import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { ReceiveLog } from "../../gateway/rtp/receive-log.js";

for (const start of [0, 1, 0x7fff, 0xfff0, 0xffff]) {
  test(`counts losses from ${start} on, over the wrap`, () => {
    const log = new ReceiveLog(90_000);
    for (let i = 0; i < 100; i++) if (i % 10 !== 5) log.add((start + i) & 0xffff);
    assert.equal(log.expected, 100);
    assert.equal(log.lost, 10);
    assert.equal(log.takeFractionLost(), 25); // 10 / 100 in 1/256
    for (let i = 100; i < 200; i++) log.add((start + i) & 0xffff);
    assert.equal(log.takeFractionLost(), 0);
    assert.equal(log.lost, 10);
  });
}

test("a late packet is no loss, a duplicate counts against loss, a repaired one stays lost", () => {
  const log = new ReceiveLog(90_000);
  assert.equal(log.add(10), "next");
  assert.equal(log.add(13), "gap");
  assert.equal(log.add(11), "late");
  assert.equal(log.add(11), "duplicate");
  assert.equal(log.lost, 0);
  assert.equal(log.duplicates, 1);
  assert.equal(log.has(log.highest - 1), false);
  assert.equal(log.repair(log.highest - 1), "repaired");
  assert.equal(log.repair(log.highest - 1), "known");
  assert.equal(log.lost, 0);
});

test("a lone stranger is dropped, two in a row are a new numbering and lose nothing", () => {
  const log = new ReceiveLog(90_000);
  log.add(100);
  assert.equal(log.add(40_000), "suspect");
  assert.equal(log.add(101), "next");
  assert.equal(log.add(40_001), "suspect");
  assert.equal(log.add(40_002), "restart");
  assert.equal(log.sequenceNumber & 0xffff, 40_002);
  assert.equal(log.expected, 3);
  assert.equal(log.lost, 0);
  assert.equal(log.add(40_003), "next");
  assert.equal(log.add(39_999), "duplicate", "nothing of before is missing any more");
});

test("jitter is that of RFC 3550: a steady source has none, a wandering one its mean deviation", () => {
  const steady = new ReceiveLog(48_000);
  for (let i = 0; i < 200; i++) steady.time(i * 20, i * 960);
  assert.ok(steady.jitter < 1e-6);
  const wandering = new ReceiveLog(48_000);
  for (let i = 0; i < 2000; i++) wandering.time(i * 20 + (i % 2) * 5, i * 960);
  assert.ok(Math.abs(wandering.jitter - 240) < 5, `${wandering.jitter}`); // every step is off by 5 ms: 240 ticks
  wandering.time(40_000, 1e9);
  assert.ok(wandering.jitter < 300, "a jump of the timestamps is no jitter");
});

test("expected is received plus what never came, whatever the order", () => {
  fc.assert(
    fc.property(fc.nat(0xffff), fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { maxLength: 59 }), (start, offsets) => {
      const log = new ReceiveLog(90_000);
      log.add(start);
      for (const offset of offsets) log.add((start + offset) & 0xffff);
      assert.equal(log.received, offsets.length + 1);
      assert.equal(log.lost, Math.max(0, ...offsets) - offsets.length);
      for (let i = 1; i <= Math.max(0, ...offsets); i++) assert.equal(log.has(0x10000 + start + i), offsets.includes(i));
    }),
  );
});
