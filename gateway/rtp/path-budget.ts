// What a viewer's path carries, as far as it has shown that it carries less than it is sent.
//
// A path that is not full tells nothing about its capacity, so none is assumed until it fills up: when even the quickest packet of a
// while was delayed (a queue stands, which is not jitter), or a fifth of the packets was lost. What arrived meanwhile is the capacity.
// From then on a model of the queue (sent bytes in, capacity out) says at once what a report would say a round trip later. Reports
// are held against it: more delay than the model foresaw lowers the capacity, as much leaves it, less raises it; when it is clearly
// more than is sent it is forgotten.
// Delay as RFC 6817 section 2 takes it: one-way, less the least seen, so that clocks need not agree.

/** Of one report of the receiver. */
export type PathReport = {
  /** Milliseconds that its quickest packet was later than the quickest of the last while. */
  readonly standingDelay: number;
  /** Packets the report newly speaks of, and those of them that did not arrive. */
  readonly covered: number;
  readonly lost: number;
  /** Bits per second that arrived lately, 0 while unknown. */
  readonly receivedBitrate: number;
};

export class PathBudget {
  /** Bits per second; undefined while nothing says that it is less than what is sent. */
  capacity: number | undefined;
  /** Bytes that the model has waiting on the path. */
  #waiting = 0;
  #at = 0;
  #fullSince = Number.NaN;
  /** Of the present loss window. */
  #covered = 0;
  #lost = 0;
  #windowSince = Number.NaN;
  #lossyWindows = 0;
  #changedAt = 0;
  #foreseen = 0;
  #foreseenAt = Number.NEGATIVE_INFINITY;
  #lastFull = Number.NEGATIVE_INFINITY;
  #sentBytes = 0;
  #sentSince = Number.NaN;
  #sentBitrate = 0;

