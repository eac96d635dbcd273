// Where segments and parts are cut, and what is in them: the packager is replaced by one that writes down what it was given.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Part, Segment } from "../../gateway/hls/segment.js";
import { Segmenter, type SegmenterOptions } from "../../gateway/hls/segmenter.js";
import type { Frame } from "../../gateway/media/frame.js";
import type { Packager, RunOptions, SegmentTracks } from "../../gateway/media/packager.js";
import { configFrame, pictureFrame, soundFrame, VIDEO_CONFIGS } from "../support/hls-source.js";

type Written = { readonly frames: readonly Frame[]; readonly options: RunOptions; readonly tracks: SegmentTracks };

function setUp(options: Partial<SegmenterOptions> = {}) {
  const written: Written[] = [];
  const parts: { segment: Segment; part: Part }[] = [];
  const segments: Segment[] = [];
  const troubles: (string | undefined)[] = [];
  const due: number[] = [];
  const createPackager = (_format: unknown, tracks: SegmentTracks): Packager => ({
    format: "fmp4",
    contentType: "video/mp4",
    initialization: Buffer.from("init"),
    write: (frames, runOptions = {}) => {
      written.push({ frames: [...frames], options: runOptions, tracks });
      return Buffer.alloc(frames.length, 1);
    },
  });
  const segmenter = new Segmenter({
    format: "fmp4",
    fragment: 2_000_000,
    part: 200_000,
    expects: () => "unknown",
    createPackager,
    output: {
      onPart: (segment, part) => parts.push({ segment, part }),
      onSegment: (segment) => segments.push(segment),
      onDue: () => due.push(segments.length),
      onTrouble: (reason) => troubles.push(reason),
    },
    ...options,
  });
  return { segmenter, written, parts, segments, troubles, due };
}

/** Pictures of 40 ms from one time to another, key frames at multiples of `gop` ms, with sound between them. */
function play(
  segmenter: Segmenter,
  from: number,
  to: number,
  options: { gop?: number; sound?: number; step?: number } = {},
): void {
  const { gop = 2_000, sound, step = 40 } = options;
  let nextSound = sound === undefined ? Number.POSITIVE_INFINITY : from;
  for (let at = from; at < to; at += step) {
    for (; nextSound <= at; nextSound += 1024 / 48) segmenter.write(soundFrame(Math.round(nextSound + (sound ?? 0)) * 1000));
    segmenter.write(pictureFrame(at * 1000, at % gop === 0));
  }
}

const durations = (segments: readonly Segment[]): number[] => segments.map(({ duration }) => duration / 1000);

test("a segment begins with the first key frame after the fragment, a part anywhere", () => {
  const { segmenter, segments, parts, written } = setUp();
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 9_000, { gop: 1_000 });
  assert.deepEqual(durations(segments), [2_000, 2_000, 2_000, 2_000]);
  assert.ok(segments.every((segment) => segment.parts.length === 10 && segment.isIndependent));
  assert.ok(parts.every(({ part }) => part.duration === 200_000));
  const firsts = written.filter(({ options }) => options.startsSegment === true);
  assert.ok(firsts.length >= 4 && firsts.every(({ frames }) => frames[0]?.isKey === true));
  for (const [index, { frames, options }] of written.entries()) {
    assert.equal(options.videoEnd, written[index + 1]?.frames[0]?.dts ?? options.videoEnd);
    assert.equal(frames.length, 5);
  }
});

test("a key frame a little early by the rounding of stamps ends the segment all the same", () => {
  const { segmenter, segments } = setUp();
  segmenter.write(configFrame("video"));
  for (let i = 0; i <= 240; i++) segmenter.write(pictureFrame(Math.floor((i * 1000) / 30) * 1000, i % 60 === 0));
  assert.deepEqual(durations(segments), [2_000, 2_000, 2_000, 2_000]);
});

test("long groups of pictures make long segments, and a key frame is asked for when one would do", () => {
  const { segmenter, segments, due } = setUp({ expects: () => "no" });
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 25_000, { gop: 8_000 });
  assert.deepEqual(durations(segments), [8_000, 8_000, 8_000]);
  assert.equal(due.filter((segment) => segment === 0).length, 7); // from 1.96 s on, each second
});

test("without key frames a segment is cut at 20 s, and says that it does not begin with one", () => {
  const { segmenter, segments } = setUp();
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 60_040, { gop: 1_000_000 });
  assert.deepEqual(durations(segments), [20_000, 20_000, 20_000]);
  assert.deepEqual(
    segments.map(({ isIndependent }) => isIndependent),
    [true, false, false],
  );
});

