// Many WHIP publishers in one process, for load: ICE and DTLS once each, then made-up pictures and sound as SRTP.
// They borrow the gateway's own DTLS, SRTP and sending, so they prove nothing about those; a publisher costs about 0.1 % of a core.

import { randomBytes } from "node:crypto";

import { createDtlsContext } from "../../gateway/native/dtls.js";
import { createSrtpReceiver } from "../../gateway/native/srtp.js";
import type { DtlsContext, DtlsTransport, Endpoint, SrtpReceiver } from "../../gateway/native/types.js";
import { openUdpSockets, type UdpSockets } from "../../gateway/native/udp.js";
import type { Egress, EgressPort } from "../../gateway/rtc/egress.js";
import { createEgress } from "../../gateway/rtc/egress-create.js";
import { eventually } from "./child.js";
import { bindingRequest } from "./light-viewer.js";
import { BASELINE_PPS, BASELINE_SPS } from "./pictures.js";
import { postOffer } from "./viewer-session.js";

const VIDEO_TYPE = 102;
const RTX_TYPE = 103;
const AUDIO_TYPE = 111;
const TRANSPORT_CC = 3;
const CHECK_MS = 2500; // Chromium's interval of checks on a pair in use
const FRAME_MS = 40;
const SOUND_MS = 20;
const PACKETS = 3; // of a picture: with PAYLOAD bytes each 600 kbit/s
const PAYLOAD = 1000;
const KEY_PACKETS = 12;

/** All publishers of a process: one socket each, one timer for all. */
export class LightPublishers {
  readonly publishers: LightPublisher[] = [];
  readonly #dtls: DtlsContext = createDtlsContext({ ecdsa: true });
  readonly #sockets: UdpSockets;
  readonly egress: Egress;
  readonly #timer: NodeJS.Timeout;

  readonly #payload: number;

  private constructor(sockets: UdpSockets, payload: number) {
    this.#payload = payload;
    this.#sockets = sockets;
    this.egress = createEgress(sockets);
    this.#timer = setInterval(() => this.#tick(), 1);
  }

  /**
   * @param count sockets to open: publishers that can be added
   * @param payload bytes of each packet of a picture. Default 1000, for 600 kbit/s
   */
  static async open(count: number, payload = PAYLOAD): Promise<LightPublishers> {
    let all: LightPublishers | undefined;
    const sockets = await openUdpSockets({
      listen: Array.from({ length: count }, () => ({ host: "127.0.0.1", port: 0 })),
      bufferSize: 256 * 1024,
      onDatagram: (datagram, from) => all?.publishers[from.socket]?.receive(datagram, from),
    });
    all = new LightPublishers(sockets, payload);
    return all;
  }

  /** Resolves when media flows. @throws Error when it is refused, or does not connect within 10 s */
  async add(url: string): Promise<void> {
    const socket = this.publishers.length;
    const publisher = new LightPublisher(
      this.egress,
      this.#dtls,
      socket,
      this.#sockets.sockets[socket]?.port ?? 0,
      this.#payload,
    );
    this.publishers.push(publisher);
    await publisher.start(url);
  }

  get packets(): number {
    return this.publishers.reduce((sum, { packets }) => sum + packets, 0);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    for (const publisher of this.publishers) publisher.close();
    this.egress.close();
    await this.#sockets.close();
    this.#dtls.close();
  }

  #tick(): void {
    const now = performance.now();
    for (const publisher of this.publishers) publisher.run(now);
    this.egress.flush();
  }
}

