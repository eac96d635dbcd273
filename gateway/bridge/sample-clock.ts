// Smooth time for audio: publishers stamp frames in whole milliseconds and with jitter, decoders and encoders want exact sample steps.

/**
 * Maps a stream's audio frames onto a run of samples without gaps (the transcoder's time, from 0) and back. A jump of the
 * publisher's time changes the relation of the two and is never seen by the transcoder; slow drift is followed by stretching the run.
 * All times are microseconds.
 */
export class SampleClock {
  /** Run time of the next frame. */
  #next = 0;
  /** Low-passed deviation of the stream's stamps from the run. */
  #deviation = 0;
  /** Stretches of the run with one relation each, oldest first. */
  #segments: { readonly from: number; readonly offset: number }[] = [];
  #jumps = 0;

  /** Jumps of the stream's time that were taken over so far. */
  get jumps(): number {
    return this.#jumps;
  }

  /**
   * @param pts stream time of a frame
   * @param duration how long its samples last
   * @returns the frame's place in the run, an integer
   */
  push(pts: number, duration: number): number {
    const segment = this.#segments.at(-1);
    const deviation = segment === undefined ? Number.POSITIVE_INFINITY : pts - (this.#next + segment.offset);
    if (Math.abs(deviation) > JUMP) {
      if (segment !== undefined) this.#jumps += 1;
      this.#segments.push({ from: this.#next, offset: pts - this.#next });
      if (this.#segments.length > MAX_SEGMENTS) this.#segments.shift();
      this.#deviation = 0;
    } else {
      this.#deviation += (deviation - this.#deviation) * SMOOTHING;
      this.#next += Math.max(-duration * MAX_STRETCH, Math.min(duration * MAX_STRETCH, this.#deviation * GAIN));
    }
    const place = Math.round(this.#next);
    this.#next += duration;
    return place;
  }

  /** @returns the stream time of a place in the run; of one before the first frame too */
  streamTimeOf(place: number): number {
    const segments = this.#segments;
    while (segments.length > 1 && (segments[1]?.from ?? Number.POSITIVE_INFINITY) <= place) segments.shift();
    return Math.round(place + (segments[0]?.offset ?? 0));
  }
}

const JUMP = 100_000; // stamps of some encoders wander by two frames; beyond that the ear would notice
const SMOOTHING = 1 / 64; // over 1.5 s of AAC: the rounding of stamps to milliseconds vanishes
const GAIN = 1 / 50;
const MAX_STRETCH = 0.001; // 1000 ppm, ten times what a bad sound card drifts
const MAX_SEGMENTS = 64; // jumps within the delay of a transcoder; more are nonsense and the oldest is forgotten
