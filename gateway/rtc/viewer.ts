// The media side of a viewer (WHEP): live packets of the stream's lane under the viewer's own numbers, catch-up on joining,
// retransmission, sender reports, and what the viewer reports.

import type { PacketBatch, PacketLane } from "../hub/types.js";
import { CatchUp } from "../rtp/catch-up.js";
import { HeaderExtension } from "../rtp/header-extension.js";
import type { MediaPacket } from "../rtp/packet.js";
import {
  FeedbackFormat,
  firNames,
  REPORT_BLOCK_SIZE,
  ReportBlock,
  RtcpReader,
  RtcpType,
  readReferenceTime,
  readReportBlock,
  writeBye,
  writeDelaySinceReference,
  writeSenderReport,
  writeSourceDescription,
} from "../rtp/rtcp.js";
import { TrackSender } from "../rtp/sender.js";
import { TransportCcSender } from "../rtp/transport-cc.js";
import type { Egress, EgressPort } from "./egress.js";
import type { MediaSide, MediaStatistics } from "./media-side.js";
import type { NegotiatedTrack } from "./sdp-answer.js";

export type ViewerOptions = {
  readonly audio: NegotiatedTrack | undefined;
  readonly video: NegotiatedTrack | undefined;
  readonly lane: PacketLane;
  readonly egress: Egress;
  readonly cname: string;
  /** 32 random bits at each call. */
  readonly random: () => number;
  /** Milliseconds since 1970 at a time of the engine's clock. */
  readonly wallTimeAt: (now: number) => number;
};

/**
 * How video gets on: `waiting` for a key frame, `catching-up` with the group of pictures that is under way, `live`.
 * Audio is live from the start.
 */
type VideoState = "idle" | "waiting" | "catching-up" | "live";

export class Viewer implements MediaSide {
  readonly #options: ViewerOptions;
  readonly #audio: OutgoingTrack | undefined;
  readonly #video: OutgoingTrack | undefined;
  readonly #transportCc: TransportCcSender | undefined;
  #port: EgressPort | undefined;

  #videoState: VideoState = "idle";
  #catchUp: CatchUp | undefined;
  #catchUpCredit = 0;
  #catchUpRate = 0;
  #catchUpAt = 0;
  #catchUpSlowed = Number.NEGATIVE_INFINITY;
  #catchUpStarted = Number.NEGATIVE_INFINITY;
  #catchUpDone = Number.NEGATIVE_INFINITY;
  #lastKeyFrame = Number.NEGATIVE_INFINITY;
  /** When a key frame is asked for again, or a lost viewer gets the group once more. */
  #keyFrameDue = Number.POSITIVE_INFINITY;

  #reportDue = Number.POSITIVE_INFINITY;
  #reports = 0;
  #referenceTime = 0;
  #referenceFrom = 0;
  #referenceAt = 0;

  #packets = 0;
  #bytes = 0;
  #dropped = 0;
  #plis = 0;
  #bitrate = 0;
  #bitrateBytes = 0;
  #bitrateSince = 0;

  constructor(options: ViewerOptions) {
    this.#options = options;
    const { audio, video, random } = options;
    this.#audio = audio === undefined ? undefined : new OutgoingTrack(audio, random);
    this.#video = video === undefined ? undefined : new OutgoingTrack(video, random);
    const numbered = this.#audio?.extension.isNumbered === true || this.#video?.extension.isNumbered === true;
    this.#transportCc = numbered ? new TransportCcSender() : undefined;
  }

