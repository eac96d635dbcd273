import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import { test } from "node:test";

import { parseSocketAddress, socketAddressText } from "../../gateway/native/socket-address.js";
import type { Endpoint } from "../../gateway/native/types.js";
import { openUdpSockets, type UdpSockets } from "../../gateway/native/udp.js";
import { createEgress } from "../../gateway/rtc/egress-create.js";

for (const portable of [false, true]) {
  const name = portable ? "portable" : "native";

  test(`${name}: an answer comes from the address that was asked`, { timeout: 10_000 }, async () => {
    const echoes: (() => void)[] = [];
    const sockets = await openUdpSockets({
      listen: [{ host: undefined, port: 0 }],
      portable,
      onDatagram: (datagram: Buffer, from: Endpoint) => {
        const copy = Buffer.from(datagram);
        echoes.push(() => {
          egress.sendPlain(copy, from);
          egress.flush();
        });
      },
    });
    const egress = createEgress(sockets);
    const { port } = sockets;
    assert.ok(port > 0);
    assert.ok(sockets.sockets.every((socket) => socket.port === port));
    const addresses = Object.values(networkInterfaces())
      .flatMap((entries) => entries ?? [])
      .map(({ address }) => address)
      .filter((address) => !address.startsWith("fe80"));
    assert.ok(addresses.includes("127.0.0.1"));
    for (const address of addresses) {
      const client = createSocket(address.includes(":") ? "udp6" : "udp4");
      const answer = once(client, "message");
      client.send(`hello ${address}`, port, address);
      while (echoes.length === 0) await new Promise((resolve) => setImmediate(resolve));
      echoes.shift()?.();
      const [datagram, from] = (await answer) as [Buffer, { address: string; port: number }];
      assert.equal(datagram.toString(), `hello ${address}`);
      assert.equal(from.address, address);
      assert.equal(from.port, port);
      client.close();
    }
    egress.close();
    await sockets.close();
    await sockets.close();
  });

  test(`${name}: listens that overlap are served once`, async () => {
    const onDatagram = (): void => {};
    const probe = await openUdpSockets({ listen: [{ host: undefined, port: 0 }], onDatagram, portable });
    const { port } = probe;
    const count = probe.sockets.length;
    await probe.close();
    const any = { host: undefined, port };
    for (const listen of [
      [any, { host: "::", port }],
      [{ host: "::", port }, any],
      [any, { host: "127.0.0.1", port }],
      [{ host: "127.0.0.1", port }, any],
      [
        { host: "0.0.0.0", port },
        { host: "::", port },
      ],
    ]) {
      const sockets = await openUdpSockets({ listen, onDatagram, portable });
      assert.equal(sockets.sockets.length, count, JSON.stringify(listen));
      assert.ok(sockets.sockets.every((socket) => socket.port === port));
      await sockets.close();
    }
  });

  test(`${name}: a port that is taken gives an error with port and directive, whoever holds it and where`, async () => {
    const onDatagram = (): void => {};
    const first = await openUdpSockets({ listen: [{ host: undefined, port: 0 }], onDatagram, portable });
    const refused = { message: new RegExp(`${first.port}.*taken.*rtc_server\\.listen`) };
    await assert.rejects(openUdpSockets({ listen: [{ host: undefined, port: first.port }], onDatagram, portable }), refused);
    await assert.rejects(openUdpSockets({ listen: [{ host: "127.0.0.1", port: first.port }], onDatagram, portable }), refused);
    const { port } = first;
    await first.close();

    const holder = createSocket({ type: "udp4", reuseAddr: true }); // another program with SO_REUSEADDR
    holder.bind(port, "127.0.0.1");
    await once(holder, "listening");
    await assert.rejects(openUdpSockets({ listen: [{ host: undefined, port }], onDatagram, portable }), refused);
    holder.close();
    await once(holder, "close");

    const again = await openUdpSockets({ listen: [{ host: undefined, port }], onDatagram, portable });
    const thief = createSocket({ type: "udp4", reuseAddr: true });
    thief.bind(port, "127.0.0.1");
    const [error] = await once(thief, "error");
    assert.equal((error as NodeJS.ErrnoException).code, "EADDRINUSE", "nobody can join the port later");
    thief.close();
    await again.close();
  });

  test(`${name}: an address that is not this machine's is refused by name`, async () => {
    const listen = [{ host: "192.0.2.1", port: 0 }];
    await assert.rejects(
      openUdpSockets({ listen, onDatagram: () => {}, portable }),
      /192\.0\.2\.1.*EADDRNOTAVAIL.*rtc_server\.listen/,
    );
  });

  test(`${name}: two sets of sockets in one process do not disturb each other`, { timeout: 10_000 }, async () => {
    const received: string[] = [];
    const open = (label: string): Promise<UdpSockets> =>
      openUdpSockets({
        listen: [{ host: "127.0.0.1", port: 0 }],
        portable,
        onDatagram: (datagram) => void received.push(`${label}:${datagram}`),
      });
    const [a, b] = [await open("a"), await open("b")];
    const [fromA, fromB] = [createEgress(a), createEgress(b)];
    fromA.sendPlain(Buffer.from("from a"), { socket: 0, address: "127.0.0.1", port: b.port });
    fromB.sendPlain(Buffer.from("from b"), { socket: 0, address: "127.0.0.1", port: a.port });
    fromA.flush();
    fromA.close();
    await a.close();
    fromB.flush(); // to a port nobody holds any more
    fromB.sendPlain(Buffer.from("to myself"), { socket: 0, address: "127.0.0.1", port: b.port });
    fromB.sendPlain(Buffer.from("nowhere"), { socket: 7, address: "127.0.0.1", port: b.port });
    fromB.sendPlain(Buffer.from("other family"), { socket: 0, address: "::1", port: b.port });
    fromB.sendPlain(Buffer.from("no address"), { socket: 0, address: "example", port: b.port });
    fromB.sendPlain(Buffer.alloc(2000), { socket: 0, address: "127.0.0.1", port: b.port });
    fromB.flush();
    while (received.length < 2) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(received, ["b:from a", "b:to myself"]);
    assert.equal(fromB.statistics.failed, 3);
    assert.equal(fromB.statistics.dropped, 1);
    fromB.close();
    fromB.flush();
    await b.close();
  });
}

test("addresses of sockets are written as Node writes them", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["192.0.2.7", "192.0.2.7"],
    ["::", "::"],
    ["::1", "::1"],
    ["2001:db8::1", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["fe80::", "fe80::"],
    ["::ffff:192.0.2.7", "::ffff:192.0.2.7"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
  ];
  for (const [given, expected] of cases) {
    const parsed = parseSocketAddress(given, 1234);
    assert.ok(parsed !== undefined);
    assert.equal(socketAddressText(Buffer.from(parsed.words.buffer, parsed.words.byteOffset, 28), 0), expected);
  }
});
