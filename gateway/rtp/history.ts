// The packets of one track that may be asked for again: a ring addressed by sequence number, shared by all viewers of a stream.

import type { MediaPacket } from "./packet.js";

const FIRST_CAPACITY = 256;

/** Holds the newest packets, up to a bound; the ring grows to it only when a stream needs it. */
export class PacketHistory {
  readonly #maximum: number;
  #ring: (MediaPacket | undefined)[];
  #count = 0;
  /** Lower numbers are gone. */
  #first = 0;

  /** @param maximum packets kept, a power of two */
  constructor(maximum: number) {
    this.#maximum = maximum;
    this.#ring = new Array<MediaPacket | undefined>(Math.min(FIRST_CAPACITY, maximum));
  }

  /** Packets come in order of their numbers; numbers that are left out stay unknown. */
  add(packet: MediaPacket): void {
    if (this.#count === this.#ring.length && this.#ring.length < this.#maximum) this.#grow();
    const index = packet.sequenceNumber & (this.#ring.length - 1);
    if (this.#ring[index] === undefined) this.#count++;
    this.#ring[index] = packet;
  }

  find(sequenceNumber: number): MediaPacket | undefined {
    const packet = this.#ring[sequenceNumber & (this.#ring.length - 1)];
    return packet?.sequenceNumber === sequenceNumber ? packet : undefined;
  }

  /** Forgets packets with lower numbers. */
  dropBefore(sequenceNumber: number): void {
    const mask = this.#ring.length - 1;
    // What lies further back than the ring is long has been overwritten already.
    for (let number = Math.max(this.#first, sequenceNumber - this.#ring.length); number < sequenceNumber; number++) {
      if (this.#ring[number & mask]?.sequenceNumber !== number) continue;
      this.#ring[number & mask] = undefined;
      this.#count--;
    }
    this.#first = Math.max(this.#first, sequenceNumber);
  }

  clear(): void {
    this.#ring = new Array<MediaPacket | undefined>(Math.min(FIRST_CAPACITY, this.#maximum));
    this.#count = 0;
  }

  #grow(): void {
    const old = this.#ring;
    this.#ring = new Array<MediaPacket | undefined>(old.length * 2);
    for (const packet of old) {
      if (packet !== undefined) this.#ring[packet.sequenceNumber & (this.#ring.length - 1)] = packet;
    }
  }
}
