import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { HttpServer } from "../../gateway/http/server.js";
import type { Stream } from "../../gateway/hub/types.js";
import { FakeRtc, fakeOptions, fakeServices } from "../http/fake-services.js";
import { chromiumPath, FAKE_GATEWAY, openBrowser } from "../support/page-browser.js";
import { text, until, type VisitArguments, visitPage } from "../support/page-visit.js";

const skip = chromiumPath === undefined && "no Chromium";
const rtc = new FakeRtc();
const streams: Stream[] = [];
const http = new HttpServer({ ...fakeOptions(rtc), services: { ...fakeServices(rtc, streams), rtmpPort: 19350 } });
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

test("plays by itself, shows figures, plays sound after a tap, and gives the session back", { skip }, async () => {
  await visit(
    "/players/whep.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'playing'");
      await until(page, "/^640 × 360$/.test(document.querySelector('#resolution').textContent)");
      await until(page, "/^[1-9].* fps$/.test(document.querySelector('#fps').textContent)");
      await until(page, "/bit\\/s$/.test(document.querySelector('#bitrate').textContent)");
      assert.match((await text(page, "pair")) ?? "", / → .*UDP$/);
      assert.match((await text(page, "join")) ?? "", / ms$/);
      assert.equal(await page.locator("#notice").isVisible(), false);
      assert.equal(await text(page, "state"), "Live");

      assert.equal(await page.evaluate("window.__sluice.video.muted"), true);
      await page.click("#sound");
      await until(page, "window.__sluice.stats.audioLevel > 0.01");
      assert.equal(await page.locator("#sound").isVisible(), false);

      await page.click("#stop");
      assert.equal(await text(page, "state"), "Stopped");
      assert.equal(await page.evaluate("window.fakeGateway.deletes"), 1);
      assert.equal(await page.evaluate("window.__sluice.pc"), undefined);
    },
    FAKE_GATEWAY,
  );
});

test("plays with sound at once when it was a click that started it", { skip }, async () => {
  await visit(
    "/players/whep.html",
    async (page) => {
      assert.equal(await text(page, "state"), "Stopped");
      await page.click("#play");
      await until(page, "window.__sluice.state === 'playing' && window.__sluice.stats?.audioLevel > 0.01");
      assert.equal(await page.locator("#sound").isVisible(), false);
    },
    FAKE_GATEWAY,
  );
});

test("waits for a publisher and begins by itself", { skip }, async () => {
  await visit(
    "/players/whep.html?autostart=true&stream=evening",
    async (page) => {
      await until(page, "window.__sluice.state === 'waiting'");
      assert.match((await text(page, "notice-title")) ?? "", /Nobody is publishing/);
      assert.match((await text(page, "notice-text")) ?? "", /live\/evening/);
      await page.evaluate("window.fakeGateway.live = true");
      await until(page, "window.__sluice.state === 'playing'");
    },
    `${FAKE_GATEWAY}; window.fakeGateway.live = false;`,
  );
});

test("comes back by itself when the gateway has forgotten the session", { skip }, async () => {
  await visit(
    "/players/whep.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'playing'");
      await page.evaluate("window.fakeGateway.gone = true; window.fakeGateway.peers[0].close()");
      await until(page, "window.fakeGateway.posts === 2 && window.__sluice.state === 'playing'", 15_000);
    },
    FAKE_GATEWAY,
  );
});

test("says that the publisher has paused, and goes on with it", { skip }, async () => {
  await visit(
    "/players/whep.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'playing'");
      await page.evaluate("window.fakeGateway.pause(true)");
      await until(page, "window.__sluice.state === 'paused'");
      assert.match((await text(page, "notice-title")) ?? "", /Nothing comes/);
      await page.evaluate("window.fakeGateway.pause(false)");
      await until(page, "window.__sluice.state === 'playing'");
      assert.equal(await page.evaluate("window.fakeGateway.posts"), 1);
    },
    FAKE_GATEWAY,
  );
});

