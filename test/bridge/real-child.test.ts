// The bridge with real ffmpeg children, faster than real time.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { FfmpegTranscoders } from "../../transcoder/ffmpeg.js";
import { BridgedStream } from "../support/bridged-stream.js";
import { eventually } from "../support/child.js";
import { demoClip } from "../support/clip.js";
import { decodeOpus, findBeeps } from "../support/judge.js";

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
    for (const frame of clip) if (!frame.isConfig) bridged.write(frame);
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
