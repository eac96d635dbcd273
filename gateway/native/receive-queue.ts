// What waits in UDP sockets, taken by as few system calls as will do: recvmmsg(2) into memory of known address.
//
// The memory is one Buffer, made once and kept until the queue is garbage; it is never moved, and its addresses are only used in calls
// from here while `this` holds it. The kernel writes to it during the call only. Each call overwrites what the last one has brought.

import {
  AF_INET,
  AF_INET6,
  IOV_SIZE,
  type LibC,
  MMSGHDR_FLAGS,
  MMSGHDR_IOV,
  MMSGHDR_IOV_LENGTH,
  MMSGHDR_LENGTH,
  MMSGHDR_NAME,
  MMSGHDR_NAME_LENGTH,
  MMSGHDR_SIZE,
  MSG_DONTWAIT,
  MSG_TRUNC,
} from "./libc.js";
import { type Address, addressOf } from "./library.js";
import { SOCKADDR_IN6_SIZE, socketAddressText } from "./socket-address.js";
import type { Endpoint } from "./types.js";

/** Counted up by the queue. */
export type ReceiveStatistics = {
  datagrams: number;
  /** System calls made. */
  calls: number;
  /** Datagrams longer than any we have a use for, thrown away. */
  truncated: number;
  /** Calls that failed for another reason than that nothing is there. */
  failed: number;
};

/**
 * @param datagram valid until the call returns
 * @param more another datagram follows at once: what is done once per turn can wait for it
 */
export type OnDatagram = (datagram: Buffer, from: Endpoint, more: boolean) => void;

export class ReceiveQueue {
  readonly statistics: ReceiveStatistics = { datagrams: 0, calls: 0, truncated: 0, failed: 0 };
  readonly #libc: LibC;
  readonly #onDatagram: OnDatagram;
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #address: Address;
  /** Senders known by their addresses, per socket: the same sender is the same object, and its text is made once. */
  readonly #senders: Map<number | string, Endpoint>[] = [];

  constructor(libc: LibC, onDatagram: OnDatagram) {
    this.#libc = libc;
    this.#onDatagram = onDatagram;
    this.#bytes = Buffer.allocUnsafeSlow(DATA + SLOTS * MAX_DATAGRAM);
    this.#bytes.fill(0, 0, DATA);
    this.#view = new DataView(this.#bytes.buffer);
    this.#words = new Int32Array(this.#bytes.buffer, 0, DATA / 4);
    this.#address = addressOf(this.#bytes);
    for (let slot = 0; slot < SLOTS; slot++) this.#writeTemplate(slot);
  }

  /**
   * Takes what waits in a socket and hands it on, datagram by datagram.
   *
   * @param socket what its senders' Endpoints say
   * @returns how many came
   */
  drain(fd: number, socket: number): number {
    let total = 0;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const count = this.#libc.recvmmsg(fd, this.#address, SLOTS, MSG_DONTWAIT, 0);
      this.statistics.calls++;
      if (count < 0) {
        const error = this.#libc.errorName();
        if (error === "EAGAIN") break;
        // The error of some datagram sent before, which asking has cleared, or of the socket: then it comes again.
        if (error !== "EINTR") this.statistics.failed++;
        continue;
      }
      total += count;
      this.statistics.datagrams += count;
      this.#handOn(count, socket);
      if (count < SLOTS) break;
    }
    return total;
  }

  #handOn(count: number, socket: number): void {
    const words = this.#words;
    let held = -1; // handed on when it is known whether another one follows
    for (let slot = 0; slot < count; slot++) {
      const header = (slot * MMSGHDR_SIZE) >>> 2;
      words[header + MMSGHDR_NAME_LENGTH / 4] = SOCKADDR_IN6_SIZE; // the kernel has written the real length there
      if (((words[header + MMSGHDR_FLAGS / 4] ?? 0) & MSG_TRUNC) !== 0) {
        this.statistics.truncated++;
        continue;
      }
      if (held >= 0) this.#give(held, socket, true);
      held = slot;
    }
    if (held >= 0) this.#give(held, socket, false);
  }

  #give(slot: number, socket: number, more: boolean): void {
    const from = this.#senderOf(NAMES + slot * SOCKADDR_IN6_SIZE, socket);
    if (from === undefined) return;
    const start = DATA + slot * MAX_DATAGRAM;
    const length = this.#words[(slot * MMSGHDR_SIZE + MMSGHDR_LENGTH) >>> 2] ?? 0;
    try {
      this.#onDatagram(this.#bytes.subarray(start, start + length), from, more);
    } catch (error) {
      // The caller is no function of Node's, which would know what to do with it.
      setImmediate(() => {
        throw error;
      });
    }
  }

  #senderOf(name: number, socket: number): Endpoint | undefined {
    const senders = this.#senders[socket] ?? new Map<number | string, Endpoint>();
    this.#senders[socket] = senders;
    const family = this.#view.getUint16(name, true);
    let key: number | string;
    if (family === AF_INET) key = this.#view.getUint32(name + 4) * 0x1_0000 + this.#view.getUint16(name + 2);
    else if (family === AF_INET6) key = this.#bytes.toString("latin1", name + 2, name + SOCKADDR_IN6_SIZE);
    else return undefined;
    const known = senders.get(key);
    if (known !== undefined) return known;
    if (senders.size >= MAX_SENDERS) senders.clear(); // a flood of made-up ones; those that matter come again
    const port = this.#view.getUint16(name + 2);
    const made = { socket, address: socketAddressText(this.#bytes, name), port };
    senders.set(key, made);
    return made;
  }

  /** What stays the same in every use of a message's structures: the pointers between them, and their sizes. */
  #writeTemplate(slot: number): void {
    const header = slot * MMSGHDR_SIZE;
    const iov = IOVS + slot * IOV_SIZE;
    this.#view.setBigUint64(header + MMSGHDR_NAME, BigInt(this.#address + NAMES + slot * SOCKADDR_IN6_SIZE), true);
    this.#view.setUint32(header + MMSGHDR_NAME_LENGTH, SOCKADDR_IN6_SIZE, true);
    this.#view.setBigUint64(header + MMSGHDR_IOV, BigInt(this.#address + iov), true);
    this.#view.setUint32(header + MMSGHDR_IOV_LENGTH, 1, true);
    this.#view.setBigUint64(iov, BigInt(this.#address + DATA + slot * MAX_DATAGRAM), true);
    this.#view.setUint32(iov + 8, MAX_DATAGRAM, true);
  }
}

const SLOTS = 128; // datagrams per call: with 200 publishers about 50 come in 2 ms
const MAX_ROUNDS = 8; // calls per turn and socket: nobody's flood keeps the rest of the process waiting
const MAX_DATAGRAM = 2048; // bytes; no peer of ours sends more than an Ethernet frame holds
const MAX_SENDERS = 8192; // per socket
const IOVS = SLOTS * MMSGHDR_SIZE; // offsets into the memory
const NAMES = IOVS + SLOTS * IOV_SIZE;
const DATA = NAMES + SLOTS * 32; // a multiple of 16; names take 28 bytes each
