import assert from "node:assert/strict";
import { test } from "node:test";

import { FixedWorkSlots } from "../../gateway/bridge/types.js";
import type { MediaPacket } from "../../gateway/rtp/packet.js";
import { BridgedStream, type BridgedStreamOptions } from "../support/bridged-stream.js";
import { FakeTranscoders } from "../support/fake-transcoders.js";
import {
  avcConfig,
  BASELINE_PPS,
  BASELINE_SPS,
  HIGH_PPS,
  HIGH_SPS,
  LARGE_HIGH_SPS,
  picture,
  reorderedGop,
} from "../support/pictures.js";

async function open(
  options: Partial<BridgedStreamOptions> = {},
): Promise<{ bridged: BridgedStream; transcoders: FakeTranscoders }> {
  const transcoders = new FakeTranscoders();
  return { bridged: await BridgedStream.open({ transcoders, ...options }), transcoders };
}

/** RTP times in milliseconds of the pictures sent, less that of the first. */
function times(packets: readonly MediaPacket[]): number[] {
  const pictures = packets.filter((packet) => packet.marker);
  return pictures.map((packet) => Math.round((packet.timestamp - (pictures[0]?.timestamp ?? 0)) / 90));
}

function assertNumbered(packets: readonly MediaPacket[]): void {
  packets.forEach((packet, i) => {
    assert.equal(packet.sequenceNumber, (packets[0]?.sequenceNumber ?? 0) + i);
  });
}

test("announces both tracks before any media, and the profile of the stream once it is known", async () => {
  const { bridged } = await open();
  assert.match(bridged.stream.packets.track("video")?.formatParameters ?? "", /profile-level-id=42e01f/);
  assert.equal(bridged.stream.packets.track("audio")?.codec, "opus");
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  bridged.watch();
  assert.match(bridged.stream.packets.track("video")?.formatParameters ?? "", /packetization-mode=1;profile-level-id=64000c/);
  bridged.close();
});

test("does nothing while nobody watches", async () => {
  const { bridged, transcoders } = await open();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  for (const frame of reorderedGop(0, 25)) bridged.write(frame);
  assert.equal(bridged.stream.packets.nextSequenceNumber("video"), 0);
  assert.equal(bridged.stream.frames.viewerCount, 0);
  assert.equal(transcoders.videos.length, 0);
  bridged.close();
});

test("gives the first viewer the cached pictures at once and then each picture in the turn it comes", async () => {
  const { bridged } = await open();
  bridged.write(avcConfig(BASELINE_SPS, BASELINE_PPS));
  bridged.write(picture("IDR", 0, { size: 5_000 }));
  bridged.write(picture("P", 40_000));
  bridged.write(picture("P", 80_000, { refIdc: 0 }));
  bridged.watch();
  const { packets } = bridged.stream;
  const start = packets.keyFrameStart ?? -1;
  assert.equal(start, 0);
  const history = Array.from({ length: packets.nextSequenceNumber("video") }, (_, i) => packets.find("video", i));
  assert.deepEqual(times(history.filter((packet) => packet !== undefined)), [0, 40, 80]);
  assert.equal(history.at(-1)?.isDiscardable, true);

  bridged.write(picture("P", 120_000));
  assert.equal(bridged.packets("video").length, 1);
  assert.equal((bridged.packets("video")[0]?.timestamp ?? 0) - (history[0]?.timestamp ?? 0), 120 * 90);
  assert.equal(bridged.packets("video")[0]?.sequenceNumber, history.length);
  bridged.close();
});

test("stops a while after the last viewer has left, and starts again with a picture", async () => {
  const { bridged, transcoders } = await open();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  for (const frame of reorderedGop(0, 10)) bridged.write(frame);
  bridged.watch();
  assert.equal(transcoders.open, 1);
  bridged.leave();
  bridged.clock.advance(10_000);
  assert.equal(transcoders.open, 0);
  assert.equal(bridged.stream.frames.viewerCount, 0);
  assert.equal(bridged.stream.notes.size, 0);
  const next = bridged.stream.packets.nextSequenceNumber("video");
  bridged.write(picture("P", 11_000_000));
  assert.equal(bridged.stream.packets.nextSequenceNumber("video"), next);

  bridged.watch();
  assert.equal(transcoders.open, 1);
  assert.equal(bridged.stream.packets.keyFrameStart, next);
  bridged.close();
  assert.equal(transcoders.open, 0);
});

test("takes a new configuration over with the next key frame", async () => {
  const { bridged } = await open();
  bridged.watch();
  bridged.write(avcConfig(BASELINE_SPS, BASELINE_PPS));
  bridged.write(picture("IDR", 0));
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS, 40_000));
  bridged.write(picture("P", 40_000)); // refers to what its configuration does not know
  bridged.write(picture("IDR", 80_000));
  const packets = bridged.packets("video");
  assert.deepEqual(times(packets), [0, 80]);
  const second = packets.find((packet) => packet.startsKeyFrame && packet.timestamp !== packets[0]?.timestamp);
  assert.ok(second?.payload.includes(HIGH_SPS));
  assert.match(bridged.stream.packets.track("video")?.formatParameters ?? "", /64000c/);
  bridged.close();
});

