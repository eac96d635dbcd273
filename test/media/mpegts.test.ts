import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";

import type { Frame } from "../../gateway/media/frame.js";
import { joinNalUnits, splitAnnexB, writeAvcConfig } from "../../gateway/media/h264.js";
import { MpegTsPackager, PCR_LEAD, TS_OFFSET } from "../../gateway/media/mpegts.js";
import { createPackager, type SegmentTracks } from "../../gateway/media/packager.js";
import { rescale } from "../../gateway/media/time.js";
import { splitAdts, TsReader, type TsUnit } from "../support/ts-reader.js";

const SPS = Buffer.from("6742c01fd9005005bb016a02020280000003008000001e078c18cb", "hex");
const PPS = Buffer.from("68ce3c80", "hex");
const VIDEO = { codec: "h264", configuration: writeAvcConfig([SPS], [PPS]) } as const;
const AUDIO = { codec: "aac", configuration: Buffer.from([0x11, 0x90]) } as const; // LC, 48 kHz, stereo
const BOTH: SegmentTracks = { video: VIDEO, audio: AUDIO };
const WRAP = 2 ** 33;

function picture(dts: number, options: { pts?: number; units?: readonly Buffer[]; isKey?: boolean } = {}): Frame {
  const isKey = options.isKey ?? false;
  const units = options.units ?? [Buffer.concat([Buffer.from([isKey ? 0x65 : 0x41]), Buffer.alloc(99, 0x33)])];
  return { kind: "video", codec: "h264", dts, pts: options.pts ?? dts, isKey, isConfig: false, data: joinNalUnits(units) };
}

function sound(dts: number, size = 200): Frame {
  return { kind: "audio", codec: "aac", dts, pts: dts, isKey: true, isConfig: false, data: Buffer.alloc(size, 0x77) };
}

function read(...segments: readonly Buffer[]): TsReader {
  const reader = new TsReader();
  for (const segment of segments) reader.push(segment);
  return reader;
}

const videoOf = (reader: TsReader): TsUnit[] => reader.units.filter((unit) => unit.pid === 0x100);
const audioOf = (reader: TsReader): TsUnit[] => reader.units.filter((unit) => unit.pid === 0x101);
const ticks = (time: number): number => rescale(time, 1_000_000, 90_000) + TS_OFFSET;

test("a segment begins with its tables, names both tracks and the clock", () => {
  const packager = new MpegTsPackager(BOTH);
  const reader = read(packager.write([picture(0, { isKey: true }), sound(0)], { startsSegment: true }));
  assert.equal(reader.tables, 1);
  assert.deepEqual(reader.streams, [
    { streamType: 0x1b, pid: 0x100 },
    { streamType: 0x0f, pid: 0x101 },
  ]);
  assert.equal(reader.pcrPid, 0x100);
});

test("a key frame carries delimiter and parameter sets once, a picture its delimiter", () => {
  const packager = new MpegTsPackager(BOTH);
  const idr = Buffer.from([0x65, 1, 2, 3]);
  const slice = Buffer.from([0x41, 4, 5]);
  const sei = Buffer.from([0x06, 5, 1, 0, 0x80]);
  const bytes = packager.write(
    [
      picture(0, { isKey: true, units: [Buffer.from([0x09, 0x10]), SPS, PPS, sei, idr] }),
      picture(40_000, { units: [Buffer.from([0x09, 0x30]), slice] }),
    ],
    { startsSegment: true },
  );
  const [key, next] = videoOf(read(bytes));
  assert.deepEqual(splitAnnexB(key?.data ?? Buffer.alloc(0)), [Buffer.from([0x09, 0xf0]), SPS, PPS, sei, idr]);
  assert.deepEqual(splitAnnexB(next?.data ?? Buffer.alloc(0)), [Buffer.from([0x09, 0xf0]), slice]);
  assert.deepEqual([key?.isRandomAccess, next?.isRandomAccess], [true, false]);
});

test("a part has tables when it begins a segment or holds a key frame first", () => {
  const packager = new MpegTsPackager(BOTH);
  const tables = (bytes: Buffer): boolean => bytes[1] === 0x40 && bytes[2] === 0;
  assert.equal(tables(packager.write([sound(0), picture(0, { isKey: true })])), true);
  assert.equal(tables(packager.write([picture(40_000), picture(80_000, { isKey: true })])), false);
  assert.equal(tables(packager.write([picture(120_000)], { startsSegment: true })), true);
  assert.equal(packager.write([], { startsSegment: true }).length, 0);
});

test("frames of sound that follow one another share a packet, a gap begins the next", () => {
  const packager = new MpegTsPackager({ audio: AUDIO });
  const stamps = [0, 21_000, 43_000, 64_000, 500_000, 521_000];
  const reader = read(
    packager.write(
      stamps.map((stamp) => sound(stamp)),
      { startsSegment: true },
    ),
  );
  const units = audioOf(reader);
  assert.deepEqual(
    units.map((unit) => [unit.pts, splitAdts(unit.data).length]),
    [
      [TS_OFFSET, 4],
      [TS_OFFSET + 45_000, 2],
    ],
  );
  assert.equal(reader.pcrPid, 0x101);
  assert.ok(units.every((unit) => unit.isRandomAccess && unit.pcr === unit.dts - PCR_LEAD));
});

