import assert from "node:assert/strict";
import { test } from "node:test";

import {
  describeAccessUnit,
  joinNalUnits,
  NAL,
  NalCursor,
  parseAvcConfig,
  parsePpsIds,
  readFirstMb,
  readSliceType,
  SLICE,
  splitAnnexB,
  spsOfConfig,
  toAnnexB,
  toFourByteLengths,
  writeAvcConfig,
} from "../../gateway/media/h264.js";
import { parseSps, type Sps } from "../../gateway/media/h264-sps.js";
import { PPS, SPS } from "../support/rtmp-client.js";

// AVCDecoderConfigurationRecords written by ffmpeg and x264; the expected values are what ffprobe says of the same files.
const CONFIGS: readonly { name: string; record: string; sps: Partial<Sps> }[] = [
  {
    name: "constrained baseline",
    record: "0142c01effe100196742c01ed900a02ff97011000003000100000300320f162e4801000568cb83cb20",
    sps: { profile: 66, constraints: 0xc0, level: 30, width: 640, height: 360, frameRate: 25, maxReorderFrames: 0 },
  },
  {
    name: "main, cropped to 1080 lines, 29.97 fps",
    record: "014d4028ffe10018674d4028eca03c0113f2e022000007d20001d4c01e30632c01000568ebe3cb20",
    sps: {
      profile: 77,
      level: 40,
      width: 1920,
      height: 1080,
      frameRate: 30_000 / 1001,
      maxReorderFrames: 2,
      isInterlaced: false,
    },
  },
  {
    name: "high",
    record: "01640020ffe1001967640020acd9405005bb0110000003001000000640f183196001000668ebe3cb22c0fdf8f800",
    sps: { profile: 100, level: 32, width: 1280, height: 720, frameRate: 50, maxReorderFrames: 2, maxDecodeBuffering: 4 },
  },
  {
    name: "interlaced with HRD parameters",
    record: "01640028ffe1002467640028acd94078044fde022000000300200000064c90001e848003d09c98601f162d9601000568fbacb22cfdf8f800",
    sps: { profile: 100, width: 1920, height: 1080, isInterlaced: true, frameRate: 25, maxReorderFrames: 2 },
  },
  {
    name: "4:4:4, odd size",
    record: "01f4001fffe1001b67f4001f919b281405fdc5e022000003000200000300f01e30632c01000668ebe3c44844fff8f800",
    sps: { profile: 244, chromaFormat: 3, width: 638, height: 358, frameRate: 60 },
  },
  {
    name: "10 bits",
    record: "016e001effe1001b676e001ea6cd940d83de6f011000000300100000030300f162d96001000668ebe3cb22c0fdfafa00",
    sps: { profile: 110, bitDepthLuma: 10, bitDepthChroma: 10, width: 854, height: 480, frameRate: 24 },
  },
  {
    name: "zero latency",
    record: "0164000cffe100196764000cacb202833f3e0220000003002000000303d1e2854901000668ebc3cb22c0fdf8f800",
    sps: { profile: 100, level: 12, width: 320, height: 180, frameRate: 15, maxReorderFrames: 0 },
  },
  {
    name: "scaling matrix in the PPS, tiny picture",
    record: "0164000affe1001a6764000aacd947279e23011000000300100000030140f122596001000768ebe3cb3002c0fdf8f800",
    sps: { profile: 100, level: 10, width: 100, height: 50, frameRate: 10 },
  },
];

for (const { name, record, sps } of CONFIGS) {
  test(`reads and rewrites a sequence header: ${name}`, () => {
    const bytes = Buffer.from(record, "hex");
    const config = parseAvcConfig(bytes);
    assert.ok(config !== undefined);
    assert.equal(config.lengthSize, 4);
    const parsed = spsOfConfig(bytes);
    assert.ok(parsed !== undefined);
    for (const [key, value] of Object.entries(sps)) assert.deepEqual(parsed[key as keyof Sps], value, key);
    assert.deepEqual(writeAvcConfig(config.sps, config.pps), bytes);
    assert.deepEqual(parsePpsIds(config.pps[0] as Buffer), { id: 0, spsId: 0 });
  });

  test(`a sequence header cut at any byte is refused or read, never more: ${name}`, () => {
    const bytes = Buffer.from(record, "hex");
    for (let end = 0; end < bytes.length; end++) {
      const config = parseAvcConfig(bytes.subarray(0, end));
      if (config !== undefined) assert.equal(config.sps.length, 1);
      parseSps(bytes.subarray(8, end));
    }
  });
}

