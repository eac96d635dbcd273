// What one socket may send: two token buckets, of messages and of their bytes, because each message goes to everybody in the room.

export class MessageBudget {
  #messages = BURST;
  #bytes = BYTE_BURST;
  #updated: number;
  /** Messages over the budget in a row. */
  #excess = 0;

  constructor(now: number) {
    this.#updated = now;
  }

  /** @returns `flood`: so many over the budget that the sender is no client that could be told */
  take(now: number, bytes: number): "granted" | "refused" | "flood" {
    const seconds = Math.max(0, now - this.#updated) / 1000;
    this.#updated = now;
    this.#messages = Math.min(BURST, this.#messages + seconds * RATE);
    this.#bytes = Math.min(BYTE_BURST, this.#bytes + seconds * BYTE_RATE);
    if (this.#messages < 1 || this.#bytes < bytes) return ++this.#excess > PATIENCE ? "flood" : "refused";
    this.#messages -= 1;
    this.#bytes -= bytes;
    this.#excess = 0;
    return "granted";
  }
}

/** Messages at once, and a second after that: a page that tells where a mouse points sends some 30. */
const BURST = 100;
const RATE = 50;
/** Bytes likewise: four of the largest messages at once. A room of fifty multiplies them by 49. */
const BYTE_BURST = 256 << 10;
const BYTE_RATE = 64 << 10;
const PATIENCE = 200;
