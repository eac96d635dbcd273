// Bodies of FLV audio and video tags, which are also the payloads of RTMP messages 8 and 9: FLV specification 10.1 annex E.4 and
// Enhanced RTMP v2 (ExVideoTagHeader, ExAudioTagHeader). Bytes in, located values out; stateless.

import { ByteReader } from "./bytes.js";
import type { AudioCodec, Frame, VideoCodec } from "./frame.js";

export const FLV_TAG = { AUDIO: 8, VIDEO: 9, SCRIPT: 18 } as const;

/** What a tag body carries. `other`: video commands, metadata of colours, multichannel maps; nothing to play. */
export type FlvPacket = "config" | "frame" | "end" | "other";

export type FlvVideo = {
  readonly codec: VideoCodec;
  /** FourCC of an enhanced header, or undefined for a legacy one. */
  readonly fourCc: string | undefined;
  readonly packet: FlvPacket;
  readonly isKey: boolean;
  /** pts - dts in milliseconds, may be negative. */
  readonly compositionTime: number;
  /** Nanoseconds to add to the tag's timestamp (ModEx), 0 without. */
  readonly nanoOffset: number;
  /** Track of a multitrack tag, 0 otherwise. */
  readonly trackId: number;
  /** A view of the payload. */
  readonly data: Buffer;
};

export type FlvAudio = {
  readonly codec: AudioCodec;
  readonly fourCc: string | undefined;
  readonly packet: FlvPacket;
  readonly nanoOffset: number;
  readonly trackId: number;
  readonly data: Buffer;
};

/** @returns undefined for an empty body. @throws ProtocolError `bytes-truncated` */
export function parseVideoTag(body: Buffer): FlvVideo | undefined {
  const first = body[0];
  if (first === undefined) return undefined;
  if ((first & 0x80) !== 0) return parseExVideoTag(body);
  const frameType = first >> 4; // 1 key, 2 inter, 3 disposable inter, 4 generated key, 5 command
  const codec = LEGACY_VIDEO[first & 0x0f] ?? "unknown-video";
  const isKey = frameType === 1 || frameType === 4;
  const base = { codec, fourCc: undefined, isKey, nanoOffset: 0, trackId: 0 };
  if (frameType === COMMAND_FRAME) return { ...base, packet: "other", compositionTime: 0, data: body.subarray(1) };
  if (!hasAvcPacketType(codec)) return { ...base, packet: "frame", compositionTime: 0, data: body.subarray(1) };
  const reader = new ByteReader(body, 1);
  const packetType = reader.u8();
  const compositionTime = reader.i24();
  const packet = AVC_PACKETS[packetType] ?? "other";
  return { ...base, packet, compositionTime: packet === "frame" ? compositionTime : 0, data: reader.rest() };
}

const COMMAND_FRAME = 5;
const AVC_PACKETS: readonly FlvPacket[] = ["config", "frame", "end"]; // AVCPacketType

const LEGACY_VIDEO: Readonly<Record<number, VideoCodec>> = {
  2: "h263",
  4: "vp6",
  5: "vp6",
  7: "h264",
  12: "hevc", // never standard, but widely sent before Enhanced RTMP
  13: "av1", // likewise
};

function hasAvcPacketType(codec: VideoCodec): boolean {
  return codec === "h264" || codec === "hevc" || codec === "av1";
}

/** Enhanced RTMP v2, "ExVideoTagHeader": isExHeader(1) VideoFrameType(3) VideoPacketType(4). */
function parseExVideoTag(body: Buffer): FlvVideo {
  const reader = new ByteReader(body);
  const first = reader.u8();
  const frameType = (first >> 4) & 7;
  const isKey = frameType === 1 || frameType === 4;
  const header = readExHeader(reader, first & 0x0f, VIDEO_MULTITRACK, frameType === COMMAND_FRAME ? VIDEO_METADATA : -1);
  const codec = VIDEO_FOURCC[header.fourCc] ?? "unknown-video";
  let packet: FlvPacket = "other";
  let compositionTime = 0;
  switch (header.isCommand ? -1 : header.packetType) {
    case 0: // SequenceStart
    case 5: // MPEG2TSSequenceStart
      packet = "config";
      break;
    case 1: // CodedFrames
      packet = "frame";
      if (header.fourCc === "avc1" || header.fourCc === "hvc1" || header.fourCc === "vvc1") compositionTime = reader.i24();
      break;
    case 2: // SequenceEnd
      packet = "end";
      break;
    case 3: // CodedFramesX: no composition time
      packet = "frame";
      break;
  }
  const { fourCc, nanoOffset, trackId } = header;
  return { codec, fourCc, packet, isKey, compositionTime, nanoOffset, trackId, data: header.data(reader) };
}

