// From tag bodies to frames: what one publisher's tags mean one after the other. Keeps the codec configuration, brings H.264 to
// 4-byte lengths, turns parameter sets that come in band into a configuration, and unwraps timestamps.

import { parseAudioConfig } from "./audio.js";
import { type FlvAudio, type FlvVideo, parseAudioTag, parseVideoTag } from "./flv.js";
import type { AudioCodec, Frame, VideoCodec } from "./frame.js";
import {
  describeAccessUnit,
  joinNalUnits,
  NAL,
  NalCursor,
  parseAvcConfig,
  parsePpsIds,
  splitAnnexB,
  toFourByteLengths,
  writeAvcConfig,
} from "./h264.js";
import { parseSps } from "./h264-sps.js";

export interface FrameReceiver {
  onFrame(frame: Frame): void;
  /** Something is wrong with what the publisher sends; told once per code until it is good again. */
  onProblem(code: string, description: string): void;
}

/** Turns tags of one publisher into frames on the publisher's own clock. */
export class FlvFrameReader {
  readonly #out: FrameReceiver;
  readonly #cursor = new NalCursor(Buffer.alloc(0));
  readonly #told = new Set<string>();
  #time: number | undefined;
  #videoConfig: Buffer | undefined;
  #lengthSize = 4;
  #sps = new Map<number, Buffer>();
  #pps = new Map<number, Buffer>();
  #audioConfig: Buffer | undefined;
  videoCodec: VideoCodec | undefined;
  audioCodec: AudioCodec | undefined;
  /** Frames that could not be used, by whatever reason. */
  dropped = 0;

  constructor(out: FrameReceiver) {
    this.#out = out;
  }

  /** @param timestamp 32 bits of milliseconds. @throws ProtocolError `bytes-truncated` */
  video(timestamp: number, body: Buffer): void {
    const tag = parseVideoTag(body);
    if (tag === undefined || tag.packet === "other" || tag.packet === "end" || tag.trackId !== 0) return;
    this.videoCodec = tag.codec;
    const time = tag.packet === "config" ? this.#timeBeside(timestamp) : this.#mediaTime(timestamp);
    const dts = time * 1000 + Math.floor(tag.nanoOffset / 1000);
    if (tag.codec === "h264") this.#h264(dts, tag);
    else this.#otherVideo(dts, tag);
  }

  /** @param timestamp 32 bits of milliseconds. @throws ProtocolError `bytes-truncated` */
  audio(timestamp: number, body: Buffer): void {
    const tag = parseAudioTag(body);
    if (tag === undefined || tag.packet === "other" || tag.packet === "end" || tag.trackId !== 0 || tag.data.length === 0) return;
    this.audioCodec = tag.codec;
    const time = tag.packet === "config" ? this.#timeBeside(timestamp) : this.#mediaTime(timestamp);
    const dts = time * 1000 + Math.floor(tag.nanoOffset / 1000);
    if (tag.packet === "config") this.#emitAudioConfig(dts, tag);
    else this.#emitAudio(dts, tag);
  }

