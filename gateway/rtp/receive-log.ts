// What one source sent and what of it arrived: loss and jitter for receiver reports (RFC 3550 sections 6.4.1, A.1, A.3, A.8).

import { FIRST_SEQUENCE_CYCLE, unwrapSequence } from "./unwrap.js";

/** What the log says of a packet's number. `restart`: the source has begun a new numbering. */
export type Arrival = "next" | "gap" | "late" | "duplicate" | "restart" | "suspect";

/** Knows which numbers came, within a window behind the highest one. */
export class ReceiveLog {
  readonly #clockRate: number;
  readonly #seen = new Uint8Array(WINDOW);
  #first = -1;
  #highest = -1;
  #received = 0;
  /** Wire number that would confirm a new numbering, -1 for none (RFC 3550 section A.1: bad_seq). */
  #suspect = -1;
  #jitter = 0;
  #transit = 0;
  #hasTransit = false;
  #expectedBefore = 0;
  #receivedBefore = 0;
  /** Numbers skipped by a restart: nobody lost them. */
  #skipped = 0;
  /** Unwrapped number of the latest packet given to `add`. */
  sequenceNumber = 0;
  duplicates = 0;

  /** @param clockRate ticks of RTP time per second */
  constructor(clockRate: number) {
    this.#clockRate = clockRate;
  }

  /** Highest unwrapped number so far, -1 before the first packet. */
  get highest(): number {
    return this.#highest;
  }

  get expected(): number {
    return this.#highest === -1 ? 0 : this.#highest - this.#first + 1 - this.#skipped;
  }

  get received(): number {
    return this.#received;
  }

  /** Packets lost so far; below zero when there were more duplicates than losses. */
  get lost(): number {
    return this.expected - this.#received;
  }

  /** Interarrival jitter in ticks of the clock. */
  get jitter(): number {
    return this.#jitter;
  }

  /**
   * Notes a packet that came in the source's own numbering. Its unwrapped number is in `sequenceNumber` then, but for `suspect`,
   * which is to be dropped.
   *
   * @param wireNumber 16 bits
   */
  add(wireNumber: number): Arrival {
    if (this.#highest === -1) {
      this.#first = FIRST_SEQUENCE_CYCLE + wireNumber;
      this.#advance(this.#first);
      return "next";
    }
    const number = unwrapSequence(wireNumber, this.#highest);
    const step = number - this.#highest;
    if (step > MAX_DROPOUT || step < -MAX_MISORDER) return this.#addStranger(wireNumber);
    this.#suspect = -1;
    if (step > 0) {
      this.#advance(number);
      return step === 1 ? "next" : "gap";
    }
    this.sequenceNumber = number;
    this.#received += 1; // duplicates count too (RFC 3550 section 6.4.1)
    if (this.has(number)) {
      this.duplicates += 1;
      return "duplicate";
    }
    this.#seen[number & (WINDOW - 1)] = 1;
    if (number < this.#first) this.#first = number; // from before what seemed the first
    return "late";
  }

  /** Notes a number whose packet came another way (RTX): no longer missing, and still lost on the way. */
  repair(number: number): "repaired" | "known" {
    if (number > this.#highest || number <= this.#highest - WINDOW || this.has(number)) return "known";
    this.#seen[number & (WINDOW - 1)] = 1;
    return "repaired";
  }

  /** Whether this number came; numbers far behind count as come. */
  has(number: number): boolean {
    return number <= this.#highest && (number <= this.#highest - WINDOW || this.#seen[number & (WINDOW - 1)] === 1);
  }

  /**
   * Takes the packet's time into the jitter.
   *
   * @param arrival milliseconds
   * @param timestamp unwrapped RTP time
   */
  time(arrival: number, timestamp: number): void {
    const transit = (arrival * this.#clockRate) / 1000 - timestamp;
    if (this.#hasTransit) {
      const difference = Math.abs(transit - this.#transit);
      if (difference < this.#clockRate * MAX_TRANSIT_STEP) this.#jitter += (difference - this.#jitter) / 16;
    }
    this.#transit = transit;
    this.#hasTransit = true;
  }

  /** Fraction lost since the last call, in 1/256 (RFC 3550 section A.3). */
  takeFractionLost(): number {
    const expected = this.expected - this.#expectedBefore;
    const lost = expected - (this.#received - this.#receivedBefore);
    this.#expectedBefore = this.expected;
    this.#receivedBefore = this.#received;
    return expected <= 0 || lost <= 0 ? 0 : Math.min(255, Math.floor((lost * 256) / expected));
  }

  #advance(number: number): void {
    const from = Math.max(this.#highest + 1, number - WINDOW + 1);
    for (let missing = from; missing < number; missing++) this.#seen[missing & (WINDOW - 1)] = 0;
    this.#seen[number & (WINDOW - 1)] = 1;
    this.#highest = number;
    this.sequenceNumber = number;
    this.#received += 1;
  }

  #addStranger(wireNumber: number): Arrival {
    if (wireNumber !== this.#suspect) {
      this.#suspect = (wireNumber + 1) & 0xffff;
      return "suspect";
    }
    this.#suspect = -1;
    const cycle = this.#highest - (this.#highest % 0x10000);
    let number = cycle + wireNumber;
    if (number <= this.#highest) number += 0x10000;
    this.#skipped += number - this.#highest - 1;
    this.#seen.fill(1); // nothing of the old numbering is missing any more
    this.#advance(number);
    for (let skipped = Math.max(0, number - WINDOW + 1); skipped < number; skipped++) this.#seen[skipped & (WINDOW - 1)] = 1;
    return "restart";
  }
}

const WINDOW = 4096; // numbers, a power of two; 0.8 s at 50 Mbit/s
const MAX_DROPOUT = 3000; // RFC 3550 section A.1; below WINDOW
const MAX_MISORDER = 3000; // the RFC says 100; retransmissions in the source's own numbering come later than that
const MAX_TRANSIT_STEP = 5; // seconds: a timestamp jump is not jitter
