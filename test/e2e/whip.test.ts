// Chromium and native stacks publish by WHIP; Chromium and native stacks watch by WHEP.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import { eventually, pause } from "../support/child.js";
import { Chromium, PageViewer } from "../support/chromium.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { PagePublisher } from "../support/page-publisher.js";

suite("Chromium publishes", () => {
  let gateway: GatewayProcess;
  let browser: Chromium;

  before(async () => {
    gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;" });
    browser = await Chromium.start();
  });

  after(async () => {
    await browser.stop();
    await gateway.stop();
  });

  test("and Chromium watches at the full frame rate", async () => {
    const page = await browser.openForProbe(gateway.pageUrl("", ""));
    const publisher = await PagePublisher.start(page, gateway.whipUrl());
    await gateway.live();
    const joined = performance.now();
    const viewer = await PageViewer.join(page, gateway.whepUrl());
    await eventually("pictures are decoded", async () => ((await viewer.statistics()).video?.framesDecoded ? true : undefined));
    const first = performance.now() - joined;
    await pause(2000);
    const before = (await viewer.statistics()).video;
    const sentBefore = await publisher.statistics();
    await pause(6000);
    const { video, audio } = await viewer.statistics();
    const sent = await publisher.statistics();
    assert.ok(before && video && audio);
    // The fake camera is late when the machine is busy: what counts is that each of its pictures is seen.
    const decoded = video.framesDecoded - before.framesDecoded;
    const encoded = sent.framesEncoded - sentBefore.framesEncoded;
    assert.ok(encoded > 60 && Math.abs(decoded - encoded) <= 3, `${decoded} of ${encoded} pictures`);
    assert.equal(sent.codec, "video/H264");
    assert.equal(video.packetsLost, 0);
    assert.equal(video.frameWidth, 640);
    assert.ok(audio.totalSamplesReceived > 48_000 * 5);
    assert.ok(first < 1500, `first picture after ${first} ms`);
    await viewer.close();
    await publisher.stop();
    await gateway.child.line(/webrtc publish ended/, 2000);
  });
});
