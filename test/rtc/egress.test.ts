import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { test } from "node:test";

import { createSrtpReceiver } from "../../gateway/native/srtp.js";
import type { SrtpKeys, SrtpProfile } from "../../gateway/native/types.js";
import { openUdpSockets, type UdpSockets } from "../../gateway/native/udp.js";
import type { Egress } from "../../gateway/rtc/egress.js";
import { NativeEgress } from "../../gateway/rtc/egress-native.js";
import { PortableEgress } from "../../gateway/rtc/egress-portable.js";

type Kind = { readonly name: string; readonly portable: boolean; create(sockets: UdpSockets): Egress };

const KINDS: readonly Kind[] = [
  { name: "native", portable: false, create: (sockets) => new NativeEgress(sockets) },
  {
    name: "native without segmentation",
    portable: false,
    create: (sockets) => new NativeEgress(sockets, { segmentation: false }),
  },
  { name: "portable", portable: true, create: (sockets) => new PortableEgress(sockets) },
];

const PROFILES: readonly SrtpProfile[] = ["AEAD_AES_128_GCM", "AES128_CM_SHA1_80", "AEAD_AES_256_GCM"];

function keysOf(profile: SrtpProfile): SrtpKeys {
  const isAead = profile !== "AES128_CM_SHA1_80";
  return { profile, key: randomBytes(profile === "AEAD_AES_256_GCM" ? 32 : 16), salt: randomBytes(isAead ? 12 : 14) };
}

/** A peer that collects datagrams. */
class Peer {
  readonly received: Buffer[] = [];
  readonly #socket: Socket;
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("message", (datagram) => {
      this.received.push(datagram);
      this.#wake?.();
    });
  }

  static async open(address = "127.0.0.1"): Promise<Peer> {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    socket.bind(0, address);
    await once(socket, "listening");
    return new Peer(socket);
  }

  get port(): number {
    return this.#socket.address().port;
  }

  async take(count: number): Promise<Buffer[]> {
    while (this.received.length < count)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.received.splice(0, count);
  }

  close(): void {
    this.#socket.close();
  }
}

for (const kind of KINDS) {
  test(`${kind.name}: what is sent can be unprotected by the peer, in all profiles`, { timeout: 10_000 }, async () => {
    const sockets = await openUdpSockets({
      listen: [{ host: "127.0.0.1", port: 0 }],
      onDatagram: () => {},
      portable: kind.portable,
    });
    const egress = kind.create(sockets);
    const peer = await Peer.open();
    try {
      for (const profile of PROFILES) {
        const keys = keysOf(profile);
        const port = egress.open(keys, { socket: 0, address: "127.0.0.1", port: peer.port });
        const receiver = createSrtpReceiver(keys);
        const payloads = [1000, 1000, 1000, 999, 120, 0, 1100].map((length) => randomBytes(length));
        const extension = Buffer.from("bede000110aabb00", "hex");
        let wire = 0;
        for (const [index, payload] of payloads.entries()) {
          const staged = egress.stage(payload, index === 3 ? 1 : 0);
          const isRetransmission = index === 6;
          wire += port.sendRtp(
            staged,
            index === 2 ? 0x80 | 96 : 96,
            65_534 + index,
            0xffff_fff0 + index * 3000,
            0x89ab_cdef,
            index === 1 ? undefined : extension,
            isRetransmission ? 4711 : -1,
          );
        }
        const report = Buffer.concat([Buffer.from("80c8000689abcdef", "hex"), randomBytes(20)]);
        wire += port.sendRtcp(report);
        egress.flush();
        const datagrams = await peer.take(payloads.length + 1);
        assert.equal(
          wire,
          datagrams.reduce((sum, datagram) => sum + datagram.length, 0),
        );
        for (const [index, payload] of payloads.entries()) {
          const plain = receiver.unprotectRtp(datagrams[index] ?? Buffer.alloc(0));
          assert.ok(plain !== undefined, `${profile}: packet ${index} is not genuine`);
          const headerLength = index === 1 ? 12 : 20;
          assert.equal(plain[0], 0x80 | (index === 1 ? 0 : 0x10) | (index === 3 ? 0x20 : 0));
          assert.equal(plain[1], index === 2 ? 0xe0 : 0x60);
          assert.equal(plain.readUInt16BE(2), (65_534 + index) & 0xffff);
          assert.equal(plain.readUInt32BE(4), (0xffff_fff0 + index * 3000) % 0x1_0000_0000);
          assert.equal(plain.readUInt32BE(8), 0x89ab_cdef);
          if (index !== 1) assert.deepEqual(plain.subarray(12, 20), extension);
          const expected = index === 3 ? Buffer.concat([payload, Buffer.from([1])]) : payload;
          const body = plain.subarray(headerLength);
          if (index === 6) {
            assert.equal(body.readUInt16BE(0), 4711);
            assert.deepEqual(body.subarray(2), expected);
          } else assert.deepEqual(body, expected);
        }
        const last = datagrams[payloads.length] ?? Buffer.alloc(0);
        assert.deepEqual(receiver.unprotectRtcp(last), report);
        assert.equal(receiver.unprotectRtcp(last), undefined, "replayed");
        receiver.close();
        port.close();
        assert.equal(port.sendRtcp(report), 0);
      }
    } finally {
      egress.close();
      peer.close();
      await sockets.close();
    }
  });
}

