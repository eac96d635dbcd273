// The media side of a viewer (WHEP): live packets of the stream's lane under the viewer's own numbers, sender reports, and what the
// viewer reports and asks for.

import type { PacketBatch, PacketLane } from "../hub/types.js";
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
import type { TrackSender } from "../rtp/sender.js";
import type { Egress, EgressPort } from "./egress.js";
import type { MediaSide, MediaStatistics } from "./media-side.js";
import { Outgoing, OutgoingTrack, OWN_DELAY, TRANSCODED_SOUND_DELAY } from "./outgoing.js";
import type { RedundantAudio } from "./redundant-audio.js";
import type { NegotiatedTrack } from "./sdp-answer.js";
import { VideoFeed } from "./video-feed.js";

export type ViewerOptions = {
  readonly audio: NegotiatedTrack | undefined;
  readonly video: NegotiatedTrack | undefined;
  readonly lane: PacketLane;
  /** The packets come from a bridge: the sound has been through a transcoder. */
  readonly isBridged: boolean;
  readonly egress: Egress;
  readonly cname: string;
  /** 32 random bits at each call. */
  readonly random: () => number;
  /** Milliseconds since 1970 at a time of the engine's clock. */
  readonly wallTimeAt: (now: number) => number;
};

export class Viewer implements MediaSide {
  readonly #options: ViewerOptions;
  readonly #audio: OutgoingTrack | undefined;
  readonly #video: OutgoingTrack | undefined;
  readonly #feed: VideoFeed | undefined;
  readonly #outgoing: Outgoing;
  readonly #ssrcs: readonly number[];

  reportAt: number | undefined;
  /** Until when sound is sent with redundancy: the path loses packets. */
  #lossyUntil = Number.NEGATIVE_INFINITY;
  #reportDue = Number.POSITIVE_INFINITY;
  #reports = 0;
  #reportedWallTime = 0;
  /** The viewer's last receiver reference time, 0 when it has been answered. */
  #referenceTime = 0;
  #referenceFrom = 0;
  #referenceAt = 0;

  /** The viewer tells of each packet's arrival; else its loss reports must do. */
  #hasTransportCc = false;

  #bitrate = 0;
  #bitrateBytes = 0;
  #bitrateSince = 0;

  constructor(options: ViewerOptions) {
    this.#options = options;
    const { audio, video, lane, random } = options;
    this.#audio = audio === undefined ? undefined : new OutgoingTrack(audio, random);
    this.#video = video === undefined ? undefined : new OutgoingTrack(video, random);
    const tracks = [this.#video, this.#audio].filter((track) => track !== undefined);
    this.#ssrcs = tracks.map((track) => track.sender.track.ssrc);
    this.#outgoing = new Outgoing(
      options.egress,
      lane,
      tracks.some((track) => track.extension.isNumbered),
      options.isBridged && tracks.length === 2 ? TRANSCODED_SOUND_DELAY : OWN_DELAY,
    );
    this.#feed = this.#video === undefined ? undefined : new VideoFeed(lane, this.#outgoing, this.#video);
  }

  start(now: number, port: EgressPort): void {
    this.#outgoing.open(port);
    this.#bitrateSince = now;
    this.#sendReports(now);
    this.#feed?.start(now);
  }

  /**
   * Live packets, in their order; the lane's history holds them already.
   *
   * @param staged what `Egress.stage` gave for each of them
   * @param redundant stages them with redundancy, if this viewer needs it
   */
  write(now: number, batch: PacketBatch, staged: readonly number[], redundant: RedundantAudio): void {
    const audio = this.#audio;
    const feed = this.#feed;
    for (let index = 0; index < batch.length; index++) {
      const packet = batch[index] as MediaPacket;
      const stage = staged[index] as number;
      if (packet.kind === "video") feed?.write(now, packet, stage);
      else if (audio !== undefined) this.#writeAudio(now, audio, packet, stage, redundant);
    }
  }

