// room.html and one2one.html against the real gateway: people in real browsers see, hear and lose each other.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { type GatewayOptions, GatewayProcess } from "../support/gateway-process.js";
import { chromiumPath, openBrowser } from "../support/page-browser.js";
import { text, until } from "../support/page-visit.js";

const skip = chromiumPath === undefined && "no Chromium";
const OPTIONS: GatewayOptions = {
  rtc: "rtc_to_rtmp on;",
  vhost: "http_remux { enabled on; }",
  top: "signaling { enabled on; }",
};
/** Small pictures: everybody encodes one and decodes all others, on two cores. */
const SMALL = "height=180&fps=10";
const LONG = 30_000; // ms

suite("rooms", { skip }, () => {
  let gateway: GatewayProcess;
  let browser: Browser;
  const errors: string[] = [];

  before(async () => {
    gateway = await GatewayProcess.start(OPTIONS);
    browser = await openBrowser();
  });
  after(async () => {
    await browser?.close();
    await gateway?.stop();
  });

  const open = async (room: string, display: string, more = "", page = "room.html"): Promise<Page> => {
    const made = await (await browser.newContext({ viewport: { width: 900, height: 640 } })).newPage();
    made.on("pageerror", (error) => errors.push(`${display}: ${error.message}`));
    const query = new URLSearchParams({ room, display, autostart: "true" });
    await made.goto(`http://127.0.0.1:${gateway.ports.http}/demos/${page}?${query}&${SMALL}&${more}`);
    return made;
  };

  /** Every page shows moving pictures of all the others, and of nobody else. */
  const seeEachOther = async (pages: readonly Page[]) => {
    const others = pages.length - 1;
    const condition = `(() => {
      const stats = Object.values(__sluice.stats);
      const videos = [...document.querySelectorAll('.tile[data-who="other"] video')];
      return stats.length === ${others} && videos.length === ${others} &&
        videos.every((video) => video.videoWidth > 0) && stats.every((each) => each?.framesDecoded > 10);
    })()`;
    for (const page of pages) await until(page, condition, LONG);
  };

  /** More pictures are decoded than have been. */
  const goesOn = async (page: Page) => {
    const frames = "Math.min(...Object.values(__sluice.stats).map((each) => each?.framesDecoded ?? 0))";
    const before = (await page.evaluate(frames)) as number;
    await until(page, `${frames} > ${before} + 10`, LONG);
  };

  const close = async (...pages: readonly Page[]) => {
    for (const page of pages) await page.context().close();
    assert.deepEqual(errors.splice(0), []);
  };

  test("two people see each other, by names that are only text, mute, share a screen, leave and come back", async () => {
    const ann = await open("tea", "Ann");
    const name = "<img src=x onerror=alert(1)>";
    const bob = await open("tea", name);
    await seeEachOther([ann, bob]);
    assert.equal(await ann.locator('.tile[data-who="other"] .tile-name').textContent(), name);
    assert.equal(await ann.locator(".tile img").count(), 0);
    assert.equal(await text(ann, "state"), "In the room");

    // What one switches off the other is told, and shown.
    const told = "[...__sluice.room.participants.values()][0].told";
    await until(bob, `${told}.audio === true && ${told}.video === true`);
    await ann.click("#mute-audio");
    await ann.click("#mute-video");
    await until(bob, `${told}.audio === false && ${told}.video === false`);
    await bob.locator('.tile[data-who="other"] .tile-muted').waitFor({ state: "visible" });
    await bob.locator('.tile[data-who="other"] .avatar').waitFor({ state: "visible" });
    await ann.click("#mute-audio");
    await ann.click("#mute-video");
    await bob.locator('.tile[data-who="other"] .avatar').waitFor({ state: "hidden" });

    // Another picture in the same session.
    const sessions = "__sluice.room.publisher.session";
    const before = await ann.evaluate(sessions);
    await ann.click("#share");
    await until(bob, `${told}.screen === true`);
    await goesOn(bob);
    await ann.click("#share");
    await until(bob, `${told}.screen === false`);
    assert.equal(await ann.evaluate(sessions), before);
    await goesOn(bob);

    await bob.click("#leave");
    await until(ann, "__sluice.room.participants.size === 0 && document.querySelectorAll('.tile').length === 1");
    assert.equal(await text(bob, "state"), "Not in a room");
    await bob.click("#join");
    await seeEachOther([ann, bob]);

    const late = await open("tea", "Ann");
    await until(late, "__sluice.state === 'refused'");
    assert.match(await text(late, "notice-title"), /name is taken/);
    await late.fill("#display", "Cy");
    await late.click("#join");
    await seeEachOther([ann, bob, late]);
    await bob.close(); // without a word
    await until(ann, "__sluice.room.participants.size === 1", LONG);
    await close(ann, late);
  });

  test("four people see each other", async () => {
    const pages: Page[] = [];
    for (const display of ["Ann", "Bob", "Cy", "Dee"]) pages.push(await open("four", display));
    await seeEachOther(pages);
    await until(pages[0] as Page, "__sluice.speaker !== undefined"); // their microphones beep
    await close(...pages);
  });

  test("a page says so when it is in the room and its media is blocked, with what the gateway saw", async () => {
    // Nobody is at port 9: signaling stands, and no packet comes through.
    const page = await open("blocked", "Ann", "eip=127.0.0.1:9");
    await until(page, "__sluice.state === 'joined'");
    await page.locator("#trouble").waitFor({ state: "visible" });
    assert.match(await text(page, "trouble-title"), /do not get through/);
    await until(page, "/never heard from this browser/.test(document.querySelector('#trouble-text').textContent)");
    await close(page);
  });

  test("a call for two goes on by itself after a change of networks, and after the gateway has been started anew", async () => {
    const pages = [await open("pair", "Ann", "", "one2one.html"), await open("pair", "Bob", "", "one2one.html")];
    await seeEachOther(pages);
    const before = await pages[0]?.evaluate("__sluice.room.publisher.session");
    await pages[0]?.evaluate("window.dispatchEvent(new Event('online'))");
    const isNew = `__sluice.room.publisher.state === 'live' && __sluice.room.publisher.session !== ${JSON.stringify(before)}`;
    await until(pages[0] as Page, isNew, LONG);
    await seeEachOther(pages);
    const { ports } = gateway;
    await gateway.stop();
    for (const page of pages) await until(page, "__sluice.state === 'lost'");
    await pages[0]?.locator("#trouble").waitFor({ state: "visible" });
    gateway = await GatewayProcess.start({ ...OPTIONS, ports });
    for (const page of pages) await until(page, "__sluice.state === 'joined' && __sluice.room.participants.size === 1", LONG);
    for (const page of pages) {
      await until(page, "[...__sluice.room.participants.values()].every(({ viewer }) => viewer?.state === 'playing')", LONG);
      await goesOn(page);
    }
    await close(...pages);
  });
});
