// Counts what a viewer receives as it comes, without keeping it.

import {
  isRtcp,
  monotonicNow,
  type RecordedPacket,
  readRtp,
  readSenderReports,
  type SenderReport,
  Unwrapper,
} from "./rtp-reader.js";

export type TrackTally = {
  packets: number;
  bytes: number;
  /** Numbers skipped, less those that came late. */
  missing: number;
  firstPacketAt: number | undefined;
  lastPacketAt: number | undefined;
};

export type ViewerTally = {
  readonly video: TrackTally;
  readonly audio: TrackTally;
  keyFrames: number;
  /** Pictures, by their markers. */
  pictures: number;
  /** When the last packet of the first whole key frame (parameter sets and IDR, nothing missing) was there. */
  firstKeyFrameAt: number | undefined;
  senderReports: number;
};

type Kind = "video" | "audio";

/** Takes the packets of one viewer; keeps them too when told so. */
export class Receiver {
  readonly tally: ViewerTally = {
    video: { packets: 0, bytes: 0, missing: 0, firstPacketAt: undefined, lastPacketAt: undefined },
    audio: { packets: 0, bytes: 0, missing: 0, firstPacketAt: undefined, lastPacketAt: undefined },
    keyFrames: 0,
    pictures: 0,
    firstKeyFrameAt: undefined,
    senderReports: 0,
  };
  readonly kept: { video: RecordedPacket[]; audio: RecordedPacket[]; reports: SenderReport[] } = {
    video: [],
    audio: [],
    reports: [],
  };
  readonly #keep: boolean;
  readonly #video = new GapCounter();
  readonly #audio = new GapCounter();
  readonly #picture = new KeyFrameWatch();

  constructor(keep: boolean) {
    this.#keep = keep;
  }

  receive(kind: Kind, bytes: Buffer, arrival = monotonicNow()): void {
    if (isRtcp(bytes)) {
      const reports = readSenderReports(bytes, arrival);
      this.tally.senderReports += reports.length;
      if (this.#keep) this.kept.reports.push(...reports);
      return;
    }
    const packet = readRtp(bytes, arrival);
    if (packet !== undefined) this.take(kind, packet, bytes.length);
  }

  take(kind: Kind, packet: RecordedPacket, length: number): void {
    const track = this.tally[kind];
    track.packets++;
    track.bytes += length;
    track.firstPacketAt ??= packet.arrival;
    track.lastPacketAt = packet.arrival;
    const gaps = kind === "video" ? this.#video : this.#audio;
    track.missing += gaps.take(packet.sequenceNumber);
    if (kind === "video") {
      if (packet.marker) this.tally.pictures++;
      if (this.#picture.take(packet)) {
        this.tally.keyFrames++;
        this.tally.firstKeyFrameAt ??= packet.arrival;
      }
    }
    if (this.#keep) this.kept[kind].push(packet);
  }

  takeReport(report: SenderReport): void {
    this.tally.senderReports++;
    if (this.#keep) this.kept.reports.push(report);
  }
}

class GapCounter {
  readonly #unwrapper = new Unwrapper(16);
  #highest: number | undefined;

  /** What this packet adds to the count of missing ones: −1 when it fills a hole. */
  take(sequenceNumber: number): number {
    const sequence = this.#unwrapper.next(sequenceNumber);
    const highest = this.#highest;
    if (highest === undefined || sequence > highest) {
      this.#highest = sequence;
      return highest === undefined ? 0 : sequence - highest - 1;
    }
    return -1;
  }
}

/** Sees when the last packet of a whole key frame has come; packets in order. */
class KeyFrameWatch {
  #timestamp = -1;
  #next = -1;
  #hasSps = false;
  #hasStart = false;
  #hasEnd = false;
  #isWhole = false;

  take(packet: RecordedPacket): boolean {
    if (packet.timestamp !== this.#timestamp) {
      this.#timestamp = packet.timestamp;
      this.#hasSps = false;
      this.#hasStart = false;
      this.#hasEnd = false;
      this.#isWhole = true;
    } else if (packet.sequenceNumber !== this.#next) {
      this.#isWhole = false;
    }
    this.#next = (packet.sequenceNumber + 1) & 0xffff;
    const { payload } = packet;
    if (payload.length < 2) return false;
    const type = payload.readUInt8(0) & 0x1f;
    const inner = payload.readUInt8(1);
    if (type === 7) this.#hasSps = true;
    if (type === 24 && payload.length > 3) {
      for (let offset = 1; offset + 2 < payload.length; offset += 2 + payload.readUInt16BE(offset)) {
        const nal = payload.readUInt8(offset + 2) & 0x1f;
        if (nal === 7) this.#hasSps = true;
        if (nal === 5) this.#hasStart = this.#hasEnd = true;
      }
    }
    if (type === 5) this.#hasStart = this.#hasEnd = true;
    if (type === 28 && (inner & 0x1f) === 5) {
      if (inner & 0x80) this.#hasStart = true;
      if (inner & 0x40) this.#hasEnd = true;
    }
    return packet.marker && this.#isWhole && this.#hasSps && this.#hasStart && this.#hasEnd;
  }
}
