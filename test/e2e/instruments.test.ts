// The measuring instruments, proven against a sender and files whose truth is known, before they judge the gateway.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import { makeFixture } from "../../scripts/fixtures.js";
import { pause } from "../support/child.js";
import { decodePictures, fromFirstKey, judgeFile, judgeLipSync } from "../support/judge.js";
import { ReferenceSender } from "../support/reference-sender.js";
import { checkSequence, depacketizeH264 } from "../support/rtp-reader.js";
import { ViewerHost } from "../support/viewers.js";

suite("measuring viewers", () => {
  let sender: ReferenceSender;
  let host: ViewerHost;

  before(async () => {
    sender = await ReferenceSender.start((await makeFixture()).path);
    host = new ViewerHost();
  });

  after(async () => {
    await host.stop();
    await sender.stop();
  });

  for (const stack of ["libdatachannel", "werift"] as const) {
    test(`${stack} receives every packet, pictures that decode, and sender reports`, async () => {
      const viewer = await host.join(sender.url, { stack });
      await viewer.until("a whole key frame has come", (look) => look.tally.keyFrames > 0);
      await pause(6500); // the medium under test is time itself
      const { tally } = await viewer.look();
      const recording = await viewer.take();
      await viewer.leave();
      assert.equal(tally.video.missing, 0);
      assert.equal(tally.audio.missing, 0);
      assert.ok(tally.senderReports >= 2, `sender reports: ${tally.senderReports}`);
      const pictures = await decodePictures(fromFirstKey(depacketizeH264(checkSequence(recording.video).ordered)));
      assert.ok(pictures.length > 90, `pictures: ${pictures.length}`);
      pictures.slice(1).forEach((picture, index) => {
        const before = pictures[index]?.frameNumber ?? Number.NaN;
        assert.equal(picture.frameNumber, (before + 1) % 400);
        assert.equal(picture.isFlash, (picture.frameNumber ?? 0) % 25 < 2);
      });
      const lips = await judgeLipSync(recording);
      assert.ok(lips.offsets.length >= 2, `seconds judged: ${lips.offsets.length}`);
      assert.ok(Math.abs(lips.worstMs) < 40, `beep minus flash: ${lips.offsets.map((entry) => entry.offsetMs.toFixed(1))}`); // ffmpeg's own two clocks
    });
  }

  test("the judge finds flash and beep of a file together", async () => {
    for (const sampleRate of [44_100, 48_000] as const) {
      const { path } = await makeFixture({ sampleRate });
      const lips = await judgeFile(path);
      assert.equal(lips.offsets.length, 15); // the first beep has no quiet before it
      assert.ok(Math.abs(lips.worstMs) < 0.5, `${sampleRate}: ${lips.worstMs} ms`);
    }
  });
});
