// Publishers that come, go and come again, and what runs while nobody watches.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { makeFixture } from "../../scripts/fixtures.js";
import { eventually, pause } from "../support/child.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { publish } from "../support/publish.js";
import { checkSequence, depacketizeH264 } from "../support/rtp-reader.js";
import { ViewerHost } from "../support/viewers.js";

suite("publishers", () => {
  test("viewers stay connected over a publisher's restart, and their RTP clock goes on", async () => {
    const { path } = await makeFixture();
    const gateway = await GatewayProcess.start();
    let publisher = publish(path, gateway.rtmpUrl());
    const host = new ViewerHost();
    try {
      await gateway.live();
      const viewer = await host.join(gateway.whepUrl());
      const first = await viewer.until("pictures flow", (look) => look.tally.pictures > 50);
      await publisher.stop("SIGKILL");
      await pause(1500); // the time away
      publisher = publish(path, gateway.rtmpUrl());
      const keyFrames = first.tally.keyFrames;
      await viewer.until("pictures flow again", (look) => look.tally.pictures > 200 && look.tally.keyFrames > keyFrames, 20_000);
      const recording = await viewer.take();
      const { state, tally } = await viewer.look();
      assert.equal(state, "connected");
      assert.deepEqual([tally.video.missing, tally.audio.missing], [0, 0], "sequence numbers go on without a gap");
      const units = depacketizeH264(checkSequence(recording.video).ordered);
      units.slice(1).forEach((unit, index) => {
        const before = units[index];
        if (before === undefined) return;
        const step = (unit.time - before.time) / 90;
        const waited = unit.lastArrival - before.lastArrival;
        assert.ok(step > 0 && step < 10_000, `RTP time steps by ${step} ms`);
        if (waited > 1000) {
          assert.ok(Math.abs(step - waited) < 1000, `RTP time steps by ${step} ms over ${waited} ms without a publisher`);
          assert.ok(unit.isKey, "a new publisher's first picture is a key frame");
        }
      });
      const ssrcs = new Set(recording.video.map((packet) => packet.ssrc));
      assert.equal(ssrcs.size, 1);
    } finally {
      await host.stop();
      await publisher.stop("SIGKILL");
      await gateway.stop();
    }
  });

  test("nothing runs while nobody watches over WebRTC, and it ends when the last viewer has gone", async () => {
    const { path } = await makeFixture();
    const gateway = await GatewayProcess.start();
    const publisher = publish(path, gateway.rtmpUrl());
    const host = new ViewerHost();
    try {
      await gateway.live();
      await pause(1000);
      assert.deepEqual(gateway.children(), []);
      const viewer = await host.join(gateway.whepUrl());
      await viewer.until("sound flows", (look) => look.tally.audio.packets > 10);
      assert.equal(gateway.children().length, 1);
      await viewer.leave();
      await eventually("the audio child has ended", () => (gateway.children().length === 0 ? true : undefined), 20_000);
    } finally {
      await host.stop();
      await publisher.stop("SIGKILL");
      await gateway.stop();
    }
  });

  test("the picture goes on when the audio child is killed, and the sound comes back", async () => {
    const { path } = await makeFixture();
    const gateway = await GatewayProcess.start();
    const publisher = publish(path, gateway.rtmpUrl());
    const host = new ViewerHost();
    try {
      await gateway.live();
      const viewer = await host.join(gateway.whepUrl());
      const before = await viewer.until("sound flows", (look) => look.tally.audio.packets > 50);
      const [child] = gateway.children();
      assert.ok(child !== undefined);
      process.kill(child.pid, "SIGKILL"); // its id was read from the gateway's own children just now
      await viewer.until("sound is back", (look) => look.tally.audio.packets > before.tally.audio.packets + 200, 15_000);
      const { ordered } = checkSequence((await viewer.take()).video);
      const steps = ordered.slice(1).map((packet, index) => packet.arrival - (ordered[index]?.arrival ?? 0));
      assert.ok(Math.max(...steps) < 1000, `longest pause of the picture: ${Math.max(...steps)} ms`);
      assert.equal(gateway.children().length, 1);
    } finally {
      await host.stop();
      await publisher.stop("SIGKILL");
      await gateway.stop();
    }
  });

  test("without any ffmpeg the picture plays and one line says what is missing", async () => {
    const { path } = await makeFixture();
    const gateway = await GatewayProcess.start({ top: "ffmpeg /nowhere/ffmpeg;" });
    const publisher = publish(path, gateway.rtmpUrl());
    const host = new ViewerHost();
    try {
      await gateway.live();
      const viewer = await host.join(gateway.whepUrl());
      const { tally } = await viewer.until("pictures flow", (look) => look.tally.pictures > 50);
      assert.ok(tally.keyFrames > 0);
      assert.ok(gateway.child.lines(/ffmpeg/i).length > 0, "the log names ffmpeg");
      assert.ok(gateway.child.lines(/ffmpeg/i).length < 10, "but does not go on about it");
    } finally {
      await host.stop();
      await publisher.stop("SIGKILL");
      await gateway.stop();
    }
  });
});