  /** @param amf0 `onMetaData` and its value */
  data(timestamp: number, amf0: Buffer): void {
    const time = this.#timeBeside(timestamp) * 1000;
    this.#out.onFrame({
      kind: "data",
      codec: "amf0",
      dts: time,
      pts: time,
      isKey: false,
      isConfig: false,
      data: Buffer.from(amf0), // lives as long as the stream: not a view of a network buffer
    });
  }

  #h264(dts: number, tag: FlvVideo): void {
    if (tag.packet === "config") {
      this.#acceptAvcConfig(dts, tag.data);
      return;
    }
    const data = this.#normalised(tag.data);
    if (data === undefined) {
      this.#drop("video-malformed", "H.264 NAL unit lengths do not fit the frame; such frames are dropped");
      return;
    }
    if (data.length === 0) return; // an empty frame is a keep-alive of some encoders
    this.#takeParameterSets(dts, data);
    if (this.#videoConfig === undefined) {
      this.#drop("video-without-config", "H.264 without SPS and PPS: video is dropped until a sequence header comes");
      return;
    }
    const info = describeAccessUnit(data, this.#cursor);
    if (!info.hasSlice) return; // parameter sets or SEI only
    this.#out.onFrame({
      kind: "video",
      codec: "h264",
      dts,
      pts: dts + tag.compositionTime * 1000,
      isKey: info.isIdr,
      isConfig: false,
      data,
    });
  }

  /** The access unit with 4-byte lengths, or undefined. Annex B, which some encoders put into FLV against the rules, is read too. */
  #normalised(data: Buffer): Buffer | undefined {
    this.#cursor.reset(data);
    const fixed = toFourByteLengths(data, this.#lengthSize);
    if (fixed !== undefined) {
      this.#cursor.reset(fixed);
      while (this.#cursor.next());
      if (!this.#cursor.malformed && !startsWithStartCode(data)) return fixed;
    }
    return startsWithStartCode(data) ? joinNalUnits(splitAnnexB(data)) : undefined;
  }

  #acceptAvcConfig(dts: number, bytes: Buffer): void {
    const config = startsWithStartCode(bytes) ? undefined : parseAvcConfig(bytes);
    const sets = config ?? { lengthSize: 4, ...parameterSetsOf(splitAnnexB(bytes)) };
    if (sets.sps.length === 0 || !sets.sps.some((sps) => parseSps(sps) !== undefined)) {
      this.#problem("video-config-invalid", "the H.264 sequence header holds no SPS that can be read");
      return;
    }
    this.#lengthSize = sets.lengthSize;
    this.#sps = new Map();
    this.#pps = new Map();
    for (const sps of sets.sps) this.#sps.set(parseSps(sps)?.id ?? this.#sps.size, Buffer.from(sps));
    for (const pps of sets.pps) this.#pps.set(parsePpsIds(pps)?.id ?? this.#pps.size, Buffer.from(pps));
    this.#emitAvcConfig(dts);
  }

  /** In-band SPS and PPS that differ from what is known become a new configuration before the frame. */
  #takeParameterSets(dts: number, data: Buffer): void {
    let isChanged = false;
    const cursor = this.#cursor;
    for (cursor.reset(data); cursor.next(); ) {
      if (cursor.type !== NAL.SPS && cursor.type !== NAL.PPS) continue;
      const set = data.subarray(cursor.start, cursor.end);
      const id = cursor.type === NAL.SPS ? parseSps(set)?.id : parsePpsIds(set)?.id;
      if (id === undefined) continue;
      const known = cursor.type === NAL.SPS ? this.#sps : this.#pps;
      if (known.get(id)?.equals(set) === true) continue;
      if (set.length > MAX_PARAMETER_SET || (known.size >= MAX_SETS && !known.has(id))) continue;
      known.set(id, Buffer.from(set));
      isChanged = true;
    }
    if (isChanged && this.#sps.size > 0 && this.#pps.size > 0) this.#emitAvcConfig(dts);
  }

  #emitAvcConfig(dts: number): void {
    const data = writeAvcConfig([...this.#sps.values()], [...this.#pps.values()]);
    if (this.#videoConfig?.equals(data) === true) return; // encoders repeat it
    this.#videoConfig = data;
    this.#told.delete("video-without-config");
    this.#out.onFrame({ kind: "video", codec: "h264", dts, pts: dts, isKey: false, isConfig: true, data });
  }

  #otherVideo(dts: number, tag: FlvVideo): void {
    if (tag.data.length === 0) return;
    const isConfig = tag.packet === "config";
    if (isConfig && this.#videoConfig?.equals(tag.data) === true) return;
    const data = isConfig ? Buffer.from(tag.data) : tag.data;
    if (isConfig) this.#videoConfig = data;
    const pts = dts + tag.compositionTime * 1000;
    this.#out.onFrame({ kind: "video", codec: tag.codec, dts, pts, isKey: tag.isKey && !isConfig, isConfig, data });
  }

  #emitAudioConfig(dts: number, tag: FlvAudio): void {
    if (tag.codec === "aac" && parseAudioConfig(tag.data) === undefined) {
      this.#problem("audio-config-invalid", "the AAC sequence header cannot be read");
      return;
    }
    if (this.#audioConfig?.equals(tag.data) === true) return;
    this.#audioConfig = Buffer.from(tag.data);
    this.#told.delete("audio-without-config");
    const data = this.#audioConfig;
    this.#out.onFrame({ kind: "audio", codec: tag.codec, dts, pts: dts, isKey: true, isConfig: true, data });
  }

  #emitAudio(dts: number, tag: FlvAudio): void {
    if (tag.codec === "aac" && this.#audioConfig === undefined) {
      this.#drop("audio-without-config", "AAC without a sequence header: audio is dropped until one comes");
      return;
    }
    this.#out.onFrame({ kind: "audio", codec: tag.codec, dts, pts: dts, isKey: true, isConfig: false, data: tag.data });
  }

  #drop(code: string, description: string): void {
    this.dropped += 1;
    this.#problem(code, description);
  }

  #problem(code: string, description: string): void {
    if (this.#told.has(code)) return;
    this.#told.add(code);
    this.#out.onProblem(code, description);
  }

  /** Milliseconds without wrap: the nearest time to the last one that has these 32 bits. */
  #mediaTime(timestamp: number): number {
    this.#time = this.#time === undefined ? timestamp : this.#time + ((timestamp - this.#time) | 0);
    return this.#time;
  }

  /** Time of what is no media. Some encoders stamp configuration and metadata 0 at any time: then it is the last media's. */
  #timeBeside(timestamp: number): number {
    if (this.#time === undefined) return timestamp;
    const step = (timestamp - this.#time) | 0;
    return Math.abs(step) > MAX_BESIDE ? this.#time : this.#time + step;
  }
}

const MAX_BESIDE = 1000; // ms between a configuration and the media around it
const MAX_SETS = 31; // numOfSequenceParameterSets has five bits; PPS could be 255, nobody sends that many
const MAX_PARAMETER_SET = 4096; // the largest with every scaling list and HRD is under 2 KiB

function startsWithStartCode(data: Buffer): boolean {
  if (data.length < 5 || data[0] !== 0 || data[1] !== 0) return false;
  if (data[2] === 0 && data[3] === 1) {
    // 00 00 00 01 is also the length of a NAL unit of one byte: then another length must follow that fits
    const next = data.length >= 9 ? data.readUInt32BE(5) : 0;
    return !(data.length === 5 || (next > 0 && next <= data.length - 9));
  }
  return data[2] === 1 && data.length - 4 < data.readUInt32BE(0);
}

function parameterSetsOf(units: readonly Buffer[]): { sps: Buffer[]; pps: Buffer[] } {
  const ofType = (type: number) => units.filter((unit) => ((unit[0] as number) & 0x1f) === type);
  return { sps: ofType(NAL.SPS), pps: ofType(NAL.PPS) };
}
