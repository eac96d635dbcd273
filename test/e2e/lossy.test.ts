// Chromium behind a path that loses 5 % both ways, as viewer and as publisher: the picture stays whole, and so does the sound.
// The figures are the benchmark's (`npm run bench -- lossy`); here it counts that repair works.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { makeFixture } from "../../scripts/fixtures.js";
import { eventually, pause } from "../support/child.js";
import { Chromium, PageViewer } from "../support/chromium.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { PagePublisher } from "../support/page-publisher.js";
import { publish } from "../support/publish.js";
import { openUdpProxy } from "../support/udp-proxy.js";

const FAULTS = { delay: 20, loss: 0.05 };

/** What a few seconds lack. Half of what would be lost without repair is let pass. */
async function watchForFaults(viewer: PageViewer): Promise<string[]> {
  const before = await viewer.statistics();
  await pause(6000);
  const after = await viewer.statistics();
  const [a, b, c, d] = [before.video, after.video, before.audio, after.audio];
  if (!(a && b && c && d)) return ["no statistics of both tracks"];
  const faults: string[] = [];
  const received = b.framesReceived - a.framesReceived;
  const decoded = b.framesDecoded - a.framesDecoded;
  if (decoded < 60 || decoded < received * 0.95) faults.push(`${decoded} of ${received} pictures decoded`);
  const concealed = (d.concealedSamples - c.concealedSamples) / (d.totalSamplesReceived - c.totalSamplesReceived);
  if (concealed > 0.025) faults.push(`${(concealed * 100).toFixed(1)} % of the sound concealed`);
  return faults;
}

async function assertWhole(viewer: PageViewer): Promise<void> {
  await eventually(
    "pictures are decoded",
    async () => (((await viewer.statistics()).video?.framesDecoded ?? 0) > 50 ? true : undefined),
    20_000,
  );
  let faults = await watchForFaults(viewer);
  if (faults.length > 0) faults = await watchForFaults(viewer); // a machine that stalls for a moment gets a second chance
  assert.deepEqual(faults, []);
}

suite("a path that loses 5 % both ways", () => {
  test("at a viewer: lost pictures come again, lost sound is in the packet behind", async () => {
    const { path } = await makeFixture();
    const gateway = await GatewayProcess.start();
    const proxy = await openUdpProxy({ address: "127.0.0.1", port: gateway.ports.rtc }, 7, { up: FAULTS, down: FAULTS });
    const publisher = publish(path, gateway.rtmpUrl());
    const browser = await Chromium.start();
    try {
      await gateway.live();
      const page = await browser.openForProbe(gateway.pageUrl("", ""));
      const viewer = await PageViewer.join(page, `${gateway.whepUrl()}&eip=127.0.0.1:${proxy.port}`);
      await assertWhole(viewer);
      const { video, audio } = await viewer.statistics();
      assert.ok((video?.nackCount ?? 0) > 0 && (audio?.packetsLost ?? 0) > 0, "something was lost");
    } finally {
      await browser.stop();
      await publisher.stop("SIGKILL");
      await proxy.close();
      await gateway.stop();
    }
  });

  test("at a publisher: its viewers notice nothing", async () => {
    const gateway = await GatewayProcess.start();
    const proxy = await openUdpProxy({ address: "127.0.0.1", port: gateway.ports.rtc }, 7, { up: FAULTS, down: FAULTS });
    const browser = await Chromium.start();
    try {
      const page = await browser.openForProbe(gateway.pageUrl("", ""));
      const publisher = await PagePublisher.start(page, gateway.whipUrl("livestream", `&eip=127.0.0.1:${proxy.port}`));
      await gateway.live();
      const viewer = await PageViewer.join(page, gateway.whepUrl());
      await assertWhole(viewer);
      assert.ok((await publisher.statistics()).nackCount > 0, "something was lost");
    } finally {
      await browser.stop();
      await proxy.close();
      await gateway.stop();
    }
  });
});
