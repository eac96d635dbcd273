// Finds out whether an H.264 stream sends pictures in another order than they are shown (B-frames), which WebRTC cannot play.

import type { Frame } from "../media/frame.js";
import { describeAccessUnit, NalCursor, SLICE } from "../media/h264.js";
import type { Sps } from "../media/h264-sps.js";

/** What one access unit means for a viewer that cannot reorder. */
export type PictureRole = {
  /** Shown before a picture that was sent earlier. */
  readonly isOutOfOrder: boolean;
  /** No other picture refers to it. */
  readonly isUnreferenced: boolean;
};

export class ReorderDetector {
  readonly #cursor = new NalCursor(EMPTY);
  #latestPts = Number.NEGATIVE_INFINITY;
  #mayReorder = true;
  #hasReordered = false;

  /** Reordered pictures have been seen since the last `reset`. */
  get hasReordered(): boolean {
    return this.#hasReordered;
  }

  /** @param sps of the stream from here on; it may rule reordering out */
  reset(sps: Sps | undefined): void {
    this.#mayReorder = sps === undefined || (sps.picOrderCountType !== 2 && sps.maxReorderFrames !== 0);
    this.#latestPts = Number.NEGATIVE_INFINITY;
    this.#hasReordered = false;
  }

  inspect(frame: Frame): PictureRole {
    if (!this.#mayReorder) return IN_ORDER;
    const info = describeAccessUnit(frame.data, this.#cursor);
    this.#cursor.reset(EMPTY); // no reference is kept
    if (info.isIdr) this.#latestPts = Number.NEGATIVE_INFINITY;
    // The slice type counts too: some publishers send B-frames without telling composition times.
    const isOutOfOrder = info.hasSlice && !info.isIdr && (frame.pts < this.#latestPts - JITTER || info.sliceType === SLICE.B);
    if (isOutOfOrder) this.#hasReordered = true;
    if (frame.pts > this.#latestPts) this.#latestPts = frame.pts;
    return { isOutOfOrder, isUnreferenced: info.hasSlice && info.refIdc === 0 };
  }
}

const IN_ORDER: PictureRole = { isOutOfOrder: false, isUnreferenced: false };
const JITTER = 5_000; // microseconds by which times of some encoders step back; pictures stand further apart
const EMPTY: Buffer = Buffer.alloc(0);
