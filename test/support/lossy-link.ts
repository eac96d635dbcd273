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
};

/** One direction of a link. */
export class LossyPipe {
  readonly counts = { sent: 0, lost: 0, delivered: 0 };
  faults: LinkFaults;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #deliver: (datagram: Buffer) => void;

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
      const bytes = Buffer.from(datagram);
      this.#clock.after(delay + this.#random() * jitter, () => {
        this.counts.delivered++;
        this.#deliver(bytes);
      });
    }
  }
}
