// A real ffmpeg pushes a file; what reaches the hub is compared with what ffprobe says of the file.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";

import { pino } from "pino";

import { parseAudioConfig } from "../../gateway/media/audio.js";
import { Refusal } from "../../gateway/media/errors.js";
import type { Frame } from "../../gateway/media/frame.js";
import { describeAccessUnit, SLICE, spsOfConfig } from "../../gateway/media/h264.js";
import { RtmpServer } from "../../gateway/rtmp/server.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { FakeHub } from "../support/fake-hub.js";

const run = promisify(execFile);

type Packet = { dts: number; pts: number; isKey: boolean };

/** Packets of one track, times in milliseconds as FLV has them. */
async function packetsOf(file: string, track: "v" | "a"): Promise<Packet[]> {
  const { stdout } = await run("ffprobe", [
    "-v",
    "error",
    "-select_streams",
    track,
    "-show_entries",
    "packet=dts_time,pts_time,flags",
    "-of",
    "csv=p=0",
    file,
  ]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => {
      const [pts, dts, flags] = line.split(","); // ffprobe's own order
      return { dts: Math.round(Number(dts) * 1000), pts: Math.round(Number(pts) * 1000), isKey: flags?.includes("K") === true };
    });
}

const media = (frames: readonly Frame[], kind: "video" | "audio") =>
  frames.filter((frame) => frame.kind === kind && !frame.isConfig);

async function setUp(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), "rtmp-"));
  const hub = new FakeHub();
  const server = new RtmpServer({
    listen: [{ host: "127.0.0.1", port: 0 }],
    hub,
    clock: new SystemClock(),
    log: pino({ level: "silent" }),
    vhost: () => ({
      name: "__defaultVhost__",
      publish: { firstPacketTimeout: 20_000, normalTimeout: 5_000 },
      play: { queueLength: 30_000 },
    }),
  });
  await server.start();
  t.after(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });
  return { hub, folder, port: server.addresses[0]?.port ?? 0 };
}

test("ffmpeg is told why it is refused", async (t) => {
  const { hub, port } = await setUp(t);
  hub.refusal = new Refusal("busy", "another publisher holds the stream");
  const source = ["-re", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=8", "-c:v", "libx264", "-preset", "ultrafast"];
  const push = run("ffmpeg", ["-v", "error", "-nostdin", ...source, "-f", "flv", `rtmp://127.0.0.1:${port}/live/livestream`]);
  await assert.rejects(push, /another publisher holds the stream/);
});

for (const audioRate of [44_100, 48_000]) {
  test(`ffmpeg -c copy with B-frames and AAC at ${audioRate} Hz: every frame, every time`, async (t) => {
    const { hub, folder, port } = await setUp(t);
    const file = join(folder, "clip.flv");
    const sources = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=8", "-f", "lavfi", "-i", `sine=f=440:r=${audioRate}:d=8`];
    const video = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "3", "-b_strategy", "0", "-g", "50", "-pix_fmt", "yuv420p"];
    await run("ffmpeg", ["-v", "error", "-nostdin", ...sources, ...video, "-c:a", "aac", "-ac", "2", file]);
    const url = `rtmp://127.0.0.1:${port}/live/livestream?key=abc`;
    // A notice to the publisher, as the bridge sends it for B-frames, must not disturb an encoder.
    void hub
      .until(() => hub.publications[0]?.frames.length === 5)
      .then(() => {
        hub.publications[0]?.request.source.notify?.("NetStream.Publish.BFrames", "B-frames are left out for WebRTC");
      });
    await run("ffmpeg", ["-v", "error", "-nostdin", "-copyts", "-i", file, "-c", "copy", "-f", "flv", url]);
    const [publication] = hub.publications;
    assert.ok(publication !== undefined);
    await hub.until(() => publication.ended.length === 1);
    assert.equal(publication.request.peer.parameters, "?key=abc");

    const pictures = media(publication.frames, "video");
    const sounds = media(publication.frames, "audio");
    const wantedPictures = await packetsOf(file, "v");
    const wantedSounds = await packetsOf(file, "a");
    assert.equal(wantedPictures.length, 200);
    const first = wantedPictures[0]?.dts ?? 0; // the file may begin before zero; RTMP cannot
    const shift = (pictures[0]?.dts ?? 0) / 1000 - first;
    const asPacket = (frame: Frame): Packet => ({
      dts: frame.dts / 1000 - shift,
      pts: frame.pts / 1000 - shift,
      isKey: frame.isKey,
    });
    assert.deepEqual(pictures.map(asPacket), wantedPictures);
    assert.deepEqual(sounds.map(asPacket), wantedSounds);

    const videoConfig = publication.frames.find((frame) => frame.kind === "video" && frame.isConfig);
    const audioConfig = publication.frames.find((frame) => frame.kind === "audio" && frame.isConfig);
    const sps = videoConfig && spsOfConfig(videoConfig.data);
    assert.deepEqual([sps?.width, sps?.height, sps?.frameRate], [320, 180, 25]);
    assert.equal(audioConfig && parseAudioConfig(audioConfig.data)?.sampleRate, audioRate);
    assert.equal(publication.frames.filter((frame) => frame.kind === "data").length, 1);
    const types = pictures.map((frame) => describeAccessUnit(frame.data).sliceType);
    const ofB = types.filter((type) => type === SLICE.B).length;
    assert.ok(ofB > 100, `${ofB} B-frames found in 200 frames with -bf 3`);
  });
}
