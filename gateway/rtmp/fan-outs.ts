// Which players of a stream share bytes: all that want the same tracks on the same message stream id.

import type { Clock } from "../hub/clock.js";
import { FrameFanOut, type Selection } from "../hub/frame-fan-out.js";
import type { Stream } from "../hub/types.js";
import { mediaBytes } from "./media-message.js";
import { MEDIA_CHUNK_SIZE } from "./message-link.js";

export class RtmpFanOuts {
  readonly #clock: Clock;
  readonly #fanOuts = new WeakMap<Stream, Map<string, FrameFanOut>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The one fan-out for these viewers. It reads the stream only while it has viewers, and goes with it. */
  get(stream: Stream, selection: Selection, streamId: number): FrameFanOut {
    let ofStream = this.#fanOuts.get(stream);
    if (ofStream === undefined) {
      ofStream = new Map();
      this.#fanOuts.set(stream, ofStream);
    }
    const key = `${selection} ${streamId}`; // nearly always "all 1"
    const known = ofStream.get(key);
    if (known !== undefined) return known;
    const fanOut = new FrameFanOut({
      stream,
      clock: this.#clock,
      selection,
      encode: (frame, timestamp) => mediaBytes(frame, timestamp, streamId, MEDIA_CHUNK_SIZE),
    });
    ofStream.set(key, fanOut);
    return fanOut;
  }
}
