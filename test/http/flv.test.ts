// HTTP-FLV and WebSocket-FLV: the real HTTP server and hub, viewers over sockets.

import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { type TestContext, test } from "node:test";

import { WebSocket } from "ws";

import type { FlvVhost } from "../../gateway/http/flv-target.js";
import { type HttpOptions, HttpServer } from "../../gateway/http/server.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import type { HubEvent, PlayRequest, Publication, PublishRequest } from "../../gateway/hub/types.js";
import { Refusal } from "../../gateway/media/errors.js";
import type { Frame } from "../../gateway/media/frame.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { eventually, pause } from "../support/child.js";
import { FlvReader, kindOf } from "../support/flv-reader.js";
import { peer, RecordingSource } from "../support/frames.js";
import { AAC_CONFIG, AVC_CONFIG } from "../support/rtmp-client.js";
import { FakeLog, FakeRtc, fakeOptions, fakeServices } from "./fake-services.js";

type SetUp = {
  readonly grace?: number;
  readonly gopCacheFrames?: number;
  readonly queueLength?: number;
  readonly http?: Partial<HttpOptions>;
  readonly gate?: (action: "publish" | "play", request: PublishRequest | PlayRequest) => Promise<undefined>;
};

async function setUp(t: TestContext, options: SetUp = {}) {
  const clock = new SystemClock();
  const events: HubEvent[] = [];
  const hub = new LiveHub({
    clock,
    vhost: (name) => ({
      name: name === "other.example" ? name : "__defaultVhost__",
      gopCacheFrames: options.gopCacheFrames ?? 2500,
      grace: options.grace ?? 0,
      takeover: "stale",
    }),
    ...(options.gate !== undefined && { gate: options.gate }),
    onEvent: (event) => events.push(event),
  });
  const log = new FakeLog();
  const vhost = (name: string): FlvVhost => ({
    name: name === "other.example" ? name : "__defaultVhost__",
    httpRemux: { enabled: true, mount: "[vhost]/[app]/[stream].flv" },
    play: { queueLength: options.queueLength ?? 30_000 },
  });
  const services = { ...fakeServices(new FakeRtc()), hub };
  const http = new HttpServer(fakeOptions(new FakeRtc(), { log, vhost, services, maxConnections: 1000, ...options.http }));
  const viewers: Viewer[] = [];
  t.after(async () => {
    for (const viewer of viewers) viewer.socket.destroy();
    hub.close("the test ends");
    await http.close();
  });
  await http.start();
  const port = http.addresses.find(({ directive }) => directive === "http_server.listen")?.port ?? 0;
  const publish = async (stream = "livestream", vhostName = "__defaultVhost__"): Promise<Publication> =>
    await hub.publish({
      name: { vhost: vhostName, app: "live", stream },
      peer: peer(),
      source: new RecordingSource(),
      lane: "frames",
    });
  const view = (path = "/live/livestream.flv", method = "GET"): Viewer => {
    const viewer = new Viewer(port, path, method);
    viewers.push(viewer);
    return viewer;
  };
  return { hub, http, events, log, port, publish, view };
}

/** A plain HTTP client, so that each byte of the answer can be looked at. */
class Viewer {
  readonly socket: Socket;
  readonly flv = new FlvReader();
  head = "";
  body = Buffer.alloc(0);
  isClosed = false;
  failure: unknown;

