// When UDP sockets are read: at once while little comes, and every GATHER milliseconds while much does. A turn of the event loop costs
// more than taking several datagrams (50 to 150 µs where the processor was idle and is virtual), so many publishers share one.

import type { LibC, Watch } from "./libc.js";
import { type OnDatagram, ReceiveQueue, type ReceiveStatistics } from "./receive-queue.js";

type Watched = {
  readonly fd: number;
  readonly socket: number;
  watch: Watch | undefined;
  /** `gather`: the descriptor is not watched, the timer reads it. */
  mode: "watch" | "gather";
  /** Wakes that came soon after the one before; below zero: reads that brought little. */
  busy: number;
  lastWake: number;
};

export class NativeReceiver {
  readonly #libc: LibC;
  readonly #queue: ReceiveQueue;
  readonly #now: () => number;
  readonly #sockets: Watched[] = [];
  #gathering = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @param now milliseconds. Default performance.now */
  constructor(libc: LibC, onDatagram: OnDatagram, now: () => number = () => performance.now()) {
    this.#libc = libc;
    this.#queue = new ReceiveQueue(libc, onDatagram);
    this.#now = now;
  }

  get statistics(): ReceiveStatistics {
    return this.#queue.statistics;
  }

  /** Reads a socket from now on. The descriptor stays the caller's and must be open until `close`. */
  add(fd: number, socket: number): void {
    const watched: Watched = { fd, socket, watch: undefined, mode: "watch", busy: 0, lastWake: 0 };
    watched.watch = this.#libc.watch(fd, (status) => this.#onReadable(watched, status));
    this.#sockets.push(watched);
  }

  /** Nothing is read any more; idempotent. The descriptors may be closed after. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const watched of this.#sockets) {
      watched.watch?.close();
      watched.watch = undefined;
    }
  }

  #onReadable(watched: Watched, status: unknown): void {
    if (this.#isClosed) return;
    const now = this.#now();
    watched.busy = now - watched.lastWake < QUICK ? watched.busy + 1 : 0;
    watched.lastWake = now;
    this.#queue.drain(watched.fd, watched.socket);
    if (watched.watch === undefined) return; // closed by what came
    if (watched.busy >= ENTER_AFTER) this.#gather(watched);
    else if (typeof status === "number" && status < 0) this.#watch(watched); // libuv stops at an error; reading has cleared it
  }

  #gather(watched: Watched): void {
    watched.watch?.stop();
    watched.mode = "gather";
    watched.busy = 0;
    if (this.#gathering++ === 0) this.#timer = setTimeout(this.#onTimer, GATHER);
  }

  #watch(watched: Watched): void {
    watched.mode = "watch";
    watched.busy = 0;
    watched.watch?.start((status) => this.#onReadable(watched, status));
  }

  readonly #onTimer = (): void => {
    for (const watched of this.#sockets) {
      if (watched.mode !== "gather" || this.#isClosed) continue;
      const count = this.#queue.drain(watched.fd, watched.socket);
      watched.busy = count > 1 ? 0 : watched.busy - 1;
      if (watched.busy > -LEAVE_AFTER || this.#isClosed) continue;
      this.#gathering--;
      this.#watch(watched);
    }
    if (this.#gathering > 0 && !this.#isClosed) this.#timer = setTimeout(this.#onTimer, GATHER);
  };
}

const GATHER = 2; // ms
const QUICK = 4; // ms between two wakes: so often that reading every GATHER ms costs less
const ENTER_AFTER = 16; // quick wakes in a row
const LEAVE_AFTER = 16; // reads in a row that brought one datagram or none
