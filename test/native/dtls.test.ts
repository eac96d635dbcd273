import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { createDtlsContext } from "../../gateway/native/dtls.js";
import type { DtlsContext, DtlsTransport } from "../../gateway/native/types.js";

const OFFERS = new URL("../../../test/offers/", import.meta.url);

/** Deterministic chance (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

type Pair = { readonly client: DtlsTransport; readonly server: DtlsTransport; pump(): void };

/** A client and a server joined by a line that loses and swaps datagrams as `chance` says. */
function connect(client: DtlsContext, server: DtlsContext, loss = 0, swap = 0, chance: () => number = () => 1): Pair {
  const line: { to: "client" | "server"; datagram: Buffer }[] = [];
  const put = (to: "client" | "server", datagram: Buffer): void => {
    assert.ok(datagram.length <= 1200, `a datagram of ${datagram.length} bytes`);
    if (chance() < loss) return;
    if (chance() < swap && line.length > 0) line.splice(line.length - 1, 0, { to, datagram });
    else line.push({ to, datagram });
  };
  const a = client.create({
    role: "active",
    peerFingerprint: { algorithm: "sha-256", value: server.fingerprint },
    send: (datagram) => put("server", datagram),
  });
  const b = server.create({
    role: "passive",
    peerFingerprint: { algorithm: "SHA-256", value: client.fingerprint.toLowerCase() },
    send: (datagram) => put("client", datagram),
  });
  const pump = (): void => {
    for (let item = line.shift(); item !== undefined; item = line.shift()) (item.to === "client" ? a : b).receive(item.datagram);
  };
  a.start();
  return { client: a, server: b, pump };
}

for (const ecdsa of [true, false]) {
  test(`a handshake gives both sides the same SRTP keys (${ecdsa ? "ECDSA" : "RSA"})`, () => {
    const client = createDtlsContext({ ecdsa });
    const server = createDtlsContext({ ecdsa });
    const pair = connect(client, server);
    pair.pump();
    assert.equal(pair.client.state, "connected", pair.client.failure);
    assert.equal(pair.server.state, "connected", pair.server.failure);
    const mine = pair.client.srtpKeys();
    const theirs = pair.server.srtpKeys();
    assert.deepEqual(mine.local, theirs.remote);
    assert.deepEqual(mine.remote, theirs.local);
    assert.equal(mine.local.profile, "AEAD_AES_128_GCM");
    assert.equal(mine.local.key.length, 16);
    assert.equal(mine.local.salt.length, 12);
    assert.equal(pair.client.timeout(), undefined);
    pair.client.close();
    pair.pump();
    assert.equal(pair.server.state, "closed");
    pair.server.close();
    pair.server.close();
    client.close();
    server.close();
  });
}

test("a certificate that does not match the fingerprint fails the handshake on either side, and gives no keys", () => {
  const client = createDtlsContext({ ecdsa: true });
  const server = createDtlsContext({ ecdsa: true });
  const other = createDtlsContext({ ecdsa: true });
  for (const wrong of ["client", "server"] as const) {
    const line: { to: "client" | "server"; datagram: Buffer }[] = [];
    const expected = (side: "client" | "server", right: DtlsContext) => ({
      algorithm: "sha-256",
      value: side === wrong ? other.fingerprint : right.fingerprint,
    });
    const a = client.create({
      role: "active",
      peerFingerprint: expected("client", server),
      send: (datagram) => line.push({ to: "server", datagram }),
    });
    const b = server.create({
      role: "passive",
      peerFingerprint: expected("server", client),
      send: (datagram) => line.push({ to: "client", datagram }),
    });
    a.start();
    for (let item = line.shift(); item !== undefined; item = line.shift()) (item.to === "client" ? a : b).receive(item.datagram);
    const failed = wrong === "client" ? a : b;
    assert.equal(failed.state, "failed");
    assert.ok(failed.failure?.includes(other.fingerprint), failed.failure);
    assert.ok(failed.failure?.includes(wrong === "client" ? server.fingerprint : client.fingerprint), failed.failure);
    assert.throws(() => failed.srtpKeys(), TypeError);
    const peer = wrong === "client" ? b : a;
    assert.equal(peer.state, "failed");
    assert.match(peer.failure ?? "", /alert/);
    a.close();
    b.close();
    assert.equal(failed.state, "failed");
  }
  for (const context of [client, server, other]) context.close();
});

