// HLS over HTTP: the real server and hub, a publisher in real time made short.

import assert from "node:assert/strict";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { connect } from "node:net";
import { type TestContext, test } from "node:test";
import { gunzipSync } from "node:zlib";

import { HlsService } from "../../gateway/hls/service.js";
import { HttpServer } from "../../gateway/http/server.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import type { Publication } from "../../gateway/hub/types.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { eventually } from "../support/child.js";
import { peer, RecordingSource } from "../support/frames.js";
import { readPlaylist } from "../support/hls-rules.js";
import { configFrame, HLS_SETTINGS, pictureFrame } from "../support/hls-source.js";
import { FakeLog, FakeRtc, fakeOptions, fakeServices } from "./fake-services.js";

type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly body: Buffer };

async function setUp(t: TestContext, settings: Partial<typeof HLS_SETTINGS> = {}, crossdomain = true) {
  const clock = new SystemClock();
  const hub: LiveHub = new LiveHub({
    clock,
    vhost: () => ({ name: "__defaultVhost__", gopCacheFrames: 2500, grace: 0, takeover: "stale" }),
    onEvent: (event) => hls.onEvent(event),
  });
  const hls = new HlsService({
    hub,
    clock,
    log: new FakeLog(),
    vhost: () => ({ name: "__defaultVhost__", hls: { ...HLS_SETTINGS, ...settings } }),
    randomBytes: (size) => Buffer.alloc(size, ++count),
  });
  let count = 0;
  const fakes = fakeOptions(new FakeRtc());
  const services = { ...fakeServices(new FakeRtc()), hub, hls };
  const http = new HttpServer({ ...fakes, services, httpServer: { ...fakes.httpServer, crossdomain }, maxConnections: 1000 });
  t.after(async () => {
    hub.close("the test ends");
    hls.close();
    await http.close();
  });
  await http.start();
  const port = http.addresses.find(({ directive }) => directive === "http_server.listen")?.port ?? 0;
  const apiPort = http.addresses.find(({ directive }) => directive === "http_api.listen")?.port ?? 0;
  const ask = (path: string, options: { method?: string; headers?: Record<string, string> } = {}) => get(port, path, options);
  const publication = await hub.publish({
    name: { vhost: "__defaultVhost__", app: "live", stream: "livestream" },
    peer: peer(),
    source: new RecordingSource(),
    lane: "frames",
  });
  publication.writeFrame(configFrame("video"));
  const open = async () => {
    const master = await ask("/live/livestream.m3u8");
    const line = master.body
      .toString()
      .split("\n")
      .find((text) => text !== "" && !text.startsWith("#"));
    const media = `/live/${line}`;
    return { master, media, listed: readPlaylist((await ask(media)).body.toString()) };
  };
  return { hub, hls, port, apiPort, ask, publication, open };
}

/** Pictures with stamps of their own, written at once: the hub takes a publisher's first stamps as they are. */
function write(publication: Publication, fromMs: number, toMs: number): void {
  for (let at = fromMs; at < toMs; at += 40) publication.writeFrame(pictureFrame(at * 1000, at % 2_000 === 0, 2_000));
}

function get(port: number, path: string, options: { method?: string; headers?: Record<string, string> } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { method = "GET", headers = {} } = options;
    const request = httpRequest({ host: "127.0.0.1", port, path, method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
      );
      response.on("error", reject);
    });
    request.on("error", reject).end();
  });
}

test("playlists: type, caching, compression, a tag that is known", async (t) => {
  const { ask, publication, open } = await setUp(t);
  write(publication, 0, 1_400);
  write(publication, 1_400, 6_500);
  const { master, media } = await open();
  assert.equal(master.headers["content-type"], "application/vnd.apple.mpegurl");
  assert.equal(master.headers["cache-control"], "no-store");
  assert.equal(master.headers["access-control-allow-origin"], "*");
  const plain = await ask(media);
  const zipped = await ask(media, { headers: { "Accept-Encoding": "br, gzip" } });
  assert.equal(zipped.headers["content-encoding"], "gzip");
  assert.equal(zipped.headers["vary"], "Accept-Encoding");
  assert.deepEqual(gunzipSync(zipped.body), plain.body);
  assert.notEqual(zipped.headers["etag"], plain.headers["etag"]);
  assert.equal(
    (await ask(media, { headers: { "Accept-Encoding": "gzip;q=0, deflate" } })).headers["content-encoding"],
    undefined,
  );
  assert.equal(plain.headers["cache-control"], "no-cache");
  const again = await ask(media, { headers: { "If-None-Match": `"x", ${plain.headers["etag"]}` } });
  assert.deepEqual([again.status, again.body.length], [304, 0]);
  write(publication, 6_500, 7_000);
  assert.equal((await ask(media, { headers: { "If-None-Match": String(plain.headers["etag"]) } })).status, 200);
  assert.equal((await ask(`${media}&_HLS_msn=0`)).headers["cache-control"], "no-store");
});

