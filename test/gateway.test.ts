import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { test } from "node:test";

import { pino } from "pino";

import { type Config, Gateway, parseConfig } from "../gateway/gateway.js";
import { commandMessage } from "../gateway/rtmp/message.js";
import { publishCommands, RtmpClient, sampleTags, statusCode, statusText } from "./support/rtmp-client.js";

const SILENT = pino({ level: "silent" });

/** Everything on; port 0 takes a free one. */
function config(options: { rtmpPort?: number } = {}): Config {
  return parseConfig(`
    listen 127.0.0.1:${options.rtmpPort ?? 0};
    http_api { enabled on; listen 127.0.0.1:0; }
    http_server { enabled on; listen 127.0.0.1:0; }
    rtc_server { enabled on; listen 127.0.0.1:0; candidate 127.0.0.1; }
    vhost __defaultVhost__ { rtc { enabled on; rtmp_to_rtc on; } }
  `).config;
}

function portOf(list: readonly { readonly port: number }[]): number {
  const port = list[0]?.port;
  assert.ok(port !== undefined && port > 0);
  return port;
}

async function publisherTo(gateway: Gateway, stream: string): Promise<RtmpClient> {
  const client = await RtmpClient.open(portOf(gateway.addresses.rtmp));
  assert.equal(await client.publish("live", stream), "NetStream.Publish.Start");
  for (const tag of sampleTags()) client.sendTag(tag);
  return client;
}

