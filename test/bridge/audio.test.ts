import assert from "node:assert/strict";
import { test } from "node:test";

import { SampleClock } from "../../gateway/bridge/sample-clock.js";
import { BridgedStream, type BridgedStreamOptions } from "../support/bridged-stream.js";
import { FakeTranscoders } from "../support/fake-transcoders.js";
import { aacConfig, avcConfig, BASELINE_PPS, BASELINE_SPS, OPUS_20MS, picture, soundFrame } from "../support/pictures.js";

async function open(
  options: Partial<BridgedStreamOptions> = {},
): Promise<{ bridged: BridgedStream; transcoders: FakeTranscoders }> {
  const transcoders = new FakeTranscoders();
  return { bridged: await BridgedStream.open({ transcoders, ...options }), transcoders };
}

/** AAC frames stamped in whole milliseconds, as RTMP does. */
function writeAac(bridged: BridgedStream, rate: number, from: number, count: number, start = 0): void {
  for (let i = from; i < from + count; i++) bridged.write(soundFrame(start + Math.round((i * 1024e3) / rate) * 1000));
}

test("starts the transcoder with the first viewer and ends it a while after the last", async () => {
  const { bridged, transcoders } = await open({ opusBitrate: 96_000 });
  bridged.write(aacConfig(48_000));
  writeAac(bridged, 48_000, 0, 10);
  assert.equal(transcoders.audios.length, 0);
  bridged.watch();
  assert.deepEqual(transcoders.audios[0]?.options, { codec: "aac", config: aacConfig(48_000).data, bitrate: 96_000 });
  bridged.leave();
  bridged.clock.advance(10_000);
  assert.equal(transcoders.audios[0]?.state, "closed");
  assert.equal(bridged.clock.pending, 0);
  bridged.close();
});

for (const rate of [44_100, 48_000] as const) {
  test(`feeds exact sample steps at ${rate} Hz and sends Opus at its place`, async () => {
    const { bridged, transcoders } = await open();
    bridged.watch();
    bridged.write(aacConfig(rate));
    writeAac(bridged, rate, 0, 2_000);
    const [transcoder] = transcoders.audios;
    assert.ok(transcoder !== undefined);
    transcoder.written.forEach(({ dts, pts }, i) => {
      assert.equal(dts, pts);
      assert.ok(Math.abs(dts - (i * 1024e6) / rate) < 700, `frame ${i} at ${dts}`);
    });
    for (let i = 0; i < 50; i++) transcoder.emit(-2_500 + i * 20_000, OPUS_20MS);
    const packets = bridged.packets("audio");
    packets.forEach((packet, i) => {
      assert.equal(packet.sequenceNumber, i);
      assert.equal(packet.timestamp - (packets[0]?.timestamp ?? 0), i * 960);
      assert.equal(packet.marker, i === 0);
    });
    bridged.close();
  });
}

test("leaves out what piled up while the transcoder started", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(aacConfig(48_000));
  writeAac(bridged, 48_000, 0, 25); // half a second until the child has started
  const newest = 24 * 21_333;
  for (let i = 0; i < 50; i++) transcoders.audios[0]?.emit(i * 20_000, OPUS_20MS);
  const packets = bridged.packets("audio");
  const first = ((packets[0]?.timestamp ?? 0) / 48_000) * 1e6;
  assert.ok(newest - first <= 70_000 && newest - first > 40_000, `begins ${newest - first} µs behind the newest frame`);
  assert.ok(packets.every((packet, i) => packet.sequenceNumber === i && packet.marker === (i === 0)));
  bridged.close();
});

test("follows a jump of the publisher's time without a new transcoder, and never goes back", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(aacConfig(48_000));
  writeAac(bridged, 48_000, 0, 2);
  const [transcoder] = transcoders.audios;
  transcoder?.emit(0, OPUS_20MS);
  writeAac(bridged, 48_000, 2, 48);
  bridged.clock.advance(5_000); // five seconds without sound
  writeAac(bridged, 48_000, 0, 50, 6_000_000);
  assert.equal(transcoders.audios.length, 1);
  const written = transcoder?.written ?? [];
  for (let i = 1; i < written.length; i++) {
    assert.ok(Math.abs((written[i]?.dts ?? 0) - (written[i - 1]?.dts ?? 0) - 21_333) < 100, "the transcoder sees no jump");
  }
  for (let i = 1; i < 105; i++) transcoder?.emit(i * 20_000, OPUS_20MS);
  const packets = bridged.packets("audio");
  const steps = packets.slice(1).map((packet, i) => packet.timestamp - (packets[i]?.timestamp ?? 0));
  assert.ok(steps.every((step) => step > 0));
  assert.equal(steps.filter((step) => step !== 960).length, 1);
  const gap = Math.max(...steps);
  assert.ok(Math.abs(gap - 960 - (6_000 - 1_067) * 48) < 960, `a gap of ${gap} ticks`);
  assert.equal(packets.filter((packet) => packet.marker).length, 2, "a talk spurt begins behind the gap");
  bridged.close();
});

