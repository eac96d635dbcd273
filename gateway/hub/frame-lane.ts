// The lane of encoded frames: configuration, the group of pictures since the last key frame, and whoever reads it live.

import type { Frame, Sink } from "../media/frame.js";
import type { FrameLane } from "./types.js";

/** Bytes of the cached group of pictures, per stream: 10 s at 25 Mbit/s. A longer group is not cached at all. */
const MAX_BACKLOG_BYTES = 32 * 1024 * 1024;

export class LiveFrameLane implements FrameLane {
  videoConfig: Frame | undefined;
  audioConfig: Frame | undefined;
  metadata: Frame | undefined;
  readonly #maxFrames: number;
  readonly #onDemand: (viewers: number) => void;
  readonly #sinks = new Set<Sink<Frame>>();
  #backlog: Frame[] = [];
  #backlogBytes = 0;

  /**
   * @param maxFrames frames of the backlog, 0 for no backlog
   * @param onDemand told the number of viewers after each change
   */
  constructor(maxFrames: number, onDemand: (viewers: number) => void) {
    this.#maxFrames = maxFrames;
    this.#onDemand = onDemand;
  }

  get backlog(): readonly Frame[] {
    return this.#backlog;
  }

  get viewerCount(): number {
    return this.#sinks.size;
  }

  get isAwaited(): boolean {
    for (const sink of this.#sinks) if (sink.isPatient !== true) return true;
    return false;
  }

  add(sink: Sink<Frame>): void {
    this.#sinks.add(sink);
    this.#onDemand(this.#sinks.size);
  }

  remove(sink: Sink<Frame>): void {
    if (this.#sinks.delete(sink)) this.#onDemand(this.#sinks.size);
  }

  dismiss(reason: string): void {
    if (this.#sinks.size === 0) return;
    this.#closeSinks(reason);
    this.#onDemand(0);
  }

  write(frame: Frame): void {
    if (frame.isConfig || frame.kind === "data") {
      if (!this.#remember(frame)) return;
    } else {
      this.#cache(frame);
    }
    for (const sink of this.#sinks) sink.write(frame);
  }

  /** Forgets what belongs to a publisher that has left; viewers stay. */
  reset(): void {
    this.videoConfig = undefined;
    this.audioConfig = undefined;
    this.metadata = undefined;
    this.#clearBacklog();
  }

  close(reason: string): void {
    this.reset();
    this.#closeSinks(reason);
  }

  #closeSinks(reason: string): void {
    const sinks = [...this.#sinks];
    this.#sinks.clear();
    for (const sink of sinks) sink.close(reason);
  }

  /** @returns false for a configuration that says nothing new: many encoders repeat it before each key frame */
  #remember(frame: Frame): boolean {
    if (frame.kind === "data") {
      this.metadata = frame;
      return true;
    }
    const known = frame.kind === "video" ? this.videoConfig : this.audioConfig;
    if (known !== undefined && known.codec === frame.codec && known.data.equals(frame.data)) return false;
    if (frame.kind === "video") {
      this.videoConfig = frame;
      this.#clearBacklog(); // its frames need the old configuration
    } else {
      this.audioConfig = frame;
    }
    return true;
  }

  #cache(frame: Frame): void {
    if (this.#maxFrames === 0) return;
    if (frame.kind === "video" && frame.isKey) this.#clearBacklog();
    else if (this.#backlog.length === 0) return;
    if (this.#backlog.length >= this.#maxFrames || this.#backlogBytes + frame.data.length > MAX_BACKLOG_BYTES) {
      this.#clearBacklog();
      return;
    }
    this.#backlog.push(frame);
    this.#backlogBytes += frame.data.length;
  }

  #clearBacklog(): void {
    this.#backlog = []; // a new array: a reader may still walk the old one
    this.#backlogBytes = 0;
  }
}