  constructor(port: number, path: string, method: string) {
    this.socket = connect(port, "127.0.0.1", () => this.socket.write(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`));
    let bytes = Buffer.alloc(0);
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.isClosed = true;
    });
    this.socket.on("data", (chunk: Buffer) => {
      let rest = chunk;
      if (this.head === "") {
        bytes = Buffer.concat([bytes, chunk]);
        const end = bytes.indexOf("\r\n\r\n");
        if (end < 0) return;
        this.head = bytes.toString("latin1", 0, end);
        rest = bytes.subarray(end + 4);
      }
      this.body = Buffer.concat([this.body, rest]);
      if (!/^HTTP\/1.1 200.*video\/x-flv/s.test(this.head)) return;
      try {
        this.flv.push(rest);
      } catch (error) {
        this.failure = error;
      }
    });
  }

  get kinds(): string[] {
    return this.flv.tags.map(kindOf);
  }

  async tags(count: number): Promise<string[]> {
    return await eventually(
      `${count} tags`,
      () => {
        if (this.failure !== undefined) throw this.failure;
        return this.kinds.length >= count ? this.kinds : undefined;
      },
      5000,
      5,
    );
  }

  async closed(): Promise<void> {
    await eventually("closed", () => this.isClosed || undefined, 5000, 5);
  }

  async answered(): Promise<string> {
    return await eventually("an answer", () => (this.head === "" ? undefined : this.head), 5000, 5);
  }
}

const frame = (kind: "audio" | "video", ms: number, extra: Partial<Frame> = {}): Frame => ({
  kind,
  codec: kind === "audio" ? "aac" : "h264",
  dts: ms * 1000,
  pts: ms * 1000,
  isKey: kind === "audio",
  isConfig: false,
  data: Buffer.alloc(extra.isKey === true ? 400 : 60, 0x21),
  ...extra,
});
const VIDEO_CONFIG = frame("video", 0, { isConfig: true, isKey: true, data: AVC_CONFIG });
const AUDIO_CONFIG = frame("audio", 0, { isConfig: true, data: AAC_CONFIG });

function metadata(...keys: string[]): Frame {
  const text = (value: string) => Buffer.concat([Buffer.from([0, value.length]), Buffer.from(value)]);
  const number = Buffer.from([0, 0x40, 0x24, 0, 0, 0, 0, 0, 0]); // 10
  const entries = keys.flatMap((key) => [text(key), number]);
  const data = Buffer.concat([
    Buffer.from([2]),
    text("onMetaData"),
    Buffer.from([8, 0, 0, 0, keys.length]),
    ...entries,
    Buffer.from([0, 0, 9]),
  ]);
  return { kind: "data", codec: "amf0", dts: 0, pts: 0, isKey: false, isConfig: false, data };
}

/** Configurations and a group of pictures of so many frames of each kind. */
function group(publication: Publication, count = 3, from = 0): void {
  publication.writeFrame(VIDEO_CONFIG);
  publication.writeFrame(AUDIO_CONFIG);
  for (let i = 0; i < count; i++) {
    publication.writeFrame(frame("video", from + i * 40, { isKey: i === 0 }));
    publication.writeFrame(frame("audio", from + i * 40 + 10));
  }
}

test("a viewer gets header, metadata, configurations, the cached group, and then what comes", async (t) => {
  const { publish, view, log, hub } = await setUp(t);
  const source = await publish();
  source.writeFrame(metadata("videocodecid", "audiocodecid"));
  group(source);
  const viewer = view();
  const cached = ["data", "video-config", "audio-config", "key", "audio", "video", "audio", "video", "audio"];
  assert.deepEqual(await viewer.tags(9), cached);
  assert.equal(viewer.flv.flags, 5);
  assert.match(viewer.head, /^HTTP\/1.1 200 OK\r\n/);
  assert.match(viewer.head, /\r\ncontent-type: video\/x-flv\r\n/i);
  assert.match(viewer.head, /\r\naccess-control-allow-origin: \*\r\n/i);
  assert.match(viewer.head, /\r\nconnection: close/i);
  assert.doesNotMatch(viewer.head, /chunked|content-length/i);
  source.writeFrame(frame("video", 120, { data: Buffer.alloc(70_000, 3) }));
  source.writeFrame(frame("audio", 130));
  assert.deepEqual((await viewer.tags(11)).slice(9), ["video", "audio"]);
  assert.equal(viewer.flv.tags[9]?.body.length, 70_005);
  const [client] = [...hub.clients()].filter(({ role }) => role === "play");
  assert.equal(client?.peer.protocol, "flv");
  source.end("enough");
  await viewer.closed();
  const lines = log.lines.filter((line) => line.includes("flv"));
  assert.match(lines[0] ?? "", /^info flv play started .*"stream":"live\/livestream","peer":"127\.0\.0\.1"/);
  assert.match(lines[1] ?? "", /^info flv play ended .*"reason":"enough"/);
});

test("a WebSocket gets the same, one tag a message", async (t) => {
  const { publish, port, events } = await setUp(t);
  const source = await publish();
  group(source);
  const socket = new WebSocket(`ws://127.0.0.1:${port}/live/livestream.flv`, { perMessageDeflate: true });
  const flv = new FlvReader();
  let messages = 0;
  socket.on("message", (data: Buffer) => {
    messages++;
    flv.push(data);
  });
  await eventually("the group", () => (flv.tags.length >= 8 ? true : undefined), 5000, 5);
  assert.deepEqual(flv.tags.slice(0, 3).map(kindOf), ["video-config", "audio-config", "key"]);
  assert.equal(messages, 1 + flv.tags.length);
  assert.equal(socket.extensions, "");
  source.writeFrame(frame("video", 120, { data: Buffer.alloc(70_000, 3) }));
  await eventually("a big one", () => (flv.tags.length >= 9 ? true : undefined), 5000, 5);
  assert.equal(flv.tags[8]?.body.length, 70_005);
  socket.ping();
  await new Promise((resolve) => socket.once("pong", resolve));
  const closed = new Promise<[number, Buffer]>((resolve) => socket.once("close", (code, reason) => resolve([code, reason])));
  source.end("the publisher left");
  const [code, reason] = await closed;
  assert.deepEqual([code, reason.toString()], [1000, "the publisher left"]);
  assert.equal(events.filter(({ type }) => type === "stop").length, 1);
});

test("one track alone", async (t) => {
  const { publish, view } = await setUp(t);
  const source = await publish();
  group(source);
  const video = view("/live/livestream.flv?only=video");
  assert.deepEqual(await video.tags(4), ["video-config", "key", "video", "video"]);
  assert.equal(video.flv.flags, 1);
  const audio = view("/live/livestream.flv?only=audio");
  assert.deepEqual(await audio.answered().then(() => audio.tags(0)), []);
  await eventually("header", () => (audio.flv.flags === -1 ? undefined : true));
  source.writeFrame(frame("audio", 130));
  source.writeFrame(frame("video", 160));
  source.writeFrame(frame("audio", 170));
  assert.deepEqual((await audio.tags(3)).slice(0, 3), ["audio-config", "audio", "audio"]);
  assert.equal(audio.flv.flags, 4);
});

test("the header waits for a second track that was announced or may come, and not for one that is known not to", async (t) => {
  const { publish, view } = await setUp(t);
  for (const [stream, announced, flags, atLeast, atMost] of [
    ["announced", ["videocodecid", "audiocodecid"], 5, 400, 1500],
    ["unknown", undefined, 1, 400, 1500],
    ["alone", ["videocodecid"], 1, 0, 300],
  ] as const) {
    const source = await publish(stream);
    if (announced !== undefined) source.writeFrame(metadata(...announced));
    source.writeFrame(VIDEO_CONFIG);
    source.writeFrame(frame("video", 0, { isKey: true }));
    const began = performance.now();
    const viewer = view(`/live/${stream}.flv`);
    await eventually("header", () => (viewer.flv.flags === -1 ? undefined : true), 5000, 5);
    const waited = performance.now() - began;
    assert.equal(viewer.flv.flags, flags, stream);
    assert.ok(waited >= atLeast && waited <= atMost, `${stream}: ${waited} ms`);
    // And what comes after that still reaches the player.
    await viewer.tags(announced === undefined ? 2 : 3);
    const count = viewer.kinds.length;
    source.writeFrame(AUDIO_CONFIG);
    source.writeFrame(frame("audio", 700));
    assert.deepEqual((await viewer.tags(count + 2)).slice(count), ["audio-config", "audio"], stream);
  }
});

test("who has sent one track alone for long is not waited for", async (t) => {
  const { publish, view } = await setUp(t);
  const source = await publish();
  source.writeFrame(VIDEO_CONFIG);
  source.writeFrame(frame("video", 0, { isKey: true }));
  await pause(2050);
  const viewer = view();
  const began = performance.now();
  await viewer.tags(2);
  assert.ok(performance.now() - began < 400);
  assert.equal(viewer.flv.flags, 1);
});

test("a second track that comes within the wait is announced, and nothing of the first is lost", async (t) => {
  const { publish, view } = await setUp(t);
  const source = await publish();
  source.writeFrame(VIDEO_CONFIG);
  source.writeFrame(frame("video", 0, { isKey: true }));
  const viewer = view();
  await viewer.answered();
  source.writeFrame(frame("video", 40));
  await pause(60);
  assert.equal(viewer.flv.flags, -1);
  source.writeFrame(AUDIO_CONFIG);
  source.writeFrame(frame("audio", 50));
  const kinds = await viewer.tags(5);
  assert.equal(viewer.flv.flags, 5);
  assert.deepEqual(
    kinds.filter((kind) => !kind.endsWith("config")),
    ["key", "video", "audio"],
  );
});

test("sound without configuration or picture is sent as it comes", async (t) => {
  const { publish, view } = await setUp(t);
  const source = await publish();
  source.writeFrame(metadata("audiocodecid"));
  const viewer = view();
  await viewer.answered();
  for (let i = 0; i < 5; i++) source.writeFrame(frame("audio", i * 20, { codec: "mp3" }));
  await eventually("five tags", () => (viewer.flv.media.length >= 5 ? true : undefined), 5000, 5);
  assert.equal(viewer.flv.flags, 4);
  assert.equal(viewer.flv.media[0]?.body[0], 0x2f);
});

test("configurations come again when they change", async (t) => {
  const { publish, view } = await setUp(t);
  const source = await publish();
  group(source, 2);
  const viewer = view();
  await viewer.tags(6);
  const other = Buffer.from(AVC_CONFIG);
  other[3] = 31;
  source.writeFrame({ ...VIDEO_CONFIG, data: other });
  source.writeFrame(frame("video", 80, { isKey: true }));
  assert.deepEqual((await viewer.tags(8)).slice(6), ["video-config", "key"]);
});

test("viewers go on over a publisher that comes back, and one that comes meanwhile waits", async (t) => {
  const { publish, view } = await setUp(t, { grace: 10_000 });
  const first = await publish();
  group(first);
  const viewer = view();
  await viewer.tags(8);
  first.end("gone for a moment");
  const late = view();
  assert.deepEqual((await late.tags(8)).slice(0, 3), ["video-config", "audio-config", "key"]); // the last that was seen
  const second = await publish();
  group(second, 2, 90_000);
  assert.deepEqual((await viewer.tags(14)).slice(8), ["video-config", "audio-config", "key", "audio", "video", "audio"]);
  assert.equal(viewer.failure, undefined); // time went on
  await late.tags(14);
});

test("refusals: 404 nobody publishes, 403 a hook, 503 the bridge is off, 400 nonsense, 405", async (t) => {
  const { hub, publish, view, log } = await setUp(t, {
    gate: async (action, { name }) => {
      if (action === "play" && name.stream === "secret") throw new Refusal("forbidden", "not for you");
      return undefined;
    },
  });
  await publish("secret");
  await hub.publish({
    name: { vhost: "v", app: "live", stream: "packets" },
    peer: peer(),
    source: new RecordingSource(),
    lane: "packets",
  });
  for (const [path, method, status, text] of [
    ["/live/nobody.flv", "GET", 404, /not-live.*nobody publishes live\/nobody/],
    ["/live/secret.flv", "GET", 403, /forbidden.*not for you/],
    ["/live/packets.flv", "GET", 503, /unavailable.*bridge/],
    ["/live/secret.flv?only=smell", "GET", 400, /bad-request.*only/],
    ["/live/%ff.flv", "GET", 400, /BAD_URL/],
    ["/live/a%00b.flv", "GET", 400, /bad-request/],
    ["/live/secret.flv", "POST", 405, /method-not-allowed/],
    ["/live/secret.flvx", "GET", 404, /not-found/],
  ] as const) {
    const viewer = view(path, method);
    const head = await viewer.answered();
    assert.ok(head.startsWith(`HTTP/1.1 ${status} `), `${method} ${path}: ${head}`);
    await eventually(`body ${viewer.body}`, () => (text.test(viewer.body.toString()) ? true : undefined), 2000, 5);
    if (status !== 404 && !path.includes("%ff")) assert.match(head, /access-control-allow-origin: \*/i);
  }
  assert.deepEqual(
    log.lines.filter((line) => line.startsWith("error")),
    [],
  );
});

test("a refused WebSocket gets the status in the handshake", async (t) => {
  const { port } = await setUp(t);
  for (const [path, status] of [
    ["/live/nobody.flv", 404],
    ["/nothing", 404],
    ["/live/x.flv?only=y", 400],
  ] as const) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
    const error = await new Promise<Error>((resolve) => socket.once("error", resolve));
    assert.match(error.message, new RegExp(`${status}`), path);
  }
});

test("HEAD says whether there is something, OPTIONS what may be asked, and neither plays", async (t) => {
  const { publish, view, events } = await setUp(t);
  await publish();
  assert.match(await view("/live/livestream.flv", "HEAD").answered(), /^HTTP\/1.1 200[\s\S]*video\/x-flv/i);
  assert.match(await view("/live/nobody.flv", "HEAD").answered(), /^HTTP\/1.1 404/);
  assert.match(
    await view("/live/nobody.flv", "OPTIONS").answered(),
    /^HTTP\/1.1 204[\s\S]*access-control-allow-methods: GET, HEAD, OPTIONS/i,
  );
  assert.equal(events.filter(({ type }) => type === "play").length, 0);
});

test("the vhost is what ?vhost= or the host says", async (t) => {
  const { publish, port, view } = await setUp(t);
  const source = await publish("one", "other.example");
  group(source);
  await view("/live/one.flv?vhost=other.example").tags(8);
  assert.match(await view("/live/one.flv").answered(), /^HTTP\/1.1 404/);
  const flv = new FlvReader();
  const socket = connect(port, "127.0.0.1", () => socket.write("GET /live/one.flv HTTP/1.0\r\nHost: other.example:8080\r\n\r\n"));
  t.after(() => socket.destroy());
  let text = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    text = Buffer.concat([text, chunk]);
  });
  await eventually("an answer", () => (text.includes("FLV\x01") ? true : undefined), 3000, 5);
  flv.push(text.subarray(text.indexOf("\r\n\r\n") + 4));
  assert.equal(flv.flags, 5);
});

