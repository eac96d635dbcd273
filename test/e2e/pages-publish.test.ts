import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Browser } from "playwright-core";

import { HttpServer } from "../../gateway/http/server.js";
import { FakeRtc, fakeOptions } from "../http/fake-services.js";
import { chromiumPath, FAKE_GATEWAY, openBrowser } from "../support/page-browser.js";
import { text, until, type VisitArguments, visitPage } from "../support/page-visit.js";

const skip = chromiumPath === undefined && "no Chromium";
const rtc = new FakeRtc();
const http = new HttpServer(fakeOptions(rtc));
let browser: Browser;
let origin = "";

before(async () => {
  if (skip) return;
  await http.start();
  origin = `http://127.0.0.1:${http.addresses.find(({ directive }) => directive === "http_server.listen")?.port}`;
  browser = await openBrowser();
});
after(async () => {
  await browser?.close();
  await http.close();
});

const visit = (...[path, work, script, options]: VisitArguments) => visitPage(browser, origin + path, work, script, options);

test("publishes camera and microphone by itself, shows figures, and gives the session back", { skip }, async () => {
  await visit(
    "/players/whip.html?autostart=true&stream=studio",
    async (page) => {
      await until(page, "window.__sluice.state === 'live'");
      await until(page, "/^\\d+ × \\d+$/.test(document.querySelector('#resolution').textContent)");
      await until(page, "/^[1-9].* fps$/.test(document.querySelector('#fps').textContent)");
      await until(page, "/bit\\/s$/.test(document.querySelector('#rate').textContent)");
      await until(page, "document.querySelector('#codecs').textContent.startsWith('H.264 + Opus')");
      assert.match(await text(page, "pair"), / → .*UDP$/);
      assert.equal(await text(page, "state"), "Live");
      assert.equal(await page.locator("#notice").isVisible(), false);
      assert.equal(await page.evaluate("window.__sluice.video.videoWidth > 0"), true);
      const [offer] = (await page.evaluate("window.fakeGateway.offers")) as { url: string; sdp: string }[];
      assert.match(offer?.url ?? "", /\/rtc\/v1\/whip\/\?app=live&stream=studio$/);
      assert.match(offer?.sdp ?? "", /a=sendonly/);
      assert.doesNotMatch(offer?.sdp ?? "", /VP8/);
      assert.match(
        (await page.locator("#watch-rtc").getAttribute("href")) ?? "",
        /whep\.html\?autostart=true&app=live&stream=studio/,
      );

      await page.click("#stop");
      assert.equal(await text(page, "state"), "Stopped");
      assert.equal(await page.evaluate("window.fakeGateway.deletes"), 1);
      assert.equal(await page.evaluate("window.__sluice.stream"), undefined);
    },
    FAKE_GATEWAY,
  );
});

test("shows a preview first, changes devices and mutes without a new session", { skip }, async () => {
  await visit(
    "/players/whip.html",
    async (page) => {
      await page.click("#preview");
      await until(page, "window.__sluice.video.videoWidth > 0");
      assert.equal(await text(page, "state"), "Preview");
      assert.equal(await page.evaluate("window.fakeGateway.posts"), 0);
      await page.click("#publish");
      await until(page, "window.__sluice.state === 'live'");

      await until(page, "document.querySelectorAll('#camera option').length > 2");
      await page.locator("#camera").selectOption({ index: 1 });
      await until(
        page,
        "window.__sluice.pc.getSenders().every(({ track }) => window.__sluice.stream.getTracks().includes(track))",
      );
      await page.click("#mute-video");
      assert.equal(await page.evaluate("window.__sluice.stream.getVideoTracks()[0].enabled"), false);
      await page.click("#mute-audio");
      await until(page, "document.querySelector('#muted').textContent === 'muted'");
      await page.selectOption("#bitrate", "500000");
      await until(page, "window.__sluice.pc.getSenders().some((s) => s.getParameters().encodings[0]?.maxBitrate === 500000)");
      assert.equal(await page.evaluate("window.fakeGateway.posts"), 1);

      await page.selectOption("#codec", "VP8");
      await until(page, "window.fakeGateway.posts === 2 && window.__sluice.state === 'live'");
      await until(page, "document.querySelector('#codecs').textContent.startsWith('VP8')");
    },
    FAKE_GATEWAY,
  );
});

