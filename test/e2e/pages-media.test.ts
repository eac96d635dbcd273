// The pages against the real gateway: whip.html publishes the fake camera, whep.html and srs_player.html play it.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import type { Browser } from "playwright-core";

import { GatewayProcess } from "../support/gateway-process.js";
import { chromiumPath, openBrowser } from "../support/page-browser.js";
import { text, until } from "../support/page-visit.js";

const skip = chromiumPath === undefined && "no Chromium";

suite("whip.html, whep.html and srs_player.html", { skip }, () => {
  let gateway: GatewayProcess;
  let browser: Browser;

  before(async () => {
    gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;", vhost: "http_remux { enabled on; }" });
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
  });

  const open = async (path: string) => {
    const page = await (await browser.newContext()).newPage();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.message));
    await page.goto(`http://127.0.0.1:${gateway.ports.http}/players/${path}`);
    return { page, errors };
  };

  test("a camera is published, watched by WebRTC and FLV, and seen again after the publisher has come back", async () => {
    // Both players are there first: they wait, and begin by themselves.
    const rtc = await open("whep.html?autostart=true");
    const flv = await open("srs_player.html?autostart=true&stream=livestream.flv");
    await until(rtc.page, "__sluice.state === 'waiting'");
    await until(flv.page, "__sluice.state === 'waiting'");

    const publisher = await open("whip.html?autostart=true");
    await until(publisher.page, "__sluice.state === 'live'");
    await until(rtc.page, "__sluice.state === 'playing' && __sluice.stats?.framesDecoded > 30", 20_000);
    await until(flv.page, "__sluice.state === 'playing' && __sluice.stats?.framesDecoded > 30", 20_000);
    assert.match(await text(rtc.page, "codecs"), /^H\.264 \+ Opus/);
    assert.match(await text(flv.page, "codecs"), /^H\.264 .* \+ AAC/);
    for (const { page } of [rtc, flv]) assert.match(await text(page, "resolution"), /^\d+ × \d+$/);
    assert.ok(((await flv.page.evaluate("__sluice.stats.behind")) as number) < 2, "the FLV player is near the live edge");

    await flv.page.click("#sound");
    await until(flv.page, "!__sluice.video.muted && document.querySelector('#sound-state').textContent === '100 %'");

    await publisher.page.click("#stop");
    await until(rtc.page, "['paused', 'waiting', 'lost'].includes(__sluice.state)", 15_000);
    await publisher.page.click("#publish");
    await until(publisher.page, "__sluice.state === 'live'");
    const frames = "(__sluice.video.getVideoPlaybackQuality().totalVideoFrames)";
    for (const { page } of [rtc, flv]) {
      await until(page, "__sluice.state === 'playing'", 20_000);
      const before = await page.evaluate(frames);
      await until(page, `${frames} > ${before} + 30`, 20_000);
    }
    for (const { page, errors } of [rtc, flv, publisher]) {
      assert.deepEqual(errors, []);
      await page.context().close();
    }
  });

  test("the session ends when the publisher's page is closed", async () => {
    const { page } = await open("whip.html?autostart=true&stream=closing");
    await until(page, "__sluice.state === 'live'");
    const isLive = async () => {
      const answer = await fetch(`http://127.0.0.1:${gateway.ports.http}/api/v1/streams?count=100`);
      const { streams } = (await answer.json()) as { streams: { name: string; state: string }[] };
      return streams.some(({ name, state }) => name === "closing" && state === "live");
    };
    assert.equal(await isLive(), true);
    await page.goto("about:blank");
    const closedAt = performance.now();
    while (await isLive()) {
      assert.ok(performance.now() - closedAt < 3_000, "the stream ends within 3 s");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await page.context().close();
  });

  test("the older signaling publishes and plays, the player being there first", async () => {
    const player = await open("rtc_player.html?autostart=true&stream=older");
    await until(player.page, "__sluice.state === 'buffering'");
    const publisher = await open("rtc_publisher.html?autostart=true&stream=older");
    await until(publisher.page, "__sluice.state === 'live'");
    await until(player.page, "__sluice.state === 'playing' && __sluice.stats?.framesDecoded > 30", 20_000);
    for (const { page, errors } of [player, publisher]) {
      assert.deepEqual(errors, []);
      await page.context().close();
    }
  });

  test("the console shows both sides of a stream and ends a viewer's session, which comes back by itself", async () => {
    const publisher = await open("whip.html?autostart=true&stream=shown");
    await until(publisher.page, "__sluice.state === 'live'");
    const viewer = await open("whep.html?autostart=true&stream=shown");
    await until(viewer.page, "__sluice.state === 'playing'");
    const { page, errors } = await open(`../?api=${gateway.ports.api}`);
    const card = page.locator(".stream", { hasText: "live/shown" });
    await card.locator("summary").click();
    const row = card.locator(".client", { hasText: "Watches by WebRTC from 127.0.0.1" });
    await row.filter({ hasText: "connected" }).waitFor();
    assert.match(
      (await card.locator(".facts").textContent()) ?? "",
      /H\.264 .* × .*Viewers1 \(WebRTC 1\)PublisherWebRTC from 127\.0\.0\.1/,
    );
    await viewer.page.evaluate(
      "__sluice.client.addEventListener('state', () => { window.wasLost ||= __sluice.state === 'lost' })",
    );
    await row.getByRole("button").click();
    await row.getByRole("button").click();
    await until(viewer.page, "window.wasLost && __sluice.state === 'playing'", 20_000);
    assert.deepEqual(errors, []);
    for (const each of [publisher, viewer, { page }]) await each.page.context().close();
  });
});
