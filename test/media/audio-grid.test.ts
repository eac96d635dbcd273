import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import { AudioGrid } from "../../gateway/media/audio-grid.js";

/** Places of frames of 1,024 samples with these stamps, in samples. */
function places(rate: number, stamps: readonly number[]): number[] {
  const grid = new AudioGrid(rate);
  return stamps.map((stamp) => grid.place(stamp, 1024));
}

test("stamps in whole milliseconds become exact steps", () => {
  for (const rate of [44_100, 48_000, 22_050]) {
    const stamps = Array.from({ length: 5000 }, (_, i) => Math.floor((i * 1024 * 1000) / rate) * 1000 + 7_000_000);
    const got = places(rate, stamps);
    got.forEach((place, i) => {
      assert.equal(place - (got[0] ?? 0), i * 1024);
      assert.ok(Math.abs(place / rate - (stamps[i] ?? 0) / 1e6) <= 0.002);
    });
  }
});

test("a gap stays a gap and a jump back does not step back", () => {
  const step = 1024 / 48;
  const stamps = [0, 1, 2, 3].map((i) => Math.round(i * step) * 1000);
  const later = stamps.map((stamp) => stamp + 500_000);
  const got = places(48_000, [...stamps, ...later, 500_000]);
  assert.equal(got[4], 24_000);
  assert.equal(got[8], (got[7] as number) + 1, "an absurd stamp costs one sample, no time runs back");
});

test("a sound card that drifts is followed a sample at a time", () => {
  for (const drift of [300e-6, -300e-6]) {
    const stamps = Array.from({ length: 20_000 }, (_, i) => Math.round(i * 1024 * (1 + drift) * (1e6 / 48_000)));
    const got = places(48_000, stamps);
    for (let i = 1; i < got.length; i++) {
      const step = (got[i] as number) - (got[i - 1] as number);
      assert.ok(Math.abs(step - 1024) <= 1, `a step of ${step} samples`);
      assert.ok(Math.abs((got[i] as number) / 48_000 - (stamps[i] as number) / 1e6) < 0.01);
    }
  }
});

test("property: never back, and never more than 40 ms and a sample from the stamp", () => {
  const steps = fc.array(
    fc.oneof(fc.constant(21_333), fc.integer({ min: 0, max: 60_000 }), fc.integer({ min: 0, max: 10_000_000 })),
    {
      maxLength: 60,
    },
  );
  fc.assert(
    fc.property(fc.constantFrom(8000, 44_100, 48_000), fc.integer({ min: 0, max: 10 ** 13 }), steps, (rate, start, jumps) => {
      let stamp = start;
      const stamps = [start, ...jumps.map((jump) => (stamp += jump))];
      const got = places(rate, stamps);
      let backlog = 0; // stamps that stand still cannot be followed: each frame is at least one sample later
      got.forEach((place, i) => {
        assert.ok(i === 0 || place > (got[i - 1] as number));
        backlog += 1;
        assert.ok(Math.abs(place / rate - (stamps[i] as number) / 1e6) <= 0.04 + (backlog + 1) / rate);
      });
    }),
  );
});