  start(now: number, port: EgressPort): void {
    this.#port = port;
    this.#bitrateSince = now;
    this.#sendReports(now);
    if (this.#video !== undefined) this.#beginVideo(now);
  }

  /**
   * Live packets, in their order; the lane's history holds them already.
   *
   * @param staged what `Egress.stage` gave for each of them
   */
  write(now: number, batch: PacketBatch, staged: readonly number[]): void {
    const port = this.#port;
    if (port === undefined) return;
    for (let index = 0; index < batch.length; index++) {
      const packet = batch[index] as MediaPacket;
      const stage = staged[index] as number;
      if (packet.kind === "audio") {
        if (this.#audio !== undefined) this.#send(now, port, this.#audio, packet, stage, 0, AFTER_CATCH_UP_DELAY);
        continue;
      }
      const video = this.#video;
      if (video === undefined) continue;
      if (packet.startsKeyFrame) {
        this.#lastKeyFrame = now;
        if (this.#videoState === "waiting") this.#goLive();
      }
      if (this.#videoState === "live") this.#send(now, port, video, packet, stage, 0, AFTER_CATCH_UP_DELAY);
    }
  }

  /** A viewer sends no media. */
  rtp(): void {}

  rtcp(now: number, compound: Buffer): void {
    if (!READER.open(compound)) return;
    while (READER.next()) {
      switch (READER.packetType) {
        case RtcpType.senderReport:
        case RtcpType.receiverReport:
          this.#readReports(now);
          break;
        case RtcpType.transportFeedback:
          if (READER.count === FeedbackFormat.nack) this.#readNack(now);
          else if (READER.count === FeedbackFormat.transportCc) this.#transportCc?.feedback(READER);
          break;
        case RtcpType.payloadFeedback:
          this.#readPayloadFeedback(now);
          break;
        case RtcpType.extendedReport: {
          const reference = readReferenceTime(READER);
          if (reference === undefined) break;
          this.#referenceTime = reference;
          this.#referenceFrom = READER.senderSsrc;
          this.#referenceAt = now;
          break;
        }
      }
    }
  }

  onTimeout(now: number): void {
    if (this.#port === undefined) return;
    if (now >= this.#reportDue) this.#sendReports(now);
    if (this.#videoState === "catching-up" && now >= this.#catchUpAt) this.#continueCatchUp(now, this.#port);
    if (now >= this.#keyFrameDue) this.#keyFrameOverdue(now);
  }

  nextTimeout(): number {
    if (this.#port === undefined) return Number.POSITIVE_INFINITY;
    const other = Math.min(this.#reportDue, this.#keyFrameDue);
    return this.#videoState === "catching-up" ? Math.min(other, this.#catchUpAt) : other;
  }

  close(): void {
    const port = this.#port;
    this.#port = undefined;
    this.#catchUp = undefined;
    if (port === undefined) return;
    const ssrcs = this.#ssrcs();
    let end = 0;
    if (this.#reports > 0) end = this.#writeReports(end, this.#lastReportWallTime);
    end = writeSourceDescription(SCRATCH, end, ssrcs, this.#options.cname);
    port.sendRtcp(SCRATCH.subarray(0, writeBye(SCRATCH, end, ssrcs)));
  }

  statistics(): MediaStatistics {
    const video = this.#video?.sender;
    const audio = this.#audio?.sender;
    const main = video ?? audio;
    return {
      rtt_ms: Math.round((main?.roundTripTime || audio?.roundTripTime || 0) * 10) / 10,
      loss: main?.fractionLost ?? 0,
      nacks: (video?.statistics.nacks ?? 0) + (audio?.statistics.nacks ?? 0),
      plis: this.#plis,
      bitrate: Math.round(this.#bitrate),
      packets: this.#packets,
      bytes: this.#bytes,
      resent: (video?.statistics.resent ?? 0) + (audio?.statistics.resent ?? 0),
      dropped: this.#dropped,
    };
  }

  // --- Sending

  #send(
    now: number,
    port: EgressPort,
    track: OutgoingTrack,
    packet: MediaPacket,
    staged: number,
    timestampDelta: number,
    playoutDelay: number,
  ): number {
    const { sender, extension } = track;
    const number = sender.assign(now, packet.sequenceNumber, timestampDelta);
    const timestamp = packet.timestamp + timestampDelta;
    const firstWord = (packet.marker ? 0x80 : 0) | sender.track.payloadType;
    const cc = extension.isNumbered ? this.#transportCc : undefined;
    const transportNumber = cc === undefined ? 0 : cc.next();
    const block = track.isIntroduced ? extension.plain(transportNumber) : extension.full(transportNumber, playoutDelay);
    if (playoutDelay === AFTER_CATCH_UP_DELAY && track.introducedBy === -1) track.introducedBy = number;
    const size = port.sendRtp(staged, firstWord, number, timestamp + sender.timestampOffset, sender.track.ssrc, block, -1);
    sender.sent(packet.payload.length, timestamp);
    if (cc !== undefined) cc.sent(now, size);
    this.#account(size);
    return size;
  }

  #account(size: number): void {
    if (size === 0) this.#dropped++;
    this.#packets++;
    this.#bytes += size;
    this.#bitrateBytes += size;
  }

  #resend(now: number, port: EgressPort, track: OutgoingTrack, low: number): void {
    const { sender, extension } = track;
    sender.statistics.nacks++;
    const number = sender.unwrap(low);
    const sourceNumber = number === -1 ? -1 : sender.sourceNumberOf(number);
    const packet = sourceNumber === -1 ? undefined : this.#options.lane.find(sender.track.kind, sourceNumber);
    if (packet === undefined) {
      sender.statistics.notFound++;
      return;
    }
    if (!sender.mayResend(now, number)) return;
    sender.statistics.resent++;
    const { track: ids } = sender;
    const usesRtx = ids.rtxPayloadType !== -1;
    const cc = extension.isNumbered ? this.#transportCc : undefined;
    const transportNumber = cc === undefined ? 0 : cc.next();
    const size = port.sendRtp(
      this.#options.egress.stage(packet.payload),
      (packet.marker ? 0x80 : 0) | (usesRtx ? ids.rtxPayloadType : ids.payloadType),
      usesRtx ? sender.nextRtxSequenceNumber++ : number,
      packet.timestamp + sender.timestampDeltaOf(number) + sender.timestampOffset,
      usesRtx ? ids.rtxSsrc : ids.ssrc,
      // Without RTX this must be what the packet carried at first; see `headerMayVary` where it is agreed on.
      usesRtx ? extension.full(transportNumber, AFTER_CATCH_UP_DELAY) : extension.plain(transportNumber),
      usesRtx ? number & 0xffff : -1,
    );
    if (cc !== undefined) cc.sent(now, size);
    this.#account(size);
  }

  // --- Joining

  #beginVideo(now: number): void {
    const { lane } = this.#options;
    const start = lane.keyFrameStart;
    if (start === undefined) {
      this.#videoState = "waiting"; // never from the middle of a group
      lane.requestKeyFrame("a viewer has joined");
      this.#keyFrameDue = now + KEY_FRAME_RETRY;
      return;
    }
    this.#startCatchUp(now, start);
  }

  #startCatchUp(now: number, start: number): void {
    const port = this.#port;
    const video = this.#video;
    if (port === undefined || video === undefined) return;
    const catchUp = new CatchUp(this.#options.lane, start, video.sender.lastTimestamp);
    this.#catchUp = catchUp;
    this.#videoState = "catching-up";
    this.#keyFrameDue = Number.POSITIVE_INFINITY;
    this.#catchUpStarted = now;
    this.#lastKeyFrame = now;
    video.isIntroduced = false;
    video.introducedBy = -1;
    this.#catchUpRate = Math.max(MIN_CATCH_UP_RATE, Math.min(MAX_CATCH_UP_RATE, catchUp.totalBytes / CATCH_UP_TIME));
    this.#catchUpCredit = Math.max(MIN_FIRST_BURST, Math.min(MAX_FIRST_BURST, catchUp.keyFrameBytes));
    this.#catchUpAt = now;
    this.#pump(now, port, video, catchUp);
  }

  #continueCatchUp(now: number, port: EgressPort): void {
    const catchUp = this.#catchUp;
    const video = this.#video;
    if (catchUp === undefined || video === undefined) return;
    const elapsed = Math.min(now - this.#catchUpAt + CATCH_UP_STEP, MAX_CATCH_UP_GAP);
    this.#catchUpCredit = Math.min(0, this.#catchUpCredit) + elapsed * this.#catchUpRate;
    this.#pump(now, port, video, catchUp);
  }

  #pump(now: number, port: EgressPort, video: OutgoingTrack, catchUp: CatchUp): void {
    const { egress } = this.#options;
    while (this.#catchUpCredit > 0) {
      const packet = catchUp.next();
      if (packet === undefined) break;
      let staged = egress.stage(packet.payload);
      if (staged === -1) {
        egress.flush(); // many viewers have joined in this turn
        staged = egress.stage(packet.payload);
      }
      const size = this.#send(now, port, video, packet, staged, catchUp.timestampDelta, CATCH_UP_DELAY);
      if (size === 0) {
        this.#catchUpCredit = 0; // the send queue is full: a NACK will bring this one back
        this.#catchUpRate = Math.max(MIN_CATCH_UP_RATE, this.#catchUpRate / 2);
      }
      this.#catchUpCredit -= packet.payload.length;
    }
    if (catchUp.state === "running") {
      this.#catchUpAt = now + CATCH_UP_STEP;
      return;
    }
    this.#catchUp = undefined;
    if (catchUp.state === "live") {
      this.#goLive();
      this.#catchUpDone = now;
    } else {
      this.#videoState = "idle";
      this.#beginVideo(now);
    }
  }

  #goLive(): void {
    this.#videoState = "live";
    this.#keyFrameDue = Number.POSITIVE_INFINITY;
  }

  /** The viewer cannot decode what it has. A source that can make a key frame is asked; else the group is sent once more. */
  #pictureLost(now: number): void {
    this.#plis++;
    if (this.#videoState !== "live" || now - this.#catchUpDone < PLI_GRACE) return;
    this.#options.lane.requestKeyFrame("a viewer has lost the picture");
    if (this.#keyFrameDue === Number.POSITIVE_INFINITY) this.#keyFrameDue = now + KEY_FRAME_PATIENCE;
  }

  #keyFrameOverdue(now: number): void {
    this.#keyFrameDue = Number.POSITIVE_INFINITY;
    const { lane } = this.#options;
    if (this.#videoState === "waiting") {
      this.#beginVideo(now);
      return;
    }
    if (this.#videoState !== "live" || now - this.#lastKeyFrame <= KEY_FRAME_PATIENCE) return;
    const start = lane.keyFrameStart;
    if (start === undefined) {
      this.#videoState = "waiting";
      this.#keyFrameDue = now + KEY_FRAME_RETRY;
    } else if (now - this.#catchUpStarted >= CATCH_UP_INTERVAL) {
      this.#startCatchUp(now, start);
    } else {
      this.#keyFrameDue = this.#catchUpStarted + CATCH_UP_INTERVAL;
    }
  }

  // --- Reports

  #lastReportWallTime = 0;

  #sendReports(now: number): void {
    const port = this.#port;
    if (port === undefined) return;
    const wallTime = this.#options.wallTimeAt(now);
    this.#lastReportWallTime = wallTime;
    let end = this.#writeReports(0, wallTime);
    end = writeSourceDescription(SCRATCH, end, this.#ssrcs(), this.#options.cname);
    const main = this.#video ?? this.#audio;
    if (this.#referenceTime !== 0 && main !== undefined) {
      const delay = ((now - this.#referenceAt) * 0x10000) / 1000;
      end = writeDelaySinceReference(SCRATCH, end, main.sender.track.ssrc, this.#referenceFrom, this.#referenceTime, delay);
      this.#referenceTime = 0;
    }
    this.#account(port.sendRtcp(SCRATCH.subarray(0, end)));
    this.#video?.sender.reportSent(now, wallTime);
    this.#audio?.sender.reportSent(now, wallTime);
    this.#reportDue = now + (EARLY_REPORTS[this.#reports] ?? REPORT_INTERVAL);
    this.#reports++;
    const elapsed = now - this.#bitrateSince;
    if (elapsed < REPORT_INTERVAL / 2) return;
    this.#bitrate = (this.#bitrateBytes * 8000) / elapsed;
    this.#bitrateBytes = 0;
    this.#bitrateSince = now;
  }

  /** One sender report per track, both for the same moment: that is what aligns lips. */
  #writeReports(at: number, wallTime: number): number {
    if (this.#video !== undefined) at = this.#writeReport(at, this.#video.sender, wallTime);
    if (this.#audio !== undefined) at = this.#writeReport(at, this.#audio.sender, wallTime);
    return at;
  }

  #writeReport(at: number, sender: TrackSender, wallTime: number): number {
    const timestamp = Math.round(this.#options.lane.timestampAt(sender.track.kind, wallTime)) + sender.timestampOffset;
    return writeSenderReport(SCRATCH, at, sender.track.ssrc, wallTime, timestamp, sender.packetCount, sender.octetCount);
  }

  #ssrcs(): number[] {
    const ssrcs: number[] = [];
    if (this.#video !== undefined) ssrcs.push(this.#video.sender.track.ssrc);
    if (this.#audio !== undefined) ssrcs.push(this.#audio.sender.track.ssrc);
    return ssrcs;
  }

  #trackOf(ssrc: number): OutgoingTrack | undefined {
    if (this.#video?.sender.track.ssrc === ssrc) return this.#video;
    return this.#audio?.sender.track.ssrc === ssrc ? this.#audio : undefined;
  }

  #readReports(now: number): void {
    const first = READER.reportsAt;
    if (first === -1) return;
    for (let index = 0; index < READER.count; index++) {
      readReportBlock(BLOCK, READER.bytes, first + index * REPORT_BLOCK_SIZE);
      const track = this.#trackOf(BLOCK.ssrc);
      if (track === undefined) continue;
      track.sender.reported(now, BLOCK);
      track.acknowledged(BLOCK.highestSequence);
    }
  }

  #readNack(now: number): void {
    const track = this.#trackOf(READER.mediaSsrc);
    const port = this.#port;
    if (track === undefined || port === undefined) return;
    if (track === this.#video && this.#videoState === "catching-up" && now - this.#catchUpSlowed >= CATCH_UP_SLOWDOWN) {
      this.#catchUpSlowed = now; // the burst is more than the path takes
      this.#catchUpRate = Math.max(MIN_CATCH_UP_RATE / 2, this.#catchUpRate * 0.7);
    }
    const { bytes, end } = READER;
    for (let at = READER.start + 12; at + 4 <= end; at += 4) {
      const first = bytes.readUInt16BE(at);
      this.#resend(now, port, track, first);
      let mask = bytes.readUInt16BE(at + 2);
      for (let distance = 1; mask !== 0; distance++, mask >>= 1) {
        if (mask & 1) this.#resend(now, port, track, (first + distance) & 0xffff);
      }
    }
  }

  #readPayloadFeedback(now: number): void {
    const video = this.#video;
    if (video === undefined) return;
    const { ssrc } = video.sender.track;
    if (
      READER.count === FeedbackFormat.pli
        ? READER.mediaSsrc === ssrc
        : READER.count === FeedbackFormat.fir && firNames(READER, ssrc)
    ) {
      this.#pictureLost(now);
    }
  }
}

/** One of our tracks: its numbering and its header extensions. */
class OutgoingTrack {
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

  /** @param highest sequence number in a report of the viewer */
  acknowledged(highest: number): void {
    if (this.introducedBy !== -1 && ((highest - this.introducedBy - INTRODUCTIONS) & 0xffff) < 0x8000) this.isIntroduced = true;
  }
}

const READER = new RtcpReader();
const BLOCK = new ReportBlock();
const SCRATCH = Buffer.alloc(1200); // reports are built here and copied by the egress at once

const INTRODUCTIONS = 5; // packets that say it, in case one is lost
const CATCH_UP_STEP = 5; // ms between two bursts
const CATCH_UP_TIME = 250; // ms in which a group should be through
const MIN_CATCH_UP_RATE = 2_500; // bytes per ms: 20 Mbit/s
const MAX_CATCH_UP_RATE = 12_500; // 100 Mbit/s
const CATCH_UP_SLOWDOWN = 20; // ms between two reductions of the rate
const MAX_CATCH_UP_GAP = 20; // ms of credit at most, after a late wake-up
const MIN_FIRST_BURST = 16_000; // bytes
const MAX_FIRST_BURST = 80_000; // what a default receive buffer of 208 KiB takes at once, overhead included
const CATCH_UP_INTERVAL = 3_000; // ms between two catch-ups of one viewer
const PLI_GRACE = 500; // ms after a catch-up in which a PLI speaks of the time before
const KEY_FRAME_PATIENCE = 300; // ms that a source has to answer a request
const KEY_FRAME_RETRY = 1_000; // ms
const REPORT_INTERVAL = 1_000; // ms
const EARLY_REPORTS: readonly number[] = [150, 350]; // a browser aligns lips from its second report on
const CATCH_UP_DELAY = 0x000_000; // playout delay 0 to 0: show squeezed pictures at once
const AFTER_CATCH_UP_DELAY = 0x000_fff; // 0 to 40 s: the viewer's own choice
