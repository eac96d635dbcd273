// Writes a WebRTC publisher's packets to its stream's lane: numbers and time go on from whoever published before, whatever counters
// the publisher's sources use; packets of padding leave no hole, lost packets do.

import type { PacketLane, Publication } from "../hub/types.js";
import { H264ParameterSets } from "../rtp/h264-parameter-sets.js";
import { isDiscardablePacket, keyFramePart } from "../rtp/key-frame.js";
import { type MediaKind, MediaPacket, type RtpTrack } from "../rtp/packet.js";
import type { ReceivedPacket } from "../rtp/received-packet.js";
import { SenderClock } from "../rtp/sender-clock.js";

export type PublisherLaneOptions = {
  readonly publication: Publication;
  /** What was agreed with the publisher; announced at once. */
  readonly tracks: readonly RtpTrack[];
  /** A key frame has begun to arrive. */
  readonly onKeyFrame: () => void;
  /** No key frame has come yet, or the source has changed: one is needed. */
  readonly onKeyFrameNeeded: () => void;
};

export class PublisherLane {
  readonly clock = new SenderClock();
  readonly #options: PublisherLaneOptions;
  readonly #lane: PacketLane;
  readonly #audio: LaneTrack | undefined;
  readonly #video: LaneTrack | undefined;
  #batch: MediaPacket[] = [];

  constructor(options: PublisherLaneOptions) {
    this.#options = options;
    this.#lane = options.publication.stream.packets;
    for (const track of options.tracks) this.#lane.setTrack(track);
    const audio = options.tracks.find((track) => track.kind === "audio");
    const video = options.tracks.find((track) => track.kind === "video");
    this.#audio = audio === undefined ? undefined : new LaneTrack(audio);
    this.#video = video === undefined ? undefined : new LaneTrack(video);
  }

  /** Packets that wait for `flush`. */
  get pending(): number {
    return this.#batch.length;
  }

