// ffmpeg as the transcoder: finds it, asks what it can do, and runs one child per track that must be transcoded.

import { execFile } from "node:child_process";
import { createRequire } from "node:module";

import { opusPacketDuration } from "../gateway/media/durations.js";
import { writeFlvHeader, writeFlvTag } from "../gateway/media/flv.js";
import type { Frame } from "../gateway/media/frame.js";
import { joinNalUnits, splitAnnexB } from "../gateway/media/h264.js";
import { OPUS_CLOCK_RATE, rescale } from "../gateway/media/time.js";
import { MediaChild } from "./child.js";
import { type NutFrame, NutReader } from "./nut.js";
import { oggOpusHeaders, oggPage } from "./ogg.js";
import type {
  AacTranscoderOptions,
  AudioTranscoderOptions,
  Transcoder,
  TranscoderEvents,
  TranscoderFactory,
  VideoTranscoderOptions,
} from "./transcoder.js";

/** An ffmpeg that was found, and what it was built with. */
export type Ffmpeg = {
  readonly path: string;
  /** As it names itself: `5.1.6-0+deb12u1`. */
  readonly version: string;
  readonly libopus: boolean;
  readonly libx264: boolean;
  readonly nut: boolean;
  /** Knows `-fps_mode`, which took the place of `-vsync` in 5.1. */
  readonly hasFpsMode: boolean;
};

export type FfmpegTranscodersOptions = {
  /** Path or name of ffmpeg; empty: `ffmpeg` on PATH, then the optional package. Default empty. */
  readonly path?: string;
  /** Gets lines of the children's standard error, for the debug log. Default: thrown away. */
  readonly log?: (line: string) => void;
};

export class FfmpegTranscoders implements TranscoderFactory {
  readonly ffmpeg: Ffmpeg | undefined;
  readonly audioRefusal: string | undefined;
  readonly aacRefusal: string | undefined;
  readonly videoRefusal: string | undefined;
  readonly #log: (line: string) => void;
  readonly #children = new Set<MediaChild>();

  /** Looks for ffmpeg once. Finding none is no error: the refusals then say so. */
  static async create(options: FfmpegTranscodersOptions = {}): Promise<FfmpegTranscoders> {
    return new FfmpegTranscoders(await findFfmpeg(options.path ?? ""), options.log ?? (() => {}));
  }

  private constructor(found: Ffmpeg | string, log: (line: string) => void) {
    this.#log = log;
    this.ffmpeg = typeof found === "string" ? undefined : found;
    this.audioRefusal = typeof found === "string" ? found : lacks(found, found.libopus, "libopus");
    this.aacRefusal = typeof found === "string" ? found : lacks(found, true, "");
    this.videoRefusal = typeof found === "string" ? found : lacks(found, found.libx264, "libx264");
  }

  /** Children that run or are about to end. */
  get running(): number {
    return this.#children.size;
  }

