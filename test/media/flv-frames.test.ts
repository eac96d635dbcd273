import assert from "node:assert/strict";
import { test } from "node:test";

import { FlvFrameReader } from "../../gateway/media/flv-frames.js";
import type { Frame } from "../../gateway/media/frame.js";
import { joinNalUnits, parseAvcConfig, toAnnexB } from "../../gateway/media/h264.js";
import {
  AAC_CONFIG,
  AVC_CONFIG,
  audioConfigTag,
  audioTag,
  PPS,
  SPS,
  type Tag,
  videoConfigTag,
  videoTag,
} from "../support/rtmp-client.js";

function setUp() {
  const frames: Frame[] = [];
  const problems: string[] = [];
  const reader = new FlvFrameReader({
    onFrame: (frame) => frames.push(frame),
    onProblem: (code) => problems.push(code),
  });
  const push = (...tags: Tag[]) => {
    for (const tag of tags) {
      if (tag.type === 9) reader.video(tag.timestamp, tag.body);
      else reader.audio(tag.timestamp, tag.body);
    }
  };
  return { frames, problems, reader, push };
}

const words = (frames: readonly Frame[]) =>
  frames.map((f) => `${f.codec} ${f.isConfig ? "config" : f.isKey ? "key" : "inter"} ${f.dts}`);
const OTHER_PPS = Buffer.from("68ebe3cb22c0", "hex");

test("times are microseconds, with composition time in pts", () => {
  const { frames, push } = setUp();
  push(videoConfigTag(), videoTag(0, { key: true, compositionTime: 80 }), videoTag(40, { compositionTime: -10 }));
  assert.deepEqual(words(frames), ["h264 config 0", "h264 key 0", "h264 inter 40000"]);
  assert.equal(frames[1]?.pts, 80_000);
  assert.equal(frames[2]?.pts, 30_000);
});

test("the 32-bit clock is unwrapped over its end, forwards and backwards", () => {
  const { frames, push } = setUp();
  push(audioConfigTag(0xfffffff0), audioTag(0xfffffff0), audioTag(0x10), audioTag(0xfffffffe), audioTag(0x20));
  const base = 0xfffffff0;
  assert.deepEqual(
    frames.slice(1).map((f) => f.dts),
    [base * 1000, (base + 0x20) * 1000, (base + 0x0e) * 1000, (base + 0x30) * 1000],
  );
});

test("configuration and metadata stamped 0 in mid-stream take the time of the media around them", () => {
  const { frames, reader, push } = setUp();
  const late = 0xc0000000; // 37 days: half a turn and more away from 0
  push(videoConfigTag(0), videoTag(late, { key: true }), audioConfigTag(0));
  reader.data(0, Buffer.from([5]));
  push(videoTag(late + 40));
  assert.deepEqual(
    frames.map((f) => f.dts / 1000),
    [0, late, late, late, late + 40],
  );
});

test("H.264 without a sequence header is dropped with one warning until there is one", () => {
  const { frames, problems, reader, push } = setUp();
  push(videoTag(0, { key: true }), videoTag(40), videoTag(80));
  assert.deepEqual(frames, []);
  assert.deepEqual(problems, ["video-without-config"]);
  assert.equal(reader.dropped, 3);
  push(videoConfigTag(100), videoTag(120, { key: true }));
  assert.deepEqual(words(frames), ["h264 config 100000", "h264 key 120000"]);
});

test("parameter sets in band make a configuration when there was none", () => {
  const { frames, problems, push } = setUp();
  push(videoTag(0, { key: true, before: [SPS, PPS] }));
  assert.deepEqual(words(frames), ["h264 config 0", "h264 key 0"]);
  assert.deepEqual(frames[0]?.data, AVC_CONFIG);
  assert.deepEqual(problems, []);
});

test("parameter sets in band that differ make a new configuration, equal ones do not", () => {
  const { frames, push } = setUp();
  push(videoConfigTag(), videoTag(0, { key: true, before: [SPS, PPS] }), videoTag(40, { key: true, before: [SPS, OTHER_PPS] }));
  assert.deepEqual(words(frames), ["h264 config 0", "h264 key 0", "h264 config 40000", "h264 key 40000"]);
  const config = parseAvcConfig(frames[2]?.data as Buffer);
  assert.deepEqual(config?.pps, [OTHER_PPS]);
});

test("a repeated sequence header is told once, a different one again", () => {
  const { frames, push } = setUp();
  const other = Buffer.from("0142c01effe100196742c01ed900a02ff97011000003000100000300320f162e4801000568cb83cb20", "hex");
  push(videoConfigTag(0), videoConfigTag(40), videoConfigTag(80, other), videoConfigTag(120, other));
  assert.deepEqual(words(frames), ["h264 config 0", "h264 config 80000"]);
});

