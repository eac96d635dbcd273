// Packaging a stream into segments and parts of HTTP streaming: what goes in, what comes out. The formats are in mpegts.ts and fmp4.ts.

import { Fmp4Packager } from "./fmp4.js";
import type { Frame } from "./frame.js";
import { MpegTsPackager } from "./mpegts.js";

export type SegmentFormat = "ts" | "fmp4";

export type SegmentVideo = {
  readonly codec: "h264" | "hevc" | "av1";
  /** AVCDecoderConfigurationRecord, HEVCDecoderConfigurationRecord or AV1CodecConfigurationRecord: the data of a configuration frame. */
  readonly configuration: Buffer;
};

export type SegmentAudio = {
  readonly codec: "aac" | "opus";
  /** AudioSpecificConfig or OpusHead. An empty one of Opus means stereo. */
  readonly configuration: Buffer;
};

/** The tracks of a run of segments. Another configuration needs another packager, and a discontinuity in the playlist. */
export type SegmentTracks = { readonly video?: SegmentVideo | undefined; readonly audio?: SegmentAudio | undefined };

export type RunOptions = {
  /** The run begins a segment: MPEG-TS repeats its tables, fMP4 writes a `styp`. Default false. */
  readonly startsSegment?: boolean;
  /**
   * Decoding time in µs of the video frame that follows the run, where it is known: fMP4 writes it as the end of the run's last picture.
   * Default: as long after the last picture as that came after the one before. Sound needs nothing: its frames say how long they are.
   */
  readonly videoEnd?: number | undefined;
};

/** Makes bytes of frames; one for the life of a configuration, since counters and clocks go on from segment to segment. */
export interface Packager {
  readonly format: SegmentFormat;
  /** `video/mp2t`, `video/mp4` or `audio/mp4`. */
  readonly contentType: string;
  /** fMP4: ftyp and moov, what EXT-X-MAP points at. */
  readonly initialization: Buffer | undefined;
  /**
   * The bytes of a part or of a whole segment; parts one behind the other are their segment. Frames are in the order in which they came,
   * each track by decoding time. Configurations, data and frames of tracks that are not there are passed over; nothing to write gives
   * an empty buffer.
   */
  write(frames: readonly Frame[], options?: RunOptions): Buffer;
}

/** Whether a format can carry a codec. */
export function canCarry(format: SegmentFormat, codec: Frame["codec"]): codec is SegmentVideo["codec"] | SegmentAudio["codec"] {
  if (codec === "h264" || codec === "hevc" || codec === "aac") return true;
  return format === "fmp4" && (codec === "av1" || codec === "opus");
}

/** @throws TypeError when there is no track, the format cannot carry one, or a configuration makes no sense */
export function createPackager(format: SegmentFormat, tracks: SegmentTracks): Packager {
  const { video, audio } = tracks;
  if (video === undefined && audio === undefined) throw new TypeError("createPackager: tracks holds none");
  for (const track of [video, audio]) {
    if (track !== undefined && !canCarry(format, track.codec)) {
      throw new TypeError(`createPackager: ${format} does not carry ${track.codec}`);
    }
  }
  return format === "ts" ? new MpegTsPackager(tracks) : new Fmp4Packager(tracks);
}
