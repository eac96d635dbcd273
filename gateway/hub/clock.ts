// Time and chance, handed in: only edge files make a real clock, so engines and the hub run under a fake one in tests.

export type TimerHandle = { readonly cancel: () => void };

export interface Clock {
  /** Monotonic time in milliseconds, with fractions; the zero point is arbitrary. */
  now(): number;
  /** Milliseconds since 1970-01-01 UTC, with fractions; steps with the system's clock, so only ever shown or put on the wire. */
  wallTime(): number;
  /** Calls back once after at least `ms`; the handle's `cancel` is harmless after that. Does not keep the process alive. */
  after(ms: number, callback: () => void): TimerHandle;
}
