// The sequence parameter set of H.264: ISO/IEC 14496-10 section 7.3.2.1.1 and annex E for the VUI.

import { BitReader } from "./bytes.js";

export type Sps = {
  readonly profile: number;
  /** constraint_set0_flag is bit 7 … constraint_set5_flag bit 2. */
  readonly constraints: number;
  /** level_idc: 31 is level 3.1. */
  readonly level: number;
  readonly id: number;
  readonly chromaFormat: number;
  readonly bitDepthLuma: number;
  readonly bitDepthChroma: number;
  /** Pixels, cropping applied. */
  readonly width: number;
  readonly height: number;
  readonly isInterlaced: boolean;
  readonly maxRefFrames: number;
  /** 2 means that output order is decoding order: no reordering is possible. */
  readonly picOrderCountType: number;
  /** Frames per second the VUI states, or undefined. Encoders lie about it at times. */
  readonly frameRate: number | undefined;
  /** max_num_reorder_frames of the VUI, or undefined when it is not stated. 0: no B-frames that delay output. */
  readonly maxReorderFrames: number | undefined;
  /** max_dec_frame_buffering of the VUI, or undefined. */
  readonly maxDecodeBuffering: number | undefined;
};

/** Parses a NAL unit of type 7, header byte included, emulation prevention still in. @returns undefined when it makes no sense */
export function parseSps(nal: Buffer): Sps | undefined {
  if (nal.length < 5 || ((nal[0] as number) & 0x1f) !== 7) return undefined;
  const r = new BitReader(nal, 1, nal.length, true);
  const profile = r.bits(8); // profile_idc
  const constraints = r.bits(8);
  const level = r.bits(8); // level_idc
  const id = r.ue(); // seq_parameter_set_id
  let chromaFormat = 1;
  let separatePlanes = false;
  let bitDepthLuma = 8;
  let bitDepthChroma = 8;
  if (PROFILES_WITH_CHROMA.has(profile)) {
    chromaFormat = r.ue(); // chroma_format_idc
    if (chromaFormat === 3) separatePlanes = r.flag();
    bitDepthLuma = 8 + r.ue();
    bitDepthChroma = 8 + r.ue();
    r.skip(1); // qpprime_y_zero_transform_bypass_flag
    if (r.flag()) skipScalingMatrix(r, chromaFormat === 3 ? 12 : 8);
  }
  r.ue(); // log2_max_frame_num_minus4
  const picOrderCountType = r.ue();
  if (picOrderCountType === 0) {
    r.ue(); // log2_max_pic_order_cnt_lsb_minus4
  } else if (picOrderCountType === 1) {
    r.skip(1); // delta_pic_order_always_zero_flag
    r.se(); // offset_for_non_ref_pic
    r.se(); // offset_for_top_to_bottom_field
    const cycle = r.ue(); // num_ref_frames_in_pic_order_cnt_cycle
    if (cycle > 255) return undefined; // the standard's bound
    for (let i = 0; i < cycle; i++) r.se();
  }
  const maxRefFrames = r.ue(); // max_num_ref_frames
  r.skip(1); // gaps_in_frame_num_value_allowed_flag
  const widthInMbs = r.ue() + 1;
  const heightInMapUnits = r.ue() + 1;
  const isInterlaced = !r.flag(); // frame_mbs_only_flag
  if (isInterlaced) r.skip(1); // mb_adaptive_frame_field_flag
  r.skip(1); // direct_8x8_inference_flag
  let width = widthInMbs * 16;
  let height = heightInMapUnits * 16 * (isInterlaced ? 2 : 1);
  if (r.flag()) {
    const hasChroma = !separatePlanes && chromaFormat !== 0;
    const unitX = hasChroma && chromaFormat < 3 ? 2 : 1; // SubWidthC, table 6-1
    const unitY = (hasChroma && chromaFormat === 1 ? 2 : 1) * (isInterlaced ? 2 : 1);
    width -= unitX * (r.ue() + r.ue()); // frame_crop_left_offset, frame_crop_right_offset
    height -= unitY * (r.ue() + r.ue()); // frame_crop_top_offset, frame_crop_bottom_offset
  }
  const isSensible =
    !r.overrun && id <= 31 && chromaFormat <= 3 && bitDepthLuma <= 14 && bitDepthChroma <= 14 && picOrderCountType <= 2;
  if (!isSensible || width < 1 || height < 1 || width > MAX_DIMENSION || height > MAX_DIMENSION) return undefined;
  const vui = r.flag() ? parseVui(r) : NO_VUI;
  return {
    profile,
    constraints,
    level,
    id,
    chromaFormat,
    bitDepthLuma,
    bitDepthChroma,
    width,
    height,
    isInterlaced,
    maxRefFrames,
    picOrderCountType,
    ...vui,
  };
}