test("two gateways in one process serve their own publishers and do not disturb each other", async () => {
  const [a, b] = [new Gateway({ config: config(), log: SILENT }), new Gateway({ config: config(), log: SILENT })];
  await Promise.all([a.start(), b.start()]);
  try {
    const seen: string[] = [];
    a.on("publish", ({ name, peer }) => seen.push(`a ${name.app}/${name.stream} from ${peer.address}`));
    b.on("publish", ({ name }) => seen.push(`b ${name.app}/${name.stream}`));
    const left = once(a, "unpublish");
    await (await publisherTo(a, "one")).close();
    await left;
    await a.close();
    const publisher = await publisherTo(b, "two");
    assert.deepEqual(seen, ["a live/one from 127.0.0.1", "b live/two"]);
    assert.deepEqual(
      b.streams.map(({ name, state }) => [name.stream, state]),
      [["two", "live"]],
    );
    await publisher.close();
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
});

test("closing says goodbye to publishers, ends within its time and leaves no socket or timer", async () => {
  const before = process.getActiveResourcesInfo().length;
  const gateway = new Gateway({ config: config(), log: SILENT });
  await gateway.start();
  const publisher = await publisherTo(gateway, "one");
  await gateway.close("going down for repair");
  await publisher.closed;
  const goodbye = await publisher.waitFor((command) => /repair/.test(statusText(command) ?? ""));
  assert.notEqual(goodbye, undefined);
  await new Promise((resolve) => setImmediate(resolve)); // closed handles leave the list a turn later
  assert.ok(process.getActiveResourcesInfo().length <= before, process.getActiveResourcesInfo().join(" "));
  await gateway.close("again"); // harmless
});

test("starts everything or nothing, and names port and directive of a port that is taken", async () => {
  const blocker = createServer().listen(0, "127.0.0.1");
  await once(blocker, "listening");
  const address = blocker.address();
  assert.ok(address !== null && typeof address === "object");
  const gateway = new Gateway({ config: config({ rtmpPort: address.port }), log: SILENT });
  await assert.rejects(
    gateway.start(),
    (error: Error) => error.message.includes(String(address.port)) && /listen/.test(error.message),
  );
  assert.deepEqual(gateway.addresses.http, []);
  await assert.rejects(gateway.start(), TypeError);
  blocker.close();
});

test("takes a new configuration into use and says what needs a restart", async () => {
  const gateway = new Gateway({ config: config(), log: SILENT });
  await gateway.start();
  try {
    assert.deepEqual(gateway.reload(config()), []);
    assert.deepEqual(gateway.reload(config({ rtmpPort: 1936 })), ["listen"]);
  } finally {
    await gateway.close();
  }
});

test("security is asked by every protocol, and a refusal says so in its words", async () => {
  const secured = (rules: string) => `
    listen 127.0.0.1:0;
    http_api { enabled on; listen 127.0.0.1:0; }
    http_server { enabled on; listen 127.0.0.1:0; }
    rtc_server { enabled on; listen 127.0.0.1:0; candidate 127.0.0.1; }
    vhost __defaultVhost__ { rtc { enabled on; rtmp_to_rtc on; } http_remux { enabled on; } security { enabled on; ${rules} } }`;
  const { config: closed } = parseConfig(secured("deny publish 127.0.0.1; allow publish all; allow play 192.0.2.0/24;"));
  const { config: open } = parseConfig(secured("allow publish 127.0.0.0/8; deny play all;"));
  const gateway = new Gateway({ config: closed, log: SILENT });
  await gateway.start();
  try {
    const refused = await RtmpClient.open(portOf(gateway.addresses.rtmp));
    assert.equal(await refused.publish("live", "one"), "NetStream.Publish.BadName");
    const told = await refused.waitFor((command) =>
      /publishing is not allowed from 127\.0\.0\.1/.test(statusText(command) ?? ""),
    );
    assert.notEqual(told, undefined);
    await refused.close();
    assert.equal((await postOffer(gateway, "whip")).status, 403);

    gateway.reload(open);
    const publisher = await publisherTo(gateway, "one");
    const answer = await postOffer(gateway, "whep");
    assert.equal(answer.status, 403);
    const problem = (await answer.json()) as { type: string; detail: string };
    assert.deepEqual([problem.type, problem.detail], ["urn:sluice:problem:forbidden", "playing is not allowed from 127.0.0.1"]);
    const pages = gateway.addresses.http.find(({ directive }) => directive === "http_server.listen");
    const flv = await fetch(`http://127.0.0.1:${pages?.port}/live/one.flv`);
    assert.equal(flv.status, 403);
    await flv.body?.cancel();
    const legacy = (await (await postLegacy(gateway, "play")).json()) as { code: number; error: string };
    assert.notEqual(legacy.code, 0);
    assert.match(legacy.error, /not allowed from 127/);
    const player = await RtmpClient.open(portOf(gateway.addresses.rtmp));
    await player.handshake();
    for (const message of publishCommands("live", "one").slice(0, 4)) player.send(message);
    player.send(commandMessage(1, { name: "play", transactionId: 0, values: [null, "one"] }));
    const denied = await player.waitFor((command) => /playing is not allowed from 127/.test(statusText(command) ?? ""));
    assert.equal(denied && statusCode(denied), "NetStream.Play.Failed");
    await player.close();
    await publisher.close();
  } finally {
    await gateway.close();
  }
});

async function postLegacy(gateway: Gateway, action: "publish" | "play"): Promise<Response> {
  const sdp = readFileSync(new URL("../../test/offers/chromium156-whep-offer.sdp", import.meta.url), "utf8");
  const body = JSON.stringify({ streamurl: "webrtc://127.0.0.1/live/one", sdp });
  return await fetch(`http://127.0.0.1:${portOf(gateway.addresses.http)}/rtc/v1/${action}/`, { method: "POST", body });
}

async function postOffer(gateway: Gateway, endpoint: "whip" | "whep"): Promise<Response> {
  const offer = readFileSync(new URL(`../../test/offers/chromium156-${endpoint}-offer.sdp`, import.meta.url));
  const url = `http://127.0.0.1:${portOf(gateway.addresses.http)}/rtc/v1/${endpoint}/?app=live&stream=one`;
  return await fetch(url, { method: "POST", headers: { "content-type": "application/sdp" }, body: offer });
}
