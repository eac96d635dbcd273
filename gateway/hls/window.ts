// The segments of a stream that can be had: those its playlist lists, and those that have just left it (RFC 8216bis section 6.2.2).

import type { Part, Run, Segment, SegmentKey } from "./segment.js";

export type WindowOptions = {
  /** Microseconds of segments that are listed. */
  readonly window: number;
  /** Microseconds that segments are meant to last. */
  readonly fragment: number;
  /** A segment has left the playlist and can no longer be had. */
  readonly onRemove?: (segment: Segment) => void;
};

export class SegmentWindow {
  readonly #options: WindowOptions;
  readonly #listed: Segment[] = [];
  readonly #retired: Segment[] = [];
  #targetDuration: number;
  #maxBitrate = 0;

  constructor(options: WindowOptions) {
    this.#options = options;
    this.#targetDuration = Math.max(1, Math.round(options.fragment / 1_000_000));
  }

  /** Complete segments, oldest first. */
  get listed(): readonly Segment[] {
    return this.#listed;
  }

  /**
   * EXT-X-TARGETDURATION in seconds. It is not to change, and does not while the publisher's key frames come as they came before the
   * first playlist was given away; where they come further apart it grows, since the alternative is segments without one.
   */
  get targetDuration(): number {
    return this.#targetDuration;
  }

  /** Microseconds. */
  get duration(): number {
    return this.#listed.reduce((sum, { duration }) => sum + duration, 0);
  }

  /** Bytes of all segments that can be had. */
  get size(): number {
    return [...this.#listed, ...this.#retired].reduce((sum, { size }) => sum + size, 0);
  }

  /** Bits per second: of the segment that has most, ever, and of those that are listed. */
  get bandwidth(): { readonly peak: number; readonly average: number } {
    const bytes = this.#listed.reduce((sum, { size }) => sum + size, 0);
    return { peak: Math.ceil(this.#maxBitrate), average: Math.ceil((bytes * 8_000_000) / Math.max(1, this.duration)) };
  }

  add(segment: Segment): void {
    this.#listed.push(segment);
    this.#targetDuration = Math.max(this.#targetDuration, Math.round(segment.duration / 1_000_000));
    // Section 4.4.6.2: over half a target duration at least; what is left over before a discontinuity says nothing.
    if (segment.duration >= this.#targetDuration * 500_000 || this.#maxBitrate === 0) {
      this.#maxBitrate = Math.max(this.#maxBitrate, (segment.size * 8_000_000) / segment.duration);
    }
    this.#trim();
  }

  /** Of a segment that can be had. */
  segment(sequenceNumber: number): Segment | undefined {
    return at(this.#listed, sequenceNumber) ?? at(this.#retired, sequenceNumber);
  }

  part(number: number): Part | undefined {
    for (const segments of [this.#listed, this.#retired]) {
      for (let i = segments.length - 1; i >= 0; i--) {
        const parts = (segments[i] as Segment).parts;
        const first = parts[0]?.number ?? 0;
        if (number >= first && number < first + parts.length) return parts[number - first];
      }
    }
    return undefined;
  }

  run(number: number): Run | undefined {
    return this.#find((segment) => segment.run.number === number)?.run;
  }

  key(number: number): SegmentKey | undefined {
    return this.#find((segment) => segment.encrypted?.key.number === number)?.encrypted?.key;
  }

  /** Empties it. */
  clear(): void {
    for (const segment of [...this.#retired.splice(0), ...this.#listed.splice(0)]) this.#options.onRemove?.(segment);
  }

  #find(condition: (segment: Segment) => boolean): Segment | undefined {
    return this.#listed.findLast(condition) ?? this.#retired.findLast(condition);
  }

  /** A playlist is never shorter than three target durations, and has three segments where it can. */
  #trim(): void {
    const least = Math.max(this.#options.window, MIN_TARGET_DURATIONS * this.#targetDuration * 1_000_000);
    let duration = this.duration;
    while (this.#listed.length > MIN_SEGMENTS && duration - (this.#listed[0]?.duration ?? 0) >= least) {
      const oldest = this.#listed.shift() as Segment;
      duration -= oldest.duration;
      this.#retired.push(oldest);
    }
    // Section 6.2.2 wants them kept as long as a playlist was long; a player that is that far behind has lost its place anyway.
    const kept = RETIRED_TARGET_DURATIONS * this.#targetDuration * 1_000_000;
    let spare = this.#retired.reduce((sum, segment) => sum + segment.duration, 0);
    while (this.#retired.length > RETIRED_SEGMENTS && spare - (this.#retired[0]?.duration ?? 0) >= kept) {
      const gone = this.#retired.shift() as Segment;
      spare -= gone.duration;
      this.#options.onRemove?.(gone);
    }
  }
}

function at(segments: readonly Segment[], sequenceNumber: number): Segment | undefined {
  return segments[sequenceNumber - (segments[0]?.sequenceNumber ?? 0)];
}

const MIN_TARGET_DURATIONS = 3; // section 6.2.2
const MIN_SEGMENTS = 3;
const RETIRED_TARGET_DURATIONS = 3;
const RETIRED_SEGMENTS = 2;
