// AV1 as far as packaging must look: the configuration record (AV1-ISOBMFF section 2.3.3) and the sequence header in it (AV1 bitstream
// specification section 5.5).

import { BitReader } from "./bytes.js";

export type Av1Config = {
  readonly profile: number;
  /** seq_level_idx_0: 4 is level 3.0. */
  readonly level: number;
  readonly tier: "main" | "high";
  readonly bitDepth: 8 | 10 | 12;
  /** Largest picture of the sequence, where the record holds a sequence header. */
  readonly width: number | undefined;
  readonly height: number | undefined;
};

/** @returns undefined when it is not an AV1CodecConfigurationRecord */
export function parseAv1Config(bytes: Buffer): Av1Config | undefined {
  if (bytes.length < 4 || bytes[0] !== 0x81) return undefined; // marker=1 version=1
  const second = bytes[1] as number;
  const third = bytes[2] as number;
  const bitDepth = (third & 0x40) === 0 ? 8 : (third & 0x20) === 0 ? 10 : 12; // high_bitdepth, twelve_bit
  const size = findSequenceHeader(bytes.subarray(4));
  const tier = (third & 0x80) !== 0 ? "high" : "main";
  return { profile: second >> 5, level: second & 0x1f, tier, bitDepth, width: size?.width, height: size?.height };
}

/** Bytes of the temporal delimiters that a temporal unit begins with; a sample of a file has none (AV1-ISOBMFF section 2.4). */
export function temporalDelimiterSize(unit: Buffer): number {
  let offset = 0;
  while (unit.length >= offset + 2 && unit[offset] === 0x12 && unit[offset + 1] === 0) offset += 2; // has_size_field=1, size 0
  return offset;
}

function findSequenceHeader(obus: Buffer): { width: number; height: number } | undefined {
  for (let offset = 0; offset < obus.length; ) {
    const header = obus[offset] as number;
    offset += (header & 0x04) !== 0 ? 2 : 1; // obu_extension_flag
    const hasSize = (header & 0x02) !== 0;
    let size = obus.length - offset;
    if (hasSize) {
      size = 0;
      for (let i = 0; i < 4; i++) {
        const byte = obus[offset] ?? 0;
        offset += 1;
        size |= (byte & 0x7f) << (7 * i); // leb128; four bytes are 256 MiB
        if ((byte & 0x80) === 0) break;
      }
    }
    if (size > obus.length - offset) return undefined;
    if (((header >> 3) & 0x0f) === OBU_SEQUENCE_HEADER) return parseSequenceHeader(obus.subarray(offset, offset + size));
    offset += size;
  }
  return undefined;
}

const OBU_SEQUENCE_HEADER = 1;

/** Section 5.5.1 up to max_frame_height_minus_1. */
function parseSequenceHeader(obu: Buffer): { width: number; height: number } | undefined {
  const r = new BitReader(obu);
  r.skip(3 + 1); // seq_profile, still_picture
  if (r.flag()) {
    r.skip(5); // reduced_still_picture_header: seq_level_idx[0]
  } else {
    let delayLength = 0;
    let hasDecoderModel = false;
    if (r.flag()) {
      r.skip(64); // num_units_in_display_tick, time_scale
      if (r.flag()) r.ue(); // equal_picture_interval: num_ticks_per_picture_minus_1, uvlc() reads like ue(v)
      hasDecoderModel = r.flag();
      if (hasDecoderModel) {
        delayLength = r.bits(5) + 1; // buffer_delay_length_minus_1
        r.skip(32 + 5 + 5); // num_units_in_decoding_tick, buffer_removal_time_length, frame_presentation_time_length
      }
    }
    const hasInitialDelay = r.flag();
    for (let points = r.bits(5) + 1; points > 0 && !r.overrun; points--) {
      r.skip(12); // operating_point_idc
      if (r.bits(5) > 7) r.skip(1); // seq_level_idx, seq_tier
      if (hasDecoderModel && r.flag()) r.skip(2 * delayLength + 1);
      if (hasInitialDelay && r.flag()) r.skip(4);
    }
  }
  const widthBits = r.bits(4) + 1;
  const heightBits = r.bits(4) + 1;
  const width = r.bits(widthBits) + 1;
  const height = r.bits(heightBits) + 1;
  return r.overrun ? undefined : { width, height };
}