test("goes on behind a publisher that comes back", async () => {
  const { bridged } = await open();
  bridged.watch();
  bridged.write(avcConfig(BASELINE_SPS, BASELINE_PPS));
  bridged.write(picture("IDR", 5_000_000));
  bridged.write(picture("P", 5_040_000));
  bridged.unpublish();
  bridged.clock.advance(3_000);
  await bridged.publish();
  bridged.write(avcConfig(BASELINE_SPS, BASELINE_PPS));
  bridged.write(picture("IDR", 0));
  const packets = bridged.packets("video");
  assertNumbered(packets);
  const [, last = 0, back = 0] = times(packets);
  assert.ok(back - last >= 2_900 && back - last < 3_200, `${back - last} ms`);
  bridged.close();
});

test("names a codec that is not bridged, to the viewer and once to the publisher", async () => {
  const { bridged } = await open();
  bridged.watch();
  const config = { ...avcConfig(HIGH_SPS, HIGH_PPS), codec: "hevc" as const };
  bridged.write(config);
  bridged.write({ ...picture("IDR", 0), codec: "hevc" });
  bridged.write({ ...picture("P", 40_000), codec: "hevc" });
  assert.equal(bridged.packets("video").length, 0);
  assert.equal(bridged.log.filter((line) => line.includes("hevc")).length, 1);
  assert.equal(bridged.source.notices.filter((line) => line.includes("hevc")).length, 1);
  const play = bridged.hub.play({
    name: bridged.stream.name,
    peer: { id: "viewer", protocol: "rtc", address: "192.0.2.2", parameters: "" },
    lane: "packets",
  });
  await assert.rejects(play, /hevc/);
  bridged.close();
});

test("bframe drop: leaves out what is out of order, and keeps the true times of the rest", async () => {
  const { bridged, transcoders } = await open({ bframe: "drop" });
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  bridged.watch();
  for (const frame of reorderedGop(0, 13)) bridged.write(frame);
  const packets = bridged.packets("video");
  assertNumbered(packets);
  assert.deepEqual(times(packets), [0, 120, 240, 360, 480]);
  assert.equal(transcoders.videos.length, 0);
  assert.match(bridged.stream.notes.get("video") ?? "", /left out/);
  assert.equal(bridged.source.notices.length, 1);
  bridged.close();
});

test("bframe keep: passes everything on as it is", async () => {
  const { bridged, transcoders } = await open({ bframe: "keep" });
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  bridged.watch();
  for (const frame of reorderedGop(0, 7)) bridged.write(frame);
  assert.deepEqual(times(bridged.packets("video")), [0, 120, 40, 80, 240, 160, 200]);
  assert.equal(transcoders.videos.length, 0);
  bridged.close();
});

test("bframe auto: re-encodes from the cached pictures on, and switches with the first key frame that comes out", async () => {
  const { bridged, transcoders } = await open();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  const gop = reorderedGop(0, 100);
  for (const frame of gop.slice(0, 50)) bridged.write(frame);
  bridged.watch();
  const [transcoder] = transcoders.videos;
  assert.ok(transcoder !== undefined);
  assert.equal(transcoder.options.frameRate, 25);
  assert.ok(transcoder.options.skipBefore > 1_900_000, "what is old does not come out");
  assert.ok(transcoder.written.length < 30, "of what is old only what others refer to goes in");
  assert.ok(bridged.stream.packets.keyFrameStart !== undefined, "a picture is there meanwhile");

  for (const frame of gop.slice(50, 60)) bridged.write(frame);
  assert.equal(bridged.packets("video").length, 0, "what is live waits for the transcoder");
  transcoder.emit(2_200_000, picture("P", 0).data, false); // cannot be started from
  assert.equal(bridged.packets("video").length, 0);
  transcoder.emit(2_240_000, picture("IDR", 0).data, true);
  transcoder.emit(2_280_000, picture("P", 0).data, false);
  for (const frame of gop.slice(60, 70)) bridged.write(frame);
  transcoder.emit(3_000_000, picture("P", 0).data, false);
  const packets = bridged.packets("video");
  assert.equal(packets.length, 3, "nothing of the source any more");
  assertNumbered(packets);
  for (let i = 1; i < packets.length; i++) assert.ok((packets[i]?.timestamp ?? 0) > (packets[i - 1]?.timestamp ?? 0));
  assert.equal(bridged.log.filter((line) => line.startsWith("info")).length, 1);
  assert.equal(bridged.source.notices.length, 1);
  assert.match(bridged.stream.notes.get("video") ?? "", /re-encoded/);
  bridged.close();
  assert.equal(transcoder.state, "closed");
});

