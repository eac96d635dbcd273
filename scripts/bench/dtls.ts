// DTLS handshakes: how many a second of CPU pays for, ours (OpenSSL) and werift's, in the same run.
// Unit: milliseconds of one core for the server's and the client's side of a handshake together, both in this process, by
// process.cpuUsage, median of several runs. A handshake counts when both sides hold the same SRTP keys.

import { fileURLToPath } from "node:url";

import { createDtlsContext } from "../../gateway/native/dtls.js";
import type { DtlsContext, DtlsTransport } from "../../gateway/native/types.js";

export type DtlsBench = {
  /** CPU milliseconds per handshake, both sides. */
  readonly own: number;
  readonly werift: number;
  /** Handshakes of one side that a second of one core pays for: half of the pair's cost each. */
  readonly ownPerSecond: number;
  readonly weriftPerSecond: number;
};

export type DtlsBenchOptions = {
  /** Handshakes in a run. Default 100. */
  readonly handshakes?: number;
  /** Runs of each, taken in turns. Default 5. */
  readonly runs?: number;
};

export async function run(options: DtlsBenchOptions = {}): Promise<DtlsBench> {
  const { handshakes = 100, runs = 5 } = options;
  const client = createDtlsContext({ ecdsa: true });
  const server = createDtlsContext({ ecdsa: true });
  const werift = await loadWerift();
  for (let index = 0; index < 20; index++) connect(client, server);
  for (let index = 0; index < 5; index++) await werift();
  const own: number[] = [];
  const other: number[] = [];
  for (let index = 0; index < runs; index++) {
    own.push(await timeEach(handshakes, async () => connect(client, server)));
    other.push(await timeEach(Math.ceil(handshakes / 5), werift));
  }
  client.close();
  server.close();
  const [ours, theirs] = [median(own), median(other)];
  return { own: ours, werift: theirs, ownPerSecond: 2000 / ours, weriftPerSecond: 2000 / theirs };
}

/** CPU milliseconds per call. */
async function timeEach(count: number, action: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  for (let index = 0; index < count; index++) await action();
  const used = process.cpuUsage(before);
  return (used.user + used.system) / 1000 / count;
}

function connect(clientContext: DtlsContext, serverContext: DtlsContext): void {
  const line: { readonly to: "client" | "server"; readonly datagram: Buffer }[] = [];
  const client: DtlsTransport = clientContext.create({
    role: "active",
    peerFingerprint: { algorithm: "sha-256", value: serverContext.fingerprint },
    send: (datagram) => line.push({ to: "server", datagram }),
  });
  const server = serverContext.create({
    role: "passive",
    peerFingerprint: { algorithm: "sha-256", value: clientContext.fingerprint },
    send: (datagram) => line.push({ to: "client", datagram }),
  });
  client.start();
  for (let item = line.shift(); item !== undefined; item = line.shift()) {
    (item.to === "client" ? client : server).receive(item.datagram);
  }
  if (!client.srtpKeys().local.key.equals(server.srtpKeys().remote.key)) throw new Error("the keys differ");
  client.close();
  server.close();
}