const PROFILES_WITH_CHROMA = new Set([100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135]); // section 7.3.2.1.1
const MAX_DIMENSION = 16_384; // level 6.2 ends at 139,264 macroblocks and a side of sqrt(8 * that) * 16 = 16,888 pixels

type Vui = Pick<Sps, "frameRate" | "maxReorderFrames" | "maxDecodeBuffering">;

const NO_VUI: Vui = { frameRate: undefined, maxReorderFrames: undefined, maxDecodeBuffering: undefined };

/** Annex E.1.1. A VUI that ends too early states nothing. */
function parseVui(r: BitReader): Vui {
  if (r.flag() && r.bits(8) === 255) r.skip(32); // aspect_ratio_idc Extended_SAR: sar_width, sar_height
  if (r.flag()) r.skip(1); // overscan_appropriate_flag
  if (r.flag()) {
    r.skip(4); // video_format, video_full_range_flag
    if (r.flag()) r.skip(24); // colour_primaries, transfer_characteristics, matrix_coefficients
  }
  if (r.flag()) {
    r.ue(); // chroma_sample_loc_type_top_field
    r.ue(); // chroma_sample_loc_type_bottom_field
  }
  let frameRate: number | undefined;
  if (r.flag()) {
    const unitsInTick = r.bits(32); // num_units_in_tick: one tick is one field
    const timeScale = r.bits(32);
    r.skip(1); // fixed_frame_rate_flag
    if (unitsInTick > 0 && timeScale > 0) frameRate = timeScale / (2 * unitsInTick);
  }
  const hasNalHrd = r.flag();
  if (hasNalHrd) skipHrd(r);
  const hasVclHrd = r.flag();
  if (hasVclHrd) skipHrd(r);
  if (hasNalHrd || hasVclHrd) r.skip(1); // low_delay_hrd_flag
  r.skip(1); // pic_struct_present_flag
  if (!r.flag() || r.overrun) return { ...NO_VUI, frameRate: r.overrun ? undefined : frameRate };
  r.skip(1); // motion_vectors_over_pic_boundaries_flag
  r.ue(); // max_bytes_per_pic_denom
  r.ue(); // max_bits_per_mb_denom
  r.ue(); // log2_max_mv_length_horizontal
  r.ue(); // log2_max_mv_length_vertical
  const maxReorderFrames = r.ue();
  const maxDecodeBuffering = r.ue();
  if (r.overrun) return { ...NO_VUI, frameRate };
  return { frameRate, maxReorderFrames, maxDecodeBuffering };
}

/** Annex E.1.2. */
function skipHrd(r: BitReader): void {
  const count = Math.min(r.ue() + 1, 32); // cpb_cnt_minus1 is at most 31
  r.skip(8); // bit_rate_scale, cpb_size_scale
  for (let i = 0; i < count; i++) {
    r.ue(); // bit_rate_value_minus1
    r.ue(); // cpb_size_value_minus1
    r.skip(1); // cbr_flag
  }
  r.skip(20); // initial_cpb_removal_delay_length … time_offset_length
}

/** Section 7.3.2.1.1.1. */
function skipScalingMatrix(r: BitReader, lists: number): void {
  for (let list = 0; list < lists && !r.overrun; list++) {
    if (!r.flag()) continue;
    const size = list < 6 ? 16 : 64;
    let last = 8;
    let next = 8;
    for (let i = 0; i < size && !r.overrun; i++) {
      if (next !== 0) next = (last + r.se() + 256) % 256;
      if (next !== 0) last = next;
    }
  }
}
