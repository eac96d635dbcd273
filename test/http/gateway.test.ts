// The HTTP side within a whole gateway: the API's view of real clients, kicks, hooks over every protocol, the older signaling.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { type TestContext, test } from "node:test";

import { pino } from "pino";

import { Gateway, parseConfig } from "../../gateway/gateway.js";
import { eventually } from "../support/child.js";
import { FlvClient } from "../support/flv-client.js";
import { RtmpClient, sampleTags, statusText } from "../support/rtmp-client.js";

async function setUp(t: TestContext, vhost = "") {
  const { config } = parseConfig(`
    listen 127.0.0.1:0;
    http_api { listen 127.0.0.1:0; }
    http_server { listen 127.0.0.1:0; }
    rtc_server { enabled on; listen 127.0.0.1:0; candidate 127.0.0.1; }
    vhost __defaultVhost__ { rtc { enabled on; rtmp_to_rtc on; } http_remux { enabled on; } publish { grace 0; } ${vhost} }`);
  const gateway = new Gateway({ config, log: pino({ level: "silent" }) });
  await gateway.start();
  t.after(() => gateway.close());
  const portOf = (directive: string) => gateway.addresses.http.find((address) => address.directive === directive)?.port ?? 0;
  const [api, http] = [portOf("http_api.listen"), portOf("http_server.listen")];
  const ask = async <T>(path: string, options: RequestInit = {}): Promise<{ status: number; body: T }> => {
    const response = await fetch(`http://127.0.0.1:${api}${path}`, options);
    return { status: response.status, body: (await response.json()) as T };
  };
  const publisher = async (): Promise<{ client: RtmpClient; answer: string }> => {
    const client = await RtmpClient.open(gateway.addresses.rtmp[0]?.port ?? 0);
    t.after(() => client.close());
    const answer = await client.publish();
    if (answer === "NetStream.Publish.Start") for (const tag of sampleTags()) client.sendTag(tag);
    return { client, answer };
  };
  return { gateway, api, http, ask, publisher };
}

type Clients = { clients: { id: string; type: string; send_bytes: number; recv_bytes: number; ip: string }[] };
type Streams = { streams: { clients: number; recv_bytes: number; send_bytes: number; video: { width: number } }[] };

test("the API counts what flows, and a kicked client is gone with the reason", async (t) => {
  const { ask, http, publisher, api } = await setUp(t);
  const { client } = await publisher();
  const viewer = new FlvClient(http);
  t.after(() => viewer.stop());
  await eventually("media", () => (viewer.flv.media.length >= 3 ? true : undefined));
  const { clients } = (await ask<Clients>("/api/v1/clients")).body;
  const [source, player] = [clients.find(({ type }) => type === "fmle-publish"), clients.find(({ type }) => type === "flv-play")];
  assert.ok(source !== undefined && player !== undefined);
  assert.ok(source.recv_bytes > 10_000 && player.send_bytes > 500, JSON.stringify(clients));
  const [stream] = (await ask<Streams>("/api/v1/streams")).body.streams;
  assert.deepEqual([stream?.clients, stream?.video.width, stream?.recv_bytes], [2, 320, source.recv_bytes]);
  assert.equal(stream?.send_bytes, player.send_bytes);

  assert.equal((await ask(`/api/v1/clients/${player.id}`, { method: "DELETE" })).status, 200);
  await eventually("the viewer is gone", async () =>
    (await ask<Clients>("/api/v1/clients")).body.clients.length === 1 ? true : undefined,
  );
  const [after] = (await ask<Streams>("/api/v1/streams")).body.streams;
  assert.equal(after?.send_bytes, player.send_bytes); // what it got is not forgotten
  assert.equal((await ask(`/api/v1/clients/${source.id}`, { method: "DELETE" })).status, 200);
  await client.closed;
  assert.ok(client.commands.some((command) => /kicked by the API/.test(statusText(command) ?? "")));
  assert.equal((await ask(`/api/v1/clients/${source.id}`, { method: "DELETE" })).status, 404);
  const metrics = await (await fetch(`http://127.0.0.1:${api}/metrics`)).text();
  assert.match(metrics, new RegExp(`^srs_send_bytes_total ${player.send_bytes}$`, "m"));
  assert.match(metrics, /^srs_clients_total 2$/m);
});

