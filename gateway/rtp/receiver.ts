// The receiving side of one RTP track: order, losses and their repair, and the report about them. An engine: time is handed in.

import type { RtpHeader } from "./header.js";
import { NackGenerator } from "./nack-generator.js";
import { PayloadStore } from "./payload-store.js";
import { ReceiveLog } from "./receive-log.js";
import { ReceivedPacket } from "./received-packet.js";
import { RedundantBlocks } from "./redundancy.js";
import { ReorderWindow } from "./reorder.js";
import { FIRST_TIMESTAMP_CYCLE, unwrapSequence, unwrapTimestamp } from "./unwrap.js";

export type RtpReceiverOptions = {
  /** Of the media packets. */
  readonly ssrc: number;
  readonly clockRate: number;
  /**
   * Missing packets are asked for, and waited for as long as it makes sense; they come again by RTX, or in the source's own
   * numbering (`nack`), or not at all.
   */
  readonly repair: "rtx" | "nack" | "none";
  /** Bytes of memory that payloads share. Default 32 KiB: half a second of video. */
  readonly chunkSize?: number;
  /** Packets in order. Must not throw. */
  readonly onPacket: (packet: ReceivedPacket) => void;
  /** Numbers (unwrapped, ascending) to ask for again; valid during the call only. */
  readonly onNack: (sequenceNumbers: readonly number[]) => void;
  /** So much is missing that asking for single packets is no use. */
  readonly onOutage: () => void;
};

/** What a receiver report says of this source (RFC 3550 section 6.4.1), as `ReportBlock` has it. */
export type ReceptionReport = {
  readonly ssrc: number;
  readonly fractionLost: number;
  readonly cumulativeLost: number;
  readonly highestSequence: number;
  readonly jitter: number;
  readonly lastSenderReport: number;
  readonly delaySinceLast: number;
};

export class RtpReceiver {
  readonly ssrc: number;
  readonly statistics = { packets: 0, bytes: 0, repaired: 0, redundant: 0, abandoned: 0, malformed: 0 };
  readonly #options: RtpReceiverOptions;
  readonly #log: ReceiveLog;
  readonly #reorder = new ReorderWindow();
  readonly #nacks = new NackGenerator();
  readonly #payloads: PayloadStore;
  readonly #due: number[] = [];
  readonly #blocks = new RedundantBlocks();
  #timestamp = -1;
  #lastSenderReport = 0;
  #lastSenderReportAt = 0;

  constructor(options: RtpReceiverOptions) {
    this.ssrc = options.ssrc;
    this.#options = options;
    this.#log = new ReceiveLog(options.clockRate);
    this.#payloads = new PayloadStore(options.chunkSize ?? CHUNK_SIZE);
  }

  /** Packets that never came, and those that came by retransmission only. */
  get lost(): number {
    return this.#log.lost;
  }

  get expected(): number {
    return this.#log.expected;
  }

  get duplicates(): number {
    return this.#log.duplicates;
  }

