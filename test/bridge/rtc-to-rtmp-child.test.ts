// WebRTC to RTMP with a real ffmpeg child, at the speed of the clock: what comes out is judged by decoding it.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { RtcToRtmp } from "../../gateway/bridge/rtc-to-rtmp.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import { writeFlvHeader, writeFlvTag } from "../../gateway/media/flv.js";
import type { Frame } from "../../gateway/media/frame.js";
import { H264Packetizer } from "../../gateway/rtp/h264-payload.js";
import { MediaPacket } from "../../gateway/rtp/packet.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { demoSource } from "../../scripts/demo-source.js";
import { FfmpegTranscoders } from "../../transcoder/ffmpeg.js";
import { NutReader } from "../../transcoder/nut.js";
import { eventually } from "../support/child.js";
import { demoClip, runFfmpeg } from "../support/clip.js";
import { Collector, peer } from "../support/frames.js";
import { findBeeps } from "../support/judge.js";

const SECONDS = 7;

test("flash and beep stay together, nothing is damaged, sound in exact steps, one order for both tracks", async () => {
  const pictures = await demoClip({ duration: SECONDS, size: "320x180", bitrate: 300_000, tracks: "video", preset: "ultrafast" });
  const opus: Buffer[] = [];
  const nut = new NutReader((frame) => void opus.push(frame.data));
  const source = demoSource({ duration: SECONDS, tracks: "audio", realTime: false });
  nut.push(await runFfmpeg([...source, "-c:a", "libopus", "-b:a", "64k", "-frame_duration", "20", "-f", "nut", "pipe:1"]));

  const clock = new SystemClock();
  const transcoders = await FfmpegTranscoders.create();
  const log: string[] = [];
  const line = (text: string): void => void log.push(text);
  const hub = new LiveHub({
    clock,
    vhost: (name) => ({ name, gopCacheFrames: 2_500, grace: 10_000, takeover: "on" }),
    converter: (stream) => new RtcToRtmp({ stream, clock, transcoders, log: { debug: line, info: line, warn: line } }),
  });
  const { stream } = await hub.publish({
    name: { vhost: "v", app: "live", stream: "s" },
    peer: peer("192.0.2.1", "rtc"),
    source: { requestKeyFrame: () => {}, close: () => {} },
    lane: "packets",
  });
  const lane = stream.packets;
  lane.setTrack({ kind: "video", codec: "h264", clockRate: 90_000, formatParameters: "packetization-mode=1" });
  lane.setTrack({ kind: "audio", codec: "opus", clockRate: 48_000, channels: 2, formatParameters: "" });
  const viewer = new Collector<Frame>();
  const at = new Map<Frame, number>();
  stream.frames.add({ write: (frame) => viewer.write(frame) ?? at.set(frame, clock.now()), close: () => {} });

  const packetizer = new H264Packetizer();
  for (const frame of pictures) if (frame.isConfig) packetizer.setConfig(frame.data);
  const media = pictures.filter((frame) => !frame.isConfig);
  const base = clock.now();
  const zero = stream.now() + 50_000;
  let nextPicture = 0;
  let nextSound = 0;
  while (nextPicture < media.length || nextSound < opus.length) {
    const now = (clock.now() - base) * 1000;
    for (let frame = media[nextPicture]; frame !== undefined && frame.dts <= now; frame = media[++nextPicture]) {
      const timestamp = Math.round(((zero + frame.pts) * 90) / 1000);
      lane.write(packetizer.packetize(frame.data, frame.isKey, timestamp, lane.nextSequenceNumber("video")));
    }
    for (let packet = opus[nextSound]; packet !== undefined && nextSound * 20_000 + 20_000 <= now; packet = opus[++nextSound]) {
      const timestamp = Math.round((zero * 48) / 1000) + nextSound * 960;
      lane.write([new MediaPacket("audio", lane.nextSequenceNumber("audio"), timestamp, false, false, false, packet)]);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await new Promise((resolve) => setTimeout(resolve, 150));
  hub.close("the test is over");
  await eventually("no child is left", () => (transcoders.running === 0 ? true : undefined));

  const frames = viewer.items;
  const sound = frames.filter((frame) => frame.kind === "audio" && !frame.isConfig);
  const video = frames.filter((frame) => frame.kind === "video" && !frame.isConfig);
  assert.ok(video.length >= media.length - 3, `${video.length} pictures of ${media.length}`);
  for (let i = 1; i < frames.length; i++) assert.ok((frames[i]?.dts ?? 0) >= (frames[i - 1]?.dts ?? 0));
  for (let i = 1; i < sound.length; i++) {
    const samples = Math.round((((sound[i]?.dts ?? 0) - (sound[i - 1]?.dts ?? 0)) * 48) / 1000);
    assert.equal(samples, 1024);
  }
  const first = (kind: string): number => at.get(frames.find((frame) => frame.kind === kind && !frame.isConfig) as Frame) ?? 0;
  assert.ok(first("audio") - base < 500 && first("video") - base < 500, `${first("audio") - base}, ${first("video") - base}`);

  const directory = await mkdtemp(join(tmpdir(), "sluice-"));
  try {
    const file = join(directory, "out.flv");
    const tags = frames.map((frame) => writeFlvTag(frame, Math.round(frame.dts / 1000)) ?? Buffer.alloc(0));
    await writeFile(file, Buffer.concat([writeFlvHeader(true, true), ...tags]));
    await runFfmpeg(["-xerror", "-err_detect", "explode", "-i", file, "-f", "null", "-"]);
    const pcm = await runFfmpeg([
      "-copyts",
      "-i",
      file,
      "-vn",
      "-af",
      "aresample=48000:async=1:first_pts=0",
      "-ac",
      "1",
      "-f",
      "s16le",
      "-",
    ]);
    const samples = new Int16Array(pcm.buffer, pcm.byteOffset, pcm.length >> 1);
    const beeps = findBeeps(samples, 48_000).map((sample) => sample / 48);
    assert.ok(beeps.length >= SECONDS - 2, `${beeps.length} beeps`);
    // Flash and beep k are at second k of the source. Pictures carry their times; for the sound what counts is what is heard.
    for (const picture of video)
      assert.ok(Math.abs(((picture.pts - zero + 20_000) % 40_000) - 20_000) <= 100, `${picture.pts - zero}`);
    const errors = beeps.map((beep) => beep - zero / 1000 - Math.round((beep - zero / 1000) / 1000) * 1000);
    assert.ok(
      errors.every((error) => Math.abs(error) < 5),
      `${errors}`,
    );
    if (process.env["SHOW"] !== undefined) {
      const waits = sound.map((frame) => (at.get(frame) ?? 0) - base - (frame.dts - zero) / 1000).sort((a, b) => a - b);
      console.log(errors, first("audio") - base, first("video") - base, "sound p50", waits[waits.length >> 1], log);
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
