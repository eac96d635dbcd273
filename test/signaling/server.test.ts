// The WebSocket edge, on real sockets, in the gateway that serves it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { pino } from "pino";
import { WebSocket } from "ws";
import { Gateway, parseConfig } from "../../gateway/gateway.js";
import { SignalingServer } from "../../gateway/signaling/server.js";
import { FakeLog } from "../http/fake-services.js";
import { FakeClock } from "../support/fake-clock.js";

const CONFIG = `listen 127.0.0.1:0;
  http_api { listen 127.0.0.1:0; }
  http_server { listen 127.0.0.1:0; }
  signaling { enabled on; standalone { enabled on; listen 127.0.0.1:0; } }
  vhost __defaultVhost__ { security { enabled on; allow publish all; allow play all; } }
  vhost closed { security { enabled on; deny play all; } }
  vhost off { enabled off; }`;

let gateway: Gateway;
let ports: Record<string, number>;

before(async () => {
  gateway = new Gateway({ config: parseConfig(CONFIG).config, log: pino({ level: "silent" }) });
  await gateway.start();
  ports = Object.fromEntries(gateway.addresses.http.map(({ directive, port }) => [directive, port]));
});
after(async () => await gateway.close());

const SERVER = "http_server.listen";
const STANDALONE = "signaling.standalone.listen";

/** A page's socket: texts in order, read one by one. */
class Page {
  readonly socket: WebSocket;
  readonly #waiting: ((message: unknown) => void)[] = [];
  readonly #got: unknown[] = [];

  static async open(directive = SERVER, query = ""): Promise<Page> {
    const page = new Page(new WebSocket(`ws://127.0.0.1:${ports[directive]}/sig/v1/rtc${query}`));
    await once(page.socket, "open");
    return page;
  }
  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data) => {
      const message: unknown = JSON.parse(String(data));
      const next = this.#waiting.shift();
      if (next === undefined) this.#got.push(message);
      else next(message);
    });
  }
  async next(): Promise<{ tid?: string; msg: Record<string, unknown> }> {
    const got = this.#got.shift() ?? (await new Promise((resolve) => void this.#waiting.push(resolve)));
    return got as { tid?: string; msg: Record<string, unknown> };
  }
  async ask(msg: object): Promise<Record<string, unknown>> {
    this.socket.send(JSON.stringify({ tid: "1", msg }));
    const { tid, msg: answer } = await this.next();
    assert.equal(tid, "1");
    return answer;
  }
  async close(): Promise<number> {
    const closed = once(this.socket, "close");
    this.socket.close();
    return (await closed)[0] as number;
  }
}

async function api(path: string): Promise<Record<string, unknown>> {
  const response = await fetch(`http://127.0.0.1:${ports["http_api.listen"]}${path}`);
  return (await response.json()) as Record<string, unknown>;
}

test("two pages meet, one on the HTTP server's port and one on the old one, and the API shows them", async () => {
  const [a, b] = [await Page.open(), await Page.open(STANDALONE, "/?room=whatever")];
  assert.equal((await a.ask({ action: "join", room: "lobby", display: "<b>Ann" }))["action"], "join");
  assert.equal((await b.ask({ action: "join", room: "lobby", display: "Bob" }))["action"], "join");
  assert.equal((await a.next()).msg["event"], "join");
  assert.equal(await a.ask({ action: "publish", room: "lobby", display: "<b>Ann" }), null);
  assert.deepEqual((await b.next()).msg["peer"], { display: "<b>Ann", publishing: true });

  const { rooms } = (await api("/api/v1/rooms")) as {
    rooms: { id: string; name: string; participants: Record<string, unknown>[] }[];
  };
  assert.equal(rooms.length, 1);
  const [room] = rooms;
  assert.deepEqual(
    room?.participants.map(({ display, publishing, live, ip }) => ({ display, publishing, live, ip })),
    [
      { display: "<b>Ann", publishing: true, live: false, ip: "127.0.0.1" },
      { display: "Bob", publishing: false, live: false, ip: "127.0.0.1" },
    ],
  );
  assert.deepEqual((await api(`/api/v1/rooms/${room?.id}`))["room"], (await api("/api/v1/rooms/lobby"))["room"]);
  const metrics = await (await fetch(`http://127.0.0.1:${ports["http_api.listen"]}/metrics`)).text();
  assert.match(metrics, /^sluice_rooms 1$/m);
  assert.match(metrics, /^sluice_room_participants 2$/m);
  assert.match(metrics, /^sluice_signaling_messages_total 3$/m);

  await a.close();
  assert.equal((await b.next()).msg["event"], "leave");
  await b.close();
  assert.equal((await api("/api/v1/rooms/lobby"))["code"], 2060);
});

test("what is no request of a page is told so, and the socket stays open", async () => {
  const page = await Page.open();
  page.socket.send("no json");
  assert.equal((await page.next()).msg["code"], "bad-request");
  page.socket.send(Buffer.from([1, 2, 3]));
  assert.equal((await page.next()).msg["code"], "binary");
  assert.equal((await page.ask({ action: "fly" }))["code"], "unknown-action");
  assert.equal((await page.ask({ action: "join", room: "here", display: "A" }))["action"], "join");
  const other = await Page.open();
  assert.equal((await other.ask({ action: "join", room: "here", display: "A" }))["code"], "taken");
  assert.equal((await other.ask({ action: "join", room: "here", display: "B" }))["action"], "join");
  await Promise.all([page.close(), other.close()]);
});

