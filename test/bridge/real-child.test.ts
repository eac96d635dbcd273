// The bridge with real ffmpeg children, faster than real time.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { FfmpegTranscoders } from "../../transcoder/ffmpeg.js";
import { BridgedStream } from "../support/bridged-stream.js";
import { eventually } from "../support/child.js";
import { demoClip, runFfmpeg } from "../support/clip.js";
import { decodeOpus, findBeeps } from "../support/judge.js";
import { type AccessUnit, checkSequence, depacketizeH264, toAnnexB } from "../support/rtp-reader.js";

let transcoders: FfmpegTranscoders;
before(async () => {
  transcoders = await FfmpegTranscoders.create();
});
after(() => transcoders.close());

for (const audioRate of [44_100, 48_000]) {
  test(`keeps beep and flash together on the wire, AAC at ${audioRate} Hz`, async () => {
    const clip = await demoClip({ duration: 8, size: "160x90", bitrate: 100_000, audioRate, preset: "ultrafast" });
    const bridged = await BridgedStream.open({ transcoders });
    for (const config of clip.filter((frame) => frame.isConfig)) bridged.write(config);
    bridged.watch();
    const media = clip.filter((frame) => !frame.isConfig);
    for (const frame of media.splice(0, 6)) bridged.write(frame);
    await eventually("the child has started", () => (bridged.packets("audio").length > 0 ? true : undefined));
    for (const frame of media) bridged.write(frame);
    await eventually("eight seconds of Opus", () => (bridged.packets("audio").length >= 395 ? true : undefined));

    const audio = bridged.packets("audio");
    audio.forEach((packet, i) => {
      assert.equal(packet.sequenceNumber, i);
      assert.equal(packet.timestamp - (audio[0]?.timestamp ?? 0), i * 960, "no step but 20 ms");
    });
    const pcm = await decodeOpus(audio.map((packet) => packet.payload));
    const beeps = findBeeps(pcm, 48_000).map((sample) => ((audio[0]?.timestamp ?? 0) + sample) / 48_000);
    const pictures = bridged.packets("video").filter((packet) => packet.marker);
    const flashes = pictures.filter((_, i) => i % 25 === 0).map((packet) => packet.timestamp / 90_000);
    assert.ok(beeps.length >= 7, `beeps: ${beeps}`);
    for (const beep of beeps) {
      const nearest = flashes.reduce((a, b) => (Math.abs(b - beep) < Math.abs(a - beep) ? b : a));
      assert.ok(Math.abs(beep - nearest) < 0.005, `a beep at ${beep} s, the flash at ${nearest} s`);
    }
    bridged.close();
    await eventually("no child is left", () => (transcoders.running === 0 ? true : undefined));
  });
}

test("re-encodes B-frames: every picture at its time, in order", async () => {
  const clip = await demoClip({ duration: 6, size: "640x360", bitrate: 800_000, bframes: 3, gop: 250, tracks: "video" });
  const bridged = await BridgedStream.open({ transcoders });
  const pictures = clip.filter((frame) => !frame.isConfig);
  for (const frame of clip) if (frame.dts < 2_000_000) bridged.write(frame);
  const backlog = bridged.watch();
  assert.ok(backlog[0]?.startsKeyFrame, "a picture at once");

  // From here at most a second ahead of what came out, as a transcoder that lags is given up.
  const all = () => bridged.packets("video");
  const switched = () => all().findIndex((packet) => packet.startsKeyFrame);
  const joined = bridged.stream.now();
  const reached = () => (switched() < 0 ? joined : ((all().at(-1)?.timestamp ?? 0) / 90_000) * 1e6);
  for (const frame of pictures) {
    if (frame.dts < 2_000_000) continue;
    await eventually(
      "the transcoder keeps up",
      () => (bridged.stream.now() - reached() < 1_000_000 ? true : undefined),
      20_000,
      5,
    );
    bridged.write(frame);
  }
  const end = (pictures.length - 6) * 3_600; // the last few wait in the decoder for more
  await eventually(
    "all pictures",
    () => ((all().at(-1)?.timestamp ?? 0) - (backlog[0]?.timestamp ?? 0) >= end ? true : undefined),
    20_000,
  );
  bridged.close();

  assert.ok(switched() >= 0, "the transcoder took over");
  const recorded = all()
    .slice(switched())
    .map((packet) => ({
      arrival: 0,
      payloadType: 96,
      marker: packet.marker,
      sequenceNumber: packet.sequenceNumber & 0xffff,
      timestamp: packet.timestamp >>> 0,
      ssrc: 1,
      payload: packet.payload,
    }));
  const units = depacketizeH264(checkSequence(recorded).ordered);
  const numbers = await frameNumbers(units);
  assert.equal(numbers.length, units.length);
  const first = backlog[0]?.timestamp ?? 0;
  let exact = 0;
  for (const [i, number] of numbers.entries()) {
    assert.equal(number, (numbers[0] ?? 0) + i, "no picture is missing or out of order");
    if (units[i]?.time === first + number * 3_600) exact += 1; // not those at the switch, squeezed behind what was shown before
  }
  assert.ok(exact > numbers.length - 25 && exact > 60, `${exact} of ${numbers.length} pictures have their true time`);
});

/** What the strip of squares at the bottom of the demo's picture says, at 640x360. */
async function frameNumbers(units: readonly AccessUnit[]): Promise<number[]> {
  const strip = [
    "-vf",
    "crop=192:12:224:340,scale=16:1:flags=area,format=gray",
    "-vsync",
    "passthrough",
    "-f",
    "rawvideo",
    "pipe:1",
  ];
  const squares = await runFfmpeg(["-f", "h264", "-i", "pipe:0", ...strip], toAnnexB(units));
  const numbers: number[] = [];
  for (let offset = 0; offset < squares.length; offset += 16) {
    numbers.push(squares.subarray(offset, offset + 16).reduce((number, level) => number * 2 + (level > 127 ? 1 : 0), 0));
  }
  return numbers;
}
