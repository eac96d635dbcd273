// Reads a publisher that nobody watches seven times a second instead of at every packet. A turn of the event loop costs far more
// than the packet it is for, and while there is no viewer nobody can tell the difference.

import type { Clock, TimerHandle } from "../hub/clock.js";

/** Milliseconds between two readings: what a first viewer may have to wait for live frames, beyond the cached group. */
const REST = 150;
/** Shorter rests save nothing. */
const MIN_REST = 15;
/** Bytes that may gather in the kernel meanwhile: less than Linux's first window, so that the publisher never has to wait. */
const MAX_GATHERED = 48 * 1024;
/** Bytes that Node reads at once. */
const FULL_READ = 64 * 1024;
/** Milliseconds from the start of a publish in which everything is read at once: headers, the first group, first viewers. */
const EAGER = 3_000;

/** A socket's reading side. */
export type ReadingSide = {
  /** Nothing is taken out of the kernel's buffer until `start`. */
  stop(): void;
  start(): void;
};

/**
 * Stops and starts reading at the socket's handle. `Socket.pause` would not do: a paused stream goes on reading, a wake-up for each
 * packet, until its own buffer is full, and hands that out again in the small pieces it came in. A Node without such a handle reads on.
 */
export function readingSideOf(socket: object): ReadingSide {
  const call = (name: "readStop" | "readStart"): void => {
    const handle: unknown = Reflect.get(socket, "_handle"); // null once the socket is destroyed
    if (typeof handle !== "object" || handle === null) return;
    const method: unknown = Reflect.get(handle, name);
    if (typeof method === "function") Reflect.apply(method, handle, []);
  };
  return { stop: () => call("readStop"), start: () => call("readStart") };
}

export class RestingReader {
  readonly #side: ReadingSide;
  readonly #clock: Clock;
  readonly #isWatched: () => boolean;
  readonly #startedAt: number;
  #timer: TimerHandle | undefined;
  #gathered = 0;
  #since: number;

  /** @param isWatched asked after each reading; while it says true there is no rest */
  constructor(side: ReadingSide, clock: Clock, isWatched: () => boolean) {
    this.#side = side;
    this.#clock = clock;
    this.#isWatched = isWatched;
    this.#startedAt = clock.now();
    this.#since = this.#startedAt;
  }

  /** So many bytes have been read and dealt with. */
  read(bytes: number): void {
    const now = this.#clock.now();
    this.#gathered += bytes;
    if (bytes >= FULL_READ) return; // there is more
    if (this.#timer !== undefined || now - this.#startedAt < EAGER || this.#isWatched()) return;
    const rate = this.#gathered / Math.max(1, now - this.#since);
    this.#gathered = 0;
    this.#since = now;
    const rest = Math.min(REST, MAX_GATHERED / rate);
    if (rest < MIN_REST) return;
    this.#side.stop();
    this.#timer = this.#clock.after(rest, () => this.stop());
  }

  /** Reads again at once. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#side.start();
  }
}
