import assert from "node:assert/strict";
import { test } from "node:test";

import { Timeline } from "../../gateway/hub/timeline.js";

const MS = 1000;

/** Feeds frames as [track, publisher ms, arrival ms] and returns the mapped ms. */
function run(timeline: Timeline, frames: readonly (readonly [string, number, number])[]): number[] {
  return frames.map(([track, dts, arrival]) => timeline.map(track, dts * MS, arrival * MS) / MS);
}

test("puts the first frame at its arrival and keeps the publisher's distances", () => {
  const mapped = run(new Timeline(0), [
    ["video", 5000, 700],
    ["audio", 5010, 700],
    ["video", 5040, 755],
    ["audio", 5033, 760],
  ]);
  assert.deepEqual(mapped, [700, 710, 740, 733]);
});

test("starts behind the stream's previous publisher", () => {
  const mapped = run(new Timeline(900 * MS), [
    ["video", 0, 700],
    ["video", 40, 740],
  ]);
  assert.deepEqual(mapped, [900, 940]);
});

test("flattens a small step back instead of passing it on", () => {
  const mapped = run(new Timeline(0), [
    ["audio", 100, 0],
    ["audio", 120, 20],
    ["audio", 115, 40],
    ["audio", 140, 60],
  ]);
  assert.deepEqual(mapped, [0, 20, 20, 40]);
});

test("bridges a jump back by the time that really passed, in both tracks alike", () => {
  const timeline = new Timeline(0);
  const mapped = run(timeline, [
    ["video", 10_000, 0],
    ["audio", 10_005, 0],
    ["video", 10_040, 40],
    ["audio", 10_026, 40],
    ["video", 0, 80], // the encoder restarted its clock
    ["audio", 10_047, 80], // audio of the old clock, still on its way
    ["audio", 5, 100],
    ["video", 40, 120],
  ]);
  assert.deepEqual(mapped, [0, 5, 40, 26, 80, 47, 85, 120]);
  assert.equal(timeline.jumps, 1);
});

test("bridges a jump forward that the clock on the wall does not confirm", () => {
  const mapped = run(new Timeline(0), [
    ["video", 0, 0],
    ["video", 40, 40],
    ["video", 3_600_040, 80],
    ["video", 3_600_080, 120],
  ]);
  assert.deepEqual(mapped, [0, 40, 80, 120]);
});

test("keeps a pause that the clock on the wall confirms", () => {
  const mapped = run(new Timeline(0), [
    ["video", 0, 0],
    ["video", 40, 40],
    ["video", 20_040, 20_040],
  ]);
  assert.deepEqual(mapped, [0, 40, 20_040]);
});

test("places a track that appears later by the clock it shares", () => {
  const mapped = run(new Timeline(0), [
    ["video", 1000, 0],
    ["video", 6000, 5000],
    ["audio", 6010, 5020],
  ]);
  assert.deepEqual(mapped, [0, 5000, 5010]);
});

test("places a track with a clock of its own at its arrival", () => {
  const mapped = run(new Timeline(0), [
    ["video", 1000, 0],
    ["video", 6000, 5000],
    ["audio", 900_000_000, 5020],
    ["audio", 900_000_021, 5041],
  ]);
  assert.deepEqual(mapped, [0, 5000, 5020, 5041]);
});

test("ignores an absurd composition offset", () => {
  assert.equal(Timeline.presentation(10, 100, 140), 50);
  assert.equal(Timeline.presentation(10, 100, 100 + 6_000_000), 10);
});