test("a kicked viewer is closed, and its leaving told once", async (t) => {
  const { publish, view, hub, events, log } = await setUp(t);
  group(await publish());
  const viewer = view();
  await viewer.tags(8);
  const client = [...hub.clients()].find(({ role }) => role === "play");
  client?.close("kicked by an operator");
  client?.close("kicked by an operator");
  await viewer.closed();
  assert.equal(events.filter(({ type }) => type === "stop").length, 1);
  assert.equal(log.lines.filter((line) => /flv play ended.*kicked/.test(line)).length, 1);
});

test("hundreds of viewers that close at once leave nothing behind", async (t) => {
  const { publish, view, hub, http } = await setUp(t);
  const source = await publish();
  group(source);
  const viewers = Array.from({ length: 300 }, (_, index) => view(`/live/livestream.flv${index % 3 === 0 ? "?only=video" : ""}`));
  await eventually("all play", () => ([...hub.clients()].length === 301 ? true : undefined));
  for (const viewer of viewers) viewer.socket.destroy();
  source.writeFrame(frame("video", 120));
  await eventually("all are gone", () => ([...hub.clients()].length === 1 ? true : undefined));
  assert.equal(source.stream.frames.viewerCount, 0);
  assert.equal(http.flvViewers, 0);
  source.writeFrame(frame("video", 160));
  await view().tags(4);
});

