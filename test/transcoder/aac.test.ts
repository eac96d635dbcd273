import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { FfmpegTranscoders } from "../../transcoder/ffmpeg.js";
import type { TranscodedFrame } from "../../transcoder/transcoder.js";
import { eventually } from "../support/child.js";
import { seededBytes } from "../support/seeded.js";

let transcoders: FfmpegTranscoders;
before(async () => {
  transcoders = await FfmpegTranscoders.create();
});
after(() => transcoders.close());

const SILENCE = Buffer.from([0xfc, 0xff, 0xfe]);

test("Opus of any packet length, mono and stereo, concealed and broken, comes out as AAC in steps of 1,024 samples", async () => {
  const frames: TranscodedFrame[] = [];
  const ends: string[] = [];
  const transcoder = transcoders.aac(
    { bitrate: 96_000 },
    { onFrame: (frame) => void frames.push(frame), onEnd: (reason) => void ends.push(reason) },
  );
  const bytes = seededBytes(2);
  let time = 0;
  const write = (packet: Buffer, ms: number): void => {
    assert.ok(transcoder.write(packet, time, time, true));
    time += ms * 1000;
  };
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 10; i++) write(SILENCE, 20);
    write(Buffer.from([0xfc]), 20); // concealed
    write(Buffer.from([0xf8, 0xff, 0xfe]), 20); // mono
    for (let i = 0; i < 8; i++) write(Buffer.from([0xe4, 0xff, 0xfe]), 2.5);
    write(Buffer.from([0xff, 0x03, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe]), 60); // three frames of one size
    write(Buffer.concat([Buffer.from([0x7c]), bytes(40)]), 20); // hybrid noise
    write(Buffer.concat([Buffer.from([0xfc]), bytes(90)]), 20);
    write(Buffer.from([0xff, 0x06, 0x00]), 120); // six frames that are not there
    write(Buffer.from([0x0c, 0x01]), 20); // SILK that ends early
    assert.ok(transcoder.write(Buffer.alloc(0), time, time, true), "no packet at all is passed over");
    assert.ok(transcoder.write(Buffer.from([0xff, 0x00]), time, time, true));
  }
  await eventually("nearly all of it", () => (frames.length >= (time * 48) / 1000 / 1024 - 6 ? true : undefined));
  assert.deepEqual(ends, []);
  for (let i = 1; i < frames.length; i++) {
    const samples = (((frames[i]?.pts ?? 0) - (frames[i - 1]?.pts ?? 0)) * 48) / 1000;
    assert.ok(Math.abs(samples - 1024) < 1, `step ${i}: ${samples}`);
  }
  assert.ok(Math.abs((frames[0]?.pts ?? 0) + 21_333) < 25, `the encoder's lead-in of one frame: ${frames[0]?.pts}`);
  transcoder.close();
  await eventually("no child is left", () => (transcoders.running === 0 ? true : undefined));
});