test("gives the session back when the page goes", { skip }, async () => {
  rtc.closed.length = 0;
  await visit(
    "/players/whep.html?autostart=true",
    async (page) => {
      await until(page, "window.__sluice.state === 'playing'");
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

test("says plainly that the API does not answer", { skip }, async () => {
  await visit("/players/whep.html?autostart=true&api=19", async (page) => {
    await until(
      page,
      "document.querySelector('#notice-title').textContent.startsWith('No answer from http://127.0.0.1:19')",
      4_000,
    );
    assert.equal(await text(page, "state"), "Trying again");
  });
});

test("says which addresses were tried when no packet comes through", { skip }, async () => {
  // An answer of a peer that is nowhere: its candidates are taken out, and one of a documentation network put in.
  const elsewhere = `
    const inner = window.fetch;
    window.fetch = async (input, init) => {
      const response = await inner(input, init);
      if (init?.method !== "POST") return response;
      const sdp = (await response.text()).replace(/^a=candidate.*\\r\\n/gm, "").replace(/^(a=mid:.*\\r\\n)/gm, "$1a=candidate:0 1 udp 2130706431 192.0.2.77 8000 typ host\\r\\n");
      const changed = new Response(sdp, { status: 201, headers: { Location: "/rtc/v1/whep/fake-session" } });
      Object.defineProperty(changed, "url", { value: location.href });
      return changed;
    };`;
  await visit(
    "/players/whep.html?autostart=true",
    async (page) => {
      await until(page, "document.querySelector('#notice-text').textContent.includes('192.0.2.77:8000 udp')", 6_000);
      assert.match((await text(page, "notice-title")) ?? "", /no packet comes through/);
    },
    `${FAKE_GATEWAY};${elsewhere}`,
  );
});

test("shows the gateway's own words when it refuses for good", { skip }, async () => {
  rtc.onPlay = async () => {
    throw new (await import("../../gateway/media/errors.js")).Refusal(
      "unsupported",
      "You offer VP8, the stream is <i>H.265</i>.",
    );
  };
  await visit("/players/whep.html?autostart=true", async (page) => {
    await until(page, "window.__sluice.state === 'failed'");
    assert.equal(await text(page, "notice-text"), "You offer VP8, the stream is <i>H.265</i>.");
    assert.match((await text(page, "notice-title")) ?? "", /422/);
    assert.equal(await page.locator("#stop").isDisabled(), true);
  });
});

test("the landing page lists what is live, names as text only, and leads to the player", { skip }, async () => {
  streams.length = 0;
  await visit("/", async (page) => {
    await until(page, "document.querySelector('#obs-server').textContent === 'rtmp://127.0.0.1:19350/live'");
    assert.equal(await page.locator("#empty").isVisible(), true);
    streams.push(liveStream("live", "<img src=x onerror=alert(1)>"), liveStream("a&b", "c d"));
    await until(page, "document.querySelector('#streams').children.length === 2");
    assert.equal(await page.locator("#empty").isVisible(), false);
    assert.equal(await page.locator(".stream-name").first().textContent(), "live/<img src=x onerror=alert(1)>");
    assert.equal(await page.locator("#streams img").count(), 0);
    const href = await page.locator("#streams .button.primary").nth(1).getAttribute("href");
    assert.equal(new URL(href ?? "", "http://x/").searchParams.get("app"), "a&b");
    streams.length = 0;
    await until(page, "document.querySelector('#streams').children.length === 0");
  });
});

test("fits a phone 320 pixels wide", { skip }, async () => {
  streams.push(liveStream("live", "a-name-without-any-place-to-break-that-is-far-wider-than-the-screen-of-a-phone"));
  for (const path of ["/", "/players/whep.html", "/players/srs_player.html", "/players/rtc_player.html"]) {
    const work = async (page: Page) => {
      if (path === "/") await until(page, "document.querySelector('#streams').children.length === 1");
      assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 320);
    };
    await visit(path, work, "", { viewport: { width: 320, height: 600 } });
  }
  streams.length = 0;
});

/** As much of a stream as the API looks at. */
function liveStream(app: string, stream: string): Stream {
  const lane = { viewerCount: 0, videoConfig: undefined, audioConfig: undefined, track: () => undefined };
  const peer = { id: `${app}-${stream}`, protocol: "rtmp", address: "192.0.2.1", parameters: "" };
  const made = {
    ...{
      name: { vhost: "__defaultVhost__", app, stream },
      state: "live",
      sourceLane: "frames",
      publisher: peer,
      frames: lane,
      packets: lane,
    },
    ...{ since: 0, received: { units: 0, bytes: 0 }, notes: new Map() },
  };
  return made as unknown as Stream;
}
