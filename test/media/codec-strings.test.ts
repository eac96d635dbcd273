import assert from "node:assert/strict";
import { test } from "node:test";

import { describeAudio, describeVideo } from "../../gateway/media/codec-strings.js";
import { writeAvcConfig } from "../../gateway/media/h264.js";
import type { SegmentAudio, SegmentVideo } from "../../gateway/media/packager.js";

const SPS = Buffer.from("6742c01fd9005005bb016a02020280000003008000001e078c18cb", "hex");
const HVCC = `01016000000090000000000 05df000fcfdf8f800000f00`.replace(" ", "");

const VIDEOS: readonly (readonly [SegmentVideo, object])[] = [
  [
    { codec: "h264", configuration: writeAvcConfig([SPS], [Buffer.from("68ce3c80", "hex")]) },
    { codec: "avc1.42c01f", width: 1280, height: 720, frameRate: 30 },
  ],
  [
    { codec: "hevc", configuration: Buffer.from(HVCC, "hex") }, // no parameter sets: the size is not known
    { codec: "hvc1.1.6.L93.90", width: undefined, height: undefined, frameRate: undefined },
  ],
  [
    { codec: "av1", configuration: Buffer.from([0x81, 0x28, 0xc0, 0]) }, // profile 1, level 4.0, high tier, 10 bits
    { codec: "av01.1.08H.10", width: undefined, height: undefined, frameRate: undefined },
  ],
];

const AUDIOS: readonly (readonly [SegmentAudio, object])[] = [
  [
    { codec: "aac", configuration: Buffer.from([0x12, 0x10]) },
    { codec: "mp4a.40.2", sampleRate: 44_100, channels: 2 },
  ],
  [
    { codec: "aac", configuration: Buffer.from([0x2b, 0x11, 0x88, 0x00]) },
    { codec: "mp4a.40.5", sampleRate: 24_000, channels: 2 },
  ],
  [
    { codec: "opus", configuration: Buffer.alloc(0) },
    { codec: "opus", sampleRate: 48_000, channels: 2 },
  ],
  [
    { codec: "opus", configuration: Buffer.from("4f707573486561640101380180bb0000000000", "hex") },
    { codec: "opus", sampleRate: 48_000, channels: 1 },
  ],
];

test("names codecs the way playlists do", () => {
  for (const [track, expected] of VIDEOS) assert.deepEqual(describeVideo(track), expected);
  for (const [track, expected] of AUDIOS) assert.deepEqual(describeAudio(track), expected);
});

test("says nothing of a configuration that makes no sense, at any length", () => {
  for (const [track] of VIDEOS) {
    assert.equal(describeVideo({ ...track, configuration: Buffer.alloc(40) }), undefined);
    for (let length = 0; length < track.configuration.length; length++) {
      assert.doesNotThrow(() => describeVideo({ ...track, configuration: track.configuration.subarray(0, length) }));
    }
  }
  assert.equal(describeAudio({ codec: "aac", configuration: Buffer.alloc(0) }), undefined);
});
