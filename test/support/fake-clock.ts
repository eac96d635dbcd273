// A clock that moves only when a test says so.

import type { Clock, TimerHandle } from "../../gateway/hub/clock.js";

type Timer = { readonly due: number; readonly order: number; readonly callback: () => void };

export class FakeClock implements Clock {
  #now = 1_000; // not zero, so that a forgotten initialisation shows
  #order = 0;
  readonly #epoch: number;
  readonly #timers = new Set<Timer>();

  /** @param epoch milliseconds since 1970 at which the clock starts */
  constructor(epoch = 1_700_000_000_000) {
    this.#epoch = epoch - this.#now;
  }

  now(): number {
    return this.#now;
  }

  wallTime(): number {
    return this.#epoch + this.#now;
  }

  after(ms: number, callback: () => void): TimerHandle {
    const timer: Timer = { due: this.#now + Math.max(0, ms), order: this.#order++, callback };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** Timers that still wait: a closed thing must leave none. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves time on by `ms`, firing what comes due on the way in order of time. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      let next: Timer | undefined;
      for (const timer of this.#timers) {
        if (timer.due > end) continue;
        if (next === undefined || timer.due < next.due || (timer.due === next.due && timer.order < next.order)) next = timer;
      }
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.due);
      next.callback();
    }
    this.#now = end;
  }
}
