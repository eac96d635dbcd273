// The video half of the bridge from frames to packets: H.264 cut into packets as it is, or without B-frames.

import type { TranscodedFrame, TranscoderFactory } from "../../transcoder/transcoder.js";
import type { Clock } from "../hub/clock.js";
import type { Stream } from "../hub/types.js";
import type { Frame } from "../media/frame.js";
import { spsOfConfig } from "../media/h264.js";
import type { Sps } from "../media/h264-sps.js";
import { MICROSECONDS, rescale, VIDEO_CLOCK_RATE } from "../media/time.js";
import { H264Packetizer } from "../rtp/h264-payload.js";
import { Backoff } from "./backoff.js";
import type { Notices } from "./notices.js";
import { Reencoder } from "./reencoder.js";
import { ReorderDetector } from "./reorder-detector.js";
import type { BframeMode, BridgeLog, WorkSlots } from "./types.js";

export type VideoPathOptions = {
  readonly stream: Stream;
  readonly clock: Clock;
  readonly transcoders: TranscoderFactory;
  readonly log: BridgeLog;
  readonly notices: Notices;
  readonly bframe: BframeMode;
  readonly keepSei: boolean;
  /** Places for video transcoders. */
  readonly slots: WorkSlots;
};

export class VideoPath {
  readonly #options: VideoPathOptions;
  readonly #packetizer: H264Packetizer;
  /** For what the transcoder gives: it carries its own parameter sets. */
  readonly #transcodedPacketizer: H264Packetizer;
  readonly #detector = new ReorderDetector();
  readonly #backoff: Backoff;
  #state: "stopped" | "running" = "stopped";
  #config: Frame | undefined;
  #sps: Sps | undefined;
  #publisher: string | undefined;
  /** Whose pictures the viewers get. */
  #output: "source" | "transcoder" = "source";
  /** The source's pictures make sense to the viewers from its next key frame on only. */
  #awaitsKey = false;
  #reencoder: Reencoder | undefined;
  #releaseSlot: (() => void) | undefined;
  /** Pictures of the source that wait for the transcoder to take over; sent after all when it does not in time. */
  #held: HeldPicture[] | undefined;
  /** Clock time before which no transcoder is tried. */
  #retryAt = 0;
  #lastTimestamp = Number.NEGATIVE_INFINITY;
  /** Of the last picture that was sent from the source, on the stream's clock. */
  #lastPts = Number.NEGATIVE_INFINITY;

  constructor(options: VideoPathOptions) {
    this.#options = options;
    this.#packetizer = new H264Packetizer({ keepSei: options.keepSei });
    this.#transcodedPacketizer = new H264Packetizer({ keepSei: false });
    this.#backoff = new Backoff(options.clock);
  }

  /**
   * Brings the packets up to now.
   *
   * @param config the configuration known so far
   * @param backlog frames from the last key frame to now; those of other kinds are passed over
   */
  start(config: Frame | undefined, backlog: readonly Frame[]): void {
    this.#state = "running";
    this.#awaitsKey = true;
    this.#backoff.reset();
    this.#retryAt = 0;
    if (config !== undefined) this.#configure(config);
    const pictures = backlog.filter((frame) => frame.kind === "video" && frame.codec === "h264" && !frame.isConfig);
    const roles = pictures.map((frame) => this.#detector.inspect(frame)); // all of them before the first is sent
    if (this.#detector.hasReordered) this.#onReordered();
    pictures.forEach((frame, i) => {
      this.#sendSource(frame, roles[i]?.isOutOfOrder === true);
    });
  }

  /** Ends the transcoder and keeps no reference to media. */
  stop(): void {
    this.#state = "stopped";
    this.#endReencoder();
    this.#config = undefined;
    this.#sps = undefined;
    this.#packetizer.setConfig(NO_CONFIG);
  }

  write(frame: Frame): void {
    if (this.#state !== "running") return;
    if (frame.codec !== "h264") {
      this.#options.notices.tell("video", "warn", videoRefusal(frame.codec));
      return;
    }
    if (frame.isConfig) {
      this.#configure(frame);
      return;
    }
    const { isOutOfOrder } = this.#detector.inspect(frame);
    if (this.#reencoder !== undefined) this.#reencoder.write(frame);
    else if (this.#detector.hasReordered) this.#onReordered(); // begins with the cached pictures, this one among them
    if (this.#output === "transcoder") return;
    if (this.#held === undefined) this.#sendSource(frame, isOutOfOrder);
    else this.#hold(this.#held, frame, isOutOfOrder);
  }

  /**
   * A viewer has its first picture from the cached ones. What follows live without B-frames would run ahead of what the transcoder
   * gives a moment later, and the browser's idea of the delay with it: better a short rest.
   */
  #hold(held: HeldPicture[], frame: Frame, isOutOfOrder: boolean): void {
    held.push({ frame, isOutOfOrder });
    if (frame.dts - (held[0]?.frame.dts ?? 0) > HOLD_LIMIT) this.#releaseHeld();
  }

  #releaseHeld(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const { frame, isOutOfOrder } of held) this.#sendSource(frame, isOutOfOrder);
  }

  #configure(frame: Frame): void {
    if (frame.codec !== "h264") {
      this.#options.notices.tell("video", "warn", videoRefusal(frame.codec));
      return;
    }
    const publisher = this.#options.stream.publisher?.id;
    if (publisher === this.#publisher && this.#config?.data.equals(frame.data)) return;
    this.#publisher = publisher;
    this.#endReencoder();
    this.#backoff.reset();
    this.#retryAt = 0;
    this.#awaitsKey = true;
    if (!this.#packetizer.setConfig(frame.data)) {
      this.#options.log.warn("video: a configuration that makes no sense; key frames without parameter sets cannot be played");
    }
    this.#config = frame;
    this.#sps = spsOfConfig(frame.data);
    this.#detector.reset(this.#sps);
    this.#options.notices.note("video", "h264 as it is");
  }

  #onReordered(): void {
    const { bframe } = this.#options;
    if (bframe === "keep")
      this.#options.notices.tell("video", "info", "h264 with B-frames as they are: browsers cannot play them (bframe keep)");
    else if (bframe === "drop") this.#options.notices.tell("video", "info", "h264 with B-frames left out (bframe drop)");
    else this.#startReencoder();
  }

  /** Does nothing while it cannot; then B-frames are left out. */
  #startReencoder(): void {
    const { bframe, transcoders, clock, slots, stream } = this.#options;
    const config = this.#config;
    if (config === undefined || clock.now() < this.#retryAt) return;
    if (transcoders.videoRefusal !== undefined) {
      this.#options.notices.tell(
        "video",
        "info",
        `h264 with B-frames left out, as they cannot be re-encoded: ${transcoders.videoRefusal}`,
      );
      this.#retryAt = Number.POSITIVE_INFINITY;
      return;
    }
    const backlog = stream.frames.backlog.filter((frame) => frame.kind === "video");
    if (backlog[0]?.isKey !== true) return; // the next key frame tries again
    const release = slots.acquire();
    if (release === undefined && bframe === "auto") {
      this.#retryAt = clock.now() + ROOM_INTERVAL;
      this.#options.notices.tell(
        "video",
        "info",
        "h264 with B-frames left out: this machine has no room to re-encode another stream",
      );
      return;
    }
    this.#releaseSlot = release;
    const probe = new ReorderDetector();
    probe.reset(this.#sps);
    this.#backoff.onStart();
    this.#reencoder = new Reencoder({
      transcoders,
      config,
      sps: this.#sps,
      backlog,
      isUnreferenced: (frame) => probe.inspect(frame).isUnreferenced,
      onFrame: (frame) => this.#sendTranscoded(frame),
      onEnd: (reason) => this.#onReencoderEnd(reason),
    });
    this.#held = [];
    this.#options.notices.tell(
      "video",
      "info",
      `h264 re-encoded, because the publisher sends B-frames, which WebRTC cannot play (bframe ${bframe})`,
    );
  }

