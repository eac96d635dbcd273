// Reads a publisher that nobody watches seven times a second instead of at every packet. A turn of the event loop costs far more
// than the packet it is for, and while there is no viewer nobody can tell the difference.

import type { Clock, TimerHandle } from "../hub/clock.js";

/** Milliseconds between two readings: what a first viewer may have to wait for live frames, beyond the cached group. */
const REST = 150;
/** Shorter rests save nothing. */
const MIN_REST = 15;
/** Bytes that may gather in the kernel meanwhile: less than Linux's first window, so that the publisher never has to wait. */
const MAX_GATHERED = 48 * 1024;
/** Milliseconds from the start of a publish in which everything is read at once: headers, the first group, first viewers. */
const EAGER = 3_000;

/** A socket's reading side. */
export type Pausable = {
  pause(): unknown;
  resume(): unknown;
  /** Bytes that were read already and are not handed out yet: Node goes on reading for a while after `pause`. */
  readonly readableLength: number;
};

export class RestingReader {
  readonly #socket: Pausable;
  readonly #clock: Clock;
  readonly #isWatched: () => boolean;
  readonly #startedAt: number;
  #timer: TimerHandle | undefined;
  #gathered = 0;
  #since: number;

  /** @param isWatched asked after each reading; while it says true there is no rest */
  constructor(socket: Pausable, clock: Clock, isWatched: () => boolean) {
    this.#socket = socket;
    this.#clock = clock;
    this.#isWatched = isWatched;
    this.#startedAt = clock.now();
    this.#since = this.#startedAt;
  }

  /** So many bytes have been read and dealt with. */
  read(bytes: number): void {
    const now = this.#clock.now();
    this.#gathered += bytes;
    if (this.#timer !== undefined || now - this.#startedAt < EAGER || this.#isWatched()) return;
    // They come in the pieces they were read in, one per call: resting between them would fall ever further behind.
    if (this.#socket.readableLength > 0) return;
    const rate = this.#gathered / Math.max(1, now - this.#since);
    this.#gathered = 0;
    this.#since = now;
    const rest = Math.min(REST, MAX_GATHERED / rate);
    if (rest < MIN_REST) return;
    this.#socket.pause();
    this.#timer = this.#clock.after(rest, () => this.stop());
  }

  /** Reads again at once. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#socket.resume();
  }
}
