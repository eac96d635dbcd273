import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import { Fmp4Packager } from "../../gateway/media/fmp4.js";
import type { Frame } from "../../gateway/media/frame.js";
import { writeAvcConfig } from "../../gateway/media/h264.js";
import { createPackager } from "../../gateway/media/packager.js";
import { rescale } from "../../gateway/media/time.js";
import { findBox, type Mp4Sample, readBoxes, readFragments, readTimescales } from "../support/mp4-reader.js";

const SPS = Buffer.from("6742c01fd9005005bb016a02020280000003008000001e078c18cb", "hex");
const VIDEO = { codec: "h264", configuration: writeAvcConfig([SPS], [Buffer.from("68ce3c80", "hex")]) } as const;
const AAC = { codec: "aac", configuration: Buffer.from([0x11, 0x90]) } as const; // LC, 48 kHz, stereo
const OPUS = { codec: "opus", configuration: Buffer.from("4f707573486561640102380180bb0000000000", "hex") } as const;

function picture(dts: number, options: { pts?: number; isKey?: boolean; size?: number } = {}): Frame {
  const data = Buffer.alloc(options.size ?? 50, 0x33);
  return { kind: "video", codec: "h264", dts, pts: options.pts ?? dts, isKey: options.isKey ?? false, isConfig: false, data };
}

function sound(dts: number, data = Buffer.alloc(20, 0x77)): Frame {
  return { kind: "audio", codec: "aac", dts, pts: dts, isKey: true, isConfig: false, data };
}

function samplesOf(bytes: Buffer, track: number): Mp4Sample[] {
  return readFragments(bytes).flatMap((fragment) => fragment.samples.filter((sample) => sample.track === track));
}

test("the initialization names both tracks and their clocks", () => {
  const { initialization, contentType } = new Fmp4Packager({ video: VIDEO, audio: AAC });
  assert.equal(contentType, "video/mp4");
  assert.deepEqual(
    [...readTimescales(initialization)],
    [
      [1, 90_000],
      [2, 48_000],
    ],
  );
  const moov = readBoxes(findBox(readBoxes(initialization), "moov").body);
  assert.equal(readBoxes(findBox(moov, "mvex").body).length, 2);
  assert.ok(initialization.includes(VIDEO.configuration) && initialization.includes(AAC.configuration));
  assert.equal(new Fmp4Packager({ audio: AAC }).contentType, "audio/mp4");
});

test("a run is one fragment with exact times, sizes, key frames and offsets", () => {
  const packager = new Fmp4Packager({ video: VIDEO, audio: AAC });
  const frames = [
    picture(1_000_000, { isKey: true, pts: 1_080_000, size: 900 }),
    sound(1_000_000),
    picture(1_040_000, { pts: 1_200_000 }),
    sound(1_021_333),
    picture(1_100_000, { pts: 1_100_000 }),
  ];
  const bytes = packager.write(frames, { startsSegment: true, videoEnd: 1_133_000 });
  assert.deepEqual(
    readBoxes(bytes).map((box) => box.type),
    ["styp", "moof", "mdat"],
  );
  const video = samplesOf(bytes, 1).map(({ dts, pts, duration, isSync, data }) => [
    dts,
    pts - dts,
    duration,
    isSync,
    data.length,
  ]);
  assert.deepEqual(video, [
    [90_000, 7200, 3600, true, 900],
    [93_600, 14_400, 5400, false, 50],
    [99_000, 0, 2970, false, 50],
  ]);
  const audio = samplesOf(bytes, 2).map(({ dts, duration, isSync }) => [dts, duration, isSync]);
  assert.deepEqual(audio, [
    [48_000, 1024, true],
    [49_024, 1024, true],
  ]);
});

test("the last picture lasts as long as the one before, unless it is known when the next comes", () => {
  const packager = new Fmp4Packager({ video: VIDEO });
  const duration = (bytes: Buffer): number | undefined => samplesOf(bytes, 1).at(-1)?.duration;
  assert.equal(duration(packager.write([picture(0, { isKey: true })])), 3000, "one alone: the frame rate of the SPS");
  assert.equal(duration(packager.write([picture(40_000), picture(60_000)])), 1800);
  assert.equal(duration(packager.write([picture(100_000)])), 1800, "and it is remembered");
  assert.equal(duration(packager.write([picture(200_000)], { videoEnd: 1_200_000 })), 90_000);
  assert.equal(duration(packager.write([picture(1_200_000)], { videoEnd: 1_100_000 })), 0, "no time runs back");
});