  #writeAudio(now: number, track: OutgoingTrack, packet: MediaPacket, staged: number, redundant: RedundantAudio): void {
    const { payloadType, redPayloadType } = track.sender.track;
    const doubled = now < this.#lossyUntil ? redundant.stage(packet, payloadType) : -1;
    const { lastingDelay } = this.#outgoing;
    if (doubled === -1) this.#outgoing.send(now, track, packet, staged, 0, lastingDelay);
    else this.#outgoing.send(now, track, packet, doubled, 0, lastingDelay, redPayloadType);
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
          else if (READER.count === FeedbackFormat.transportCc) this.#readTransportCc(now);
          break;
        case RtcpType.payloadFeedback:
          if (this.#asksForKeyFrame()) this.#feed?.pictureLost(now);
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
    if (!this.#outgoing.isOpen) return;
    if (now >= this.#reportDue) this.#sendReports(now);
    this.#feed?.onTimeout(now);
  }

  nextTimeout(): number {
    if (!this.#outgoing.isOpen) return Number.POSITIVE_INFINITY;
    return this.#feed === undefined ? this.#reportDue : Math.min(this.#reportDue, this.#feed.nextTimeout());
  }

  close(): void {
    if (!this.#outgoing.isOpen) return;
    let end = this.#writeReports(this.#reportedWallTime);
    end = writeSourceDescription(SCRATCH, end, this.#ssrcs, this.#options.cname);
    end = writeBye(SCRATCH, end, this.#ssrcs);
    this.#outgoing.sendRtcp(SCRATCH.subarray(0, end));
    this.#outgoing.close();
  }

  get mediaAt(): number | undefined {
    return this.#outgoing.mediaAt === -1 ? undefined : this.#outgoing.mediaAt;
  }

  statistics(): MediaStatistics {
    const video = this.#video?.sender;
    const audio = this.#audio?.sender;
    const { packets, bytes, dropped, budget } = this.#outgoing;
    const roundTripTime = video?.roundTripTime || audio?.roundTripTime || 0;
    return {
      rtt_ms: Math.round(roundTripTime * 10) / 10,
      loss: (video ?? audio)?.fractionLost ?? 0,
      nacks: (video?.statistics.nacks ?? 0) + (audio?.statistics.nacks ?? 0),
      plis: this.#feed?.picturesLost ?? 0,
      bitrate: Math.round(this.#bitrate),
      packets,
      bytes,
      resent: (video?.statistics.resent ?? 0) + (audio?.statistics.resent ?? 0),
      dropped,
      falls: this.#feed?.falls ?? 0,
      thinned: this.#feed?.picturesThinned ?? 0,
      ...(budget.capacity !== undefined && { path_bitrate: Math.round(budget.capacity) }),
    };
  }

  #sendReports(now: number): void {
    const wallTime = this.#options.wallTimeAt(now);
    this.#reportedWallTime = wallTime;
    let end = this.#writeReports(wallTime);
    end = writeSourceDescription(SCRATCH, end, this.#ssrcs, this.#options.cname);
    if (this.#referenceTime !== 0) {
      const delay = ((now - this.#referenceAt) * 0x10000) / 1000;
      const from = this.#ssrcs[0] ?? 0;
      end = writeDelaySinceReference(SCRATCH, end, from, this.#referenceFrom, this.#referenceTime, delay);
      this.#referenceTime = 0;
    }
    this.#outgoing.sendRtcp(SCRATCH.subarray(0, end));
    this.#video?.sender.reportSent(now, wallTime);
    this.#audio?.sender.reportSent(now, wallTime);
    // On a grid, so that the reports of many viewers share a turn and a system call: a turn of its own costs more than a report.
    this.#reportDue = Math.ceil((now + (EARLY_REPORTS[this.#reports] ?? REPORT_INTERVAL)) / REPORT_GRID) * REPORT_GRID;
    this.#reports++;
    const elapsed = now - this.#bitrateSince;
    if (elapsed < REPORT_INTERVAL / 2) return;
    this.#bitrate = ((this.#outgoing.bytes - this.#bitrateBytes) * 8000) / elapsed;
    this.#bitrateBytes = this.#outgoing.bytes;
    this.#bitrateSince = now;
  }

  /** One sender report per track, both for the same moment: that is what aligns lips. */
  #writeReports(wallTime: number): number {
    let end = 0;
    if (this.#video !== undefined) end = this.#writeReport(end, this.#video.sender, wallTime);
    if (this.#audio !== undefined) end = this.#writeReport(end, this.#audio.sender, wallTime);
    return end;
  }

  #writeReport(at: number, sender: TrackSender, wallTime: number): number {
    const timestamp = Math.round(this.#options.lane.timestampAt(sender.track.kind, wallTime)) + sender.timestampOffset;
    return writeSenderReport(SCRATCH, at, sender.track.ssrc, wallTime, timestamp, sender.packetCount, sender.octetCount);
  }

  #trackOf(ssrc: number): OutgoingTrack | undefined {
    if (this.#video?.sender.track.ssrc === ssrc) return this.#video;
    return this.#audio?.sender.track.ssrc === ssrc ? this.#audio : undefined;
  }

  #readReports(now: number): void {
    const first = READER.reportsAt;
    if (first === -1) return;
    if (READER.count > 0) this.reportAt ??= now;
    for (let index = 0; index < READER.count; index++) {
      readReportBlock(BLOCK, READER.bytes, first + index * REPORT_BLOCK_SIZE);
      const track = this.#trackOf(BLOCK.ssrc);
      track?.sender.reported(now, BLOCK);
      track?.acknowledged(BLOCK.highestSequence);
      if (BLOCK.fractionLost > 0) this.#packetsLost(now);
      if (track === undefined || track !== this.#video || this.#hasTransportCc || this.#bitrate === 0) continue;
      if (this.#outgoing.budget.lossReported(now, BLOCK.fractionLost / 256, this.#bitrate)) this.#feed?.pathFull();
    }
  }

  #packetsLost(now: number): void {
    if (this.#audio !== undefined && this.#audio.sender.track.redPayloadType !== -1) this.#lossyUntil = now + LOSS_REMEMBERED;
  }

  #readTransportCc(now: number): void {
    const { transportCc, budget } = this.#outgoing;
    if (transportCc === undefined || !transportCc.feedback(READER)) return;
    this.#hasTransportCc = true;
    if (budget.reported(now, transportCc.report, transportCc.inFlight)) this.#feed?.pathFull();
  }

  #readNack(now: number): void {
    const track = this.#trackOf(READER.mediaSsrc);
    if (track === undefined) return;
    this.#packetsLost(now);
    if (track === this.#video) this.#feed?.packetsLost(now);
    const { bytes, end } = READER;
    for (let at = READER.start + 12; at + 4 <= end; at += 4) {
      const first = bytes.readUInt16BE(at);
      this.#outgoing.resend(now, track, first);
      let mask = bytes.readUInt16BE(at + 2);
      for (let distance = 1; mask !== 0; distance++, mask >>= 1) {
        if (mask & 1) this.#outgoing.resend(now, track, (first + distance) & 0xffff);
      }
    }
  }

  #asksForKeyFrame(): boolean {
    const ssrc = this.#video?.sender.track.ssrc;
    if (ssrc === undefined) return false;
    if (READER.count === FeedbackFormat.pli) return READER.mediaSsrc === ssrc;
    return READER.count === FeedbackFormat.fir && firNames(READER, ssrc);
  }
}

const READER = new RtcpReader();
const BLOCK = new ReportBlock();
const SCRATCH = Buffer.alloc(1200); // reports are built here and copied by the egress at once

/** ms that sound goes on with redundancy after the last sign of loss: at 0.1 % of loss there is one every few seconds. */
const LOSS_REMEMBERED = 30_000;
const REPORT_INTERVAL = 1_000; // ms
const REPORT_GRID = 100; // ms
const EARLY_REPORTS: readonly number[] = [150, 350]; // ms; a browser aligns lips from its second report on
