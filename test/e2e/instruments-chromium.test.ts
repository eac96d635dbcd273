// The instruments inside Chromium, proven against a flash and a beep that the page sends to itself and a sender that is not ours.

import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import { after, before, suite, test } from "node:test";

import type { Page } from "playwright-core";

import { makeFixture } from "../../scripts/fixtures.js";
import { pause, percentile } from "../support/child.js";
import { Chromium, delaysBehind, lipOffsets, PageViewer } from "../support/chromium.js";
import { ReferenceSender } from "../support/reference-sender.js";

suite("measuring in Chromium", () => {
  let browser: Chromium;
  let sender: ReferenceSender;
  let server: Server;
  let page: Page;
  let origin: string;

  before(async () => {
    const { path } = await makeFixture();
    server = createServer((_request, response) => {
      response.writeHead(200, { "Content-Type": "text/html" }).end("<body></body>");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    origin = `http://127.0.0.1:${address.port}`;
    sender = await ReferenceSender.start(path);
    browser = await Chromium.start();
    page = await browser.open(`${origin}/`);
  });

  after(async () => {
    await browser.stop();
    await sender.stop();
    server.closeAllConnections();
    server.close();
  });

  test("two viewers of one sender see the same numbers at the same time", async () => {
    const first = await PageViewer.join(page, sender.url);
    const second = await PageViewer.join(page, sender.url);
    await pause(6000); // until both have had a key frame and some seconds of pictures
    const [a, b] = [await first.take(), await second.take()];
    const { video } = await second.statistics();
    await first.close();
    await second.close();
    assert.ok(a.pictures.length > 50, `pictures: ${a.pictures.length}`);
    const numbers = a.pictures.map((picture) => picture.frameNumber);
    const unread = numbers.filter((number) => number === undefined).length; // the sender lets viewers in before a key frame
    assert.ok(unread <= numbers.length / 20, `${unread} of ${numbers.length} pictures without a time code`);
    assert.ok((video?.framesDecoded ?? 0) > 50);
    assert.ok(Math.abs(percentile(delaysBehind(a, b), 0.5)) < 250); // their jitter buffers are their own
  });

  test("hears beeps and sees flashes that the page sends to itself", async () => {
    const viewer = await PageViewer.loopback(page);
    await viewer.listen();
    await pause(6000);
    const seen = await viewer.take();
    await viewer.close();
    const offsets = lipOffsets(seen);
    assert.ok(offsets.length >= 3, `flashes with a beep: ${offsets.length}, beeps ${seen.beeps.length}`);
    assert.ok(Math.abs(percentile(offsets, 0.5)) < 150, `offsets: ${offsets}`);
    console.log("loopback offsets", offsets.map(Math.round).join(" "));
  });
});
