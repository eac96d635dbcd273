// From the frames lane to many viewers over TCP (RTMP, HTTP-FLV): each frame becomes bytes once, the frames of a few milliseconds
// become one block, and every viewer is handed the same blocks.

import type { Frame, Sink } from "../media/frame.js";
import type { Clock, TimerHandle } from "./clock.js";
import type { Stream } from "./types.js";

/** Frames of a short time as the bytes that every viewer gets; never changed. */
export type Block = {
  readonly bytes: Buffer;
  /** Milliseconds on the stream's clock, of the first frame. */
  readonly timestamp: number;
  readonly frames: number;
  /** A viewer may begin here: the block starts with a key frame, or there is no video that could be waited for. */
  readonly isEntry: boolean;
};

export interface BlockViewer {
  /** Where the viewer begins: configurations and metadata, then the blocks since the last key frame, if they are kept. */
  open(group: readonly Block[]): void;
  write(block: Block): void;
  /** The stream has ended. Called at most once. */
  close(reason: string): void;
}

/** What of a stream is sent. */
export type Selection = "all" | "audio" | "video";

export type FrameFanOutOptions = {
  readonly stream: Stream;
  readonly clock: Clock;
  readonly selection: Selection;
  /**
   * Makes a frame's bytes.
   *
   * @param timestamp milliseconds, unwrapped; use it instead of the frame's own dts
   * @returns undefined when the protocol has no way to carry it
   */
  readonly encode: (frame: Frame, timestamp: number) => Buffer | undefined;
  /** Milliseconds for which frames are gathered into one block, by the number of viewers. Default `mergeWindow`. */
  readonly window?: (viewers: number) => number;
};

/** Milliseconds to gather frames for: a write costs more than what is in it, but only many viewers make that worth a delay. */
export function mergeWindow(viewers: number): number {
  if (viewers <= 8) return 5;
  return Math.min(45, 5 + viewers);
}

export class FrameFanOut implements Sink<Frame> {
  readonly #options: FrameFanOutOptions;
  readonly #stream: Stream;
  readonly #viewers = new Set<BlockViewer>();
  #pending: Frame[] = [];
  #timer: TimerHandle | undefined;
  /** Blocks since the last key frame, that one first; empty when the stream keeps no backlog. */
  #group: Block[] = [];
  /** Timestamp of the last frame in a block: what is sent never steps back, over both tracks. */
  #last = 0;
  /** The same of each track: players complain when two frames of one have the same time, as some publishers' do. */
  #lastOfTrack = { audio: -1, video: -1 };
  /** Video waits for a key frame: the stream has just begun, or has new parameter sets. */
  #needsKey = true;
  #lastVideoAt = Number.NEGATIVE_INFINITY;
  #isAttaching = false;

  constructor(options: FrameFanOutOptions) {
    this.#options = options;
    this.#stream = options.stream;
  }

  get viewerCount(): number {
    return this.#viewers.size;
  }

