import assert from "node:assert/strict";
import { after, test } from "node:test";

import type { FastifyInstance } from "fastify";

import { HttpServer, type Role } from "../../gateway/http/server.js";
import type { Client, Peer, Stream } from "../../gateway/hub/types.js";
import { writeAudioConfig } from "../../gateway/media/audio.js";
import { FakeClock } from "../support/fake-clock.js";
import { PPS, SPS } from "../support/rtmp-client.js";
import { FakeRtc, fakeOptions, fakeServices } from "./fake-services.js";

const servers: HttpServer[] = [];
after(() => Promise.all(servers.map((server) => server.close())));

async function makeApp(streams: Stream[], clients: Client[], roles: Role[] = ["api"]): Promise<FastifyInstance> {
  const rtc = new FakeRtc();
  const server = new HttpServer({
    ...fakeOptions(rtc),
    clock,
    services: { ...fakeServices(rtc, streams, clients), rtmpPort: 1935 },
  });
  servers.push(server);
  return await server.app(new Set(roles));
}

/** Stands still: rates must not depend on how fast the machine is. */
const clock = new FakeClock(Date.now());

/** What clients were told when they were thrown out. */
const closed: string[] = [];

const SESSION = "secret-session-id-of-24-c";

function peer(protocol: Peer["protocol"], id: string): Peer {
  return { id, protocol, address: "192.0.2.1", parameters: "?token=secret", tcUrl: "rtmp://h/live" };
}

/** As much of a stream as the API looks at. */
function stream(name: string, changes: Partial<Record<keyof Stream, unknown>> = {}): Stream {
  const audio = writeAudioConfig({ objectType: 2, sampleRate: 44_100, channelConfiguration: 2 });
  const frames = { videoConfig: { codec: "h264", data: Buffer.from("damaged") }, audioConfig: { codec: "aac", data: audio } };
  const made = {
    ...{ name: { vhost: "__defaultVhost__", app: "live", stream: name }, state: "live", sourceLane: "frames" },
    ...{ publisher: peer("rtmp", `${SESSION}${name}`), frames, packets: { track: () => undefined }, since: 1000 },
    ...{ received: { units: 50, bytes: 1234 }, sentBefore: 500, notes: new Map([["video", "h264 as it is"]]), ...changes },
  };
  return made as unknown as Stream;
}

function client(at: Stream, role: Client["role"], protocol: Peer["protocol"]): Client {
  return {
    peer: peer(protocol, `${SESSION}${role}`),
    stream: at,
    role,
    since: clock.wallTime() - 2000,
    bytes: () => 700,
    close: (reason) => closed.push(`${role} ${reason}`),
    statistics: () => ({ rtt_ms: 7 }),
  };
}

test("every answer has the envelope, CORS and no cache", async () => {
  const app = await makeApp([], []);
  for (const url of ["/api/v1/versions", "/api/v1/summaries", "/api/v1/streams", "/api/v1/clients", "/api/v1/clients/"]) {
    const { statusCode, headers, json } = await app.inject({ url });
    const body = (json as () => Record<string, unknown>)();
    assert.equal(statusCode, 200, url);
    assert.deepEqual(
      [body["code"], body["server"], body["service"], body["pid"]],
      [0, "vid-test", "run-test", String(process.pid)],
    );
    assert.equal(headers["access-control-allow-origin"], "*");
    assert.equal(headers["cache-control"], "no-store");
  }
});

test("versions in numbers", async () => {
  const { data, rtmp_port: port } = (await (await makeApp([], [])).inject({ url: "/api/v1/versions" })).json();
  assert.deepEqual(data, { major: 1, minor: 2, revision: 3, version: "1.2.3" });
  assert.equal(port, 1935);
});

test("a stream with publisher, codecs, viewers and notes", async () => {
  const one = stream("one");
  const clients = [client(one, "publish", "rtmp"), client(one, "play", "rtc"), client(one, "play", "rtc")];
  const app = await makeApp(
    [one, stream("ended", { state: "ended" }), stream("idle", { state: "idle", publisher: undefined })],
    clients,
    ["server"],
  );
  const { streams } = (await app.inject({ url: "/api/v1/streams" })).json<{ streams: { id: string }[] }>();
  assert.equal(streams.length, 1);
  const [shown] = streams;
  assert.ok(shown);
  assert.deepEqual(shown, {
    ...{
      id: shown.id,
      name: "one",
      vhost: "__defaultVhost__",
      app: "live",
      tcUrl: "rtmp://h/live",
      url: "/live/one",
      live_ms: 1000,
    },
    ...{ clients: 3, viewers: 2, viewers_by_protocol: { rtc: 2 }, frames: 50, state: "live" },
    ...{ send_bytes: 1900, recv_bytes: 1234, kbps: { recv_30s: 3, send_30s: 6 } },
    publish: { active: true, cid: (shown as unknown as { publish: { cid: string } }).publish.cid, protocol: "rtmp" },
    video: { codec: "H264", profile: "", level: "", width: 0, height: 0 },
    audio: { codec: "AAC", sample_rate: 44_100, channel: 2, profile: "LC" },
    notes: { video: "h264 as it is" },
  });
  const single = await app.inject({ url: `/api/v1/streams/${shown.id}` });
  assert.deepEqual(single.json<{ stream: unknown }>().stream, shown);
});

