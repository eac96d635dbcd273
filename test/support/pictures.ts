// H.264 and AAC frames that parse, made by hand: real parameter sets, slices of which only the header makes sense.

import type { Frame } from "../../gateway/media/frame.js";
import { joinNalUnits, writeAvcConfig } from "../../gateway/media/h264.js";

/** Constrained baseline 320x180: its SPS rules reordering out. */
export const BASELINE_SPS = Buffer.from("6742c00cd901419f9f011000000300100000030328f142a480", "hex");
export const BASELINE_PPS = Buffer.from("68cb83cb20", "hex");
/** High 320x180 and 640x360, up to two frames reordered, as x264 writes them by default. */
export const HIGH_SPS = Buffer.from("6764000cacd941419f9f011000000300100000030320f142996000", "hex");
export const LARGE_HIGH_SPS = Buffer.from("6764001eacd940a02ff97011000003000100000300320f162d9600", "hex");
export const HIGH_PPS = Buffer.from("68ebe3cb22c0", "hex");

/** first_mb_in_slice 0 and slice_type, as Exp-Golomb codes behind the NAL unit's header. */
const SLICE_START = { P: 0b1100_0000, B: 0b1010_0000, I: 0b1011_0000 } as const;

export type PictureOptions = {
  /** Microseconds. Default dts. */
  readonly pts?: number;
  /** nal_ref_idc. Default 2, of a B picture 0. */
  readonly refIdc?: number;
  /** Bytes of the slice. Default 300. */
  readonly size?: number;
};

/** One access unit of one slice; `IDR` is a key frame. */
export function picture(type: "IDR" | "P" | "B", dts: number, options: PictureOptions = {}): Frame {
  const slice = Buffer.alloc(options.size ?? 300, 0x55);
  const refIdc = options.refIdc ?? (type === "B" ? 0 : 2);
  slice[0] = (refIdc << 5) | (type === "IDR" ? 5 : 1);
  slice[1] = SLICE_START[type === "IDR" ? "I" : type];
  const isKey = type === "IDR";
  return { kind: "video", codec: "h264", dts, pts: options.pts ?? dts, isKey, isConfig: false, data: joinNalUnits([slice]) };
}

export function avcConfig(sps: Buffer, pps: Buffer, dts = 0): Frame {
  return { kind: "video", codec: "h264", dts, pts: dts, isKey: true, isConfig: true, data: writeAvcConfig([sps], [pps]) };
}

/** AudioSpecificConfig of AAC-LC stereo. */
export function aacConfig(rate: 44_100 | 48_000, dts = 0): Frame {
  const data = Buffer.from(rate === 44_100 ? "1210" : "1190", "hex");
  return { kind: "audio", codec: "aac", dts, pts: dts, isKey: true, isConfig: true, data };
}

export function soundFrame(dts: number, codec: Frame["codec"] = "aac", data: Buffer = Buffer.alloc(200, 7)): Frame {
  return { kind: "audio", codec, dts, pts: dts, isKey: true, isConfig: false, data };
}

/** One CELT frame of 20 ms. */
export const OPUS_20MS = Buffer.concat([Buffer.from([0xfc]), Buffer.alloc(79, 3)]);

/**
 * Display order I B B P B B P … of `count` pictures at 25 a second from `start` on, in decoding order; every composition time is
 * at least 0. The first picture is a key frame.
 */
export function reorderedGop(start: number, count: number): Frame[] {
  const at = (index: number) => start + index * 40_000;
  const frames = [picture("IDR", at(0), { pts: at(2) })];
  for (let i = 1; frames.length < count; i += 3) {
    frames.push(picture("P", at(i), { pts: at(i + 4) }));
    frames.push(picture("B", at(i + 1), { pts: at(i + 2) }));
    frames.push(picture("B", at(i + 2), { pts: at(i + 3) }));
  }
  return frames.slice(0, count);
}