  /** Hands the viewer what there is to begin with, in this call, and the rest as it comes. */
  add(viewer: BlockViewer): void {
    if (this.#viewers.size === 0) this.#attach();
    this.#viewers.add(viewer);
    viewer.open(this.#group);
  }

  /** Idempotent. */
  remove(viewer: BlockViewer): void {
    if (this.#viewers.delete(viewer) && this.#viewers.size === 0) this.#detach();
  }

  /** Metadata and configurations as bytes, for a viewer that begins (again) at this time. */
  preamble(timestamp: number): Buffer {
    const { metadata, videoConfig, audioConfig } = this.#stream.frames;
    const parts: Buffer[] = [];
    for (const frame of [metadata, videoConfig, audioConfig]) {
      const bytes = frame !== undefined && this.#isSelected(frame) ? this.#options.encode(frame, timestamp) : undefined;
      if (bytes !== undefined) parts.push(bytes);
    }
    return Buffer.concat(parts);
  }

  write(frame: Frame): void {
    if (this.#isAttaching || !this.#isSelected(frame)) return;
    const isVideo = frame.kind === "video";
    if (frame.isConfig || frame.kind === "data") {
      this.#flush(); // nothing is sorted past a change of configuration
      if (isVideo) {
        this.#needsKey = true;
        this.#group = []; // its frames need the old one
      }
    } else if (isVideo) {
      if (this.#needsKey && !frame.isKey) return;
      if (frame.isKey) this.#flush(); // so that the block begins with it
      this.#needsKey = false;
      this.#lastVideoAt = this.#options.clock.now();
    }
    this.#pending.push(frame);
    if (this.#timer !== undefined) return;
    const window = (this.#options.window ?? mergeWindow)(this.#viewers.size);
    this.#timer = this.#options.clock.after(window, () => this.#flush());
  }

  /** The lane has ended for good. */
  close(reason: string): void {
    this.#flush();
    const viewers = [...this.#viewers];
    this.#viewers.clear();
    this.#detach();
    for (const viewer of viewers) viewer.close(reason);
  }

  #attach(): void {
    const { frames } = this.#stream;
    this.#isAttaching = true; // a converter that starts now fills the backlog, which is read below
    frames.add(this);
    this.#isAttaching = false;
    const backlog = frames.backlog.filter((frame) => this.#isSelected(frame));
    this.#needsKey = backlog[0]?.isKey !== true || backlog[0].kind !== "video";
    this.#lastVideoAt = this.#needsKey ? Number.NEGATIVE_INFINITY : this.#options.clock.now();
    if (this.#needsKey) return;
    for (let from = 0, size = 0, at = 0; at < backlog.length; at++) {
      size += backlog[at]?.data.length ?? 0;
      if (size < BACKLOG_BLOCK && at < backlog.length - 1) continue;
      this.#append(backlog.slice(from, at + 1), from === 0);
      from = at + 1;
      size = 0;
    }
  }

  #detach(): void {
    this.#stream.frames.remove(this);
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#pending = [];
    this.#group = [];
    this.#last = 0; // the next viewer begins with a backlog, some of which the last one may have had
    this.#lastOfTrack = { audio: -1, video: -1 };
  }

  #isSelected(frame: Frame): boolean {
    const { selection } = this.#options;
    return selection === "all" || frame.kind === "data" || frame.kind === selection;
  }

  #flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#pending.length === 0) return;
    const frames = this.#pending;
    this.#pending = [];
    const first = frames[0];
    const isKey = first?.kind === "video" && first.isKey && !first.isConfig;
    const isWithoutVideo = this.#options.clock.now() - this.#lastVideoAt > VIDEO_SILENCE;
    const block = this.#append(frames, isKey || isWithoutVideo, isKey);
    if (block === undefined) return;
    for (const viewer of this.#viewers) viewer.write(block);
  }

  #timeOf(frame: Frame): number {
    const time = Math.max(this.#last, Math.round(frame.dts / 1000));
    return frame.isConfig || frame.kind === "data" ? time : Math.max(time, this.#lastOfTrack[frame.kind] + 1);
  }

  /** Makes a block and keeps it for those who come later. */
  #append(frames: Frame[], isEntry: boolean, isKey = isEntry): Block | undefined {
    sortByTime(frames);
    const parts: Buffer[] = [];
    let timestamp = -1;
    for (const frame of frames) {
      const time = this.#timeOf(frame);
      const bytes = this.#options.encode(frame, time);
      if (bytes === undefined) continue;
      this.#last = time;
      if (!frame.isConfig && frame.kind !== "data") this.#lastOfTrack[frame.kind] = time;
      if (timestamp === -1) timestamp = time;
      parts.push(bytes);
    }
    if (parts.length === 0) return undefined;
    const block = { bytes: Buffer.concat(parts), timestamp, frames: parts.length, isEntry };
    if (isKey || this.#stream.frames.backlog.length === 0) this.#group = []; // a new array: a viewer may still hold the old one
    if (this.#stream.frames.backlog.length > 0 && (isKey || this.#group.length > 0)) this.#group.push(block);
    return block;
  }
}

/** Frames arrive nearly in order: the tracks of a publisher are a few milliseconds apart. Stable. */
function sortByTime(frames: Frame[]): void {
  for (let i = 1; i < frames.length; i++) {
    const frame = frames[i] as Frame;
    let at = i;
    for (; at > 0 && (frames[at - 1] as Frame).dts > frame.dts && !isFixed(frames[at - 1] as Frame); at--) {
      frames[at] = frames[at - 1] as Frame;
    }
    frames[at] = frame;
  }
}

/** What others must not be moved before: configurations, metadata, and the key frame that opens a block. */
function isFixed(frame: Frame): boolean {
  return frame.isConfig || frame.kind === "data" || (frame.kind === "video" && frame.isKey);
}

const BACKLOG_BLOCK = 65_536; // bytes: a backlog is written piece by piece as the viewer takes it
const VIDEO_SILENCE = 2_000; // ms without video after which viewers no longer wait for a key frame
