// The unit of the `frames` lane: what RTMP, FLV, HLS and the bridge exchange.

export type VideoCodec = "h264" | "hevc" | "av1" | "vp8" | "vp9" | "h263" | "vp6" | "unknown-video";
export type AudioCodec =
  | "aac"
  | "opus"
  | "mp3"
  | "flac"
  | "ac3"
  | "eac3"
  | "pcmu"
  | "pcma"
  | "pcm"
  | "speex"
  | "nellymoser"
  | "unknown-audio";
export type DataCodec = "amf0";

/** One encoded access unit, audio frame or metadata message; shared by every sink, never changed after publish. */
export type Frame = {
  readonly kind: "audio" | "video" | "data";
  readonly codec: VideoCodec | AudioCodec | DataCodec;
  /** Decoding time in integer microseconds on the stream's clock; never steps back within a track. */
  readonly dts: number;
  /** Presentation time in integer microseconds on the stream's clock. */
  readonly pts: number;
  /** A random-access video picture (H.264: IDR); always true for audio, false for data. */
  readonly isKey: boolean;
  /** The codec's configuration instead of media: AVCDecoderConfigurationRecord, AudioSpecificConfig, OpusHead. */
  readonly isConfig: boolean;
  /**
   * H.264 and H.265: NAL units, each behind a 4-byte length; AAC: one raw frame without ADTS;
   * Opus: one packet; data: AMF0 bytes of the message (`onMetaData` and its value, without `@setDataFrame`).
   */
  readonly data: Buffer;
};

/** Takes the items of one lane. `write` must not throw, must not keep the caller waiting, and must not change the item. */
export interface Sink<T> {
  write(item: T): void;
  /** True while nobody waits for what is made of the items: a publisher may then be read in bundles of a few, to save CPU. */
  readonly isPatient?: boolean;
  /** The lane has ended for good, or this sink is being thrown out. Called at most once. */
  close(reason: string): void;
}