const VIDEO_METADATA = 4;
const VIDEO_MULTITRACK = 6;
const AUDIO_MULTITRACK = 5;
const MOD_EX = 7;

const VIDEO_FOURCC: Readonly<Record<string, VideoCodec>> = {
  avc1: "h264",
  hvc1: "hevc",
  av01: "av1",
  vp08: "vp8",
  vp09: "vp9",
};

type ExHeader = {
  readonly packetType: number;
  readonly isCommand: boolean;
  readonly fourCc: string;
  readonly nanoOffset: number;
  readonly trackId: number;
  /** The rest of the body; of a multitrack tag only the first track's part. */
  readonly data: (reader: ByteReader) => Buffer;
};

/** The part both headers share. @param commandExcept the packet type that a command frame may have without being a command, -1: no command */
function readExHeader(reader: ByteReader, firstPacketType: number, multitrack: number, commandExcept: number): ExHeader {
  let packetType = firstPacketType;
  let nanoOffset = 0;
  for (let i = 0; packetType === MOD_EX; i++) {
    if (i === MAX_MOD_EX) break;
    let size = reader.u8() + 1; // modExDataSize
    if (size === 256) size = reader.u16() + 1;
    const data = reader.bytes(size);
    const next = reader.u8(); // ModExType(4) PacketType(4)
    packetType = next & 0x0f;
    if (next >> 4 === 0 && size >= 3) nanoOffset = data.readUIntBE(0, 3); // TimestampOffsetNano
  }
  if (commandExcept !== -1 && packetType !== commandExcept) {
    return { packetType, isCommand: true, fourCc: "", nanoOffset, trackId: 0, data: (r) => r.rest() };
  }
  if (packetType !== multitrack) {
    return { packetType, isCommand: false, fourCc: reader.text(4), nanoOffset, trackId: 0, data: (r) => r.rest() };
  }
  const kind = reader.u8(); // AvMultitrackType(4) PacketType(4)
  packetType = kind & 0x0f;
  const fourCc = reader.text(4); // ManyTracksManyCodecs has it inside the track's part, which comes next just the same
  const trackId = reader.u8();
  const size = kind >> 4 === 0 ? -1 : reader.u24(); // OneTrack has no size
  const end = reader.remaining - size;
  return {
    packetType,
    isCommand: false,
    fourCc,
    nanoOffset,
    trackId,
    data: (r) => (size === -1 ? r.rest() : r.bytes(Math.max(0, r.remaining - end))),
  };
}

const MAX_MOD_EX = 8; // each must be used once at most, and only one type is defined

/** @returns undefined for an empty body. @throws ProtocolError `bytes-truncated` */
export function parseAudioTag(body: Buffer): FlvAudio | undefined {
  const first = body[0];
  if (first === undefined) return undefined;
  const format = first >> 4; // SoundFormat
  if (format === EX_AUDIO) return parseExAudioTag(body);
  const codec = LEGACY_AUDIO[format] ?? "unknown-audio";
  const base = { codec, fourCc: undefined, nanoOffset: 0, trackId: 0 };
  if (codec !== "aac") return { ...base, packet: "frame", data: body.subarray(1) };
  const reader = new ByteReader(body, 1);
  const packet: FlvPacket = AAC_PACKETS[reader.u8()] ?? "other";
  return { ...base, packet, data: reader.rest() };
}

const EX_AUDIO = 9;
const AAC_PACKETS: readonly FlvPacket[] = ["config", "frame"]; // AACPacketType

const LEGACY_AUDIO: Readonly<Record<number, AudioCodec>> = {
  0: "pcm",
  1: "pcm", // ADPCM
  2: "mp3",
  3: "pcm",
  4: "nellymoser",
  5: "nellymoser",
  6: "nellymoser",
  7: "pcma",
  8: "pcmu",
  10: "aac",
  11: "speex",
  13: "opus", // never standard
  14: "mp3", // 8 kHz
};

/** Enhanced RTMP v2, "ExAudioTagHeader": SoundFormat=9(4) AudioPacketType(4). */
function parseExAudioTag(body: Buffer): FlvAudio {
  const reader = new ByteReader(body);
  const header = readExHeader(reader, reader.u8() & 0x0f, AUDIO_MULTITRACK, -1);
  const { fourCc, nanoOffset, trackId } = header;
  const codec = AUDIO_FOURCC[fourCc] ?? "unknown-audio";
  const packet = EX_AUDIO_PACKETS[header.packetType] ?? "other";
  return { codec, fourCc, packet, nanoOffset, trackId, data: header.data(reader) };
}

const EX_AUDIO_PACKETS: readonly FlvPacket[] = ["config", "frame", "end"]; // AudioPacketType

