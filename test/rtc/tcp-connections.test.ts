import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, suite, test } from "node:test";

import { StreamPaths } from "../../gateway/native/stream-path.js";
import type { Endpoint } from "../../gateway/native/types.js";
import { writeBindingRequest } from "../../gateway/rtc/stun.js";
import { TcpConnections, type TcpConnectionsOptions } from "../../gateway/rtc/tcp-connections.js";
import { FrameReader, MAX_FRAME } from "../../gateway/rtc/tcp-framing.js";
import { eventually } from "../support/child.js";

const CHECK = writeBindingRequest({
  transactionId: Buffer.alloc(12, 1),
  username: "abcd:efgh",
  password: "p".repeat(22),
  priority: 1,
  role: "controlling",
  tieBreaker: 1n,
  useCandidate: true,
});

function framed(...bodies: readonly Buffer[]): Buffer {
  return Buffer.concat(bodies.flatMap((body) => [Buffer.from([body.length >> 8, body.length & 0xff]), body]));
}

/** The passive side on a free port of loopback, and peers of it. */
class World {
  readonly statistics = { datagrams: 0, bytes: 0, calls: 0, failed: 0 };
  readonly paths: StreamPaths;
  readonly tcp: TcpConnections;
  readonly received: { readonly datagram: Buffer; readonly from: Endpoint }[] = [];
  readonly gone: Endpoint[] = [];
  readonly #peers: Socket[] = [];

  constructor(options: Partial<TcpConnectionsOptions> & { readonly isPortable?: boolean } = {}) {
    const { isPortable = false, ...more } = options;
    this.paths = new StreamPaths(this.statistics, isPortable);
    this.tcp = new TcpConnections({
      paths: this.paths,
      onDatagram: (datagram, from) => this.received.push({ datagram: Buffer.from(datagram), from }),
      onGone: (endpoint) => this.gone.push(endpoint),
      ...more,
    });
  }

  async start(): Promise<this> {
    await this.tcp.listen([{ host: "127.0.0.1", port: 0 }]);
    return this;
  }

  async connect(): Promise<Socket> {
    const socket = connect({ host: "127.0.0.1", port: this.tcp.port ?? 0, noDelay: true });
    socket.on("error", () => {});
    this.#peers.push(socket);
    await once(socket, "connect");
    return socket;
  }

  /** A peer whose check was found good. */
  async prove(): Promise<{ readonly socket: Socket; readonly endpoint: Endpoint }> {
    const socket = await this.connect();
    const before = this.received.length;
    socket.write(framed(CHECK));
    const endpoint = await eventually("the check arrives", () => this.received[before]?.from);
    this.tcp.confirm(endpoint.socket);
    return { socket, endpoint };
  }

  send(endpoint: Endpoint, ...datagrams: readonly Buffer[]): number {
    let sent = 0;
    for (const datagram of datagrams) {
      const path = this.paths.get(endpoint.socket);
      const offset = path?.reserve(datagram.length) ?? -1;
      if (path === undefined || offset < 0) continue;
      path.bytes.set(datagram, offset);
      path.commit(datagram.length);
      sent++;
    }
    return sent;
  }

