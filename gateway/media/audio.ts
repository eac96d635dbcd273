// AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1) and ADTS headers (section 1.A.2.2).

import { BitReader } from "./bytes.js";

export type AudioConfig = {
  /** Audio object type of the core: 2 is AAC-LC. */
  readonly objectType: number;
  /** Hz of the core; with SBR the output has `extensionSampleRate`. */
  readonly sampleRate: number;
  /** Output channels of the core; 0 when a program config element could not say. */
  readonly channels: number;
  /** channelConfiguration as it stood in the config: 0 means a program config element. */
  readonly channelConfiguration: number;
  /** Samples per frame of the core: 1024 or 960. */
  readonly samplesPerFrame: number;
  /** Present with explicit SBR: Hz after spectral band replication. */
  readonly extensionSampleRate: number | undefined;
  /** Parametric stereo: mono core, stereo output. */
  readonly hasParametricStereo: boolean;
};

export const SAMPLE_RATES: readonly number[] = [
  96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
];

const CHANNELS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8]; // table 1.19, by channelConfiguration

const SBR = 5;
const PARAMETRIC_STEREO = 29;

/** @returns undefined when it makes no sense */
export function parseAudioConfig(bytes: Buffer): AudioConfig | undefined {
  const r = new BitReader(bytes);
  let objectType = readObjectType(r);
  const sampleRate = readSampleRate(r);
  const channelConfiguration = r.bits(4);
  let extensionSampleRate: number | undefined;
  let hasParametricStereo = false;
  if (objectType === SBR || objectType === PARAMETRIC_STEREO) {
    hasParametricStereo = objectType === PARAMETRIC_STEREO;
    extensionSampleRate = readSampleRate(r);
    objectType = readObjectType(r); // of the core
  }
  let samplesPerFrame = 1024;
  let channels = CHANNELS[channelConfiguration] ?? 0;
  if (r.overrun || objectType === 0 || sampleRate < MIN_SAMPLE_RATE || sampleRate > MAX_SAMPLE_RATE) return undefined;
  if (GA_TYPES.has(objectType)) {
    if (r.flag()) samplesPerFrame = 960; // frameLengthFlag
    if (r.flag()) r.skip(14); // dependsOnCoreCoder: coreCoderDelay
    const hasExtension = r.flag();
    if (channelConfiguration === 0) channels = readProgramConfigChannels(r);
    if (!hasExtension && extensionSampleRate === undefined && r.remaining >= 16 && r.bits(11) === 0x2b7) {
      // backward compatible signalling: syncExtensionType, section 1.6.6.1
      if (readObjectType(r) === SBR && r.flag()) {
        extensionSampleRate = readSampleRate(r);
        if (r.remaining >= 12 && r.bits(11) === 0x548) hasParametricStereo = r.flag();
      }
    }
  }
  return { objectType, sampleRate, channels, channelConfiguration, samplesPerFrame, extensionSampleRate, hasParametricStereo };
}

const MIN_SAMPLE_RATE = 1_000; // the escape value can state anything in 24 bits; no encoder is outside these two
const MAX_SAMPLE_RATE = 384_000;
const GA_TYPES = new Set([1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23]); // those with a GASpecificConfig

function readObjectType(r: BitReader): number {
  const type = r.bits(5);
  return type === 31 ? 32 + r.bits(6) : type;
}

function readSampleRate(r: BitReader): number {
  const index = r.bits(4);
  return index === 15 ? r.bits(24) : (SAMPLE_RATES[index] ?? 0);
}

/** program_config_element, ISO/IEC 14496-3 table 4.2: only its channels are of interest. */
function readProgramConfigChannels(r: BitReader): number {
  r.skip(4 + 2 + 4); // element_instance_tag, object_type, sampling_frequency_index
  const counts = [r.bits(4), r.bits(4), r.bits(4)]; // front, side, back
  const lfe = r.bits(2);
  r.skip(3 + 4); // num_assoc_data_elements, num_valid_cc_elements
  if (r.flag()) r.skip(4); // mono_mixdown_element_number
  if (r.flag()) r.skip(4); // stereo_mixdown_element_number
  if (r.flag()) r.skip(3); // matrix_mixdown_idx, pseudo_surround_enable
  let channels = lfe;
  for (const count of counts) {
    for (let i = 0; i < count; i++) {
      channels += r.flag() ? 2 : 1; // is_cpe
      r.skip(4); // element_tag_select
    }
  }
  return r.overrun ? 0 : channels;
}

/** AudioSpecificConfig of a plain stream (no SBR): 2 bytes, or 5 when the rate is not in the table. */
export function writeAudioConfig(config: Pick<AudioConfig, "objectType" | "sampleRate" | "channelConfiguration">): Buffer {
  const { objectType, sampleRate, channelConfiguration } = config;
  if (objectType < 1 || objectType > 30) throw new TypeError(`writeAudioConfig: objectType ${objectType} is not in 1..30`);
  const index = SAMPLE_RATES.indexOf(sampleRate);
  if (index !== -1) {
    const word = (objectType << 11) | (index << 7) | (channelConfiguration << 3);
    return Buffer.from([word >> 8, word & 0xff]);
  }
  // objectType(5) 1111 rate(24) channels(4) 000
  const out = Buffer.alloc(5);
  const bits = (BigInt(objectType) << 35n) | (15n << 31n) | (BigInt(sampleRate) << 7n) | (BigInt(channelConfiguration) << 3n);
  out.writeUIntBE(Number(bits >> 8n), 0, 4);
  out[4] = Number(bits & 0xffn);
  return out;
}

export const ADTS_HEADER_SIZE = 7;

/**
 * Writes the ADTS header that goes before one raw AAC frame. @returns the new offset
 *
 * @param frameLength bytes of the raw frame, at most 8184
 * @throws TypeError when ADTS cannot say this configuration (object types over 4, odd sample rates)
 */
export function writeAdtsHeader(out: Buffer, offset: number, config: AudioConfig, frameLength: number): number {
  const index = SAMPLE_RATES.indexOf(config.sampleRate);
  if (index === -1 || config.objectType > 4 || config.channelConfiguration > 7) {
    throw new TypeError(`writeAdtsHeader: no header for object type ${config.objectType} at ${config.sampleRate} Hz`);
  }
  const length = frameLength + ADTS_HEADER_SIZE;
  if (length > 0x1fff) throw new TypeError(`writeAdtsHeader: a frame of ${frameLength} bytes does not fit`);
  out[offset] = 0xff; // syncword
  out[offset + 1] = 0xf1; // syncword(4) ID=0 (MPEG-4) layer=0 protection_absent=1
  out[offset + 2] = ((config.objectType - 1) << 6) | (index << 2) | (config.channelConfiguration >> 2);
  out[offset + 3] = ((config.channelConfiguration & 3) << 6) | (length >> 11);
  out[offset + 4] = (length >> 3) & 0xff;
  out[offset + 5] = ((length & 7) << 5) | 0x1f; // buffer fullness 0x7ff: variable rate
  out[offset + 6] = 0xfc; // number_of_raw_data_blocks_in_frame=0
  return offset + ADTS_HEADER_SIZE;
}