  /** A packet of so many bytes goes out. */
  sent(now: number, bytes: number): void {
    if (Number.isNaN(this.#sentSince)) this.#sentSince = now;
    this.#sentBytes += bytes;
    if (now - this.#sentSince >= RATE_WINDOW) {
      this.#sentBitrate = (this.#sentBytes * 8000) / (now - this.#sentSince);
      this.#sentBytes = 0;
      this.#sentSince = now;
    }
    if (this.capacity === undefined) return;
    this.#drain(now);
    this.#waiting += bytes;
    this.#foresee(now);
  }

  /** Milliseconds that a packet sent now would wait; 0 while no capacity is known. */
  wait(now: number): number {
    if (this.capacity === undefined) return 0;
    this.#drain(now);
    return (this.#waiting * 8000) / this.capacity;
  }

  /**
   * What the receiver says.
   *
   * @param inFlight bytes sent that no report has spoken of
   * @returns whether the path is full
   */
  reported(now: number, report: PathReport, inFlight: number): boolean {
    const isFull = this.#isFull(now, report);
    if (this.capacity === undefined) {
      // Late is not narrow: a path (or a machine that is busy for a moment) that delivers all that is sent has room.
      if (!isFull || report.receivedBitrate === 0 || report.receivedBitrate > this.#sentRate(now) * DELIVERED) return false;
      this.capacity = Math.max(MIN_CAPACITY, report.receivedBitrate * HEADROOM);
      this.#waiting = Math.min(inFlight, (this.capacity * MAX_MODEL) / 8000);
      this.#foreseen = this.wait(now);
      this.#foreseenAt = now;
      this.#at = now;
      this.#changedAt = now;
      this.#lastFull = now;
    } else {
      this.#foresee(now);
      if (isFull) this.#lastFull = now;
      const isUnforeseen = this.#lossyWindows >= 2 || (isFull && report.standingDelay > this.#foreseen + STANDING);
      if (isUnforeseen) this.#lower(now, report.receivedBitrate * HEADROOM);
      else if (report.standingDelay < this.#foreseen / 2 || !isFull) this.#raise(now);
    }
    return isFull;
  }

  /** Without transport-wide feedback: one receiver report, its loss (0 to 1) and the bits per second sent meanwhile. */
  lossReported(now: number, loss: number, sentBitrate: number): boolean {
    if (loss < LOSS) {
      this.#lossyWindows = 0;
      if (this.capacity !== undefined) this.#raise(now);
      return false;
    }
    if (++this.#lossyWindows < 2) return false;
    this.#lastFull = now;
    this.#lower(now, sentBitrate * (1 - loss) * HEADROOM);
    return true;
  }

  /** Bits per second sent lately; infinite while too little was sent to say. */
  #sentRate(now: number): number {
    const elapsed = now - this.#sentSince;
    if (elapsed >= RATE_WINDOW / 3) return (this.#sentBytes * 8000) / elapsed;
    return this.#sentBitrate === 0 ? Number.POSITIVE_INFINITY : this.#sentBitrate;
  }

  #isFull(now: number, { standingDelay, covered, lost }: PathReport): boolean {
    if (standingDelay < STANDING) this.#fullSince = Number.NaN;
    else if (Number.isNaN(this.#fullSince)) this.#fullSince = now;
    const isDelayed = standingDelay >= STANDING_FAR || now - this.#fullSince >= STANDING_FOR;
    if (Number.isNaN(this.#windowSince)) this.#windowSince = now;
    this.#covered += covered;
    this.#lost += lost;
    if (now - this.#windowSince >= LOSS_WINDOW && this.#covered >= LOSS_PACKETS) {
      this.#lossyWindows = this.#lost >= LOSS * this.#covered ? this.#lossyWindows + 1 : 0;
      this.#covered = 0;
      this.#lost = 0;
      this.#windowSince = now;
    }
    return isDelayed || this.#lossyWindows >= 2;
  }

  /** Not at once to what was measured: it may be of a moment when little was sent. */
  #lower(now: number, measured: number): void {
    if (this.capacity === undefined) {
      this.capacity = Math.max(MIN_CAPACITY, measured);
      this.#waiting = 0;
      this.#at = now;
    } else if (now - this.#changedAt >= LOWER_INTERVAL && measured < this.capacity) {
      this.#drain(now);
      this.capacity = Math.max(MIN_CAPACITY, measured, this.capacity * LOWER);
    } else return;
    this.#changedAt = now;
  }

  #raise(now: number): void {
    if (this.capacity === undefined || now - this.#changedAt < RAISE_INTERVAL) return;
    this.#changedAt = now;
    this.#drain(now);
    this.capacity *= RAISE;
    const isAmple = this.capacity > this.#sentBitrate * AMPLE && now - this.#lastFull > AMPLE_AFTER;
    if (isAmple && this.wait(now) < STANDING) this.capacity = undefined;
  }

  /** The longest wait of the model over the last while: reports speak of packets sent some time ago. */
  #foresee(now: number): void {
    const wait = this.wait(now);
    if (wait < this.#foreseen && now - this.#foreseenAt < FORESEEN_FOR) return;
    this.#foreseen = wait;
    this.#foreseenAt = now;
  }

  #drain(now: number): void {
    if (this.capacity === undefined) return;
    this.#waiting = Math.max(0, this.#waiting - ((now - this.#at) * this.capacity) / 8000);
    this.#at = now;
  }
}

/** ms of delay that every packet of a report had, for so long (or at once, when it is a lot): a queue stands. */
const STANDING = 100;
const STANDING_FOR = 200;
const STANDING_FAR = 400;
/** Share of what is sent that arrives on a path which is wide enough, however late. */
const DELIVERED = 0.85;
/** Share lost, in two windows of so many ms and at least so many packets: below it, retransmission copes. */
const LOSS = 0.2;
const LOSS_WINDOW = 400;
const LOSS_PACKETS = 15;
/** Of what arrived: less than all, so that the queue drains. */
const HEADROOM = 0.9;
/** Bits per second that every path is taken to carry: sound. */
const MIN_CAPACITY = 64_000;
/** ms that the model starts with at most. */
const MAX_MODEL = 3_000;
/** Capacity is raised by so much, so often, while the path is not full; and forgotten when it is so many times what is sent. */
const RAISE = 1.05;
const RAISE_INTERVAL = 500;
const AMPLE = 1.5;
const AMPLE_AFTER = 10_000;
const LOWER = 0.7;
const LOWER_INTERVAL = 400;
const FORESEEN_FOR = 1_000;
const RATE_WINDOW = 1_000;
