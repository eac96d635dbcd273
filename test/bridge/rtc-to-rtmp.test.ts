import assert from "node:assert/strict";
import { test } from "node:test";

import { opusPacketDuration } from "../../gateway/media/durations.js";
import type { Frame } from "../../gateway/media/frame.js";
import { parseAvcConfig } from "../../gateway/media/h264.js";
import type { AacTranscoderOptions } from "../../transcoder/transcoder.js";
import { type FakeTranscoder, FakeTranscoders } from "../support/fake-transcoders.js";
import { BASELINE_SPS } from "../support/pictures.js";
import { RtcBridgedStream } from "../support/rtc-bridged-stream.js";
import { AUDIO, VIDEO } from "../support/rtp-publisher.js";
import { rtpPacket } from "../support/rtp-writer.js";

/** An encoder that works 60 ms behind: makes a frame of each 1,024 samples that were written, by their places. */
class AacEncoder {
  readonly #transcoder: FakeTranscoder<AacTranscoderOptions>;
  readonly #bridged: RtcBridgedStream;
  #taken = 0;
  #samples = 0;
  #start: number | undefined;
  #frames = 0;

  constructor(bridged: RtcBridgedStream, transcoder: FakeTranscoder<AacTranscoderOptions>) {
    this.#bridged = bridged;
    this.#transcoder = transcoder;
  }

  work(): void {
    for (const written of this.#transcoder.written.slice(this.#taken)) {
      this.#start ??= written.pts;
      this.#samples += ((opusPacketDuration(written.data) ?? 0) * 48) / 1000;
    }
    this.#taken = this.#transcoder.written.length;
    for (; (this.#frames + 1) * 1024 <= this.#samples; this.#frames++) {
      const pts = (this.#start ?? 0) + Math.round((this.#frames * 1024 * 1000) / 48);
      this.#bridged.world.clock.after(60, () => this.#transcoder.emit(pts, Buffer.from([0x21, this.#frames & 0xff])));
    }
  }
}

/** Runs the publisher, and the encoder beside it. */
function run(bridged: RtcBridgedStream, encoder: AacEncoder | undefined, ms: number): void {
  for (let elapsed = 0; elapsed < ms; elapsed += 40) {
    bridged.world.source.run(40, elapsed % 1000 === 0);
    encoder?.work();
  }
}

function encoderOf(bridged: RtcBridgedStream, transcoders: FakeTranscoders): AacEncoder {
  bridged.world.source.run(40);
  const transcoder = transcoders.aacs.at(-1);
  assert.ok(transcoder !== undefined);
  return new AacEncoder(bridged, transcoder);
}

function assertOrder(frames: readonly Frame[]): void {
  for (let i = 1; i < frames.length; i++) {
    const [before, after] = [frames[i - 1], frames[i]];
    assert.ok((after?.dts ?? 0) >= (before?.dts ?? 0), `${before?.kind} ${before?.dts}, then ${after?.kind} ${after?.dts}`);
  }
}

/** Steps of the sound in samples. */
function audioSteps(frames: readonly Frame[]): number[] {
  return frames.slice(1).map((frame, index) => Math.round(((frame.dts - (frames[index]?.dts ?? 0)) * 48) / 1000));
}

test("nothing runs before somebody watches, and nothing after", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 2 });
  bridged.world.source.run(1000);
  assert.equal(transcoders.aacs.length, 0);
  bridged.watch();
  bridged.world.source.run(200);
  assert.equal(transcoders.open, 1);
  bridged.leave();
  bridged.world.source.run(6000);
  assert.equal(transcoders.open, 0);
  bridged.watch();
  bridged.world.source.run(200);
  assert.equal(transcoders.open, 1);
  bridged.world.close();
  assert.equal(transcoders.open, 0);
  assert.equal(bridged.world.clock.pending, 0);
});