test("never gives a session's id or a publisher's token away", async () => {
  const one = stream("one");
  const app = await makeApp([one], [client(one, "publish", "rtmp"), client(one, "play", "rtc")]);
  for (const url of ["/api/v1/streams", "/api/v1/clients"]) assert.ok(!(await app.inject({ url })).body.includes("secret"), url);
});

test("clients with their type, and figures for WebRTC", async () => {
  const one = stream("one");
  const app = await makeApp([one], [client(one, "publish", "rtmp"), client(one, "publish", "rtc"), client(one, "play", "rtc")]);
  const { clients } = (await app.inject({ url: "/api/v1/clients" })).json<{ clients: Record<string, unknown>[] }>();
  assert.deepEqual(
    clients.map(({ type }) => type),
    ["fmle-publish", "rtc-publish", "rtc-play"],
  );
  assert.deepEqual(clients[2]?.["rtc"], { rtt_ms: 7 });
  assert.equal(clients[0]?.["rtc"], undefined);
});

test("pages by start and count, and takes nonsense for nothing", async () => {
  const app = await makeApp(
    Array.from({ length: 30 }, (_, index) => stream(`s${index}`)),
    [],
  );
  for (const [query, first, count] of [
    ["", "s0", 10],
    ["?start=5&count=3", "s5", 3],
    ["?start=28&count=10", "s28", 2],
    ["?count=100000", "s0", 30],
    ["?start=-1&count=x", "s0", 10],
    ["?start=1&start=2", "s0", 10],
  ] as const) {
    const { streams } = (await app.inject({ url: `/api/v1/streams${query}` })).json<{ streams: { name: string }[] }>();
    assert.deepEqual([streams[0]?.name, streams.length], [first, count], query);
  }
});

test("an unknown stream and an unknown endpoint are 404 with a code", async () => {
  const app = await makeApp([], []);
  const stream404 = await app.inject({ url: "/api/v1/streams/vid-nothing" });
  assert.deepEqual([stream404.statusCode, stream404.json()], [404, { code: 2048, error: "no such stream" }]);
  const endpoint404 = await app.inject({ url: "/api/v1/nothing" });
  assert.equal(endpoint404.statusCode, 404);
  assert.equal(endpoint404.json<{ code: number }>().code, 404);
});

test("one client, and its end by DELETE", async () => {
  const one = stream("one");
  const app = await makeApp([one], [client(one, "publish", "rtmp"), client(one, "play", "flv")]);
  const { clients } = (await app.inject({ url: "/api/v1/clients" })).json<{ clients: { id: string }[] }>();
  const id = clients[1]?.id ?? "";
  const shown = (await app.inject({ url: `/api/v1/clients/${id}` })).json<{ client: Record<string, unknown> }>().client;
  assert.deepEqual([shown["type"], shown["send_bytes"], shown["recv_bytes"]], ["flv-play", 700, 0]);
  assert.deepEqual(shown["kbps"], { recv_30s: 0, send_30s: 3 });
  closed.length = 0;
  const kicked = await app.inject({ method: "DELETE", url: `/api/v1/clients/${id}` });
  assert.deepEqual([kicked.statusCode, kicked.json<{ code: number }>().code], [200, 0]);
  assert.deepEqual(closed, ["play kicked by the API"]);
  for (const method of ["GET", "DELETE"] as const) {
    const { statusCode, json } = await app.inject({ method, url: "/api/v1/clients/nobody" });
    assert.deepEqual([statusCode, (json as () => unknown)()], [404, { code: 2049, error: "no such client" }]);
  }
});

test("nobody is kicked through the port of the pages", async () => {
  const one = stream("one");
  const app = await makeApp([one], [client(one, "play", "flv")], ["server"]);
  for (const url of ["/api/v1/clients/x", "/api/v1/vhosts", "/metrics"])
    assert.equal((await app.inject({ url })).statusCode, 404, url);
  assert.equal((await app.inject({ method: "DELETE", url: "/api/v1/clients/x" })).statusCode, 404);
});

