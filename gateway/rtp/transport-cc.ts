// Transport-wide congestion control, sender's side: remembers what was sent when, reads the receiver's feedback
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3).
//
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |      base sequence number     |      packet status count      |
//  |                 reference time                | fb pkt. count |
//  |          packet chunk         |         packet chunk          |
//  |         packet chunk          |  recv delta   |  recv delta   |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

import type { PathReport } from "./path-budget.js";
import type { RtcpReader } from "./rtcp.js";

/** Numbers and times of the packets sent to one peer over one transport, and what the peer said of their arrival. */
export class TransportCcSender {
  /** Of the packets that feedback has covered. */
  readonly statistics = { received: 0, lost: 0 };
  /** Bits per second that arrived, smoothed; 0 before the first feedback. */
  receivedBitrate = 0;
  /** Share of packets lost, smoothed, 0 to 1. */
  loss = 0;
  /** Growth of the one-way delay, smoothed: ms of delay per ms of time; above 0 a queue builds up. */
  delayGradient = 0;

  /** What the last feedback says of the path; the same object each time. */
  readonly report: { -readonly [Key in keyof PathReport]: PathReport[Key] } = {
    standingDelay: 0,
    covered: 0,
    lost: 0,
    receivedBitrate: 0,
  };

  #nextNumber = 0;
  readonly #sentAt = new Float64Array(HISTORY);
  readonly #sizes = new Uint16Array(HISTORY);
  #lastSent = 0;
  #lastArrival = Number.NEGATIVE_INFINITY;
  #highestCovered = -1;
  /** Least one-way delay (on two clocks: only differences mean something) of a present feedback, and of the last while. */
  #quickest = Number.POSITIVE_INFINITY;
  #base = Number.POSITIVE_INFINITY;
  #nextBase = Number.POSITIVE_INFINITY;
  #baseSince = Number.NEGATIVE_INFINITY;
  #windowBytes = 0;
  #windowStart = Number.NEGATIVE_INFINITY;

  /** Takes the number for a packet about to be sent: 16 bits. */
  next(): number {
    return this.#nextNumber & 0xffff;
  }

  /** Notes that the packet with the number that `next` gave was sent. */
  sent(now: number, size: number): void {
    const slot = this.#nextNumber & (HISTORY - 1);
    this.#sentAt[slot] = now;
    this.#sizes[slot] = size;
    this.#nextNumber++;
  }

