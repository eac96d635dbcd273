import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { test } from "node:test";

import { loadLibC } from "../../gateway/native/libc.js";
import { ReceiveQueue } from "../../gateway/native/receive-queue.js";
import type { Endpoint } from "../../gateway/native/types.js";
import { openUdpSockets } from "../../gateway/native/udp.js";

const isNative = process.platform === "linux";
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type Seen = { readonly datagram: Buffer; readonly from: Endpoint; readonly more: boolean };

/** Sends one after the other and waits until the system has taken each. */
async function send(client: Socket, port: number, datagrams: readonly Buffer[], address = "127.0.0.1"): Promise<void> {
  for (const datagram of datagrams) {
    await new Promise<void>((resolve, reject) => {
      client.send(datagram, port, address, (error) => (error === null ? resolve() : reject(error)));
    });
  }
}

test("takes all that waits, whole and in order, and says whether more follows", { skip: !isNative }, async () => {
  const seen: Seen[] = [];
  const queue = new ReceiveQueue(
    loadLibC(),
    (datagram, from, more) => void seen.push({ datagram: Buffer.from(datagram), from, more }),
  );
  const socket = await boundSocket();
  const client = createSocket("udp4").bind(0, "127.0.0.1");
  await once(client, "listening");
  assert.equal(queue.drain(socket.fd, 3), 0, "nothing waits");
  assert.equal(queue.statistics.failed, 0, "and that is no error");
  const sizes = [0, 1, 2047, 2048, 2049, 9000, 1200, 5000];
  await send(
    client,
    socket.port,
    sizes.map((size) => Buffer.alloc(size, size & 0xff)),
  );
  assert.equal(queue.drain(socket.fd, 3), sizes.length);
  const whole = sizes.filter((size) => size <= 2048);
  assert.deepEqual(
    seen.map(({ datagram }) => datagram),
    whole.map((size) => Buffer.alloc(size, size & 0xff)),
  );
  assert.deepEqual(
    seen.map(({ more }) => more),
    [true, true, true, true, false],
    "the last one that is handed on is the last, though longer ones came after it",
  );
  assert.equal(queue.statistics.truncated, 3);
  assert.deepEqual(seen[0]?.from, { socket: 3, address: "127.0.0.1", port: client.address().port });
  assert.ok(
    seen.every(({ from }) => from === seen[0]?.from),
    "one sender is one object",
  );

  seen.length = 0;
  const many = Array.from({ length: 200 }, (_, index) => Buffer.from(`datagram ${index}`));
  await send(client, socket.port, many);
  assert.equal(queue.drain(socket.fd, 3), many.length, "more than one call takes");
  assert.deepEqual(
    seen.map(({ datagram }) => datagram),
    many,
  );
  client.close();
  loadLibC().close(socket.fd);
});

test("a call that throws costs one datagram, and is told to the process", { skip: !isNative }, async (t) => {
  const seen: string[] = [];
  const queue = new ReceiveQueue(loadLibC(), (datagram) => {
    seen.push(datagram.toString());
    if (seen.length === 1) throw new Error("of the first");
  });
  const socket = await boundSocket();
  const client = createSocket("udp4");
  await send(client, socket.port, [Buffer.from("first"), Buffer.from("second")]);
  const thrown: unknown[] = [];
  t.mock.method(globalThis, "setImmediate", (callback: () => void) => {
    try {
      callback();
    } catch (error) {
      thrown.push(error);
    }
  });
  queue.drain(socket.fd, 0);
  t.mock.restoreAll();
  assert.deepEqual(seen, ["first", "second"]);
  assert.deepEqual(thrown, [new Error("of the first")]);
  client.close();
  loadLibC().close(socket.fd);
});