const AUDIO_FOURCC: Readonly<Record<string, AudioCodec>> = {
  mp4a: "aac",
  Opus: "opus",
  ".mp3": "mp3",
  fLaC: "flac",
  "ac-3": "ac3",
  "ec-3": "eac3",
};

/** Bytes that stand before the payload in a tag body for this frame; -1 when FLV has no way to carry it. */
export function sizeOfTagHeader(frame: Frame): number {
  if (frame.codec === "h264") return 5;
  if (frame.codec === "aac") return 2;
  if (frame.codec === "mp3" || frame.codec === "pcma" || frame.codec === "pcmu") return 1;
  if (frame.kind === "data") return 0;
  if (VIDEO_NAMES[frame.codec] === undefined && AUDIO_NAMES[frame.codec] === undefined) return -1;
  return 5 + (frame.codec === "hevc" && !frame.isConfig ? 3 : 0);
}

/** Writes what goes before the payload of an audio or video frame. @returns the new offset */
export function writeTagHeader(out: Buffer, offset: number, frame: Frame): number {
  const compositionTime = Math.round((frame.pts - frame.dts) / 1000);
  const frameType = frame.isKey || frame.isConfig ? 1 : 2;
  switch (frame.codec) {
    case "h264":
      out[offset] = (frameType << 4) | 7;
      out[offset + 1] = frame.isConfig ? 0 : 1; // AVCPacketType
      return out.writeIntBE(frame.isConfig ? 0 : compositionTime, offset + 2, 3);
    case "aac":
      out[offset] = 0xaf; // SoundFormat=10 SoundRate=3 SoundSize=1 SoundType=1: fixed for AAC
      out[offset + 1] = frame.isConfig ? 0 : 1; // AACPacketType
      return offset + 2;
    case "mp3":
      return out.writeUInt8(0x2f, offset);
    case "pcma":
      return out.writeUInt8(0x72, offset); // 8 bit samples of G.711 count as 16 bit, mono
    case "pcmu":
      return out.writeUInt8(0x82, offset);
  }
  if (frame.kind === "data") return offset;
  const hasCompositionTime = frame.codec === "hevc" && !frame.isConfig;
  if (frame.kind === "video") {
    out[offset] = 0x80 | (frameType << 4) | (frame.isConfig ? 0 : 1);
    out.write(VIDEO_NAMES[frame.codec] ?? "", offset + 1, 4, "latin1");
    return hasCompositionTime ? out.writeIntBE(compositionTime, offset + 5, 3) : offset + 5;
  }
  out[offset] = (EX_AUDIO << 4) | (frame.isConfig ? 0 : 1);
  out.write(AUDIO_NAMES[frame.codec] ?? "", offset + 1, 4, "latin1");
  return offset + 5;
}

const VIDEO_NAMES: Readonly<Record<string, string>> = { hevc: "hvc1", av1: "av01", vp8: "vp08", vp9: "vp09" };
const AUDIO_NAMES: Readonly<Record<string, string>> = { opus: "Opus", flac: "fLaC", ac3: "ac-3", eac3: "ec-3" };

/** The 9-byte file header and PreviousTagSize0. */
export function writeFlvHeader(hasAudio: boolean, hasVideo: boolean): Buffer {
  const flags = (hasAudio ? 4 : 0) | (hasVideo ? 1 : 0);
  return Buffer.from([0x46, 0x4c, 0x56, 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]); // "FLV", version 1
}

export const FLV_TAG_HEADER_SIZE = 11;

/** A whole FLV tag with its PreviousTagSize, made once per frame for all viewers. @returns undefined when FLV cannot carry it */
export function writeFlvTag(frame: Frame, timestamp: number): Buffer | undefined {
  const headerSize = sizeOfTagHeader(frame);
  if (headerSize === -1) return undefined;
  const bodySize = headerSize + frame.data.length;
  const out = Buffer.allocUnsafe(FLV_TAG_HEADER_SIZE + bodySize + 4);
  out[0] = TAG_OF_KIND[frame.kind];
  out.writeUIntBE(bodySize, 1, 3);
  out.writeUIntBE(timestamp & 0xffffff, 4, 3);
  out[7] = (timestamp >>> 24) & 0xff; // TimestampExtended
  out.writeUIntBE(0, 8, 3); // StreamID
  const offset = writeTagHeader(out, FLV_TAG_HEADER_SIZE, frame);
  frame.data.copy(out, offset);
  out.writeUInt32BE(FLV_TAG_HEADER_SIZE + bodySize, FLV_TAG_HEADER_SIZE + bodySize);
  return out;
}

const TAG_OF_KIND = { audio: FLV_TAG.AUDIO, video: FLV_TAG.VIDEO, data: FLV_TAG.SCRIPT } as const;
