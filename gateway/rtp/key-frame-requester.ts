// Asks a sender for a key frame until it comes: requests of many viewers merged, repeats with growing distance, because a single
// PLI is lost now and then (RFC 4585 section 6.3.1).

export class KeyFrameRequester {
  readonly #send: (now: number) => void;
  #state: "idle" | "asking" = "idle";
  #askedAt = Number.NEGATIVE_INFINITY;
  #dueAt = Number.POSITIVE_INFINITY;
  #distance = FIRST_DISTANCE;
  #tries = 0;
  /** Requests sent, repeats counted. */
  sent = 0;

  /** @param send sends one PLI */
  constructor(send: (now: number) => void) {
    this.#send = send;
  }

  get state(): "idle" | "asking" {
    return this.#state;
  }

  /** A key frame is wanted. While one is being asked for already, nothing changes. */
  request(now: number): void {
    if (this.#state === "asking") return;
    this.#state = "asking";
    this.#distance = FIRST_DISTANCE;
    this.#tries = 0;
    this.#dueAt = Math.max(now, this.#askedAt + MIN_DISTANCE);
    this.onTimeout(now);
  }

  /** A key frame has begun to arrive. */
  onKeyFrame(): void {
    this.#state = "idle";
    this.#dueAt = Number.POSITIVE_INFINITY;
  }

  onTimeout(now: number): void {
    if (now < this.#dueAt) return;
    if (this.#tries === MAX_TRIES) {
      this.onKeyFrame(); // it has none to give; the next one who wants it asks anew
      return;
    }
    this.#tries += 1;
    this.#askedAt = now;
    this.#dueAt = now + this.#distance;
    this.#distance = Math.min(MAX_DISTANCE, this.#distance * 1.5);
    this.sent += 1;
    this.#send(now);
  }

  nextTimeout(): number {
    return this.#dueAt;
  }
}

const FIRST_DISTANCE = 200; // ms: a round trip, and the time an encoder takes for a key frame
const MAX_DISTANCE = 1000; // ms
const MIN_DISTANCE = 300; // ms between requests for two key frames: each costs the publisher several frames' worth of bits
const MAX_TRIES = 30;
