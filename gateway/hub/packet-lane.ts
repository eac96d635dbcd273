// The lane of RTP packets: tracks, one history for all viewers' retransmissions and late joiners, and whoever reads it live.

import type { Sink } from "../media/frame.js";
import { PacketHistory } from "../rtp/history.js";
import type { MediaKind, MediaPacket, RtpTrack } from "../rtp/packet.js";
import type { PacketBatch, PacketLane, TimeReference } from "./types.js";

/** Packets of video kept: a group of pictures of 10 s at 13 Mbit/s. A longer one cannot be joined in its middle. */
const VIDEO_HISTORY = 16_384;
/** Packets of audio kept: 10 s in frames of 20 ms. */
const AUDIO_HISTORY = 512;
/** Milliseconds that the group before the newest key frame is kept for retransmission. */
const RETENTION = 3_000;
/** Milliseconds after which a group is cut when the source makes key frames on request, and when it is not known to do so. */
const LONG_GROUP = 2_000;
const LONGEST_GROUP = 20_000;
/** Milliseconds of a long group that go at once. */
const CUT_INTERVAL = 1_000;
/** Milliseconds in which a source that makes key frames on request has made one. */
const ANSWER_TIME = 1_000;
/** Milliseconds between two requests for a key frame that reach the source. */
const KEY_FRAME_INTERVAL = 500;

type LaneTrack = {
  track: RtpTrack | undefined;
  /** The codec that viewers were told of; stays when the publisher that had it has left. */
  promised: string | undefined;
  history: PacketHistory;
  nextSequenceNumber: number;
  reference: TimeReference;
};

export class LivePacketLane implements PacketLane {
  readonly #onDemand: (viewers: number) => void;
  readonly #askForKeyFrame: (reason: string) => void;
  readonly #keyFrames: () => "on-request" | "at-intervals";
  readonly #now: () => number;
  readonly #origin: TimeReference;
  /** With what they expect. */
  readonly #sinks = new Map<Sink<PacketBatch>, "promised" | "any">();
  readonly #audio: LaneTrack;
  readonly #video: LaneTrack;
  #keyFrameStart: number | undefined;
  #keyFrameAt = Number.POSITIVE_INFINITY;
  /** Whether the source has answered a request for a key frame: then no group needs to be kept for long. */
  #hasAnswered = false;
  keyFrameHead: MediaPacket | undefined;
  /** What key frames have made obsolete, and when it may go. */
  readonly #obsolete: { readonly before: number; readonly due: number }[] = [];
  #lastKeyFrameRequest = Number.NEGATIVE_INFINITY;
  /** When a part of a long group was made obsolete. */
  #cutAt = Number.NEGATIVE_INFINITY;