for (const name of readdirSync(OFFERS).filter((file) => file.startsWith("clienthello-"))) {
  test(`answers the ClientHello recorded in ${name}, in order and out of order`, () => {
    const recorded = JSON.parse(readFileSync(new URL(name, OFFERS), "utf8")) as string[];
    const datagrams = recorded.map((hex) => Buffer.from(hex, "hex"));
    for (const order of ["recorded", "reversed"] as const) {
      const server = createDtlsContext({ ecdsa: true });
      const sent: Buffer[] = [];
      const transport = server.create({
        role: "passive",
        peerFingerprint: { algorithm: "sha-256", value: "AA" },
        send: (datagram) => sent.push(datagram),
      });
      for (const datagram of order === "recorded" ? datagrams : datagrams.toReversed()) transport.receive(datagram);
      assert.equal(transport.state, "handshaking", transport.failure);
      const first = sent[0];
      assert.ok(first !== undefined, "no answer");
      assert.equal(first[0], 22); // handshake
      assert.equal(first[13], 2); // ServerHello
      assert.ok(sent.every((datagram) => datagram.length <= 1200));
      const timeout = transport.timeout();
      assert.ok(timeout !== undefined && timeout > 0 && timeout <= 200, `timeout ${timeout}`);
      transport.close();
      server.close();
    }
  });
}

test("damaged, cut, foreign and oversized datagrams never end more than their own handshake", (t) => {
  const seed = 7;
  t.diagnostic(`seed ${seed}`);
  const chance = seeded(seed);
  const client = createDtlsContext({ ecdsa: true });
  const server = createDtlsContext({ ecdsa: true });
  const outcomes = new Map<string, number>();
  for (let round = 0; round < 300; round++) {
    const sides: DtlsTransport[] = [];
    const line: { readonly to: number; readonly datagram: Buffer }[] = [];
    const open = (context: DtlsContext, other: DtlsContext, role: "active" | "passive", to: number): DtlsTransport =>
      context.create({
        role,
        peerFingerprint: { algorithm: "sha-256", value: other.fingerprint },
        send: (datagram) => line.push({ to, datagram }),
      });
    sides.push(open(client, server, "active", 1), open(server, client, "passive", 0));
    sides[0]?.start();
    for (let item = line.shift(), steps = 0; item !== undefined && steps < 100; item = line.shift(), steps++) {
      const { to, datagram } = item;
      const damaged = Buffer.from(datagram);
      const kind = Math.floor(chance() * 8);
      if (kind === 0) damaged[Math.floor(chance() * damaged.length)] = Math.floor(chance() * 256);
      if (kind === 1) sides[to]?.receive(damaged.subarray(0, Math.floor(chance() * damaged.length)));
      if (kind === 2) sides[to]?.receive(Buffer.concat([damaged, damaged]));
      if (kind === 3) sides[to]?.receive(Buffer.alloc(65_000, damaged));
      if (kind === 4) sides[to]?.receive(Buffer.from(Array.from({ length: 40 }, () => Math.floor(chance() * 256))));
      if (kind === 5) sides[1 - to]?.receive(damaged); // its own words back
      sides[to]?.receive(damaged);
      for (const side of sides) side.onTimeout(); // early: harmless
    }
    const outcome = sides.map(({ state }) => state).join(" ");
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    for (const side of sides) {
      if (side.state !== "connected") assert.throws(() => side.srtpKeys());
      if (side.state === "failed") assert.ok(side.failure);
      side.close();
      side.close();
      side.start();
      side.receive(Buffer.alloc(100));
      side.onTimeout();
      assert.equal(side.timeout(), undefined);
      assert.throws(() => side.srtpKeys());
    }
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(outcomes)));
  assert.ok((outcomes.get("connected connected") ?? 0) > 30, "most damage is survived");
  const pair = connect(client, server);
  pair.pump();
  assert.equal(pair.server.state, "connected", "the contexts still work");
  // a context may go before its transports
  client.close();
  server.close();
  assert.throws(
    () => client.create({ role: "active", peerFingerprint: { algorithm: "sha-256", value: "" }, send: () => {} }),
    TypeError,
  );
  pair.client.close();
  pair.pump();
  assert.equal(pair.server.state, "closed");
  pair.server.close();
});

test("a transport may be closed from within its own send", () => {
  const context = createDtlsContext({ ecdsa: true });
  let sent = 0;
  const transport = context.create({
    role: "active",
    peerFingerprint: { algorithm: "sha-256", value: "AA" },
    send: () => {
      sent++;
      transport.close();
    },
  });
  transport.start();
  assert.equal(sent, 1);
  assert.equal(transport.state, "closed");
  context.close();
});

