// ffmpeg publishes, native WebRTC stacks watch: every packet, pictures that decode, flash and beep together on the wire.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import { makeFixture } from "../../scripts/fixtures.js";
import { type Child, pause, percentile } from "../support/child.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { decodePictures, fromFirstKey, judgeLipSync } from "../support/judge.js";
import { publish } from "../support/publish.js";
import { checkSequence, depacketizeH264 } from "../support/rtp-reader.js";
import { ViewerHost } from "../support/viewers.js";

suite("native viewers of an RTMP stream", () => {
  let gateway: GatewayProcess;
  let publisher: Child;
  let host: ViewerHost;

  before(async () => {
    const { path } = await makeFixture();
    gateway = await GatewayProcess.start();
    publisher = publish(path, gateway.rtmpUrl());
    host = new ViewerHost();
    await gateway.live();
  });

  after(async () => {
    await host.stop();
    await publisher.stop("SIGKILL");
    await gateway.stop();
  });

  for (const stack of ["libdatachannel", "werift"] as const) {
    test(`${stack} gets every packet, in order, and pictures that decode`, async () => {
      const viewer = await host.join(gateway.whepUrl(), { stack });
      await viewer.until("a whole key frame has come", (look) => look.tally.firstKeyFrameAt !== undefined);
      await pause(5000); // real time is what is tested
      const recording = await viewer.take();
      await viewer.leave();
      const video = checkSequence(recording.video);
      const audio = checkSequence(recording.audio);
      assert.deepEqual([video.missing, video.duplicates, video.reordered], [0, 0, 0]);
      assert.deepEqual([audio.missing, audio.duplicates, audio.reordered], [0, 0, 0]);
      assert.ok(recording.audio.length > 200, `audio packets in 5 s: ${recording.audio.length}`);
      assert.ok(Math.max(...recording.video.map((packet) => packet.payload.length)) <= 1188, "packets fit into 1200 bytes");

      const units = depacketizeH264(video.ordered);
      assert.ok(units[0]?.isKey && units[0].isComplete, "the first picture is a whole key frame with parameter sets");
      const live = units.slice(-100);
      assert.ok(
        live.every((unit) => unit.isComplete),
        "no picture has a hole",
      );
      live.slice(1).forEach((unit, index) => {
        assert.equal(unit.time - (live[index]?.time ?? 0), 3600, "RTP time steps by a picture's time");
      });
      const pictures = (await decodePictures(fromFirstKey(units))).slice(-100);
      pictures.slice(1).forEach((picture, index) => {
        assert.equal(picture.frameNumber, ((pictures[index]?.frameNumber ?? Number.NaN) + 1) % 400);
      });
    });
  }

  test("a packet that is asked for again is sent again", async () => {
    const viewer = await host.join(gateway.whepUrl());
    await viewer.until("pictures flow", (look) => look.tally.pictures > 10);
    const { video } = await viewer.take();
    await viewer.nack(video.slice(-3).map((packet) => packet.sequenceNumber));
    await pause(300); // RTT is under a millisecond here
    await viewer.leave(); // SRTP hides doubles from the viewer, so the gateway's own farewell has to tell
    await gateway.child.line(/resent[":=]+3\b/, 2000);
  });
});

suite("lip sync on the wire", () => {
  for (const sampleRate of [44_100, 48_000] as const) {
    test(`flash and beep are within 10 ms with AAC at ${sampleRate} Hz`, async () => {
      const { path } = await makeFixture({ sampleRate });
      const gateway = await GatewayProcess.start();
      const publisher = publish(path, gateway.rtmpUrl());
      const host = new ViewerHost();
      try {
        await gateway.live();
        const viewer = await host.join(gateway.whepUrl());
        await viewer.until("sender reports for both tracks", (look) => look.tally.senderReports >= 2);
        await pause(10_000);
        const lips = await judgeLipSync(await viewer.take());
        const shown = lips.offsets.map((entry) => entry.offsetMs.toFixed(1)).join(" ");
        assert.ok(
          lips.offsets.length >= 8,
          `seconds judged: ${lips.offsets.length} (${lips.flashes} flashes, ${lips.beeps} beeps)`,
        );
        assert.ok(Math.abs(lips.worstMs) <= 10, `beep minus flash in ms: ${shown}`);
      } finally {
        await host.stop();
        await publisher.stop("SIGKILL");
        await gateway.stop();
      }
    });
  }
});

suite("joining in the middle of a 10 s GOP", () => {
  test("the first whole key frame comes at once", async () => {
    const { path } = await makeFixture({ gop: 10, seconds: 40 });
    const gateway = await GatewayProcess.start();
    const publisher = publish(path, gateway.rtmpUrl());
    const host = new ViewerHost();
    try {
      await gateway.live();
      const waits: number[] = [];
      for (let join = 0; join < 8; join++) {
        const viewer = await host.join(gateway.whepUrl());
        const { times, tally } = await viewer.until(
          "a whole key frame has come",
          (look) => look.tally.firstKeyFrameAt !== undefined,
          12_000,
        );
        waits.push((tally.firstKeyFrameAt ?? Number.NaN) - (times.posted ?? 0));
        await viewer.leave();
        await pause(700); // spreads the joins over the GOP
      }
      // 150 ms is the aim and is measured by the benchmark; a busy machine must not fail here, waiting for a GOP must.
      assert.ok(percentile(waits, 0.95) < 1000, `POST to key frame in ms: ${waits.map(Math.round)}`);
    } finally {
      await host.stop();
      await publisher.stop("SIGKILL");
      await gateway.stop();
    }
  });
});
