import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { pino } from "pino";

import { Refusal } from "../../gateway/media/errors.js";
import { commandMessage, controlMessage, MESSAGE } from "../../gateway/rtmp/message.js";
import { RtmpServer, type RtmpServerOptions } from "../../gateway/rtmp/server.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { FakeHub } from "../support/fake-hub.js";
import {
  clientBytes,
  publishCommands,
  RtmpClient,
  sampleTags,
  statusCode,
  statusText,
  videoTag,
} from "../support/rtmp-client.js";

type Line = { level: number; msg: string; reason?: string; code?: string };

async function setUp(t: TestContext, options: Partial<RtmpServerOptions> = {}) {
  const hub = new FakeHub();
  const lines: Line[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line) as Line) });
  const server = new RtmpServer({
    listen: [{ host: "127.0.0.1", port: 0 }],
    hub,
    clock: new SystemClock(),
    log,
    vhost: (name) =>
      name === "nowhere"
        ? undefined
        : {
            name: "__defaultVhost__",
            publish: { firstPacketTimeout: 20_000, normalTimeout: 5_000 },
            play: { queueLength: 30_000 },
          },
    ...options,
  });
  await server.start();
  const clients: RtmpClient[] = [];
  t.after(async () => {
    for (const client of clients) await client.close();
    await server.close();
    assert.equal(server.connectionCount, 0);
  });
  const port = server.addresses[0]?.port ?? 0;
  const open = async (tls?: { ca: string | Buffer }, index = 0) => {
    const client = await RtmpClient.open(server.addresses[index]?.port ?? 0, tls === undefined ? {} : { tls });
    clients.push(client);
    return client;
  };
  /** Lines of the log that tell of the session, without the listener's. */
  const told = () => lines.filter((line) => line.msg !== "rtmp listens").map((line) => line.msg);
  return { hub, server, lines, told, port, open };
}

for (const scheme of [undefined, 0, 1] as const) {
  test(`publishes to the hub, ${scheme === undefined ? "simple handshake" : `digest scheme ${scheme}`}`, async (t) => {
    const { hub, open, told } = await setUp(t);
    const client = await open();
    assert.equal(await client.publish("live", "livestream?key=1", scheme), "NetStream.Publish.Start");
    for (const tag of sampleTags()) client.sendTag(tag);
    await hub.until(() => hub.publications[0]?.frames.length === 53);
    const request = hub.publications[0]?.request;
    assert.deepEqual(request?.name, { vhost: "__defaultVhost__", app: "live", stream: "livestream" });
    assert.equal(request?.lane, "frames");
    assert.equal(request?.peer.protocol, "rtmp");
    assert.equal(request?.peer.address, "127.0.0.1");
    assert.equal(request?.peer.parameters, "?key=1");
    assert.equal(request?.peer.tcUrl, "rtmp://127.0.0.1/live");
    await client.close();
    await hub.until(() => hub.publications[0]?.ended.length === 1);
    assert.deepEqual(told(), ["rtmp publish started", "rtmp publish ended"]);
  });
}

