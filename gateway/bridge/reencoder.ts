// One run of the video transcoder for a stream with B-frames: fed with a group of pictures and what follows, on the stream's clock.

import type { TranscodedFrame, Transcoder, TranscoderFactory } from "../../transcoder/transcoder.js";
import type { Frame } from "../media/frame.js";
import type { Sps } from "../media/h264-sps.js";
import { MICROSECONDS } from "../media/time.js";

export type ReencoderOptions = {
  readonly transcoders: TranscoderFactory;
  readonly config: Frame;
  readonly sps: Sps | undefined;
  /** Video frames from a key frame to now. */
  readonly backlog: readonly Frame[];
  /** Whether a picture of the backlog is referred to by no other. */
  readonly isUnreferenced: (frame: Frame) => boolean;
  /** `pts` is on the stream's clock. */
  readonly onFrame: (frame: TranscodedFrame) => void;
  /** It ended or lags hopelessly; called at most once, never after `close`. */
  readonly onEnd: (reason: string) => void;
};

export class Reencoder {
  readonly #options: ReencoderOptions;
  readonly #transcoder: Transcoder;
  /** Stream time at which the run began. */
  readonly #anchor: number;
  readonly #firstLive: number;
  #latestOut: number | undefined;
  #state: "running" | "ended" = "running";

  /** @throws TypeError when the backlog is empty */
  constructor(options: ReencoderOptions) {
    const { backlog, config } = options;
    const first = backlog[0];
    const last = backlog.at(-1);
    if (first === undefined || last === undefined) throw new TypeError("ReencoderOptions.backlog must not be empty");
    this.#options = options;
    this.#anchor = Math.min(first.dts, first.pts);
    this.#firstLive = last.dts;
    const age = last.dts - first.dts;
    // The run reaches live soonest when what is old is only decoded, and of that only what live pictures can depend on.
    const skipBefore = age > CATCH_UP_FROM ? last.pts - this.#anchor + START_UP : 0;
    const frameRate = frameRateOf(backlog, options.sps);
    const pixels = (options.sps?.width ?? 1280) * (options.sps?.height ?? 720);
    const bitrate = bitrateOf(backlog, pixels * frameRate);
    this.#transcoder = options.transcoders.video(
      { codec: "h264", config: config.data, bitrate, frameRate, pixels, skipBefore },
      {
        onFrame: (frame) => this.#onFrame(frame),
        onEnd: (reason) => this.#end(reason),
      },
    );
    for (const frame of backlog) {
      const isOld = skipBefore > 0 && frame.pts < last.dts - KEEP_ALL_FROM;
      if (!isOld || !options.isUnreferenced(frame)) this.#feed(frame);
    }
  }

  write(frame: Frame): void {
    if (this.#state !== "running") return;
    const lag = frame.dts - (this.#latestOut ?? this.#firstLive);
    if (lag > (this.#latestOut === undefined ? START_LIMIT : LAG_LIMIT)) {
      this.close();
      this.#options.onEnd(`it is ${(lag / MICROSECONDS).toFixed(1)} s behind: this machine is too slow or busy`);
      return;
    }
    this.#feed(frame);
  }

  /** Idempotent; nothing is told after it. */
  close(): void {
    this.#state = "ended";
    this.#transcoder.close();
  }

  #feed(frame: Frame): void {
    const dts = frame.dts - this.#anchor;
    if (dts > RUN_LIMIT) {
      this.close();
      this.#options.onEnd("its clock is at its end");
      return;
    }
    this.#transcoder.write(frame.data, dts, frame.pts - this.#anchor, frame.isKey);
  }

  #onFrame(frame: TranscodedFrame): void {
    if (this.#state !== "running") return;
    const pts = frame.pts + this.#anchor;
    this.#latestOut = pts;
    this.#options.onFrame({ pts, isKey: frame.isKey, data: frame.data });
  }

  #end(reason: string): void {
    if (this.#state !== "running") return;
    this.#state = "ended";
    this.#options.onEnd(reason);
  }
}

/** Frames per second: the middle one of the steps between frames, as few publishers state it truly. */
function frameRateOf(frames: readonly Frame[], sps: Sps | undefined): number {
  const steps: number[] = [];
  for (let i = 1; i < frames.length; i++) {
    const step = (frames[i]?.dts ?? 0) - (frames[i - 1]?.dts ?? 0);
    if (step > 0) steps.push(step);
  }
  steps.sort((a, b) => a - b);
  const middle = steps[steps.length >> 1];
  const stated = sps?.frameRate ?? 25;
  const rate = middle === undefined || steps.length < 5 ? stated : MICROSECONDS / middle;
  return Math.max(5, Math.min(120, rate));
}

/** Bits per second: what the source has, and some more for the simpler encoding; by the picture's size while that is not known. */
function bitrateOf(frames: readonly Frame[], pixelsPerSecond: number): number {
  let bytes = 0;
  for (const frame of frames) bytes += frame.data.length;
  const seconds = ((frames.at(-1)?.dts ?? 0) - (frames[0]?.dts ?? 0)) / MICROSECONDS;
  const wanted = seconds >= 1 ? ((bytes * 8) / seconds) * 1.25 : pixelsPerSecond * 0.1;
  return Math.round(Math.max(300_000, Math.min(8_000_000, wanted)));
}

const CATCH_UP_FROM = 400_000; // microseconds of backlog; less is encoded in no time
const START_UP = 250_000; // microseconds: what comes within this is still swallowed while the transcoder starts and catches up
const KEEP_ALL_FROM = 100_000;
const START_LIMIT = 5_000_000; // microseconds without any output
const LAG_LIMIT = 2_000_000; // microseconds behind
const RUN_LIMIT = 2_000_000_000_000; // microseconds, 23 days: a transcoder counts milliseconds in 31 bits
