// A viewer in memory: checks, a fake handshake, and a receiver that asks for what it misses. It speaks to the gateway through
// whatever `send` is given, and knows nothing of the gateway's classes but its parsers.

import { randomBytes } from "node:crypto";

import type { Clock, TimerHandle } from "../../gateway/hub/clock.js";
import { parseStun, writeBindingRequest } from "../../gateway/rtc/stun.js";
import {
  FeedbackFormat,
  ntpMiddle,
  ReportBlock,
  RtcpReader,
  RtcpType,
  readSenderInfo,
  type SenderInfo,
  writeNack,
  writePli,
  writeReceiverReport,
  writeRtcpHeader,
} from "../../gateway/rtp/rtcp.js";
import { writeTransportCc } from "../../gateway/rtp/transport-cc.js";
import { FAKE_CLOSE_NOTIFY, FAKE_FINISHED, FAKE_HELLO } from "./rtc-fakes.js";

export type ReceivedPacket = {
  /** Unwrapped. */
  readonly sequenceNumber: number;
  readonly timestamp: number;
  readonly marker: boolean;
  readonly payloadType: number;
  readonly payload: Buffer;
  readonly extension: Buffer | undefined;
  readonly at: number;
  readonly isRetransmission: boolean;
};

export type PeerOptions = {
  readonly clock: Clock;
  /** The gateway's answer. */
  readonly answer: string;
  /** `ice-ufrag` of the offer. */
  readonly usernameFragment: string;
  readonly send: (datagram: Buffer) => void;
  /** Asks for missing packets. Default true. */
  readonly nacks?: boolean;
  /** Tells of each packet's arrival by transport-wide feedback, ten times a second. Default false. */
  readonly transportCc?: boolean;
};

export class PeerTrack {
  readonly packets = new Map<number, ReceivedPacket>();
  highest = -1;
  lowest = -1;
  report: (SenderInfo & { readonly at: number }) | undefined;
  readonly reports: SenderInfo[] = [];
  lastReportId = 0;

  constructor(
    readonly ssrc: number,
    readonly rtxSsrc: number,
  ) {}

  get missing(): number[] {
    const missing: number[] = [];
    for (let number = this.lowest; number < this.highest; number++) if (!this.packets.has(number)) missing.push(number);
    return missing;
  }

  /** In order of sequence numbers. */
  get inOrder(): ReceivedPacket[] {
    return [...this.packets.values()].sort((a, b) => a.sequenceNumber - b.sequenceNumber);
  }
}

export class TestPeer {
  readonly video: PeerTrack | undefined;
  readonly audio: PeerTrack | undefined;
  state: "checking" | "handshake" | "connected" | "closed" = "checking";
  connectedAt = Number.NaN;
  byes = 0;
  duplicates = 0;
  errorCode: number | undefined;
  readonly #options: PeerOptions;
  readonly #remoteFragment: string;
  readonly #password: string;
  readonly #reader = new RtcpReader();
  readonly #timers = new Set<TimerHandle>();
  #reportNumber = 0;
  readonly #transportCcId: number;
  /** Arrivals by transport-wide number, unwrapped, that no feedback has told of. */
  readonly #arrivals = new Map<number, number>();
  #transportHighest = -1;
  #transportTold = -1;
  #feedbacks = 0;

  constructor(options: PeerOptions) {
    this.#options = options;
    this.#remoteFragment = /a=ice-ufrag:(\S+)/.exec(options.answer)?.[1] ?? "";
    this.#transportCcId = Number(/a=extmap:(\d+) \S*transport-wide-cc/.exec(options.answer)?.[1] ?? 0);
    this.#password = /a=ice-pwd:(\S+)/.exec(options.answer)?.[1] ?? "";
    for (const section of options.answer.split(/^m=/m).slice(1)) {
      const ssrcs = [...section.matchAll(/a=ssrc:(\d+) cname/g)].map((match) => Number(match[1]));
      const track = new PeerTrack(ssrcs[0] ?? 0, ssrcs[1] ?? 0);
      if (section.startsWith("video")) this.video = track;
      else this.audio = track;
    }
  }

