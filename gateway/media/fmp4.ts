// Fragmented MP4 (ISO/IEC 14496-12 section 8.8, CMAF ISO/IEC 23000-19): one moof and one mdat per run, both tracks in it.

import { parseAudioConfig } from "./audio.js";
import { AudioGrid } from "./audio-grid.js";
import { temporalDelimiterSize } from "./av1.js";
import { describeAudio, describeVideo } from "./codec-strings.js";
import { opusPacketDuration } from "./durations.js";
import { box, type Fmp4Track, SAMPLE_FLAGS, writeInitialization } from "./fmp4-boxes.js";
import type { Frame } from "./frame.js";
import type { Packager, RunOptions, SegmentAudio, SegmentTracks, SegmentVideo } from "./packager.js";
import { MICROSECONDS, OPUS_CLOCK_RATE, rescale } from "./time.js";

export class Fmp4Packager implements Packager {
  readonly format = "fmp4";
  readonly contentType: string;
  readonly initialization: Buffer;
  readonly #video: VideoRun | undefined;
  readonly #audio: AudioRun | undefined;
  #sequenceNumber = 0;

  /** @throws TypeError when a configuration makes no sense */
  constructor(tracks: SegmentTracks) {
    this.contentType = tracks.video === undefined ? "audio/mp4" : "video/mp4";
    this.#video = tracks.video === undefined ? undefined : new VideoRun(tracks.video);
    this.#audio = tracks.audio === undefined ? undefined : new AudioRun(tracks.audio);
    const entries = [this.#video?.track, this.#audio?.track].filter((track) => track !== undefined);
    this.initialization = writeInitialization(entries);
  }

  write(frames: readonly Frame[], options: RunOptions = {}): Buffer {
    const video = this.#video;
    const audio = this.#audio;
    video?.begin();
    audio?.begin();
    for (const frame of frames) {
      if (frame.isConfig) continue;
      if (frame.kind === "video") video?.add(frame);
      else if (frame.kind === "audio") audio?.add(frame);
    }
    video?.end(options.videoEnd);
    const runs: Run[] = [];
    if (video !== undefined && video.count > 0) runs.push(video);
    if (audio !== undefined && audio.count > 0) runs.push(audio);
    if (runs.length === 0) return NOTHING;
    this.#sequenceNumber += 1;
    return writeFragment(runs, this.#sequenceNumber, options.startsSegment === true ? STYP : NOTHING);
  }
}

const NOTHING = Buffer.alloc(0);
const STYP = box("styp", Buffer.from("msdh"), Buffer.alloc(4), Buffer.from("msdhmsix"));

/** The samples of one track in the run being made. Times are in the track's timescale. */
interface Run {
  readonly track: Fmp4Track;
  readonly count: number;
  /** Time of the first sample. */
  readonly start: number;
  /** Bytes of the traf. */
  readonly headerSize: number;
  readonly dataSize: number;
  /** Writes the trun's entries. @returns the new offset */
  writeSamples(out: Buffer, offset: number): number;
  /** @returns the new offset */
  writeData(out: Buffer, offset: number): number;
  /** Flags of the trun, of which data-offset-present is always one. */
  readonly flags: number;
}

/** trun flags, section 8.8.8.1. */
const TRUN = { DATA_OFFSET: 0x1, DURATION: 0x100, SIZE: 0x200, FLAGS: 0x400, COMPOSITION: 0x800 } as const;
const TRAF_FIXED = 8 + 16 + 20 + 20; // traf, tfhd, tfdt with 64 bits, trun up to data_offset

class VideoRun implements Run {
  readonly track: Fmp4Track;
  readonly flags = TRUN.DATA_OFFSET | TRUN.DURATION | TRUN.SIZE | TRUN.FLAGS | TRUN.COMPOSITION;
  readonly #codec: SegmentVideo["codec"];
  #frames: Frame[] = [];
  #end = 0;
  #lastStep: number;

  constructor(video: SegmentVideo) {
    const description = describeVideo(video);
    if (description === undefined) throw new TypeError(`createPackager: the ${video.codec} configuration makes no sense`);
    const { width = 0, height = 0, frameRate = 25 } = description;
    const type = ({ h264: "avc1", hevc: "hvc1", av1: "av01" } as const)[video.codec];
    this.track = {
      id: 1,
      timescale: VIDEO_TIMESCALE,
      entry: { kind: "video", type, configuration: video.configuration, width, height },
    };
    this.#codec = video.codec;
    this.#lastStep = Math.round(VIDEO_TIMESCALE / Math.min(Math.max(frameRate, 1), 240));
  }

  begin(): void {
    this.#frames = [];
  }

  add(frame: Frame): void {
    if (frame.data.length > 0) this.#frames.push(frame);
  }

  end(time: number | undefined): void {
    const last = this.#frames.at(-1);
    if (last === undefined) return;
    const before = this.#frames.at(-2);
    if (before !== undefined) this.#lastStep = ticks(last.dts) - ticks(before.dts);
    this.#end = time === undefined ? ticks(last.dts) + this.#lastStep : Math.max(ticks(time), ticks(last.dts));
  }

  get count(): number {
    return this.#frames.length;
  }

  get start(): number {
    return ticks(this.#frames[0]?.dts ?? 0);
  }

  get headerSize(): number {
    return TRAF_FIXED + this.#frames.length * 16;
  }

  get dataSize(): number {
    let size = 0;
    for (const frame of this.#frames) size += frame.data.length - this.#skip(frame);
    return size;
  }

  writeSamples(out: Buffer, start: number): number {
    let offset = start;
    const frames = this.#frames;
    for (let i = 0; i < frames.length; i++) {
      const frame = frames[i] as Frame;
      const next = frames[i + 1];
      const time = ticks(frame.dts);
      const end = next === undefined ? this.#end : ticks(next.dts);
      offset = out.writeUInt32BE(Math.min(Math.max(0, end - time), 0x7fffffff), offset); // sample_duration
      offset = out.writeUInt32BE(frame.data.length - this.#skip(frame), offset); // sample_size
      offset = out.writeUInt32BE(frame.isKey ? SAMPLE_FLAGS.SYNC : SAMPLE_FLAGS.NON_SYNC, offset);
      offset = out.writeInt32BE((ticks(frame.pts) - time) | 0, offset); // sample_composition_time_offset
    }
    return offset;
  }

  writeData(out: Buffer, start: number): number {
    let offset = start;
    for (const frame of this.#frames) offset += frame.data.copy(out, offset, this.#skip(frame));
    this.#frames = []; // what has been written must not be kept alive
    return offset;
  }

  #skip(frame: Frame): number {
    return this.#codec === "av1" ? temporalDelimiterSize(frame.data) : 0;
  }
}

const VIDEO_TIMESCALE = 90_000; // holds milliseconds, RTP's clock and all common frame rates

function ticks(time: number): number {
  return rescale(time, MICROSECONDS, VIDEO_TIMESCALE);
}

class AudioRun implements Run {
  readonly track: Fmp4Track;
  readonly flags = TRUN.DATA_OFFSET | TRUN.DURATION | TRUN.SIZE;
  readonly #grid: AudioGrid;
  /** Samples of an AAC frame; Opus packets say it themselves. */
  readonly #samplesPerFrame: number | undefined;
  #frames: Frame[] = [];
  #places: number[] = [];
  #end = 0;

  constructor(audio: SegmentAudio) {
    const description = describeAudio(audio);
    if (description === undefined) throw new TypeError(`createPackager: the ${audio.codec} configuration makes no sense`);
    const { sampleRate, channels } = description;
    const { configuration } = audio;
    const type = audio.codec === "aac" ? "mp4a" : "Opus";
    this.track = { id: 2, timescale: sampleRate, entry: { kind: "audio", type, configuration, channels, sampleRate } };
    this.#grid = new AudioGrid(sampleRate);
    this.#samplesPerFrame = audio.codec === "aac" ? parseAudioConfig(configuration)?.samplesPerFrame : undefined;
  }

  begin(): void {
    this.#frames = [];
    this.#places = [];
  }

  add(frame: Frame): void {
    const samples = this.#samplesPerFrame ?? rescale(opusPacketDuration(frame.data) ?? 0, MICROSECONDS, OPUS_CLOCK_RATE);
    if (frame.data.length === 0 || samples === 0) return;
    const place = this.#grid.place(frame.pts, samples);
    this.#frames.push(frame);
    this.#places.push(place);
    this.#end = place + samples;
  }

  get count(): number {
    return this.#frames.length;
  }

  get start(): number {
    return this.#places[0] ?? 0;
  }

  get headerSize(): number {
    return TRAF_FIXED + this.#frames.length * 8;
  }

  get dataSize(): number {
    let size = 0;
    for (const frame of this.#frames) size += frame.data.length;
    return size;
  }

  writeSamples(out: Buffer, start: number): number {
    let offset = start;
    for (let i = 0; i < this.#frames.length; i++) {
      const end = this.#places[i + 1] ?? this.#end;
      offset = out.writeUInt32BE(Math.min(end - (this.#places[i] as number), 0x7fffffff), offset); // sample_duration
      offset = out.writeUInt32BE((this.#frames[i] as Frame).data.length, offset); // sample_size
    }
    return offset;
  }

  writeData(out: Buffer, start: number): number {
    let offset = start;
    for (const frame of this.#frames) offset += frame.data.copy(out, offset);
    this.#frames = [];
    return offset;
  }
}

function writeFragment(runs: readonly Run[], sequenceNumber: number, head: Buffer): Buffer {
  const moofSize = runs.reduce((sum, run) => sum + run.headerSize, 8 + 16);
  const dataSize = runs.reduce((sum, run) => sum + run.dataSize, 0);
  const out = Buffer.allocUnsafeSlow(head.length + moofSize + 8 + dataSize); // lives as long as the playlist's window
  let offset = head.copy(out);
  offset = writeHeader(out, offset, moofSize, "moof");
  offset = writeHeader(out, offset, 16, "mfhd");
  offset = out.writeUInt32BE(0, offset);
  offset = out.writeUInt32BE(sequenceNumber >>> 0, offset);
  let dataOffset = moofSize + 8; // from the start of the moof
  for (const run of runs) {
    offset = writeTraf(out, offset, run, dataOffset);
    dataOffset += run.dataSize;
  }
  offset = writeHeader(out, offset, 8 + dataSize, "mdat");
  for (const run of runs) offset = run.writeData(out, offset);
  return out;
}

function writeTraf(out: Buffer, start: number, run: Run, dataOffset: number): number {
  let offset = writeHeader(out, start, run.headerSize, "traf");
  offset = writeHeader(out, offset, 16, "tfhd");
  offset = out.writeUInt32BE(0x020000, offset); // default-base-is-moof
  offset = out.writeUInt32BE(run.track.id, offset);
  offset = writeHeader(out, offset, 20, "tfdt");
  offset = out.writeUInt32BE(0x01000000, offset); // version 1: 64 bits
  const time = Math.max(0, run.start); // the stream's clock starts at 0
  offset = out.writeUInt32BE(Math.floor(time / 2 ** 32), offset); // baseMediaDecodeTime
  offset = out.writeUInt32BE(time >>> 0, offset);
  offset = writeHeader(out, offset, start + run.headerSize - offset, "trun");
  offset = out.writeUInt32BE(0x01000000 + run.flags, offset); // version 1: composition offsets are signed
  offset = out.writeUInt32BE(run.count, offset); // sample_count
  offset = out.writeInt32BE(dataOffset, offset); // data_offset
  return run.writeSamples(out, offset);
}

function writeHeader(out: Buffer, offset: number, size: number, type: string): number {
  out.writeUInt32BE(size, offset);
  out.write(type, offset + 4, "latin1");
  return offset + 8;
}