test("sound goes with the pictures of its time", () => {
  const { segmenter, segments, written } = setUp();
  segmenter.write(configFrame("video"));
  segmenter.write(configFrame("audio"));
  play(segmenter, 0, 6_100, { sound: 0 });
  assert.deepEqual(durations(segments), [2_000, 2_000, 2_000]);
  for (const { frames, options } of written) {
    const end = options.videoEnd ?? 0;
    assert.ok(frames.every((frame) => frame.dts < end));
    assert.ok(frames.some((frame) => frame.kind === "audio"));
  }
});

test("sound far ahead of its pictures or behind them breaks nothing: every frame once, in order, segments at their key frames", () => {
  for (const sound of [900, 500, 250, -250, -900]) {
    const { segmenter, segments, written } = setUp({ expects: () => "yes" });
    segmenter.write(configFrame("video"));
    segmenter.write(configFrame("audio"));
    play(segmenter, 2_000, 16_100, { sound });
    for (const kind of ["video", "audio"] as const) {
      const times = written.flatMap(({ frames }) => frames.filter((frame) => frame.kind === kind).map(({ dts }) => dts));
      assert.deepEqual(
        times,
        [...new Set(times)].sort((a, b) => a - b),
        `${kind} at ${sound}`,
      );
      assert.ok(times.length > (kind === "video" ? 330 : 550), `${times.length} of ${kind} at ${sound}`);
    }
    const firsts = written.filter(({ options }) => options.startsSegment === true);
    for (const { frames } of firsts) {
      const picture = frames.find((frame) => frame.kind === "video");
      assert.ok(picture === undefined || picture.isKey, `at ${sound}`);
    }
    const total = segments.reduce((sum, { duration }) => sum + duration, 0);
    assert.ok(Math.abs(total - 14_000_000) < 1_200_000, `${total} at ${sound}`);
    for (const [index, segment] of segments.entries()) {
      assert.equal(segment.start, segments[index - 1]?.end ?? segment.start, "no gap and no overlap");
      assert.ok(segment.parts.every((part) => part.duration <= (segmenter.partTarget ?? 0)));
    }
  }
});

test("sound alone is cut by time", () => {
  const { segmenter, segments, parts } = setUp({ expects: (kind) => (kind === "video" ? "no" : "yes") });
  segmenter.write(configFrame("audio"));
  for (let i = 0; i < 420; i++) segmenter.write(soundFrame(Math.round((i * 1024) / 48) * 1000));
  assert.equal(segments.length, 4);
  for (const { duration } of segments) assert.ok(duration >= 1_940_000 && duration <= 2_050_000, `${duration}`);
  assert.ok(parts.every(({ part }) => part.isIndependent && part.duration <= (segmenter.partTarget ?? 0)));
});

test("pictures at a varying pace: no part is longer than PART-TARGET", () => {
  const { segmenter, segments } = setUp();
  segmenter.write(configFrame("video"));
  let at = 0;
  const steps = [33, 33, 34, 33, 120, 33, 50, 33, 33, 67, 15, 18];
  for (let i = 0; i < 600; i++) {
    segmenter.write(pictureFrame(at * 1000, i % 45 === 0));
    at += steps[i % steps.length] ?? 33;
  }
  const target = segmenter.partTarget ?? 0;
  assert.ok(target <= 240_000, `${target}`);
  for (const segment of segments) for (const part of segment.parts) assert.ok(part.duration <= target, `${part.duration}`);
});

test("where pictures stop sound goes on, and the picture that stands still is not lost", () => {
  const { segmenter, segments, written } = setUp();
  segmenter.write(configFrame("video"));
  segmenter.write(configFrame("audio"));
  play(segmenter, 0, 4_040, { sound: 0 });
  for (let at = 4_040; at < 12_000; at += 1024 / 48) segmenter.write(soundFrame(Math.round(at) * 1000));
  segmenter.write(pictureFrame(12_000_000, true));
  for (let at = 12_000; at < 15_000; at += 40) segmenter.write(pictureFrame((at + 40) * 1000, (at + 40) % 2_000 === 0));
  const pictures = written.flatMap(({ frames }) => frames.filter(({ kind }) => kind === "video").map(({ dts }) => dts));
  assert.deepEqual(pictures, [...new Set(pictures)]);
  assert.ok(pictures.includes(4_000_000) && pictures.includes(12_000_000));
  assert.ok(segments.length >= 6, `${segments.length} segments`);
  assert.ok(segments.every(({ duration }) => duration < 6_000_000));
});

