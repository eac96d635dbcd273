// Sound for viewers on paths that lose packets: each packet with the frame before it again (RFC 2198), made once per stream and turn
// for all viewers that name the payload types alike.

import type { PacketLane } from "../hub/types.js";
import { MAX_RTP_PAYLOAD, type MediaPacket } from "../rtp/packet.js";
import { canRepeat, sizeOfRedundant, writeRedundant } from "../rtp/redundancy.js";
import type { Egress } from "./egress.js";

export class RedundantAudio {
  readonly #lane: PacketLane;
  readonly #egress: Egress;
  /** What was staged since `clear`, by packet, for viewers of one payload type: browsers of one kind use the same. */
  readonly #staged = new Map<MediaPacket, number>();
  #payloadType = -1;

  constructor(lane: PacketLane, egress: Egress) {
    this.#lane = lane;
    this.#egress = egress;
  }

  /**
   * Stages a packet's payload with that of the packet before it.
   *
   * @param payloadType of the blocks
   * @returns what `EgressPort.sendRtp` takes; -1 when there is nothing to repeat, or no room: the plain packet is to be sent
   */
  stage(packet: MediaPacket, payloadType: number): number {
    if (payloadType !== this.#payloadType) {
      this.#staged.clear();
      this.#payloadType = payloadType;
    }
    const known = this.#staged.get(packet);
    if (known !== undefined) return known;
    const staged = this.#make(packet, payloadType);
    this.#staged.set(packet, staged);
    return staged;
  }

  /** Forgets what was staged: the egress has, or will have, sent it. */
  clear(): void {
    if (this.#staged.size > 0) this.#staged.clear();
  }

  #make(packet: MediaPacket, payloadType: number): number {
    const previous = this.#lane.find("audio", packet.sequenceNumber - 1);
    if (previous === undefined) return -1;
    const offset = packet.timestamp - previous.timestamp;
    if (!canRepeat(previous.payload, offset) || sizeOfRedundant(previous.payload, packet.payload) > MAX_RTP_PAYLOAD) return -1;
    const end = writeRedundant(SCRATCH, 0, payloadType, previous.payload, offset, packet.payload);
    return this.#egress.stage(SCRATCH.subarray(0, end));
  }
}

const SCRATCH = Buffer.alloc(MAX_RTP_PAYLOAD); // copied at once by `stage`
