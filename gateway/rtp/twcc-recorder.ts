// Transport-wide congestion control, receiver's side: when which packet of a transport came, and the feedback that tells the sender
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3).
//
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |V=2|P|  FMT=15 |    PT=205     |           length              |
//  |                     SSRC of packet sender                     |
//  |                      SSRC of media source                     |
//  |      base sequence number     |      packet status count      |
//  |                 reference time                | fb pkt. count |
//  |          packet chunk         |         packet chunk          |
//  |         packet chunk          |  recv delta   |  recv delta   |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

import { FIRST_SEQUENCE_CYCLE, unwrapSequence } from "./unwrap.js";

/** One per transport: the numbers run over all its sources. */
export class TwccRecorder {
  /** By number: arrival in quarters of a millisecond, -1 for not here. */
  readonly #arrivals = new Float64Array(WINDOW).fill(-1);
  #highest = -1;
  /** First number that the next feedback tells of. */
  #next = -1;
  #feedbackCount = 0;
  #pending = 0;
  #strangers = 0;
  #referenceTime = 0;
  readonly #statuses = new Uint8Array(MAX_STATUSES);
  readonly #deltas = new Int16Array(MAX_STATUSES);

  /** Packets noted since the last feedback. */
  get pending(): number {
    return this.#pending;
  }

