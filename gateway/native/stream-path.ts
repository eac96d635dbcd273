// Datagrams to peers over TCP, each behind its length (RFC 4571 section 2): all of a turn's for one peer leave in one system call.
//
// What is sent in a turn is gathered in one piece of memory for all peers, and leaves by send(2) on the socket's own descriptor. What the
// system does not take waits in a queue of the peer's, and Node sends it when there is room; until that is empty nothing overtakes it.
// Node knows nothing of what left natively, and need not: it has nothing to send itself then.

import type { Socket } from "node:net";

import { IPPROTO_TCP, type LibC, loadLibC, TCP_NOTSENT_LOWAT } from "./libc.js";
import { type Address, addressOf, NativeUnavailable } from "./library.js";
import type { SendStatistics } from "./send-queue.js";
import { FIRST_STREAM } from "./types.js";

/** The paths of one egress, and the memory they share. */
export class StreamPaths {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** Address of `bytes`; 0 where nothing is sent natively. */
  readonly address: Address;
  readonly libc: LibC | undefined;
  readonly statistics: SendStatistics;
  /** Where the next datagram's length goes. */
  tail = 0;
  readonly #paths = new Map<number, StreamPath>();
  #touched: StreamPath[] = [];
  #lastNumber = FIRST_STREAM - 1;

  /** @param isPortable leaves native sending out. Default false */
  constructor(statistics: SendStatistics, isPortable = false) {
    this.statistics = statistics;
    this.libc = isPortable ? undefined : tryLibC();
    this.bytes = Buffer.allocUnsafeSlow(MEMORY);
    this.view = new DataView(this.bytes.buffer);
    this.address = this.libc === undefined ? 0 : addressOf(this.bytes);
  }

