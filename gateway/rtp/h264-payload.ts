// H.264 in RTP: RFC 6184, packetization-mode 1. An access unit becomes single NAL unit packets, STAP-A and FU-A.

import { NAL, NalCursor, parseAvcConfig, parsePpsIds } from "../media/h264.js";
import { parseSps } from "../media/h264-sps.js";
import { MAX_RTP_PAYLOAD, MediaPacket } from "./packet.js";

export type H264PacketizerOptions = {
  /** Supplemental enhancement information is passed on. Default true. */
  readonly keepSei?: boolean;
  /** Bytes of a payload, at least 16. Default MAX_RTP_PAYLOAD. */
  readonly maxPayload?: number;
};

/**
 * Makes the packets of a stream's access units, once for all viewers. Small NAL units share a packet, large ones are cut into parts
 * of one size (the last may be shorter), so that segmentation offload can send a picture as one message.
 */
export class H264Packetizer {
  readonly #maxPayload: number;
  readonly #keepSei: boolean;
  readonly #cursor = new NalCursor(EMPTY);
  /** Parameter sets from out of band, SPS before PPS. */
  #configured: readonly Buffer[] = [];
  // The NAL units of the access unit in hand, as ranges of buffers; emptied after each call.
  readonly #unitData: Buffer[] = [];
  readonly #unitStart: number[] = [];
  readonly #unitEnd: number[] = [];

