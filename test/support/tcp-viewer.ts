// A viewer over TCP without a socket: reads what a fan-out gives RTMP and FLV players, and notes when.

import type { Clock } from "../../gateway/hub/clock.js";
import { type Block, type BlockViewer, FrameFanOut } from "../../gateway/hub/frame-fan-out.js";
import type { Stream } from "../../gateway/hub/types.js";
import type { Frame } from "../../gateway/media/frame.js";

export type SeenFrame = {
  readonly frame: Frame;
  /** Milliseconds, as sent. */
  readonly timestamp: number;
  readonly at: number;
};

export class TcpViewer implements BlockViewer {
  readonly seen: SeenFrame[] = [];
  closed: string | undefined;
  readonly #clock: Clock;
  readonly #encoded: Omit<SeenFrame, "at">[] = [];
  readonly #fanOut: FrameFanOut;

  constructor(stream: Stream, clock: Clock) {
    this.#clock = clock;
    this.#fanOut = new FrameFanOut({
      stream,
      clock,
      selection: "all",
      encode: (frame, timestamp) => {
        const bytes = Buffer.alloc(4);
        bytes.writeUInt32BE(this.#encoded.push({ frame, timestamp }) - 1);
        return bytes;
      },
    });
    this.#fanOut.add(this);
  }

  leave(): void {
    this.#fanOut.remove(this);
  }

  open(group: readonly Block[]): void {
    for (const block of group) this.write(block);
  }

  write({ bytes }: Block): void {
    for (let at = 0; at < bytes.length; at += 4) {
      const encoded = this.#encoded[bytes.readUInt32BE(at)];
      if (encoded !== undefined) this.seen.push({ ...encoded, at: this.#clock.now() });
    }
  }

  close(reason: string): void {
    this.closed = reason;
  }
}
