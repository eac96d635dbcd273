// Token buckets per client address, in bounded memory.

type Bucket = { tokens: number; updated: number };

export type RateLimitOptions = {
  /** Requests that may come at once. Default 240: an office behind one address whose viewers all come back when a stream starts. */
  readonly burst?: number;
  /** Requests per second after that. Default 60. */
  readonly rate?: number;
  /** Addresses remembered; past it the one asked least recently is forgotten. Default 10000. */
  readonly maxAddresses?: number;
};

export class RateLimit {
  readonly #burst: number;
  readonly #rate: number;
  readonly #maxAddresses: number;
  readonly #buckets = new Map<string, Bucket>(); // in order of last use

  constructor(options: RateLimitOptions = {}) {
    this.#burst = options.burst ?? 240;
    this.#rate = options.rate ?? 60;
    this.#maxAddresses = options.maxAddresses ?? 10_000;
  }

  /** Takes one request of an address. @returns false when it has used up its share; @param now in milliseconds */
  take(now: number, address: string): boolean {
    // This machine's own addresses are not limited: a proxy's clients all come from there, as do load tests.
    if (address === "::1" || address.startsWith("127.")) return true;
    const key = addressGroup(address);
    const bucket = this.#buckets.get(key) ?? { tokens: this.#burst, updated: now };
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > this.#maxAddresses) {
      const oldest = this.#buckets.keys().next();
      if (!oldest.done) this.#buckets.delete(oldest.value);
    }
    bucket.tokens = Math.min(this.#burst, bucket.tokens + (Math.max(0, now - bucket.updated) / 1000) * this.#rate);
    bucket.updated = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  /** Takes back a `take` of the same turn that turned out not to count. */
  giveBack(address: string): void {
    const bucket = this.#buckets.get(addressGroup(address));
    if (bucket !== undefined) bucket.tokens = Math.min(this.#burst, bucket.tokens + 1);
  }

  /** Addresses remembered now. */
  get size(): number {
    return this.#buckets.size;
  }
}

/** One household has a whole /64 of IPv6 addresses: they share a bucket. */
function addressGroup(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail = ""] = address.split("%", 1)[0]?.split("::", 2) ?? [];
  const groups = head === "" ? [] : head.split(":");
  const rest = tail === "" ? [] : tail.split(":");
  while (groups.length + rest.length < 8 && address.includes("::")) groups.push("0");
  return [...groups, ...rest].slice(0, 4).join(":");
}