  constructor(options: H264PacketizerOptions = {}) {
    this.#maxPayload = options.maxPayload ?? MAX_RTP_PAYLOAD;
    this.#keepSei = options.keepSei ?? true;
    if (!(this.#maxPayload >= 16)) throw new TypeError("H264PacketizerOptions.maxPayload must be at least 16");
  }

  /**
   * Sets the parameter sets that key frames get when they do not carry them.
   *
   * @param record AVCDecoderConfigurationRecord
   * @returns false when it makes no sense, and then nothing has changed
   */
  setConfig(record: Buffer): boolean {
    const config = parseAvcConfig(record);
    if (config === undefined) return false;
    this.#configured = [...config.sps, ...config.pps];
    return true;
  }

  /**
   * @param data NAL units, each behind a 4-byte length; not changed, and kept alive by the packets
   * @param isKey known to be a random-access point; an IDR slice makes it one anyway
   * @param timestamp unwrapped RTP time
   * @param sequenceNumber unwrapped number of the first packet
   * @returns the packets in order; none when there is nothing to send
   */
  packetize(data: Buffer, isKey: boolean, timestamp: number, sequenceNumber: number): MediaPacket[] {
    const cursor = this.#cursor;
    let isRandomAccess = isKey;
    let refIdc = 0;
    let inBand: Buffer[] | undefined;
    cursor.reset(data);
    while (cursor.next()) {
      switch (cursor.type) {
        case NAL.SPS:
        case NAL.PPS:
          inBand ??= [];
          inBand.push(data.subarray(cursor.start, cursor.end));
          continue;
        case NAL.AUD: // the RTP timestamp and the marker say the same
        case NAL.FILLER:
        case NAL.END_OF_SEQUENCE:
        case NAL.END_OF_STREAM:
          continue;
        case NAL.SEI:
          if (this.#keepSei) this.#addUnit(data, cursor.start, cursor.end);
          continue;
        case NAL.IDR:
          isRandomAccess = true;
      }
      if (cursor.type <= NAL.IDR && cursor.refIdc > refIdc) refIdc = cursor.refIdc;
      this.#addUnit(data, cursor.start, cursor.end);
    }
    cursor.reset(EMPTY);
    const hasParameterSets = this.#prependParameterSets(inBand, isRandomAccess);
    const output = new PacketList(timestamp, sequenceNumber, isRandomAccess && hasParameterSets, !isRandomAccess && refIdc === 0);
    this.#writeUnits(output);
    this.#unitData.length = 0;
    this.#unitStart.length = 0;
    this.#unitEnd.length = 0;
    return output.packets;
  }

  #addUnit(data: Buffer, start: number, end: number): void {
    this.#unitData.push(data);
    this.#unitStart.push(start);
    this.#unitEnd.push(end);
  }

  /** @returns true when an SPS and a PPS go with this access unit */
  #prependParameterSets(inBand: readonly Buffer[] | undefined, isRandomAccess: boolean): boolean {
    if (inBand === undefined && !isRandomAccess) return false;
    const sets = isRandomAccess ? mergeParameterSets(this.#configured, inBand ?? []) : (inBand ?? []);
    let hasSps = false;
    let hasPps = false;
    for (const set of sets) {
      if (typeOf(set) === NAL.SPS) hasSps = true;
      else hasPps = true;
    }
    this.#unitData.unshift(...sets);
    this.#unitStart.unshift(...sets.map(() => 0));
    this.#unitEnd.unshift(...sets.map((set) => set.length));
    return hasSps && hasPps;
  }

  #writeUnits(output: PacketList): void {
    const count = this.#unitData.length;
    for (let i = 0; i < count; ) {
      const data = this.#unitData[i] as Buffer;
      const start = this.#unitStart[i] as number;
      const end = this.#unitEnd[i] as number;
      if (end - start > this.#maxPayload) {
        writeFragments(output, data, start, end, this.#maxPayload, i === count - 1);
        i += 1;
        continue;
      }
      let size = 1 + 2 + end - start;
      let next = i + 1;
      for (; next < count; next++) {
        const more = 2 + (this.#unitEnd[next] as number) - (this.#unitStart[next] as number);
        if (size + more > this.#maxPayload) break;
        size += more;
      }
      const payload = next === i + 1 ? data.subarray(start, end) : this.#aggregate(i, next, size);
      output.add(payload, next === count);
      i = next;
    }
  }

  //  STAP-A, RFC 6184 section 5.7.1
  //   0                   1                   2                   3
  //   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
  //  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
  //  |F|NRI| type 24 |          NALU 1 size          |  NALU 1 HDR   |
  //  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
  //  |                 NALU 1 data, NALU 2 size, …                   |
  #aggregate(from: number, to: number, size: number): Buffer {
    const out = Buffer.allocUnsafe(size);
    let forbidden = 0;
    let refIdc = 0;
    let offset = 1;
    for (let i = from; i < to; i++) {
      const data = this.#unitData[i] as Buffer;
      const start = this.#unitStart[i] as number;
      const end = this.#unitEnd[i] as number;
      const header = data[start] as number;
      forbidden |= header & 0x80;
      refIdc = Math.max(refIdc, header & 0x60); // the highest NRI of the aggregated units
      offset = out.writeUInt16BE(end - start, offset);
      offset += data.copy(out, offset, start, end);
    }
    out[0] = forbidden | refIdc | STAP_A;
    return out;
  }
}

/** Takes payloads, gives numbered packets. */
class PacketList {
  readonly packets: MediaPacket[] = [];
  readonly #timestamp: number;
  readonly #sequenceNumber: number;
  readonly #startsKeyFrame: boolean;
  readonly #isDiscardable: boolean;

  constructor(timestamp: number, sequenceNumber: number, startsKeyFrame: boolean, isDiscardable: boolean) {
    this.#timestamp = timestamp;
    this.#sequenceNumber = sequenceNumber;
    this.#startsKeyFrame = startsKeyFrame;
    this.#isDiscardable = isDiscardable;
  }

  add(payload: Buffer, isLast: boolean): void {
    const index = this.packets.length;
    const starts = index === 0 && this.#startsKeyFrame;
    const number = this.#sequenceNumber + index;
    this.packets.push(new MediaPacket("video", number, this.#timestamp, isLast, starts, this.#isDiscardable, payload));
  }
}

//  FU-A, RFC 6184 section 5.8: the header of the NAL unit is taken apart, its bytes behind the header are cut
//   0                   1
//   0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+---------------
//  |F|NRI| type 28 |S|E|R|  type   |  FU payload …
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+---------------
//    FU indicator      FU header: S first part, E last part, R zero
function writeFragments(output: PacketList, data: Buffer, start: number, end: number, max: number, endsPicture: boolean): void {
  const header = data[start] as number;
  const length = end - start - 1;
  const size = Math.ceil(length / Math.ceil(length / (max - 2)));
  const count = Math.ceil(length / size);
  const out = Buffer.allocUnsafe(length + 2 * count);
  let from = start + 1;
  let offset = 0;
  for (let i = 0; i < count; i++) {
    const to = Math.min(from + size, end);
    const isLast = i === count - 1;
    out[offset] = (header & 0xe0) | FU_A;
    out[offset + 1] = (i === 0 ? 0x80 : 0) | (isLast ? 0x40 : 0) | (header & 0x1f);
    const next = offset + 2 + data.copy(out, offset + 2, from, to);
    output.add(out.subarray(offset, next), isLast && endsPicture);
    from = to;
    offset = next;
  }
}

/** What a key frame is sent with: the configured sets, less those that the key frame replaces, then its own; SPS first. */
function mergeParameterSets(configured: readonly Buffer[], inBand: readonly Buffer[]): readonly Buffer[] {
  if (inBand.length === 0) return configured;
  const kept = configured.filter((set) => !inBand.some((other) => isSameSet(set, other)));
  const sets = [...kept, ...inBand.filter((set, i) => !inBand.slice(0, i).some((other) => other.equals(set)))];
  return [...sets.filter((set) => typeOf(set) === NAL.SPS), ...sets.filter((set) => typeOf(set) !== NAL.SPS)];
}

/** Of the same kind and with the same id: the later one takes the place of the earlier. */
function isSameSet(a: Buffer, b: Buffer): boolean {
  if (typeOf(a) !== typeOf(b)) return false;
  if (a.equals(b)) return true;
  const idOf = (set: Buffer) => (typeOf(set) === NAL.SPS ? parseSps(set)?.id : parsePpsIds(set)?.id);
  const id = idOf(a);
  return id !== undefined && id === idOf(b);
}

function typeOf(unit: Buffer): number {
  return (unit[0] as number) & 0x1f;
}

const EMPTY: Buffer = Buffer.alloc(0);
const STAP_A = 24;
const FU_A = 28;
