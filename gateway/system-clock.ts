// The real clock, for the composition root: everything below it gets a Clock handed in.

import { performance } from "node:perf_hooks";

import type { Clock, TimerHandle } from "./hub/clock.js";

export class SystemClock implements Clock {
  now(): number {
    return performance.now();
  }

  wallTime(): number {
    return performance.timeOrigin + performance.now(); // Date.now() has no fractions
  }

  after(ms: number, callback: () => void): TimerHandle {
    const timer = setTimeout(callback, Math.ceil(ms));
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  }
}
