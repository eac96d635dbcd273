// Datagrams of one socket, gathered in memory of known address and sent by as few system calls as will do: sendmmsg(2) with
// generic segmentation offload (UDP_SEGMENT, udp(7)), where datagrams of one size to one address are a single message.
//
// The memory is one Buffer, made once and kept until the queue is garbage; it is never moved, and addresses of it are only used in
// calls from here while `this` holds it. The kernel copies what it takes, so all of it is free again once a call has returned.

import {
  CMSG_LENGTH,
  CMSG_SPACE,
  IOV_SIZE,
  type LibC,
  MMSGHDR_CONTROL,
  MMSGHDR_CONTROL_LENGTH,
  MMSGHDR_IOV,
  MMSGHDR_IOV_LENGTH,
  MMSGHDR_NAME,
  MMSGHDR_NAME_LENGTH,
  MMSGHDR_SIZE,
  MSG_DONTWAIT,
  SOL_UDP,
  UDP_SEGMENT,
} from "./libc.js";
import { type Address, addressOf } from "./library.js";
import type { SocketAddress } from "./socket-address.js";

/** Counted up by the queue; its owner may share one among several queues. */
export type SendStatistics = {
  datagrams: number;
  bytes: number;
  /** System calls made. */
  calls: number;
  /** Datagrams the kernel refused for good. */
  failed: number;
};

export type SendQueueOptions = {
  /** Bytes of datagrams that may wait. Default 8 MiB (an upper bound: the system gives memory as it is first used). */
  readonly bytes?: number;
  /** Messages that may wait. Default 8192. */
  readonly messages?: number;
  /** Whether to send several datagrams as one message. Default: whether the socket takes the option. */
  readonly segmentation?: boolean;
};

export class SendQueue {
  /** Where datagrams are written, at the offset `reserve` gave. */
  readonly bytes: Buffer;
  readonly view: DataView;
  /** Address of `bytes`. */
  readonly address: Address;
  readonly #libc: LibC;
  readonly #fd: number;
  readonly #statistics: SendStatistics;
  readonly #maxMessages: number;
  /** All of the memory as 32-bit words, for what is written into structures. */
  readonly #words: Int32Array;
  readonly #iovs: number; // offsets into the memory
  readonly #names: number;
  readonly #controls: number;
  readonly #data: number;
  readonly #addresses: (SocketAddress | undefined)[];
  #canSegment: boolean;
  #segmentedBefore = false;
  /** Messages from #first to #end (exclusive) wait; their datagrams lie in order and without gaps up to #tail. */
  #first = 0;
  #end = 0;
  #tail: number;
  /** The message that the next datagram to the same address may join; its segment size, or 0 when it takes no more. */
  #open: SocketAddress | undefined;
  #segmentSize = 0;
  #segments = 0;

