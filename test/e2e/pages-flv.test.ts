import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Browser, Page } from "playwright-core";

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

const visit = (query: string, work: (page: Page) => Promise<void>, script = "") =>
  visitPage(browser, `${origin}/players/srs_player.html?autostart=true&${query}`, work, script);

/** Every answer to a request for a stream. */
const answering = (status: number, type: string, detail: string) => `
  const real = window.fetch.bind(window);
  window.asked = 0;
  window.fetch = async (input, init) => {
    if (!/\\.(flv|m3u8)/.test(String(input?.url ?? input))) return real(input, init);
    window.asked++;
    return new Response(JSON.stringify({ type: "urn:sluice:problem:${type}", title: "A title", status: ${status}, detail: "${detail}" }), { status: ${status} });
  };`;

const REFUSALS: readonly [name: string, script: string, state: string, title: RegExp, text: RegExp][] = [
  [
    "not live",
    answering(404, "not-live", "nobody publishes"),
    "waiting",
    /^Nobody is publishing/,
    /live\/evening begins here by itself/,
  ],
  ["no such address", answering(404, "not-found", "FLV is <i>off</i>."), "failed", /^A title \(404\)$/, /^FLV is <i>off<\/i>\.$/],
  ["forbidden", answering(403, "forbidden", "Not from here."), "failed", /^A title \(403\)$/, /^Not from here\.$/],
  [
    "overloaded",
    answering(503, "overloaded", "1000 are here."),
    "lost",
    /^A title \(503\)$/,
    /^1000 are here\. It is tried again by itself\.$/,
  ],
  ["no WebSocket there", answering(404, "not-live", "nobody publishes"), "waiting", /^Nobody is publishing/, /live\/evening/],
  [
    "FLV is not for this browser",
    "delete window.MediaSource; delete window.ManagedMediaSource;",
    "failed",
    /^This browser cannot play FLV$/,
    /WebRTC/,
  ],
  [
    "HLS is not for this browser",
    "delete window.MediaSource; delete window.ManagedMediaSource; HTMLMediaElement.prototype.canPlayType = () => '';",
    "failed",
    /^This browser cannot play HLS$/,
    /WebRTC/,
  ],
];

for (const [name, script, state, title, words] of REFUSALS) {
  for (const ending of name.includes("FLV") || name.includes("WebSocket")
    ? ["flv"]
    : name.includes("HLS")
      ? ["m3u8"]
      : ["flv", "m3u8"]) {
    test(`says what is the matter: ${name} (.${ending})`, { skip }, async () => {
      const schema = name.includes("WebSocket") ? "&schema=ws" : "";
      await visit(
        `stream=evening.${ending}${schema}`,
        async (page) => {
          await until(page, `window.__sluice.state === '${state}'`);
          assert.match(await text(page, "notice-title"), title);
          assert.match(await text(page, "notice-text"), words);
          assert.equal(await page.locator("#stop").isDisabled(), state === "failed");
        },
        script,
      );
    });
  }
}

test("says plainly that nobody answers", { skip }, async () => {
  for (const ending of ["flv", "m3u8"]) {
    await visit(`port=19&stream=evening.${ending}`, async (page) => {
      await until(page, "document.querySelector('#notice-title').textContent.startsWith('No answer from http://127.0.0.1:19')");
      assert.equal(await text(page, "state"), "Trying again");
    });
  }
});

test("says plainly that its library is missing", { skip }, async () => {
  await visit(
    "",
    async (page) => {
      await until(page, "window.__sluice.state === 'failed'");
      assert.match(await text(page, "notice-text"), /mpegts\.js\) could not be loaded/);
    },
    "Object.defineProperty(window, 'mpegts', { get: () => undefined, set() {} });",
  );
});