  async stop(): Promise<void> {
    for (const peer of this.#peers) peer.destroy();
    this.paths.close();
    await this.tcp.close();
  }
}

function framesOf(socket: Socket): Buffer[] {
  const frames: Buffer[] = [];
  const reader = new FrameReader(
    (frame) => frames.push(Buffer.from(frame)),
    () => MAX_FRAME,
  );
  socket.on("data", (chunk: Buffer) => reader.read(chunk));
  return frames;
}

function isClosed(socket: Socket): Promise<true> {
  socket.resume();
  return eventually("the connection is closed", () => (socket.closed || socket.readableEnded ? true : undefined));
}

suite("WebRTC over TCP: connections", () => {
  let world: World;

  afterEach(() => world.stop());

  test("a check that the network has cut arrives, and what follows it", async () => {
    world = await new World().start();
    const bytes = framed(CHECK, Buffer.from([22, 1, 2, 3]));
    for (let cut = 1; cut < bytes.length; cut += 7) {
      const socket = await world.connect();
      socket.write(bytes.subarray(0, cut));
      await new Promise((resolve) => setImmediate(resolve));
      socket.write(bytes.subarray(cut));
      await eventually("both arrive", () => (world.received.length === 2 ? true : undefined));
      assert.deepEqual(
        world.received.splice(0).map(({ datagram }) => datagram),
        [CHECK, Buffer.from([22, 1, 2, 3])],
      );
      socket.destroy();
    }
  });

  for (const isPortable of [false, true]) {
    test(`datagrams of one turn leave in one write, each behind its length (${isPortable ? "by Node" : "natively"})`, async () => {
      world = await new World({ isPortable }).start();
      const { socket, endpoint } = await world.prove();
      const frames = framesOf(socket);
      const datagrams = [Buffer.alloc(1200, 1), Buffer.alloc(90, 2), Buffer.from("x")];
      const { calls } = world.statistics;
      assert.equal(world.send(endpoint, ...datagrams), 3);
      world.paths.flush();
      await eventually("all arrive", () => (frames.length === 3 ? true : undefined));
      assert.deepEqual(frames, datagrams);
      assert.equal(world.statistics.calls, calls + 1);
    });

    test(`what a peer does not take waits in order and within a bound (${isPortable ? "by Node" : "natively"})`, async () => {
      world = await new World({ isPortable }).start();
      const { socket, endpoint } = await world.prove();
      socket.pause();
      let sent = 0;
      let number = 0;
      for (let turn = 0; turn < 4_000 && (turn === 0 || sent === number); turn++) {
        for (let index = 0; index < 10; index++) {
          const datagram = Buffer.alloc(1200);
          datagram.writeUInt32BE(number++);
          sent += world.send(endpoint, datagram);
        }
        world.paths.flush();
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.ok(sent < number, "the queue is bounded");
      assert.ok((world.paths.get(endpoint.socket)?.lag ?? 0) > 0);
      const frames = framesOf(socket);
      socket.resume();
      await eventually("all that was taken arrives", () => (frames.length === sent ? true : undefined));
      assert.ok(
        frames.every((frame, index) => frame.readUInt32BE() === index),
        "in order, none missing",
      );
      await eventually("nothing waits", () => (world.paths.get(endpoint.socket)?.lag === 0 ? true : undefined));
      assert.equal(world.send(endpoint, Buffer.from("again")), 1);
      world.paths.flush();
      await eventually("it goes on", () => (frames.at(-1)?.toString() === "again" ? true : undefined));
    });
  }

  test("two peers' datagrams in turns, over more than the memory holds", async () => {
    world = await new World().start();
    const a = await world.prove();
    const b = await world.prove();
    const [framesA, framesB] = [framesOf(a.socket), framesOf(b.socket)];
    for (let index = 0; index < 700; index++) {
      const datagram = Buffer.alloc(1300);
      datagram.writeUInt32BE(index);
      world.send(a.endpoint, datagram);
      world.send(b.endpoint, datagram);
    }
    world.paths.flush();
    await eventually("all arrive", () => (framesA.length === 700 && framesB.length === 700 ? true : undefined));
    for (const frames of [framesA, framesB]) assert.ok(frames.every((frame, index) => frame.readUInt32BE() === index));
  });

  test("whoever begins with anything but a check is cut at once", async () => {
    world = await new World().start();
    const strangers: Readonly<Record<string, Buffer>> = {
      http: Buffer.from("GET /rtc/v1/whep/?app=live HTTP/1.1\r\nHost: a\r\n\r\n"),
      tls: Buffer.from("16030100c8010000c40303", "hex"),
      "a frame of DTLS": framed(Buffer.alloc(100, 22)),
      "a frame of 65,535": Buffer.from([0xff, 0xff, 0, 1]),
      "a check that is too long": Buffer.concat([Buffer.from([0x05, 0xdd]), CHECK]),
    };
    for (const [name, bytes] of Object.entries(strangers)) {
      const socket = await world.connect();
      socket.write(bytes);
      await isClosed(socket);
      assert.equal(world.received.length, 0, name);
    }
    await eventually("all are forgotten", () => (world.tcp.size === 0 ? true : undefined));
    assert.deepEqual(world.gone, []);
  });

  test("a connection without a valid check ends soon; one with it stays", async () => {
    world = await new World({ proofTimeout: 300 }).start();
    const silent = await world.connect();
    const unsigned = await world.connect();
    unsigned.write(framed(CHECK)); // nobody confirms it
    const { socket } = await world.prove();
    await Promise.all([isClosed(silent), isClosed(unsigned)]);
    assert.equal(socket.readableEnded || socket.closed, false);
    assert.equal(world.tcp.size, 1);
  });

  test("2,000 idle connections do not keep an honest peer out, and do not stay", async () => {
    world = await new World({ maxUnproven: 100 }).start();
    const idle: Socket[] = [];
    for (let round = 0; round < 20; round++) {
      idle.push(...(await Promise.all(Array.from({ length: 100 }, () => world.connect()))));
      if (round === 10) await world.prove();
    }
    const { socket, endpoint } = await world.prove();
    const frames = framesOf(socket);
    world.send(endpoint, Buffer.from("media"));
    world.paths.flush();
    await eventually("media flows", () => (frames.length === 1 ? true : undefined));
    await eventually("most are gone", () => (world.tcp.size <= 102 ? true : undefined));
    for (const peer of idle) peer.destroy();
    await eventually("none but the honest is left", () => (world.tcp.size === 2 ? true : undefined));
  });

  test("says when a proven connection is gone, and ends one that is released after its last words", async () => {
    world = await new World().start();
    const { socket, endpoint } = await world.prove();
    socket.destroy();
    await eventually("it is told", () => (world.gone.length === 1 ? true : undefined));
    assert.deepEqual(world.gone, [endpoint]);
    assert.equal(world.send(endpoint, Buffer.from("nobody")), 0);

    const other = await world.prove();
    const frames = framesOf(other.socket);
    world.send(other.endpoint, Buffer.from("goodbye"));
    world.paths.flush();
    world.tcp.release(other.endpoint.socket);
    await isClosed(other.socket);
    assert.deepEqual(frames, [Buffer.from("goodbye")]);
  });

  test("a port that is taken is named with its directive", async () => {
    world = await new World().start();
    const second = new World();
    await assert.rejects(second.tcp.listen([{ host: "127.0.0.1", port: world.tcp.port ?? 0 }]), /taken.*rtc_server\.tcp\.listen/);
    await second.stop();
  });
});