function selfSigned(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "rtmps-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const arguments_ =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost";
  execFileSync("openssl", [...arguments_.split(" "), "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { key: readFileSync(key), cert: readFileSync(cert), listen: [{ host: "127.0.0.1", port: 0 }] };
}

test("RTMPS takes another certificate for new connections while an older one publishes on", async (t) => {
  const [first, second] = [selfSigned(t), selfSigned(t)];
  const { hub, server, open } = await setUp(t, { tls: first });
  const old = await open({ ca: first.cert }, 1);
  await old.publish();
  server.setCredentials(second);
  const next = await open({ ca: second.cert }, 1);
  assert.equal(await next.publish("live", "another"), "NetStream.Publish.Start");
  for (const tag of sampleTags()) old.sendTag(tag);
  await hub.until(() => hub.publications[0]?.frames.length === 53);
});

test("RTMPS publishes too", async (t) => {
  const tls = selfSigned(t);
  const { hub, open } = await setUp(t, { tls });
  const client = await open({ ca: tls.cert }, 1);
  assert.equal(await client.publish(), "NetStream.Publish.Start");
  for (const tag of sampleTags()) client.sendTag(tag);
  await hub.until(() => hub.publications[0]?.frames.length === 53);
});

test("on the RTMPS port a client that does not speak TLS, or says nothing, is closed", async (t) => {
  const { server } = await setUp(t, { tls: selfSigned(t), handshakeTimeout: 50 });
  for (const first of [Buffer.alloc(0), Buffer.from([3]), Buffer.alloc(2000, 3)]) {
    const socket = connect(server.addresses[1]?.port ?? 0, "127.0.0.1");
    socket.on("error", () => {});
    socket.resume();
    socket.write(first);
    await once(socket, "close");
  }
});

test("closing does not wait for a TLS handshake that nobody goes on with", async (t) => {
  const { server } = await setUp(t, { tls: selfSigned(t), handshakeTimeout: 60_000 });
  const socket = connect(server.addresses[1]?.port ?? 0, "127.0.0.1");
  socket.on("error", () => {});
  await once(socket, "connect");
  const closed = once(socket.resume(), "close");
  await server.close();
  await closed;
});

test("a refusal is told with its reason, and the connection closes", async (t) => {
  const { hub, open, told } = await setUp(t);
  hub.refusal = new Refusal("busy", "another publisher holds the stream");
  const client = await open();
  assert.equal(await client.publish(), "NetStream.Publish.BadName");
  await client.closed;
  const status = client.commands.find((command) => command.name === "onStatus");
  assert.equal(status && statusText(status), "another publisher holds the stream");
  assert.deepEqual(told(), ["rtmp publish refused"]);
});

test("refusals have their codes, and a bug behind the hub is an internal error", async (t) => {
  const { hub, open, lines } = await setUp(t);
  hub.refusal = new Refusal("overloaded", "too much");
  assert.equal(await (await open()).publish(), "NetStream.Publish.Denied");
  hub.refusal = new Error("boom");
  assert.equal(await (await open()).publish(), "NetStream.Publish.Failed");
  assert.equal(lines.filter((line) => line.level >= 50).length, 1);
  hub.refusal = undefined;
  assert.equal(await (await open()).publish(), "NetStream.Publish.Start");
});

test("an unknown vhost is refused", async (t) => {
  const { open } = await setUp(t);
  assert.equal(await (await open()).publish("live", "s?vhost=nowhere"), "NetStream.Publish.Denied");
});

test("play is refused and told why", async (t) => {
  const { open } = await setUp(t);
  const client = await open();
  await client.handshake();
  for (const message of publishCommands().slice(0, 4)) client.send(message);
  client.send(commandMessage(1, { name: "play", transactionId: 0, values: [null, "livestream"] }));
  const status = await client.waitFor((command) => statusCode(command) === "NetStream.Play.Failed");
  assert.ok(status !== undefined);
  await client.closed;
});

test("what the hub says reaches the publisher, and a kick ends it", async (t) => {
  const { hub, open } = await setUp(t);
  const client = await open();
  await client.publish();
  const source = hub.publications[0]?.request.source;
  source?.notify?.("NetStream.Publish.BFrames", "B-frames are left out for WebRTC");
  source?.close("kicked");
  await client.closed;
  assert.deepEqual(client.commands.filter((command) => command.name === "onStatus").map(statusCode), [
    "NetStream.Publish.Start",
    "NetStream.Publish.BFrames",
    "NetStream.Unpublish.Success",
    "NetConnection.Connect.Closed",
  ]);
  assert.deepEqual(hub.publications[0]?.ended, ["kicked"]);
});

test("H.264 without SPS is told to the publisher once", async (t) => {
  const { hub, open, lines } = await setUp(t);
  const client = await open();
  await client.publish();
  for (let i = 0; i < 5; i++) client.sendTag(videoTag(i * 40, { key: true }));
  const status = await client.waitFor((command) => statusCode(command) === "NetStream.Publish.Warning");
  assert.match(status === undefined ? "" : (statusText(status) ?? ""), /SPS/);
  for (const tag of sampleTags()) client.sendTag(tag);
  await hub.until(() => (hub.publications[0]?.frames.length ?? 0) >= 50);
  assert.equal(lines.filter(({ level, reason }) => level === 40 && reason?.includes("SPS")).length, 1);
});

test("a client that leaves while it waits for the answer leaves nothing behind", async (t) => {
  const { hub, open } = await setUp(t);
  let grant = (): void => {};
  hub.gate = new Promise((resolve) => {
    grant = resolve;
  });
  const client = await open();
  await client.handshake();
  for (const message of publishCommands()) client.send(message);
  await client.waitFor((command) => statusCode(command) !== undefined, ["onFCPublish"]);
  await client.close();
  grant();
  await hub.until(() => hub.publications[0]?.ended.length === 1);
});

test("media that waits for the answer is not lost", async (t) => {
  const { hub, open } = await setUp(t);
  let grant = (): void => {};
  hub.gate = new Promise((resolve) => {
    grant = resolve;
  });
  const client = await open();
  client.socket.write(clientBytes(sampleTags()));
  await new Promise((resolve) => setImmediate(resolve));
  grant();
  await hub.until(() => hub.publications[0]?.frames.length === 53);
});

test("over the limit a client is told that the server is full", async (t) => {
  const { open } = await setUp(t, { maxConnections: 1 });
  const first = await open();
  await first.publish();
  const second = await open();
  assert.equal(await second.publish(), "NetConnection.Connect.Rejected");
  await second.closed;
  assert.equal(first.socket.destroyed, false);
});

test("a port that is taken is an error with port and directive, and leaves nothing open", async (t) => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  t.after(() => other.close());
  const address = other.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  const server = new RtmpServer({
    listen: [
      { host: "127.0.0.1", port: 0 },
      { host: "127.0.0.1", port },
    ],
    hub: new FakeHub(),
    clock: new SystemClock(),
    log: pino({ level: "silent" }),
    vhost: () => undefined,
  });
  await assert.rejects(server.start(), new RegExp(`listen 127\\.0\\.0\\.1:${port}: the port is taken`));
  assert.deepEqual(server.addresses, []);
});

test("closing the server says goodbye to publishers", async (t) => {
  const { hub, server, open } = await setUp(t);
  const client = await open();
  await client.publish();
  const closing = server.close("shutting down");
  await client.closed;
  await closing;
  assert.deepEqual(hub.publications[0]?.ended, ["shutting down"]);
  assert.equal(
    client.commands.some((command) => statusCode(command) === "NetConnection.Connect.Closed"),
    true,
  );
});

test("timeouts close a slow handshake and a silent publisher", async (t) => {
  const { hub, open } = await setUp(t, {
    handshakeTimeout: 50,
    vhost: () => ({ name: "v", publish: { firstPacketTimeout: 50, normalTimeout: 50 }, play: { queueLength: 30_000 } }),
  });
  const slow = await open();
  slow.socket.write(Buffer.from([3, 0, 0]));
  await slow.closed;
  const silent = await open();
  await silent.publish();
  await silent.closed;
  assert.deepEqual(hub.publications[0]?.ended, ["no media after publish"]);
});

// Each is sent by one client; that one is closed with one line in the log while another publishes on undisturbed.
const TROUBLE: readonly { name: string; send: (client: RtmpClient) => Promise<void> | void; line: RegExp }[] = [
  { name: "HTTP instead of a handshake", send: (c) => void c.socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), line: /HTTP/ },
  { name: "zeros instead of a handshake", send: (c) => void c.socket.write(Buffer.alloc(5000)), line: /version byte 0/ },
  {
    name: "garbage after the handshake",
    send: async (c) => {
      await c.handshake();
      c.socket.write(Buffer.alloc(5000, 0xee));
    },
    line: /chunk stream 46/,
  },
  {
    name: "chunk size 0",
    send: async (c) => {
      await c.handshake();
      c.send(controlMessage(MESSAGE.SET_CHUNK_SIZE, 0));
    },
    line: /chunk size 0/,
  },
  {
    name: "chunk size 2^31",
    send: async (c) => {
      await c.handshake();
      c.send(controlMessage(MESSAGE.SET_CHUNK_SIZE, 2 ** 31));
    },
    line: /chunk size 2147483648/,
  },
  {
    name: "AMF nested 10,000 deep",
    send: async (c) => {
      await c.handshake();
      const nested = Buffer.concat(Array.from({ length: 10_000 }, () => Buffer.from("03000161", "hex")));
      c.send({ ...commandMessage(0, { name: "connect", transactionId: 1, values: [] }), payload: nested });
    },
    line: /deep/,
  },
  {
    name: "an array of 2^32",
    send: async (c) => {
      await c.handshake();
      c.send({ ...commandMessage(0, { name: "x", transactionId: 1, values: [] }), payload: Buffer.from("0affffffff05", "hex") });
    },
    line: /array of 4294967295/,
  },
  {
    name: "publish before connect",
    send: async (c) => {
      await c.handshake();
      c.send(commandMessage(1, { name: "publish", transactionId: 1, values: [null, "x"] }));
    },
    line: /publish before connect/,
  },
  {
    name: "a broken tag while publishing",
    send: async (c) => {
      await c.publish("live", "other");
      c.sendTag({ type: 9, timestamp: 0, body: Buffer.from([0x17]) });
    },
    line: /bytes expected/,
  },
];

