// What a playlist says of a track: CODECS (RFC 6381, ISO/IEC 14496-15 annex E, the AV1 binding), size and frame rate.

import { parseAudioConfig } from "./audio.js";
import { parseAvcConfig, spsOfConfig } from "./h264.js";
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
  if (track.codec !== "h264") return undefined;
  const config = parseAvcConfig(track.configuration);
  const sps = spsOfConfig(track.configuration);
  if (config === undefined || sps === undefined) return undefined;
  const bytes = [config.profile, config.compatibility, config.level];
  const codec = `avc1.${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  return { codec, width: sps.width, height: sps.height, frameRate: sps.frameRate };
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
