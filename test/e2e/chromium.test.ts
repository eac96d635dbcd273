// ffmpeg publishes, the page plays in Chromium: picture, sound, speed, and joins in the middle of a long GOP.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { type FixtureOptions, makeFixture } from "../../scripts/fixtures.js";
import { eventually, pause } from "../support/child.js";
import { Chromium, PageViewer } from "../support/chromium.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { type JoinReport, measureJoins } from "../support/joins.js";
import { publish } from "../support/publish.js";

async function withStream(options: Partial<FixtureOptions>, act: (gateway: GatewayProcess, browser: Chromium) => Promise<void>) {
  const { path } = await makeFixture(options);
  const gateway = await GatewayProcess.start();
  const publisher = publish(path, gateway.rtmpUrl());
  const browser = await Chromium.start();
  try {
    await gateway.live();
    await act(gateway, browser);
  } finally {
    await browser.stop();
    await publisher.stop("SIGKILL");
    await gateway.stop();
  }
}

/** What 20 s of a 25 fps stream without B-frames lack of perfection. */
async function watchForFaults(viewer: PageViewer): Promise<string[]> {
  const before = await viewer.statistics();
  await pause(20_000);
  const after = await viewer.statistics();
  const [a, b] = [before.video, after.video];
  if (!(a && b && before.audio && after.audio)) return ["no statistics of both tracks"];
  const faults: string[] = [];
  const fps = ((b.framesDecoded - a.framesDecoded) * 1000) / (b.timestamp - a.timestamp);
  if (fps < 24.5) faults.push(`${fps.toFixed(2)} decoded pictures per second`);
  if (b.freezeCount > a.freezeCount) faults.push(`${b.freezeCount - a.freezeCount} freezes`);
  if (b.packetsLost > a.packetsLost) faults.push(`${b.packetsLost - a.packetsLost} packets lost`);
  // None is the aim and what the benchmark shows; a wrong clock costs more than this.
  const concealed = after.audio.concealedSamples - before.audio.concealedSamples;
  if (concealed > 20 * 480) faults.push(`${concealed} samples concealed`);
  return faults;
}

suite("Chromium", () => {
  test("the page plays picture and sound of an ffmpeg push at full speed", async () => {
    await withStream({}, async (gateway, browser) => {
      const page = await browser.open(gateway.pageUrl(`?autostart=true&api=${gateway.ports.api}`));
      const isPlaying = "document.querySelector('video')?.videoWidth > 0 && window.__sluice?.pc instanceof RTCPeerConnection";
      await eventually("the page plays", async () => ((await page.evaluate(isPlaying)) === true ? true : undefined));
      const viewer = await PageViewer.adopt(page);
      await pause(2000); // the start may stumble, what follows may not
      await viewer.take();
      // A machine that stalls for a moment gets a second chance; a stream that stutters fails twice.
      let faults = await watchForFaults(viewer);
      if (faults.length > 0) faults = await watchForFaults(viewer);
      assert.deepEqual(faults, []);
      const seen = await viewer.take();
      const { video, audio } = await viewer.statistics();
      assert.ok(
        video?.estimatedPlayoutTimestamp !== undefined && audio?.estimatedPlayoutTimestamp !== undefined,
        "sender reports are used",
      );

      const numbers = new Set(seen.pictures.map((picture) => picture.frameNumber));
      assert.ok(numbers.size > 300, `different pictures shown in 20 s: ${numbers.size}`);
      assert.ok(seen.pictures.some((picture) => picture.isFlash) && seen.pictures.some((picture) => !picture.isFlash));

      await page.evaluate("document.querySelector('video').muted = false");
      await eventually("sound is heard", async () => {
        const heard = (await viewer.statistics()).audio;
        return (heard?.totalAudioEnergy ?? 0) > 0 ? true : undefined;
      });
    });
  });

  test("x264's default B-frames play at full speed with the default configuration", async () => {
    await withStream({ bframes: "default" }, async (gateway, browser) => {
      const page = await browser.openForProbe(gateway.pageUrl("", ""));
      const viewer = await PageViewer.join(page, gateway.whepUrl());
      await eventually("pictures are decoded", async () => ((await viewer.statistics()).video?.framesDecoded ? true : undefined));
      await pause(3000);
      const a = (await viewer.statistics()).video;
      await pause(12_000);
      const b = (await viewer.statistics()).video;
      assert.ok(a && b);
      const fps = ((b.framesDecoded - a.framesDecoded) * 1000) / (b.timestamp - a.timestamp);
      assert.ok(fps >= 24, `decoded pictures per second: ${fps.toFixed(2)}`);
      assert.ok(b.totalFreezesDuration - a.totalFreezesDuration < 1, "seconds frozen"); // the encoder shares the machine with the browser
    });
  });

  test("a viewer who joins in the middle of a 10 s GOP sees the present at once and stays there", async () => {
    await withStream({ gop: 10, seconds: 40 }, async (gateway, browser) => {
      const page = await browser.openForProbe(gateway.pageUrl("", ""));
      const report: JoinReport = await measureJoins(page, gateway.whepUrl(), { gopFrames: 250, clipFrames: 1000, joins: 3 });
      const shown = JSON.stringify(report.joins);
      // The aims (500 ms, 1 s, 50 ms) are measured by the benchmark; here a busy machine gets room, but not a GOP's worth.
      for (const join of report.joins) {
        assert.ok(join.firstPictureMs < 1500, `first picture: ${shown}`);
        assert.ok(join.liveMs < 2500, `live motion: ${shown}`);
        assert.ok(join.laterDelayMs < 300, `later delay: ${shown}`);
      }
    });
  });
});