test("both tracks in one order, sound in steps of 1,024 samples, each picture once", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 5, jitter: 3 });
  bridged.watch();
  const encoder = encoderOf(bridged, transcoders);
  run(bridged, encoder, 10_000);
  assertOrder(bridged.viewer.items);
  const sound = bridged.frames("audio");
  assert.ok(sound.length > 440, `${sound.length}`);
  assert.ok(audioSteps(sound).every((step) => step === 1024));
  const numbers = bridged.pictures();
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => (numbers[0] ?? 0) + index),
  );
  assert.ok(numbers.length >= 245);
  assert.equal(bridged.frames("video", "config").length, 1);
  assert.equal(bridged.frames("audio", "config").length, 1);
  assert.equal(bridged.frames("audio", "config")[0]?.data.toString("hex"), "1190");
  const lag = bridged.world.stream.now() - (bridged.frames("video").at(-1)?.dts ?? 0);
  assert.ok(lag < 200_000, `pictures wait ${lag} µs`);
  bridged.world.close();
});

test("a viewer has the first picture within 100 ms and the sound's configuration at once", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 10 });
  bridged.world.source.run(10_000);
  const start = bridged.world.clock.now();
  bridged.watch();
  while (bridged.frames("audio", "config").length === 0) bridged.world.source.run(20, false);
  assert.ok(bridged.world.clock.now() - start <= 40);
  while (bridged.frames("video").length === 0) bridged.world.source.run(20, false);
  // The request takes 10 ms, the key frame 10 ms; then the picture waits for its sound, which here never comes, for 300 ms.
  assert.ok(bridged.world.clock.now() - start <= 420, `${bridged.world.clock.now() - start}`);
  assert.ok(bridged.frames("video")[0]?.isKey);
  bridged.world.close();
});

test("viewers that come again after a pause hear sound at once", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 2 });
  bridged.watch();
  run(bridged, encoderOf(bridged, transcoders), 5000);
  bridged.leave();
  bridged.world.source.run(10_000); // the bridge has stopped
  const before = bridged.frames("audio").length;
  bridged.watch();
  run(bridged, encoderOf(bridged, transcoders), 2000);
  assert.equal(transcoders.aacs.length, 2);
  const again = bridged.frames("audio").slice(before);
  assert.ok(again.length > 80, `${again.length} frames of sound in 2 s`);
  assert.ok(audioSteps(again).every((step) => step === 1024));
  assertOrder(bridged.viewer.items);
});

test("5 % loss both ways: whole pictures only, at least 98 % of them, in order", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { seed: 21, loss: 0.05, delay: 20 });
  bridged.watch();
  const encoder = encoderOf(bridged, transcoders);
  run(bridged, encoder, 30_000);
  bridged.world.clock.advance(600);
  assertOrder(bridged.viewer.items);
  for (const frame of bridged.frames("video")) {
    assert.equal(frame.data.readUInt32BE(0) + 4, frame.data.length);
    assert.ok([4 + 1 + 3 * 398, 4 + 1 + 9 * 398].includes(frame.data.length), `${frame.data.length}`);
  }
  const share = bridged.pictures().length / bridged.world.source.sentFrames.length;
  assert.ok(share >= 0.98, `${share}`);
  assert.ok(audioSteps(bridged.frames("audio")).every((step) => step % 1024 === 0));
  bridged.world.close();
});

test("lost sound is concealed, so that the encoder gets every sample", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { seed: 5, loss: 0.1, delay: 2 });
  bridged.watch();
  bridged.world.source.run(10_000);
  const written = transcoders.aacs[0]?.written ?? [];
  const concealed = written.filter(({ data }) => data.length === 1).length;
  assert.ok(concealed > 20, `${concealed}`);
  for (let i = 1; i < written.length; i++) {
    const step =
      (written[i]?.pts ?? 0) - (written[i - 1]?.pts ?? 0) - (opusPacketDuration(written[i - 1]?.data ?? Buffer.alloc(0)) ?? 0);
    assert.ok(Math.abs(step) <= 25, `a hole of ${step} µs`); // at most the clock's 1,000 ppm
  }
  bridged.world.close();
});