test("another configuration ends the segment, and the next is a discontinuity of another run", () => {
  const { segmenter, segments, written } = setUp({ expects: () => "no" });
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 1_000);
  segmenter.write(configFrame("video", VIDEO_CONFIGS.second));
  segmenter.write(pictureFrame(1_000_000, false)); // cannot be decoded with anything
  play(segmenter, 2_000, 6_100);
  assert.deepEqual(durations(segments), [1_000, 2_000, 2_000]);
  assert.deepEqual(
    segments.map(({ isDiscontinuity, discontinuitySequence, run }) => [isDiscontinuity, discontinuitySequence, run.number]),
    [
      [false, 0, 0],
      [true, 1, 1],
      [false, 1, 1],
    ],
  );
  assert.ok(!written.some(({ frames }) => frames.some(({ dts, isKey }) => dts === 1_000_000 && !isKey)));
  assert.equal(written.at(-1)?.tracks.video?.configuration, VIDEO_CONFIGS.second);
});

test("a repeated configuration changes nothing", () => {
  const { segmenter, segments } = setUp();
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 2_000);
  segmenter.write(configFrame("video", Buffer.from(VIDEO_CONFIGS.first)));
  play(segmenter, 2_000, 4_100);
  assert.deepEqual(
    segments.map(({ isDiscontinuity }) => isDiscontinuity),
    [false, false],
  );
});

test("a track that was announced is waited for; one that comes later all the same begins a run at a key frame", () => {
  const { segmenter, segments, written } = setUp({ expects: (kind) => (kind === "audio" ? "no" : "yes") });
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 1_000);
  assert.ok(written.length > 0 && written.every(({ tracks }) => tracks.audio === undefined));
  segmenter.write(configFrame("audio"));
  play(segmenter, 1_000, 6_100, { sound: 0 });
  assert.deepEqual(durations(segments), [2_000, 2_000, 2_000]);
  assert.deepEqual(
    segments.map(({ run }) => run.tracks.audio !== undefined),
    [false, true, true],
  );

  const patient = setUp({ expects: () => "yes" });
  patient.segmenter.write(configFrame("video"));
  play(patient.segmenter, 0, 1_500);
  assert.equal(patient.written.length, 0);
  patient.segmenter.write(configFrame("audio"));
  patient.segmenter.write(pictureFrame(1_500_000, false));
  assert.ok(patient.written.length > 0, "nothing is lost of what was waited with");
  assert.equal(patient.written[0]?.frames[0]?.dts, 0);
});

test("a publisher that begins in the middle of a group is waited for", () => {
  const { segmenter, written } = setUp();
  segmenter.write(configFrame("video"));
  play(segmenter, 40, 2_000);
  assert.equal(written.length, 0);
  play(segmenter, 2_000, 4_000);
  assert.equal(written[0]?.frames[0]?.dts, 2_000_000);
});

test("a codec that cannot be carried is left out, and said", () => {
  const { segmenter, segments, troubles } = setUp({ expects: () => "no" });
  segmenter.write({ ...configFrame("audio"), codec: "speex" });
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 4_100);
  assert.equal(segments.length, 2);
  assert.match(troubles[0] ?? "", /^speex is left out/);
});

test("the end of a publisher makes a segment of what there is; an empty one leaves no hole in the numbers", () => {
  const { segmenter, segments } = setUp();
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 2_520);
  segmenter.restart();
  assert.deepEqual(durations(segments), [2_000, 520]);
  segmenter.restart();
  segmenter.finish();
  segmenter.write(configFrame("video"));
  play(segmenter, 10_000, 14_100);
  assert.deepEqual(
    segments.map(({ sequenceNumber, discontinuitySequence }) => [sequenceNumber, discontinuitySequence]),
    [
      [0, 0],
      [1, 0],
      [2, 1],
      [3, 1],
    ],
  );
  assert.deepEqual(
    segments.flatMap(({ parts }) => parts.map(({ number }) => number)),
    segments.flatMap(({ parts }) => parts).map((_part, index) => index),
  );
});

test("without parts a segment is one", () => {
  const { segmenter, segments, parts } = setUp({ part: 0 });
  segmenter.write(configFrame("video"));
  play(segmenter, 0, 4_100);
  assert.equal(parts.length, 0);
  assert.deepEqual(
    segments.map((segment) => [segment.parts.length, segment.duration]),
    [
      [1, 2_000_000],
      [1, 2_000_000],
    ],
  );
});
