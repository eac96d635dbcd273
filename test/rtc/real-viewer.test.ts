// The server with real sockets and keys, watched by real clients in a child process.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { parseConfig } from "../../gateway/config/read.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import { RtcServer } from "../../gateway/rtc/server.js";
import { systemMachine } from "../../gateway/rtc/system-machine.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { peer, RecordingSource } from "../support/frames.js";
import { PacketSource } from "../support/packet-source.js";
import { ViewerHost } from "../support/viewers.js";
import { openWhepEndpoint } from "../support/whep-endpoint.js";

const NAME = { vhost: "__defaultVhost__", app: "live", stream: "livestream" };
const LOG = { debug() {}, info() {}, warn() {} };

for (const stack of ["libdatachannel", "werift"] as const) {
  test(`a viewer on ${stack} gets the group under way at once, then live packets, and is told when it ends`, async (context) => {
    const clock = new SystemClock();
    const { config } = parseConfig(
      "rtc_server { enabled on; listen 127.0.0.1:0; } vhost __defaultVhost__ { rtc { enabled on; } }",
    );
    const listening = { ...config, rtcServer: { ...config.rtcServer, listen: [{ host: "127.0.0.1", port: 0 }] } };
    const hub = new LiveHub({
      clock,
      vhost: (name) => ({ name, gopCacheFrames: 2500, grace: 0, takeover: "on" }),
    });
    const rtc = new RtcServer({ config: listening, hub, clock, log: LOG, machine: systemMachine });
    await rtc.start();
    const endpoint = await openWhepEndpoint(rtc);
    const host = new ViewerHost();
    context.after(async () => {
      await host.stop();
      await endpoint.close();
      await rtc.close("the test is over");
      hub.close("the test is over");
    });

    const publication = await hub.publish({ name: NAME, peer: peer(), source: new RecordingSource(), lane: "packets" });
    const source = new PacketSource(publication.stream.packets, clock.wallTime() - 4_000, { group: 250 });
    source.run(100); // the viewer comes in the middle of a group of 10 s
    const timer = setInterval(() => source.next(), 40);
    context.after(() => clearInterval(timer));

    const viewer = await host.join(endpoint.url, { stack, keep: true });
    await viewer.until("media to flow", (look) => look.tally.video.packets > 250 && look.tally.audio.packets > 40);
    await sleep(500);
    const kept = await viewer.take();
    const numbers = kept.video.map((packet) => packet.sequenceNumber);
    numbers.forEach((number, index) => {
      if (index > 0) assert.equal(number, ((numbers[index - 1] ?? 0) + 1) & 0xffff, "no gap, in order");
    });
    const pictures = kept.video.map((packet) => packet.payload.readUInt32BE(2));
    assert.equal(pictures[0], 0, "it begins with the key frame");
    assert.ok((pictures.at(-1) ?? 0) > 110, "and has become live");
    assert.ok(kept.reports.length >= 4, "sender reports for both tracks");
    assert.equal(rtc.sessionCount, 1);
    const [session] = [...rtc.sessions()];
    assert.equal(session?.state, "connected");

    publication.end("the publisher leaves");
    if (stack === "libdatachannel")
      await viewer.until(
        "the goodbye",
        (look) => look.state === "closed" || look.state === "disconnected" || look.state === "failed",
      );
    assert.equal(rtc.sessionCount, 0); // werift does not react to close_notify
  });
}