export class LightPublisher {
  packets = 0;
  plis = 0;
  readonly #egress: Egress;
  readonly #context: DtlsContext;
  readonly #socket: number;
  readonly #localPort: number;
  readonly #fragment = randomBytes(4).toString("hex");
  readonly #ssrc = randomBytes(4).readUInt32BE() | 1;
  readonly #extension = Buffer.from([0xbe, 0xde, 0, 1, (TRANSPORT_CC << 4) | 1, 0, 0, 0]);
  /** Of a picture: FU-A with a slice of its own. */
  readonly #payload: Buffer;
  readonly #sound = randomBytes(80);
  #dtls: DtlsTransport | undefined;
  #receiver: SrtpReceiver | undefined;
  #port: EgressPort | undefined;
  #remote: Endpoint | undefined;
  #check: (() => void) | undefined;
  #state: "new" | "checking" | "connected" = "new";
  #startedAt = 0;
  #nextCheck = 0;
  #frames = 0;
  #sounds = 0;
  #videoNumber = 0x1_0000;
  #audioNumber = 0x1_0000;
  #transportNumber = 0;
  #wantsKeyFrame = true;
  readonly #phase = Math.random() * FRAME_MS;

  constructor(egress: Egress, context: DtlsContext, socket: number, localPort: number, payload = PAYLOAD) {
    this.#payload = randomBytes(payload);
    this.#egress = egress;
    this.#context = context;
    this.#socket = socket;
    this.#localPort = localPort;
  }