test("segments: whole, in ranges, known, asked about", async (t) => {
  const { ask, publication, open } = await setUp(t);
  write(publication, 0, 6_500);
  const { listed } = await open();
  const path = `/live/${listed.segments[0]?.uri}`;
  const { status, headers, body } = await ask(path);
  const expected = { "content-type": "video/mp4", "accept-ranges": "bytes", "content-length": String(body.length) };
  for (const [name, value] of Object.entries(expected)) assert.equal(headers[name], value);
  assert.equal(status, 200);
  assert.match(headers["cache-control"] ?? "", /immutable/);
  const tag = String(headers["etag"]);
  const range = async (value: string, more: Record<string, string> = {}) =>
    await ask(path, { headers: { Range: value, ...more } });
  for (const [value, from, to] of [
    ["bytes=0-99", 0, 100],
    ["bytes=100-", 100, body.length],
    ["bytes=-10", body.length - 10, body.length],
    [`bytes=5-${body.length + 100}`, 5, body.length],
    ["bytes=2000-30000", 2000, 30_001],
  ] as const) {
    const part = await range(value);
    assert.equal(part.status, 206, value);
    assert.equal(part.headers["content-range"], `bytes ${from}-${to - 1}/${body.length}`);
    assert.deepEqual(part.body, body.subarray(from, to));
  }
  const beyond = await range(`bytes=${body.length}-`);
  assert.deepEqual([beyond.status, beyond.headers["content-range"]], [416, `bytes */${body.length}`]);
  for (const value of ["bytes=9-5", "items=0-1", "bytes=a-b", "bytes=0-1,4-5", "bytes=-"]) {
    const whole = await range(value);
    assert.deepEqual([whole.status, whole.body.length], [200, body.length], value);
  }
  assert.equal((await range("bytes=0-9", { "If-Range": '"other"' })).status, 200);
  assert.equal((await range("bytes=0-9", { "If-Range": tag })).status, 206);
  assert.equal((await ask(path, { headers: { "If-None-Match": tag } })).status, 304);
  const head = await ask(path, { method: "HEAD" });
  assert.deepEqual([head.status, head.headers["content-length"], head.body.length], [200, String(body.length), 0]);
});

test("HEAD makes no viewer, OPTIONS allows ranges, other methods are refused", async (t) => {
  const { ask, publication, hls } = await setUp(t);
  write(publication, 0, 6_500);
  assert.equal((await ask("/live/livestream.m3u8", { method: "HEAD" })).status, 200);
  assert.equal((await ask("/live/other.m3u8", { method: "HEAD" })).status, 404);
  assert.equal(hls.viewerCount, 0);
  const preflight = await ask("/live/livestream.m3u8", { method: "OPTIONS", headers: { Origin: "http://a.example" } });
  assert.equal(preflight.status, 204);
  assert.match(String(preflight.headers["access-control-allow-headers"]), /Range/);
  const post = await ask("/live/livestream.m3u8", { method: "POST" });
  assert.deepEqual([post.status, post.headers["allow"]], [405, "GET, HEAD, OPTIONS"]);
});

test("no CORS headers where crossdomain is off", async (t) => {
  const { ask, publication } = await setUp(t, {}, false);
  write(publication, 0, 6_500);
  assert.equal((await ask("/live/livestream.m3u8")).headers["access-control-allow-origin"], undefined);
});

test("what is not there is 404 at once, what makes no sense 400, and the API's port has no HLS", async (t) => {
  const { ask, publication, open, apiPort, hls } = await setUp(t);
  write(publication, 0, 6_500);
  for (const path of ["/live/other.m3u8", "/live/other.m3u8?hls_ctx=abc&_HLS_msn=1", "/live/livestream-00000000-1.m4s"]) {
    const answer = await ask(path);
    assert.deepEqual([answer.status, answer.headers["content-type"]], [404, "application/problem+json"], path);
  }
  assert.equal(hls.viewerCount, 0);
  const { media } = await open();
  for (const path of [
    `${media}&_HLS_msn=100`,
    `${media}&_HLS_part=1`,
    `${media}&_HLS_msn=1e3`,
    "/live/..%2f..%2fetc%2fpasswd.m3u8",
    "/live/a%00b.m3u8",
    "/live/../../x.m3u8",
    "/live/livestream.m3u8?hls_ctx=a%20b",
  ]) {
    assert.equal((await ask(path)).status, 400, path);
  }
  assert.equal((await get(apiPort, "/live/livestream.m3u8")).status, 404);
});

