// What the bridge knows of transcoding: something takes encoded frames of one codec and gives back frames of another.

/** A frame that comes out of a transcoder. */
export type TranscodedFrame = {
  /** Integer microseconds on the same clock as the frames that were written. May be below zero by the encoder's lead-in. */
  readonly pts: number;
  readonly isKey: boolean;
  /** Opus: one packet. H.264: NAL units, each behind a 4-byte length; a key frame carries its parameter sets. */
  readonly data: Buffer;
};

export type TranscoderEvents = {
  readonly onFrame: (frame: TranscodedFrame) => void;
  /** It ended by itself, with the reason for the log. Called at most once, never after `close`; nothing comes after it. */
  readonly onEnd: (reason: string) => void;
};

/** One run of a transcoder, with one configuration. What it starts it also ends: `close` leaves nothing behind. */
export interface Transcoder {
  /**
   * Takes one frame. Times are integer microseconds from 0 on that never step back (`dts`), at most 2^31 milliseconds.
   *
   * @returns false when the frame was thrown away because the transcoder lags behind
   */
  write(data: Buffer, dts: number, pts: number, isKey: boolean): boolean;
  /** Ends it. Idempotent; no event is raised from here on. */
  close(): void;
}

export type AudioTranscoderOptions = {
  readonly codec: "aac" | "mp3";
  /** AAC: the AudioSpecificConfig; MP3: empty. */
  readonly config: Buffer;
  /** Bits per second of the Opus stream. */
  readonly bitrate: number;
};

export type AacTranscoderOptions = {
  /** Bits per second of the AAC stream. */
  readonly bitrate: number;
};

export type VideoTranscoderOptions = {
  readonly codec: "h264";
  /** AVCDecoderConfigurationRecord. */
  readonly config: Buffer;
  /** Bits per second. */
  readonly bitrate: number;
  /** Frames per second of the source, as far as it is known; the encoder plans its bits and key frames by it. */
  readonly frameRate: number;
  /** Pixels of a picture, as far as they are known; a great many are encoded with less care. */
  readonly pixels: number;
  /** Frames presented before this time (microseconds) are decoded but do not come out. */
  readonly skipBefore: number;
};

export interface TranscoderFactory {
  /** Why there is no audio transcoder on this machine, or undefined when there is one. */
  readonly audioRefusal: string | undefined;
  /** Why there is no transcoder to AAC on this machine, or undefined when there is one. */
  readonly aacRefusal: string | undefined;
  /** Why there is no video transcoder on this machine, or undefined when there is one. */
  readonly videoRefusal: string | undefined;
  /** AAC or MP3 in, Opus (48 kHz, two channels, 20 ms packets) out. @throws Error when `audioRefusal` is set */
  audio(options: AudioTranscoderOptions, events: TranscoderEvents): Transcoder;
  /**
   * Opus in (packets of any length, one or two channels), AAC-LC (48 kHz, two channels, 1,024 samples a frame) out. An Opus packet of
   * nothing but its first byte is concealed. @throws Error when `aacRefusal` is set
   */
  aac(options: AacTranscoderOptions, events: TranscoderEvents): Transcoder;
  /** H.264 with reordered pictures in, H.264 without out. @throws Error when `videoRefusal` is set */
  video(options: VideoTranscoderOptions, events: TranscoderEvents): Transcoder;
}
