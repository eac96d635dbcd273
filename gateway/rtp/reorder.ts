// Puts packets back in order: holds what came early until what is missing comes or is given up.

import type { ReceivedPacket } from "./received-packet.js";

export class ReorderWindow {
  #slots: (ReceivedPacket | undefined)[] = new Array<ReceivedPacket | undefined>(FIRST_CAPACITY);
  /** By number: when it was first known to be missing. */
  #missingSince = new Float64Array(FIRST_CAPACITY);
  #next = -1;
  #highest = -1;
  #held = 0;

  /** Number of the packet that is to leave next, -1 before the first. */
  get next(): number {
    return this.#next;
  }

  /** Packets that wait. */
  get held(): number {
    return this.#held;
  }

  /** Takes a packet. @returns false when its turn is over, or it is here already */
  push(now: number, packet: ReceivedPacket): boolean {
    const number = packet.sequenceNumber;
    if (this.#next === -1) {
      this.#next = number;
      this.#highest = number - 1;
    }
    if (number < this.#next) return false;
    while (number - this.#next >= this.#slots.length) {
      if (this.#slots.length < MAX_CAPACITY) this.#grow();
      else return false; // the caller gives up numbers in time; this is the bound should it not
    }
    const mask = this.#slots.length - 1;
    if (this.#slots[number & mask] !== undefined) return false;
    for (let missing = this.#highest + 1; missing < number; missing++) this.#missingSince[missing & mask] = now;
    if (number > this.#highest) this.#highest = number;
    this.#slots[number & mask] = packet;
    this.#held += 1;
    return true;
  }

  /** Takes out the next packet in order, undefined when it is not here. */
  pop(): ReceivedPacket | undefined {
    const at = this.#next & (this.#slots.length - 1);
    const packet = this.#slots[at];
    if (packet === undefined) return undefined;
    this.#slots[at] = undefined;
    this.#next += 1;
    this.#held -= 1;
    return packet;
  }

  /** Gives up what has been missing for `patience` ms, up to the next packet that is here. @returns how many numbers that were */
  giveUp(now: number, patience: number): number {
    const mask = this.#slots.length - 1;
    const before = this.#next;
    while (this.#next <= this.#highest && this.#slots[this.#next & mask] === undefined) {
      if (now < (this.#missingSince[this.#next & mask] as number) + patience) break;
      this.#next += 1;
    }
    return this.#next - before;
  }

  /** Since when the next packet in order is missing while others wait; undefined when none does. */
  get blockedSince(): number | undefined {
    return this.#held === 0 ? undefined : this.#missingSince[this.#next & (this.#slots.length - 1)];
  }

  /** Moves on to a number, as after a restart. What waits should have been taken out before. */
  skipTo(number: number): void {
    this.#slots.fill(undefined);
    this.#held = 0;
    this.#next = number;
    this.#highest = number - 1;
  }

  #grow(): void {
    const slots = this.#slots;
    const missingSince = this.#missingSince;
    const size = slots.length * 2;
    this.#slots = new Array<ReceivedPacket | undefined>(size);
    this.#missingSince = new Float64Array(size);
    for (let number = this.#next; number <= this.#highest; number++) {
      this.#slots[number & (size - 1)] = slots[number & (slots.length - 1)];
      this.#missingSince[number & (size - 1)] = missingSince[number & (slots.length - 1)] as number;
    }
  }
}

const FIRST_CAPACITY = 64; // packets, a power of two; enough for audio and calm video
const MAX_CAPACITY = 4096; // packets: 0.5 s at 80 Mbit/s
