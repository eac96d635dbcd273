// A WHEP viewer for load: ICE and DTLS once, then it only counts datagrams, by headers that SRTP leaves readable.
// It borrows the gateway's own DTLS, so it proves nothing about that; it costs a tenth of a whole WebRTC stack.

import { createHmac, randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { connect, type Socket as TcpSocket } from "node:net";
import { crc32 } from "node:zlib";

import { createDtlsContext } from "../../gateway/native/dtls.js";
import type { DtlsContext, DtlsTransport } from "../../gateway/native/types.js";
import { FrameReader, MAX_FRAME, writeFrameLength } from "../../gateway/rtc/tcp-framing.js";
import { monotonicNow } from "./rtp-reader.js";
import { Receiver } from "./tally.js";
import { postOffer, type ViewerSession, type ViewerTimes } from "./viewer-session.js";

const VIDEO_TYPE = 102;
const AUDIO_TYPE = 111;
const CONSENT_MS = 5000; // RFC 7675 section 5.1
let context: DtlsContext | undefined; // one certificate for the process

export class LightViewer implements ViewerSession {
  readonly receiver = new Receiver(false);
  readonly times: ViewerTimes = {};
  state = "new";
  readonly #fragment = randomBytes(4).toString("hex");
  readonly #password = randomBytes(16).toString("hex");
  readonly #socket: Socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
  /** Instead of it, when it goes by TCP. */
  #stream: TcpSocket | undefined;
  readonly #transport: "udp" | "tcp";
  readonly #lastSequence = { video: -1, audio: -1 };
  #dtls: DtlsTransport | undefined;
  #timer: NodeJS.Timeout | undefined;
  resource: string | undefined;
  readonly #fingerprint: string | undefined;

  /** @param fingerprint offered instead of that of its certificate: an impostor */
  constructor(fingerprint?: string, transport: "udp" | "tcp" = "udp") {
    this.#fingerprint = fingerprint;
    this.#transport = transport;
  }

  async join(url: string): Promise<void> {
    context ??= createDtlsContext({ ecdsa: true });
    this.#socket.bind(0, "127.0.0.1");
    await once(this.#socket, "listening");
    const answer = await postOffer(url, this.#offer(this.#fingerprint ?? context.fingerprint), this.times);
    this.resource = answer.resource;
    const value = (name: string): string => new RegExp(`^a=${name}:(.+?)\\s*$`, "m").exec(answer.sdp)?.[1] ?? "";
    const candidates = [...answer.sdp.matchAll(/^a=candidate:.*$/gm)].map(([line]) => line.split(" "));
    const [, , , , address = "", port = ""] = candidates.find(([, , transport]) => transport === this.#transport) ?? [];
    const [algorithm = "", fingerprint = ""] = value("fingerprint").split(" ");
    let receive: (bytes: Buffer) => void = () => {};
    await this.#connect(Number(port), address, (bytes) => receive(bytes));
    const transport = context.create({
      role: "active",
      peerFingerprint: { algorithm, value: fingerprint },
      send: (datagram) => this.#send(datagram),
    });
    this.#dtls = transport;
    const username = `${value("ice-ufrag")}:${this.#fragment}`;
    const password = value("ice-pwd");
    const check = (): void => this.#send(bindingRequest(username, password));
    const connected = new Promise<void>((resolve, reject) => {
      const retry = setInterval(() => {
        if (this.state === "new") check();
        else transport.onTimeout();
      }, 100);
      const limit = setTimeout(() => {
        clearInterval(retry);
        reject(new Error(`no DTLS within 10 s: ${transport.failure ?? transport.state}`));
      }, 10_000);
      receive = (bytes) => {
        const first = bytes.readUInt8(0);
        if (first >= 128) return this.#count(bytes);
        if (first < 4) {
          if (this.state === "new") {
            this.state = "checking";
            transport.start();
          }
          return;
        }
        transport.receive(bytes);
        if (transport.state === "failed" || transport.state === "closed") {
          clearTimeout(limit);
          clearInterval(retry);
          reject(new Error(`DTLS ${transport.failure ?? transport.state}`));
        }
        if (transport.state !== "connected" || this.state === "connected") return;
        this.state = "connected";
        this.times.connected = monotonicNow();
        clearTimeout(limit);
        clearInterval(retry);
        resolve();
      };
    });
    check();
    await connected;
    this.#timer = setInterval(check, CONSENT_MS);
  }

  async leave(politely: boolean): Promise<void> {
    clearInterval(this.#timer);
    if (politely && this.resource !== undefined) await fetch(this.resource, { method: "DELETE" }).catch(() => undefined);
    this.#dtls?.close();
    this.#socket.close();
    this.#stream?.end();
  }

  async #connect(port: number, address: string, receive: (bytes: Buffer) => void): Promise<void> {
    if (this.#transport === "udp") {
      this.#socket.on("message", receive).connect(port, address);
      await once(this.#socket, "connect");
      this.#socket.on("error", () => {}); // the gateway may be gone
      return;
    }
    const stream = connect({ port, host: address, noDelay: true });
    await once(stream, "connect");
    stream.on("error", () => {});
    const reader = new FrameReader(receive, () => MAX_FRAME);
    stream.on("data", (chunk: Buffer) => reader.read(chunk));
    this.#stream = stream;
  }

  #send(datagram: Buffer): void {
    if (this.#stream === undefined) {
      this.#socket.send(datagram);
      return;
    }
    const frame = Buffer.alloc(2 + datagram.length);
    datagram.copy(frame, writeFrameLength(frame, 0, datagram.length));
    this.#stream.write(frame);
  }

  /** Written out plainly: this runs tens of thousands of times a second. */
  #count(bytes: Buffer): void {
    const type = bytes.readUInt8(1) & 0x7f;
    if (type >= 64 && type < 96) {
      this.receiver.tally.senderReports++; // or another RTCP packet: they are encrypted
      return;
    }
    const kind = type === VIDEO_TYPE ? "video" : "audio";
    const track = this.receiver.tally[kind];
    const now = monotonicNow();
    track.firstPacketAt ??= now;
    track.lastPacketAt = now;
    track.packets++;
    track.bytes += bytes.length;
    const sequence = bytes.readUInt16BE(2);
    const last = this.#lastSequence[kind];
    if (last >= 0 && sequence !== ((last + 1) & 0xffff)) track.missing += ((sequence - last + 65_536) & 0xffff) - 1;
    this.#lastSequence[kind] = sequence;
    if (kind === "video" && bytes.readUInt8(1) >= 128) this.receiver.tally.pictures++;
  }

  #offer(fingerprint: string): string {
    const { port } = this.#socket.address();
    const media = (kind: string, mid: number, type: number, codec: string, parameters: string): string[] => [
      `m=${kind} ${port} UDP/TLS/RTP/SAVPF ${type}`,
      "c=IN IP4 127.0.0.1",
      `a=mid:${mid}`,
      "a=recvonly",
      "a=rtcp-mux",
      `a=rtpmap:${type} ${codec}`,
      parameters,
      `a=ice-ufrag:${this.#fragment}`,
      `a=ice-pwd:${this.#password}`,
      `a=fingerprint:sha-256 ${fingerprint}`,
      "a=setup:actpass",
      `a=candidate:1 1 UDP 2130706431 127.0.0.1 ${port} typ host`,
      "a=end-of-candidates",
    ];
    const h264 = `a=fmtp:${VIDEO_TYPE} profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1`;
    const lines = [
      "v=0",
      `o=- ${Date.now()} 1 IN IP4 127.0.0.1`,
      "s=-",
      "t=0 0",
      "a=group:BUNDLE 0 1",
      ...media("video", 0, VIDEO_TYPE, "H264/90000", h264),
      `a=rtcp-fb:${VIDEO_TYPE} nack`,
      `a=rtcp-fb:${VIDEO_TYPE} nack pli`,
      ...media("audio", 1, AUDIO_TYPE, "opus/48000/2", `a=fmtp:${AUDIO_TYPE} minptime=10;useinbandfec=1`),
      "",
    ];
    return lines.join("\r\n");
  }
}

/** A connectivity check of a controlling agent that nominates at once (RFC 8489 section 5, RFC 8445 section 7.1). */
export function bindingRequest(username: string, password: string): Buffer {
  const attribute = (type: number, value: Buffer): Buffer => {
    const header = Buffer.alloc(4);
    header.writeUInt16BE(type, 0);
    header.writeUInt16BE(value.length, 2);
    return Buffer.concat([header, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
  };
  const attributes = Buffer.concat([
    attribute(0x0006, Buffer.from(username)), // USERNAME
    attribute(0x0024, Buffer.from([0x6e, 0x7f, 0x1e, 0xff])), // PRIORITY of a host candidate
    attribute(0x802a, randomBytes(8)), // ICE-CONTROLLING
    attribute(0x0025, Buffer.alloc(0)), // USE-CANDIDATE
  ]);
  const head = Buffer.alloc(20);
  head.writeUInt16BE(0x0001, 0);
  head.writeUInt32BE(0x2112a442, 4);
  randomBytes(12).copy(head, 8);
  head.writeUInt16BE(attributes.length + 24, 2); // the length already counts MESSAGE-INTEGRITY when it is computed
  const integrity = attribute(0x0008, createHmac("sha1", password).update(head).update(attributes).digest());
  head.writeUInt16BE(attributes.length + 32, 2);
  const signed = Buffer.concat([head, attributes, integrity]);
  const fingerprint = Buffer.alloc(4);
  fingerprint.writeUInt32BE((crc32(signed) ^ 0x5354554e) >>> 0, 0);
  return Buffer.concat([signed, attribute(0x8028, fingerprint)]);
}