test("bframe auto: goes on without B-frames while the transcoder takes long to start", async () => {
  const { bridged, transcoders } = await open();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  const gop = reorderedGop(0, 100);
  for (const frame of gop.slice(0, 30)) bridged.write(frame);
  const cached = bridged.watch();
  for (const frame of gop.slice(30, 70)) bridged.write(frame);
  const packets = [...cached, ...bridged.packets("video")];
  assertNumbered(packets);
  assert.ok(times(packets).length >= 23, "every third picture");
  const steps = times(packets).map((time, i) => time - (times(packets)[i - 1] ?? -120));
  assert.ok(
    steps.every((step) => step === 120),
    "none is missing between the cached ones and the live ones",
  );
  transcoders.videos[0]?.emit(2_400_000, picture("IDR", 0).data, true);
  assert.ok((bridged.packets("video").at(-1)?.timestamp ?? 0) > (packets.at(-1)?.timestamp ?? 0), "RTP time never goes back");
  bridged.close();
});

test("bframe auto: notices B-frames that come later", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  bridged.write(picture("IDR", 0));
  for (let i = 1; i < 20; i++) bridged.write(picture("P", i * 40_000));
  assert.equal(transcoders.videos.length, 0);
  for (const frame of reorderedGop(800_000, 10)) bridged.write(frame);
  assert.equal(transcoders.videos.length, 1);
  const written = transcoders.videos[0]?.written ?? [];
  assert.equal(written[0]?.isKey, true);
  assert.equal(written.length, 10, "every picture of the group goes in once");
  bridged.close();
});

test("does not take jittery composition times for B-frames", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  bridged.write(picture("IDR", 0));
  for (let i = 1; i < 50; i++) bridged.write(picture("P", i * 16_000, { pts: i * 16_000 + ((i * 7) % 3) * 9_000 }));
  assert.equal(transcoders.videos.length, 0);
  const steps = times(bridged.packets("video")).map((time, i, all) => time - (all[i - 1] ?? -1));
  assert.equal(steps.length, 50);
  assert.ok(steps.every((step) => step >= 0));
  bridged.close();
});

test("bframe auto: without room or libx264 it says so and drops", async () => {
  const full = await open({ slots: new FixedWorkSlots(0) });
  const lacking = await open();
  lacking.transcoders.videoRefusal = "ffmpeg was built without libx264";
  for (const { bridged, transcoders } of [full, lacking]) {
    bridged.watch();
    bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
    for (const frame of [...reorderedGop(0, 13), ...reorderedGop(520_000, 13)]) bridged.write(frame);
    assert.equal(transcoders.videos.length, 0);
    assert.ok(bridged.packets("video").length >= 8);
    assert.equal(bridged.log.filter((line) => line.startsWith("info")).length, 1, bridged.log.join());
    bridged.close();
  }
  assert.match(full.bridged.log.join(), /no room/);
  assert.match(lacking.bridged.log.join(), /libx264/);
});

test("falls back when the transcoder dies, and tries again", async () => {
  const slots = new FixedWorkSlots(1);
  const { bridged, transcoders } = await open({ slots });
  bridged.watch();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  for (const frame of reorderedGop(0, 25)) bridged.write(frame);
  transcoders.videos[0]?.emit(500_000, picture("IDR", 0).data, true);
  transcoders.videos[0]?.end("killed");
  assert.equal(slots.used, 0);
  const before = bridged.packets("video").length;
  bridged.write(picture("P", 1_000_000, { pts: 1_160_000 }));
  assert.equal(bridged.packets("video").length, before, "its references never reached the viewers");
  for (const frame of reorderedGop(1_040_000, 25)) bridged.write(frame);
  assert.ok(bridged.packets("video").length > before);
  assert.equal(transcoders.videos.length, 2);
  assert.equal(slots.used, 1);
  assert.equal(bridged.log.filter((line) => line.startsWith("warn")).length, 1);
  bridged.close();
  assert.equal(slots.used, 0);
  assert.equal(transcoders.open, 0);
});

test("gives a transcoder up that falls behind", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  const gop = reorderedGop(0, 100);
  for (const frame of gop.slice(0, 20)) bridged.write(frame);
  transcoders.videos[0]?.emit(400_000, picture("IDR", 0).data, true);
  for (const frame of gop.slice(20)) bridged.write(frame);
  assert.equal(transcoders.videos[0]?.state, "closed");
  assert.match(bridged.log.join(), /too slow/);
  bridged.close();
});

test("starts another transcoder with another configuration", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(avcConfig(HIGH_SPS, HIGH_PPS));
  for (const frame of reorderedGop(0, 10)) bridged.write(frame);
  bridged.write(avcConfig(LARGE_HIGH_SPS, HIGH_PPS, 400_000));
  assert.equal(transcoders.videos[0]?.state, "closed");
  for (const frame of reorderedGop(400_000, 10)) bridged.write(frame);
  assert.equal(transcoders.videos.length, 2);
  assert.ok(transcoders.videos[1]?.options.config.includes(LARGE_HIGH_SPS));
  bridged.close();
});