  /** Notes a packet. @param wireNumber 16 bits */
  record(now: number, wireNumber: number): void {
    const number = this.#highest === -1 ? FIRST_SEQUENCE_CYCLE + wireNumber : unwrapSequence(wireNumber, this.#highest);
    if (this.#highest === -1) {
      this.#next = number;
      this.#highest = number - 1;
    }
    const step = number - this.#highest;
    if (step <= -REORDER_LIMIT) {
      this.#strangers += 1; // so late that the sender has counted it as lost, or a new numbering
      if (this.#strangers < MAX_STRANGERS) return;
    }
    this.#strangers = 0;
    if (step > WINDOW / 2 || step <= -REORDER_LIMIT) {
      // A new numbering, or an outage: what lies between is not worth telling.
      this.#arrivals.fill(-1);
      this.#next = number;
      this.#highest = number - 1;
    }
    for (let missing = this.#highest + 1; missing < number; missing++) this.#arrivals[missing & (WINDOW - 1)] = -1;
    if (number > this.#highest) this.#highest = number;
    const at = number & (WINDOW - 1);
    if (this.#arrivals[at] !== -1) return; // a duplicate: the first arrival counts
    this.#arrivals[at] = Math.round(now * 4);
    if (number < this.#next) this.#next = number; // told as lost before: told again from here
    this.#pending += 1;
  }

  /**
   * Writes one feedback packet about what has not been told yet. To be called again while `pending` is not 0.
   *
   * @param out room for MAX_TWCC_FEEDBACK bytes at `offset`
   * @returns the new offset; the same one when there is nothing to tell
   */
  write(out: Buffer, offset: number, senderSsrc: number, mediaSsrc: number): number {
    if (this.#pending === 0) return offset;
    let base = Math.max(this.#next, this.#highest - WINDOW / 2);
    while (base < this.#highest && this.#arrivals[base & (WINDOW - 1)] === -1 && this.#highest - base > MAX_LOST_RUN) base += 1;
    const count = this.#collect(base);
    this.#next = base + count;
    if (this.#next > this.#highest) this.#pending = 0;
    return this.#write(out, offset, senderSsrc, mediaSsrc, base, count);
  }

  /** Fills in status and delta per number from `base` on, as many as one packet can tell. */
  #collect(base: number): number {
    const end = Math.min(this.#highest + 1, base + MAX_STATUSES);
    let previous = -1;
    let number = base;
    for (; number < end; number++) {
      const arrival = this.#arrivals[number & (WINDOW - 1)] as number;
      const index = number - base;
      if (arrival === -1) {
        this.#statuses[index] = NOT_RECEIVED;
        continue;
      }
      if (previous === -1) {
        this.#referenceTime = Math.floor(arrival / TICKS_PER_REFERENCE);
        previous = this.#referenceTime * TICKS_PER_REFERENCE;
      }
      const delta = arrival - previous;
      if (delta < -0x8000 || delta > 0x7fff) break; // the next feedback begins with a reference time of its own
      this.#statuses[index] = delta >= 0 && delta <= 0xff ? SMALL_DELTA : LARGE_DELTA;
      this.#deltas[index] = delta;
      previous = arrival;
    }
    if (previous === -1) this.#referenceTime = 0;
    return number - base;
  }

  #write(out: Buffer, offset: number, senderSsrc: number, mediaSsrc: number, base: number, count: number): number {
    out[offset] = 0x80 | 15; // version=2, FMT=15
    out[offset + 1] = 205;
    out.writeUInt32BE(senderSsrc, offset + 4);
    out.writeUInt32BE(mediaSsrc, offset + 8);
    out.writeUInt16BE(base & 0xffff, offset + 12);
    out.writeUInt16BE(count, offset + 14);
    out.writeUIntBE(this.#referenceTime % 0x1000000, offset + 16, 3);
    out[offset + 19] = this.#feedbackCount & 0xff;
    this.#feedbackCount += 1;
    let at = this.#writeChunks(out, offset + 20, count);
    for (let i = 0; i < count; i++) {
      if (this.#statuses[i] === SMALL_DELTA) at = out.writeUInt8(this.#deltas[i] as number, at);
      else if (this.#statuses[i] === LARGE_DELTA) at = out.writeInt16BE(this.#deltas[i] as number, at);
    }
    const padding = (4 - ((at - offset) % 4)) % 4;
    if (padding > 0) {
      out[offset] = 0xa0 | 15; // padding=1: its last byte says how much
      out.fill(0, at, at + padding);
      at += padding;
      out[at - 1] = padding;
    }
    out.writeUInt16BE((at - offset) / 4 - 1, offset + 2);
    return at;
  }

  /** Runs of seven or more in a run length chunk; else 14 statuses of one bit each, or seven of two bits. */
  #writeChunks(out: Buffer, offset: number, count: number): number {
    const statuses = this.#statuses;
    let at = offset;
    for (let i = 0; i < count; ) {
      const status = statuses[i] as number;
      let run = 1;
      while (i + run < count && statuses[i + run] === status && run < MAX_RUN) run += 1;
      if (run >= 7 || i + run === count) {
        at = out.writeUInt16BE((status << 13) | run, at); // |0|S S|     run length     |
        i += run;
        continue;
      }
      let hasLarge = false;
      for (let j = i; j < count && j < i + 14; j++) if (statuses[j] === LARGE_DELTA) hasLarge = true;
      const symbols = hasLarge ? 7 : 14;
      const bits = hasLarge ? 2 : 1;
      let chunk = hasLarge ? 0xc000 : 0x8000; // |1|S|    symbol list    |
      for (let j = 0; j < symbols && i + j < count; j++) {
        chunk |= (statuses[i + j] as number) << (14 - bits * (j + 1));
      }
      at = out.writeUInt16BE(chunk, at);
      i += symbols;
    }
    return at;
  }
}

const WINDOW = 4096; // numbers, a power of two
const REORDER_LIMIT = 1024; // numbers
const MAX_STRANGERS = 50; // numbers from far behind, one after the other: the sender counts anew
const MAX_STATUSES = 400; // per feedback: with large deltas for all of them it still fits a datagram
const MAX_LOST_RUN = 300; // lost packets told of before the first that came; the rest of an outage is left out
const MAX_RUN = 0x1fff;
const TICKS_PER_REFERENCE = 256; // 64 ms in quarters of a millisecond
const NOT_RECEIVED = 0;
const SMALL_DELTA = 1;
const LARGE_DELTA = 2;

/** Bytes that one feedback packet takes at most: header, a chunk for every seven packets, two bytes each, padding. */
export const MAX_TWCC_FEEDBACK = 20 + 2 * (Math.ceil(MAX_STATUSES / 7) + 1) + 2 * MAX_STATUSES + 4;
