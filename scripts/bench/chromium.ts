// What a person in a browser gets: speed, freezes, joins in the middle of a long GOP, lip sync beside a loopback of the same clip.

import type { Page } from "playwright-core";

import { eventually, pause, percentile } from "../../test/support/child.js";
import { Chromium, lipOffsets, PageViewer } from "../../test/support/chromium.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";
import { measureJoins } from "../../test/support/joins.js";
import { publish } from "../../test/support/publish.js";
import { ViewerHost } from "../../test/support/viewers.js";
import { type FixtureOptions, makeFixture } from "../fixtures.js";

type Stage = { readonly gateway: GatewayProcess; readonly page: Page; readonly clip: string };

export async function run(): Promise<void> {
  console.log("\nChromium (in brackets the targets)");
  await withStream({}, (stage) => measureSpeed("without B-frames", stage, "24.5 fps, no freeze, nothing concealed"));
  await withStream({ bframes: "default" }, (stage) => measureSpeed("x264's default B-frames", stage, "24 fps; SRS 9–12"));
  await withStream({ gop: 10, seconds: 40 }, (stage) => measureLongGop("10 s GOP", stage));
  await withStream({ gop: 10, seconds: 40, bframes: "default" }, (stage) => measureLongGop("10 s GOP, B-frames", stage));
  await withStream({}, measureLips);
}

async function withStream(options: Partial<FixtureOptions>, act: (stage: Stage) => Promise<void>): Promise<void> {
  const { path } = await makeFixture(options);
  const gateway = await GatewayProcess.start();
  const publisher = publish(path, gateway.rtmpUrl());
  const browser = await Chromium.start();
  try {
    await gateway.live();
    await act({ gateway, page: await browser.openForProbe(gateway.pageUrl("", "")), clip: path });
  } finally {
    await browser.stop();
    await publisher.stop("SIGKILL");
    await gateway.stop();
  }
}

async function measureSpeed(name: string, { gateway, page }: Stage, target: string): Promise<void> {
  const viewer = await PageViewer.join(page, gateway.whepUrl());
  await eventually("pictures are decoded", async () => ((await viewer.statistics()).video?.framesDecoded ? true : undefined));
  const first = await viewer.take();
  const wait = (first.pictures[0]?.shownAt ?? Number.NaN) - (first.times.posted ?? 0);
  await pause(3000);
  const before = await viewer.statistics();
  await pause(20_000);
  const after = await viewer.statistics();
  const [a, b] = [before.video, after.video];
  if (a === undefined || b === undefined) throw new Error("no video statistics");
  const fps = ((b.framesDecoded - a.framesDecoded) * 1000) / (b.timestamp - a.timestamp);
  const buffer = ((b.jitterBufferDelay - a.jitterBufferDelay) * 1000) / (b.jitterBufferEmittedCount - a.jitterBufferEmittedCount);
  const concealed = (after.audio?.concealedSamples ?? 0) - (before.audio?.concealedSamples ?? 0);
  console.log(
    `  ${name}: ${fps.toFixed(2)} decoded fps, ${b.freezeCount - a.freezeCount} freezes, ${concealed} samples concealed, ` +
      `dropped ${b.framesDropped - a.framesDropped}, jitter buffer ${buffer.toFixed(0)} ms, first picture ${wait.toFixed(0)} ms (${target})`,
  );
}

async function measureLongGop(name: string, { gateway, page }: Stage): Promise<void> {
  const { reference, joins } = await measureJoins(page, gateway.whepUrl(), {
    gopFrames: 250,
    clipFrames: 1000,
    joins: 24,
    watchMs: 4500,
  });
  const show = (values: readonly number[]): string =>
    `p50 ${percentile(values, 0.5).toFixed(0)}, p95 ${percentile(values, 0.95).toFixed(0)}, most ${percentile(values, 1).toFixed(0)} ms`;
  console.log(
    `  ${name}: ${joins.length} joins, beside a viewer who joined at a key frame (${reference.firstPictureMs.toFixed(0)} ms)`,
  );
  console.log(`    first picture ${show(joins.map((join) => join.firstPictureMs))} (p95 500)`);
  console.log(`    live motion ${show(joins.map((join) => join.liveMs))} (1000)`);
  console.log(
    `    later delay ${show(joins.map((join) => join.laterDelayMs))} (50), freezes ${joins.reduce((sum, join) => sum + join.freezes, 0)}`,
  );
  console.log(
    `    each: ${joins.map((join) => [join.position, join.firstPictureMs, join.liveMs, join.laterDelayMs].map(Math.round).join("/")).join(" ")}`,
  );
  const host = new ViewerHost();
  const waits: number[] = [];
  try {
    for (let index = 0; index < 24; index++) {
      const viewer = await host.join(gateway.whepUrl());
      const look = await viewer.until("a whole key frame", ({ tally }) => tally.firstKeyFrameAt !== undefined, 15_000);
      waits.push((look.tally.firstKeyFrameAt ?? Number.NaN) - (look.times.posted ?? 0));
      await viewer.leave();
      await pause(300);
    }
  } finally {
    await host.stop();
  }
  console.log(`    libdatachannel, POST to first whole key frame: ${show(waits)} (p95 150; SRS 3300–5700, p95 9000)`);
}

async function measureLips({ gateway, page }: Stage): Promise<void> {
  const offsets = async (viewer: PageViewer): Promise<number[]> => {
    await viewer.listen();
    await pause(4000);
    await viewer.take(); // the start is not judged
    await pause(15_000);
    return lipOffsets(await viewer.take());
  };
  const live = await PageViewer.join(page, gateway.whepUrl());
  const ours = await offsets(live);
  const { video, audio } = await live.statistics();
  await live.close();
  const loop = await PageViewer.loopback(page);
  const theirs = await offsets(loop);
  await loop.close();
  const show = (values: readonly number[]): string =>
    `${percentile(values, 0.5).toFixed(1)} ms [${values.map(Math.round).join(" ")}]`;
  console.log(`  beep minus flash on the page: ${show(ours)}; loopback of a flash and a beep: ${show(theirs)}`);
  console.log(`    difference ${(percentile(ours, 0.5) - percentile(theirs, 0.5)).toFixed(1)} ms (20)`);
  const both = video?.estimatedPlayoutTimestamp !== undefined && audio?.estimatedPlayoutTimestamp !== undefined;
  console.log(`    estimatedPlayoutTimestamp on both tracks: ${both ? "yes" : "NO"}`);
}

if (process.argv[1]?.endsWith("bench/chromium.js")) await run();