  /**
   * @param options.epoch wall-clock time of RTP time zero of both tracks
   * @param options.now milliseconds, monotonic
   * @param options.onDemand told the number of viewers after each change
   * @param options.askForKeyFrame reaches whoever feeds the lane
   * @param options.keyFrames when whoever feeds the lane makes key frames. Default at intervals
   */
  constructor(options: {
    readonly epoch: number;
    readonly now: () => number;
    readonly onDemand: (viewers: number) => void;
    readonly askForKeyFrame: (reason: string) => void;
    readonly keyFrames?: () => "on-request" | "at-intervals";
  }) {
    this.#onDemand = options.onDemand;
    this.#askForKeyFrame = options.askForKeyFrame;
    this.#keyFrames = options.keyFrames ?? (() => "at-intervals");
    this.#now = options.now;
    const reference = { timestamp: 0, wallTime: options.epoch };
    this.#origin = reference;
    this.#audio = {
      track: undefined,
      promised: undefined,
      history: new PacketHistory("audio", AUDIO_HISTORY),
      nextSequenceNumber: 0,
      reference,
    };
    this.#video = {
      track: undefined,
      promised: undefined,
      history: new PacketHistory("video", VIDEO_HISTORY),
      nextSequenceNumber: 0,
      reference,
    };
  }

  get viewerCount(): number {
    return this.#sinks.size;
  }

  track(kind: MediaKind): RtpTrack | undefined {
    return this.#of(kind).track;
  }

  setTrack(track: RtpTrack): void {
    const lane = this.#of(track.kind);
    const known = lane.promised;
    lane.track = track;
    lane.promised = track.codec;
    if (known === undefined || known === track.codec) return;
    this.dismiss(`the stream's ${track.kind} is ${track.codec} now, it was ${known}`);
  }

  add(sink: Sink<PacketBatch>, expects: "promised" | "any" = "promised"): void {
    this.#sinks.set(sink, expects);
    this.#onDemand(this.#sinks.size);
  }

  remove(sink: Sink<PacketBatch>): void {
    if (this.#sinks.delete(sink)) this.#onDemand(this.#sinks.size);
  }

  dismiss(reason: string): void {
    if (this.#closeSinks(reason, "promised")) this.#onDemand(this.#sinks.size);
  }

  write(batch: PacketBatch): void {
    for (let i = 0; i < batch.length; i++) {
      const packet = batch[i] as MediaPacket;
      const lane = packet.kind === "video" ? this.#video : this.#audio;
      lane.history.add(packet);
      lane.nextSequenceNumber = packet.sequenceNumber + 1;
      if (packet.startsKeyFrame) {
        const now = this.#now();
        if (now - this.#lastKeyFrameRequest < ANSWER_TIME) this.#hasAnswered = true;
        this.#keyFrameStart = packet.sequenceNumber;
        this.#keyFrameAt = now;
        this.#cutAt = Number.NEGATIVE_INFINITY;
        this.keyFrameHead = packet;
        this.#obsolete.push({ before: packet.sequenceNumber, due: now + RETENTION });
      }
    }
    this.#dropObsolete();
    this.#cutLongGroup();
    for (const sink of this.#sinks.keys()) sink.write(batch);
  }

  find(kind: MediaKind, sequenceNumber: number): MediaPacket | undefined {
    return this.#of(kind).history.find(sequenceNumber);
  }

  get keyFrameStart(): number | undefined {
    const start = this.#keyFrameStart;
    return start !== undefined && this.#video.history.has(start) ? start : undefined;
  }

  nextSequenceNumber(kind: MediaKind): number {
    return this.#of(kind).nextSequenceNumber;
  }

  wallTimeOf(kind: MediaKind, timestamp: number): number {
    const { track, reference } = this.#of(kind);
    return reference.wallTime + ((timestamp - reference.timestamp) * 1000) / clockRateOf(kind, track);
  }

  timestampAt(kind: MediaKind, wallTime: number): number {
    const { track, reference } = this.#of(kind);
    return reference.timestamp + ((wallTime - reference.wallTime) * clockRateOf(kind, track)) / 1000;
  }

  setTimeReference(kind: MediaKind, reference: TimeReference): void {
    this.#of(kind).reference = reference;
  }

  get keyFrames(): "on-request" | "at-intervals" {
    return this.#keyFrames();
  }

  requestKeyFrame(reason: string): void {
    const now = this.#now();
    if (now - this.#lastKeyFrameRequest < KEY_FRAME_INTERVAL) return;
    this.#lastKeyFrameRequest = now;
    this.#askForKeyFrame(reason);
  }

  /** A new publisher begins: what the last one announced is void, and RTP time is the stream's until somebody says otherwise. */
  restart(): void {
    this.reset();
    for (const lane of [this.#audio, this.#video]) {
      lane.track = undefined;
      lane.reference = this.#origin;
    }
  }

  /** Drops history that a new viewer must not start from; numbering and viewers stay. */
  reset(): void {
    this.#audio.history.clear();
    this.#video.history.clear();
    this.#keyFrameStart = undefined;
    this.#keyFrameAt = Number.POSITIVE_INFINITY;
    this.#cutAt = Number.NEGATIVE_INFINITY;
    this.#hasAnswered = false;
    this.keyFrameHead = undefined;
    this.#obsolete.length = 0;
    this.#lastKeyFrameRequest = Number.NEGATIVE_INFINITY;
  }

  close(reason: string): void {
    this.reset();
    this.#closeSinks(reason);
  }

  /** @returns whether there was any */
  #closeSinks(reason: string, which: "promised" | "all" = "all"): boolean {
    const closed: Sink<PacketBatch>[] = [];
    for (const [sink, expects] of this.#sinks) if (which === "all" || expects === which) closed.push(sink);
    for (const sink of closed) this.#sinks.delete(sink);
    for (const sink of closed) sink.close(reason);
    return closed.length > 0;
  }

  #dropObsolete(): void {
    let first = this.#obsolete[0];
    if (first === undefined) return;
    const now = this.#now();
    for (; first !== undefined && first.due <= now; first = this.#obsolete[0]) {
      this.#video.history.dropBefore(first.before);
      this.#obsolete.shift();
    }
  }

  /**
   * A source that makes key frames on request only may never make one: of a group that has become too long to start with, only what
   * may be asked for again is kept.
   */
  #cutLongGroup(): void {
    if (this.#keyFrameAt === Number.POSITIVE_INFINITY || this.#keyFrames() !== "on-request") return;
    const now = this.#now();
    const age = now - this.#keyFrameAt;
    if (age < LONG_GROUP) return;
    // Asked once, so that it is known: by then a browser's picture has settled, and what is kept stays small.
    if (this.#lastKeyFrameRequest === Number.NEGATIVE_INFINITY) this.requestKeyFrame("to see whether the publisher answers");
    if (age < (this.#hasAnswered ? LONG_GROUP : LONGEST_GROUP) || now - this.#cutAt < CUT_INTERVAL) return;
    this.#cutAt = now;
    this.#obsolete.push({ before: this.#video.nextSequenceNumber, due: now + RETENTION });
  }

  #of(kind: MediaKind): LaneTrack {
    return kind === "video" ? this.#video : this.#audio;
  }
}

/** Before a track is announced its usual clock stands in. */
function clockRateOf(kind: MediaKind, track: RtpTrack | undefined): number {
  return track?.clockRate ?? (kind === "video" ? 90_000 : 48_000);
}