for (const { name, send, line } of TROUBLE) {
  test(`trouble: ${name}`, async (t) => {
    const { hub, lines, open } = await setUp(t);
    const good = await open();
    await good.publish();
    const bad = await open();
    await send(bad);
    await bad.closed;
    const complaints = lines.filter((entry) => entry.level >= 40);
    assert.equal(complaints.length, 1);
    assert.equal(complaints[0]?.msg, "rtmp protocol error");
    assert.match(complaints[0]?.reason ?? "", line);
    for (const tag of sampleTags()) good.sendTag(tag);
    await hub.until(() => hub.publications[0]?.frames.length === 53);
  });
}

test("trouble: a flood of pings whose answers are never read", async (t) => {
  const { server, open } = await setUp(t);
  const client = await open();
  await client.handshake();
  client.socket.pause();
  const ping = client.writer.write({
    chunkStreamId: 2,
    type: MESSAGE.USER_CONTROL,
    streamId: 0,
    timestamp: 0,
    payload: Buffer.from("000600000000", "hex"),
  });
  const next = client.writer.write({
    chunkStreamId: 2,
    type: MESSAGE.USER_CONTROL,
    streamId: 0,
    timestamp: 0,
    payload: Buffer.from("000600000000", "hex"),
  });
  client.socket.write(ping);
  const flood = Buffer.concat(Array.from({ length: 20_000 }, () => next));
  while (server.connectionCount > 0 && !client.socket.destroyed) {
    if (client.socket.write(flood)) continue;
    await new Promise<void>((resolve) => {
      const done = () => resolve();
      client.socket.once("drain", done);
      client.socket.once("close", done);
    });
  }
  await client.closed;
});