for (const [what, size] of [
  ["a little over", (64 << 10) + 1],
  ["a megabyte", 1 << 20],
] as const) {
  test(`a message of ${what} is refused with the reason, and the socket closed`, async () => {
    const page = await Page.open();
    const closed = once(page.socket, "close");
    page.socket.send(JSON.stringify({ tid: "1", msg: { action: "join", room: "x".repeat(size) } }));
    assert.equal((await page.next()).msg["code"], "too-large");
    assert.equal((await closed)[0], 1009);
  });
}

test("rules hold for joining, by vhost", async () => {
  const page = await Page.open(SERVER, "?vhost=closed");
  const answer = await page.ask({ action: "join", room: "r", display: "A" });
  assert.deepEqual([answer["code"], answer["error"]], ["forbidden", "joining is not allowed from 127.0.0.1"]);
  await page.close();
  const refused = new WebSocket(`ws://127.0.0.1:${ports[SERVER]}/sig/v1/rtc?vhost=off`);
  const [error] = (await once(refused, "error")) as [Error];
  assert.match(error.message, /404/);
});

test("a plain request is told what this is", async () => {
  for (const directive of [SERVER, STANDALONE]) {
    const response = await fetch(`http://127.0.0.1:${ports[directive]}/sig/v1/rtc`);
    assert.equal(response.status, 426);
    await response.arrayBuffer();
  }
  const nothing = await fetch(`http://127.0.0.1:${ports[STANDALONE]}/players/whip.html`);
  assert.equal(nothing.status, 404);
  await nothing.arrayBuffer();
});

test("without signaling its address is nothing", async () => {
  const plain = new Gateway({
    config: parseConfig("listen 127.0.0.1:0; http_api { enabled off; } http_server { listen 127.0.0.1:0; }").config,
    log: pino({ level: "silent" }),
  });
  await plain.start();
  try {
    const socket = new WebSocket(`ws://127.0.0.1:${plain.addresses.http[0]?.port}/sig/v1/rtc`);
    assert.match(String(((await once(socket, "error")) as [Error])[0]), /404/);
  } finally {
    await plain.close();
  }
});

test("a gateway that ends says so to the pages, so that they come back by themselves", async () => {
  const config = parseConfig(
    "listen 127.0.0.1:0; http_api { enabled off; } http_server { listen 127.0.0.1:0; } signaling { enabled on; }",
  );
  const short = new Gateway({ config: config.config, log: pino({ level: "silent" }) });
  await short.start();
  const socket = new WebSocket(`ws://127.0.0.1:${short.addresses.http[0]?.port}/sig/v1/rtc`);
  await once(socket, "open");
  const closed = once(socket, "close");
  await short.close();
  assert.equal((await closed)[0], 1001);
});

/** The edge alone, under a clock of the test's. */
async function alone(
  use: (world: { clock: FakeClock; server: SignalingServer; port: number; log: FakeLog }) => Promise<void>,
): Promise<void> {
  const [clock, log] = [new FakeClock(), new FakeLog()];
  const server = new SignalingServer({
    clock,
    log,
    maxRooms: 10,
    maxParticipants: 10,
    vhost: (name) => name,
    maxWaiting: 200_000,
  });
  const http = createServer();
  http.on("upgrade", (request, socket, head) => server.upgrade(request, socket as Socket, head));
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  try {
    await use({ clock, server, port: (http.address() as AddressInfo).port, log });
  } finally {
    const closed = server.close("over");
    clock.advance(2_000);
    await closed;
    await new Promise((resolve) => http.close(resolve));
  }
}

/** A peer that completes the handshake and then neither answers pings nor reads. */
async function deadPeer(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.write(
    "GET /sig/v1/rtc HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  await once(socket, "data");
  return socket;
}

/** One unmasked text would be refused: clients mask (RFC 6455 section 5.3); a mask of zeros changes nothing. */
function frame(text: string): Buffer {
  const body = Buffer.from(text);
  assert.ok(body.length < 126);
  return Buffer.concat([Buffer.from([0x81, 0x80 | body.length, 0, 0, 0, 0]), body]);
}

test("a peer that answers no ping has left within 20 seconds, and its socket is cut", async () => {
  await alone(async ({ clock, server, port }) => {
    const socket = await deadPeer(port);
    const closed = once(socket, "close");
    socket.write(frame('{"tid":"1","msg":{"action":"join","room":"r","display":"A"}}'));
    await once(socket, "data");
    assert.equal(server.rooms()[0]?.participants.length, 1);
    clock.advance(20_000);
    assert.equal(server.rooms().length, 0);
    clock.advance(1_000);
    await closed;
  });
});

test("a peer that does not read is let go, with what waits for it bounded", async () => {
  await alone(async ({ clock, server, port, log }) => {
    const lazy = await deadPeer(port);
    lazy.write(frame('{"tid":"1","msg":{"action":"join","room":"r","display":"lazy"}}'));
    await once(lazy, "data");
    lazy.pause();
    const talker = new WebSocket(`ws://127.0.0.1:${port}/sig/v1/rtc`);
    await once(talker, "open");
    const said = (msg: object): Promise<unknown> => {
      talker.send(JSON.stringify({ tid: "1", msg }));
      return once(talker, "message");
    };
    await said({ action: "join", room: "r", display: "T" });
    const data = "x".repeat(60_000);
    let sent = 0;
    while (server.rooms()[0]?.participants.length === 2) {
      clock.advance(1_000); // its budget fills up again
      await said({ action: "control", call: "c", data });
      assert.ok(++sent < 1_000, "kernel buffers hold no 60 MB");
      if (sent % 5 === 0) talker.pong();
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(log.lines.some((line) => line.includes("it reads too slowly") || line.includes("pings")));
    lazy.destroy();
    talker.terminate();
  });
});
