// One track on its way to one viewer: its own numbering over the stream's shared packets, sender reports, retransmission
// (RFC 3550, RFC 4588), and what the viewer reports back. Writes no packets itself: it says which numbers they get.

import type { MediaKind } from "./packet.js";
import { ntpMiddle, type ReportBlock } from "./rtcp.js";

export type SenderTrack = {
  readonly kind: MediaKind;
  readonly clockRate: number;
  readonly payloadType: number;
  /** -1 without RTX. */
  readonly rtxPayloadType: number;
  /** -1 without redundancy. */
  readonly redPayloadType: number;
  readonly ssrc: number;
  readonly rtxSsrc: number;
};

/** A run of packets whose numbers and times differ from the stream's by the same amounts. */
class Segment {
  constructor(
    readonly first: number,
    /** Our sequence number less the stream's. */
    readonly sequenceDelta: number,
    /** Our RTP time less the stream's, without the track's random offset. */
    readonly timestampDelta: number,
    readonly since: number,
  ) {}
}

export class TrackSender {
  readonly track: SenderTrack;
  /** Added to every RTP time: random (RFC 3550 section 5.1). */
  readonly timestampOffset: number;
  /** Next number on the wire, unwrapped. */
  nextSequenceNumber: number;
  nextRtxSequenceNumber: number;
  /** RTP time of the last packet sent, on the stream's clock plus the segment's delta; -Infinity before the first. */
  lastTimestamp = Number.NEGATIVE_INFINITY;
  packetCount = 0;
  octetCount = 0;
  /** From the viewer's last report: share lost since the one before (0 to 1), packets lost in all, jitter in ms. */
  fractionLost = 0;
  cumulativeLost = 0;
  jitter = 0;
  hasReport = false;
  /** Milliseconds, 0 while unknown. */
  roundTripTime = 0;
  readonly statistics = { nacks: 0, resent: 0, notFound: 0 };

  #segments: Segment[] = [];
  #resentNumbers: Float64Array | undefined;
  #resentAt: Float64Array | undefined;
  #resendCredit = INITIAL_RESEND_CREDIT;
  readonly #reportIds = new Float64Array(REPORTS_REMEMBERED);
  readonly #reportTimes = new Float64Array(REPORTS_REMEMBERED);
  #reportSlot = 0;

  /** @param random 32 random bits at each call */
  constructor(track: SenderTrack, random: () => number) {
    this.track = track;
    // Under 2^15: a viewer that misses the first packets must not guess another rollover counter (RFC 3711 section 3.3.1).
    this.nextSequenceNumber = random() & 0x7fff;
    this.nextRtxSequenceNumber = random() & 0x7fff;
    this.timestampOffset = random();
  }

  /**
   * Numbers a packet that is about to be sent.
   *
   * @param sourceNumber its number on the lane
   * @param timestampDelta added to its RTP time, 0 for live packets
   * @returns its sequence number on the wire, unwrapped
   */
  assign(now: number, sourceNumber: number, timestampDelta: number): number {
    const number = this.nextSequenceNumber++;
    const last = this.#segments[this.#segments.length - 1];
    const delta = number - sourceNumber;
    if (last === undefined || last.sequenceDelta !== delta || last.timestampDelta !== timestampDelta) {
      const segments = this.#segments;
      let stale = 0;
      while (stale + 1 < segments.length && (segments[stale + 1]?.since ?? 0) < now - RETENTION) stale++;
      if (stale > 0) segments.splice(0, stale);
      segments.push(new Segment(number, delta, timestampDelta, now));
    }
    return number;
  }

  /** Counts a packet that was sent. */
  sent(payloadSize: number, timestamp: number): void {
    this.packetCount++;
    this.octetCount += payloadSize;
    this.lastTimestamp = timestamp;
    if (this.#resendCredit < MAX_RESEND_CREDIT) this.#resendCredit++;
  }

  /** The newest number sent that has these low 16 bits, or -1. */
  unwrap(low: number): number {
    const next = this.nextSequenceNumber;
    const number = next - 1 - ((next - 1 - low) & 0xffff);
    const first = this.#segments[0];
    return first !== undefined && number >= first.first ? number : -1;
  }

  /**
   * Whether a packet asked for may be sent again now: once per round trip, and in the long run no more packets again than
   * were sent at first, so that a viewer cannot make us flood it.
   */
  mayResend(now: number, number: number): boolean {
    if (this.#resentNumbers === undefined || this.#resentAt === undefined) {
      this.#resentNumbers = new Float64Array(RESENDS_REMEMBERED).fill(-1);
      this.#resentAt = new Float64Array(RESENDS_REMEMBERED);
    }
    if (this.#resendCredit < 1) return false;
    const slot = number % RESENDS_REMEMBERED;
    const interval = this.roundTripTime === 0 ? DEFAULT_ROUND_TRIP : Math.max(MIN_RESEND_INTERVAL, this.roundTripTime);
    if (this.#resentNumbers[slot] === number && now - (this.#resentAt[slot] ?? 0) < interval) return false;
    this.#resentNumbers[slot] = number;
    this.#resentAt[slot] = now;
    this.#resendCredit--;
    return true;
  }

  /** The lane's number of a packet we sent, or -1 when that is no longer known. */
  sourceNumberOf(number: number): number {
    const segment = this.#segmentOf(number);
    return segment === undefined ? -1 : number - segment.sequenceDelta;
  }

  /** What was added to the packet's RTP time when it was sent. */
  timestampDeltaOf(number: number): number {
    return this.#segmentOf(number)?.timestampDelta ?? 0;
  }

  /** Notes a sender report on its way, so that its echo gives the round trip. */
  reportSent(now: number, wallTime: number): void {
    this.#reportSlot = (this.#reportSlot + 1) % REPORTS_REMEMBERED;
    this.#reportIds[this.#reportSlot] = ntpMiddle(wallTime);
    this.#reportTimes[this.#reportSlot] = now;
  }

  /** Takes the viewer's report on this track. */
  reported(now: number, block: ReportBlock): void {
    this.hasReport = true;
    this.fractionLost = block.fractionLost / 256;
    this.cumulativeLost = block.cumulativeLost;
    this.jitter = (block.jitter * 1000) / this.track.clockRate;
    if (block.lastSenderReport === 0) return;
    for (let slot = 0; slot < REPORTS_REMEMBERED; slot++) {
      if (this.#reportIds[slot] !== block.lastSenderReport) continue;
      const roundTrip = now - (this.#reportTimes[slot] ?? now) - (block.delaySinceLast * 1000) / 0x10000;
      if (roundTrip >= -1 && roundTrip < MAX_ROUND_TRIP) {
        const sample = Math.max(0.1, roundTrip);
        this.roundTripTime = this.roundTripTime === 0 ? sample : this.roundTripTime * 0.75 + sample * 0.25;
      }
      return;
    }
  }

  #segmentOf(number: number): Segment | undefined {
    for (let index = this.#segments.length - 1; index >= 0; index--) {
      const segment = this.#segments[index];
      if (segment !== undefined && segment.first <= number) return segment;
    }
    return undefined;
  }
}

const RETENTION = 5_000; // ms that numbers of packets sent in a burst stay known
const RESENDS_REMEMBERED = 512;
const DEFAULT_ROUND_TRIP = 50; // ms, while no report has told
const MIN_RESEND_INTERVAL = 10; // ms
const MAX_ROUND_TRIP = 60_000; // ms; more is a stale or made-up echo
const INITIAL_RESEND_CREDIT = 200; // packets
const MAX_RESEND_CREDIT = 4_000;
const REPORTS_REMEMBERED = 8;