test("fragments are numbered, and a run of one track alone has one traf", () => {
  const packager = new Fmp4Packager({ video: VIDEO, audio: AAC });
  const numbers = [picture(0), sound(0), picture(40_000)].map(
    (frame) => readFragments(packager.write([frame]))[0]?.sequenceNumber,
  );
  assert.deepEqual(numbers, [1, 2, 3]);
  assert.equal(packager.write([], { startsSegment: true }).length, 0);
});

test("Opus packets say how long they are; the head's pre-skip and gain stand in dOps", () => {
  const { initialization } = new Fmp4Packager({ audio: OPUS });
  const at = initialization.indexOf("dOps");
  assert.deepEqual(initialization.subarray(at + 4, at + 15), Buffer.from("00020138" + "0000bb80" + "0000" + "00", "hex"));
  const packager = new Fmp4Packager({ audio: OPUS });
  const packets = [0xfc, 0xf4, 0xfd].map((toc) => Buffer.from([toc, 1, 2, 3])); // 20 ms, 10 ms, two of 20 ms
  const bytes = packager.write(packets.map((data, i) => sound([0, 20_000, 30_000][i] ?? 0, data)));
  assert.deepEqual(
    samplesOf(bytes, 2).map(({ dts, duration }) => [dts, duration]),
    [
      [0, 960],
      [960, 480],
      [1440, 1920],
    ],
  );
  assert.doesNotThrow(() => new Fmp4Packager({ audio: { codec: "opus", configuration: Buffer.alloc(0) } }));
});

test("an AV1 sample has no temporal delimiter", () => {
  const configuration = Buffer.from("81040c000a0b000000042cf7fb57ff3408", "hex");
  const packager = new Fmp4Packager({ video: { codec: "av1", configuration } });
  const bytes = packager.write([{ ...picture(0), codec: "av1", data: Buffer.from([0x12, 0, 0x32, 1, 0x55]) }]);
  assert.deepEqual(samplesOf(bytes, 1)[0]?.data, Buffer.from([0x32, 1, 0x55]));
});

test("refuses configurations that make no sense", () => {
  for (const codec of ["h264", "hevc", "av1"] as const) {
    assert.throws(() => createPackager("fmp4", { video: { codec, configuration: Buffer.alloc(3) } }), TypeError);
  }
  assert.throws(() => createPackager("fmp4", { audio: { codec: "aac", configuration: Buffer.alloc(0) } }), TypeError);
});

test("property: any frames come out once, in order, with their exact times and bytes", () => {
  const frame = fc.record({
    isVideo: fc.boolean(),
    isKey: fc.boolean(),
    step: fc.integer({ min: 0, max: 20_000_000 }),
    composition: fc.integer({ min: -500_000, max: 500_000 }),
    size: fc.integer({ min: 1, max: 3000 }),
  });
  const runs = fc.array(fc.array(frame, { maxLength: 12 }), { maxLength: 8 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 50 }), runs, (start, shape) => {
      const packager = new Fmp4Packager({ video: VIDEO, audio: AAC });
      let time = start;
      const all = shape.map((run) =>
        run.map(({ isVideo, isKey, step, composition, size }) => {
          time += step;
          return isVideo ? picture(time, { isKey, pts: time + composition, size }) : sound(time, Buffer.alloc(size));
        }),
      );
      const video: Mp4Sample[] = [];
      for (const [index, frames] of all.entries()) {
        const videoEnd = all
          .slice(index + 1)
          .flat()
          .find(({ kind }) => kind === "video")?.dts;
        const bytes = packager.write(frames, { videoEnd });
        video.push(...samplesOf(bytes, 1));
        const sizes = (list: readonly { readonly data: Buffer }[]): number[] => list.map(({ data }) => data.length);
        assert.deepEqual(sizes(samplesOf(bytes, 2)), sizes(frames.filter(({ kind }) => kind === "audio")));
      }
      const expected = all.flat().filter(({ kind }) => kind === "video");
      assert.equal(video.length, expected.length);
      video.forEach((sample, i) => {
        const want = expected[i] as Frame;
        assert.equal(sample.dts, rescale(want.dts, 1_000_000, 90_000));
        assert.equal(sample.pts, rescale(want.pts, 1_000_000, 90_000));
        assert.deepEqual([sample.isSync, sample.data.length], [want.isKey, want.data.length]);
        const next = video[i + 1];
        if (next !== undefined) assert.equal(sample.dts + sample.duration, next.dts, "no gap and no overlap");
      });
    }),
    { numRuns: 100 },
  );
});