  start(): void {
    this.check();
    this.#every(50, () => {
      if (this.state === "checking") this.check();
      else if (this.state === "handshake") this.#options.send(FAKE_HELLO);
    });
    this.#every(2_500, () => this.check());
    this.#every(20, () => {
      if (this.state === "connected" && this.#options.nacks !== false) this.#askForMissing();
    });
    if (this.#options.transportCc === true) this.#every(100, () => this.#tellArrivals());
    this.#every(1_000, () => {
      if (this.state === "connected") this.report();
    });
  }

  /** Vanishes without a word. */
  stop(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }

  check(options: { useCandidate?: boolean; password?: string; role?: "controlling" | "controlled" } = {}): void {
    this.#options.send(
      writeBindingRequest({
        transactionId: randomBytes(12),
        username: `${this.#remoteFragment}:${this.#options.usernameFragment}`,
        password: options.password ?? this.#password,
        priority: 0x6e0001ff,
        role: options.role ?? "controlling",
        tieBreaker: 1n,
        useCandidate: options.useCandidate ?? true,
      }),
    );
  }

  closeNotify(): void {
    this.#options.send(FAKE_CLOSE_NOTIFY);
  }

  pictureLoss(): void {
    const out = Buffer.alloc(12);
    this.#options.send(out.subarray(0, writePli(out, 0, 1, this.video?.ssrc ?? 0)));
  }

  nack(track: PeerTrack, numbers: readonly number[]): void {
    const out = Buffer.alloc(12 + numbers.length * 4);
    this.#options.send(Buffer.from(out.subarray(0, writeNack(out, 0, this.#reportNumber++, track.ssrc, numbers))));
  }

  report(): void {
    const out = Buffer.alloc(200);
    const blocks = [this.video, this.audio].flatMap((track) => {
      if (track === undefined || track.highest < 0) return [];
      const block = new ReportBlock();
      block.ssrc = track.ssrc;
      block.highestSequence = track.highest;
      block.cumulativeLost = track.missing.length;
      block.lastSenderReport = track.lastReportId;
      block.delaySinceLast = track.report === undefined ? 0 : ((this.#options.clock.now() - track.report.at) * 65536) / 1000;
      return [block];
    });
    this.#options.send(Buffer.from(out.subarray(0, writeReceiverReport(out, 0, ++this.#reportNumber, blocks))));
  }

  receive(datagram: Buffer): void {
    const first = datagram[0] ?? 0;
    if (first < 4) this.#receiveStun(datagram);
    else if (datagram.equals(FAKE_FINISHED)) this.#connected();
    else if (datagram.equals(FAKE_CLOSE_NOTIFY)) this.state = "closed";
    else if (first >= 128 && (datagram[1] ?? 0) >= 192 && (datagram[1] ?? 0) <= 223) this.#receiveRtcp(datagram);
    else if (first >= 128) this.#receiveRtp(datagram);
  }

  #connected(): void {
    if (this.state === "connected") return;
    this.state = "connected";
    this.connectedAt = this.#options.clock.now();
  }

  #receiveStun(datagram: Buffer): void {
    const message = parseStun(datagram);
    if (message?.class === "error") this.errorCode = message.errorCode;
    if (message?.class !== "success" || this.state !== "checking") return;
    this.state = "handshake";
    this.#options.send(FAKE_HELLO);
  }

  #receiveRtcp(datagram: Buffer): void {
    if (!this.#reader.open(datagram)) throw new Error("the gateway sent broken RTCP");
    while (this.#reader.next()) {
      if (this.#reader.packetType === RtcpType.bye) this.byes++;
      if (this.#reader.packetType !== RtcpType.senderReport) continue;
      const info = readSenderInfo(this.#reader);
      const track = [this.video, this.audio].find((other) => other?.ssrc === this.#reader.senderSsrc);
      if (info === undefined || track === undefined) continue;
      track.report = { ...info, at: this.#options.clock.now() };
      track.reports.push(info);
      track.lastReportId = ntpMiddle(info.wallTime);
      const raw = ((datagram.readUInt16BE(this.#reader.start + 10) << 16) | datagram.readUInt16BE(this.#reader.start + 12)) >>> 0;
      track.lastReportId = raw;
    }
  }

  #receiveRtp(datagram: Buffer): void {
    const ssrc = datagram.readUInt32BE(8);
    const hasExtension = ((datagram[0] ?? 0) & 0x10) !== 0;
    const extensionSize = hasExtension ? 4 + datagram.readUInt16BE(14) * 4 : 0;
    if (hasExtension && this.#options.transportCc === true) this.#noteArrival(datagram.subarray(16, 12 + extensionSize));
    let payload = datagram.subarray(12 + extensionSize);
    let low = datagram.readUInt16BE(2);
    const isRtx = ssrc === this.video?.rtxSsrc && ssrc !== 0;
    const track = isRtx ? this.video : [this.video, this.audio].find((other) => other?.ssrc === ssrc);
    if (track === undefined) return;
    if (isRtx) {
      low = payload.readUInt16BE(0);
      payload = payload.subarray(2);
    }
    const sequenceNumber = track.highest < 0 ? low : track.highest + (((low - track.highest) << 16) >> 16);
    if (track.packets.has(sequenceNumber)) {
      this.duplicates++;
      return;
    }
    track.packets.set(sequenceNumber, {
      sequenceNumber,
      timestamp: datagram.readUInt32BE(4),
      marker: ((datagram[1] ?? 0) & 0x80) !== 0,
      payloadType: (datagram[1] ?? 0) & 0x7f,
      payload: Buffer.from(payload),
      extension: hasExtension ? Buffer.from(datagram.subarray(12, 12 + extensionSize)) : undefined,
      at: this.#options.clock.now(),
      isRetransmission: isRtx || sequenceNumber < track.highest,
    });
    if (track.lowest < 0 || sequenceNumber < track.lowest) track.lowest = sequenceNumber;
    track.highest = Math.max(track.highest, sequenceNumber);
  }

  /** @param block one-byte header extensions (RFC 8285 section 4.2) */
  #noteArrival(block: Buffer): void {
    for (let at = 0; at < block.length; ) {
      const head = block[at] ?? 0;
      if (head === 0) {
        at++;
        continue;
      }
      if (head >> 4 === this.#transportCcId) {
        const low = block.readUInt16BE(at + 1);
        const highest = this.#transportHighest;
        const number = highest < 0 ? low : highest + (((low - highest) << 16) >> 16);
        this.#transportHighest = Math.max(highest, number);
        if (this.#transportTold < 0) this.#transportTold = number - 1;
        if (number > this.#transportTold) this.#arrivals.set(number, this.#options.clock.now());
      }
      at += 2 + (head & 15);
    }
  }

  #tellArrivals(): void {
    const first = this.#transportTold + 1;
    if (this.state !== "connected" || this.#transportHighest < first) return;
    const last = Math.min(this.#transportHighest, first + 400);
    const arrivals: number[] = [];
    for (let number = first; number <= last; number++) {
      const at = this.#arrivals.get(number);
      this.#arrivals.delete(number);
      arrivals.push(at === undefined ? -1 : Math.round(at * 4));
    }
    this.#transportTold = last;
    const out = Buffer.alloc(2000);
    const end = writeTransportCc(out, 12, first, this.#feedbacks++ & 0xff, arrivals);
    const size = (end + 3) & ~3;
    writeRtcpHeader(out, 0, FeedbackFormat.transportCc, RtcpType.transportFeedback, size, 1);
    out.writeUInt32BE(this.video?.ssrc ?? 0, 8);
    this.#options.send(Buffer.from(out.subarray(0, size)));
  }

  #askForMissing(): void {
    const { video } = this;
    if (video === undefined) return;
    const missing = video.missing;
    if (missing.length > 0) this.nack(video, missing.slice(0, 200));
  }

  #every(interval: number, callback: () => void): void {
    const { clock } = this.#options;
    let handle: TimerHandle;
    const again = (): void => {
      this.#timers.delete(handle);
      handle = clock.after(interval, again);
      this.#timers.add(handle);
      callback();
    };
    handle = clock.after(interval, again);
    this.#timers.add(handle);
  }
}