test("waits while somebody else publishes", { skip }, async () => {
  await visit(
    "/players/whip.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'busy'");
      assert.match(await text(page, "notice-title"), /Somebody else/);
      assert.match(await text(page, "notice-text"), /A camera is\. live\/livestream/);
      await page.evaluate("window.fakeGateway.busy = false");
      await until(page, "window.__sluice.state === 'live'");
    },
    `${FAKE_GATEWAY}; window.fakeGateway.busy = true;`,
  );
});

test("comes back by itself when the gateway has forgotten the session", { skip }, async () => {
  await visit(
    "/players/whip.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'live'");
      await page.evaluate("window.fakeGateway.gone = true; window.fakeGateway.peers[0].close()");
      await until(page, "window.fakeGateway.posts === 2 && window.__sluice.state === 'live'", 20_000);
    },
    FAKE_GATEWAY,
  );
});

test("gives the session back when the page goes", { skip }, async () => {
  rtc.closed.length = 0;
  await visit(
    "/players/whip.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'live'");
      await page.goto("about:blank");
      for (let tries = 0; rtc.closed.length === 0 && tries < 100; tries++)
        await new Promise((resolve) => setTimeout(resolve, 20));
    },
    FAKE_GATEWAY,
  );
  assert.deepEqual(
    rtc.closed.map(({ id }) => id),
    ["fake-session"],
  );
});

/** Browsers refuse in many ways: each is answered by words that say what to do. */
const REFUSALS: readonly [name: string, script: string, title: RegExp, text: RegExp][] = [
  [
    "no secure context",
    "delete Navigator.prototype.mediaDevices; Object.defineProperty(window, 'isSecureContext', { value: false })",
    /only to pages from https or localhost/,
    /http_server .*https:\/\/127\.0\.0\.1:8088\/players\/whip\.html/,
  ],
  ["no permission", refuse("NotAllowedError"), /may not use camera and microphone/, /Allow it/],
  ["no device", refuse("NotFoundError"), /No camera or microphone was found/, /screen/],
  ["a device in use", refuse("NotReadableError"), /cannot open camera and microphone/, /Another program/],
  ["a browser of its own mind", refuse("TypeError"), /does not give camera and microphone/, /because/],
];

function refuse(name: string): string {
  return `MediaDevices.prototype.getUserMedia = async () => { throw new DOMException("because", "${name}") };`;
}

for (const [name, script, title, words] of REFUSALS) {
  test(`says what to do: ${name}`, { skip }, async () => {
    await visit(
      "/players/whip.html?autostart=true",
      async (page) => {
        await until(page, "document.querySelector('#state').textContent === 'Cannot publish'");
        assert.match(await text(page, "notice-title"), title);
        assert.match(await text(page, "notice-text"), words);
      },
      script,
    );
  });
}

test("publishes without the microphone that is not there, and says so", { skip }, async () => {
  const script = `
    const real = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = function (wish) {
      if (wish.audio) throw new DOMException("none", "NotFoundError");
      return real.call(this, wish);
    };`;
  await visit(
    "/players/whip.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'live'");
      assert.match(await text(page, "remark"), /No microphone/);
      const [offer] = (await page.evaluate("window.fakeGateway.offers")) as { sdp: string }[];
      assert.doesNotMatch(offer?.sdp ?? "", /m=audio/);
    },
    `${FAKE_GATEWAY};${script}`,
  );
});

test("rtc_publisher.html and rtc_player.html are the same pages with the older signaling", { skip }, async () => {
  for (const [page, action, state] of [
    ["rtc_publisher", "publish", "live"],
    ["rtc_player", "play", "playing"],
  ] as const) {
    await visit(
      `/players/${page}.html?autostart=true&stream=a%20b&token=x`,
      async (page) => {
        await until(page, `window.__sluice.state === '${state}'`);
        const [offer] = (await page.evaluate("window.fakeGateway.offers")) as { url: string; streamurl: string }[];
        assert.equal(offer?.url, `${origin}/rtc/v1/${action}/`);
        assert.equal(offer?.streamurl, "webrtc://127.0.0.1/live/a%20b?token=x");
        await page.click("#stop");
        assert.equal(await page.evaluate("window.fakeGateway.deletes"), 1);
      },
      FAKE_GATEWAY,
    );
  }
  await visit(
    "/players/rtc_publisher.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'busy'");
      assert.match(await text(page, "notice-text"), /A camera is\. live\/livestream/);
    },
    `${FAKE_GATEWAY}; window.fakeGateway.busy = true;`,
  );
});

test("fits a phone 320 pixels wide", { skip }, async () => {
  await visit(
    "/players/whip.html",
    async (page) => assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 320),
    "",
    { viewport: { width: 320, height: 600 } },
  );
});