test("vhosts with their sums, by id and by name", async () => {
  const [one, other] = [stream("one"), stream("two", { name: { vhost: "other", app: "live", stream: "two" } })];
  const app = await makeApp(
    [one, other],
    [client(one, "publish", "rtmp"), client(one, "play", "rtc"), client(other, "play", "rtmp")],
  );
  const { vhosts } = (await app.inject({ url: "/api/v1/vhosts" })).json<{ vhosts: { id: string }[] }>();
  assert.deepEqual(vhosts, [
    {
      ...{ id: vhosts[0]?.id, name: "__defaultVhost__", enabled: true, clients: 2, streams: 1 },
      ...{ send_bytes: 1200, recv_bytes: 1234, kbps: { recv_30s: 3, send_30s: 3 }, hls: { enabled: false } },
    },
  ]);
  for (const id of [vhosts[0]?.id, "__defaultVhost__"]) {
    assert.deepEqual((await app.inject({ url: `/api/v1/vhosts/${id}` })).json<{ vhost: unknown }>().vhost, vhosts[0]);
  }
  const { statusCode, json } = await app.inject({ url: "/api/v1/vhosts/nothing" });
  assert.deepEqual([statusCode, (json as () => unknown)()], [404, { code: 2014, error: "no such vhost" }]);
});

test("picture size of a WebRTC publisher, from its key frame", async () => {
  const key = Buffer.concat([Buffer.from([24, 0, SPS.length]), SPS, Buffer.from([0, PPS.length]), PPS]);
  const track = { kind: "video", codec: "h264", clockRate: 90_000, formatParameters: "" };
  const packets = {
    track: (kind: string) => (kind === "video" ? track : undefined),
    keyFrameHead: { payload: key },
  };
  const one = stream("one", { sourceLane: "packets", frames: {}, packets });
  const { streams } = (await (await makeApp([one], [])).inject({ url: "/api/v1/streams" })).json<{
    streams: { video: unknown }[];
  }>();
  assert.deepEqual(streams[0]?.video, { codec: "H264", profile: "High", level: "1.2", width: 320, height: 180 });
  key.fill(0xff, 3, 12);
  const again = (await (await makeApp([one], [])).inject({ url: "/api/v1/streams" })).json<{
    streams: { video: { codec: string } }[];
  }>();
  assert.equal(again.streams[0]?.video.codec, "H264");
});

test("summaries tell of process, machine and media", async () => {
  const { data } = (await (await makeApp([], [])).inject({ url: "/api/v1/summaries" })).json<{
    data: { self: Record<string, unknown>; system: Record<string, unknown> };
  }>();
  assert.deepEqual(Object.keys(data.self), [
    ...["version", "pid", "ppid", "argv", "cwd", "mem_kbyte", "mem_percent", "cpu_percent", "srs_uptime"],
  ]);
  assert.deepEqual([data.system["srs_recv_bytes"], data.system["srs_send_bytes"], data.system["conn_srs"]], [1000, 2000, 0]);
  for (const [name, value] of Object.entries(data.system)) assert.ok(Number.isFinite(value) && Number(value) >= 0, name);
});

test("metrics in the format of Prometheus, each gateway its own", async () => {
  const one = stream("one");
  const [first, second] = [await makeApp([one], [client(one, "play", "flv"), client(one, "play", "flv")]), await makeApp([], [])];
  for (let round = 0; round < 2; round++) {
    const { headers, body } = await first.inject({ url: "/metrics" });
    assert.match(String(headers["content-type"]), /^text\/plain; version=0\.0\.4/);
    for (const line of [
      "srs_streams 1",
      "srs_clients 2",
      "srs_clients_total 3",
      "srs_clients_errs_total 1",
      "srs_send_bytes_total 2000",
      "srs_receive_bytes_total 1000",
      'sluice_clients{protocol="flv",role="play"} 2',
      'sluice_clients{protocol="rtc",role="publish"} 0',
    ]) {
      assert.ok(body.split("\n").includes(line), line);
    }
    assert.match(body, /^srs_build_info\{version="1\.2\.3",server="vid-test",service="run-test",pid="\d+"\} 1$/m);
    assert.match(body, /^srs_memory [1-9]\d+$/m);
    assert.match(body, /^srs_cpu_percent [\d.]+$/m);
  }
  assert.match((await second.inject({ url: "/metrics" })).body, /^srs_clients 0$/m);
});