test("a viewer that stops reading holds little, falls forward, and the others do not notice", async (t) => {
  const { publish, view, hub, log } = await setUp(t, { queueLength: 400 });
  const source = await publish();
  group(source);
  const [slow, good] = [view(), view()];
  await Promise.all([slow.tags(8), good.tags(8)]);
  slow.socket.pause();
  const payload = Buffer.alloc(60_000, 9);
  let sent = 0;
  const send = (): void => {
    source.writeFrame(frame("video", 200 + sent * 10, { isKey: sent % 10 === 0, data: payload }));
    sent++;
  };
  const waiting = (): number => {
    const figures = [...hub.clients()].map((client) => client.statistics());
    return Math.max(0, ...figures.map((figure) => Number(figure["waiting"] ?? 0)));
  };
  let peak = 0;
  for (let i = 0; i < 150; i++) {
    send();
    await pause(10);
    peak = Math.max(peak, waiting());
  }
  await eventually("the good one has all", () => (good.flv.media.length >= 8 + 150 ? true : undefined));
  assert.ok(peak < 5 << 20, `${peak} bytes wait`);
  slow.socket.resume();
  await pause(50);
  const before = slow.flv.media.length;
  for (let i = 0; i < 20; i++) {
    send();
    await pause(5);
  }
  await eventually("it goes on", () => (slow.flv.media.length > before ? true : undefined));
  assert.equal(slow.failure, undefined);
  assert.ok(slow.flv.media.length < good.flv.media.length);
  slow.socket.destroy();
  await eventually("its end", () => log.lines.find((line) => /flv play ended/.test(line)));
  const figures = JSON.parse(
    log.lines.find((line) => /flv play ended/.test(line))?.replace(/^info flv play ended /, "") ?? "{}",
  ) as {
    falls: number;
    dropped: number;
  };
  assert.ok(figures.falls >= 1 && figures.dropped > 0, JSON.stringify(figures));
});