  #onReencoderEnd(reason: string): void {
    const { log, clock } = this.#options;
    const delay = this.#backoff.next();
    this.#endReencoder();
    this.#retryAt = clock.now() + delay;
    log.warn(`video: the transcoder ended (${reason}); B-frames are left out, next try in ${delay} ms or more`);
    this.#options.notices.note("video", `h264 with B-frames left out: the transcoder ended (${reason})`);
  }

  #endReencoder(): void {
    const reencoder = this.#reencoder;
    this.#reencoder = undefined;
    reencoder?.close();
    this.#releaseSlot?.();
    this.#releaseSlot = undefined;
    if (this.#output === "transcoder") this.#awaitsKey = true;
    this.#output = "source";
    if (this.#state === "running") this.#releaseHeld();
    this.#held = undefined;
  }

  #sendSource(frame: Frame, isOutOfOrder: boolean): void {
    if (frame.isKey) this.#awaitsKey = false;
    if (this.#awaitsKey) return;
    const keeps = this.#options.bframe === "keep";
    if (!keeps && this.#detector.hasReordered && !frame.isKey) {
      // Pictures that others refer to are left out as well: a browser's decoder reports an error for each that comes out of order,
      // and waits for the next key frame.
      if (isOutOfOrder || frame.pts <= this.#lastPts) return;
    }
    this.#lastPts = frame.pts;
    const time = rescale(frame.pts, MICROSECONDS, VIDEO_CLOCK_RATE);
    this.#send(this.#packetizer, frame.data, frame.isKey, keeps ? time : Math.max(time, this.#lastTimestamp + 1));
  }

  #sendTranscoded(frame: TranscodedFrame): void {
    if (this.#output === "source") {
      if (!frame.isKey) return;
      this.#output = "transcoder";
      this.#held = undefined;
    }
    const time = rescale(frame.pts, MICROSECONDS, VIDEO_CLOCK_RATE);
    this.#send(this.#transcodedPacketizer, frame.data, frame.isKey, Math.max(time, this.#lastTimestamp + MIN_STEP));
  }

  #send(packetizer: H264Packetizer, data: Buffer, isKey: boolean, timestamp: number): void {
    const { packets } = this.#options.stream;
    const batch = packetizer.packetize(data, isKey, timestamp, packets.nextSequenceNumber("video"));
    if (batch.length === 0) return;
    this.#lastTimestamp = timestamp;
    packets.write(batch);
  }
}

/** Why viewers over WebRTC cannot get video of this codec from a publisher of frames. */
export function videoRefusal(codec: string): string {
  return `${codec} video is not bridged to WebRTC: publish h264 instead`;
}

type HeldPicture = { readonly frame: Frame; readonly isOutOfOrder: boolean };

const HOLD_LIMIT = 1_000_000; // microseconds
const NO_CONFIG: Buffer = Buffer.from([1, 0, 0, 0, 0xff, 0xe0, 0]); // AVCDecoderConfigurationRecord without any parameter set
const ROOM_INTERVAL = 2_000; // ms between looks whether there is room
const MIN_STEP = 90; // ticks, 1 ms: while the transcoder is behind what the source had reached
