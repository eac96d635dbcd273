// H.264 as far as a gateway must look: NAL units in place, parameter sets out of band (ISO/IEC 14496-15 section 5.3.3), slice types.

import { BitReader, ByteReader } from "./bytes.js";
import { parseSps, type Sps } from "./h264-sps.js";

/** nal_unit_type, ISO/IEC 14496-10 table 7-1. */
export const NAL = {
  SLICE: 1,
  PARTITION_A: 2,
  PARTITION_B: 3,
  PARTITION_C: 4,
  IDR: 5,
  SEI: 6,
  SPS: 7,
  PPS: 8,
  AUD: 9,
  END_OF_SEQUENCE: 10,
  END_OF_STREAM: 11,
  FILLER: 12,
  SPS_EXTENSION: 13,
} as const;

/** slice_type modulo 5, ISO/IEC 14496-10 table 7-6. */
export const SLICE = { P: 0, B: 1, I: 2, SP: 3, SI: 4 } as const;

/**
 * Walks the NAL units of an access unit in which each stands behind its 4-byte length, without copies:
 * `for (const c = new NalCursor(data); c.next(); )` then `data.subarray(c.start, c.end)`.
 */
export class NalCursor {
  #data: Buffer;
  readonly #lengthSize: number;
  #next = 0;
  /** First byte of the NAL unit (its header). */
  start = 0;
  end = 0;
  /** nal_unit_type. */
  type = 0;
  /** nal_ref_idc: 0 means that no other picture refers to this one. */
  refIdc = 0;
  /** A length reached past the end: the rest of the access unit was not walked. */
  malformed = false;

  constructor(data: Buffer, lengthSize = 4) {
    this.#data = data;
    this.#lengthSize = lengthSize;
  }

  /** Starts again on other data, so that one cursor serves a whole stream. */
  reset(data: Buffer): void {
    this.#data = data;
    this.#next = 0;
    this.malformed = false;
  }

