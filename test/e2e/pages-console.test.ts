import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Browser, Locator, Page } from "playwright-core";

import { HttpServer } from "../../gateway/http/server.js";
import { FakeRtc, fakeOptions } from "../http/fake-services.js";
import { chromiumPath, openBrowser } from "../support/page-browser.js";
import { text, until, visitPage } from "../support/page-visit.js";

const skip = chromiumPath === undefined && "no Chromium";
const http = new HttpServer(fakeOptions(new FakeRtc()));
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

/** The API in the page itself: `window.fakeApi` says what is live, who is connected, and how clients and kicks are answered. */
const FAKE_API = `
(() => {
  const api = (window.fakeApi = { streams: [], clients: [], clientsAt: "http://127.0.0.1:1985", clientsStatus: 200, kickStatus: 200, kicked: [], asked: 0 });
  const json = (body, status = 200) => new Response(JSON.stringify(body), { status });
  window.fetch = async (input, init = {}) => {
    const { origin, pathname } = new URL(String(input));
    if (pathname === "/api/v1/versions") return json({ code: 0, data: { version: "9.8.7" }, rtmp_port: 1936 });
    if (pathname === "/api/v1/streams") { api.asked++; if (api.down) throw new TypeError("down"); return json({ code: 0, streams: api.streams }); }
    if (origin !== api.clientsAt) return json({ code: 404 }, 404);
    if (init.method === "DELETE") {
      if (api.kickStatus !== 200) return json({ code: api.kickStatus, error: "not for you" }, api.kickStatus);
      api.kicked.push(pathname.split("/").pop());
      api.clients = api.clients.filter(({ id }) => id !== api.kicked.at(-1));
      return json({ code: 0 });
    }
    return api.clientsStatus === 200 ? json({ code: 0, clients: api.clients }) : json({ code: api.clientsStatus }, api.clientsStatus);
  };
  api.stream = (id, more = {}) => ({
    id, name: id, app: "live", vhost: "__defaultVhost__", live_ms: Date.now() - 3725000, viewers: 2, recv_bytes: 1000000, state: "live",
    kbps: { recv_30s: 2500, send_30s: 5000 }, publish: { active: true, protocol: "rtmp" },
    video: { codec: "H264", profile: "High", width: 1280, height: 720 }, audio: { codec: "AAC", sample_rate: 48000, channel: 2 }, notes: {}, ...more });
  api.client = (id, stream, type, more = {}) => ({ id, stream, type, ip: "192.0.2.9", publish: type.endsWith("publish"), alive: 61, ...more });
})();`;

const visit = (work: (page: Page) => Promise<void>, setUp = "", path = "/") =>
  visitPage(browser, origin + path, work, `${FAKE_API};${setUp}`);

/** Its words as they are seen, in one line. */
const shown = async (locator: Locator): Promise<string> => (await locator.allInnerTexts()).join(" ").replace(/\s+/g, " ");

const TWO_STREAMS = `
  fakeApi.streams = [fakeApi.stream("one", { notes: { video: "<b>B-frames</b>" } }), fakeApi.stream("two", { state: "grace" })];
  fakeApi.clients = [
    fakeApi.client("p", "one", "fmle-publish"), fakeApi.client("f", "one", "flv-play", { queue: { waiting: 2048, falls: 3 } }),
    fakeApi.client("w", "one", "rtc-play", { rtc: { state: "connected", rtt_ms: 12, loss: 0.031, bitrate: 2400000, reason: "asks for what is gone" } }),
  ];`;

