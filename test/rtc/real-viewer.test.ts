// The server with real sockets and keys, watched by real clients in a child process.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { parseConfig } from "../../gateway/config/read.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import { RtcServer } from "../../gateway/rtc/server.js";
import { systemMachine } from "../../gateway/rtc/system-machine.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { eventually } from "../support/child.js";
import { peer, RecordingSource } from "../support/frames.js";
import { PacketSource, pictureOf } from "../support/packet-source.js";
import { openUdpProxy } from "../support/udp-proxy.js";
import { type Viewer, ViewerHost } from "../support/viewers.js";
import { openWhepEndpoint } from "../support/whep-endpoint.js";

const NAME = { vhost: "__defaultVhost__", app: "live", stream: "livestream" };
const LOG = { debug() {}, info() {}, warn() {} };

/** A gateway's WebRTC side with a publisher that is 4 s into a group of 10 s, and a process to hold viewers. */
async function open(context: TestContext) {
  const clock = new SystemClock();
  const { config } = parseConfig("rtc_server { enabled on; } vhost __defaultVhost__ { rtc { enabled on; } }");
  const listening = { ...config, rtcServer: { ...config.rtcServer, listen: [{ host: "127.0.0.1", port: 0 }] } };
  const hub = new LiveHub({ clock, vhost: (name) => ({ name, gopCacheFrames: 2500, grace: 0, takeover: "on" }) });
  const rtc = new RtcServer({ config: listening, hub, clock, log: LOG, machine: systemMachine });
  await rtc.start();
  const endpoint = await openWhepEndpoint(rtc);
  const host = new ViewerHost();
  const publication = await hub.publish({ name: NAME, peer: peer(), source: new RecordingSource(), lane: "packets" });
  const source = new PacketSource(publication.stream.packets, clock.wallTime() - 4_000, { group: 250 });
  source.run(100);
  const timer = setInterval(() => source.next(), 40);
  context.after(async () => {
    clearInterval(timer);
    await host.stop();
    await endpoint.close();
    await rtc.close("the test is over");
    hub.close("the test is over");
  });
  return { rtc, host, publication, url: endpoint.url };
}

/** The viewer's video by unwrapped sequence number, in order. */
async function videoOf(viewer: Viewer): Promise<Map<number, Buffer>> {
  const { video } = await viewer.take();
  const first = video[0]?.sequenceNumber ?? 0;
  const numbered = video.map((packet): [number, Buffer] => [
    (((packet.sequenceNumber - first) << 16) >> 16) + first,
    packet.payload,
  ]);
  return new Map(numbered.sort(([a], [b]) => a - b));
}

/** Asks for what is missing until nothing is: a busy machine loses datagrams too. */
async function complete(viewer: Viewer): Promise<Map<number, Buffer>> {
  return await eventually("no gap", async () => {
    const video = await videoOf(viewer);
    const numbers = [...video.keys()];
    const missing: number[] = [];
    for (let number = numbers[0] ?? 0; number < (numbers.at(-1) ?? 0); number++) if (!video.has(number)) missing.push(number);
    if (missing.length === 0) return video;
    await viewer.nack(missing.slice(0, 200));
    await sleep(100);
    return undefined;
  });
}

for (const stack of ["libdatachannel", "werift"] as const) {
  test(`a viewer on ${stack} gets the group under way at once, then live packets, and is told when it ends`, async (context) => {
    const { rtc, host, publication, url } = await open(context);
    const viewer = await host.join(url, { stack, keep: true });
    const look = await viewer.until("media to flow", ({ tally }) => tally.video.packets > 250 && tally.audio.packets > 40);
    assert.ok(look.tally.senderReports >= 4, "sender reports for both tracks");
    const pictures = [...(await complete(viewer)).values()].map(pictureOf);
    assert.equal(pictures[0], 0, "it begins with the key frame");
    assert.ok((pictures.at(-1) ?? 0) > 110, "and has become live");
    pictures.forEach((picture, index) => {
      if (index > 0) assert.ok(picture - (pictures[index - 1] ?? 0) <= 1, "every picture, in order");
    });
    assert.equal([...rtc.sessions()][0]?.state, "connected");

    publication.end("the publisher leaves");
    if (stack === "libdatachannel")
      await viewer.until("the goodbye", ({ state }) => state === "closed" || state === "disconnected");
    assert.equal(rtc.sessionCount, 0); // werift does not react to close_notify
  });
}

test("a viewer behind a lossy link gets back what it asks for, and keeps its picture when its port changes", async (context) => {
  const { rtc, host, url } = await open(context);
  const faults = { down: { loss: 0.05, delay: 5, jitter: 5 } };
  const proxy = await openUdpProxy({ address: "127.0.0.1", port: rtc.port }, 5, faults);
  context.after(() => proxy.close());
  const viewer = await host.join(`${url}?eip=127.0.0.1:${proxy.port}`, { keep: true });
  await viewer.until("media to flow", ({ tally }) => tally.video.packets > 250);
  assert.ok(proxy.counts.lostDown > 5, "the link is lossy");
  proxy.down = { delay: 5 };
  await complete(viewer);

  proxy.rebind();
  const before = (await viewer.look()).tally.video.packets;
  await viewer.until("media from the new port", ({ tally }) => tally.video.packets > before + 100, 20_000);
  assert.equal(rtc.sessionCount, 1);
  assert.equal([...rtc.sessions()][0]?.state, "connected");
});