test("a fingerprint of any current hash is checked, of an unknown one refused", () => {
  const context = createDtlsContext({ ecdsa: true });
  const attempt = (algorithm: string, value: string): DtlsTransport => {
    const line: Buffer[] = [];
    const back: Buffer[] = [];
    const client = context.create({
      role: "active",
      peerFingerprint: { algorithm: "sha-256", value: context.fingerprint },
      send: (datagram) => line.push(datagram),
    });
    const server = context.create({
      role: "passive",
      peerFingerprint: { algorithm, value },
      send: (datagram) => back.push(datagram),
    });
    client.start();
    while (line.length + back.length > 0) {
      for (const datagram of line.splice(0)) server.receive(datagram);
      for (const datagram of back.splice(0)) client.receive(datagram);
    }
    client.close();
    return server;
  };
  for (const [algorithm, bytes] of [
    ["sha-1", 20],
    ["SHA-224", 28],
    ["sha-256", 32],
    ["sha-384", 48],
    ["sha-512", 64],
  ] as const) {
    const wrong = attempt(algorithm, Array.from({ length: bytes }, () => "00").join(":"));
    const actual = /fingerprint ([0-9A-F:]+),/.exec(wrong.failure ?? "")?.[1] ?? "";
    assert.equal(actual.length, bytes * 3 - 1, wrong.failure);
    wrong.close();
    const right = attempt(algorithm, actual.toLowerCase());
    assert.equal(right.state, "connected", right.failure);
    right.close();
    const cut = attempt(algorithm, actual.slice(0, -3));
    assert.equal(cut.state, "failed");
    cut.close();
  }
  for (const algorithm of ["md5", "", "sha-3", "toString"]) {
    const unknown = attempt(algorithm, "AA");
    assert.match(unknown.failure ?? "", /not supported/);
    unknown.close();
  }
  context.close();
});

test("handshakes complete over a line that loses and reorders datagrams, and leave no memory behind", {
  timeout: 120_000,
}, async (t) => {
  const seed = 20_261_122;
  t.diagnostic(`seed ${seed}`);
  const chance = seeded(seed);
  const client = createDtlsContext({ ecdsa: true, retransmit: 5 });
  const server = createDtlsContext({ ecdsa: true, retransmit: 5 });
  const batch = async (count: number): Promise<void> => {
    const pairs = Array.from({ length: count }, () => connect(client, server, 0.1, 0.1, chance));
    const isDone = (pair: Pair): boolean => pair.client.state === "connected" && pair.server.state === "connected";
    while (!pairs.every(isDone)) {
      for (const pair of pairs) {
        pair.pump();
        for (const side of [pair.client, pair.server]) {
          assert.notEqual(side.state, "failed", side.failure);
          // OpenSSL's timers run on the real clock
          if (side.timeout() === 0) side.onTimeout();
          // The client's side is done when the server's last flight arrived; a lost one is sent again when the client repeats its own.
        }
        pair.pump();
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    for (const pair of pairs) {
      assert.deepEqual(pair.client.srtpKeys().local, pair.server.srtpKeys().remote);
      pair.client.close();
      pair.pump();
      pair.server.close();
    }
  };
  for (let round = 0; round < 4; round++) await batch(250); // after these the heaps of V8 and malloc have their size
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  for (let round = 0; round < 4; round++) await batch(250);
  globalThis.gc?.();
  const growth = process.memoryUsage().rss - before;
  t.diagnostic(`2,000 handshakes, the last 1,000 grew the process by ${growth >> 10} KiB`);
  // A leaked pair of associations is 56 KiB: 56 MB for these.
  assert.ok(growth < 20 * 1024 * 1024, `grew by ${growth} bytes`);
  client.close();
  server.close();
});

for (const settler of ["server", "client"] as const) {
  test(`a settled ${settler} still says goodbye and understands the other's, but no forged one`, () => {
    const client = createDtlsContext({ ecdsa: true });
    const server = createDtlsContext({ ecdsa: true });
    const other = settler === "server" ? "client" : "server";

    const leaving = connect(client, server);
    leaving.pump();
    leaving[settler].settle();
    leaving[settler].settle();
    assert.equal(leaving[settler].state, "connected");
    assert.equal(leaving[settler].srtpKeys().local.profile, "AEAD_AES_128_GCM");
    leaving[settler].close();
    leaving[settler].close();
    leaving.pump();
    assert.equal(leaving[other].state, "closed");
    leaving[other].close();

    const left = connect(client, server);
    left.pump();
    left[settler].settle();
    const goodbye: Buffer[] = [];
    const receive = left[settler].receive.bind(left[settler]);
    left[settler].receive = (datagram) => void goodbye.push(datagram);
    left[other].close();
    left.pump();
    const [genuine] = goodbye;
    assert.ok(genuine !== undefined);
    for (let at = 0; at < genuine.length; at++) {
      const forged = Buffer.from(genuine);
      forged[at] = (forged[at] ?? 0) ^ 1;
      receive(forged);
      receive(genuine.subarray(0, at));
      assert.equal(left[settler].state, "connected", `byte ${at}`);
    }
    receive(genuine);
    assert.equal(left[settler].state, "closed");
    left[settler].close();
    client.close();
    server.close();
  });
}

test("an association that failed or is not connected cannot settle", () => {
  const context = createDtlsContext({ ecdsa: true });
  const fresh = context.create({ role: "passive", peerFingerprint: { algorithm: "sha-256", value: "00" }, send: () => {} });
  fresh.settle();
  assert.equal(fresh.state, "handshaking");
  fresh.close();
  assert.equal(fresh.state, "closed");
  context.close();
});
