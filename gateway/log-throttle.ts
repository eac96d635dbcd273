// Which log lines are left out when a client makes the same thing happen again and again: token buckets per message and peer.

export type LogThrottleOptions = {
  /** Lines of one message and peer that are written at once. Default 100: an office behind one address that joins. */
  readonly burst?: number;
  /** Lines per second after that. Default 2. */
  readonly rate?: number;
  /** The same for one message of all peers together. Default 1000 and 50. */
  readonly totalBurst?: number;
  readonly totalRate?: number;
  /** Buckets kept; past it the one used least recently is forgotten. Default 2000. */
  readonly maxBuckets?: number;
};

/** What was left out since the last time: how many lines of a message, and whose when they were all of one peer. */
export type LeftOut = { readonly like: string; readonly count: number; readonly peers: number; readonly peer?: string };

export class LogThrottle {
  readonly #options: Required<LogThrottleOptions>;
  readonly #buckets = new Map<string, Bucket>(); // in order of last use
  readonly #leftOut = new Map<string, { count: number; readonly peers: Set<string> }>();

  constructor(options: LogThrottleOptions = {}) {
    this.#options = { burst: 100, rate: 2, totalBurst: 1000, totalRate: 50, maxBuckets: 2000, ...options };
  }

  /** @param now in milliseconds @param peer empty when the line is about none @returns whether the line is written */
  take(now: number, message: string, peer: string): boolean {
    const { burst, rate, totalBurst, totalRate } = this.#options;
    const isWritten =
      (peer === "" || this.#takeFrom(`${message}\n${peer}`, now, burst, rate)) &&
      this.#takeFrom(message, now, totalBurst, totalRate);
    if (isWritten) return true;
    let noted = this.#leftOut.get(message);
    if (noted === undefined) {
      noted = { count: 0, peers: new Set() };
      this.#leftOut.set(message, noted);
    }
    noted.count++;
    if (noted.peers.size < MAX_PEERS) noted.peers.add(peer);
    return false;
  }

  /** What was left out, once. */
  drain(): LeftOut[] {
    const drained = [...this.#leftOut].map(([like, { count, peers }]) => {
      const [peer = ""] = peers;
      return { like, count, peers: peers.size, ...(peers.size === 1 && peer !== "" && { peer }) };
    });
    this.#leftOut.clear();
    return drained;
  }

  #takeFrom(key: string, now: number, burst: number, rate: number): boolean {
    const bucket = this.#buckets.get(key) ?? { tokens: burst, updated: now };
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > this.#options.maxBuckets) {
      const oldest = this.#buckets.keys().next();
      if (!oldest.done) this.#buckets.delete(oldest.value);
    }
    bucket.tokens = Math.min(burst, bucket.tokens + (Math.max(0, now - bucket.updated) / 1000) * rate);
    bucket.updated = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }
}

type Bucket = { tokens: number; updated: number };

const MAX_PEERS = 1000; // counted; more are "1000"
