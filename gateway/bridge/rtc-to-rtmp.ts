// The bridge from the packets lane to the frames lane: H.264 and AAC for RTMP, FLV and HLS viewers of a WebRTC publisher.
// It hangs on its stream for the publisher's life and works only between `start` and `stop`.

import type { TranscoderFactory } from "../../transcoder/transcoder.js";
import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Converter, PacketBatch, Stream } from "../hub/types.js";
import type { Frame, Sink } from "../media/frame.js";
import { type DepayloadedUnit, H264Depayloader } from "../rtp/h264-depayload.js";
import type { MediaPacket, RtpTrack } from "../rtp/packet.js";
import { AacPath } from "./aac-path.js";
import { Interleaver } from "./interleaver.js";
import type { BridgeLog } from "./types.js";

export type RtcToRtmpOptions = {
  readonly stream: Stream;
  readonly clock: Clock;
  readonly transcoders: TranscoderFactory;
  readonly log: BridgeLog;
  /** Bits per second of AAC. Default 128000. */
  readonly aacBitrate?: number;
  /** Milliseconds between requests for key frames, so that the cached group of pictures stays short. Default 6000. */
  readonly keyFrameInterval?: number;
};

export class RtcToRtmp implements Converter {
  readonly #stream: Stream;
  readonly #clock: Clock;
  readonly #log: BridgeLog;
  readonly #keyFrameInterval: number;
  readonly #audio: AacPath;
  readonly #video: H264Depayloader;
  readonly #interleaver: Interleaver;
  readonly #sink: Sink<PacketBatch>;
  #state: "stopped" | "running" | "closed" = "stopped";
  #publisher: string | undefined;
  #audioTrack: RtpTrack | undefined;
  #videoTrack: RtpTrack | undefined;
  /** What the present publisher sends of each kind can be bridged. */
  #hasVideo = false;
  #hasAudio = false;
  /** Why the present publisher cannot be bridged at all. */
  #refusal: string | undefined;
  #keyFrameTimer: TimerHandle | undefined;
  #lastKeyFrame = 0;
  /** Decoding time of the last picture, and the latest RTP time so far. */
  #lastDts = Number.NEGATIVE_INFINITY;
  #lastTimestamp = Number.NEGATIVE_INFINITY;

