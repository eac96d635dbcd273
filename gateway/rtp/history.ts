// The packets of one track that may be asked for again: a ring addressed by sequence number, shared by all viewers of a stream.
//
// What is kept are numbers and the memory behind the payloads, not the packets: objects that live for seconds would be moved by the
// garbage collector again and again, and most are never asked for.

import { type MediaKind, MediaPacket } from "./packet.js";

/** Holds the newest packets, up to a bound; the ring grows to it only when a stream needs it. */
export class PacketHistory {
  readonly #kind: MediaKind;
  readonly #maximum: number;
  /** Empty until something comes: many streams are offered and never sent. */
  #ring = EMPTY;
  #count = 0;
  /** Lower numbers are gone. */
  #first = 0;

  /** @param maximum packets kept, a power of two */
  constructor(kind: MediaKind, maximum: number) {
    this.#kind = kind;
    this.#maximum = maximum;
  }

  /** Packets come in order of their numbers; numbers that are left out stay unknown. */
  add(packet: MediaPacket): void {
    if (this.#count === this.#ring.capacity && this.#ring.capacity < this.#maximum) this.#grow();
    const ring = this.#ring;
    const index = packet.sequenceNumber & (ring.capacity - 1);
    if (ring.numbers[index] === NOTHING) this.#count++;
    const { payload } = packet;
    ring.numbers[index] = packet.sequenceNumber;
    ring.timestamps[index] = packet.timestamp;
    ring.flags[index] =
      (packet.marker ? MARKER : 0) | (packet.startsKeyFrame ? KEY_FRAME : 0) | (packet.isDiscardable ? DISCARDABLE : 0);
    ring.offsets[index] = payload.byteOffset;
    ring.lengths[index] = payload.length;
    ring.memory[index] = payload.buffer;
  }

  has(sequenceNumber: number): boolean {
    return this.#ring.numbers[sequenceNumber & (this.#ring.capacity - 1)] === sequenceNumber;
  }

  /** @returns a packet like the one that was added, with the same bytes */
  find(sequenceNumber: number): MediaPacket | undefined {
    const ring = this.#ring;
    const index = sequenceNumber & (ring.capacity - 1);
    const memory = ring.memory[index];
    if (ring.numbers[index] !== sequenceNumber || memory === undefined) return undefined;
    const flags = ring.flags[index] as number;
    return new MediaPacket(
      this.#kind,
      sequenceNumber,
      ring.timestamps[index] as number,
      (flags & MARKER) !== 0,
      (flags & KEY_FRAME) !== 0,
      (flags & DISCARDABLE) !== 0,
      Buffer.from(memory, ring.offsets[index], ring.lengths[index]),
    );
  }

  /** Forgets packets with lower numbers. */
  dropBefore(sequenceNumber: number): void {
    const ring = this.#ring;
    const mask = ring.capacity - 1;
    // What lies further back than the ring is long has been overwritten already.
    for (let number = Math.max(this.#first, sequenceNumber - ring.capacity); number < sequenceNumber; number++) {
      const index = number & mask;
      if (ring.numbers[index] !== number) continue;
      ring.numbers[index] = NOTHING;
      ring.memory[index] = undefined;
      this.#count--;
    }
    this.#first = Math.max(this.#first, sequenceNumber);
  }

  clear(): void {
    this.#ring = EMPTY;
    this.#count = 0;
  }

  #grow(): void {
    const old = this.#ring;
    const ring = new Ring(Math.max(old.capacity * 2, Math.min(FIRST_CAPACITY, this.#maximum)));
    for (let from = 0; from < old.capacity; from++) {
      const number = old.numbers[from] as number;
      if (number === NOTHING) continue;
      const to = number & (ring.capacity - 1);
      ring.numbers[to] = number;
      ring.timestamps[to] = old.timestamps[from] as number;
      ring.flags[to] = old.flags[from] as number;
      ring.offsets[to] = old.offsets[from] as number;
      ring.lengths[to] = old.lengths[from] as number;
      ring.memory[to] = old.memory[from];
    }
    this.#ring = ring;
  }
}

class Ring {
  readonly capacity: number;
  readonly numbers: Float64Array;
  readonly timestamps: Float64Array;
  readonly flags: Uint8Array;
  readonly offsets: Uint32Array;
  readonly lengths: Uint16Array;
  readonly memory: (ArrayBufferLike | undefined)[];

  constructor(capacity: number) {
    this.capacity = capacity;
    this.numbers = new Float64Array(capacity).fill(NOTHING);
    this.timestamps = new Float64Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.offsets = new Uint32Array(capacity);
    this.lengths = new Uint16Array(capacity); // a payload is part of a datagram
    this.memory = new Array<ArrayBufferLike | undefined>(capacity).fill(undefined);
  }
}

const FIRST_CAPACITY = 256;
const NOTHING = -1;
const EMPTY = new Ring(0);
const MARKER = 1;
const KEY_FRAME = 2;
const DISCARDABLE = 4;
