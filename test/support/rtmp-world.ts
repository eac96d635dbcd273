// The real RTMP server and hub on a free port, with publishers and players at hand.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";

import { pino } from "pino";

import { LiveHub } from "../../gateway/hub/hub.js";
import type { HubEvent } from "../../gateway/hub/types.js";
import type { ChunkMessage } from "../../gateway/rtmp/chunk.js";
import { commandMessage } from "../../gateway/rtmp/message.js";
import { RtmpServer, type RtmpServerOptions } from "../../gateway/rtmp/server.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { publishCommands, RtmpClient, statusCode } from "./rtmp-client.js";

export type RtmpWorldOptions = Partial<RtmpServerOptions> & {
  /** Milliseconds. Default 0. */
  readonly grace?: number;
  /** Default 2500. */
  readonly gopCacheFrames?: number;
};

export async function rtmpWorld(t: TestContext, options: RtmpWorldOptions = {}) {
  const clock = new SystemClock();
  const events: HubEvent[] = [];
  const hub = new LiveHub({
    clock,
    vhost: () => ({
      name: "__defaultVhost__",
      gopCacheFrames: options.gopCacheFrames ?? 2500,
      grace: options.grace ?? 0,
      takeover: "stale",
    }),
    onEvent: (event) => events.push(event),
  });
  const lines: { level: number; msg: string; stream?: string; reason?: string }[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const server = new RtmpServer({
    listen: [{ host: "127.0.0.1", port: 0 }],
    hub,
    clock,
    log,
    vhost: () => ({
      name: "__defaultVhost__",
      publish: { firstPacketTimeout: 20_000, normalTimeout: 20_000 },
      play: { queueLength: 30_000 },
    }),
    ...options,
  });
  await server.start();
  const clients: RtmpClient[] = [];
  t.after(async () => {
    for (const client of clients) await client.close();
    await server.close();
  });
  const port = server.addresses[0]?.port ?? 0;
  const open = async () => {
    const client = await RtmpClient.open(port);
    clients.push(client);
    return client;
  };
  const publisher = async () => {
    const client = await open();
    assert.equal(await client.publish(), "NetStream.Publish.Start");
    return client;
  };
  /** A player after the answer to `play`. */
  const player = async (stream = "livestream") => {
    const client = await open();
    await client.handshake();
    client.send(publishCommands()[0] as ChunkMessage);
    client.send(commandMessage(0, { name: "createStream", transactionId: 2, values: [null] }));
    client.send(commandMessage(1, { name: "play", transactionId: 0, values: [null, stream, -2000] }));
    const answer = await client.waitFor((command) => /^NetStream\.Play\.(?!Reset)/.test(statusCode(command) ?? ""));
    return { client, answer };
  };
  const url = `rtmp://127.0.0.1:${port}/live/livestream`;
  return { hub, server, events, lines, open, publisher, player, url };
}