  constructor(libc: LibC, fd: number, statistics: SendStatistics, options: SendQueueOptions = {}) {
    this.#libc = libc;
    this.#fd = fd;
    this.#statistics = statistics;
    this.#maxMessages = options.messages ?? 8192;
    this.#iovs = this.#maxMessages * MMSGHDR_SIZE;
    this.#names = this.#iovs + this.#maxMessages * IOV_SIZE;
    this.#controls = this.#names + this.#maxMessages * NAME_SIZE;
    this.#data = this.#controls + this.#maxMessages * CMSG_SPACE;
    this.#tail = this.#data;
    this.bytes = Buffer.allocUnsafeSlow(this.#data + (options.bytes ?? 8 << 20));
    this.bytes.fill(0, 0, this.#data);
    this.view = new DataView(this.bytes.buffer);
    this.#words = new Int32Array(this.bytes.buffer, 0, this.bytes.length >>> 2);
    this.address = addressOf(this.bytes);
    this.#addresses = new Array<SocketAddress | undefined>(this.#maxMessages).fill(undefined);
    for (let message = 0; message < this.#maxMessages; message++) this.#writeTemplate(message);
    this.#canSegment = options.segmentation ?? canSegment(libc, fd);
  }

  get isSegmenting(): boolean {
    return this.#canSegment;
  }

  get isEmpty(): boolean {
    return this.#first === this.#end;
  }

  /** Makes room for one datagram. @returns its offset in `bytes`, or -1 when the queue is full even after sending */
  reserve(size: number): number {
    if (this.#tail + size <= this.bytes.length && this.#end < this.#maxMessages) return this.#tail;
    return this.#makeRoom(size) ? this.#tail : -1;
  }

  /**
   * Queues the datagram written at what `reserve` gave last.
   * @param address where it goes; datagrams to the same object in a row share a message when their sizes allow it
   */
  commit(length: number, address: SocketAddress): void {
    const offset = this.#tail;
    this.#tail = offset + length;
    this.#statistics.datagrams++;
    this.#statistics.bytes += length;
    if (this.#open === address && length <= this.#segmentSize) {
      this.#join(length);
      return;
    }
    const message = this.#end++;
    const words = this.#words;
    const iov = (this.#iovs + message * IOV_SIZE) >>> 2;
    const start = this.address + offset;
    words[iov] = (start % 0x1_0000_0000) | 0;
    words[iov + 1] = Math.floor(start / 0x1_0000_0000);
    words[iov + 2] = length;
    const header = (message * MMSGHDR_SIZE) >>> 2;
    words[header + MMSGHDR_CONTROL_LENGTH / 4] = 0;
    if (this.#addresses[message] !== address) {
      this.#addresses[message] = address;
      words[header + MMSGHDR_NAME_LENGTH / 4] = address.length;
      const name = (this.#names + message * NAME_SIZE) >>> 2;
      for (let word = 0; word < 7; word++) words[name + word] = address.words[word] ?? 0;
    }
    this.#open = this.#canSegment ? address : undefined;
    this.#segmentSize = length;
    this.#segments = 1;
  }

  /** Sends what the kernel takes. @returns whether everything has left; if not, call again soon */
  flush(): boolean {
    this.#open = undefined;
    while (this.#first < this.#end) {
      const count = Math.min(this.#end - this.#first, MAX_BATCH);
      const sent = this.#libc.sendmmsg(this.#fd, this.address + this.#first * MMSGHDR_SIZE, count, MSG_DONTWAIT);
      this.#statistics.calls++;
      if (sent > 0) {
        if (!this.#segmentedBefore) this.#segmentedBefore = this.#areSegmented(this.#first, sent);
        this.#first += sent;
        continue;
      }
      const error = this.#libc.errorName();
      if (error === "EINTR") continue;
      if (WAITING.has(error)) return false;
      if (this.#segmentsOf(this.#first) > 1 && SEGMENTATION_ERRORS.has(error)) {
        // EINVAL may be about this address alone (a path of small MTU); the other two, or a first try that fails, are about the system.
        if (error !== "EINVAL" || !this.#segmentedBefore) this.#canSegment = false;
        if (!this.#sendSegments(this.#first)) return false;
      } else {
        this.#countFailed(this.#segmentsOf(this.#first), this.#lengthOf(this.#first));
      }
      this.#first++;
    }
    this.#first = 0;
    this.#end = 0;
    this.#tail = this.#data;
    return true;
  }

  /** Adds a datagram to the message that was begun last. */
  #join(length: number): void {
    const message = this.#end - 1;
    const words = this.#words;
    words[((this.#iovs + message * IOV_SIZE) >>> 2) + 2] = this.#lengthOf(message) + length;
    this.#segments++;
    if (this.#segments === 2) {
      words[((message * MMSGHDR_SIZE) >>> 2) + MMSGHDR_CONTROL_LENGTH / 4] = CMSG_SPACE;
      words[(this.#controls + message * CMSG_SPACE + 16) >>> 2] = this.#segmentSize;
    }
    // A shorter datagram can only be the last one of its message.
    if (
      length < this.#segmentSize ||
      this.#segments === MAX_SEGMENTS ||
      this.#lengthOf(message) + this.#segmentSize > MAX_MESSAGE
    ) {
      this.#open = undefined;
    }
  }

  /** Sends what can be sent, then moves what must wait to the front if that frees at least half of the memory. */
  #makeRoom(size: number): boolean {
    this.flush();
    if (this.#first > 0) {
      const start = this.#startOf(this.#first);
      if (this.#first < this.#maxMessages / 2 && start - this.#data < (this.bytes.length - this.#data) / 2) return false;
      const waiting = this.#end - this.#first;
      this.bytes.copyWithin(this.#data, start, this.#tail);
      this.#moveMessages(start - this.#data);
      this.#tail -= start - this.#data;
      this.#first = 0;
      this.#end = waiting;
    }
    return this.#tail + size <= this.bytes.length && this.#end < this.#maxMessages;
  }

  #moveMessages(distance: number): void {
    for (let from = this.#first, to = 0; from < this.#end; from++, to++) {
      const start = this.address + this.#startOf(from) - distance;
      const words = this.#words;
      const iov = (this.#iovs + to * IOV_SIZE) >>> 2;
      words[iov] = (start % 0x1_0000_0000) | 0;
      words[iov + 1] = Math.floor(start / 0x1_0000_0000);
      words[iov + 2] = this.#lengthOf(from);
      const source = (from * MMSGHDR_SIZE) >>> 2;
      const target = (to * MMSGHDR_SIZE) >>> 2;
      for (const field of [MMSGHDR_NAME_LENGTH, MMSGHDR_CONTROL_LENGTH]) {
        words[target + field / 4] = words[source + field / 4] ?? 0;
      }
      this.bytes.copyWithin(this.#names + to * NAME_SIZE, this.#names + from * NAME_SIZE, this.#names + (from + 1) * NAME_SIZE);
      this.bytes.copyWithin(
        this.#controls + to * CMSG_SPACE,
        this.#controls + from * CMSG_SPACE,
        this.#controls + (from + 1) * CMSG_SPACE,
      );
      this.#addresses[to] = this.#addresses[from];
    }
  }

  /** Sends a message's datagrams one by one. @returns false when the kernel is full; what has left by then is cut off the message */
  #sendSegments(message: number): boolean {
    const segmentSize = this.#words[(this.#controls + message * CMSG_SPACE + 16) >>> 2] ?? 0;
    const header = (message * MMSGHDR_SIZE) >>> 2;
    const iov = (this.#iovs + message * IOV_SIZE) >>> 2;
    const words = this.#words;
    const total = this.#lengthOf(message);
    let start = this.#startOf(message);
    const end = start + total;
    words[header + MMSGHDR_CONTROL_LENGTH / 4] = 0;
    while (start < end) {
      const length = Math.min(segmentSize, end - start);
      words[iov] = ((this.address + start) % 0x1_0000_0000) | 0;
      words[iov + 1] = Math.floor((this.address + start) / 0x1_0000_0000);
      words[iov + 2] = length;
      const sent = this.#libc.sendmmsg(this.#fd, this.address + message * MMSGHDR_SIZE, 1, MSG_DONTWAIT);
      this.#statistics.calls++;
      if (sent !== 1) {
        const error = this.#libc.errorName();
        if (error === "EINTR") continue;
        if (WAITING.has(error)) {
          words[iov + 2] = end - start;
          words[header + MMSGHDR_CONTROL_LENGTH / 4] = end - start > segmentSize ? CMSG_SPACE : 0;
          return false;
        }
        this.#countFailed(1, length);
      }
      start += length;
    }
    return true;
  }

  /** Whether one of these messages was cut into segments by the system. */
  #areSegmented(first: number, count: number): boolean {
    for (let message = first; message < first + count; message++) if (this.#segmentsOf(message) > 1) return true;
    return false;
  }

  #countFailed(datagrams: number, bytes: number): void {
    this.#statistics.failed += datagrams;
    this.#statistics.datagrams -= datagrams;
    this.#statistics.bytes -= bytes;
  }

  #startOf(message: number): number {
    const iov = (this.#iovs + message * IOV_SIZE) >>> 2;
    return (this.#words[iov + 1] ?? 0) * 0x1_0000_0000 + ((this.#words[iov] ?? 0) >>> 0) - this.address;
  }

  #lengthOf(message: number): number {
    return this.#words[((this.#iovs + message * IOV_SIZE) >>> 2) + 2] ?? 0;
  }

  #segmentsOf(message: number): number {
    if (this.#words[((message * MMSGHDR_SIZE) >>> 2) + MMSGHDR_CONTROL_LENGTH / 4] === 0) return 1;
    return Math.ceil(this.#lengthOf(message) / (this.#words[(this.#controls + message * CMSG_SPACE + 16) >>> 2] ?? 1));
  }

  /** What stays the same in every use of a message's structures: the pointers between them. */
  #writeTemplate(message: number): void {
    const header = message * MMSGHDR_SIZE;
    const pointTo = (field: number, offset: number): unknown =>
      this.view.setBigUint64(header + field, BigInt(this.address + offset), true);
    pointTo(MMSGHDR_NAME, this.#names + message * NAME_SIZE);
    pointTo(MMSGHDR_IOV, this.#iovs + message * IOV_SIZE);
    pointTo(MMSGHDR_CONTROL, this.#controls + message * CMSG_SPACE);
    this.view.setUint32(header + MMSGHDR_IOV_LENGTH, 1, true);
    const control = this.#controls + message * CMSG_SPACE;
    this.view.setUint32(control, CMSG_LENGTH, true);
    this.view.setInt32(control + 8, SOL_UDP, true);
    this.view.setInt32(control + 12, UDP_SEGMENT, true);
  }
}

function canSegment(libc: LibC, fd: number): boolean {
  return libc.setsockopt(fd, SOL_UDP, UDP_SEGMENT, Buffer.alloc(4), 4) === 0; // size 0 switches nothing on
}

const NAME_SIZE = 28; // struct sockaddr_in6
const MAX_BATCH = 1024; // UIO_MAXIOV: the kernel looks at no more
const MAX_SEGMENTS = 64; // UDP_MAX_SEGMENTS of every kernel that has it
const MAX_MESSAGE = 65_000; // bytes; an IP packet less its headers, before it is cut
// The system is full for the moment; anything else is about one address.
const WAITING: ReadonlySet<string> = new Set(["EAGAIN", "ENOBUFS", "ENOMEM"]);
const SEGMENTATION_ERRORS: ReadonlySet<string> = new Set(["EINVAL", "EIO", "EOPNOTSUPP", "EMSGSIZE"]);
