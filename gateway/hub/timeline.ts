// Maps one publisher's timestamps onto its stream's clock, so that viewers see one continuous time whatever the publisher's does
// (docs/architecture.md, "Time").

/** A step back smaller than this is jitter of the encoder's clock and is flattened; a larger one is a jump. */
const JITTER = 100_000;
/** A step forward that exceeds the time that really passed by more than this is a jump. */
const FORWARD_LIMIT = 1_500_000;
/** Distance from the last frame at which media goes on after a jump when nothing better is known: one frame at 50 a second. */
const DEFAULT_STEP = 20_000;
/** A presentation time further than this from the decoding time is a broken composition offset. */
const MAX_COMPOSITION = 5_000_000;

type TrackClock = {
  /** Added to the publisher's time. */
  offset: number;
  lastDts: number;
  lastArrival: number;
  /** Last ordinary distance between two frames. */
  step: number;
};

/**
 * All times are integer microseconds. Tracks share one offset, so lips stay in sync; after a jump the first track that shows it
 * chooses a new one and the others follow it when their own jump arrives.
 */
export class Timeline {
  readonly #floor: number;
  readonly #tracks = new Map<string, TrackClock>();
  #offset: number | undefined;
  #jumps = 0;

  /** @param floor no frame may be earlier: where the stream's previous publisher ended */
  constructor(floor: number) {
    this.#floor = floor;
  }

  /** Jumps of the publisher's clock that were bridged so far. */
  get jumps(): number {
    return this.#jumps;
  }

  /**
   * @param track name of the track, any string
   * @param dts decoding time on the publisher's clock
   * @param arrival stream time at which the frame arrived
   * @returns the decoding time on the stream's clock; within a track it never steps back
   */
  map(track: string, dts: number, arrival: number): number {
    this.#offset ??= Math.max(arrival, this.#floor) - dts;
    const clock = this.#tracks.get(track);
    if (clock === undefined) {
      const first = this.#firstDts(dts, arrival);
      const offset = Math.abs(first - dts - this.#offset) > JITTER ? first - dts : this.#offset;
      this.#tracks.set(track, { offset, lastDts: first, lastArrival: arrival, step: DEFAULT_STEP });
      return first;
    }
    const elapsed = Math.max(0, arrival - clock.lastArrival);
    const limit = elapsed + FORWARD_LIMIT;
    let step = dts + clock.offset - clock.lastDts;
    if (step < -JITTER || step > limit) {
      const followed = dts + this.#offset - clock.lastDts;
      if (followed < -JITTER || followed > limit) {
        this.#offset = clock.lastDts + Math.max(clock.step, elapsed) - dts;
        this.#jumps++;
      }
      clock.offset = this.#offset;
      step = dts + clock.offset - clock.lastDts;
    } else if (step > 0 && step < FORWARD_LIMIT) {
      clock.step = step;
    }
    clock.lastDts += Math.max(0, step);
    clock.lastArrival = arrival;
    return clock.lastDts;
  }

  /** @returns the presentation time that belongs to a mapped decoding time */
  static presentation(mappedDts: number, dts: number, pts: number): number {
    const composition = pts - dts;
    return Math.abs(composition) > MAX_COMPOSITION ? mappedDts : mappedDts + composition;
  }

  /** A track that appears later keeps its relation to the others, unless its clock is a wholly different one. */
  #firstDts(dts: number, arrival: number): number {
    const offset = this.#offset ?? 0;
    const mapped = dts + offset;
    const others = [...this.#tracks.values()];
    if (others.length === 0) return Math.max(mapped, this.#floor);
    const newest = others.reduce((a, b) => (a.lastArrival > b.lastArrival ? a : b));
    const expected = newest.lastDts + (arrival - newest.lastArrival);
    if (Math.abs(mapped - expected) <= 10 * FORWARD_LIMIT) return Math.max(mapped, this.#floor);
    return Math.max(expected, this.#floor);
  }
}
