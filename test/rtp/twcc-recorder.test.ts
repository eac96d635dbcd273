import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { MAX_TWCC_FEEDBACK, TwccRecorder } from "../../gateway/rtp/twcc-recorder.js";

type Told = {
  readonly base: number;
  readonly count: number;
  readonly packet: Buffer;
  readonly arrivals: ReadonlyMap<number, number>;
};

/** Reads a feedback as the draft describes it; apart from the recorder's own code. Arrivals in quarters of a millisecond. */
function read(packet: Buffer): Told {
  assert.equal(packet.length, (packet.readUInt16BE(2) + 1) * 4);
  assert.equal(packet.readUInt8(1), 205);
  assert.equal(packet.readUInt8(0) & 0xdf, 0x8f);
  const base = packet.readUInt16BE(12);
  const count = packet.readUInt16BE(14);
  let time = packet.readUIntBE(16, 3) * 256;
  const statuses: number[] = [];
  let at = 20;
  while (statuses.length < count) {
    const chunk = packet.readUInt16BE(at);
    at += 2;
    if (chunk < 0x8000) for (let i = 0; i < (chunk & 0x1fff); i++) statuses.push(chunk >> 13);
    else if (chunk < 0xc000) for (let i = 13; i >= 0; i--) statuses.push((chunk >> i) & 1);
    else for (let i = 12; i >= 0; i -= 2) statuses.push((chunk >> i) & 3);
  }
  const arrivals = new Map<number, number>();
  statuses.slice(0, count).forEach((status, index) => {
    assert.notEqual(status, 3);
    if (status === 0) return;
    time += status === 1 ? packet.readUInt8(at) : packet.readInt16BE(at);
    at += status;
    arrivals.set((base + index) & 0xffff, time);
  });
  const padding = (packet.readUInt8(0) & 0x20) === 0 ? 0 : packet.readUInt8(packet.length - 1);
  assert.equal(at + padding, packet.length);
  assert.ok(padding < 4);
  return { base, count, packet, arrivals };
}

function take(recorder: TwccRecorder): Told[] {
  const told: Told[] = [];
  while (recorder.pending > 0) {
    const out = Buffer.alloc(MAX_TWCC_FEEDBACK + 8);
    const end = recorder.write(out, 8, 0x11111111, 0x22222222);
    assert.ok(end > 8);
    told.push(read(out.subarray(8, end)));
    assert.ok(told.length < 100, "it never ends");
  }
  return told;
}

test("tells what came and when, over the wrap of the number", () => {
  const recorder = new TwccRecorder();
  for (let i = 0; i < 100; i++) if (i % 7 !== 3) recorder.record(5000 + i * 2, (0xffd0 + i) & 0xffff);
  const [told, ...more] = take(recorder);
  assert.equal(more.length, 0);
  assert.equal(told?.base, 0xffd0);
  assert.equal(told?.count, 100);
  for (let i = 0; i < 100; i++) {
    assert.equal(told?.arrivals.get((0xffd0 + i) & 0xffff), i % 7 === 3 ? undefined : (5000 + i * 2) * 4);
  }
  const out = Buffer.alloc(MAX_TWCC_FEEDBACK);
  assert.equal(recorder.write(out, 0, 1, 2), 0, "nothing new, nothing told");
});

test("numbers its feedback and goes on where it ended", () => {
  const recorder = new TwccRecorder();
  recorder.record(100, 1);
  const first = take(recorder)[0];
  recorder.record(110, 4);
  const second = take(recorder)[0];
  assert.equal(first?.packet.readUInt8(19), 0);
  assert.equal(second?.packet.readUInt8(19), 1);
  assert.equal(second?.base, 2);
  assert.deepEqual([...(second?.arrivals.keys() ?? [])], [4]);
});

test("tells again from a packet that came late", () => {
  const recorder = new TwccRecorder();
  recorder.record(100, 1);
  recorder.record(102, 3);
  take(recorder);
  recorder.record(130, 2);
  const [told] = take(recorder);
  assert.deepEqual(
    [...(told?.arrivals.entries() ?? [])],
    [
      [2, 520],
      [3, 408],
    ],
  );
});

test("arrivals more than 8 s apart go into two feedbacks", () => {
  const recorder = new TwccRecorder();
  recorder.record(100, 1);
  recorder.record(20_000, 2);
  const told = take(recorder);
  assert.equal(told.length, 2);
  assert.equal(told[1]?.arrivals.get(2), 80_000);
});

test("a duplicate changes nothing, a number from far behind is left out, many of them are a new numbering", () => {
  const recorder = new TwccRecorder();
  recorder.record(100, 30_000);
  recorder.record(101, 30_000);
  assert.equal(recorder.pending, 1);
  recorder.record(102, 20_000);
  assert.equal(recorder.pending, 1);
  take(recorder);
  for (let i = 0; i < 60; i++) recorder.record(200 + i, i);
  const told = take(recorder);
  assert.ok(told.length > 0);
  assert.equal(told[0]?.arrivals.get(59), (200 + 59) * 4);
});

test("a long outage is told in bounds", () => {
  const recorder = new TwccRecorder();
  recorder.record(100, 0);
  take(recorder);
  recorder.record(3000, 1500);
  const told = take(recorder);
  assert.equal(told.length, 1);
  assert.ok((told[0]?.count ?? 0) <= 400);
  assert.equal(told[0]?.arrivals.get(1500), 12_000);
});

test("whatever comes in whatever order, each arrival is told as it was", () => {
  fc.assert(
    fc.property(
      fc.nat(0xffff),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 700 }), fc.integer({ min: 0, max: 3000 })), { maxLength: 300 }),
      (start, packets) => {
        const recorder = new TwccRecorder();
        const expected = new Map<number, number>();
        const told = new Map<number, number>();
        let now = 10_000;
        recorder.record(now, start);
        expected.set(start, now * 4);
        packets.forEach(([offset, wait], index) => {
          now += wait / 10;
          const number = (start + offset) & 0xffff;
          recorder.record(now, number);
          if (!expected.has(number)) expected.set(number, Math.round(now * 4));
          if (index % 40 === 39)
            for (const { arrivals } of take(recorder)) for (const [key, value] of arrivals) told.set(key, value);
        });
        for (const { arrivals } of take(recorder)) for (const [key, value] of arrivals) told.set(key, value);
        for (const [number, at] of told) assert.equal(at, expected.get(number));
        assert.ok(told.size <= expected.size);
        if (packets.every(([offset]) => offset <= 300)) assert.equal(told.size, expected.size);
      },
    ),
  );
});