  /** Takes the next packet of a track, in order. A picture or an audio frame that is complete leaves at once. */
  write(kind: MediaKind, packet: ReceivedPacket): void {
    const track = this.#of(kind);
    if (track === undefined) return;
    const now = this.#now();
    const isFirst = track.state === "new";
    if (isFirst || Math.abs(this.#errorOf(track, packet.timestamp, now)) > MAX_TIME_ERROR) this.#anchor(track, packet, now);
    if (packet.path === "direct" && this.clock.arrived(kind, track.mediaTime(packet.timestamp), now)) this.#refer(track);
    if (packet.payload.length === 0) {
      track.skip(packet.sequenceNumber); // padding
      return;
    }
    track.parameterSets?.see(packet.payload);
    const part = kind === "video" ? keyFramePart(track.codec, packet.payload) : "none";
    if (part !== "none") this.#options.onKeyFrame();
    if (track.state === "waiting") {
      if (part === "none") {
        track.skip(packet.sequenceNumber); // pictures that refer to what nobody has
        this.#options.onKeyFrameNeeded();
        return;
      }
      track.state = "live";
    }
    const sets = part === "none" ? undefined : track.setsMissing(part, packet.timestamp);
    const startsKeyFrame = sets === undefined && part !== "none" && track.startsKeyFrame(part, packet.timestamp);
    const isDiscardable = kind === "video" && isDiscardablePacket(track.codec, packet.payload);
    const timestamp = track.timestampOf(packet.timestamp);
    if (sets !== undefined) {
      this.#batch.push(new MediaPacket(kind, track.insert(packet.sequenceNumber), timestamp, false, true, false, sets));
    }
    const number = track.numberOf(packet.sequenceNumber);
    this.#batch.push(new MediaPacket(kind, number, timestamp, packet.marker, startsKeyFrame, isDiscardable, packet.payload));
    if (kind === "audio" || packet.marker || this.#batch.length >= MAX_BATCH) this.flush();
  }

  /** Writes what waits. */
  flush(): void {
    if (this.#batch.length === 0) return;
    const batch = this.#batch;
    this.#batch = [];
    this.#options.publication.writePackets(batch);
  }

  /**
   * A sender report of a track.
   *
   * @param ntpTime milliseconds, any epoch
   * @param timestamp unwrapped RTP time of the source
   */
  report(kind: MediaKind, ntpTime: number, timestamp: number): "refined" | "noted" | "ignored" {
    const track = this.#of(kind);
    if (track === undefined || track.state === "new") return "ignored";
    const verdict = this.clock.reported(kind, ntpTime, track.mediaTime(timestamp), this.#now());
    for (const related of [this.#audio, this.#video]) {
      if (related !== undefined && this.clock.takeChanged(related.kind)) this.#refer(related);
    }
    return verdict;
  }

  /** Another source takes the track over, with counters of its own. */
  restart(kind: MediaKind): void {
    this.flush();
    this.#of(kind)?.restart();
    this.clock.restart(kind);
  }

  #anchor(track: LaneTrack, packet: ReceivedPacket, now: number): void {
    const { kind } = track;
    if (track.state === "new") {
      this.flush();
      track.begin(packet.sequenceNumber, this.#lane.nextSequenceNumber(kind));
    }
    this.clock.restart(kind);
    track.beginTime(packet.timestamp, Math.round(this.#lane.timestampAt(kind, now)));
  }

  /** How far a packet's time is from now, in ms. */
  #errorOf(track: LaneTrack, timestamp: number, now: number): number {
    return this.#lane.wallTimeOf(track.kind, track.toLane(timestamp)) - now;
  }

  #refer(track: LaneTrack): void {
    const offset = this.clock.offset(track.kind);
    if (offset === undefined) return;
    const timestamp = track.latestTimestamp;
    this.#lane.setTimeReference(track.kind, { timestamp, wallTime: track.laneTime(timestamp) + offset });
  }

  #now(): number {
    const { stream } = this.#options.publication;
    return stream.wallTimeOf(stream.now());
  }

  #of(kind: MediaKind): LaneTrack | undefined {
    return kind === "audio" ? this.#audio : this.#video;
  }
}

/** The counters of one track: the source's on one side, the lane's on the other. */
class LaneTrack {
  readonly kind: MediaKind;
  readonly codec: string;
  readonly #clockRate: number;
  /** `new`: no packet has come; `waiting`: for a key frame. */
  state: "new" | "waiting" | "live" = "new";
  /** RTP time of the lane. */
  latestTimestamp = 0;
  #numberOffset = 0;
  #lastNumber = 0;
  #timestampOffset = 0;
  #keyFrameTimestamp = Number.NEGATIVE_INFINITY;
  /** Of H.264. */
  readonly parameterSets: H264ParameterSets | undefined;

  constructor(track: RtpTrack) {
    this.parameterSets = track.codec === "h264" ? new H264ParameterSets(track.formatParameters) : undefined;
    this.kind = track.kind;
    this.codec = track.codec;
    this.#clockRate = track.clockRate;
  }

  begin(sequenceNumber: number, next: number): void {
    this.#numberOffset = next - sequenceNumber;
    this.#lastNumber = sequenceNumber - 1;
    // What a codec's key frames look like may be unknown: then everything goes on.
    this.state = this.kind === "video" && DETECTABLE.has(this.codec) ? "waiting" : "live";
  }

  beginTime(timestamp: number, laneTimestamp: number): void {
    const start = this.latestTimestamp === 0 ? laneTimestamp : Math.max(laneTimestamp, this.latestTimestamp + 1);
    this.#timestampOffset = start - timestamp;
  }

  restart(): void {
    this.state = "new";
  }

  /** The lane gets no packet for this number, and no hole either. */
  skip(sequenceNumber: number): void {
    // While nothing has been written, what is missing is nobody's loss.
    this.#numberOffset -= this.state === "waiting" ? sequenceNumber - this.#lastNumber : 1;
    this.#lastNumber = sequenceNumber;
  }

  numberOf(sequenceNumber: number): number {
    const step = sequenceNumber - this.#lastNumber;
    if (step > MAX_HOLE) this.#numberOffset -= step - MAX_HOLE;
    this.#lastNumber = sequenceNumber;
    return sequenceNumber + this.#numberOffset;
  }

  /** A packet of our own goes before this one. @returns its number */
  insert(before: number): number {
    const number = this.numberOf(before);
    this.#numberOffset += 1;
    return number;
  }

  /** The parameter sets that a key frame needs and does not bring along, to be put before it. */
  setsMissing(part: "key" | "parameter-sets", timestamp: number): Buffer | undefined {
    if (part === "parameter-sets" || timestamp === this.#keyFrameTimestamp) return undefined;
    const sets = this.parameterSets?.aggregate();
    if (sets !== undefined) this.#keyFrameTimestamp = timestamp;
    return sets;
  }

  /** The lane's RTP time for one of the source's. */
  toLane(timestamp: number): number {
    return timestamp + this.#timestampOffset;
  }

  /** The same, for a packet that is written. */
  timestampOf(timestamp: number): number {
    const mapped = this.toLane(timestamp);
    if (mapped > this.latestTimestamp) this.latestTimestamp = mapped;
    return mapped;
  }

  /** The lane's time of a source's RTP time, in ms. */
  mediaTime(timestamp: number): number {
    return this.laneTime(this.toLane(timestamp));
  }

  laneTime(laneTimestamp: number): number {
    return (laneTimestamp * 1000) / this.#clockRate;
  }

  /** Once per picture, and with H.264 and H.265 only where the parameter sets are. */
  startsKeyFrame(part: "key" | "parameter-sets", timestamp: number): boolean {
    if (timestamp === this.#keyFrameTimestamp) return false;
    if (part === "key" && (this.codec === "h264" || this.codec === "h265")) return false;
    this.#keyFrameTimestamp = timestamp;
    return true;
  }
}

const DETECTABLE: ReadonlySet<string> = new Set(["h264", "h265", "vp8", "vp9", "av1"]);
const MAX_BATCH = 32; // packets: what one message to the kernel takes with segmentation
const MAX_HOLE = 1000; // numbers; a longer one looks like a step back to receivers of 16-bit numbers
const MAX_TIME_ERROR = 5_000; // ms between RTP time and arrival: the source's clock has jumped, or stood still in a pause