  async start(url: string): Promise<void> {
    const answer = await postOffer(url, this.#offer(), {});
    const value = (name: string): string => new RegExp(`^a=${name}:(.+?)\\s*$`, "m").exec(answer.sdp)?.[1] ?? "";
    const [, , , , address = "", port = ""] = value("candidate").split(" ");
    const [algorithm = "", fingerprint = ""] = value("fingerprint").split(" ");
    const remote = { socket: this.#socket, address, port: Number(port) };
    this.#remote = remote;
    this.#dtls = this.#context.create({
      role: "active",
      peerFingerprint: { algorithm, value: fingerprint },
      send: (datagram) => this.#egress.sendPlain(datagram, remote),
    });
    const username = `${value("ice-ufrag")}:${this.#fragment}`;
    const password = value("ice-pwd");
    this.#check = () => this.#egress.sendPlain(bindingRequest(username, password), remote);
    await eventually("the publisher is connected", () => (this.#state === "connected" ? true : undefined));
  }

  receive(datagram: Buffer, _from: Endpoint): void {
    const first = datagram[0] ?? 0;
    if (first >= 128) this.#feedback(datagram);
    else if (first < 4 && this.#state === "new") {
      this.#state = "checking";
      this.#dtls?.start();
    } else if (first >= 20) this.#handshake(datagram);
  }

  /** Sends what is due. */
  run(now: number): void {
    if (this.#check !== undefined && now >= this.#nextCheck) {
      this.#check();
      this.#nextCheck = now + (this.#state === "connected" ? CHECK_MS : 100);
      if (this.#state === "checking") this.#dtls?.onTimeout();
    }
    const port = this.#port;
    if (port === undefined) return;
    if (this.#startedAt === 0) this.#startedAt = now + this.#phase;
    const elapsed = now - this.#startedAt;
    while (this.#frames * FRAME_MS <= elapsed) this.#sendPicture(port);
    while (this.#sounds * SOUND_MS <= elapsed) this.#sendSound(port);
  }

  close(): void {
    this.#receiver?.close();
    this.#dtls?.close();
  }

  #handshake(datagram: Buffer): void {
    const dtls = this.#dtls;
    dtls?.receive(datagram);
    if (dtls?.state !== "connected" || this.#state === "connected" || this.#remote === undefined) return;
    this.#state = "connected";
    const keys = dtls.srtpKeys();
    this.#receiver = createSrtpReceiver(keys.remote);
    this.#port = this.#egress.open(keys.local, this.#remote);
  }

  #feedback(datagram: Buffer): void {
    const plain = this.#receiver?.unprotectRtcp(datagram);
    if (plain === undefined) return;
    for (let at = 0; at + 4 <= plain.length; at += (plain.readUInt16BE(at + 2) + 1) * 4) {
      if (plain[at + 1] !== 206 || ((plain[at] ?? 0) & 0x1f) !== 1) continue;
      this.plis++;
      this.#wantsKeyFrame = true;
    }
  }

  #sendPicture(port: EgressPort): void {
    const isKey = this.#wantsKeyFrame;
    this.#wantsKeyFrame = false;
    const timestamp = this.#frames++ * FRAME_MS * 90;
    if (isKey) this.#sendVideo(port, timestamp, false, PARAMETER_SETS);
    const count = isKey ? KEY_PACKETS : PACKETS;
    for (let part = 0; part < count; part++) {
      this.#payload[0] = 0x7c;
      this.#payload[1] = (part === 0 ? 0x80 : 0) | (part === count - 1 ? 0x40 : 0) | (isKey ? 5 : 1);
      this.#payload[2] = 0x88; // first_mb_in_slice=0
      this.#sendVideo(port, timestamp, part === count - 1, this.#payload);
    }
  }

  #sendVideo(port: EgressPort, timestamp: number, marker: boolean, payload: Buffer): void {
    const word = (marker ? 0x80 : 0) | VIDEO_TYPE;
    this.#send(port, word, this.#videoNumber++, timestamp, this.#ssrc, payload);
  }

  #sendSound(port: EgressPort): void {
    this.#send(port, AUDIO_TYPE, this.#audioNumber++, this.#sounds++ * SOUND_MS * 48, this.#ssrc ^ 2, this.#sound);
  }

  #send(port: EgressPort, word: number, number: number, timestamp: number, ssrc: number, payload: Buffer): void {
    this.#extension.writeUInt16BE(this.#transportNumber++ & 0xffff, 5);
    port.sendRtp(this.#egress.stage(payload), word, number, timestamp, ssrc >>> 0, this.#extension, -1);
    this.packets++;
  }

  #offer(): string {
    return offerText(this.#localPort, this.#fragment, this.#context.fingerprint, this.#ssrc >>> 0);
  }
}

/** An offer that nobody stands behind. */
export function lightOffer(): string {
  const fingerprint = [...randomBytes(32)].map((byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join(":");
  return offerText(9, randomBytes(4).toString("hex"), fingerprint, 1);
}

function offerText(port: number, fragment: string, fingerprint: string, session: number): string {
  const media = (kind: string, mid: number, type: number, codec: string, ...more: string[]): string[] => [
    `m=${kind} ${port} UDP/TLS/RTP/SAVPF ${type}${kind === "video" ? ` ${RTX_TYPE}` : ""}`,
    "c=IN IP4 127.0.0.1",
    `a=mid:${mid}`,
    "a=sendonly",
    "a=rtcp-mux",
    `a=extmap:${TRANSPORT_CC} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`,
    `a=rtpmap:${type} ${codec}`,
    ...more,
    `a=rtcp-fb:${type} transport-cc`,
    `a=ice-ufrag:${fragment}`,
    `a=ice-pwd:${PASSWORD}`,
    `a=fingerprint:sha-256 ${fingerprint}`,
    "a=setup:actpass",
  ];
  return [
    "v=0",
    `o=- ${session} 1 IN IP4 127.0.0.1`,
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0 1",
    ...media(
      "video",
      0,
      VIDEO_TYPE,
      "H264/90000",
      `a=fmtp:${VIDEO_TYPE} profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1`,
      `a=rtcp-fb:${VIDEO_TYPE} nack`,
      `a=rtcp-fb:${VIDEO_TYPE} nack pli`,
      `a=rtpmap:${RTX_TYPE} rtx/90000`,
      `a=fmtp:${RTX_TYPE} apt=${VIDEO_TYPE}`,
    ),
    ...media("audio", 1, AUDIO_TYPE, "opus/48000/2", `a=fmtp:${AUDIO_TYPE} minptime=10;useinbandfec=1`),
    "",
  ].join("\r\n");
}

const PASSWORD = randomBytes(16).toString("hex"); // nobody checks us
const PARAMETER_SETS = Buffer.concat([
  Buffer.from([0x78, 0, BASELINE_SPS.length]), // STAP-A
  BASELINE_SPS,
  Buffer.from([0, BASELINE_PPS.length]),
  BASELINE_PPS,
]);
