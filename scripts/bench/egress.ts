// CPU time per packet that is sent to many viewers: the egress beside the plain Node way (createCipheriv and dgram.send).
// Unit: microseconds of one core (user and system) per datagram, process.cpuUsage, median of several runs. Viewers are sockets of a
// child process that reads them; one viewer's packets are decrypted there, so that what was measured is known to have been right.

import { type ChildProcess, fork } from "node:child_process";
import { createCipheriv, createHmac, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { createSrtpReceiver } from "../../gateway/native/srtp.js";
import { deriveSessionKeys, type SessionKeys } from "../../gateway/native/srtp-keys.js";
import type { SrtpKeys, SrtpProfile } from "../../gateway/native/types.js";
import { openUdpSockets } from "../../gateway/native/udp.js";
import { createEgress } from "../../gateway/rtc/egress-create.js";

export type EgressRow = {
  readonly what: string;
  readonly profile: SrtpProfile;
  /** Datagrams per viewer and turn. */
  readonly packets: number;
  /** Bytes of RTP payload of each. */
  readonly payload: number;
  /** CPU microseconds per datagram: the egress, the plain way, and how many times cheaper. */
  readonly egress: number;
  readonly plain: number;
  readonly ratio: number;
};

export type EgressBenchOptions = {
  /** Default 200. */
  readonly viewers?: number;
  /** Runs of each way, taken in turns. Default 5. */
  readonly runs?: number;
  /** Turns in a run. Default 60. */
  readonly turns?: number;
};

export async function run(options: EgressBenchOptions = {}): Promise<EgressRow[]> {
  const { viewers = 200, runs = 5, turns = 60 } = options;
  const rows: EgressRow[] = [];
  for (const shape of SHAPES) rows.push(await measure(shape, viewers, runs, turns));
  return rows;
}

type Shape = { readonly what: string; readonly profile: SrtpProfile; readonly sizes: readonly number[] };

const SHAPES: readonly Shape[] = [
  { what: "audio, 1 packet", profile: "AEAD_AES_128_GCM", sizes: [160] },
  { what: "frame of 1", profile: "AEAD_AES_128_GCM", sizes: [1120] },
  { what: "frame of 2", profile: "AEAD_AES_128_GCM", sizes: [1120, 1120] },
  { what: "frame of 4", profile: "AEAD_AES_128_GCM", sizes: [1120, 1120, 1120, 1119] },
  { what: "frame of 8", profile: "AEAD_AES_128_GCM", sizes: [1120, 1120, 1120, 1120, 1120, 1120, 1120, 1119] },
  { what: "frame of 4", profile: "AES128_CM_SHA1_80", sizes: [1120, 1120, 1120, 1119] },
  { what: "frame of 3 and audio", profile: "AEAD_AES_128_GCM", sizes: [1000, 1000, 1000, 160] },
];

async function measure(shape: Shape, viewers: number, runs: number, turns: number): Promise<EgressRow> {
  const keys = Array.from({ length: viewers }, () => keysOf(shape.profile));
  const audience = await startAudience(viewers, keys[0] ?? keysOf(shape.profile));
  try {
    const own: number[] = [];
    const plain: number[] = [];
    let sent = 0;
    for (let index = 0; index < runs; index++) {
      const startOwn = index * 2 * turns * shape.sizes.length;
      own.push(await sendOwn(shape, keys, audience.ports, turns, startOwn));
      plain.push(await sendPlain(shape, keys, audience.ports, turns, startOwn + turns * shape.sizes.length));
      sent += 2 * turns * shape.sizes.length;
    }
    const genuine = await audience.genuine();
    if (genuine < sent * 0.9) throw new Error(`only ${genuine} of ${sent} packets arrived and were genuine`);
    const [egress, other] = [median(own), median(plain)];
    return {
      what: shape.what,
      profile: shape.profile,
      packets: shape.sizes.length,
      payload: shape.sizes[0] ?? 0,
      egress,
      plain: other,
      ratio: other / egress,
    };
  } finally {
    audience.stop();
  }
}

async function sendOwn(shape: Shape, keys: SrtpKeys[], ports: number[], turns: number, first: number): Promise<number> {
  const sockets = await openUdpSockets({ listen: [{ host: "127.0.0.1", port: 0 }], onDatagram: () => {} });
  const egress = createEgress(sockets);
  const viewers = keys.map((key, index) => egress.open(key, { socket: 0, address: "127.0.0.1", port: ports[index] ?? 0 }));
  const payloads = shape.sizes.map((size) => randomBytes(size));
  const extension = Buffer.from("bede000110000100", "hex");
  let sequenceNumber = first;
  const turn = (): void => {
    const staged = payloads.map((payload) => egress.stage(payload));
    for (const viewer of viewers) {
      for (let index = 0; index < staged.length; index++) {
        viewer.sendRtp(staged[index] ?? -1, 96, sequenceNumber + index, sequenceNumber * 90, SSRC, extension, -1);
      }
    }
    egress.flush();
    sequenceNumber += staged.length;
  };
  const cost = await timeTurns(turn, turns);
  if (egress.statistics.dropped + egress.statistics.failed > 0) throw new Error("packets were dropped");
  egress.close();
  await sockets.close();
  return cost / (turns * viewers.length * shape.sizes.length);
}

/** The way one writes it without thinking of cost: a cipher, a Buffer and a send per packet. */
async function sendPlain(shape: Shape, keys: SrtpKeys[], ports: number[], turns: number, first: number): Promise<number> {
  const socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  const sessions = keys.map((key) => deriveSessionKeys(key));
  const payloads = shape.sizes.map((size) => randomBytes(size));
  const extension = Buffer.from("bede000110000100", "hex");
  const isAead = shape.profile !== "AES128_CM_SHA1_80";
  let sequenceNumber = first;
  const turn = (): void => {
    for (const [viewer, session] of sessions.entries()) {
      for (const [index, payload] of payloads.entries()) {
        const header = Buffer.alloc(20);
        header.writeUInt16BE(0x9060, 0);
        header.writeUInt16BE(sequenceNumber + index, 2);
        header.writeUInt32BE(sequenceNumber * 90, 4);
        header.writeUInt32BE(SSRC, 8);
        extension.copy(header, 12);
        const packet = isAead ? sealGcm(session, header, payload) : sealCounter(session, header, payload);
        socket.send(packet, ports[viewer], "127.0.0.1");
      }
    }
    sequenceNumber += payloads.length;
  };
  const cost = await timeTurns(turn, turns);
  socket.close();
  return cost / (turns * keys.length * shape.sizes.length);
}

function sealGcm(session: SessionKeys, header: Buffer, payload: Buffer): Buffer {
  const iv = Buffer.from(session.rtpSalt);
  for (let index = 0; index < 4; index++) iv[2 + index] = (iv[2 + index] ?? 0) ^ (header[8 + index] ?? 0);
  for (let index = 0; index < 2; index++) iv[10 + index] = (iv[10 + index] ?? 0) ^ (header[2 + index] ?? 0);
  const cipher = createCipheriv("aes-128-gcm", session.rtpKey, iv);
  cipher.setAAD(header);
  const body = cipher.update(payload);
  cipher.final();
  return Buffer.concat([header, body, cipher.getAuthTag()]);
}

function sealCounter(session: SessionKeys, header: Buffer, payload: Buffer): Buffer {
  const iv = Buffer.alloc(16);
  session.rtpSalt.copy(iv);
  for (let index = 0; index < 4; index++) iv[4 + index] = (iv[4 + index] ?? 0) ^ (header[8 + index] ?? 0);
  for (let index = 0; index < 2; index++) iv[12 + index] = (iv[12 + index] ?? 0) ^ (header[2 + index] ?? 0);
  const packet = Buffer.concat([header, createCipheriv("aes-128-ctr", session.rtpKey, iv).update(payload)]);
  const tag = createHmac("sha1", session.rtpAuthentication).update(packet).update(Buffer.alloc(4)).digest();
  return Buffer.concat([packet, tag.subarray(0, 10)]);
}

/** CPU microseconds of all turns, paced so that the viewers' process keeps up. */
async function timeTurns(turn: () => void, turns: number): Promise<number> {
  const before = process.cpuUsage();
  for (let index = 0; index < turns; index++) {
    turn();
    await new Promise((resolve) => setTimeout(resolve, PACE));
  }
  const used = process.cpuUsage(before);
  return used.user + used.system;
}

type Audience = { readonly ports: number[]; genuine(): Promise<number>; stop(): void };

async function startAudience(viewers: number, firstKeys: SrtpKeys): Promise<Audience> {
  const child: ChildProcess = fork(fileURLToPath(import.meta.url), ["audience"], { stdio: "inherit" });
  const serial = { profile: firstKeys.profile, key: firstKeys.key.toString("hex"), salt: firstKeys.salt.toString("hex") };
  child.send({ viewers, keys: serial });
  const [ports] = (await once(child, "message")) as [number[]];
  return {
    ports,
    async genuine(): Promise<number> {
      child.send("report");
      const [count] = (await once(child, "message")) as [number];
      return count;
    },
    stop: () => void child.kill(),
  };
}

async function beAudience(): Promise<void> {
  const [request] = (await once(process, "message")) as [
    { viewers: number; keys: { profile: SrtpProfile; key: string; salt: string } },
  ];
  const { profile, key, salt } = request.keys;
  const receiver = createSrtpReceiver({ profile, key: Buffer.from(key, "hex"), salt: Buffer.from(salt, "hex") });
  let genuine = 0;
  const ports: number[] = [];
  for (let index = 0; index < request.viewers; index++) {
    const socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
    if (index === 0) {
      socket.on("message", (datagram) => {
        if (receiver.unprotectRtp(datagram) !== undefined) genuine++;
      });
    } else socket.on("message", () => {});
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    ports.push(socket.address().port);
  }
  process.on("message", () => setTimeout(() => process.send?.(genuine), 200));
  process.on("disconnect", () => process.exit());
  process.send?.(ports);
}

function keysOf(profile: SrtpProfile): SrtpKeys {
  const isAead = profile !== "AES128_CM_SHA1_80";
  return { profile, key: randomBytes(profile === "AEAD_AES_256_GCM" ? 32 : 16), salt: randomBytes(isAead ? 12 : 14) };
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

const SSRC = 0x1234_5678;
const PACE = 10; // ms

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === "audience") await beAudience();
  else {
    for (const { what, profile, egress, plain, ratio } of await run()) {
      console.log(
        `${what.padEnd(22)} ${profile.padEnd(18)} ${egress.toFixed(2)} µs, plain ${plain.toFixed(2)} µs, ${ratio.toFixed(1)} times`,
      );
    }
  }
}
