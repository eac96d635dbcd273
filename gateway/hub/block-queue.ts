// What waits for one viewer over TCP: bounded in bytes and time. A viewer that falls behind loses what waits and goes on at the next
// key frame; one that takes nothing at all for long is given up.

import type { Block } from "./frame-fan-out.js";

/** The way to the viewer; a socket, or a test. */
export interface BlockOutput {
  /** Takes bytes in any case. False: enough for now, the owner calls `drained` when there is room. */
  write(bytes: Buffer): boolean;
  /** The viewer has taken nothing for too long; the owner closes it. */
  giveUp(reason: string): void;
}

export type BlockQueueOptions = {
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Configurations and metadata for a viewer that begins (again) at a time in milliseconds. */
  readonly preamble: (timestamp: number) => Buffer;
  /** Milliseconds that a block may wait before the viewer falls forward. Default 30000. */
  readonly maxWait?: number;
  /** Milliseconds without any progress after which the viewer is given up. Default 30000. */
  readonly maxStall?: number;
};

type Waiting = { readonly bytes: Buffer; readonly frames: number; readonly since: number };

export class BlockQueue {
  readonly #output: BlockOutput;
  readonly #options: BlockQueueOptions;
  #waiting: Waiting[] = [];
  #bytes = 0;
  /** Bytes that may wait now: more than MAX_BYTES while what a viewer begins with is under way. */
  #limit = MAX_BYTES;
  /** waiting: for a block to begin with; behind: the same, after a fall. */
  #state: "waiting" | "flowing" | "behind" | "closed" = "waiting";
  #hasRoom = true;
  /** Of the last block that was written or waits; a viewer that begins again does not go back behind it. */
  #timestamp = -1;
  #lastProgress: number;
  #falls = 0;
  #dropped = 0;

  constructor(output: BlockOutput, options: BlockQueueOptions) {
    this.#output = output;
    this.#options = options;
    this.#lastProgress = options.now();
  }

  /** Times that the viewer was too slow and fell forward. */
  get falls(): number {
    return this.#falls;
  }

  /** Frames it lost thereby. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Bytes that wait; those the socket holds are not among them. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Begins, or begins again after a pause, with the blocks since the last key frame; at the next entry when there are none, or when
   * the viewer has had some of them. What waits is dropped.
   */
  open(group: readonly Block[]): void {
    if (this.#state === "closed") return;
    this.#clear();
    this.#state = "waiting";
    const first = group[0];
    if (first === undefined || first.timestamp <= this.#timestamp) return;
    this.#state = "flowing";
    this.#push(this.#options.preamble(first.timestamp), 0);
    for (const block of group) {
      this.#push(block.bytes, block.frames);
      this.#timestamp = block.timestamp;
    }
    this.#limit = MAX_BYTES + this.#bytes;
    this.#pump();
  }

  write(block: Block): void {
    if (this.#state === "closed") return;
    if (this.#state !== "flowing") {
      if (!block.isEntry || !this.#hasRoom) {
        if (this.#state === "behind") this.#dropped += block.frames;
        this.#checkStall();
        return;
      }
      this.#state = "flowing";
      this.#push(this.#options.preamble(block.timestamp), 0);
    }
    this.#timestamp = block.timestamp;
    if (this.#hasRoom && this.#waiting.length === 0) {
      this.#hasRoom = this.#output.write(block.bytes);
      this.#lastProgress = this.#options.now();
      return;
    }
    this.#push(block.bytes, block.frames);
    this.#pump();
    if (this.#waiting.length === 0) return;
    this.#checkStall();
    const oldest = this.#waiting[0]?.since ?? 0;
    const isLate = this.#options.now() - oldest > (this.#options.maxWait ?? MAX_WAIT);
    if (this.#bytes > this.#limit || isLate) this.#fall();
  }

  /** The output has room again. */
  drained(): void {
    this.#hasRoom = true;
    this.#lastProgress = this.#options.now();
    this.#pump();
  }

  /** Nothing is written any more, and nothing waits. */
  close(): void {
    this.#state = "closed";
    this.#clear();
  }

  #push(bytes: Buffer, frames: number): void {
    if (bytes.length === 0) return;
    this.#waiting.push({ bytes, frames, since: this.#options.now() });
    this.#bytes += bytes.length;
  }

  #pump(): void {
    let taken = 0;
    while (this.#hasRoom && taken < this.#waiting.length) {
      const { bytes } = this.#waiting[taken++] as Waiting;
      this.#bytes -= bytes.length;
      this.#hasRoom = this.#output.write(bytes);
      this.#lastProgress = this.#options.now();
    }
    if (taken === this.#waiting.length) {
      this.#waiting = [];
      this.#limit = MAX_BYTES;
    } else if (taken > 0) {
      this.#waiting.splice(0, taken);
    }
  }

  #fall(): void {
    this.#falls += 1;
    for (const { frames } of this.#waiting) this.#dropped += frames;
    this.#clear();
    this.#state = "behind";
  }

  #clear(): void {
    this.#waiting = [];
    this.#bytes = 0;
    this.#limit = MAX_BYTES;
  }

  #checkStall(): void {
    if (this.#hasRoom) return;
    const maxStall = this.#options.maxStall ?? MAX_STALL;
    if (this.#options.now() - this.#lastProgress > maxStall) {
      this.close();
      this.#output.giveUp(`nothing was taken for ${Math.round(maxStall / 1000)} s`);
    }
  }
}

const MAX_BYTES = 4 << 20; // 6 s of 5 Mbit/s; the blocks are shared, so many slow viewers hold little more than one
const MAX_WAIT = 30_000;
const MAX_STALL = 30_000;
