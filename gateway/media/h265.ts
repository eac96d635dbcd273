// H.265 as far as packaging must look: the configuration record (ISO/IEC 14496-15 section 8.3.3.1) and the picture size of the SPS
// (ITU-T H.265 section 7.3.2.2).

import { BitReader, ByteReader } from "./bytes.js";

/** nal_unit_type, H.265 table 7-1. */
export const HEVC_NAL = { VPS: 32, SPS: 33, PPS: 34, AUD: 35 } as const;

export type HevcConfig = {
  readonly profileSpace: number;
  readonly tier: "main" | "high";
  readonly profile: number;
  /** general_profile_compatibility_flags, 32 bits. */
  readonly compatibility: number;
  /** The six bytes of general_constraint_indicator_flags. */
  readonly constraints: Buffer;
  /** general_level_idc: 93 is level 3.1. */
  readonly level: number;
  /** Bytes of the length before each NAL unit. */
  readonly lengthSize: number;
  /** VPS, SPS and PPS in the order they stand in, as views. */
  readonly parameterSets: readonly Buffer[];
};

/** @returns undefined when it is not a HEVCDecoderConfigurationRecord */
export function parseHevcConfig(bytes: Buffer): HevcConfig | undefined {
  if (bytes.length < 23 || bytes[0] !== 1) return undefined; // configurationVersion
  const reader = new ByteReader(bytes, 1);
  const first = reader.u8();
  const compatibility = reader.u32();
  const constraints = reader.bytes(6);
  const level = reader.u8();
  reader.skip(8); // min_spatial_segmentation_idc … avgFrameRate
  const lengthSize = (reader.u8() & 3) + 1;
  const parameterSets: Buffer[] = [];
  for (let arrays = reader.u8(); arrays > 0; arrays--) {
    if (reader.remaining < 3) return undefined;
    const type = reader.u8() & 0x3f;
    for (let units = reader.u16(); units > 0; units--) {
      if (reader.remaining < 2) return undefined;
      const length = reader.u16();
      if (length > reader.remaining) return undefined;
      const unit = reader.bytes(length);
      if (length > 2 && type >= HEVC_NAL.VPS && type <= HEVC_NAL.PPS) parameterSets.push(unit);
    }
  }
  const tier = (first & 0x20) !== 0 ? "high" : "main";
  return { profileSpace: first >> 6, tier, profile: first & 0x1f, compatibility, constraints, level, lengthSize, parameterSets };
}

/** nal_unit_type from the first byte of a NAL unit. */
export function hevcNalType(header: number): number {
  return (header >> 1) & 0x3f;
}

export type HevcSps = { readonly width: number; readonly height: number };

/** Pixels, conformance window applied. @returns undefined when it makes no sense */
export function parseHevcSps(nal: Buffer): HevcSps | undefined {
  if (nal.length < 3 || hevcNalType(nal[0] as number) !== HEVC_NAL.SPS) return undefined;
  const r = new BitReader(nal, 2, nal.length, true);
  r.skip(4); // sps_video_parameter_set_id
  const subLayers = r.bits(3); // sps_max_sub_layers_minus1
  r.skip(1); // sps_temporal_id_nesting_flag
  skipProfileTierLevel(r, subLayers);
  r.ue(); // sps_seq_parameter_set_id
  const chromaFormat = r.ue();
  const separatePlanes = chromaFormat === 3 && r.flag();
  let width = r.ue();
  let height = r.ue();
  if (r.flag()) {
    const hasChroma = !separatePlanes && chromaFormat !== 0;
    width -= (hasChroma && chromaFormat < 3 ? 2 : 1) * (r.ue() + r.ue()); // SubWidthC, table 6-1
    height -= (hasChroma && chromaFormat === 1 ? 2 : 1) * (r.ue() + r.ue());
  }
  if (r.overrun || chromaFormat > 3 || width < 1 || height < 1 || width > MAX_DIMENSION || height > MAX_DIMENSION)
    return undefined;
  return { width, height };
}

const MAX_DIMENSION = 16_888; // level 6.2: sqrt(8 * MaxLumaPs)

/** profile_tier_level(1, subLayers), section 7.3.3. */
function skipProfileTierLevel(r: BitReader, subLayers: number): void {
  r.skip(88 + 8); // general profile, general_level_idc
  const present: { profile: boolean; level: boolean }[] = [];
  for (let i = 0; i < subLayers; i++) present.push({ profile: r.flag(), level: r.flag() });
  if (subLayers > 0) r.skip(2 * (8 - subLayers)); // reserved_zero_2bits
  for (const { profile, level } of present) r.skip((profile ? 88 : 0) + (level ? 8 : 0));
}
