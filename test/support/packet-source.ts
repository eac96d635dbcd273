// A publisher of made-up packets: pictures of a few packets at a steady pace, a key frame at each group's start, and Opus beside it.

import type { PacketBatch, PacketLane } from "../../gateway/hub/types.js";
import { MediaPacket } from "../../gateway/rtp/packet.js";

export type PacketSourceOptions = {
  /** Pictures per group. Default 50. */
  readonly group?: number;
  readonly framesPerSecond?: number;
  /** Packets of a key frame. Default 10. */
  readonly keyPackets?: number;
  /** Packets of another picture. Default 2. */
  readonly packets?: number;
  /** Bytes per video packet. Default 1000. */
  readonly size?: number;
  /** Every so-manieth picture is discardable; 0: none. Default 0. */
  readonly discardableEvery?: number;
  readonly audio?: boolean;
  /** Number of the first picture; key frames are the multiples of `group`. Default 0. */
  readonly firstPicture?: number;
};

export class PacketSource {
  readonly #lane: PacketLane;
  readonly #options: Required<PacketSourceOptions>;
  #picture = 0;
  #isKeyWanted = false;
  #audioFrame = 0;
  readonly #start: { video: number; audio: number };

  /** @param wallTime milliseconds since 1970 of the first picture */
  constructor(lane: PacketLane, wallTime: number, options: PacketSourceOptions = {}) {
    this.#lane = lane;
    this.#options = {
      group: 50,
      framesPerSecond: 25,
      keyPackets: 10,
      packets: 2,
      size: 1000,
      discardableEvery: 0,
      audio: true,
      firstPicture: 0,
      ...options,
    };
    this.#picture = this.#options.firstPicture;
    this.#audioFrame = Math.round((this.#picture * 50) / this.#options.framesPerSecond);
    lane.setTrack({
      kind: "video",
      codec: "h264",
      clockRate: 90_000,
      formatParameters: "packetization-mode=1;profile-level-id=42e01f",
    });
    lane.setTrack({ kind: "audio", codec: "opus", clockRate: 48_000, channels: 2, formatParameters: "" });
    this.#start = {
      video: Math.round(lane.timestampAt("video", wallTime)),
      audio: Math.round(lane.timestampAt("audio", wallTime)),
    };
  }

  /** The next picture is a key frame, wherever in its group it stands. */
  makeKeyFrame(): void {
    this.#isKeyWanted = true;
  }

  get frameTime(): number {
    return 1000 / this.#options.framesPerSecond;
  }

  /** Writes the next picture and the audio up to it. */
  next(): void {
    const { group, framesPerSecond, keyPackets, packets, size, discardableEvery, audio } = this.#options;
    const index = this.#picture++;
    const isKey = index % group === 0 || this.#isKeyWanted;
    this.#isKeyWanted = false;
    const isDiscardable = !isKey && discardableEvery > 0 && index % discardableEvery === 0;
    const count = isKey ? keyPackets : packets;
    const timestamp = this.#start.video + Math.round((index * 90_000) / framesPerSecond);
    const first = this.#lane.nextSequenceNumber("video");
    const batch: MediaPacket[] = [];
    for (let part = 0; part < count; part++) {
      const payload = Buffer.alloc(size, index & 0xff);
      payload[0] = 0x7c; // FU-A
      payload[1] = (part === 0 ? 0x80 : 0) | (part === count - 1 ? 0x40 : 0) | (isKey ? 5 : 1);
      payload.writeUInt32BE(index, 2);
      batch.push(
        new MediaPacket("video", first + part, timestamp, part === count - 1, isKey && part === 0, isDiscardable, payload),
      );
    }
    this.#lane.write(batch);
    if (!audio) return;
    const until = ((index + 1) * 48_000) / framesPerSecond;
    for (; this.#audioFrame * 960 < until; this.#audioFrame++) this.#lane.write(this.#audio());
  }

  run(pictures: number): void {
    for (let count = 0; count < pictures; count++) this.next();
  }

  #audio(): PacketBatch {
    const number = this.#lane.nextSequenceNumber("audio");
    const payload = Buffer.alloc(80, 7);
    return [new MediaPacket("audio", number, this.#start.audio + this.#audioFrame * 960, false, false, false, payload)];
  }
}

/** The picture a payload belongs to, as `PacketSource` wrote it. */
export function pictureOf(payload: Buffer): number {
  return payload.readUInt32BE(2);
}
