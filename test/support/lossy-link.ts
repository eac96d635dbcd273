// A bad network in memory: loss, delay, jitter, reordering and duplication from a seed, on a clock that the test moves.

import type { Clock } from "../../gateway/hub/clock.js";
import { seededRandom } from "./seeded.js";

export type LinkFaults = {
  /** Share of datagrams lost, 0 to 1. Default 0. */
  readonly loss?: number;
  /** One-way delay in ms. Default 10. */
  readonly delay?: number;
  /** Up to so many ms more, at random: reorders datagrams that follow closely. Default 0. */
  readonly jitter?: number;
  /** Share of datagrams that come twice. Default 0. */
  readonly duplication?: number;
  /** Bits per second that pass; what is more waits. Default: no limit. */
  readonly rate?: number;
  /** Milliseconds that may wait for the limit; what comes on top is lost. Default 3000. */
  readonly queue?: number;
};

/** The limit of a link: one datagram after the other, each for as long as its bits take. */
export class RateLimiter {
  #freeAt = 0;

  /** @returns milliseconds until the datagram is through, or undefined when the queue is full */
  pass(now: number, bytes: number, { rate, queue = 3_000 }: LinkFaults): number | undefined {
    if (rate === undefined) return 0;
    const begin = Math.max(now, this.#freeAt);
    if (begin - now > queue) return undefined;
    this.#freeAt = begin + ((bytes + UDP_HEADERS) * 8000) / rate;
    return this.#freeAt - now;
  }
}

const UDP_HEADERS = 28; // IPv4 and UDP

/** One direction of a link. */
export class LossyPipe {
  readonly counts = { sent: 0, lost: 0, delivered: 0 };
  faults: LinkFaults;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #deliver: (datagram: Buffer) => void;
  readonly #limiter = new RateLimiter();

  constructor(clock: Clock, seed: number, faults: LinkFaults, deliver: (datagram: Buffer) => void) {
    this.#clock = clock;
    this.#random = seededRandom(seed);
    this.faults = faults;
    this.#deliver = deliver;
  }

  send(datagram: Buffer): void {
    const { loss = 0, delay = 10, jitter = 0, duplication = 0 } = this.faults;
    this.counts.sent++;
    const copies = this.#random() < duplication ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      if (this.#random() < loss) {
        this.counts.lost++;
        continue;
      }
      const waits = this.#limiter.pass(this.#clock.now(), datagram.length, this.faults);
      if (waits === undefined) {
        this.counts.lost++;
        continue;
      }
      const bytes = Buffer.from(datagram);
      this.#clock.after(waits + delay + this.#random() * jitter, () => {
        this.counts.delivered++;
        this.#deliver(bytes);
      });
    }
  }
}
