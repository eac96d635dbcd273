// What one viewer's tracks share on their way out: the egress port, transport-wide numbers, and counters.

import type { PacketLane } from "../hub/types.js";
import { HeaderExtension } from "../rtp/header-extension.js";
import type { MediaPacket } from "../rtp/packet.js";
import { PathBudget } from "../rtp/path-budget.js";
import { TrackSender } from "../rtp/sender.js";
import { TransportCcSender } from "../rtp/transport-cc.js";
import type { Egress, EgressPort } from "./egress.js";
import type { NegotiatedTrack } from "./sdp-answer.js";

/** Playout delay 0 to 0: show squeezed pictures at once. */
export const CATCH_UP_DELAY = 0x000_000;
/** 0 to 40 s: the viewer's own choice, for as little delay as the path allows. */
export const OWN_DELAY = 0x000_fff;
/**
 * 160 ms to 40 s, for pictures whose sound has come through a transcoder: a browser holds such sound for about that long, and would
 * hold the pictures too, but only get there step by step in the viewer's first 20 s, lips ahead of the sound meanwhile.
 */
export const TRANSCODED_SOUND_DELAY = 0x010_fff;

/** One of our tracks: its numbering and its header extensions. */
export class OutgoingTrack {
  readonly sender: TrackSender;
  readonly extension: HeaderExtension;
  /** True once the viewer has had a packet with its mid and its lasting playout delay: neither need be said any more. */
  isIntroduced = false;
  /** Number of the first packet that said them; -1 while there is none. */
  introducedBy = -1;

  constructor(track: NegotiatedTrack, random: () => number) {
    this.sender = new TrackSender(track, random);
    this.extension = new HeaderExtension(track.extensions, track.mid);
  }

  /** The mid and another playout delay are to be said. */
  introduceAgain(): void {
    this.isIntroduced = false;
    this.introducedBy = -1;
  }

  /** @param highest sequence number in a report of the viewer */
  acknowledged(highest: number): void {
    if (this.introducedBy !== -1 && ((highest - this.introducedBy - INTRODUCTIONS) & 0xffff) < 0x8000) this.isIntroduced = true;
  }
}

export class Outgoing {
  readonly egress: Egress;
  readonly transportCc: TransportCcSender | undefined;
  readonly budget = new PathBudget();
  /** Number on the lane of the newest video key frame sent: on a path that is full, nothing older is worth sending again. */
  videoFrom = 0;
  packets = 0;
  bytes = 0;
  /** When the first packet of media went out; -1 before. */
  mediaAt = -1;
  /** Packets that found the send queue full. */
  dropped = 0;
  /** Playout delay that is said once the viewer is live. */
  readonly lastingDelay: number;
  readonly #lane: PacketLane;
  #port: EgressPort | undefined;

  /** @param isNumbered whether any track's packets carry transport-wide numbers */
  constructor(egress: Egress, lane: PacketLane, isNumbered: boolean, lastingDelay = OWN_DELAY) {
    this.egress = egress;
    this.lastingDelay = lastingDelay;
    this.#lane = lane;
    this.transportCc = isNumbered ? new TransportCcSender() : undefined;
  }

  get isOpen(): boolean {
    return this.#port !== undefined;
  }

  /** Milliseconds that the oldest of what the viewer has not taken has waited (TCP only). */
  get lag(): number {
    return this.#port?.lag ?? 0;
  }

  open(port: EgressPort): void {
    this.#port = port;
  }

  /** The port itself is the session's to close. */
  close(): void {
    this.#port = undefined;
  }

  /**
   * @param timestampDelta added to the packet's RTP time
   * @param playoutDelay said as long as the track is being introduced
   * @param payloadType default the track's own
   * @returns bytes on the wire, 0 when the send queue is full
   */
  send(
    now: number,
    track: OutgoingTrack,
    packet: MediaPacket,
    staged: number,
    timestampDelta: number,
    playoutDelay: number,
    payloadType = track.sender.track.payloadType,
  ): number {
    const port = this.#port;
    if (port === undefined) return 0;
    const { sender, extension } = track;
    const number = sender.assign(now, packet.sequenceNumber, timestampDelta);
    const timestamp = packet.timestamp + timestampDelta;
    const firstWord = (packet.marker ? 0x80 : 0) | payloadType;
    const cc = extension.isNumbered ? this.transportCc : undefined;
    const transportNumber = cc === undefined ? 0 : cc.next();
    const block = track.isIntroduced ? extension.plain(transportNumber) : extension.full(transportNumber, playoutDelay);
    if (playoutDelay === this.lastingDelay && track.introducedBy === -1) track.introducedBy = number;
    const size = port.sendRtp(staged, firstWord, number, timestamp + sender.timestampOffset, sender.track.ssrc, block, -1);
    sender.sent(packet.payload.length, timestamp);
    if (cc !== undefined) cc.sent(now, size);
    this.budget.sent(now, size);
    this.#count(size);
    if (this.mediaAt === -1 && size > 0) this.mediaAt = now;
    return size;
  }

  /** Answers one sequence number of a NACK, if the packet is still there and its time has come. */
  resend(now: number, track: OutgoingTrack, low: number): void {
    const port = this.#port;
    if (port === undefined) return;
    const { sender, extension } = track;
    sender.statistics.nacks++;
    const number = sender.unwrap(low);
    const sourceNumber = number === -1 ? -1 : sender.sourceNumberOf(number);
    const packet = sourceNumber === -1 ? undefined : this.#lane.find(sender.track.kind, sourceNumber);
    if (packet === undefined) {
      sender.statistics.notFound++;
      return;
    }
    const isStale = sender.track.kind === "video" && sourceNumber < this.videoFrom && this.budget.capacity !== undefined;
    if (isStale || !sender.mayResend(now, number)) return;
    sender.statistics.resent++;
    const { track: ids } = sender;
    const usesRtx = ids.rtxPayloadType !== -1;
    const cc = extension.isNumbered ? this.transportCc : undefined;
    const transportNumber = cc === undefined ? 0 : cc.next();
    const size = port.sendRtp(
      this.egress.stage(packet.payload),
      (packet.marker ? 0x80 : 0) | (usesRtx ? ids.rtxPayloadType : ids.payloadType),
      usesRtx ? sender.nextRtxSequenceNumber++ : number,
      packet.timestamp + sender.timestampDeltaOf(number) + sender.timestampOffset,
      usesRtx ? ids.rtxSsrc : ids.ssrc,
      // Without RTX this must be what the packet carried at first; see `headerMayVary` where it is agreed on.
      usesRtx ? extension.full(transportNumber, this.lastingDelay) : extension.plain(transportNumber),
      usesRtx ? number & 0xffff : -1,
    );
    if (cc !== undefined) cc.sent(now, size);
    this.budget.sent(now, size);
    this.#count(size);
  }

  /** @param compound is copied at once */
  sendRtcp(compound: Buffer): void {
    if (this.#port !== undefined) this.#count(this.#port.sendRtcp(compound));
  }

  #count(size: number): void {
    if (size === 0) this.dropped++;
    this.packets++;
    this.bytes += size;
  }
}

const INTRODUCTIONS = 5; // packets that say it, in case one is lost