test("a sequence header without an SPS is a problem, and what was known stays", () => {
  const { frames, problems, push } = setUp();
  push(videoConfigTag(), videoConfigTag(0, Buffer.from("0164000cffe000", "hex")), videoTag(0, { key: true }));
  assert.deepEqual(words(frames), ["h264 config 0", "h264 key 0"]);
  assert.deepEqual(problems, ["video-config-invalid"]);
});

test("short lengths become four bytes, in the configuration too", () => {
  const { frames, push } = setUp();
  const config = Buffer.from(AVC_CONFIG);
  config[4] = 0xfd; // lengthSizeMinusOne=1
  const nal = Buffer.from([0x65, 0x88, 1, 2]);
  const body = Buffer.concat([Buffer.from([0x17, 1, 0, 0, 0, 0, 4]), nal]);
  push(videoConfigTag(0, config), { type: 9, timestamp: 0, body });
  assert.deepEqual(frames[0]?.data, AVC_CONFIG);
  assert.deepEqual(frames[1]?.data, joinNalUnits([nal]));
});

test("Annex B inside FLV is understood", () => {
  const { frames, push } = setUp();
  const nal = Buffer.from([0x65, 0x88, 1, 2]);
  const body = (units: Buffer[], type: number) =>
    Buffer.concat([Buffer.from([0x17, type, 0, 0, 0]), toAnnexB(joinNalUnits(units))]);
  push({ type: 9, timestamp: 0, body: body([SPS, PPS], 0) }, { type: 9, timestamp: 0, body: body([SPS, PPS, nal], 1) });
  assert.deepEqual(words(frames), ["h264 config 0", "h264 key 0"]);
  assert.deepEqual(frames[1]?.data, joinNalUnits([SPS, PPS, nal]));
});

test("a picture whose lengths do not fit is dropped, with one warning", () => {
  const { frames, problems, push } = setUp();
  const bad = videoTag(0, { key: true });
  bad.body[6] = 0x7f;
  push(videoConfigTag(), bad, bad, videoTag(40, { key: true }));
  assert.deepEqual(words(frames), ["h264 config 0", "h264 key 40000"]);
  assert.deepEqual(problems, ["video-malformed"]);
});

test("what has no picture in it is no frame", () => {
  const { frames, push } = setUp();
  const sei = { type: 9, timestamp: 0, body: Buffer.from("27010000000000000206 05".replace(" ", ""), "hex") };
  const empty = { type: 9, timestamp: 0, body: Buffer.from("2701000000", "hex") };
  push(videoConfigTag(), sei, empty, { type: 9, timestamp: 0, body: Buffer.alloc(0) });
  assert.deepEqual(words(frames), ["h264 config 0"]);
});

test("an IDR marked as inter frame is a key frame, and a key frame without IDR is not", () => {
  const { frames, push } = setUp();
  const marked = videoTag(0, { key: true });
  marked.body[0] = 0x27;
  const unmarked = videoTag(40);
  unmarked.body[0] = 0x17;
  push(videoConfigTag(), marked, unmarked);
  assert.deepEqual(words(frames), ["h264 config 0", "h264 key 0", "h264 inter 40000"]);
});

test("AAC without a sequence header is dropped, other audio passes", () => {
  const { frames, problems, push } = setUp();
  push(audioTag(0), { type: 8, timestamp: 0, body: Buffer.from("2ffffb90", "hex") });
  assert.deepEqual(words(frames), ["mp3 key 0"]);
  assert.deepEqual(problems, ["audio-without-config"]);
});

test("enhanced codecs are named", () => {
  const { frames, reader, push } = setUp();
  push({ type: 9, timestamp: 0, body: Buffer.from("9068766331aa", "hex") });
  push({ type: 9, timestamp: 40, body: Buffer.from("9168766331000028aa", "hex") });
  push({ type: 8, timestamp: 40, body: Buffer.from("914f707573aa", "hex") });
  assert.deepEqual(words(frames), ["hevc config 0", "hevc key 40000", "opus key 40000"]);
  assert.equal(frames[1]?.pts, 80_000);
  assert.deepEqual([reader.videoCodec, reader.audioCodec], ["hevc", "opus"]);
});

test("what lives long is a copy, what passes is a view", () => {
  const { frames, push } = setUp();
  const config = audioConfigTag();
  const media = audioTag(0);
  push(config, media);
  config.body.fill(0);
  assert.deepEqual(frames[0]?.data, AAC_CONFIG);
  media.body[2] = 0x99;
  assert.equal(frames[1]?.data[0], 0x99);
});