for (const kind of KINDS) {
  test(`${kind.name}: what is outside the bounds is dropped and counted, and the peer is followed when it moves`, {
    timeout: 10_000,
  }, async () => {
    const sockets = await openUdpSockets({
      listen: [{ host: "127.0.0.1", port: 0 }],
      onDatagram: () => {},
      portable: kind.portable,
    });
    const egress = kind.create(sockets);
    const [first, second] = [await Peer.open(), await Peer.open()];
    try {
      const keys = keysOf("AEAD_AES_128_GCM");
      const receiver = createSrtpReceiver(keys);
      const port = egress.open(keys, { socket: 0, address: "127.0.0.1", port: first.port });
      const good = egress.stage(Buffer.from("good"));
      const send = (staged: number, extension?: Buffer): number => port.sendRtp(staged, 96, 1, 0, 1, extension, -1);
      assert.equal(egress.stage(Buffer.alloc(1401)), -1);
      assert.equal(egress.stage(Buffer.alloc(10), 256), -1);
      assert.equal(egress.stage(Buffer.alloc(10), -1), -1);
      for (const staged of [-1, good + 1, good + 1_000_000, Number.NaN]) assert.equal(send(staged), 0);
      for (const length of [1, 3, 68]) assert.equal(send(good, Buffer.alloc(length)), 0);
      for (const length of [0, 7, 1401]) assert.equal(port.sendRtcp(Buffer.alloc(length)), 0);
      assert.equal(egress.statistics.dropped, 10);
      assert.ok(send(good) > 0);
      egress.flush();
      assert.equal(send(good), 0, "staged before the flush");
      assert.equal(receiver.unprotectRtp((await first.take(1))[0] ?? Buffer.alloc(0))?.toString("latin1", 12), "good");

      port.setRemote({ socket: 0, address: "127.0.0.1", port: second.port });
      assert.ok(port.sendRtp(egress.stage(Buffer.from("moved")), 96, 2, 0, 1, undefined, -1) > 0);
      egress.flush();
      assert.equal(receiver.unprotectRtp((await second.take(1))[0] ?? Buffer.alloc(0))?.toString("latin1", 12), "moved");
      assert.deepEqual(first.received, []);
      port.setRemote({ socket: 9, address: "nowhere", port: 0 });
      port.sendRtp(egress.stage(Buffer.from("lost")), 96, 3, 0, 1, undefined, -1);
      egress.flush();
      port.close();
      port.close();
      assert.equal(port.sendRtp(egress.stage(Buffer.from("closed")), 96, 4, 0, 1, undefined, -1), 0);
      receiver.close();
    } finally {
      egress.close();
      egress.close();
      assert.throws(() => egress.open(keysOf("AEAD_AES_128_GCM"), { socket: 0, address: "127.0.0.1", port: 1 }), TypeError);
      egress.sendPlain(Buffer.alloc(1), { socket: 0, address: "127.0.0.1", port: first.port });
      egress.flush();
      first.close();
      second.close();
      await sockets.close();
    }
  });
}
