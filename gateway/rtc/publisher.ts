// The media side of a publisher (WHIP): its sources' packets in order onto the stream's lane, and the feedback that it needs: reports,
// requests for packets and key frames, transport-wide arrival times or a bitrate limit.

import type { Publication } from "../hub/types.js";
import { BitrateLimit } from "../rtp/bitrate-limit.js";
import { RtpHeader } from "../rtp/header.js";
import { KeyFrameRequester } from "../rtp/key-frame-requester.js";
import type { MediaKind, RtpTrack } from "../rtp/packet.js";
import { RtpReceiver } from "../rtp/receiver.js";
import {
  ntpMiddle,
  ReportBlock,
  RtcpReader,
  RtcpType,
  readDelaySinceReference,
  readSenderInfo,
  writeFir,
  writeNack,
  writePli,
  writeReceiverReport,
  writeReferenceTime,
  writeRemb,
  writeSourceDescription,
} from "../rtp/rtcp.js";
import { MAX_TWCC_FEEDBACK, TwccRecorder } from "../rtp/twcc-recorder.js";
import { unwrapTimestamp } from "../rtp/unwrap.js";
import type { EgressPort } from "./egress.js";
import type { MediaSide, MediaStatistics } from "./media-side.js";
import { PublisherLane } from "./publisher-lane.js";
import type { NegotiatedTrack } from "./sdp-answer.js";

export type PublisherOptions = {
  readonly audio: NegotiatedTrack | undefined;
  readonly video: NegotiatedTrack | undefined;
  /** Granted by the hub, ended by whoever owns the session. */
  readonly publication: Publication;
  readonly cname: string;
  /** 32 random bits at each call. */
  readonly random: () => number;
};