test("an error of the socket is counted and does not keep anybody", { skip: !isNative }, async () => {
  let seen = 0;
  const queue = new ReceiveQueue(loadLibC(), () => void seen++);
  assert.equal(queue.drain(-1, 0), 0);
  assert.ok(queue.statistics.failed > 0);

  // A connected socket is told that nobody listens (ECONNREFUSED): the next datagram comes all the same.
  const socket = await boundSocket();
  const peer = createSocket("udp4").bind(0, "127.0.0.1");
  await once(peer, "listening");
  const { port } = peer.address();
  peer.close();
  await once(peer, "close");
  const address = Buffer.alloc(16);
  address.writeUInt16LE(2, 0);
  address.writeUInt16BE(port, 2);
  address.writeUInt32BE(0x7f000001, 4);
  const libc = loadLibC();
  const { loadKoffi } = await import("../../gateway/native/library.js");
  const c = loadKoffi().load(null);
  const connect = c.func("int connect(int fd, void *addr, unsigned int len)");
  const write = c.func("long write(int fd, void *bytes, size_t count)");
  assert.equal(connect(socket.fd, address, 16), 0);
  assert.equal(Number(write(socket.fd, Buffer.from("to nobody"), 9)), 9);
  const before = queue.statistics.failed;
  const again = createSocket("udp4").bind(port, "127.0.0.1");
  await once(again, "listening");
  await send(again, socket.port, [Buffer.from("somebody after all")]);
  queue.drain(socket.fd, 0);
  assert.equal(seen, 1);
  assert.equal(queue.statistics.failed, before + 1);
  again.close();
  libc.close(socket.fd);
});

test("senders over IPv6 have the addresses that Node gives them", { skip: !isNative || !hasIPv6() }, async () => {
  const seen: Endpoint[] = [];
  const sockets = await openUdpSockets({ listen: [{ host: "::1", port: 0 }], onDatagram: (_, from) => void seen.push(from) });
  const client = createSocket("udp6").bind(0, "::1");
  await once(client, "listening");
  await send(client, sockets.port, [Buffer.from("a")], "::1");
  while (seen.length === 0) await turn();
  assert.deepEqual(seen, [{ socket: 0, address: "::1", port: client.address().port }]);
  client.close();
  await sockets.close();
});

test("closed from within a datagram nothing more comes, and no descriptor stays", { skip: !isNative }, async () => {
  const before = readdirSync("/proc/self/fd").length;
  for (let round = 0; round < 20; round++) {
    let seen = 0;
    let closed: Promise<void> | undefined;
    const sockets = await openUdpSockets({
      listen: [{ host: "127.0.0.1", port: 0 }],
      onDatagram: () => {
        seen++;
        closed ??= sockets.close();
      },
    });
    const client = createSocket("udp4");
    await send(client, sockets.port, [Buffer.from("1")]);
    while (closed === undefined) await turn();
    await closed;
    await send(client, sockets.port, [Buffer.from("2")]);
    for (let turns = 0; turns < 5; turns++) await turn();
    assert.equal(seen, 1);
    client.close();
    await once(client, "close");
  }
  assert.equal(readdirSync("/proc/self/fd").length, before);
});

test("much at once is gathered, and nothing of it is lost or late", { skip: !isNative, timeout: 20_000 }, async () => {
  let seen = 0;
  let turns = 0;
  const sockets = await openUdpSockets({
    listen: [
      { host: "127.0.0.1", port: 0 },
      { host: "127.0.0.1", port: 0 },
    ],
    onDatagram: (_datagram, _from, more) => {
      seen++;
      if (!more) turns++;
    },
  });
  const client = createSocket("udp4");
  const until = async (count: number): Promise<void> => {
    while (seen < count) await turn();
  };
  let sent = 0;
  const most = 2000;
  while (sent < most) {
    for (let index = 0; index < 4; index++) {
      client.send(Buffer.from("busy"), sockets.port, "127.0.0.1");
      sent++;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await until(sent);
  assert.ok(turns < sent / 2, `${sent} datagrams in ${turns} turns`);
  // The other socket is watched meanwhile, and both are when it is calm again.
  for (let index = 0; index < 20; index++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const port = sockets.sockets[index % 2]?.port ?? 0;
    await send(client, port, [Buffer.from("calm")]);
    await until(++sent);
  }
  client.close();
  await sockets.close();
});

async function boundSocket(): Promise<{ fd: number; port: number }> {
  const libc = loadLibC();
  const fd = libc.socket(2, 2 + 0o4000 + 0o2000000, 0);
  const address = Buffer.alloc(16);
  address.writeUInt16LE(2, 0);
  address.writeUInt32BE(0x7f000001, 4);
  assert.equal(libc.bind(fd, address, 16), 0);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(16);
  libc.getsockname(fd, address, length);
  return { fd, port: address.readUInt16BE(2) };
}

function hasIPv6(): boolean {
  const libc = loadLibC();
  const fd = libc.socket(10, 2, 0);
  const address = Buffer.alloc(28);
  address.writeUInt16LE(10, 0);
  address[23] = 1;
  const done = libc.bind(fd, address, 28);
  libc.close(fd);
  return done === 0;
}
