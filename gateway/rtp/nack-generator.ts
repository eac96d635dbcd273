// Which packets to ask for again, and when: repeats follow the round trip (RFC 4585 section 6.2.1, RFC 4588).

type Missing = { requests: number; requestedAt: number; dueAt: number };

export class NackGenerator {
  readonly #missing = new Map<number, Missing>();
  #roundTrip = INITIAL_ROUND_TRIP;
  #roundTripState: "assumed" | "measured" = "assumed";
  /** Numbers asked for, repeats counted. */
  requested = 0;

  /** Milliseconds from a request to its answer, smoothed. */
  get roundTrip(): number {
    return this.#roundTrip;
  }

  /** Packets that are being asked for. */
  get pending(): number {
    return this.#missing.size;
  }

  /** A round trip that was measured by other means (ICE, XR). */
  measured(milliseconds: number): void {
    if (!(milliseconds >= 0)) return;
    const sample = Math.min(MAX_ROUND_TRIP, Math.max(1, milliseconds));
    this.#roundTrip = this.#roundTripState === "assumed" ? sample : this.#roundTrip + (sample - this.#roundTrip) / 8;
    this.#roundTripState = "measured";
  }

  /** These numbers, `from` up to but without `to`, have been passed over. @returns false when it is too many: ask for a key frame */
  lost(now: number, from: number, to: number): boolean {
    if (this.#missing.size + to - from > MAX_PENDING) {
      this.#missing.clear();
      return false;
    }
    for (let number = from; number < to; number++) {
      this.#missing.set(number, { requests: 0, requestedAt: 0, dueAt: now + REORDER_TOLERANCE });
    }
    return true;
  }

  /**
   * This number has come.
   *
   * @param path `repaired`: as the answer to a request; when there was only one, the time it took is a round trip.
   *        `maybe-repaired`: or reordered by the network, which takes a few milliseconds at most
   */
  arrived(now: number, number: number, path: "direct" | "repaired" | "maybe-repaired"): void {
    const missing = this.#missing.get(number);
    if (missing === undefined) return;
    this.#missing.delete(number);
    if (path === "direct" || missing.requests !== 1) return;
    const waited = now - missing.requestedAt;
    if (path === "repaired" || waited > MAX_REORDERING) this.measured(waited);
  }

  /** Forgets all numbers below this one: nobody waits for them any more. */
  forgetBelow(number: number): void {
    for (const missing of this.#missing.keys()) {
      if (missing >= number) break; // they were added in order
      this.#missing.delete(missing);
    }
  }

  clear(): void {
    this.#missing.clear();
  }

  /** Puts the numbers to ask for now into `out`, ascending, and notes them as asked for. */
  takeDue(now: number, out: number[]): void {
    // A request waits for its answer; a second one sooner would bring the packet twice.
    const repeatAfter = this.#roundTrip + REPEAT_MARGIN + this.#roundTrip / 8;
    for (const [number, missing] of this.#missing) {
      if (missing.dueAt > now) continue;
      if (missing.requests === MAX_REQUESTS) {
        this.#missing.delete(number);
        continue;
      }
      missing.requests += 1;
      missing.requestedAt = now;
      missing.dueAt = now + repeatAfter;
      this.requested += 1;
      out.push(number);
    }
  }

  /** When the next number is due, Infinity for never. */
  nextTimeout(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const missing of this.#missing.values()) if (missing.dueAt < next) next = missing.dueAt;
    return next;
  }
}

const INITIAL_ROUND_TRIP = 100; // ms; the first answer corrects it
const MAX_ROUND_TRIP = 1000; // ms; a later answer helps nobody
const REORDER_TOLERANCE = 3; // ms that a packet may come late before it is asked for
const MAX_REORDERING = 15; // ms
const REPEAT_MARGIN = 5; // ms; timers and pacing
const MAX_REQUESTS = 10; // per packet
const MAX_PENDING = 500; // packets; more than that is an outage, and a key frame is cheaper
