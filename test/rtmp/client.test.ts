import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { type TestContext, test } from "node:test";

import type { Frame } from "../../gateway/media/frame.js";
import { RtmpClient, type RtmpClientOptions } from "../../gateway/rtmp/client.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { eventually } from "../support/child.js";
import { framesOfTags, sampleTags, videoTag } from "../support/rtmp-client.js";
import { rtmpWorld } from "../support/rtmp-world.js";

const clock = new SystemClock();

function start(t: TestContext, url: string, action: "publish" | "play", options: Partial<RtmpClientOptions> = {}) {
  const frames: Frame[] = [];
  const closed: string[] = [];
  let isReady = false;
  const client = new RtmpClient({
    url,
    action,
    clock,
    onReady: () => {
      isReady = true;
    },
    onFrame: (frame) => frames.push(frame),
    onClose: (reason) => closed.push(reason),
    ...options,
  });
  t.after(() => client.close());
  const ready = () => eventually("ready", () => (isReady ? true : undefined));
  const end = () => eventually("closed", () => closed[0]);
  return { client, frames, closed, ready, end };
}

test("what one client pushes another pulls, and both are told the end", async (t) => {
  const { hub, url } = await rtmpWorld(t);
  const push = start(t, url, "publish");
  await push.ready();
  const frames = framesOfTags(sampleTags());
  for (const frame of frames.slice(0, 4)) push.client.writeFrame(frame); // metadata, configurations, a key frame
  await eventually("published", () => ([...hub.streams()][0]?.received.units === 1 ? true : undefined));
  const pull = start(t, url, "play");
  await pull.ready();
  for (const frame of frames.slice(4)) push.client.writeFrame(frame);
  await eventually("everything", () => (pull.frames.length === frames.length ? true : undefined));
  const plain = ({ kind, isConfig, isKey, data }: Frame) => ({ kind, isConfig, isKey, data });
  assert.deepEqual(pull.frames.map(plain), frames.map(plain));
  push.client.close("done");
  push.client.close("done");
  assert.equal(await pull.end(), "FCUnpublish");
  assert.deepEqual(push.closed, ["done"]);
});

test("refused, not there, not RTMP, silent: one reason each", async (t) => {
  const { url } = await rtmpWorld(t);
  assert.match(await start(t, url, "play").end(), /StreamNotFound, nobody publishes live\/livestream/);
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  const other = `rtmp://127.0.0.1:${port}/live/livestream`;
  const sockets = new Set<{ destroy(): void }>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    if (sockets.size === 1) socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
  });
  assert.match(await start(t, other, "play").end(), /the first byte is not RTMP's 3/);
  assert.equal(await start(t, other, "publish", { answerTimeout: 50 }).end(), "the server did not answer");
  for (const socket of sockets) socket.destroy();
  server.close();
  await once(server, "close");
  assert.match(await start(t, other, "publish").end(), /ECONNREFUSED/);
});

test("a server that stops reading makes a push drop to the next key frame, not grow", async (t) => {
  const { server, url, hub } = await rtmpWorld(t);
  const push = start(t, url, "publish");
  await push.ready();
  const [config] = framesOfTags(sampleTags().slice(1, 2));
  const [, key, delta] = framesOfTags([...sampleTags().slice(1, 2), videoTag(0, { key: true }), videoTag(40, { size: 1 << 20 })]);
  assert.ok(config !== undefined && key !== undefined && delta !== undefined);
  push.client.writeFrame(config);
  push.client.writeFrame(key);
  // In one turn nobody reads: the socket's queue is all there is.
  for (let i = 1; i <= 40; i++) push.client.writeFrame({ ...delta, dts: i * 1000, pts: i * 1000 });
  assert.ok(push.client.dropped > 0, "nothing was dropped");
  const sent = 41 - push.client.dropped;
  await eventually("the rest", () => ([...hub.streams()][0]?.received.units === sent ? true : undefined));
  push.client.writeFrame({ ...delta, dts: 50_000, pts: 50_000 });
  push.client.writeFrame({ ...key, dts: 60_000, pts: 60_000 });
  push.client.writeFrame({ ...delta, dts: 70_000, pts: 70_000 });
  await eventually("goes on", () => ([...hub.streams()][0]?.received.units === sent + 2 ? true : undefined));
  await server.close();
  assert.match(await push.end(), /server closes|Unpublish|Closed/);
});