test("a second request on the same connection is not written into the stream", async (t) => {
  const { publish, view, hub } = await setUp(t);
  const source = await publish();
  group(source);
  const viewer = view();
  viewer.socket.write("GET /live/livestream.flv HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await viewer.tags(8);
  source.writeFrame(frame("video", 120));
  await viewer.tags(9);
  await pause(50);
  assert.equal(viewer.failure, undefined);
  assert.equal([...hub.clients()].filter(({ role }) => role === "play").length, 1);
});

test("a WebSocket that says nonsense, or too much, is closed, and no other", async (t) => {
  const { publish, port, view, hub } = await setUp(t);
  const source = await publish();
  group(source);
  const good = view();
  await good.tags(8);
  const key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n";
  const handshake = `GET /live/livestream.flv HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${key}\r\n`;
  for (const bytes of [
    Buffer.from([0x82, 0x05, 1, 2, 3, 4, 5]), // not masked
    Buffer.from([0xf1, 0x80, 0, 0, 0, 0]), // reserved bits
    Buffer.from([0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), // 4 GiB
    Buffer.from([0x88, 0x80, 0, 0, 0, 0]), // a good-bye
  ]) {
    const socket = connect(port, "127.0.0.1", () => socket.write(handshake));
    t.after(() => socket.destroy());
    socket.on("error", () => {});
    let isClosed = false;
    socket.on("close", () => {
      isClosed = true;
    });
    await new Promise((resolve) => socket.once("data", resolve));
    socket.write(bytes);
    await eventually(`closed after ${bytes.toString("hex")}`, () => isClosed || undefined, 5000, 5);
  }
  const broken = connect(port, "127.0.0.1", () => broken.write(handshake.replace("AAAAAAAAAAAAAAAAAAAAAA==", "short")));
  t.after(() => broken.destroy());
  const answer = await new Promise<Buffer>((resolve) => broken.once("data", resolve));
  assert.match(answer.toString("latin1"), /^HTTP\/1.1 400/);
  await eventually("only one is left", () => ([...hub.clients()].length === 2 ? true : undefined), 5000, 5);
  source.writeFrame(frame("video", 120));
  await good.tags(9);
});

test("an upgrade to HTTP/2 is not taken, and the request answered", async (t) => {
  const { port } = await setUp(t);
  const socket = connect(port, "127.0.0.1");
  t.after(() => socket.destroy());
  let text = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => {
    text += chunk;
  });
  const upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
  socket.write(
    `POST /rtc/v1/whep/ HTTP/1.1\r\nHost: x\r\n${upgrade}Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n`,
  );
  await eventually("an answer", () => (text.includes("\r\n\r\n") ? true : undefined), 3000, 5);
  assert.match(text, /^HTTP\/1.1 201 /);
});