  /** Reads the present packet of the reader as feedback. @returns false when it makes no sense; then nothing has changed */
  feedback(reader: RtcpReader): boolean {
    const { bytes, start, end } = reader;
    if (start + 20 > end) return false;
    const statusCount = bytes.readUInt16BE(start + 14);
    const chunksAt = start + 20;
    const deltasAt = findDeltas(bytes, chunksAt, end, statusCount);
    if (deltasAt === -1) return false;
    const base = this.#unwrap(bytes.readUInt16BE(start + 12));
    if (base < 0 || base + statusCount > this.#nextNumber) return false; // speaks of packets never sent

    this.#quickest = Number.POSITIVE_INFINITY;
    let arrival = bytes.readIntBE(start + 16, 3) * 64; // ms, on the receiver's clock
    let deltaAt = deltasAt;
    let number = base;
    let covered = 0;
    let lost = 0;
    for (let at = chunksAt; at < deltasAt && number < base + statusCount; at += 2) {
      const chunk = bytes.readUInt16BE(at);
      const size = chunkSize(chunk, base + statusCount - number);
      for (let index = 0; index < size; index++, number++) {
        const symbol = symbolAt(chunk, index);
        const isNew = number > this.#highestCovered;
        if (isNew) covered++;
        if (symbol === NOT_RECEIVED || symbol === RESERVED) {
          if (isNew) lost++;
          continue;
        }
        arrival += (symbol === SMALL_DELTA ? (bytes[deltaAt] ?? 0) : bytes.readInt16BE(deltaAt)) / 4;
        deltaAt += symbol;
        if (isNew) this.#arrived(number, arrival);
      }
    }
    this.#highestCovered = Math.max(this.#highestCovered, number - 1);
    this.statistics.lost += lost;
    this.statistics.received += covered - lost;
    this.#conclude(covered, lost);
    if (covered > 0) this.loss += (lost / covered - this.loss) * Math.min(1, covered / 64);
    return true;
  }

  /** Bytes sent that no feedback has spoken of. */
  get inFlight(): number {
    let bytes = 0;
    for (let number = Math.max(this.#highestCovered + 1, this.#nextNumber - HISTORY); number < this.#nextNumber; number++) {
      bytes += this.#sizes[number & (HISTORY - 1)] ?? 0;
    }
    return bytes;
  }

  #conclude(covered: number, lost: number): void {
    const { report } = this;
    report.covered = covered;
    report.lost = lost;
    report.receivedBitrate = this.receivedBitrate;
    if (this.#quickest === Number.POSITIVE_INFINITY) return;
    if (this.#lastArrival - this.#baseSince > BASE_KEPT) {
      // The least of the last one to two spans: an older one may be of another route.
      this.#base = this.#nextBase;
      this.#nextBase = Number.POSITIVE_INFINITY;
      this.#baseSince = this.#lastArrival;
    }
    this.#nextBase = Math.min(this.#nextBase, this.#quickest);
    this.#base = Math.min(this.#base, this.#quickest);
    report.standingDelay = this.#quickest - this.#base;
  }

  #arrived(number: number, arrival: number): void {
    if (this.#nextNumber - number > HISTORY) return;
    const slot = number & (HISTORY - 1);
    const sent = this.#sentAt[slot] ?? 0;
    this.#quickest = Math.min(this.#quickest, arrival - sent);
    // Packets sent in one burst say nothing about the queue: compare bursts that lie a few ms apart.
    if (this.#lastArrival === Number.NEGATIVE_INFINITY || sent - this.#lastSent >= BURST) {
      const elapsed = sent - this.#lastSent;
      if (this.#lastArrival !== Number.NEGATIVE_INFINITY && elapsed < 1000) {
        const gradient = (arrival - this.#lastArrival - elapsed) / elapsed;
        this.delayGradient += (Math.max(-1, Math.min(1, gradient)) - this.delayGradient) * 0.05;
      }
      this.#lastSent = sent;
      this.#lastArrival = arrival;
    }
    if (arrival < this.#windowStart || arrival - this.#windowStart > 10 * RATE_WINDOW) {
      this.#windowStart = arrival;
      this.#windowBytes = 0;
    }
    this.#windowBytes += this.#sizes[slot] ?? 0;
    const window = arrival - this.#windowStart;
    if (window >= RATE_WINDOW) {
      const bitrate = (this.#windowBytes * 8000) / window;
      this.receivedBitrate = this.receivedBitrate === 0 ? bitrate : this.receivedBitrate * 0.5 + bitrate * 0.5;
      this.#windowStart = arrival;
      this.#windowBytes = 0;
    }
  }

  /** The number nearest below the next one that has these low 16 bits. */
  #unwrap(low: number): number {
    const behind = (this.#nextNumber - low) & 0xffff;
    return this.#nextNumber - behind;
  }
}

/** What came when, to be written as feedback: the receiver's side. */
export function writeTransportCc(
  out: Buffer,
  at: number,
  baseSequence: number,
  feedbackCount: number,
  /** Arrival per packet from the base on, in units of 250 µs, -1 for lost ones; deltas must fit 16 bits. */
  arrivals: readonly number[],
): number {
  out.writeUInt16BE(baseSequence & 0xffff, at);
  out.writeUInt16BE(arrivals.length, at + 2);
  const first = arrivals.find((arrival) => arrival >= 0) ?? 0;
  const reference = Math.floor(first / 256);
  out.writeIntBE(((reference + 0x800000) & 0xffffff) - 0x800000, at + 4, 3);
  out[at + 7] = feedbackCount & 0xff;
  at += 8;
  let previous = reference * 256;
  const symbols: number[] = [];
  const deltas: number[] = [];
  for (const arrival of arrivals) {
    if (arrival < 0) {
      symbols.push(NOT_RECEIVED);
      continue;
    }
    const delta = arrival - previous;
    previous = arrival;
    symbols.push(delta >= 0 && delta <= 255 ? SMALL_DELTA : LARGE_DELTA);
    deltas.push(delta);
  }
  for (let index = 0; index < symbols.length; ) {
    const symbol = symbols[index] ?? 0;
    let run = 1;
    while (run < 0x1fff && symbols[index + run] === symbol) run++;
    if (run >= 7 || index + run === symbols.length) {
      at = out.writeUInt16BE((symbol << 13) | run, at); // run length chunk
      index += run;
    } else {
      let chunk = 0xc000; // status vector chunk of seven two-bit symbols
      for (let slot = 0; slot < 7; slot++) chunk |= (symbols[index + slot] ?? 0) << (12 - 2 * slot);
      at = out.writeUInt16BE(chunk, at);
      index += 7;
    }
  }
  for (const delta of deltas) {
    if (delta >= 0 && delta <= 255) out[at++] = delta;
    else at = out.writeInt16BE(Math.max(-0x8000, Math.min(0x7fff, delta)), at);
  }
  return at;
}

/** Checks that chunks and deltas fit. @returns where the deltas begin, -1 when they do not fit */
function findDeltas(bytes: Buffer, chunksAt: number, end: number, statusCount: number): number {
  let at = chunksAt;
  let remaining = statusCount;
  let deltaBytes = 0;
  while (remaining > 0) {
    if (at + 2 > end) return -1;
    const chunk = bytes.readUInt16BE(at);
    at += 2;
    const size = chunkSize(chunk, remaining);
    if (size === 0) return -1;
    if (chunk & 0x8000) for (let index = 0; index < size; index++) deltaBytes += symbolAt(chunk, index) % RESERVED;
    else deltaBytes += size * (symbolAt(chunk, 0) % RESERVED);
    remaining -= size;
  }
  return at + deltaBytes <= end ? at : -1;
}

/** Packets that a chunk speaks of. */
function chunkSize(chunk: number, remaining: number): number {
  if ((chunk & 0x8000) === 0) return Math.min(chunk & 0x1fff, remaining);
  return Math.min(chunk & 0x4000 ? 7 : 14, remaining);
}

function symbolAt(chunk: number, index: number): number {
  if ((chunk & 0x8000) === 0) return (chunk >> 13) & 3;
  return chunk & 0x4000 ? (chunk >> (12 - 2 * index)) & 3 : (chunk >> (13 - index)) & 1;
}

/** Symbols 1 and 2 are also the bytes of their delta. */
const NOT_RECEIVED = 0;
const SMALL_DELTA = 1;
const LARGE_DELTA = 2;
const RESERVED = 3;

const HISTORY = 1024; // packets, a power of two: 4 s at 2.5 Mbit/s, and 10 KiB per viewer
const BURST = 5; // ms
const RATE_WINDOW = 250; // ms
const BASE_KEPT = 15_000; // ms
