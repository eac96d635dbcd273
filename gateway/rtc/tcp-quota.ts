// How many strangers' connections there may be from one address, and which of them has to go: the one that came first, since whoever
// is honest proves himself within a round trip, and a crowd of idle ones must not keep him out.

import { addressBytes } from "./address.js";

export class StreamQuota<T> {
  readonly #limit: number;
  readonly #byNetwork = new Map<string, Set<T>>();

  /** @param limit of one IPv4 address or IPv6 network (/64, what one customer has) */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @returns the one that has to go, if one has */
  add(address: string, stranger: T): T | undefined {
    const network = networkOf(address);
    let strangers = this.#byNetwork.get(network);
    if (strangers === undefined) {
      strangers = new Set();
      this.#byNetwork.set(network, strangers);
    }
    strangers.add(stranger);
    if (strangers.size <= this.#limit) return undefined;
    const [oldest] = strangers;
    if (oldest !== undefined) strangers.delete(oldest);
    return oldest;
  }

  /** Idempotent. */
  remove(address: string, stranger: T): void {
    const network = networkOf(address);
    const strangers = this.#byNetwork.get(network);
    if (strangers?.delete(stranger) && strangers.size === 0) this.#byNetwork.delete(network);
  }
}

function networkOf(address: string): string {
  const bytes = addressBytes(address);
  return bytes === undefined || bytes.length === 4 ? address : bytes.toString("hex", 0, 8);
}
