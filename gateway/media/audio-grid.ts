// Audio frames of one stream on a grid of samples: publishers stamp frames in whole milliseconds, decoders expect each to begin where
// the one before ended.

import { MICROSECONDS, rescale } from "./time.js";

/**
 * Gives each frame its place in samples. Frames that follow one another within the rounding of their stamps are exactly their samples
 * apart; a publisher whose sound card drifts is followed sample by sample, and a real gap stays a gap.
 */
export class AudioGrid {
  readonly #sampleRate: number;
  readonly #jump: number;
  readonly #slack: number;
  #next: number | undefined;
  #last = Number.NEGATIVE_INFINITY;
  /** Low-passed distance between the stamps and the grid, in samples. */
  #deviation = 0;

  /** @param sampleRate Hz of the grid */
  constructor(sampleRate: number) {
    this.#sampleRate = sampleRate;
    this.#jump = rescale(JUMP, MICROSECONDS, sampleRate);
    this.#slack = rescale(SLACK, MICROSECONDS, sampleRate);
  }

  /**
   * @param time µs on the stream's clock, not before the last frame's
   * @param samples how many the frame holds
   * @returns the frame's place in samples since time 0; always later than the last one's
   */
  place(time: number, samples: number): number {
    const stamped = rescale(time, MICROSECONDS, this.#sampleRate);
    let place = this.#next;
    if (place === undefined || Math.abs(stamped - place) > this.#jump) {
      place = stamped;
      this.#deviation = 0;
    } else {
      this.#deviation += (stamped - place - this.#deviation) * SMOOTHING;
      if (Math.abs(this.#deviation) > this.#slack) place += Math.sign(this.#deviation);
    }
    place = Math.max(place, this.#last + 1);
    this.#last = place;
    this.#next = place + samples;
    return place;
  }
}

const JUMP = 40_000; // µs: stamps of some encoders wander by a frame; what is more would be heard as lips apart
const SLACK = 2_000; // µs: over the rounding to milliseconds
const SMOOTHING = 1 / 16;