test("a pause in the sound (DTX, mute) is filled with silence while it lasts", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 5 });
  bridged.watch();
  const encoder = encoderOf(bridged, transcoders);
  run(bridged, encoder, 1000);
  bridged.world.source.isMuted = true;
  run(bridged, encoder, 5000);
  const during = bridged.frames("audio").length;
  assert.ok(during > 260, `${during} frames of sound in six seconds`);
  bridged.world.source.isMuted = false;
  run(bridged, encoder, 2000);
  assert.ok(audioSteps(bridged.frames("audio")).every((step) => step === 1024));
  assertOrder(bridged.viewer.items);
  const lag = bridged.world.stream.now() - (bridged.frames("audio").at(-1)?.dts ?? 0);
  assert.ok(lag < 250_000, `sound lags ${lag} µs`);
  const video = bridged.frames("video");
  for (let i = 1; i < video.length; i++) assert.ok((video[i]?.dts ?? 0) - (video[i - 1]?.dts ?? 0) < 100_000);
  bridged.world.close();
});

test("Opus packets of 2.5 to 120 ms", async () => {
  for (const [packet, ms] of [
    ["e400", 2.5],
    ["fc00", 20],
    ["1c00", 60],
    ["1d0000", 120],
    ["fb030001020304", 60],
  ] as const) {
    const transcoders = new FakeTranscoders();
    const bridged = await RtcBridgedStream.open(transcoders, { delay: 2, video: undefined });
    const payload = Buffer.from(packet, "hex");
    assert.equal(opusPacketDuration(payload), ms * 1000);
    bridged.watch();
    const { source, clock } = bridged.world;
    const start = clock.now();
    for (let i = 0; i * ms < 2000; i++) {
      source.raw(rtpPacket({ sequenceNumber: i, timestamp: i * ms * 48, ssrc: AUDIO.ssrc, payloadType: 111, payload }));
      clock.advance(ms);
    }
    const written = transcoders.aacs[0]?.written ?? [];
    const silence = written.filter(({ data }) => data.length === 3 && data[2] === 0xfe).length;
    assert.equal(silence, 0, `${ms} ms: taken for a pause`);
    const duration = written.reduce((sum, { data }) => sum + (opusPacketDuration(data) ?? 0), 0);
    assert.ok(Math.abs(duration / 1000 - (clock.now() - start)) <= 2 * ms + 1, `${ms} ms: ${duration}`);
    bridged.world.close();
  }
});

test("the publisher comes back with other counters: viewers go on, the configuration is told again, time goes on", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 5 });
  bridged.watch();
  const encoder = encoderOf(bridged, transcoders);
  run(bridged, encoder, 2000);
  bridged.world.unpublish();
  bridged.world.clock.advance(2000);
  const before = bridged.viewer.items.length;
  const returned = bridged.world.stream.now();
  await bridged.world.publish({ sequenceNumber: 9, timestamp: 77, ssrcs: { audio: 5, video: 6, rtx: 7 } });
  run(bridged, encoder, 2000);
  const after = bridged.viewer.items.slice(before);
  assert.ok(after.some((frame) => frame.kind === "video" && frame.isConfig));
  assert.ok(after.some((frame) => frame.kind === "audio" && frame.isConfig));
  const key = after.find((frame) => frame.kind === "video" && !frame.isConfig);
  assert.ok(key?.isKey === true && key.dts >= returned - 100_000);
  assertOrder(bridged.viewer.items);
  assert.ok(audioSteps(bridged.frames("audio")).every((step) => step % 1024 === 0));
  assert.equal(transcoders.aacs.length, 1, "the same child goes on");
  bridged.world.close();
});

