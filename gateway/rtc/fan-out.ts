// One stream's packets to all its WebRTC viewers: each payload is staged once per batch, then every viewer numbers and sends it.

import type { PacketBatch, PacketLane } from "../hub/types.js";
import type { Sink } from "../media/frame.js";
import type { MediaPacket } from "../rtp/packet.js";
import type { Egress } from "./egress.js";
import type { Viewer } from "./viewer.js";

export class FanOut implements Sink<PacketBatch> {
  readonly lane: PacketLane;
  readonly #egress: Egress;
  readonly #now: () => number;
  readonly #onWritten: () => void;
  readonly #onEnded: (fanOut: FanOut, reason: string) => void;
  readonly #viewers: Viewer[] = [];
  #users = 0;
  readonly #staged: number[] = [];

  /**
   * @param options.onWritten called after each batch: something may wait to be flushed
   * @param options.onEnded the lane has ended; the caller closes the viewers' sessions
   */
  constructor(options: {
    readonly lane: PacketLane;
    readonly egress: Egress;
    readonly now: () => number;
    readonly onWritten: () => void;
    readonly onEnded: (fanOut: FanOut, reason: string) => void;
  }) {
    this.lane = options.lane;
    this.#egress = options.egress;
    this.#now = options.now;
    this.#onWritten = options.onWritten;
    this.#onEnded = options.onEnded;
  }

  /** Holds the lane's attention from the moment a viewer has been granted, so that a converter warms up during the handshake. */
  acquire(): void {
    if (this.#users++ === 0) this.lane.add(this);
  }

  /** @returns true when nobody uses it any more */
  release(): boolean {
    if (--this.#users > 0) return false;
    this.lane.remove(this);
    return true;
  }

  /** From now on the viewer gets live packets. */
  add(viewer: Viewer): void {
    this.#viewers.push(viewer);
  }

  remove(viewer: Viewer): void {
    const index = this.#viewers.indexOf(viewer);
    if (index === -1) return;
    const last = this.#viewers.pop();
    if (last !== undefined && last !== viewer) this.#viewers[index] = last;
  }

  write(batch: PacketBatch): void {
    const viewers = this.#viewers;
    if (viewers.length === 0) return;
    const now = this.#now();
    const staged = this.#staged;
    for (let index = 0; index < batch.length; index++) staged[index] = this.#egress.stage((batch[index] as MediaPacket).payload);
    for (let index = 0; index < viewers.length; index++) (viewers[index] as Viewer).write(now, batch, staged);
    this.#onWritten();
  }

  close(reason: string): void {
    this.#onEnded(this, reason);
  }
}