test("tells of each stream its codecs, bit rate, viewers by protocol, publisher, age and notes", { skip }, async () => {
  await visit(async (page) => {
    await until(page, "document.querySelector('#streams').children.length === 2");
    assert.equal(await text(page, "version"), "9.8.7");
    assert.equal(await text(page, "obs-server"), "rtmp://127.0.0.1:1936/live");
    const first = await shown(page.locator(".stream").first());
    for (const words of [
      "live/one Live",
      "H.264 High 1280 × 720",
      "AAC 48 kHz stereo",
      "2 (FLV 1, WebRTC 1)",
      "RTMP from 192.0.2.9",
      "video: <b>B-frames</b>",
    ])
      assert.ok(first.includes(words), `${words} in ${first}`);
    assert.match(first, /Live for 1:02:0\d/);
    assert.match(await shown(page.locator(".stream").nth(1)), /Publisher away/);
    const links = await page.evaluate(
      "[...document.querySelectorAll('.stream:first-child a')].map((link) => link.getAttribute('href'))",
    );
    assert.deepEqual(links, [
      "players/whep.html?autostart=true&app=live&stream=one",
      "players/srs_player.html?autostart=true&app=live&stream=one.m3u8",
      "players/srs_player.html?autostart=true&app=live&stream=one.flv",
      "players/rtc_player.html?autostart=true&app=live&stream=one",
    ]);
    await page.evaluate("fakeApi.streams[0].recv_bytes += 1000000");
    await until(page, "/Mbit\\/s$/.test(document.querySelector('.stream .facts').children[2].textContent)");
  }, TWO_STREAMS);
});

test("tells of each client its state and reason, and ends its session after a second press", { skip }, async () => {
  await visit(async (page) => {
    await page.locator("summary").first().click();
    const rows = page.locator(".stream").first().locator(".client");
    assert.match(await shown(rows.nth(1)), /Watches by FLV from 192\.0\.2\.9\s+for 1:01 · 2 KiB waiting · fell behind 3 times/);
    assert.match(await shown(rows.nth(2)), /connected · 2\.40 Mbit\/s · 12 ms round trip · 3\.1 % lost/);
    assert.match(await shown(rows.nth(2)), /asks for what is gone/);
    await rows.nth(2).getByRole("button").click();
    assert.deepEqual(await page.evaluate("fakeApi.kicked"), []);
    await rows.nth(2).getByRole("button").click();
    await until(page, "document.querySelectorAll('.stream:first-child .client').length === 2", 3_000);
    assert.deepEqual(await page.evaluate("fakeApi.kicked"), ["w"]);
    // The place of the others is kept: nothing is built anew, and what was opened stays open.
    assert.equal(await page.locator("details").first().getAttribute("open"), "");

    await page.evaluate("fakeApi.kickStatus = 403");
    await rows.nth(1).getByRole("button").click();
    await rows.nth(1).getByRole("button").click();
    await until(page, "document.querySelector('.stream:first-child').textContent.includes('not for you')");
    assert.equal(await rows.nth(1).getByRole("button").count(), 0);
  }, TWO_STREAMS);
});

for (const [how, setUp, words] of [
  ["does not answer", "fakeApi.clientsAt = 'http://elsewhere'", /http:\/\/127\.0\.0\.1:1985 does not answer/],
  ["asks for a password", "fakeApi.clientsStatus = 401", /asks for a password/],
] as const) {
  test(`does without clients when the API's port ${how}`, { skip }, async () => {
    await visit(async (page) => {
      await until(page, "document.querySelector('#streams').children.length === 2");
      assert.match(await text(page, "clients-note"), words);
      assert.equal(await page.locator("details").first().isVisible(), false);
      assert.match(await shown(page.locator(".stream").first()), /Viewers\s+2\s/);
    }, `${TWO_STREAMS}; ${setUp}`);
  });
}

test("keeps what it knew while the gateway is away, and asks less often", { skip }, async () => {
  await visit(async (page) => {
    await until(page, "document.querySelector('#streams').children.length === 2");
    await page.evaluate("fakeApi.down = true");
    await until(page, "document.querySelector('#live-note').textContent === 'The gateway does not answer.'");
    assert.equal(await page.locator(".stream").count(), 2);
    await page.evaluate("fakeApi.down = false; fakeApi.streams = []");
    await until(page, "document.querySelector('#streams').children.length === 0");
    assert.equal(await page.locator("#empty").isVisible(), true);
  }, TWO_STREAMS);
});
