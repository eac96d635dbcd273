// How a viewer that comes late gets up to date: the current group of pictures once more, key frame first, faster than real time.
// The pictures' RTP times are squeezed to a few ticks apart right before the live picture: a browser plays pictures that carry
// their true old times at their own pace and would stay a whole group behind (docs/architecture.md, "Joining").

import type { MediaKind, MediaPacket } from "./packet.js";

/** The part of a packets lane that is needed here. */
export interface VideoHistory {
  find(kind: MediaKind, sequenceNumber: number): MediaPacket | undefined;
  readonly keyFrameStart: number | undefined;
  nextSequenceNumber(kind: MediaKind): number;
}

export class CatchUp {
  /** Add this to the RTP time of the packet that `next` gave. */
  timestampDelta = 0;
  /** `live`: all is sent, live packets may follow; `lost`: the history no longer holds what comes next. */
  state: "running" | "live" | "lost" = "running";
  /** Payload bytes of the group, and of its key frame, when the catch-up began. */
  totalBytes = 0;
  keyFrameBytes = 0;

  readonly #history: VideoHistory;
  #cursor: number;
  /** Up to here pictures are squeezed and may be left out; what comes later is live. */
  readonly #squeezeEnd: number;
  readonly #firstTimestamp: number;
  readonly #step: number;
  #frame = -1;
  #sourceTimestamp = Number.NaN;
  #outTimestamp: number;
  #atBoundary = true;

  /**
   * @param start the lane's `keyFrameStart`
   * @param lastTimestamp RTP time of the last packet the viewer got, on the lane's clock; -Infinity for a new viewer
   */
  constructor(history: VideoHistory, start: number, lastTimestamp: number) {
    this.#history = history;
    this.#cursor = start;
    this.#squeezeEnd = history.nextSequenceNumber("video");
    let frames = 0;
    let keyFrame = Number.NaN;
    let timestamp = Number.NaN;
    let newest = Number.NEGATIVE_INFINITY;
    for (let number = start; number < this.#squeezeEnd; number++) {
      const packet = history.find("video", number);
      if (packet === undefined) break;
      if (packet.timestamp > newest) newest = packet.timestamp;
      if (packet.isDiscardable) continue;
      if (packet.timestamp !== timestamp) {
        frames++;
        timestamp = packet.timestamp;
        if (frames === 1) keyFrame = timestamp;
      }
      this.totalBytes += packet.payload.length;
      if (timestamp === keyFrame) this.keyFrameBytes += packet.payload.length;
    }
    // The last squeezed picture keeps its true time unless the viewer is past it already.
    this.#step = lastTimestamp >= newest ? 1 : Math.max(1, Math.min(MAX_STEP, Math.floor(SQUEEZED_SPAN / Math.max(1, frames))));
    this.#firstTimestamp = lastTimestamp >= newest ? lastTimestamp + 1 : newest - (frames - 1) * this.#step;
    this.#outTimestamp = this.#firstTimestamp - 1;
  }

  /** The next packet to send, or undefined when `state` is no longer `running`. */
  next(): MediaPacket | undefined {
    if (this.state !== "running") return undefined;
    for (;;) {
      if (this.#atBoundary) this.#skipToNewerKeyFrame();
      if (this.#cursor >= this.#history.nextSequenceNumber("video")) {
        this.state = "live";
        return undefined;
      }
      const packet = this.#history.find("video", this.#cursor);
      if (packet === undefined) {
        this.state = "lost";
        return undefined;
      }
      this.#cursor++;
      this.#atBoundary = packet.marker;
      if (packet.isDiscardable && this.#cursor <= this.#squeezeEnd) continue;
      if (packet.timestamp !== this.#sourceTimestamp) this.#beginFrame(packet);
      this.timestampDelta = this.#outTimestamp - packet.timestamp;
      return packet;
    }
  }

  #beginFrame(packet: MediaPacket): void {
    this.#sourceTimestamp = packet.timestamp;
    this.#frame++;
    const wanted = packet.sequenceNumber < this.#squeezeEnd ? this.#firstTimestamp + this.#frame * this.#step : packet.timestamp;
    this.#outTimestamp = Math.max(wanted, this.#outTimestamp + 1);
  }

  /** While we were sending, a new group has begun: nothing before it is needed any more. */
  #skipToNewerKeyFrame(): void {
    const start = this.#history.keyFrameStart;
    if (start !== undefined && start > this.#cursor) this.#cursor = start;
  }
}

const SQUEEZED_SPAN = 900; // ticks of 90 kHz, 10 ms: the whole group appears to have been taken within this time
const MAX_STEP = 90; // ticks
