// How long to wait before what has ended is started again.

import type { Clock } from "../hub/clock.js";

export class Backoff {
  readonly #clock: Clock;
  #failures = 0;
  #startedAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  onStart(): void {
    this.#startedAt = this.#clock.now();
  }

  /** Milliseconds until the next try: 250, doubled with each end that comes soon after its start, at most 30 s. */
  next(): number {
    if (this.#clock.now() - this.#startedAt >= HEALTHY_AFTER) this.#failures = 0;
    const delay = Math.min(FIRST_DELAY * 2 ** this.#failures, MAX_DELAY);
    this.#failures += 1;
    return delay;
  }

  reset(): void {
    this.#failures = 0;
  }
}

const FIRST_DELAY = 250;
const MAX_DELAY = 30_000;
const HEALTHY_AFTER = 30_000; // ms: what ran that long ended for a new reason
