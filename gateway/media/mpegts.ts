// MPEG-TS segments: ISO/IEC 13818-1, H.264 and H.265 as Annex B with access unit delimiters (section 2.14, 2.17), AAC in ADTS. What
// Apple's HLS authoring rules ask of it: tables at the head of each segment, parameter sets before each key frame.

import { ADTS_HEADER_SIZE, type AudioConfig, parseAudioConfig, writeAdtsHeader } from "./audio.js";
import { AudioGrid } from "./audio-grid.js";
import type { Frame } from "./frame.js";
import { NAL, NalCursor, parseAvcConfig } from "./h264.js";
import { HEVC_NAL, hevcNalType, parseHevcConfig } from "./h265.js";
import { type ElementaryStream, PID, STREAM_TYPE, TS_PACKET_SIZE, writePat, writePmt } from "./mpegts-tables.js";
import type { Packager, RunOptions, SegmentTracks, SegmentVideo } from "./packager.js";
import { MICROSECONDS, rescale } from "./time.js";

/** Added to the stream's time, in 90 kHz: the clock reference runs ahead of decoding and must not begin below zero. */
export const TS_OFFSET = 90_000;
/** 90 kHz from a picture's clock reference to its decoding: what sound may come behind its picture. Some players add it to their delay. */
export const PCR_LEAD = 9_000;

export class MpegTsPackager implements Packager {
  readonly format = "ts";
  readonly contentType = "video/mp2t";
  readonly initialization = undefined;
  readonly #video: VideoFormat | undefined;
  readonly #audio: AudioConfig | undefined;
  readonly #grid: AudioGrid;
  readonly #writer = new PacketWriter();
  readonly #pcrPid: number;
  readonly #cursor: NalCursor;

