// One stream's packets to all its WebRTC viewers: what comes in one turn is gathered, each payload is staged once, then every viewer
// numbers and sends all of it, so that datagrams to one viewer lie together and leave as one message where their sizes allow it.

import type { PacketBatch, PacketLane } from "../hub/types.js";
import type { Sink } from "../media/frame.js";
import type { MediaPacket } from "../rtp/packet.js";
import type { Egress } from "./egress.js";
import { RedundantAudio } from "./redundant-audio.js";
import type { Viewer } from "./viewer.js";

export class FanOut implements Sink<PacketBatch> {
  readonly lane: PacketLane;
  readonly #egress: Egress;
  readonly #now: () => number;
  readonly #onWritten: () => void;
  readonly #onEnded: (fanOut: FanOut, reason: string) => void;
  readonly #redundant: RedundantAudio;
  readonly #viewers: Viewer[] = [];
  #users = 0;
  /** Of this turn, pictures before sound: a shorter packet can only be the last of a message. */
  #video: MediaPacket[] = [];
  #audio: MediaPacket[] = [];
  readonly #staged: number[] = [];

  /**
   * @param options.onWritten called after each batch: `drain` is to be called at the end of the turn, before the egress is flushed
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
    this.#redundant = new RedundantAudio(options.lane, options.egress);
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

  /** From now on the viewer gets live packets; what has come in this turn it finds in the lane's history. */
  add(viewer: Viewer): void {
    this.drain();
    this.#viewers.push(viewer);
  }

  remove(viewer: Viewer): void {
    const index = this.#viewers.indexOf(viewer);
    if (index === -1) return;
    const last = this.#viewers.pop();
    if (last !== undefined && last !== viewer) this.#viewers[index] = last;
  }

  write(batch: PacketBatch): void {
    if (this.#viewers.length === 0) return;
    for (let index = 0; index < batch.length; index++) {
      const packet = batch[index] as MediaPacket;
      (packet.kind === "video" ? this.#video : this.#audio).push(packet);
    }
    this.#onWritten();
  }

  /** Hands what has come in this turn to every viewer. */
  drain(): void {
    const packets = this.#audio.length === 0 ? this.#video : this.#video.concat(this.#audio);
    if (packets.length === 0) return;
    this.#video = [];
    this.#audio = [];
    const viewers = this.#viewers;
    const now = this.#now();
    const staged = this.#staged;
    for (let index = 0; index < packets.length; index++)
      staged[index] = this.#egress.stage((packets[index] as MediaPacket).payload);
    for (let index = 0; index < viewers.length; index++) (viewers[index] as Viewer).write(now, packets, staged, this.#redundant);
    this.#redundant.clear();
  }

  close(reason: string): void {
    this.drain();
    this.#onEnded(this, reason);
  }
}
