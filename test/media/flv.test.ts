import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../../gateway/media/errors.js";
import {
  type FlvAudio,
  type FlvVideo,
  parseAudioTag,
  parseVideoTag,
  sizeOfTagHeader,
  writeFlvHeader,
  writeFlvTag,
  writeTagHeader,
} from "../../gateway/media/flv.js";
import type { Frame } from "../../gateway/media/frame.js";

const VIDEO: readonly { name: string; hex: string; tag: Partial<FlvVideo>; data: string }[] = [
  { name: "AVC sequence header", hex: "1700000000aabb", tag: { codec: "h264", packet: "config", isKey: true }, data: "aabb" },
  {
    name: "AVC key frame",
    hex: "1701000028aabb",
    tag: { codec: "h264", packet: "frame", isKey: true, compositionTime: 40 },
    data: "aabb",
  },
  {
    name: "AVC frame before its time",
    hex: "2701ffffd8aa",
    tag: { packet: "frame", isKey: false, compositionTime: -40 },
    data: "aa",
  },
  { name: "AVC end of sequence", hex: "1702000000", tag: { packet: "end" }, data: "" },
  { name: "AVC generated key frame", hex: "4701000000aa", tag: { packet: "frame", isKey: true }, data: "aa" },
  { name: "video command", hex: "5700", tag: { packet: "other" }, data: "00" },
  { name: "legacy HEVC", hex: "1c01000001aa", tag: { codec: "hevc", packet: "frame", compositionTime: 1 }, data: "aa" },
  { name: "Sorenson H.263", hex: "2201", tag: { codec: "h263", packet: "frame", isKey: false }, data: "01" },
  { name: "a codec nobody knows", hex: "1f01", tag: { codec: "unknown-video", packet: "frame" }, data: "01" },
  {
    name: "enhanced HEVC start",
    hex: "9068766331aa",
    tag: { codec: "hevc", fourCc: "hvc1", packet: "config", isKey: true },
    data: "aa",
  },
  {
    name: "enhanced HEVC frame",
    hex: "a168766331000050aa",
    tag: { packet: "frame", isKey: false, compositionTime: 80 },
    data: "aa",
  },
  {
    name: "enhanced HEVC without time",
    hex: "a368766331aa",
    tag: { codec: "hevc", packet: "frame", compositionTime: 0 },
    data: "aa",
  },
  {
    name: "enhanced AV1",
    hex: "9161763031aa",
    tag: { codec: "av1", packet: "frame", isKey: true, compositionTime: 0 },
    data: "aa",
  },
  { name: "enhanced VP9 end", hex: "9276703039", tag: { codec: "vp9", packet: "end" }, data: "" },
  { name: "enhanced AVC", hex: "9161766331ffffffaa", tag: { codec: "h264", packet: "frame", compositionTime: -1 }, data: "aa" },
  { name: "enhanced metadata", hex: "946876633102", tag: { codec: "hevc", packet: "other" }, data: "02" },
  { name: "enhanced command", hex: "d100", tag: { packet: "other" }, data: "00" },
  { name: "another FourCC", hex: "917a7a7a7a01", tag: { codec: "unknown-video", fourCc: "zzzz", packet: "frame" }, data: "01" },
  // ModEx: size-1=2, data 0f4240 (1,000,000 ns), type 0, then coded frames
  {
    name: "nanoseconds by ModEx",
    hex: "97020f4240016176303100",
    tag: { codec: "av1", packet: "frame", nanoOffset: 1_000_000 },
    data: "00",
  },
  { name: "multitrack, one track", hex: "960161763031 05 aa", tag: { codec: "av1", packet: "frame", trackId: 5 }, data: "aa" },
  {
    name: "multitrack, two tracks of one codec",
    hex: "961161763031 00 000002 aabb 01 000001 cc",
    tag: { codec: "av1", packet: "frame", trackId: 0 },
    data: "aabb",
  },
  {
    name: "multitrack HEVC with a composition time",
    hex: "961168766331 02 000005 000028 aabb 01 000003 cccccc",
    tag: { codec: "hevc", packet: "frame", trackId: 2, compositionTime: 40 },
    data: "aabb",
  },
  {
    name: "multitrack, many codecs",
    hex: "962161763031 00 000001 aa 76703039 01 000001 bb",
    tag: { codec: "av1", trackId: 0 },
    data: "aa",
  },
];

for (const { name, hex, tag, data } of VIDEO) {
  test(`video tag: ${name}`, () => {
    const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
    const parsed = parseVideoTag(bytes);
    assert.ok(parsed !== undefined);
    for (const [key, value] of Object.entries(tag)) assert.equal(parsed[key as keyof FlvVideo], value, key);
    assert.equal(parsed.data.toString("hex"), data);
    for (let end = 0; end < bytes.length; end++) onlyProtocolErrors(() => parseVideoTag(bytes.subarray(0, end)));
  });
}