  /** @throws TypeError when a configuration makes no sense, or a track does not fit into MPEG-TS */
  constructor(tracks: SegmentTracks) {
    const streams: ElementaryStream[] = [];
    if (tracks.video !== undefined) {
      this.#video = videoFormat(tracks.video);
      streams.push({ streamType: this.#video.streamType, pid: PID.VIDEO });
    }
    if (tracks.audio !== undefined) {
      this.#audio = adtsConfig(tracks.audio.configuration);
      streams.push({ streamType: STREAM_TYPE.ADTS, pid: PID.AUDIO });
    }
    this.#cursor = new NalCursor(Buffer.alloc(0), this.#video?.lengthSize);
    this.#grid = new AudioGrid(this.#audio?.sampleRate ?? 1);
    this.#pcrPid = this.#video === undefined ? PID.AUDIO : PID.VIDEO;
    this.#writer.setTables(writePat(), writePmt(this.#pcrPid, streams));
  }

  write(frames: readonly Frame[], options: RunOptions = {}): Buffer {
    const run = this.#plan(frames);
    const first = run.find((unit) => unit.pid === this.#pcrPid);
    // players join at a part that begins with a key frame, so it has tables too
    const hasTables = run.length > 0 && (options.startsSegment === true || (this.#video !== undefined && first?.isKey === true));
    let packets = hasTables ? 2 : 0;
    for (const unit of run) packets += packetsOf(unit);
    const writer = this.#writer;
    writer.begin(packets, hasTables);
    for (const unit of run) {
      writer.startUnit(unit);
      if (unit.pid === PID.AUDIO) this.#writeAudio(unit);
      else this.#writeVideo(unit);
    }
    return writer.finish();
  }

  #plan(frames: readonly Frame[]): Unit[] {
    const run: Unit[] = [];
    let open: Unit | undefined; // sound that may be added to
    let openEnd = 0; // in samples
    for (const frame of frames) {
      if (frame.isConfig) continue;
      if (frame.kind === "video" && this.#video !== undefined) {
        const size = this.#sizeOfVideo(frame, this.#video);
        const time = { dts: toTicks(frame.dts), pts: toTicks(frame.pts) };
        if (size > 0) run.push(new Unit(PID.VIDEO, this.#pcrPid === PID.VIDEO, frame.isKey, time.pts, time.dts, size, [frame]));
      } else if (frame.kind === "audio" && this.#audio !== undefined) {
        if (frame.data.length === 0 || frame.data.length > MAX_AAC_FRAME) continue;
        const { samplesPerFrame, sampleRate } = this.#audio;
        const place = this.#grid.place(frame.pts, samplesPerFrame);
        const size = frame.data.length + ADTS_HEADER_SIZE;
        const fits = open !== undefined && open.frames.length < MAX_GROUP && open.payload + size <= MAX_GROUP_SIZE;
        if (open !== undefined && fits && Math.abs(place - openEnd) <= 1) {
          open.frames.push(frame);
          open.payload += size;
        } else {
          const pts = rescale(place, sampleRate, CLOCK) + TS_OFFSET;
          open = new Unit(PID.AUDIO, this.#pcrPid === PID.AUDIO, this.#pcrPid === PID.AUDIO, pts, pts, size, [frame]);
          run.push(open);
        }
        openEnd = place + samplesPerFrame;
      }
    }
    return run;
  }

  #sizeOfVideo(frame: Frame, format: VideoFormat): number {
    let size = 0;
    for (this.#cursor.reset(frame.data); this.#nextUnit(frame, format); )
      size += START_CODE.length + this.#cursor.end - this.#cursor.start;
    if (size === 0) return 0;
    return size + format.delimiter.length + (frame.isKey ? format.parameterSets.length : 0);
  }

  /**
   * Steps to the next NAL unit that is passed on: without delimiters, and in key frames without the parameter sets that are written
   * anyway.
   */
  #nextUnit(frame: Frame, format: VideoFormat): boolean {
    const cursor = this.#cursor;
    while (cursor.next()) {
      if (format.keeps(frame.data[cursor.start] as number, frame.isKey)) return true;
    }
    return false;
  }

  #writeVideo(unit: Unit): void {
    const format = this.#video;
    const frame = unit.frames[0];
    if (format === undefined || frame === undefined) return;
    const writer = this.#writer;
    const cursor = this.#cursor;
    writer.put(format.delimiter, 0, format.delimiter.length);
    if (frame.isKey) writer.put(format.parameterSets, 0, format.parameterSets.length);
    for (cursor.reset(frame.data); this.#nextUnit(frame, format); ) {
      writer.put(START_CODE, 0, START_CODE.length);
      writer.put(frame.data, cursor.start, cursor.end);
    }
  }

  #writeAudio(unit: Unit): void {
    if (this.#audio === undefined) return;
    for (const { data } of unit.frames) {
      writeAdtsHeader(ADTS_SCRATCH, 0, this.#audio, data.length);
      this.#writer.put(ADTS_SCRATCH, 0, ADTS_HEADER_SIZE);
      this.#writer.put(data, 0, data.length);
    }
  }
}

const CLOCK = 90_000;
const START_CODE = Buffer.from([0, 0, 0, 1]);
const ADTS_SCRATCH = Buffer.alloc(ADTS_HEADER_SIZE); // written and copied in one turn
const MAX_AAC_FRAME = 0x1fff - ADTS_HEADER_SIZE; // aac_frame_length has 13 bits
const MAX_GROUP = 8; // AAC frames in one PES packet: saves a packet and a half per frame; a part holds about that many
const MAX_GROUP_SIZE = 8192; // well below what PES_packet_length can say

function toTicks(time: number): number {
  return rescale(time, MICROSECONDS, CLOCK) + TS_OFFSET;
}

type VideoFormat = {
  readonly streamType: number;
  readonly lengthSize: number;
  /** An access unit delimiter with its start code. */
  readonly delimiter: Buffer;
  /** The configuration's, with start codes. */
  readonly parameterSets: Buffer;
  /** Whether a NAL unit with this first byte is passed on. */
  readonly keeps: (header: number, isKey: boolean) => boolean;
};

function videoFormat(track: SegmentVideo): VideoFormat {
  if (track.codec === "h264") {
    const config = parseAvcConfig(track.configuration);
    if (config === undefined || config.sps.length === 0) throw new TypeError("createPackager: no SPS in the H.264 configuration");
    return {
      streamType: STREAM_TYPE.H264,
      lengthSize: 4, // frames have 4-byte lengths whatever the publisher's record said
      delimiter: Buffer.from([0, 0, 0, 1, NAL.AUD, 0xf0]), // primary_pic_type=7: any slice
      parameterSets: toAnnexB([...config.sps, ...config.pps]),
      keeps: (header, isKey) => {
        const type = header & 0x1f;
        return type !== NAL.AUD && !(isKey && (type === NAL.SPS || type === NAL.PPS));
      },
    };
  }
  const config = parseHevcConfig(track.configuration);
  if (config === undefined || config.parameterSets.length === 0) {
    throw new TypeError("createPackager: no parameter sets in the H.265 configuration");
  }
  return {
    streamType: STREAM_TYPE.H265,
    lengthSize: config.lengthSize,
    delimiter: Buffer.from([0, 0, 0, 1, HEVC_NAL.AUD << 1, 1, 0x50]), // pic_type=2: any slice
    parameterSets: toAnnexB(config.parameterSets),
    keeps: (header, isKey) => {
      const type = hevcNalType(header);
      return type !== HEVC_NAL.AUD && !(isKey && type >= HEVC_NAL.VPS && type <= HEVC_NAL.PPS);
    },
  };
}

function toAnnexB(units: readonly Buffer[]): Buffer {
  return Buffer.concat(units.flatMap((unit) => [START_CODE, unit]));
}

function adtsConfig(configuration: Buffer): AudioConfig {
  const config = parseAudioConfig(configuration);
  if (config === undefined) throw new TypeError("createPackager: the AAC configuration makes no sense");
  writeAdtsHeader(ADTS_SCRATCH, 0, config, 0); // throws when ADTS cannot say it
  return config;
}

/** What becomes one PES packet: a picture, or a few audio frames that follow one another. Times are 90 kHz, not wrapped. */
class Unit {
  constructor(
    readonly pid: number,
    readonly hasPcr: boolean,
    readonly isKey: boolean,
    readonly pts: number,
    readonly dts: number,
    /** Bytes behind the PES header. */
    public payload: number,
    readonly frames: Frame[],
  ) {}

  get headerSize(): number {
    return this.pts === this.dts ? 14 : 19;
  }

  /** Bytes of the adaptation field of the first packet, its length byte counted. */
  get adaptation(): number {
    return this.hasPcr ? 8 : this.isKey ? 2 : 0;
  }
}

const ROOM = TS_PACKET_SIZE - 4;

function packetsOf(unit: Unit): number {
  const rest = unit.headerSize + unit.payload - (ROOM - unit.adaptation);
  return 1 + (rest > 0 ? Math.ceil(rest / ROOM) : 0);
}

/** Cuts PES packets into transport packets; counters go on from run to run. */
class PacketWriter {
  #pat: Buffer = Buffer.alloc(0);
  #pmt: Buffer = Buffer.alloc(0);
  #tables = 0;
  readonly #counters = { video: 0, audio: 0 };
  #out = Buffer.alloc(0);
  #offset = 0;
  /** Bytes of payload that the packet begun still takes. */
  #room = 0;
  #unit: Unit | undefined;
  /** Bytes of the unit that no packet has been begun for. */
  #left = 0;
  readonly #header = Buffer.alloc(19);

  setTables(pat: Buffer, pmt: Buffer): void {
    this.#pat = pat;
    this.#pmt = pmt;
  }

  begin(packets: number, hasTables: boolean): void {
    this.#out = Buffer.allocUnsafeSlow(packets * TS_PACKET_SIZE); // lives as long as the playlist's window: not a slice of the pool
    this.#offset = 0;
    this.#room = 0;
    if (!hasTables) return;
    for (const table of [this.#pat, this.#pmt]) {
      table.copy(this.#out, this.#offset);
      this.#out[this.#offset + 3] = 0x10 | this.#tables;
      this.#offset += TS_PACKET_SIZE;
    }
    this.#tables = (this.#tables + 1) & 15;
  }

  /** The PES header, section 2.4.3.6; the unit's payload must follow by `put`. */
  startUnit(unit: Unit): void {
    this.#unit = unit;
    this.#left = unit.headerSize + unit.payload;
    const header = this.#header;
    const { headerSize } = unit;
    const length = headerSize - 6 + unit.payload;
    header.writeUInt32BE(unit.pid === PID.VIDEO ? 0x1e0 : 0x1c0, 0); // packet_start_code_prefix stream_id
    header.writeUInt16BE(length > 0xffff ? 0 : length, 4); // PES_packet_length; 0 means unbounded, which video may be
    header[6] = 0x84; // '10' data_alignment_indicator=1
    header[7] = headerSize === 14 ? 0x80 : 0xc0; // PTS_DTS_flags
    header[8] = headerSize - 9; // PES_header_data_length
    writeTime(header, 9, headerSize === 14 ? 2 : 3, unit.pts);
    if (headerSize === 19) writeTime(header, 14, 1, unit.dts);
    this.#startPacket(unit);
    this.put(header, 0, headerSize);
  }

  put(bytes: Buffer, start: number, end: number): void {
    for (let from = start; from < end; ) {
      if (this.#room === 0) this.#startPacket(undefined);
      const to = Math.min(end, from + this.#room);
      bytes.copy(this.#out, this.#offset, from, to);
      this.#offset += to - from;
      this.#room -= to - from;
      from = to;
    }
  }

  finish(): Buffer {
    const out = this.#out;
    this.#out = Buffer.alloc(0); // nothing may hold it longer than the playlist
    this.#unit = undefined;
    return out;
  }

  /** Section 2.4.3.2. @param first the unit, in its first packet */
  #startPacket(first: Unit | undefined): void {
    const pid = this.#unit?.pid ?? 0;
    const out = this.#out;
    const at = this.#offset;
    const wanted = first?.adaptation ?? 0;
    const payload = Math.min(this.#left, ROOM - wanted);
    const adaptation = ROOM - payload; // what is not payload is adaptation field, filled with stuffing
    out[at] = 0x47; // sync_byte
    out[at + 1] = (first === undefined ? 0 : 0x40) | (pid >> 8); // payload_unit_start_indicator
    out[at + 2] = pid & 0xff;
    out[at + 3] = (adaptation > 0 ? 0x30 : 0x10) | this.#count(pid); // adaptation_field_control continuity_counter
    if (adaptation > 0) out[at + 4] = adaptation - 1; // adaptation_field_length
    if (adaptation > 1) {
      out[at + 5] = (first?.isKey === true ? 0x40 : 0) | (first?.hasPcr === true ? 0x10 : 0); // random_access_indicator PCR_flag
      if (first?.hasPcr === true) writePcr(out, at + 6, first.dts - PCR_LEAD);
      out.fill(0xff, at + 4 + Math.max(wanted, 2), at + 4 + adaptation);
    }
    this.#offset = at + 4 + adaptation;
    this.#room = payload;
    this.#left -= payload;
  }

  #count(pid: number): number {
    const key = pid === PID.VIDEO ? "video" : "audio";
    const counter = this.#counters[key];
    this.#counters[key] = (counter + 1) & 15;
    return counter;
  }
}

const WRAP = 2 ** 33;

/** prefix(4) time[32..30] 1 time[29..15] 1 time[14..0] 1 */
function writeTime(out: Buffer, offset: number, prefix: number, time: number): void {
  const wrapped = ((time % WRAP) + WRAP) % WRAP;
  const high = Math.floor(wrapped / 2 ** 30);
  const low = wrapped % 2 ** 30;
  out[offset] = (prefix << 4) | (high << 1) | 1;
  out.writeUInt16BE(((low >> 15) << 1) | 1, offset + 1);
  out.writeUInt16BE(((low & 0x7fff) << 1) | 1, offset + 3);
}

/** program_clock_reference_base(33) reserved(6)=1 program_clock_reference_extension(9)=0 */
function writePcr(out: Buffer, offset: number, time: number): void {
  const wrapped = ((time % WRAP) + WRAP) % WRAP;
  out.writeUInt32BE(Math.floor(wrapped / 2), offset);
  out[offset + 4] = ((wrapped % 2) << 7) | 0x7e;
  out[offset + 5] = 0;
}