  audio(options: AudioTranscoderOptions, events: TranscoderEvents): Transcoder {
    if (this.ffmpeg === undefined || this.audioRefusal !== undefined) throw new Error(this.audioRefusal);
    const transcoder = new AudioChild(this.ffmpeg, options, events, this.#log);
    this.#keep(transcoder.child);
    return transcoder;
  }

  aac(options: AacTranscoderOptions, events: TranscoderEvents): Transcoder {
    if (this.ffmpeg === undefined || this.aacRefusal !== undefined) throw new Error(this.aacRefusal);
    const transcoder = new AacChild(this.ffmpeg, options, events, this.#log);
    this.#keep(transcoder.child);
    return transcoder;
  }

  video(options: VideoTranscoderOptions, events: TranscoderEvents): Transcoder {
    if (this.ffmpeg === undefined || this.videoRefusal !== undefined) throw new Error(this.videoRefusal);
    const transcoder = new VideoChild(this.ffmpeg, options, events, this.#log);
    this.#keep(transcoder.child);
    return transcoder;
  }

  /** Ends what still runs; fulfilled when no child is left. */
  async close(): Promise<void> {
    for (const child of this.#children) child.close();
    await Promise.all([...this.#children].map((child) => child.gone));
  }

  #keep(child: MediaChild): void {
    this.#children.add(child);
    void child.gone.then(() => this.#children.delete(child));
  }
}

/** @returns the ffmpeg to use, or why there is none */
export async function findFfmpeg(configured: string): Promise<Ffmpeg | string> {
  if (configured !== "") {
    const found = await probe(configured);
    return found ?? `the configured ffmpeg ("${configured}") does not run`;
  }
  const onPath = await probe("ffmpeg");
  if (onPath !== undefined) return onPath;
  const packaged = packagedPath();
  const found = packaged === undefined ? undefined : await probe(packaged);
  return found ?? "there is no ffmpeg: neither configured, nor on PATH, nor as the package @ffmpeg-installer/ffmpeg";
}

async function probe(path: string): Promise<Ffmpeg | undefined> {
  const banner = await ask(path, "-version");
  const version = /^ffmpeg version (\S+)/.exec(banner)?.[1];
  if (version === undefined) return undefined;
  const [encoders, muxers, help] = await Promise.all([ask(path, "-encoders"), ask(path, "-muxers"), ask(path, "-h", "long")]);
  return {
    path,
    version,
    libopus: /^ \S+ libopus /m.test(encoders),
    libx264: /^ \S+ libx264 /m.test(encoders),
    nut: /^ +E +nut /m.test(muxers),
    hasFpsMode: /^-fps_mode/m.test(help),
  };
}

/** @returns what it says, nothing when it fails */
function ask(path: string, ...question: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const limits = { timeout: 10_000, maxBuffer: 1 << 22, windowsHide: true };
    execFile(path, ["-hide_banner", ...question], limits, (error, stdout) => resolve(error === null ? stdout : ""));
  });
}

function packagedPath(): string | undefined {
  try {
    const installer: unknown = createRequire(import.meta.url)("@ffmpeg-installer/ffmpeg");
    const path = typeof installer === "object" && installer !== null && "path" in installer ? installer.path : undefined;
    return typeof path === "string" ? path : undefined;
  } catch {
    return undefined; // an optional dependency, not there on every platform
  }
}

function lacks(ffmpeg: Ffmpeg, hasEncoder: boolean, encoder: string): string | undefined {
  const missing = [hasEncoder ? "" : encoder, ffmpeg.nut ? "" : "the NUT muxer"].filter((name) => name !== "");
  return missing.length === 0 ? undefined : `${ffmpeg.path} (${ffmpeg.version}) was built without ${missing.join(" and ")}`;
}

/** AAC or MP3 to Opus. */
class AudioChild implements Transcoder {
  readonly child: MediaChild;
  readonly #codec: "aac" | "mp3";

  constructor(ffmpeg: Ffmpeg, options: AudioTranscoderOptions, events: TranscoderEvents, log: (line: string) => void) {
    this.#codec = options.codec;
    const reader = new NutReader((frame) => {
      events.onFrame({ pts: microsecondsOf(frame, reader), isKey: true, data: frame.data });
    });
    this.child = new MediaChild({
      command: ffmpeg.path,
      arguments: audioArguments(options.bitrate),
      queueLimit: AUDIO_QUEUE,
      onOutput: (bytes) => reader.push(bytes),
      onEnd: (reason) => events.onEnd(reason),
      log,
    });
    this.child.write(writeFlvHeader(true, false));
    if (options.codec === "aac") this.#tag(true, 0, options.config);
  }

  write(data: Buffer, dts: number): boolean {
    return this.#tag(false, dts, data);
  }

  #tag(isConfig: boolean, time: number, data: Buffer): boolean {
    return writeTag(this.child, { kind: "audio", codec: this.#codec, dts: time, pts: time, isKey: true, isConfig, data });
  }

  close(): void {
    this.child.close();
  }
}

/** Opus to AAC. Its times are counted in samples, so that they come out in steps of exactly one frame. */
class AacChild implements Transcoder {
  readonly child: MediaChild;
  #pageNumber = 2; // after the two header pages

  constructor(ffmpeg: Ffmpeg, options: AacTranscoderOptions, events: TranscoderEvents, log: (line: string) => void) {
    const reader = new NutReader((frame) => {
      events.onFrame({ pts: microsecondsOf(frame, reader), isKey: true, data: frame.data });
    });
    this.child = new MediaChild({
      command: ffmpeg.path,
      arguments: aacArguments(ffmpeg, options.bitrate),
      queueLimit: AUDIO_QUEUE,
      onOutput: (bytes) => reader.push(bytes),
      onEnd: (reason) => events.onEnd(reason),
      log,
    });
    this.child.write(oggOpusHeaders(2));
  }

  write(data: Buffer, dts: number): boolean {
    const duration = opusPacketDuration(data);
    if (duration === undefined) return true; // no Opus packet
    const granule = rescale(dts + LEAD_IN + duration, 1_000_000, OPUS_CLOCK_RATE);
    return this.child.write(oggPage(data, granule, this.#pageNumber++, 0));
  }

  close(): void {
    this.child.close();
  }
}

/** H.264 with reordered pictures to H.264 without. */
class VideoChild implements Transcoder {
  readonly child: MediaChild;

  constructor(ffmpeg: Ffmpeg, options: VideoTranscoderOptions, events: TranscoderEvents, log: (line: string) => void) {
    const reader = new NutReader((frame) => {
      events.onFrame({ pts: microsecondsOf(frame, reader), isKey: frame.isKey, data: joinNalUnits(splitAnnexB(frame.data)) });
    });
    this.child = new MediaChild({
      command: ffmpeg.path,
      arguments: videoArguments(ffmpeg, options),
      queueLimit: VIDEO_QUEUE,
      onOutput: (bytes) => reader.push(bytes),
      onEnd: (reason) => events.onEnd(reason),
      log,
    });
    this.child.write(writeFlvHeader(false, true));
    this.#tag(true, 0, 0, true, options.config);
  }

  write(data: Buffer, dts: number, pts: number, isKey: boolean): boolean {
    return this.#tag(false, dts, pts, isKey, data);
  }

  #tag(isConfig: boolean, dts: number, pts: number, isKey: boolean, data: Buffer): boolean {
    return writeTag(this.child, { kind: "video", codec: "h264", dts, pts, isKey, isConfig, data });
  }

  close(): void {
    this.child.close();
  }
}

// Probing as little as possible is what keeps the delay at one frame; `-fflags nobuffer` would drop the first frame.
const INPUT_ARGUMENTS = ["-probesize", "32", "-analyzeduration", "0", "-copyts", "-f", "flv", "-i", "pipe:0"];
const QUIET = ["-hide_banner", "-nostdin", "-loglevel", "error"];
const OUTPUT_ARGUMENTS = ["-flush_packets", "1", "-f", "nut", "pipe:1"];

function audioArguments(bitrate: number): string[] {
  // async: the resampler follows clocks that drift by stretching, so that Opus timestamps never leave their 20 ms steps.
  const filter = ["-af", "aresample=async=1000"];
  const opus = ["-c:a", "libopus", "-b:a", `${bitrate}`, "-ac", "2", "-application", "lowdelay", "-frame_duration", "20"];
  return [...QUIET, ...INPUT_ARGUMENTS, "-vn", ...filter, ...opus, "-threads", "1", ...OUTPUT_ARGUMENTS];
}

function aacArguments(ffmpeg: Ffmpeg, bitrate: number): string[] {
  // libopus conceals what is missing and takes half the time of ffmpeg's own decoder.
  const decoder = ffmpeg.libopus ? ["-c:a", "libopus"] : [];
  const input = ["-probesize", "32", "-analyzeduration", "0", "-copyts", ...decoder, "-f", "ogg", "-i", "pipe:0"];
  const filter = ["-af", "aresample=async=1000"]; // as in the other direction
  const aac = ["-c:a", "aac", "-aac_coder", "fast", "-b:a", `${bitrate}`, "-ar", "48000", "-ac", "2"];
  return [...QUIET, ...input, "-vn", ...filter, ...aac, "-threads", "1", ...OUTPUT_ARGUMENTS];
}

function videoArguments(ffmpeg: Ffmpeg, options: VideoTranscoderOptions): string[] {
  const { frameRate, pixels, bitrate, skipBefore } = options;
  const decoder = ["-threads", "1"]; // frame threads each add a frame of delay
  const skip = skipBefore > 0 ? ["-vf", `select=gte(t\\,${((skipBefore + LEAD_IN) / 1e6 - 0.0005).toFixed(4)})`] : [];
  // Milliseconds as the encoder's time base, and frames as they come: otherwise ffmpeg moves them onto a grid of its own.
  const times = [ffmpeg.hasFpsMode ? "-fps_mode" : "-vsync", "passthrough", "-enc_time_base", "1:1000"];
  const preset = pixels * frameRate > LIGHT_FROM ? "ultrafast" : "superfast";
  const threads = pixels * frameRate > TWO_THREADS_FROM ? 2 : 1; // slices, which add no delay
  const kbits = Math.round(bitrate / 1000);
  const gop = Math.max(1, Math.round(frameRate * 2));
  // The frame rate goes straight to x264, for its bit budget: as ffmpeg's -r it contradicts passthrough.
  const encoder =
    `-c:v libx264 -preset ${preset} -tune zerolatency -profile:v baseline -pix_fmt yuv420p -bf 0 -g ${gop} ` +
    `-x264-params fps=${frameRate.toFixed(3)} -crf 21 -maxrate ${kbits}k -bufsize ${kbits}k -threads ${threads}`;
  const parameterSets = ["-bsf:v", "dump_extra=freq=keyframe"]; // into each key frame: they may change with the next child
  const output = [...times, ...encoder.split(" "), ...parameterSets, ...OUTPUT_ARGUMENTS];
  return [...QUIET, ...decoder, ...INPUT_ARGUMENTS, "-an", ...skip, ...output];
}

/** @returns false when the child did not take it */
function writeTag(child: MediaChild, frame: Frame): boolean {
  if (Math.abs(frame.pts - frame.dts) > MAX_COMPOSITION) return true; // does not fit the field: such a frame is broken anyway
  const tag = writeFlvTag(frame, Math.round((frame.dts + LEAD_IN) / 1000));
  return tag === undefined || child.write(tag);
}

function microsecondsOf(frame: NutFrame, reader: NutReader): number {
  const stream = reader.stream(frame.streamId);
  if (stream === undefined) return 0;
  return rescale(frame.pts * stream.timeBaseNumerator, stream.timeBaseDenominator, 1_000_000) - LEAD_IN;
}

/** Microseconds added to every time inside the child: an encoder's lead-in goes below its first frame, and NUT shifts what is below 0. */
const LEAD_IN = 1_000_000;
const MAX_COMPOSITION = 0x7fffff * 1000; // microseconds; 24 bits of milliseconds with sign
const LIGHT_FROM = 36_000_000; // pixels a second: superfast takes a quarter of a core for 720p at 30 (28 million)
const TWO_THREADS_FROM = 90_000_000; // 1080p at 50 and more: one core might not do
const AUDIO_QUEUE = 256 * 1024; // bytes; some ten seconds
const VIDEO_QUEUE = 32 * 1024 * 1024; // bytes; a cached GOP goes in at once