export class Publisher implements MediaSide {
  mediaAt: number | undefined;
  reportAt: number | undefined;
  readonly #options: PublisherOptions;
  readonly #lane: PublisherLane;
  readonly #audio: IncomingTrack | undefined;
  readonly #video: IncomingTrack | undefined;
  readonly #ssrc: number;
  readonly #keyFrames: KeyFrameRequester;
  readonly #hasTransportCc: boolean;
  readonly #wantsRoundTrip: boolean;
  readonly #bitrateLimit: BitrateLimit | undefined;
  /** By SSRC; filled as sources appear. */
  readonly #sources = new Map<number, Source>();
  readonly #header = new RtpHeader();
  #port: EgressPort | undefined;
  /** From `start` on: a session that never connects should cost little. */
  #twcc: TwccRecorder | undefined;
  /** The call in hand: for callbacks that are given no time. */
  #now = 0;
  #reportDue = Number.POSITIVE_INFINITY;
  #feedbackDue = Number.POSITIVE_INFINITY;
  #flushDue = Number.POSITIVE_INFINITY;
  #firSequence = 0;
  #packets = 0;
  #bytes = 0;
  #unknown = 0;
  #loss = 0;
  /** The reference times sent last (RFC 3611 section 4.4), and when: their echoes give the round trip. */
  readonly #references: { readonly referenceTime: number; readonly sentAt: number }[] = [];
  /** Milliseconds by those echoes, 0 while there is none. */
  #roundTrip = 0;
  #bitrate = 0;
  #bitrateBytes = 0;
  #bitrateSince = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
    const { audio, video, publication, random } = options;
    this.#audio = audio === undefined ? undefined : new IncomingTrack(audio);
    this.#video = video === undefined ? undefined : new IncomingTrack(video);
    this.#ssrc = random() >>> 0 || 1;
    const negotiated = [audio, video].filter((track) => track !== undefined);
    this.#hasTransportCc = negotiated.some((track) => track.feedback.transportCc && track.extensions.transportCc !== 0);
    this.#wantsRoundTrip = negotiated.some((track) => track.wantsReceiverRtt);
    this.#bitrateLimit = this.#hasTransportCc || video === undefined ? undefined : new BitrateLimit();
    this.#keyFrames = new KeyFrameRequester(() => this.#sendKeyFrameRequest());
    this.#lane = new PublisherLane({
      publication,
      tracks: negotiated.map(rtpTrackOf),
      onKeyFrame: () => this.#keyFrames.onKeyFrame(),
      onKeyFrameNeeded: () => this.#keyFrames.request(this.#now),
    });
  }

  start(now: number, port: EgressPort): void {
    this.#port = port;
    this.#now = now;
    if (this.#hasTransportCc) this.#twcc = new TwccRecorder();
    this.#bitrateSince = now;
    this.#reportDue = now + FIRST_REPORT;
  }

  /** A viewer or a bridge needs a key frame. */
  requestKeyFrame(now: number): void {
    this.#now = now;
    if (this.#video !== undefined) this.#keyFrames.request(now);
  }

  rtp(now: number, packet: Buffer): void {
    const header = this.#header;
    if (this.#port === undefined || !header.read(packet)) return;
    this.#now = now;
    if (this.#packets === 0) this.mediaAt = now;
    this.#packets += 1;
    this.#bytes += packet.length;
    this.#bitrateBytes += packet.length;
    const source = this.#sources.get(header.ssrc) ?? this.#newSource(now, header);
    if (source === undefined) {
      this.#unknown += 1;
      return;
    }
    const { track } = source;
    if (this.#twcc !== undefined) this.#record(now, this.#twcc, track);
    if (source.role === "media") {
      const { payloadType, redPayloadType } = track.ids;
      if (header.payloadType === payloadType) track.receiver?.receive(now, header);
      else if (header.payloadType === redPayloadType) track.receiver?.receiveRedundant(now, header, payloadType);
      else return; // comfort noise, tones: not agreed on
      source.lastHeard = now;
    } else if (header.payloadType === track.ids.rtxPayloadType) {
      track.receiver?.receiveRetransmission(now, header);
    }
    this.#flushDue = this.#lane.pending === 0 ? Number.POSITIVE_INFINITY : Math.min(this.#flushDue, now + FLUSH_AFTER);
    // What is due soon needs no turn of the event loop of its own.
    if (now >= this.#feedbackDue - EARLY) this.#sendTransportFeedback();
    if (now >= this.#reportDue - EARLY) this.#sendReport(now);
  }

  rtcp(now: number, compound: Buffer): void {
    this.#now = now;
    if (!READER.open(compound)) return;
    while (READER.next()) {
      if (READER.packetType === RtcpType.senderReport) this.#readSenderReport(now);
      else if (READER.packetType === RtcpType.bye) this.#readBye();
      else if (READER.packetType === RtcpType.extendedReport) this.#readRoundTrip(now);
    }
  }

  onTimeout(now: number): void {
    if (this.#port === undefined) return;
    this.#now = now;
    this.#audio?.receiver?.onTimeout(now);
    this.#video?.receiver?.onTimeout(now);
    this.#keyFrames.onTimeout(now);
    if (now >= this.#flushDue) {
      this.#flushDue = Number.POSITIVE_INFINITY;
      this.#lane.flush();
    }
    if (now >= this.#feedbackDue) this.#sendTransportFeedback();
    if (now >= this.#reportDue) this.#sendReport(now);
  }

  nextTimeout(): number {
    if (this.#port === undefined) return Number.POSITIVE_INFINITY;
    return Math.min(
      this.#reportDue,
      this.#feedbackDue,
      this.#flushDue,
      this.#keyFrames.nextTimeout(),
      this.#audio?.receiver?.nextTimeout() ?? Number.POSITIVE_INFINITY,
      this.#video?.receiver?.nextTimeout() ?? Number.POSITIVE_INFINITY,
    );
  }

  close(): void {
    this.#port = undefined;
    this.#lane.flush();
  }

  statistics(): MediaStatistics {
    const video = this.#video?.receiver;
    const audio = this.#audio?.receiver;
    const repaired = (video?.statistics.repaired ?? 0) + (audio?.statistics.repaired ?? 0);
    const isMeasured = repaired > 0;
    return {
      rtt_ms: Math.round(this.#roundTrip !== 0 ? this.#roundTrip : isMeasured ? ((video ?? audio)?.roundTrip ?? 0) : 0),
      loss: this.#loss,
      nacks: (video?.nacked ?? 0) + (audio?.nacked ?? 0),
      plis: this.#keyFrames.sent,
      bitrate: Math.round(this.#bitrate),
      packets: this.#packets,
      bytes: this.#bytes,
      resent: repaired,
      dropped: (video?.statistics.abandoned ?? 0) + (audio?.statistics.abandoned ?? 0) + this.#unknown,
    };
  }

  // --- Sources

  /** Which track an unknown source belongs to: by the offer's SSRCs, by its MID, by its payload type (RFC 8843 section 9.2). */
  #newSource(now: number, header: RtpHeader): Source | undefined {
    if (this.#sources.size >= MAX_SOURCES) return undefined;
    const track = this.#trackOf(header);
    if (track === undefined) return undefined;
    const { ssrc } = header;
    if (header.payloadType === track.ids.rtxPayloadType) {
      const source: Source = { track, role: "retransmissions", lastHeard: now };
      this.#sources.set(ssrc, source);
      return source;
    }
    if (header.payloadType !== track.ids.payloadType && header.payloadType !== track.ids.redPayloadType) return undefined;
    const { receiver } = track;
    if (receiver !== undefined) {
      const old = this.#sources.get(receiver.ssrc);
      if (old !== undefined && now - old.lastHeard < SOURCE_SILENCE) return undefined; // two at once: the first one stays
      receiver.onTimeout(Number.POSITIVE_INFINITY); // what waits leaves, and nothing more is asked for
      for (const [known, other] of this.#sources) if (other.track === track) this.#sources.delete(known);
      this.#lane.restart(track.ids.kind);
    }
    track.receiver = this.#newReceiver(track.ids, ssrc);
    const source: Source = { track, role: "media", lastHeard: now };
    this.#sources.set(ssrc, source);
    return source;
  }

  #trackOf(header: RtpHeader): IncomingTrack | undefined {
    const { ssrc, payloadType } = header;
    let found: IncomingTrack | undefined;
    for (const track of [this.#audio, this.#video]) {
      if (track === undefined) continue;
      const { ids } = track;
      if (ssrc !== 0 && (ssrc === ids.ssrc || ssrc === ids.rtxSsrc)) return track;
      if (ids.extensions.mid !== 0 && header.text(ids.extensions.mid) === ids.mid) return track;
      if (payloadType === ids.payloadType || payloadType === ids.rtxPayloadType || payloadType === ids.redPayloadType)
        found = track;
    }
    return found;
  }

  #newReceiver(ids: NegotiatedTrack, ssrc: number): RtpReceiver {
    return new RtpReceiver({
      ssrc,
      clockRate: ids.clockRate,
      ...(ids.kind === "audio" && { chunkSize: AUDIO_CHUNK }),
      repair: !ids.feedback.nack ? "none" : ids.rtxPayloadType === -1 ? "nack" : "rtx",
      onPacket: (packet) => this.#lane.write(ids.kind, packet),
      onNack: (sequenceNumbers) => this.#sendNack(ssrc, sequenceNumbers),
      onOutage: () => {
        if (ids.kind === "video") this.#keyFrames.request(this.#now);
      },
    });
  }

  #record(now: number, twcc: TwccRecorder, track: IncomingTrack): void {
    const number = this.#header.transportNumber(track.ids.extensions.transportCc);
    if (number === -1) return;
    twcc.record(now, number);
    if (this.#feedbackDue === Number.POSITIVE_INFINITY) this.#feedbackDue = now + FEEDBACK_INTERVAL;
  }

  // --- What the publisher reports

  #readSenderReport(now: number): void {
    this.reportAt ??= now;
    const { bytes, start } = READER;
    const source = this.#sources.get(READER.senderSsrc);
    const receiver = source?.role === "media" ? source.track.receiver : undefined;
    const info = receiver === undefined ? undefined : readSenderInfo(READER);
    if (source === undefined || receiver === undefined || info === undefined || receiver.timestamp === -1) return;
    receiver.onSenderReport(now, bytes.readUInt32BE(start + 10));
    // A sender without a clock says 0 (RFC 3550 section 6.4.1). One that counts whole seconds (werift 0.25 puts a number far too
    // small behind them) would put sound and picture apart by up to one: when they arrived tells more.
    if (bytes.readUInt32BE(start + 12) < SMALLEST_FRACTION) return;
    this.#lane.report(source.track.ids.kind, info.wallTime, unwrapTimestamp(info.rtpTimestamp, receiver.timestamp));
  }

  #readRoundTrip(now: number): void {
    const echo = readDelaySinceReference(READER, this.#ssrc);
    const sent = echo && this.#references.find(({ referenceTime }) => referenceTime === echo.referenceTime);
    if (echo === undefined || sent === undefined) return;
    const roundTrip = now - sent.sentAt - (echo.delay * 1000) / 0x10000;
    if (roundTrip < -1 || roundTrip > MAX_ROUND_TRIP) return;
    const sample = Math.max(1, roundTrip);
    this.#roundTrip = this.#roundTrip === 0 ? sample : this.#roundTrip * 0.75 + sample * 0.25;
    for (const track of [this.#audio, this.#video]) track?.receiver?.setRoundTrip(sample);
  }

  /** A source that says goodbye may be followed by another at once. */
  #readBye(): void {
    for (let index = 0, at = READER.start + 4; index < READER.count && at + 4 <= READER.end; index++, at += 4) {
      const source = this.#sources.get(READER.bytes.readUInt32BE(at));
      if (source !== undefined) source.lastHeard = Number.NEGATIVE_INFINITY;
    }
  }

  // --- What it is told

  #sendNack(mediaSsrc: number, sequenceNumbers: readonly number[]): void {
    for (let from = 0; from < sequenceNumbers.length; from += MAX_NACK_NUMBERS) {
      const part = sequenceNumbers.slice(from, from + MAX_NACK_NUMBERS);
      this.#send(writeNack(SCRATCH, this.#begin(), this.#ssrc, mediaSsrc, part));
    }
  }

  #sendKeyFrameRequest(): void {
    const track = this.#video;
    const mediaSsrc = track?.receiver?.ssrc ?? track?.ids.ssrc ?? 0;
    if (track === undefined || mediaSsrc === 0) return; // nothing known of it yet; its first packet is asked for a key frame anyway
    const start = this.#begin();
    const usesFir = track.ids.feedback.fir && !track.ids.feedback.pli;
    this.#firSequence = (this.#firSequence + 1) & 0xff;
    const end = usesFir
      ? writeFir(SCRATCH, start, this.#ssrc, mediaSsrc, this.#firSequence)
      : writePli(SCRATCH, start, this.#ssrc, mediaSsrc);
    this.#send(end);
  }

  #sendTransportFeedback(): void {
    const twcc = this.#twcc;
    this.#feedbackDue = Number.POSITIVE_INFINITY;
    const mediaSsrc = this.#video?.receiver?.ssrc ?? this.#audio?.receiver?.ssrc ?? 0;
    while (twcc !== undefined && twcc.pending > 0) this.#send(twcc.write(SCRATCH, this.#begin(), this.#ssrc, mediaSsrc));
  }

  #sendReport(now: number): void {
    this.#reportDue = now + REPORT_INTERVAL;
    const seconds = (now - this.#bitrateSince) / 1000;
    if (seconds > 0) this.#bitrate = (this.#bitrateBytes * 8) / seconds;
    this.#bitrateBytes = 0;
    this.#bitrateSince = now;
    const blocks: ReportBlock[] = [];
    for (const track of [this.#video, this.#audio]) {
      const report = track?.receiver?.report(now);
      if (report === undefined) continue;
      if (blocks.length === 0) this.#loss = report.fractionLost / 256;
      blocks.push(Object.assign(new ReportBlock(), report));
    }
    let end = writeReceiverReport(SCRATCH, 0, this.#ssrc, blocks);
    end = writeSourceDescription(SCRATCH, end, [this.#ssrc], this.#options.cname);
    const media = this.#video?.receiver?.ssrc;
    if (this.#bitrateLimit !== undefined && media !== undefined) {
      this.#bitrateLimit.update(this.#loss, this.#bitrate);
      end = writeRemb(SCRATCH, end, this.#ssrc, this.#bitrateLimit.bitrate, [media]);
    }
    if (this.#wantsRoundTrip) end = this.#writeReference(now, end);
    this.#send(end);
  }

  #writeReference(now: number, at: number): number {
    const { stream } = this.#options.publication;
    const wallTime = stream.wallTimeOf(stream.now());
    this.#references.push({ referenceTime: ntpMiddle(wallTime), sentAt: now });
    if (this.#references.length > MAX_REFERENCES) this.#references.shift();
    return writeReferenceTime(SCRATCH, at, this.#ssrc, wallTime);
  }

  /** Every compound begins with a report (RFC 3550 section 6.1), if need be an empty one. @returns the offset behind it */
  #begin(): number {
    return writeReceiverReport(SCRATCH, 0, this.#ssrc, []);
  }

  #send(end: number): void {
    this.#port?.sendRtcp(SCRATCH.subarray(0, end));
  }
}

/** One agreed track, and the receiver of the source that feeds it now. */
class IncomingTrack {
  readonly ids: NegotiatedTrack;
  receiver: RtpReceiver | undefined;

  constructor(ids: NegotiatedTrack) {
    this.ids = ids;
  }
}

type Source = { readonly track: IncomingTrack; readonly role: "media" | "retransmissions"; lastHeard: number };

function rtpTrackOf(ids: NegotiatedTrack): RtpTrack {
  const { codec, clockRate, channels, parameterSets } = ids;
  const formatParameters = parameterSets === undefined ? ids.formatParameters : `${ids.formatParameters};${parameterSets}`;
  const kind: MediaKind = ids.kind;
  return kind === "audio" ? { kind, codec, clockRate, channels, formatParameters } : { kind, codec, clockRate, formatParameters };
}

const READER = new RtcpReader(); // calls do not nest
const SCRATCH = Buffer.alloc(8 + Math.max(MAX_TWCC_FEEDBACK, 1200));
const FIRST_REPORT = 320; // ms
const REPORT_INTERVAL = 1_020; // ms
const FEEDBACK_INTERVAL = 100; // ms: a sender's estimator wants 50 to 250
const EARLY = 25; // ms: with sound every 20 ms a packet comes in that time
const AUDIO_CHUNK = 4096; // bytes: half a second
const FLUSH_AFTER = 3; // ms that packets of an unfinished picture wait for each other
const SOURCE_SILENCE = 250; // ms after which another source of the same track is taken
const SMALLEST_FRACTION = 2 ** 32 / 100; // of an NTP second: of good reports one in a hundred is left out
const MAX_SOURCES = 16;
const MAX_REFERENCES = 8; // echoes come with the publisher's next report
const MAX_ROUND_TRIP = 10_000; // ms; more is a made-up echo
const MAX_NACK_NUMBERS = 250; // each may need four bytes