test("goes on without sound when the transcoder dies, tries again with growing pauses, and says each once", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(aacConfig(48_000));
  let frames = 0;
  const run = (seconds: number) => {
    const count = Math.round((seconds * 48_000) / 1024);
    writeAac(bridged, 48_000, frames, count);
    frames += count;
  };
  run(1);
  transcoders.audios[0]?.end("ended by SIGKILL");
  run(0.2);
  assert.equal(transcoders.audios.length, 1, "not at once");
  run(0.2);
  assert.equal(transcoders.audios.length, 2);
  transcoders.audios[1]?.end("again");
  run(0.4);
  assert.equal(transcoders.audios.length, 2);
  run(0.3);
  assert.equal(transcoders.audios.length, 3);
  transcoders.audios[2]?.emit(transcoders.audios[2].written.at(-1)?.pts ?? 0, OPUS_20MS);
  const [packet] = bridged.packets("audio");
  assert.ok(Math.abs((packet?.timestamp ?? 0) / 48_000 - bridged.stream.now() / 1e6) < 0.05, "its time begins anew");
  assert.equal(bridged.log.filter((line) => line.startsWith("warn")).length, 2);
  assert.match(bridged.log.find((line) => line.startsWith("warn")) ?? "", /SIGKILL/);
  bridged.close();
  assert.equal(bridged.clock.pending, 0);
});

test("opens another transcoder for another configuration, and none for the same again", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(aacConfig(48_000));
  writeAac(bridged, 48_000, 0, 10);
  bridged.unpublish();
  await bridged.publish();
  bridged.write(aacConfig(48_000));
  writeAac(bridged, 48_000, 0, 10);
  assert.equal(transcoders.audios.length, 1);
  bridged.write(aacConfig(44_100));
  assert.equal(transcoders.audios[0]?.state, "closed");
  assert.equal(transcoders.audios.length, 2);
  bridged.close();
});

test("without ffmpeg the picture plays, and operator and publisher are told once", async () => {
  const { bridged, transcoders } = await open();
  transcoders.audioRefusal = "there is no ffmpeg";
  bridged.watch();
  bridged.write(aacConfig(48_000));
  bridged.write(avcConfig(BASELINE_SPS, BASELINE_PPS));
  bridged.write(picture("IDR", 0));
  writeAac(bridged, 48_000, 0, 100);
  assert.equal(bridged.packets("video").length, 1);
  assert.equal(bridged.packets("audio").length, 0);
  bridged.leave();
  bridged.clock.advance(10_000);
  bridged.watch(); // the next viewer is no news
  writeAac(bridged, 48_000, 600, 10);
  assert.equal(bridged.log.filter((line) => line.includes("there is no ffmpeg")).length, 1);
  assert.equal(bridged.source.notices.length, 1);
  assert.match(bridged.stream.notes.get("audio") ?? "", /no ffmpeg/);
  bridged.close();
});

test("passes Opus untouched, in exact steps", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  for (let i = 0; i < 100; i++) bridged.write(soundFrame(i * 20_000 + ((i * 7) % 3) * 1_000, "opus", OPUS_20MS));
  const packets = bridged.packets("audio");
  assert.equal(packets.length, 100);
  assert.equal(packets[50]?.payload, OPUS_20MS);
  packets.forEach((packet, i) => {
    assert.ok(Math.abs(packet.timestamp - (packets[0]?.timestamp ?? 0) - i * 960) < 48, "within a millisecond");
  });
  assert.equal(transcoders.audios.length, 0);
  bridged.close();
});

test("takes MP3 through the transcoder and names what it cannot take", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  const mp3 = Buffer.concat([Buffer.from("fffb9064", "hex"), Buffer.alloc(413)]); // MPEG-1 layer III, 44.1 kHz
  for (let i = 0; i < 10; i++) bridged.write(soundFrame(i * 26_000, "mp3", mp3));
  assert.equal(transcoders.audios[0]?.options.codec, "mp3");
  assert.equal(transcoders.audios[0]?.written.length, 10);
  for (let i = 10; i < 15; i++) bridged.write(soundFrame(i * 26_000, "speex"));
  assert.equal(bridged.log.filter((line) => line.includes("speex")).length, 1);
  bridged.close();
});

test("takes sound that comes later, and sound alone", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(avcConfig(BASELINE_SPS, BASELINE_PPS));
  bridged.write(picture("IDR", 0));
  bridged.write(picture("P", 2_000_000));
  bridged.write(aacConfig(48_000, 2_000_000));
  writeAac(bridged, 48_000, 0, 3, 2_000_000);
  transcoders.audios[0]?.emit(0, OPUS_20MS);
  const [sound] = bridged.packets("audio");
  const last = bridged.packets("video").at(-1);
  assert.ok(Math.abs((sound?.timestamp ?? 0) / 48 - (last?.timestamp ?? 0) / 90) < 2, "both on one clock");
  bridged.close();

  const alone = await open();
  alone.bridged.write(aacConfig(48_000));
  alone.bridged.watch();
  writeAac(alone.bridged, 48_000, 0, 10);
  assert.equal(alone.transcoders.audios[0]?.written.length, 10);
  alone.bridged.close();
});

test("drops what a transcoder that lags does not take, and says so once", async () => {
  const { bridged, transcoders } = await open();
  bridged.watch();
  bridged.write(aacConfig(48_000));
  const [transcoder] = transcoders.audios;
  assert.ok(transcoder !== undefined);
  transcoder.takes = false;
  writeAac(bridged, 48_000, 0, 50);
  assert.equal(bridged.log.filter((line) => line.includes("lags")).length, 1);
  bridged.close();
});

test("follows a clock that drifts, without a jump", () => {
  const clock = new SampleClock();
  const duration = 1024e6 / 44_100;
  const drift = 1 + 150e-6;
  for (let i = 0; i < 30_000; i++) {
    const pts = Math.round((i * duration * drift) / 1000) * 1000;
    const place = clock.push(pts, duration);
    assert.ok(Math.abs(clock.streamTimeOf(place) - pts) < 2_000, `frame ${i}`);
  }
  assert.equal(clock.jumps, 0);
});