  /** A path over a connected socket, which it does not own: whoever does closes the path when the socket is gone. */
  open(socket: Socket): StreamPath {
    do this.#lastNumber = this.#lastNumber === MAX_NUMBER ? FIRST_STREAM : this.#lastNumber + 1;
    while (this.#paths.has(this.#lastNumber));
    const path = new StreamPath(this, socket, this.#lastNumber);
    this.#paths.set(path.number, path);
    return path;
  }

  /** @param number the `socket` of an Endpoint */
  get(number: number): StreamPath | undefined {
    return this.#paths.get(number);
  }

  forget(path: StreamPath): void {
    this.#paths.delete(path.number);
  }

  /** The path has something to send at the next flush. */
  touch(path: StreamPath): void {
    this.#touched.push(path);
  }

  /** Hands all that was gathered to the system; the memory is free again. */
  flush(): void {
    const touched = this.#touched;
    if (touched.length === 0) return;
    this.#touched = [];
    for (let index = 0; index < touched.length; index++) (touched[index] as StreamPath).flush();
    this.tail = 0;
  }

  close(): void {
    this.flush();
    for (const path of this.#paths.values()) path.close();
  }
}

/** One peer's way out. Has the methods of a SendQueue that writing a datagram takes. */
export class StreamPath {
  /** The `socket` of the peer's Endpoint. */
  readonly number: number;
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly address: Address;
  /** Datagrams that found the queue full. */
  dropped = 0;
  readonly #paths: StreamPaths;
  readonly #socket: Socket;
  /** Of this turn: begin and end of each run of frames in the memory. */
  #runs: number[] = [];
  /** What waits, in order; the first is with Node. */
  #waiting: { readonly bytes: Buffer; readonly since: number }[] = [];
  #waitingBytes = 0;
  #isTouched = false;
  #isClosed = false;

  constructor(paths: StreamPaths, socket: Socket, number: number) {
    this.number = number;
    this.bytes = paths.bytes;
    this.view = paths.view;
    this.address = paths.address;
    this.#paths = paths;
    this.#socket = socket;
    const size = Buffer.alloc(4);
    size.writeInt32LE(MAX_UNSENT);
    const fd = this.#descriptor();
    if (fd >= 0) paths.libc?.setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, size, 4);
  }

  /** Makes room for one datagram. @returns its offset in `bytes`, or -1 when too much waits already */
  reserve(size: number): number {
    if (this.#isClosed || this.#waitingBytes > MAX_WAITING) {
      this.dropped++;
      return -1;
    }
    const paths = this.#paths;
    if (paths.tail + LENGTH + size > paths.bytes.length) paths.flush();
    return paths.tail + LENGTH;
  }

  /** Queues the datagram written at what `reserve` gave last. */
  commit(length: number): void {
    const paths = this.#paths;
    const start = paths.tail;
    const end = start + LENGTH + length;
    this.view.setUint16(start, length);
    paths.tail = end;
    paths.statistics.datagrams++;
    paths.statistics.bytes += length;
    const runs = this.#runs;
    if (runs.length > 0 && runs[runs.length - 1] === start) runs[runs.length - 1] = end;
    else runs.push(start, end);
    if (this.#isTouched) return;
    this.#isTouched = true;
    paths.touch(this);
  }

  /** Milliseconds that the oldest of what waits has waited; 0 when nothing does. */
  get lag(): number {
    const oldest = this.#waiting[0];
    return oldest === undefined ? 0 : performance.now() - oldest.since;
  }

  /** For StreamPaths: hands this turn's datagrams to the system. */
  flush(): void {
    this.#isTouched = false;
    const runs = this.#runs;
    this.#runs = [];
    if (this.#isClosed) return;
    for (let index = 0; index < runs.length; index += 2) {
      let start = runs[index] as number;
      const end = runs[index + 1] as number;
      if (this.#waiting.length === 0) start += this.#sendNatively(start, end - start, index + 2 < runs.length);
      if (start < end) this.#queue(start, end);
    }
  }

  /** Sends nothing more. The socket is its owner's to close. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#paths.forget(this);
  }

  /** @returns bytes that have left */
  #sendNatively(start: number, length: number, hasMore: boolean): number {
    const { libc, statistics } = this.#paths;
    const fd = this.#descriptor();
    if (libc === undefined || fd < 0) return 0;
    const flags = hasMore ? MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE : MSG_DONTWAIT | MSG_NOSIGNAL;
    for (;;) {
      statistics.calls++;
      const sent = libc.send(fd, this.address + start, length, flags);
      if (sent >= 0) return sent;
      if (libc.errorName() !== "EINTR") return 0; // full for now, or broken: Node finds out which and says so
    }
  }

  #queue(start: number, end: number): void {
    const bytes = Buffer.from(this.bytes.subarray(start, end));
    this.#waitingBytes += bytes.length;
    if (this.#waiting.push({ bytes, since: performance.now() }) === 1) this.#writeNext();
  }

  #writeNext(): void {
    const next = this.#waiting[0];
    if (next === undefined) return;
    this.#paths.statistics.calls++;
    this.#socket.write(next.bytes, (error) => {
      if (this.#isClosed) return;
      if (error) {
        this.close();
        return;
      }
      this.#waiting.shift();
      this.#waitingBytes -= next.bytes.length;
      this.#writeNext();
    });
  }

  /** -1 when there is none (any more), or the system has none. Asked each time: a number that is given back soon is another socket's. */
  #descriptor(): number {
    if (this.#paths.libc === undefined) return -1;
    const { _handle: handle } = this.#socket as unknown as { readonly _handle: { readonly fd?: number } | null };
    return handle?.fd ?? -1;
  }
}

function tryLibC(): LibC | undefined {
  try {
    return loadLibC();
  } catch (error) {
    if (error instanceof NativeUnavailable) return undefined;
    throw error;
  }
}

const LENGTH = 2;
const MAX_NUMBER = 0x3fff_ffff; // small integers are cheap keys
const MEMORY = 1 << 20; // bytes; more would not stay in the cache between writing and sending
const MAX_WAITING = 2 << 20; // bytes of a peer that does not take them: about a second of 16 Mbit/s, then nothing more is queued
const MAX_UNSENT = 128 << 10; // bytes that the system may hold and not have sent: what waits there is lag that nobody sees
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_MORE = 0x8000;