test("a held reload is answered when its part is born, and when the client leaves it is forgotten", async (t) => {
  const { ask, publication, open, hls, port } = await setUp(t);
  write(publication, 0, 6_500);
  const { media, listed } = await open();
  const last = listed.segments.at(-1);
  const directives = `&_HLS_msn=${last?.sequence}&_HLS_part=${last?.parts.length}`;
  const [packaged] = hls.streams;
  const held = Promise.all([ask(`${media}${directives}`), ask(`/live/${listed.preloadHint}`)]);
  const leaver = httpRequest({ host: "127.0.0.1", port, path: `${media}${directives}`, agent: false }).on("error", () => {});
  leaver.end();
  await eventually("three are held", () => (packaged?.waiting === 3 ? true : undefined));
  leaver.destroy();
  await eventually("two are held", () => (packaged?.waiting === 2 ? true : undefined));
  write(publication, 6_520, 7_000);
  const [playlist, part] = await held;
  assert.ok((readPlaylist(playlist.body.toString()).segments.at(-1)?.parts.length ?? 0) > (last?.parts.length ?? 0));
  assert.deepEqual([part.status, part.headers["content-type"]], [200, "video/mp4"]);
});

test("many answers on one connection, also to requests that came before the last was answered", async (t) => {
  const { publication, open, hls, port } = await setUp(t);
  write(publication, 0, 6_500);
  const { media, listed } = await open();
  const last = listed.segments.at(-1);
  const socket = connect(port, "127.0.0.1");
  t.after(() => socket.destroy());
  let received = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
  });
  const statuses = (): string[] => received.toString("latin1").match(/HTTP\/1\.1 \d+/g) ?? [];
  const lines = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: gw\r\nAccept-Encoding: gzip\r\n\r\n`;
  const first = last?.parts.length ?? 0;
  for (let part = first; part < first + 3; part++) {
    const round = part - first;
    const held = `${media}&_HLS_msn=${last?.sequence}&_HLS_part=${part}`;
    socket.write(lines(held) + lines(`/live/${listed.segments[0]?.map}`) + lines("/live/other.m3u8"));
    await eventually("it is held", () => (hls.streams[0]?.waiting === 1 ? true : undefined));
    assert.equal(statuses().length, 3 * round);
    write(publication, 6_520 + 200 * round, 6_720 + 200 * round);
    await eventually("three more are answered", () => (statuses().length === 3 * round + 3 ? true : undefined));
    assert.deepEqual(
      statuses()
        .slice(-3)
        .map((status) => status.slice(-3)),
      ["200", "200", "404"],
    );
  }
  const end = received.indexOf("\r\n\r\n") + 4;
  const head = received.toString("latin1", 0, end);
  assert.match(head, /content-encoding: gzip/i);
  const size = Number(/content-length: (\d+)/i.exec(head)?.[1]);
  const text = gunzipSync(received.subarray(end, end + size)).toString();
  assert.equal(readPlaylist(text).segments.at(-1)?.parts.length, first + 1);
});

test("held requests are answered with the end when the stream ends", async (t) => {
  const { ask, publication, open, hls } = await setUp(t);
  write(publication, 0, 6_500);
  const { media, listed } = await open();
  const next = (listed.segments.at(-1)?.sequence ?? 0) + 1;
  const held = Array.from({ length: 100 }, () => ask(`${media}&_HLS_msn=${next}`));
  await eventually("all are held", () => (hls.streams[0]?.waiting === 100 ? true : undefined));
  publication.end("done");
  for (const { status, body } of await Promise.all(held)) {
    assert.equal(status, 200);
    assert.equal(readPlaylist(body.toString()).isEnded, true);
  }
});

test("viewers are clients of the API", async (t) => {
  const { publication, open, apiPort } = await setUp(t);
  write(publication, 0, 6_500);
  await open();
  const { clients } = JSON.parse((await get(apiPort, "/api/v1/clients")).body.toString()) as {
    clients: { type: string; url: string; send_bytes: number; hls?: object }[];
  };
  const viewer = clients.find(({ type }) => type === "hls-play");
  assert.equal(viewer?.url, "/live/livestream");
  assert.ok((viewer?.send_bytes ?? 0) > 0);
  assert.ok(viewer?.hls !== undefined);
});

test("encrypted: the key is served, and not kept by anybody", async (t) => {
  const { ask, publication, open } = await setUp(t, { keys: true, format: "ts" });
  write(publication, 0, 6_500);
  const { listed } = await open();
  const key = await ask(`/live/${/URI="([^"]+)"/.exec(listed.segments[0]?.key ?? "")?.[1]}`);
  assert.deepEqual([key.status, key.body.length, key.headers["cache-control"]], [200, 16, "no-store"]);
  assert.equal((await ask(`/live/${listed.segments[0]?.uri}`)).headers["content-type"], "video/mp2t");
});