  constructor(options: RtcToRtmpOptions) {
    const { stream, clock, transcoders, log } = options;
    this.#stream = stream;
    this.#clock = clock;
    this.#log = log;
    this.#keyFrameInterval = options.keyFrameInterval ?? 6_000;
    this.#interleaver = new Interleaver(clock, (frame) => stream.frames.write(frame));
    this.#video = new H264Depayloader({
      onUnit: (unit) => this.#onUnit(unit),
      onDamage: (reason) => this.#onDamage(reason),
    });
    this.#audio = new AacPath({
      stream,
      clock,
      transcoders,
      log,
      bitrate: options.aacBitrate ?? 128_000,
      onFrame: (frame) => this.#onAudio(frame),
      onState: (state) => this.#interleaver.expect("audio", state === "flowing"),
    });
    this.#sink = { write: (batch) => this.#write(batch), close: () => this.stop() };
  }

  start(): void {
    if (this.#state !== "stopped") return;
    this.#state = "running";
    this.#publisher = undefined;
    this.#followPublisher();
    this.#stream.packets.add(this.#sink, "any");
    this.#catchUp();
    this.#watchKeyFrames();
  }

  stop(): void {
    if (this.#state !== "running") return;
    this.#state = "stopped";
    this.#stream.packets.remove(this.#sink);
    this.#keyFrameTimer?.cancel();
    this.#keyFrameTimer = undefined;
    this.#audio.stop();
    this.#video.reset();
    this.#interleaver.clear();
    this.#interleaver.expect("video", false);
  }

  close(_reason: string): void {
    this.stop();
    this.#state = "closed";
  }

  requestKeyFrame(reason: string): void {
    this.#stream.packets.requestKeyFrame(reason);
  }

  refusal(): string | undefined {
    const video = this.#stream.packets.track("video");
    const audio = this.#stream.packets.track("audio");
    if (video !== undefined && video.codec !== "h264") {
      return `the publisher sends ${video.codec}, and only h264 is bridged from WebRTC`;
    }
    if (video === undefined && audio !== undefined && audio.codec !== "opus") {
      return `the publisher sends ${audio.codec}, and only opus is bridged from WebRTC`;
    }
    return undefined;
  }

  /** A key frame of a moment ago serves at once; an older one would leave the viewer behind, and a new one is asked for. */
  #catchUp(): void {
    const { packets } = this.#stream;
    const start = packets.keyFrameStart;
    const first = start === undefined ? undefined : packets.find("video", start);
    const age = first === undefined ? Number.POSITIVE_INFINITY : this.#stream.now() - this.#streamTimeOf(first);
    if (start === undefined || age > MAX_CATCH_UP) {
      this.requestKeyFrame("the bridge to RTMP has started");
      return;
    }
    for (let number = start; number < packets.nextSequenceNumber("video"); number++) {
      const packet = packets.find("video", number);
      if (packet !== undefined) this.#writeVideo(packet);
    }
  }

  #write(batch: PacketBatch): void {
    this.#followPublisher();
    // Viewers of the publisher before, whose codec was another: they are told instead of left with a picture that stands still.
    if (this.#refusal !== undefined) this.#stream.frames.dismiss(this.#refusal);
    for (let index = 0; index < batch.length; index++) {
      const packet = batch[index] as MediaPacket;
      if (packet.kind === "video") this.#writeVideo(packet);
      else if (this.#hasAudio) this.#audio.write(packet);
    }
  }

  #writeVideo(packet: MediaPacket): void {
    if (this.#hasVideo) this.#video.push(packet.sequenceNumber, packet.timestamp, packet.marker, packet.payload);
  }

  /** The numbers go on over a change of publishers, the pictures do not. */
  #followPublisher(): void {
    const id = this.#stream.publisher?.id;
    const audio = this.#stream.packets.track("audio");
    const video = this.#stream.packets.track("video");
    if (id === this.#publisher && audio === this.#audioTrack && video === this.#videoTrack) return;
    this.#publisher = id;
    this.#audioTrack = audio;
    this.#videoTrack = video;
    this.#video.reset();
    this.#audio.reset();
    this.#interleaver.expect("video", false);
    this.#hasVideo = this.#takes("video", "h264");
    this.#hasAudio = this.#takes("audio", "opus");
    if (this.#hasVideo && video !== undefined) this.#video.setFormatParameters(video.formatParameters);
    if (this.#hasAudio) this.#audio.start();
    else this.#audio.stop(); // a picture must not wait for sound that does not come
    this.#refusal = this.refusal();
  }

  /** Whether a track is of the codec that is bridged; if not, that is said once. */
  #takes(kind: "audio" | "video", codec: string): boolean {
    const { packets, notes } = this.#stream;
    const track = packets.track(kind);
    if (track === undefined || track.codec === codec) return track !== undefined;
    const reason = `${track.codec} is left out: only ${codec} is bridged from WebRTC`;
    this.#log.warn(`${kind}: ${reason}`);
    notes.set(kind, reason);
    return false;
  }

  #onUnit(unit: DepayloadedUnit): void {
    const streamTime = this.#streamTimeOf({ kind: "video", timestamp: unit.timestamp });
    const dts = Math.max(0, streamTime, this.#lastDts + MIN_FRAME_DISTANCE);
    // Only a picture that is shown before one that was sent earlier keeps a time of its own; all else is the clock being refined.
    const isReordered = unit.timestamp < this.#lastTimestamp;
    const pts = isReordered ? Math.max(0, streamTime) : dts;
    this.#lastDts = dts;
    this.#lastTimestamp = Math.max(this.#lastTimestamp, unit.timestamp);
    if (unit.isKey) this.#lastKeyFrame = this.#clock.now();
    const { config, isKey } = unit;
    if (config !== undefined) this.#pushVideo(dts, dts, true, true, config);
    this.#pushVideo(dts, pts, isKey, false, unit.data);
    this.#interleaver.expect("video", true);
  }

  #pushVideo(dts: number, pts: number, isKey: boolean, isConfig: boolean, data: Buffer): void {
    this.#interleaver.push({ kind: "video", codec: "h264", dts, pts, isKey, isConfig, data });
  }

  /** The configuration leaves at once, so that a viewer knows early that there is sound. */
  #onAudio(frame: Frame): void {
    if (frame.isConfig) this.#stream.frames.write({ ...frame, dts: this.#configTime(), pts: this.#configTime() });
    else this.#interleaver.push(frame);
  }

  #configTime(): number {
    return Math.max(0, this.#interleaver.lastDts);
  }

  #onDamage(reason: string): void {
    this.#interleaver.expect("video", false); // sound goes on meanwhile
    if (this.#state !== "running") return;
    this.requestKeyFrame(`the bridge to RTMP: ${reason}`);
    this.#watchKeyFrames();
  }

  /** Asks for key frames at their interval, and more often while none is there to go on from: a request may be lost or merged. */
  #watchKeyFrames(): void {
    this.#keyFrameTimer?.cancel();
    const delay = this.#video.state === "waiting" ? KEY_FRAME_RETRY : this.#keyFrameInterval;
    this.#keyFrameTimer = this.#clock.after(delay, () => {
      this.#followPublisher();
      const isOverdue = this.#video.state === "waiting" || this.#clock.now() - this.#lastKeyFrame >= this.#keyFrameInterval / 2;
      if (this.#stream.state === "live" && isOverdue && this.#hasVideo) this.requestKeyFrame("the bridge to RTMP");
      this.#watchKeyFrames();
    });
  }

  #streamTimeOf(packet: Pick<MediaPacket, "kind" | "timestamp">): number {
    return Math.round((this.#stream.packets.wallTimeOf(packet.kind, packet.timestamp) - this.#stream.wallTimeOf(0)) * 1000);
  }
}

const MAX_CATCH_UP = 1_500_000; // microseconds
const MIN_FRAME_DISTANCE = 1_000; // microseconds: RTMP and FLV count milliseconds
const KEY_FRAME_RETRY = 500; // ms; the lane merges what comes sooner