test("hooks are asked by every protocol, and told when it is over", async (t) => {
  const seen: string[] = [];
  let verdict = "0";
  const server = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    request.on("end", () => {
      const { action, param } = JSON.parse(text) as { action: string; param: string };
      seen.push(`${action}${param}`);
      response.end(verdict);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}/`;
  const { gateway, http, publisher, api } = await setUp(
    t,
    `http_hooks { enabled on; on_publish ${url}; on_unpublish ${url}; on_play ${url}; on_stop ${url}; }`,
  );
  const { client } = await publisher();
  const viewer = new FlvClient(http, "/live/livestream.flv?token=x");
  await eventually("media", () => (viewer.flv.media.length >= 3 ? true : undefined));
  assert.deepEqual(seen, ["on_publish", "on_play?token=x"]);
  viewer.stop();
  await eventually("stopped", () => (seen.includes("on_stop?token=x") ? true : undefined));

  verdict = '{"code":1,"msg":"go away"}';
  const flv = await fetch(`http://127.0.0.1:${http}/live/livestream.flv`);
  assert.equal(flv.status, 403);
  assert.match(await flv.text(), /go away/);
  const whep = await fetch(`http://127.0.0.1:${api}/rtc/v1/whep/`, {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: offer("chromium156-whep-offer.sdp"),
  });
  assert.equal(whep.status, 403);
  assert.match(await whep.text(), /urn:sluice:problem:forbidden.*go away/);
  await client.close();
  const refused = await publisher();
  assert.equal(refused.answer, "NetStream.Publish.BadName");
  assert.ok(refused.client.commands.some((command) => /go away/.test(statusText(command) ?? "")));
  verdict = "0";
  await gateway.close();
  const counts = new Map<string, number>();
  for (const action of seen) counts.set(action, (counts.get(action) ?? 0) + 1);
  assert.deepEqual(Object.fromEntries(counts), {
    ...{ on_publish: 2, "on_play?token=x": 1, "on_stop?token=x": 1, on_play: 2, on_unpublish: 1 },
  });
});

test("the older signaling: play comes before publish, and both are answered by real sessions", async (t) => {
  const { ask, gateway } = await setUp(t);
  type Answer = { code: number; sdp: string; sessionid: string; error?: string };
  const post = (action: string, sdp: string) =>
    ask<Answer>(`/rtc/v1/${action}/?eip=192.0.2.5:9000`, {
      method: "POST",
      body: JSON.stringify({ streamurl: "webrtc://127.0.0.1/live/room", sdp }),
    });
  const play = await post("play", offer("chromium156-whep-offer.sdp"));
  assert.deepEqual([play.status, play.body.code], [200, 0], play.body.error);
  assert.match(play.body.sdp, /^v=0\r\n[\s\S]*a=setup:passive[\s\S]*a=candidate:0 1 udp \d+ 192\.0\.2\.5 9000 typ host/);
  assert.deepEqual(
    gateway.streams.map(({ name, state }) => [name.stream, state]),
    [["room", "idle"]],
  );
  const published = await post("publish", offer("chromium156-whip-offer.sdp"));
  assert.deepEqual([published.status, published.body.code], [200, 0], published.body.error);
  assert.match(published.body.sdp, /a=recvonly/);
  const { clients } = (await ask<Clients>("/api/v1/clients")).body;
  assert.deepEqual(clients.map(({ type }) => type).sort(), ["rtc-play", "rtc-publish"]);
});

function offer(name: string): string {
  return readFileSync(new URL(`../../../test/offers/${name}`, import.meta.url), "utf8");
}