test("a transcoder that dies: pictures go on at once, sound comes back", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 5 });
  bridged.watch();
  const encoder = encoderOf(bridged, transcoders);
  run(bridged, encoder, 1000);
  transcoders.aacs[0]?.end("killed");
  const count = bridged.pictures().length;
  bridged.world.source.run(200);
  assert.ok(bridged.pictures().length >= count + 4);
  bridged.world.source.run(200);
  const second = encoderOf(bridged, transcoders);
  assert.equal(transcoders.aacs.length, 2);
  run(bridged, second, 2000);
  assertOrder(bridged.viewer.items);
  const steps = audioSteps(bridged.frames("audio"));
  assert.ok(
    steps.every((step) => step % 1024 === 0),
    "still on the same grid",
  );
  assert.ok(bridged.frames("audio").length > 100);
  assert.ok(bridged.log.some((line) => line.includes("killed")));
  bridged.world.close();
});

test("without a transcoder pictures come without waiting, and the reason is noted", async () => {
  const transcoders = new FakeTranscoders();
  transcoders.aacRefusal = "there is no ffmpeg";
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 5 });
  bridged.watch();
  bridged.world.source.run(300);
  assert.ok(bridged.pictures().length >= 6);
  assert.match(bridged.world.stream.notes.get("audio") ?? "", /there is no ffmpeg/);
  bridged.world.close();
});

test("refuses what is not bridged, by name", async () => {
  const bridged = await RtcBridgedStream.open(new FakeTranscoders(), { video: { ...VIDEO, codec: "vp8" } });
  await assert.rejects(
    bridged.world.hub.play({
      name: bridged.world.stream.name,
      peer: { id: "x", protocol: "rtmp", address: "192.0.2.1", parameters: "" },
      lane: "frames",
    }),
    /vp8/,
  );
  bridged.world.close();
});

test("sound of a codec that is not bridged is left out, and pictures do not wait for it", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, {
    delay: 5,
    audio: { ...AUDIO, codec: "pcmu", clockRate: 8000, channels: 1 },
  });
  bridged.watch();
  bridged.world.source.run(300);
  assert.ok(bridged.pictures().length >= 6);
  assert.equal(transcoders.aacs.length, 0);
  assert.match(bridged.world.stream.notes.get("audio") ?? "", /pcmu/);
  bridged.world.close();
});

test("a publisher of another codec: its pictures are left out, and viewers who waited are told so", async () => {
  const bridged = await RtcBridgedStream.open(new FakeTranscoders(), { delay: 2, video: { ...VIDEO, codec: "vp8" } });
  bridged.watch();
  const { plis } = bridged.world.source;
  bridged.world.source.run(4000);
  assert.equal(bridged.frames("video").length, 0);
  assert.match(bridged.viewer.closed ?? "", /the publisher sends vp8, and only h264 is bridged/);
  assert.match(bridged.world.stream.notes.get("video") ?? "", /vp8/);
  assert.ok(bridged.world.source.plis - plis <= 30, `${bridged.world.source.plis}`); // the lane's own: made-up packets are no VP8
  bridged.world.close();
});

test("a new resolution reaches the viewer before its pictures", async () => {
  const transcoders = new FakeTranscoders();
  transcoders.aacRefusal = "none";
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 1 });
  bridged.watch();
  bridged.world.source.run(200);
  const configs = bridged.frames("video", "config");
  assert.deepEqual(parseAvcConfig(configs[0]?.data ?? Buffer.alloc(0))?.sps[0], BASELINE_SPS);
  const index = bridged.viewer.items.findIndex((frame) => frame.kind === "video" && frame.isConfig);
  assert.ok(bridged.viewer.items[index + 1]?.isKey);
  bridged.world.close();
});

test("asks for key frames at their interval while it runs", async () => {
  const transcoders = new FakeTranscoders();
  const bridged = await RtcBridgedStream.open(transcoders, { delay: 2 });
  bridged.watch();
  bridged.world.source.run(31_000);
  const keys = bridged.frames("video").filter((frame) => frame.isKey);
  assert.ok(keys.length >= 5 && keys.length <= 8, `${keys.length}`);
  assert.ok(bridged.world.stream.frames.backlog.length > 0);
  bridged.world.close();
});
