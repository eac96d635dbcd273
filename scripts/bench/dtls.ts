// DTLS handshakes: how many a second of CPU pays for, ours (OpenSSL) and werift's, in the same run.
// Unit: milliseconds of one core for the server's and the client's side of a handshake together, both in this process, by
// process.cpuUsage, median of several runs. A handshake counts when both sides hold the same SRTP keys.

import { fileURLToPath } from "node:url";

import { CipherContext, DtlsClient, DtlsServer } from "werift";

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

/** Carries datagrams in memory, a microtask later. */
class WeriftLine {
  readonly type = "udp";
  readonly address = { address: "127.0.0.1", port: 1, family: "IPv4" };
  closed = false;
  peer: WeriftLine | undefined;
  onData: (data: Buffer, from: readonly [string, number]) => void = () => {};

  readonly send = async (data: Buffer): Promise<void> => {
    const copy = Buffer.from(data);
    queueMicrotask(() => this.peer?.onData(copy, ["127.0.0.1", 1]));
  };

  readonly close = async (): Promise<void> => {
    this.closed = true;
  };
}

/** @returns a function that makes one handshake; certificates are made once, as for ours */
async function loadWerift(): Promise<() => Promise<void>> {
  const makeCertificate = () => CipherContext.createSelfSignedCertificateWithKey({ hash: SHA256, signature: ECDSA }, SECP256R1);
  const [clientCertificate, serverCertificate] = [await makeCertificate(), await makeCertificate()];
  return async () => {
    const [a, b] = [new WeriftLine(), new WeriftLine()];
    a.peer = b;
    b.peer = a;
    const optionsOf = (transport: WeriftLine, certificate: typeof clientCertificate) => ({
      transport,
      cert: certificate.certPem,
      key: certificate.keyPem,
      signatureHash: certificate.signatureHash,
      srtpProfiles: [...PROFILES],
      certificateRequest: true,
      extendedMasterSecret: true,
    });
    const server = new DtlsServer(optionsOf(b, serverCertificate));
    const client = new DtlsClient(optionsOf(a, clientCertificate));
    const isServerConnected = new Promise<void>((resolve) => server.onConnect.once(() => resolve()));
    const isClientConnected = new Promise<void>((resolve) => client.onConnect.once(() => resolve()));
    await client.connect();
    await Promise.all([isServerConnected, isClientConnected]);
    if (!client.extractSessionKeys(16, 12).localKey.equals(server.extractSessionKeys(16, 12).remoteKey))
      throw new Error("the keys differ");
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

const SHA256 = 4; // RFC 5246 section 7.4.1.4.1
const ECDSA = 3;
const PROFILES = [7] as const; // AEAD_AES_128_GCM, RFC 7714 section 14.2
const SECP256R1 = 23; // RFC 8422 section 5.1.1

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { own, werift, ownPerSecond, weriftPerSecond } = await run();
  console.log(`OpenSSL ${own.toFixed(2)} ms of CPU for both sides, ${ownPerSecond.toFixed(0)} handshakes of one side a second`);
  console.log(
    `werift  ${werift.toFixed(2)} ms of CPU for both sides, ${weriftPerSecond.toFixed(0)} handshakes of one side a second`,
  );
}