  next(): boolean {
    const data = this.#data;
    for (;;) {
      const at = this.#next;
      if (at >= data.length) return false;
      const start = at + this.#lengthSize;
      if (start > data.length) break;
      const length = data.readUIntBE(at, this.#lengthSize);
      if (length > data.length - start) break;
      this.#next = start + length;
      if (length === 0) continue; // some encoders pad with empty units
      const header = data[start] as number;
      this.start = start;
      this.end = start + length;
      this.type = header & 0x1f;
      this.refIdc = (header >> 5) & 3;
      return true;
    }
    this.malformed = true;
    return false;
  }
}

export type AccessUnitInfo = {
  /** Every length fits; at least one NAL unit. */
  readonly wellFormed: boolean;
  /** Has an IDR slice. */
  readonly isIdr: boolean;
  /** Has a slice of any type. */
  readonly hasSlice: boolean;
  /** slice_type modulo 5 of the first slice, or -1. */
  readonly sliceType: number;
  /** The highest nal_ref_idc of the slices. */
  readonly refIdc: number;
};

/** What a length-prefixed access unit is; one walk, no copies. */
export function describeAccessUnit(data: Buffer, cursor = new NalCursor(data)): AccessUnitInfo {
  let isIdr = false;
  let hasSlice = false;
  let sliceType = -1;
  let refIdc = 0;
  let count = 0;
  cursor.reset(data);
  while (cursor.next()) {
    count += 1;
    if (cursor.type < NAL.SLICE || cursor.type > NAL.IDR) continue;
    if (!hasSlice && cursor.type !== NAL.PARTITION_B && cursor.type !== NAL.PARTITION_C) {
      sliceType = readSliceType(data, cursor.start, cursor.end);
    }
    hasSlice = true;
    if (cursor.type === NAL.IDR) isIdr = true;
    if (cursor.refIdc > refIdc) refIdc = cursor.refIdc;
  }
  return { wellFormed: count > 0 && !cursor.malformed, isIdr, hasSlice, sliceType, refIdc };
}

/** slice_type modulo 5 (see SLICE) of the slice at `start`, or -1 when it cannot be read (section 7.3.3). */
export function readSliceType(data: Buffer, start: number, end: number): number {
  const reader = new BitReader(data, start + 1, Math.min(end, start + MAX_SLICE_PREFIX), true);
  reader.ue(); // first_mb_in_slice
  const type = reader.ue();
  return reader.overrun || type > 9 ? -1 : type % 5;
}

/** first_mb_in_slice, or -1: 0 marks the first slice of a picture. */
export function readFirstMb(data: Buffer, start: number, end: number): number {
  const reader = new BitReader(data, start + 1, Math.min(end, start + MAX_SLICE_PREFIX), true);
  const first = reader.ue();
  return reader.overrun ? -1 : first;
}

const MAX_SLICE_PREFIX = 16; // header byte and two Exp-Golomb codes of at most 65 bits each, emulation prevention aside

/** Parameter sets of a stream, as views. */
export type AvcConfig = {
  readonly profile: number;
  /** constraint_set0..5 flags, the byte between profile and level. */
  readonly compatibility: number;
  readonly level: number;
  /** Bytes of the length before each NAL unit of this stream: 1, 2 or 4 (3 is read too). */
  readonly lengthSize: number;
  readonly sps: readonly Buffer[];
  readonly pps: readonly Buffer[];
};

/**
 * AVCDecoderConfigurationRecord, ISO/IEC 14496-15 section 5.3.3.1. What follows the parameter sets (chroma format and SPS extensions
 * of the high profiles) is not needed: the SPS says it. @returns undefined when it is not one
 */
export function parseAvcConfig(bytes: Buffer): AvcConfig | undefined {
  if (bytes.length < 7 || bytes[0] !== 1) return undefined; // configurationVersion
  const reader = new ByteReader(bytes, 1);
  const profile = reader.u8();
  const compatibility = reader.u8();
  const level = reader.u8();
  const lengthSize = (reader.u8() & 3) + 1; // reserved(6)=1 lengthSizeMinusOne(2)
  const sps = readParameterSets(reader, reader.u8() & 0x1f, NAL.SPS); // reserved(3)=1 numOfSequenceParameterSets(5)
  if (sps === undefined || reader.remaining < 1) return undefined;
  const pps = readParameterSets(reader, reader.u8(), NAL.PPS);
  if (pps === undefined) return undefined;
  return { profile, compatibility, level, lengthSize, sps, pps };
}

function readParameterSets(reader: ByteReader, count: number, type: number): Buffer[] | undefined {
  const sets: Buffer[] = [];
  for (let i = 0; i < count; i++) {
    if (reader.remaining < 2) return undefined;
    const length = reader.u16();
    if (length > reader.remaining) return undefined;
    const set = reader.bytes(length);
    if (length > 0 && ((set[0] as number) & 0x1f) === type) sets.push(set);
  }
  return sets;
}

/** AVCDecoderConfigurationRecord with 4-byte lengths, made from parameter sets. @throws TypeError without an SPS */
export function writeAvcConfig(sps: readonly Buffer[], pps: readonly Buffer[]): Buffer {
  const first = sps[0];
  if (first === undefined || first.length < 4) throw new TypeError("writeAvcConfig: sps must hold a parameter set");
  const info = parseSps(first);
  const hasHighProfileTail = info !== undefined && HIGH_PROFILES.has(info.profile);
  let size = 7 + (hasHighProfileTail ? 4 : 0);
  for (const set of sps) size += 2 + set.length;
  for (const set of pps) size += 2 + set.length;
  const out = Buffer.allocUnsafeSlow(size); // lives as long as the stream: not a slice of the shared pool
  first.copy(out, 1, 1, 4); // AVCProfileIndication, profile_compatibility, AVCLevelIndication
  out[0] = 1;
  out[4] = 0xff; // reserved=111111 lengthSizeMinusOne=3
  out[5] = 0xe0 | sps.length;
  let offset = 6;
  for (const set of sps) offset = writeParameterSet(out, offset, set);
  out[offset] = pps.length;
  offset += 1;
  for (const set of pps) offset = writeParameterSet(out, offset, set);
  if (hasHighProfileTail) {
    out[offset] = 0xfc | info.chromaFormat;
    out[offset + 1] = 0xf8 | (info.bitDepthLuma - 8);
    out[offset + 2] = 0xf8 | (info.bitDepthChroma - 8);
    out[offset + 3] = 0; // numOfSequenceParameterSetExt
  }
  return out;
}

function writeParameterSet(out: Buffer, offset: number, set: Buffer): number {
  out.writeUInt16BE(set.length, offset);
  set.copy(out, offset + 2);
  return offset + 2 + set.length;
}

const HIGH_PROFILES = new Set([100, 110, 122, 144, 244]); // ISO/IEC 14496-15 section 5.3.3.1.2: these carry the chroma fields

/** The first SPS of a configuration, parsed. */
export function spsOfConfig(record: Buffer): Sps | undefined {
  const sps = parseAvcConfig(record)?.sps[0];
  return sps === undefined ? undefined : parseSps(sps);
}

/** pic_parameter_set_id and seq_parameter_set_id of a PPS (section 7.3.2.2). */
export function parsePpsIds(pps: Buffer): { readonly id: number; readonly spsId: number } | undefined {
  const reader = new BitReader(pps, 1, pps.length, true);
  const id = reader.ue();
  const spsId = reader.ue();
  return reader.overrun || id > 255 || spsId > 31 ? undefined : { id, spsId };
}

/** Rewrites 1-, 2- or 3-byte lengths as 4-byte lengths. @returns undefined when a length reaches past the end */
export function toFourByteLengths(data: Buffer, lengthSize: number): Buffer | undefined {
  if (lengthSize === 4) return data;
  const cursor = new NalCursor(data, lengthSize);
  let size = 0;
  while (cursor.next()) size += 4 + cursor.end - cursor.start;
  if (cursor.malformed) return undefined;
  const out = Buffer.allocUnsafe(size);
  let offset = 0;
  cursor.reset(data);
  while (cursor.next()) {
    out.writeUInt32BE(cursor.end - cursor.start, offset);
    offset += 4 + data.copy(out, offset + 4, cursor.start, cursor.end);
  }
  return out;
}

/** Annex B bytes (00 00 01 start codes) of a length-prefixed access unit. Malformed tails are left out. */
export function toAnnexB(data: Buffer): Buffer {
  const cursor = new NalCursor(data);
  let size = 0;
  while (cursor.next()) size += 4 + cursor.end - cursor.start;
  const out = Buffer.allocUnsafe(size);
  let offset = 0;
  cursor.reset(data);
  while (cursor.next()) {
    out.writeUInt32BE(1, offset);
    offset += 4 + data.copy(out, offset + 4, cursor.start, cursor.end);
  }
  return out;
}

/** NAL units of an Annex B byte stream (section B.1), as views without start codes and trailing zeros. */
export function splitAnnexB(data: Buffer): Buffer[] {
  const units: Buffer[] = [];
  let start = -1;
  let at = 0;
  for (;;) {
    const code = data.indexOf(START_CODE, at);
    const end = code === -1 ? data.length : code;
    if (start !== -1) {
      let last = end;
      while (last > start && data[last - 1] === 0) last -= 1; // trailing_zero_8bits, or the zero_byte of the next start code
      if (last > start) units.push(data.subarray(start, last));
    }
    if (code === -1) return units;
    start = code + 3;
    at = start;
  }
}

const START_CODE = Buffer.from([0, 0, 1]);

/** A length-prefixed access unit of NAL units. */
export function joinNalUnits(units: readonly Buffer[]): Buffer {
  let size = 0;
  for (const unit of units) size += 4 + unit.length;
  const out = Buffer.allocUnsafe(size);
  let offset = 0;
  for (const unit of units) {
    out.writeUInt32BE(unit.length, offset);
    offset += 4 + unit.copy(out, offset + 4);
  }
  return out;
}