test("an SPS without VUI states no frame rate", () => {
  // baseline, level 1, 16x16: profile, constraints, level, then ue(0) ue(0) poc=2 ue(0) refs=1 gaps=0 w=1 h=1 frame_mbs=1 8x8=1 no crop, no VUI
  const bits = "1" + "1" + "011" + "010" + "0" + "1" + "1" + "1" + "1" + "0" + "0" + "1" + "0000000";
  const tail = Buffer.from([Number.parseInt(bits.slice(0, 8), 2), Number.parseInt(bits.slice(8, 16), 2)]);
  const sps = parseSps(Buffer.concat([Buffer.from([0x67, 66, 0, 10]), tail]));
  assert.equal(sps?.width, 16);
  assert.equal(sps?.height, 16);
  assert.equal(sps?.picOrderCountType, 2);
  assert.equal(sps?.frameRate, undefined);
  assert.equal(sps?.maxReorderFrames, undefined);
});

test("an SPS that makes no sense is not one", () => {
  assert.equal(parseSps(Buffer.from("68ebc3cb22c0", "hex")), undefined);
  assert.equal(parseSps(Buffer.from([0x67, 100, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0])), undefined);
  assert.equal(parseSps(Buffer.alloc(4, 0x67)), undefined);
});

test("lengths of one, two and three bytes become four", () => {
  const units = [Buffer.from([0x65, 1, 2, 3]), Buffer.from([0x41, 9])];
  for (const size of [1, 2, 3]) {
    const data = Buffer.concat(
      units.map((unit) => {
        const length = Buffer.alloc(size);
        length.writeUIntBE(unit.length, 0, size);
        return Buffer.concat([length, unit]);
      }),
    );
    assert.deepEqual(toFourByteLengths(data, size), joinNalUnits(units));
    assert.equal(toFourByteLengths(data.subarray(0, data.length - 1), size), undefined);
  }
});

test("a cursor gives ranges, skips empty units and stops at a length that is too long", () => {
  const data = Buffer.from([0, 0, 0, 2, 0x65, 0x88, 0, 0, 0, 0, 0, 0, 0, 1, 0x06, 0, 0, 0, 9, 0x41]);
  const cursor = new NalCursor(data);
  const seen: number[][] = [];
  while (cursor.next()) seen.push([cursor.type, cursor.refIdc, cursor.start, cursor.end]);
  assert.deepEqual(seen, [
    [NAL.IDR, 3, 4, 6],
    [NAL.SEI, 0, 14, 15],
  ]);
  assert.equal(cursor.malformed, true);
});

test("slice types and reference marks are read from the slice header", () => {
  const cases: readonly [string, number, number][] = [
    ["6588", SLICE.I, 0], // first_mb 0, slice_type 7
    ["419a", SLICE.P, 0], // slice_type 5
    ["01a8", SLICE.B, 0], // 1 010: slice_type 1
    ["019e", SLICE.B, 0], // 1 00111: slice_type 6
  ];
  for (const [hex, type, firstMb] of cases) {
    const nal = Buffer.from(hex, "hex");
    assert.equal(readSliceType(nal, 0, nal.length), type, hex);
    assert.equal(readFirstMb(nal, 0, nal.length), firstMb, hex);
  }
  // first_mb_in_slice 65535 (16 zeros, 1, 16 zeros) runs through an emulation prevention byte: 00 00 03 in the bytes is 00 00 in the code
  const far = Buffer.from([0x41, 0x00, 0x00, 0x03, 0x80, 0x00, 0x40, 0x80]);
  assert.equal(readFirstMb(far, 0, far.length), 65_535);
  assert.equal(readSliceType(far, 0, far.length), SLICE.P);
  assert.equal(readSliceType(Buffer.from([0x41]), 0, 1), -1);
});

test("an access unit is described in one walk", () => {
  const unit = joinNalUnits([Buffer.from([0x09, 0xf0]), Buffer.from("01a8", "hex")]);
  assert.deepEqual(describeAccessUnit(unit), { wellFormed: true, isIdr: false, hasSlice: true, sliceType: SLICE.B, refIdc: 0 });
  const idr = joinNalUnits([SPS, PPS, Buffer.from("6588", "hex")]);
  assert.deepEqual(describeAccessUnit(idr), { wellFormed: true, isIdr: true, hasSlice: true, sliceType: SLICE.I, refIdc: 3 });
  assert.equal(describeAccessUnit(Buffer.alloc(0)).wellFormed, false);
});

test("Annex B and lengths turn into each other", () => {
  const units = [SPS, PPS, Buffer.from([0x65, 0x88, 0x80, 0x01])];
  assert.deepEqual(splitAnnexB(toAnnexB(joinNalUnits(units))), units);
  const short = Buffer.concat([Buffer.from([0, 0, 1]), SPS, Buffer.from([0, 0, 0, 1]), PPS, Buffer.from([0, 0])]);
  assert.deepEqual(splitAnnexB(short), [SPS, PPS]);
  assert.deepEqual(splitAnnexB(Buffer.from([1, 2, 3])), []);
});
