// HLS with low latency as a person in Chromium sees it: delay from the publisher's socket to the picture on the page, by the time code in
// the picture; stalls; the first picture after opening the page.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import type { Browser, Page } from "playwright-core";

import { pause, percentile } from "../../test/support/child.js";
import type { Seen } from "../../test/support/chromium.js";
import { GatewayProcess, ROOT } from "../../test/support/gateway-process.js";
import { openBrowser } from "../../test/support/page-browser.js";
import { until } from "../../test/support/page-visit.js";
import { monotonicNow } from "../../test/support/rtp-reader.js";
import { TimedPublisher } from "../../test/support/timed-publisher.js";
import { type Fixture, makeFixture } from "../fixtures.js";

const JOINS = 5;
const WATCH_MS = Number(process.env["HLS_WATCH_MS"] ?? 120_000);
const TARGETS = { delay: 2.0, stalls: 0, first: 1000 } as const;

export async function run(): Promise<void> {
  console.log("\nHLS in Chromium by hls.js, 640x360, 25 fps, 600 kbit/s (in brackets the targets)");
  const fixture = await makeFixture({});
  const gateway = await GatewayProcess.start({
    vhost: "hls { enabled on; }",
    top: "vhost ts.example { hls { enabled on; hls_format ts; } }",
  });
  const publisher = await TimedPublisher.start(gateway.ports.rtmp, fixture);
  const browser = await openBrowser();
  try {
    await gateway.live();
    await pause(4500); // two whole segments
    await measureJoins(browser, gateway);
    await measureDelay(browser, gateway, publisher, fixture);
  } finally {
    await browser.close();
    await publisher.stop();
    await gateway.stop();
  }
}

async function open(browser: Browser, gateway: GatewayProcess): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await page.addInitScript({ content: readFileSync(join(ROOT, "test/support/page-probe.js"), "utf8") });
  await page.addInitScript(
    `addEventListener("DOMContentLoaded", () => __probe.adopt(1, document.querySelector("video"), { connectionState: "none" }))`,
  );
  await page.goto(gateway.pageUrl("?stream=livestream.m3u8&autostart=true", "players/srs_player.html"));
  return page;
}

const PLAYING = "__sluice.state === 'playing' && __sluice.video.getVideoPlaybackQuality().totalVideoFrames > 25";
const TAKE = "__probe.take(1)";

async function measureJoins(browser: Browser, gateway: GatewayProcess): Promise<void> {
  const waits: number[] = [];
  for (let i = 0; i < JOINS; i++) {
    const page = await open(browser, gateway);
    await until(page, PLAYING, 20_000);
    const { pictures } = (await page.evaluate(TAKE)) as Seen;
    waits.push(pictures[0]?.shownAt ?? Number.NaN); // the page's clock starts when it is opened
    await page.context().close();
    await pause(370); // another place in the group of pictures each time
  }
  console.log(
    `  first picture after opening the page: ${percentile(waits, 0.5).toFixed(0)} ms at the median, ` +
      `${Math.max(...waits).toFixed(0)} at most (${TARGETS.first}) [${waits.map(Math.round).join(" ")}]`,
  );
}

async function measureDelay(
  browser: Browser,
  gateway: GatewayProcess,
  publisher: TimedPublisher,
  fixture: Fixture,
): Promise<void> {
  const page = await open(browser, gateway);
  await until(page, PLAYING, 20_000);
  await page.evaluate(TAKE); // the start is not judged
  await pause(WATCH_MS);
  const seen = (await page.evaluate(TAKE)) as Seen;
  const stats = (await page.evaluate("__sluice.stats")) as Record<string, number>;
  // both clocks on the wall clock of this machine
  const toPage = Date.now() - monotonicNow() - ((await page.evaluate("performance.timeOrigin")) as number);
  const frames = fixture.seconds * fixture.fps;
  const sent = publisher.sent.filter(({ kind }) => kind === "video");
  const byNumber = new Map<number, number[]>();
  for (const { pts, sentAt } of sent) {
    const number = Math.round((pts * fixture.fps) / 1000) % frames;
    byNumber.set(number, [...(byNumber.get(number) ?? []), sentAt + toPage]);
  }
  const delays: number[] = [];
  for (const { frameNumber, shownAt } of seen.pictures) {
    const written = byNumber
      .get(frameNumber ?? -1)
      ?.filter((at) => at < shownAt)
      .at(-1);
    if (written !== undefined) delays.push((shownAt - written) / 1000);
  }
  const seconds = WATCH_MS / 1000;
  if (delays.length < seconds * fixture.fps * 0.8) throw new Error(`${delays.length} pictures read in ${seconds} s`);
  console.log(
    `  over ${seconds} s: delay ${percentile(delays, 0.5).toFixed(2)} s at the median (${TARGETS.delay.toFixed(1)}), p95 ${percentile(delays, 0.95).toFixed(2)}, ` +
      `${stats["stalls"]} stalls (${TARGETS.stalls}), ${(seen.pictures.length / seconds).toFixed(2)} pictures a second, ${stats["framesDropped"]} dropped; ` +
      `the page says ${stats["behind"]?.toFixed(2)} s behind, ${stats["byClock"]?.toFixed(2)} s by the clock`,
  );
}

if (process.argv[1]?.endsWith("bench/hls-player.js")) await run();