  /** Milliseconds. */
  get jitter(): number {
    return (this.#log.jitter * 1000) / this.#options.clockRate;
  }

  /** Milliseconds from a request for a packet to its answer. */
  get roundTrip(): number {
    return this.#nacks.roundTrip;
  }

  /** Numbers asked for again, repeats counted. */
  get nacked(): number {
    return this.#nacks.requested;
  }

  /** Unwrapped RTP time of the latest packet, -1 before the first. */
  get timestamp(): number {
    return this.#timestamp;
  }

  /** A round trip to the sender that was measured elsewhere, in ms. */
  setRoundTrip(milliseconds: number): void {
    this.#nacks.measured(milliseconds);
  }

  /** Takes a packet of the source itself. Its payload is copied. */
  receive(now: number, header: RtpHeader): void {
    this.#receive(now, header, header.payloadStart);
  }

  /**
   * Takes a packet that carries earlier frames too (RFC 2198): those that are missing are no longer.
   *
   * @param payloadType of the blocks that count
   */
  receiveRedundant(now: number, header: RtpHeader, payloadType: number): void {
    const blocks = this.#blocks;
    const { bytes } = header;
    if (!blocks.read(bytes, header.payloadStart, header.payloadEnd) || blocks.primaryPayloadType !== payloadType) {
      this.statistics.malformed += 1;
      return;
    }
    const { count, starts } = blocks;
    if (!this.#receive(now, header, starts[count] as number)) return;
    const latest = this.#log.sequenceNumber;
    for (let index = count - 1; index >= 0; index--) {
      const number = latest - (count - index); // each block was a packet of its own, one before the next
      const [start, end] = [starts[index] as number, starts[index + 1] as number];
      if (blocks.payloadTypes[index] !== payloadType || start === end || this.#log.repair(number) === "known") continue;
      this.statistics.redundant += 1;
      this.#nacks.arrived(now, number, "direct");
      const timestamp = unwrapTimestamp(header.timestamp, this.#timestamp) - (blocks.timestampOffsets[index] as number);
      this.#deliver(now, number, timestamp, false, bytes.subarray(start, end), "repaired");
    }
  }

  /** @returns false when the packet is not taken for one of the source's */
  #receive(now: number, header: RtpHeader, payloadStart: number): boolean {
    const before = this.#log.highest;
    const arrival = this.#log.add(header.sequenceNumber);
    if (arrival === "suspect") {
      this.statistics.malformed += 1;
      return false;
    }
    this.statistics.packets += 1;
    this.statistics.bytes += header.payloadEnd - header.payloadStart;
    if (arrival === "duplicate") return true;
    const number = this.#log.sequenceNumber;
    const timestamp = this.#unwrapTime(header.timestamp);
    const repaired = arrival === "late" && this.#options.repair === "nack"; // or merely reordered: that cannot be told
    if (!repaired) this.#log.time(now, timestamp);
    if (arrival === "restart") this.#restart(number);
    else if (arrival === "gap") this.#onGap(now, before + 1, number);
    else if (arrival === "late") this.#nacks.arrived(now, number, repaired ? "maybe-repaired" : "direct");
    const payload = header.bytes.subarray(payloadStart, header.payloadEnd);
    this.#deliver(now, number, timestamp, header.marker, payload, repaired ? "repaired" : "direct");
    return true;
  }

  /** Takes a retransmission (RFC 4588 section 4): the payload begins with the original sequence number. */
  receiveRetransmission(now: number, header: RtpHeader): void {
    const start = header.payloadStart + 2;
    if (start > header.payloadEnd) return; // padding sent to probe the path
    if (this.#log.highest === -1) return;
    const number = unwrapSequence(header.bytes.readUInt16BE(header.payloadStart), this.#log.highest);
    if (this.#log.repair(number) === "known") return;
    this.statistics.repaired += 1;
    this.#nacks.arrived(now, number, "repaired");
    const timestamp = unwrapTimestamp(header.timestamp, this.#timestamp);
    this.#deliver(now, number, timestamp, header.marker, header.bytes.subarray(start, header.payloadEnd), "repaired");
  }

  /** Notes a sender report: the middle 32 bits of its NTP time, to be echoed. */
  onSenderReport(now: number, ntpMiddle: number): void {
    this.#lastSenderReport = ntpMiddle;
    this.#lastSenderReportAt = now;
  }

  /** The report since the last one. Undefined before the first packet. */
  report(now: number): ReceptionReport | undefined {
    const log = this.#log;
    if (log.highest === -1) return undefined;
    const delay = this.#lastSenderReport === 0 ? 0 : Math.round(((now - this.#lastSenderReportAt) * 65_536) / 1000);
    return {
      ssrc: this.ssrc,
      fractionLost: log.takeFractionLost(),
      cumulativeLost: Math.max(-0x800000, Math.min(0x7fffff, log.lost)),
      highestSequence: (log.highest - 0x10000) % 0x100000000, // the log begins one cycle up
      jitter: Math.round(log.jitter),
      lastSenderReport: this.#lastSenderReport,
      delaySinceLast: Math.max(0, Math.min(0xffffffff, delay)),
    };
  }

  onTimeout(now: number): void {
    this.#giveUp(now);
    this.#request(now);
  }

  nextTimeout(): number {
    const blockedSince = this.#reorder.blockedSince;
    const giveUp = blockedSince === undefined ? Number.POSITIVE_INFINITY : blockedSince + this.#patience;
    return Math.min(giveUp, this.#nacks.nextTimeout());
  }

  /** Milliseconds that a missing packet is waited for. */
  get #patience(): number {
    if (this.#options.repair === "none") return REORDER_PATIENCE;
    return Math.min(MAX_PATIENCE, Math.max(MIN_PATIENCE, PATIENCE_ROUND_TRIPS * this.#nacks.roundTrip));
  }

  #unwrapTime(low: number): number {
    this.#timestamp = this.#timestamp === -1 ? FIRST_TIMESTAMP_CYCLE + low : unwrapTimestamp(low, this.#timestamp);
    return this.#timestamp;
  }

  #deliver(now: number, number: number, timestamp: number, marker: boolean, payload: Buffer, path: "direct" | "repaired"): void {
    if (number < this.#reorder.next) return; // given up before
    const copy = this.#payloads.copy(payload, 0, payload.length); // the bytes are the caller's
    this.#reorder.push(now, new ReceivedPacket(number, timestamp, marker, copy, now, path));
    this.#release();
    if (this.#reorder.held > 0) this.#giveUp(now);
    if (this.#nacks.pending > 0) this.#request(now);
  }

  #onGap(now: number, from: number, to: number): void {
    if (this.#options.repair === "none") return;
    if (this.#nacks.lost(now, from, to)) return;
    this.#options.onOutage();
    this.#releaseAll(to);
  }

  #restart(number: number): void {
    this.#nacks.clear();
    this.#releaseAll(number);
  }

  /** Lets go all that waits, and goes on with this number. */
  #releaseAll(next: number): void {
    while (this.#reorder.held > 0) {
      this.#release();
      if (this.#reorder.held > 0) this.#reorder.giveUp(Number.POSITIVE_INFINITY, 0);
    }
    this.#reorder.skipTo(next);
  }

  #release(): void {
    for (let packet = this.#reorder.pop(); packet !== undefined; packet = this.#reorder.pop()) this.#options.onPacket(packet);
  }

  #giveUp(now: number): void {
    for (;;) {
      const abandoned = this.#reorder.giveUp(now, this.#patience);
      if (abandoned === 0) return;
      this.statistics.abandoned += abandoned;
      this.#nacks.forgetBelow(this.#reorder.next);
      this.#release();
    }
  }

  #request(now: number): void {
    this.#due.length = 0;
    this.#nacks.takeDue(now, this.#due);
    if (this.#due.length > 0) this.#options.onNack(this.#due);
  }
}

const CHUNK_SIZE = 32 * 1024;
const REORDER_PATIENCE = 30; // ms for tracks without repair: what a network reorders comes within that
const MIN_PATIENCE = 150; // ms
const MAX_PATIENCE = 500; // ms: after that a key frame is the quicker way
const PATIENCE_ROUND_TRIPS = 6; // five requests: at 10 % loss both ways one packet in 4,000 stays lost
