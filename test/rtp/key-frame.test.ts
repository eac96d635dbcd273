import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { isDiscardablePacket, type KeyFramePart, keyFramePart } from "../../gateway/rtp/key-frame.js";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

const CASES: readonly (readonly [string, string, string, KeyFramePart])[] = [
  ["h264", "STAP-A of SPS and PPS", "78 0004 67420001 0002 68ce", "parameter-sets"],
  ["h264", "STAP-A of SEI and IDR", "78 0002 0600 0002 6588", "key"],
  ["h264", "STAP-A of AUD, SPS, PPS, IDR", "78 0002 09f0 0002 6742 0002 68ce 0002 6588", "parameter-sets"],
  ["h264", "STAP-A of two slices", "78 0002 419a 0002 419b", "none"],
  ["h264", "STAP-A that ends early", "78 0009 67", "none"],
  ["h264", "STAP-A with an empty unit", "78 0000 0002 6588", "none"],
  ["h264", "single SPS", "67 42c01e", "parameter-sets"],
  ["h264", "single PPS", "68 ce3c80", "none"],
  ["h264", "single IDR", "65 8884", "key"],
  ["h264", "single slice", "41 9a", "none"],
  ["h264", "FU-A start of IDR", "7c 85 88", "key"],
  ["h264", "FU-A middle of IDR", "7c 05 88", "none"],
  ["h264", "FU-A end of IDR", "7c 45 88", "none"],
  ["h264", "FU-A start of a slice", "5c 81 9a", "none"],
  ["h264", "FU-A start of an SPS", "7c 87 42", "parameter-sets"],
  ["h264", "FU-A of one byte", "7c", "none"],
  ["h265", "AP of VPS, SPS, PPS", "6001 0003 400101 0003 420101 0003 440101", "parameter-sets"],
  ["h265", "AP of PPS and IDR_W_RADL", "6001 0003 440101 0003 260101", "key"],
  ["h265", "single IDR_N_LP", "2801 af", "key"],
  ["h265", "single CRA", "2a01 af", "key"],
  ["h265", "single TRAIL_R", "0201 d0", "none"],
  ["h265", "FU start of IDR_W_RADL", "6201 93 af", "key"],
  ["h265", "FU middle of IDR_W_RADL", "6201 13 af", "none"],
  ["h265", "FU start of TRAIL_R", "6201 81 af", "none"],
  ["h265", "one byte", "26", "none"],
  ["vp8", "key frame without extension", "10 100200 9d012a", "key"],
  ["vp8", "key frame, 15-bit picture id and TL0PICIDX and TID", "90 e0 8001 05 20 50", "key"],
  ["vp8", "interframe, 7-bit picture id", "90 80 11 31", "none"],
  ["vp8", "key frame's second packet", "00 10", "none"],
  ["vp8", "key frame's second partition", "11 10", "none"],
  ["vp8", "descriptor only", "90 80 11", "none"],
  ["vp9", "key frame, flexible, 15-bit picture id", "88 8001 00", "key"],
  ["vp9", "key frame with layers, lowest", "a8 8001 00 00", "key"],
  ["vp9", "key frame's upper spatial layer", "a8 8001 03 00", "none"],
  ["vp9", "inter-predicted", "c8 8001 00", "none"],
  ["vp9", "middle of a key frame", "80 8001 00", "none"],
  ["vp9", "descriptor only", "08", "none"],
  ["av1", "new coded video sequence", "18 0a0b", "key"],
  ["av1", "later frame", "10 32", "none"],
  ["av1", "rest of an OBU", "98 0a0b", "none"],
  ["av1", "header only", "08", "none"],
  ["opus", "sound", "fc ff fe", "none"],
];

for (const [codec, name, bytes, expected] of CASES) {
  test(`${codec}: ${name} is ${expected}`, () => assert.equal(keyFramePart(codec, hex(bytes)), expected));
}

const DISCARDABLE: readonly (readonly [string, string, string, boolean])[] = [
  ["h264", "unreferenced slice", "01 9a", true],
  ["h264", "referenced slice", "41 9a", false],
  ["h264", "unreferenced slice in FU-A", "1c 81 9a", true],
  ["h264", "referenced slice in FU-A", "5c 81 9a", false],
  ["h264", "SEI", "06 05", false],
  ["h264", "AUD", "09 f0", false],
  ["vp8", "non-reference frame", "b0 80 11 31", true],
  ["vp8", "reference frame", "90 80 11 31", false],
  ["vp9", "anything", "c8 8001 00", false],
];

for (const [codec, name, bytes, expected] of DISCARDABLE) {
  test(`${codec}: ${name} is ${expected ? "" : "not "}discardable`, () =>
    assert.equal(isDiscardablePacket(codec, hex(bytes)), expected));
}

test("any bytes are survived", () => {
  fc.assert(
    fc.property(fc.constantFrom("h264", "h265", "vp8", "vp9", "av1", ""), fc.uint8Array({ maxLength: 40 }), (codec, bytes) => {
      const payload = Buffer.from(bytes);
      keyFramePart(codec, payload);
      isDiscardablePacket(codec, payload);
    }),
  );
});
