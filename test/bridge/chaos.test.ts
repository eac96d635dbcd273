// Whatever a publisher and its transcoders do, what viewers get stays numbered, in time, and leaves nothing behind.

import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { FixedWorkSlots } from "../../gateway/bridge/types.js";
import type { Frame } from "../../gateway/media/frame.js";
import type { MediaPacket } from "../../gateway/rtp/packet.js";
import { BridgedStream } from "../support/bridged-stream.js";
import { FakeTranscoders } from "../support/fake-transcoders.js";
import {
  aacConfig,
  avcConfig,
  BASELINE_PPS,
  BASELINE_SPS,
  HIGH_PPS,
  HIGH_SPS,
  OPUS_20MS,
  picture,
  reorderedGop,
  soundFrame,
} from "../support/pictures.js";

type Step =
  | { readonly do: "pictures" | "reordered" | "sound"; readonly count: number }
  | { readonly do: "jump"; readonly ms: number }
  | { readonly do: "pause"; readonly ms: number }
  | { readonly do: "config"; readonly which: number }
  | { readonly do: "garbage"; readonly bytes: Uint8Array; readonly codec: number }
  | { readonly do: "emit"; readonly isKey: boolean; readonly lag: number }
  | { readonly do: "watch" | "leave" | "republish" | "kill" | "refuse" };

const CONFIGS = [avcConfig(HIGH_SPS, HIGH_PPS), avcConfig(BASELINE_SPS, BASELINE_PPS), aacConfig(48_000), aacConfig(44_100)];
const CODECS: readonly Frame["codec"][] = ["h264", "hevc", "aac", "mp3", "opus", "speex"];

/** Without these most runs would be about nothing. */
const BEGINNING: readonly Step[] = [
  { do: "config", which: 0 },
  { do: "config", which: 2 },
  { do: "reordered", count: 10 },
  { do: "watch" },
];

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constantFrom("pictures" as const, "reordered" as const, "sound" as const),
    count: fc.integer({ min: 1, max: 40 }),
  }),
  fc.record({ do: fc.constant("jump" as const), ms: fc.integer({ min: -20_000, max: 20_000 }) }),
  fc.record({ do: fc.constant("pause" as const), ms: fc.integer({ min: 0, max: 8_000 }) }),
  fc.record({ do: fc.constant("config" as const), which: fc.nat(3) }),
  fc.record({ do: fc.constant("garbage" as const), bytes: fc.uint8Array({ maxLength: 60 }), codec: fc.nat(5) }),
  fc.record({ do: fc.constant("emit" as const), isKey: fc.boolean(), lag: fc.integer({ min: 0, max: 3_000_000 }) }),
  fc.record({
    do: fc.constantFrom("watch" as const, "leave" as const, "republish" as const, "kill" as const, "refuse" as const),
  }),
);

test("any order of events keeps numbers whole and time going forward", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.constantFrom("auto" as const, "drop" as const, "transcode" as const),
      async (steps, bframe) => {
        const transcoders = new FakeTranscoders();
        const slots = new FixedWorkSlots(1);
        const bridged = await BridgedStream.open({ transcoders, slots, bframe });
        const seen: MediaPacket[] = [];
        let time = 0;
        for (const event of [...BEGINNING, ...steps]) {
          time = await run(event, bridged, transcoders, seen, time);
          seen.push(...bridged.viewer.items.splice(0).flat());
        }
        bridged.close();
        for (const kind of ["audio", "video"] as const) {
          const packets = seen.filter((packet) => packet.kind === kind);
          for (let i = 1; i < packets.length; i++) {
            const [before, packet] = [packets[i - 1] as MediaPacket, packets[i] as MediaPacket];
            assert.ok(packet.sequenceNumber > before.sequenceNumber);
            assert.ok(packet.timestamp >= before.timestamp, `${kind}: from ${before.timestamp} to ${packet.timestamp}`);
            assert.ok(Number.isSafeInteger(packet.timestamp));
            if (packet.timestamp === before.timestamp) assert.equal(before.marker, false, "one time, one picture");
          }
        }
        assert.equal(transcoders.open, 0);
        assert.equal(slots.used, 0);
        assert.equal(bridged.clock.pending, 0);
      },
    ),
    { seed: 2, numRuns: 300 },
  );
});

/** @returns the publisher's time after it, in microseconds */
async function run(
  event: Step,
  bridged: BridgedStream,
  transcoders: FakeTranscoders,
  seen: MediaPacket[],
  time: number,
): Promise<number> {
  switch (event.do) {
    case "pictures":
      for (let i = 0; i < event.count; i++) bridged.write(picture(i === 0 ? "IDR" : "P", time + i * 40_000));
      return time + event.count * 40_000;
    case "reordered":
      for (const frame of reorderedGop(time, event.count)) bridged.write(frame);
      return time + event.count * 40_000;
    case "sound":
      for (let i = 0; i < event.count; i++) bridged.write(soundFrame(time + i * 21_000));
      return time + event.count * 21_000;
    case "jump":
      return Math.max(0, time + event.ms * 1_000);
    case "pause":
      bridged.clock.advance(event.ms);
      return time;
    case "config":
      bridged.write({ ...(CONFIGS[event.which] as Frame), dts: time, pts: time });
      return time;
    case "garbage": {
      const codec = CODECS[event.codec] ?? "h264";
      const kind = codec === "h264" || codec === "hevc" ? "video" : "audio";
      bridged.write({
        kind,
        codec,
        dts: time,
        pts: time,
        isKey: false,
        isConfig: event.bytes.length % 2 === 0,
        data: Buffer.from(event.bytes),
      });
      return time;
    }
    case "emit": {
      const video = transcoders.videos.at(-1);
      const audio = transcoders.audios.at(-1);
      const fed = video?.written.at(-1)?.pts ?? 0;
      video?.emit(Math.max(0, fed - event.lag), picture(event.isKey ? "IDR" : "P", 0).data, event.isKey);
      audio?.emit((audio.written.at(-1)?.pts ?? 0) - event.lag, OPUS_20MS);
      return time;
    }
    case "watch":
      if (bridged.stream.packets.viewerCount === 0) seen.push(...bridged.watch());
      return time;
    case "leave":
      bridged.leave();
      return time;
    case "republish":
      bridged.unpublish();
      await bridged.publish();
      return 0;
    case "kill":
      transcoders.videos.at(-1)?.end("killed");
      transcoders.audios.at(-1)?.end("killed");
      return time;
    case "refuse":
      transcoders.audioRefusal = transcoders.audioRefusal === undefined ? "there is no ffmpeg" : undefined;
      transcoders.videoRefusal = transcoders.audioRefusal;
      return time;
  }
}
