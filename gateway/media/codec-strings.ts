// What a playlist says of a track: CODECS (RFC 6381, ISO/IEC 14496-15 annex E, the AV1 binding), size and frame rate.

import { parseAudioConfig } from "./audio.js";
import { parseAv1Config } from "./av1.js";
import { parseAvcConfig, spsOfConfig } from "./h264.js";
import { HEVC_NAL, hevcNalType, parseHevcConfig, parseHevcSps } from "./h265.js";
import type { SegmentAudio, SegmentVideo } from "./packager.js";

export type VideoDescription = {
  /** For CODECS: `avc1.64001f`. */
  readonly codec: string;
  /** Pixels, cropped; undefined when the configuration does not say. */
  readonly width: number | undefined;
  readonly height: number | undefined;
  /** Frames per second as stated by the stream, which may lie; undefined when it says nothing. */
  readonly frameRate: number | undefined;
};

export type AudioDescription = {
  /** For CODECS: `mp4a.40.2`, `opus`. */
  readonly codec: string;
  readonly sampleRate: number;
  readonly channels: number;
};

/** @returns undefined when the configuration makes no sense */
export function describeVideo(track: SegmentVideo): VideoDescription | undefined {
  switch (track.codec) {
    case "h264":
      return describeH264(track.configuration);
    case "hevc":
      return describeHevc(track.configuration);
    case "av1":
      return describeAv1(track.configuration);
  }
}

function describeH264(configuration: Buffer): VideoDescription | undefined {
  const config = parseAvcConfig(configuration);
  const sps = spsOfConfig(configuration);
  if (config === undefined || sps === undefined) return undefined;
  const bytes = [config.profile, config.compatibility, config.level];
  const codec = `avc1.${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  return { codec, width: sps.width, height: sps.height, frameRate: sps.frameRate };
}

/** ISO/IEC 14496-15 section E.3: `hvc1.1.6.L93.B0`. */
function describeHevc(configuration: Buffer): VideoDescription | undefined {
  const config = parseHevcConfig(configuration);
  if (config === undefined) return undefined;
  const set = config.parameterSets.find((unit) => hevcNalType(unit[0] as number) === HEVC_NAL.SPS);
  const sps = set === undefined ? undefined : parseHevcSps(set);
  const space = ["", "A", "B", "C"][config.profileSpace] ?? "";
  let reversed = 0;
  for (let bit = 0; bit < 32; bit++) reversed = reversed * 2 + ((config.compatibility >>> bit) & 1);
  const constraints = [...config.constraints].map((byte) => byte.toString(16).toUpperCase());
  while (constraints.at(-1) === "0") constraints.pop(); // trailing zero bytes may be left out
  const level = `${config.tier === "high" ? "H" : "L"}${config.level}`;
  const codec = ["hvc1", `${space}${config.profile}`, reversed.toString(16).toUpperCase(), level, ...constraints].join(".");
  return { codec, width: sps?.width, height: sps?.height, frameRate: undefined };
}

/** AV1-ISOBMFF section 5: `av01.0.04M.08`. */
function describeAv1(configuration: Buffer): VideoDescription | undefined {
  const config = parseAv1Config(configuration);
  if (config === undefined) return undefined;
  const two = (value: number) => `${value}`.padStart(2, "0");
  const codec = `av01.${config.profile}.${two(config.level)}${config.tier === "high" ? "H" : "M"}.${two(config.bitDepth)}`;
  return { codec, width: config.width, height: config.height, frameRate: undefined };
}

/** @returns undefined when the configuration makes no sense */
export function describeAudio(track: SegmentAudio): AudioDescription | undefined {
  if (track.codec === "opus") {
    const channels = track.configuration.length > 9 ? (track.configuration[9] as number) : 2; // RFC 7845 section 5.1
    return { codec: "opus", sampleRate: 48_000, channels };
  }
  const config = parseAudioConfig(track.configuration);
  if (config === undefined) return undefined;
  // the core's type with implicit SBR; with explicit signalling the extension's (RFC 6381 section 3.3)
  const type = config.hasParametricStereo ? 29 : config.extensionSampleRate !== undefined ? 5 : config.objectType;
  return { codec: `mp4a.40.${type}`, sampleRate: config.sampleRate, channels: config.channels };
}
