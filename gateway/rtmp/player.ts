// One player: its place among the viewers of a fan-out, and what waits for its socket.

import { BlockQueue } from "../hub/block-queue.js";
import type { Clock } from "../hub/clock.js";
import type { Block, BlockViewer, FrameFanOut } from "../hub/frame-fan-out.js";
import type { Play } from "../hub/types.js";
import type { RtmpFanOuts } from "./fan-outs.js";
import type { PlayWish } from "./session.js";

export type RtmpPlayerOptions = {
  readonly socket: PlayerSocket;
  readonly clock: Clock;
  readonly fanOuts: RtmpFanOuts;
  /** Message stream id that media goes out on. */
  readonly streamId: number;
  /** Milliseconds the player may lag. */
  readonly maxWait: number;
  /** The stream has ended. */
  readonly onEnd: (reason: string) => void;
  /** The player takes nothing any more. */
  readonly onGiveUp: (reason: string) => void;
};

/** What a player needs of its socket. */
export interface PlayerSocket {
  readonly writable: boolean;
  write(bytes: Buffer): boolean;
}

export class RtmpPlayer implements BlockViewer {
  readonly #options: RtmpPlayerOptions;
  readonly #queue: BlockQueue;
  #play: Play | undefined;
  #fanOut: FrameFanOut | undefined;
  #bytes = 0;

  constructor(options: RtmpPlayerOptions) {
    this.#options = options;
    const { clock, socket } = options;
    const output = {
      write: (bytes: Buffer): boolean => {
        this.#bytes += bytes.length;
        return !socket.writable || socket.write(bytes);
      },
      giveUp: options.onGiveUp,
    };
    this.#queue = new BlockQueue(output, {
      now: () => clock.now(),
      preamble: (timestamp) => this.#fanOut?.preamble(timestamp) ?? Buffer.alloc(0),
      maxWait: options.maxWait,
    });
  }

  start(play: Play): void {
    this.#play = play;
    this.select("all");
  }

  /** Goes on with other tracks, live, from the last key frame. */
  select(wish: PlayWish): void {
    if (this.#play === undefined) return;
    this.#leave();
    this.#queue.open([]); // what waits is not wanted any more
    if (wish === "nothing") return;
    const { fanOuts, streamId } = this.#options;
    this.#fanOut = fanOuts.get(this.#play.stream, wish, streamId);
    this.#fanOut.add(this);
  }

  /** The socket has room again. */
  drained(): void {
    this.#queue.drained();
  }

  /** Idempotent. */
  end(reason: string): void {
    this.#leave();
    this.#queue.close();
    this.#play?.end(reason);
    this.#play = undefined;
  }

  /** As the API and the log show them. */
  statistics(): { bytes: number; waiting: number; falls: number; dropped: number } {
    const { bytes: waiting, falls, dropped } = this.#queue;
    return { bytes: this.#bytes, waiting, falls, dropped };
  }

  // BlockViewer: what the fan-out hands out.

  open(group: readonly Block[]): void {
    this.#queue.open(group);
  }

  write(block: Block): void {
    this.#queue.write(block);
  }

  close(reason: string): void {
    this.#options.onEnd(reason);
  }

  #leave(): void {
    this.#fanOut?.remove(this);
    this.#fanOut = undefined;
  }
}