const AUDIO: readonly { name: string; hex: string; tag: Partial<FlvAudio>; data: string }[] = [
  { name: "AAC sequence header", hex: "af001190", tag: { codec: "aac", packet: "config" }, data: "1190" },
  { name: "AAC frame", hex: "af0121", tag: { codec: "aac", packet: "frame" }, data: "21" },
  { name: "MP3", hex: "2ffffb", tag: { codec: "mp3", packet: "frame" }, data: "fffb" },
  { name: "G.711 A-law", hex: "72d5", tag: { codec: "pcma", packet: "frame" }, data: "d5" },
  { name: "Speex", hex: "b200", tag: { codec: "speex", packet: "frame" }, data: "00" },
  { name: "enhanced Opus start", hex: "904f7075734f70", tag: { codec: "opus", fourCc: "Opus", packet: "config" }, data: "4f70" },
  { name: "enhanced Opus frame", hex: "914f707573aa", tag: { codec: "opus", packet: "frame" }, data: "aa" },
  { name: "enhanced AC-3", hex: "9161632d33aa", tag: { codec: "ac3" }, data: "aa" },
  { name: "enhanced E-AC-3", hex: "9165632d33aa", tag: { codec: "eac3" }, data: "aa" },
  { name: "enhanced FLAC", hex: "91664c6143aa", tag: { codec: "flac" }, data: "aa" },
  { name: "enhanced AAC", hex: "916d703461aa", tag: { codec: "aac" }, data: "aa" },
  { name: "enhanced MP3", hex: "912e6d7033aa", tag: { codec: "mp3" }, data: "aa" },
  { name: "channel order", hex: "944f70757301", tag: { codec: "opus", packet: "other" }, data: "01" },
  { name: "multitrack", hex: "95014f70757303aa", tag: { codec: "opus", packet: "frame", trackId: 3 }, data: "aa" },
];

for (const { name, hex, tag, data } of AUDIO) {
  test(`audio tag: ${name}`, () => {
    const bytes = Buffer.from(hex, "hex");
    const parsed = parseAudioTag(bytes);
    assert.ok(parsed !== undefined);
    for (const [key, value] of Object.entries(tag)) assert.equal(parsed[key as keyof FlvAudio], value, key);
    assert.equal(parsed.data.toString("hex"), data);
    for (let end = 0; end < bytes.length; end++) onlyProtocolErrors(() => parseAudioTag(bytes.subarray(0, end)));
  });
}

function onlyProtocolErrors(work: () => void): void {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof ProtocolError);
  }
}

const FRAMES: readonly Pick<Frame, "kind" | "codec">[] = [
  { kind: "video", codec: "h264" },
  { kind: "video", codec: "hevc" },
  { kind: "video", codec: "av1" },
  { kind: "video", codec: "vp9" },
  { kind: "audio", codec: "aac" },
  { kind: "audio", codec: "opus" },
  { kind: "audio", codec: "flac" },
  { kind: "audio", codec: "mp3" },
  { kind: "audio", codec: "pcma" },
  { kind: "audio", codec: "pcmu" },
];

for (const { kind, codec } of FRAMES) {
  test(`what is written for ${codec} is read again`, () => {
    for (const isConfig of [false, true]) {
      if (isConfig && (codec === "mp3" || codec === "pcma" || codec === "pcmu")) continue;
      const hasOrder = codec === "h264" || codec === "hevc";
      const pts = hasOrder && !isConfig ? 140_000 : 100_000;
      const frame: Frame = { kind, codec, dts: 100_000, pts, isKey: true, isConfig, data: Buffer.from([1, 2, 3]) };
      const body = Buffer.alloc(sizeOfTagHeader(frame) + 3);
      frame.data.copy(body, writeTagHeader(body, 0, frame));
      const parsed = kind === "video" ? parseVideoTag(body) : parseAudioTag(body);
      assert.equal(parsed?.codec, codec);
      assert.equal(parsed?.packet, isConfig ? "config" : "frame");
      assert.deepEqual(parsed?.data, frame.data);
      if (parsed !== undefined && "compositionTime" in parsed) assert.equal(parsed.compositionTime, (pts - 100_000) / 1000);
    }
  });
}

test("an FLV tag has its time in 24 and 8 bits and its size behind it", () => {
  const frame: Frame = { kind: "audio", codec: "aac", dts: 0, pts: 0, isKey: true, isConfig: false, data: Buffer.from([7, 8]) };
  const tag = writeFlvTag(frame, 0x12345678);
  assert.equal(tag?.toString("hex"), "08000004345678120000" + "00af0107080000000f");
  assert.equal(writeFlvHeader(true, true).toString("hex"), "464c5601050000000900000000");
  assert.equal(writeFlvTag({ ...frame, codec: "speex" }, 0), undefined);
});
