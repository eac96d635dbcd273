// How a viewer that comes late gets up to date: the current group of pictures once more, key frame first, faster than real time.
// Each picture's RTP time is moved to right before that of the newest picture there is at this moment: a browser plays pictures that
// carry their true old times at their own pace and would stay a whole group behind; and times that stood still while the clock on the
// wall goes on would make it believe that the sender's clock is slow, and hold later pictures for seconds
// (docs/architecture.md, "Joining").

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
  /** Pictures begun so far. */
  pictures = 0;

  readonly #history: VideoHistory;
  #cursor: number;
  /** Up to here pictures that nothing refers to are left out. */
  readonly #backlogEnd: number;
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
    this.#backlogEnd = history.nextSequenceNumber("video");
    this.#outTimestamp = lastTimestamp;
    let keyFrame: number | undefined;
    for (let number = start; number < this.#backlogEnd; number++) {
      const packet = history.find("video", number);
      if (packet === undefined) break;
      if (packet.isDiscardable) continue;
      keyFrame ??= packet.timestamp;
      this.totalBytes += packet.payload.length;
      if (packet.timestamp === keyFrame) this.keyFrameBytes += packet.payload.length;
    }
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
      if (packet.isDiscardable && this.#cursor <= this.#backlogEnd) continue;
      if (packet.timestamp !== this.#sourceTimestamp) this.#beginFrame(packet);
      this.timestampDelta = this.#outTimestamp - packet.timestamp;
      return packet;
    }
  }

  #beginFrame(packet: MediaPacket): void {
    this.pictures++;
    this.#sourceTimestamp = packet.timestamp;
    const end = this.#history.nextSequenceNumber("video");
    const newest = this.#history.find("video", end - 1)?.timestamp ?? packet.timestamp;
    // One tick per packet that is left, so that every picture in between finds a time of its own and the newest keeps its true one.
    const wanted = packet.timestamp === newest ? newest : Math.max(packet.timestamp, newest - (end - packet.sequenceNumber));
    this.#outTimestamp = Math.max(wanted, this.#outTimestamp + 1);
  }

  /** While we were sending, a new group has begun: nothing before it is needed any more. */
  #skipToNewerKeyFrame(): void {
    const start = this.#history.keyFrameStart;
    if (start !== undefined && start > this.#cursor) this.#cursor = start;
  }
}