test("every size of picture fills its packets: one byte over and under each boundary", () => {
  const packager = new MpegTsPackager(BOTH);
  const reader = new TsReader();
  const sizes = Array.from({ length: 420 }, (_, i) => i + 1);
  for (const [i, size] of sizes.entries()) {
    const isKey = i % 3 === 0;
    const unit = Buffer.alloc(size, 0xaa);
    unit[0] = isKey ? 0x65 : 0x41;
    const at = i * 40_000;
    reader.push(packager.write([picture(at, { isKey, units: [unit], pts: i % 2 === 0 ? at : at + 80_000 }), sound(at, size)]));
  }
  assert.deepEqual(
    videoOf(reader).map((unit) => splitAnnexB(unit.data).at(-1)?.length),
    sizes,
  );
  assert.deepEqual(
    audioOf(reader).map((unit) => splitAdts(unit.data)[0]?.length),
    sizes,
  );
});

test("a picture over 64 KiB has no stated length, one below has", () => {
  const packager = new MpegTsPackager({ video: VIDEO });
  const large = Buffer.alloc(300_000, 0x55);
  large[0] = 0x65;
  const reader = read(packager.write([picture(0, { isKey: true, units: [large] }), picture(40_000)], { startsSegment: true }));
  assert.deepEqual(splitAnnexB(reader.units[0]?.data ?? Buffer.alloc(0)).at(-1), large);
});

test("times wrap at 33 bits, and clock, decoding and presentation each on their own", () => {
  const packager = new MpegTsPackager({ video: VIDEO });
  const wrap = Math.round((WRAP * 100) / 9) - 1_000_000; // µs at which TS_OFFSET takes the time over the end
  const reader = new TsReader();
  const frames = Array.from({ length: 60 }, (_, i) =>
    picture(wrap - 1_000_000 + i * 40_000, { pts: wrap - 920_000 + i * 40_000 }),
  );
  for (const frame of frames) reader.push(packager.write([frame], { startsSegment: true }));
  const units = videoOf(reader);
  units.forEach((unit, i) => {
    const frame = frames[i] as Frame;
    assert.equal(unit.dts, ticks(frame.dts) % WRAP);
    assert.equal(unit.pts, ticks(frame.pts) % WRAP);
    assert.equal(unit.pcr, (ticks(frame.dts) - PCR_LEAD) % WRAP);
  });
  assert.ok(
    units.some((unit) => unit.pts < unit.dts),
    "the picture in which one has wrapped and the other has not",
  );
});

test("what is not media, what is malformed and what has no track is passed over", () => {
  const packager = new MpegTsPackager({ video: VIDEO });
  const broken: Frame = { ...picture(0), data: Buffer.from([0, 0, 0, 99, 0x41]) };
  const config: Frame = { ...picture(0), isConfig: true };
  const onlyDelimiter = picture(0, { units: [Buffer.from([0x09, 0xf0])] });
  const data: Frame = { kind: "data", codec: "amf0", dts: 0, pts: 0, isKey: false, isConfig: false, data: Buffer.alloc(9) };
  assert.equal(packager.write([broken, config, onlyDelimiter, data, sound(0)], { startsSegment: true }).length, 0);
  const noSound = new MpegTsPackager({ audio: AUDIO });
  assert.equal(noSound.write([sound(0, 9000), sound(0, 0)]).length, 0, "ADTS ends at 8,191 bytes");
});

test("refuses what MPEG-TS cannot carry", () => {
  assert.throws(() => createPackager("ts", {}), /holds none/);
  assert.throws(
    () => createPackager("ts", { audio: { codec: "opus", configuration: Buffer.alloc(0) } }),
    /ts does not carry opus/,
  );
  assert.throws(() => createPackager("ts", { video: { codec: "h264", configuration: Buffer.alloc(4) } }), TypeError);
  assert.throws(() => createPackager("ts", { audio: { codec: "aac", configuration: Buffer.alloc(2) } }), TypeError);
});

test("property: any frames come out once, in order, with their exact times and bytes", () => {
  const frame = fc.record({
    isVideo: fc.boolean(),
    isKey: fc.boolean(),
    step: fc.integer({ min: 1, max: 3_000_000 }),
    composition: fc.integer({ min: 0, max: 500_000 }),
    size: fc.oneof(fc.integer({ min: 1, max: 400 }), fc.integer({ min: 1, max: 70_000 })),
  });
  const runs = fc.array(fc.array(frame, { maxLength: 12 }), { maxLength: 6 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 46 }), runs, (start, shape) => {
      const packager = new MpegTsPackager(BOTH);
      const reader = new TsReader();
      const expected: { frame: Frame; unit: Buffer }[] = [];
      let time = start;
      for (const run of shape) {
        const frames = run.map(({ isVideo, isKey, step, composition, size }) => {
          time += step;
          if (!isVideo) return sound(time, Math.min(size, 8000));
          const unit = Buffer.alloc(size, 0x5a);
          unit[0] = isKey ? 0x65 : 0x41;
          const made = picture(time, { isKey, units: [unit], pts: time + composition });
          expected.push({ frame: made, unit });
          return made;
        });
        reader.push(packager.write(frames, { startsSegment: true }));
        const sounds = frames.filter(({ kind }) => kind === "audio");
        const got = audioOf(reader).flatMap((unit) => splitAdts(unit.data));
        assert.deepEqual(
          got.slice(got.length - sounds.length).map((bytes) => bytes.length),
          sounds.map(({ data }) => data.length),
        );
      }
      const units = videoOf(reader);
      assert.equal(units.length, expected.length);
      units.forEach((unit, i) => {
        const { frame: want, unit: bytes } = expected[i] as { frame: Frame; unit: Buffer };
        assert.deepEqual([unit.dts, unit.pts], [ticks(want.dts) % WRAP, ticks(want.pts) % WRAP]);
        assert.equal(unit.isRandomAccess, want.isKey);
        assert.ok(splitAnnexB(unit.data).at(-1)?.equals(bytes));
      });
    }),
    { numRuns: 60 },
  );
});
