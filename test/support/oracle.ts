// Media libraries that are not ours, asked what they find in bytes: mediabunny, mp4box, ffprobe.

import { spawn } from "node:child_process";
import { ALL_FORMATS, BufferSource, EncodedPacketSink, Input } from "mediabunny";
import { createFile, type ISOFile, MP4BoxBuffer, type Sample } from "mp4box";

import type { Frame } from "../../gateway/media/frame.js";

export type OraclePacket = { readonly pts: number; readonly duration: number; readonly isKey: boolean; readonly data: Buffer };
export type OracleTrack = {
  readonly kind: "video" | "audio";
  readonly codec: string;
  readonly configuration: Buffer;
  readonly width: number;
  readonly height: number;
  /** In decoding order; seconds. */
  readonly packets: readonly OraclePacket[];
};

export async function readByMediabunny(bytes: Buffer): Promise<OracleTrack[]> {
  const input = new Input({ source: new BufferSource(bytes), formats: ALL_FORMATS });
  const tracks: OracleTrack[] = [];
  for (const track of await input.getTracks()) {
    const config = track.isVideoTrack() || track.isAudioTrack() ? await track.getDecoderConfig() : null;
    if (config === null || !(track.isVideoTrack() || track.isAudioTrack())) throw new Error("a track mediabunny cannot tell");
    const packets: OraclePacket[] = [];
    for await (const packet of new EncodedPacketSink(track).packets()) {
      const { timestamp, duration, type } = packet;
      packets.push({ pts: timestamp, duration, isKey: type === "key", data: Buffer.from(packet.data) });
    }
    const description = config.description;
    const configuration =
      description === undefined
        ? Buffer.alloc(0)
        : ArrayBuffer.isView(description)
          ? Buffer.from(description.buffer, description.byteOffset, description.byteLength)
          : Buffer.from(description as ArrayBuffer);
    const size = track.isVideoTrack() ? { width: track.codedWidth, height: track.codedHeight } : { width: 0, height: 0 };
    tracks.push({ kind: track.isVideoTrack() ? "video" : "audio", codec: config.codec, configuration, ...size, packets });
  }
  return tracks;
}

/** A file's tracks as a publisher's frames, configurations first; without B-frames, since only presentation times are told. */
export async function framesOfFile(bytes: Buffer): Promise<Frame[]> {
  const names: Readonly<Record<string, Frame["codec"]>> = {
    avc1: "h264",
    hvc1: "hevc",
    hev1: "hevc",
    av01: "av1",
    mp4a: "aac",
    opus: "opus",
  };
  const configs: Frame[] = [];
  const frames: Frame[] = [];
  for (const track of await readByMediabunny(bytes)) {
    const codec = names[track.codec.slice(0, 4)];
    if (codec === undefined) throw new Error(`a codec nobody asked for: ${track.codec}`);
    const { kind } = track;
    const configuration = codec === "av1" ? findAv1Configuration(bytes) : track.configuration;
    configs.push({ kind, codec, dts: 0, pts: 0, isKey: false, isConfig: true, data: configuration });
    for (const { pts, isKey, data } of track.packets) {
      const time = Math.round(pts * 1e6);
      frames.push({ kind, codec, dts: time, pts: time, isKey, isConfig: false, data });
    }
  }
  return [...configs, ...frames.sort((a, b) => a.dts - b.dts)];
}

/** A decoder needs no description of AV1, so mediabunny gives none. */
function findAv1Configuration(bytes: Buffer): Buffer {
  const at = bytes.indexOf("av1C");
  return bytes.subarray(at + 4, at - 4 + bytes.readUInt32BE(at - 4));
}

/** Samples by track id, as mp4box extracts them, the file handed over piece by piece. */
export function readByMp4box(pieces: readonly Buffer[]): { readonly file: ISOFile; readonly samples: Map<number, Sample[]> } {
  const file = createFile();
  const samples = new Map<number, Sample[]>();
  let problem: string | undefined;
  file.onError = (module, message) => {
    problem = `${module}: ${message}`;
  };
  file.onReady = (info) => {
    for (const track of info.tracks) file.setExtractionOptions(track.id, undefined, { nbSamples: 1 });
    file.start();
  };
  file.onSamples = (id, _user, more) => {
    samples.set(id, [...(samples.get(id) ?? []), ...more]);
  };
  let position = 0;
  for (const piece of pieces) {
    const copy = piece.buffer.slice(piece.byteOffset, piece.byteOffset + piece.length) as ArrayBuffer;
    file.appendBuffer(MP4BoxBuffer.fromArrayBuffer(copy, position));
    position += piece.length;
  }
  file.flush();
  if (problem !== undefined) throw new Error(problem);
  return { file, samples };
}

export type ProbedPacket = { readonly stream: number; readonly pts: number; readonly dts: number; readonly duration: number };

/** Every packet as ffprobe finds it, in seconds; decodes as well and throws when ffmpeg has anything to say against it. */
export async function readByFfprobe(path: string): Promise<ProbedPacket[]> {
  const text = await run("ffprobe", [
    "-v",
    "warning",
    "-show_entries",
    "packet=stream_index,pts_time,dts_time,duration_time",
    "-of",
    "csv=p=0",
    path,
  ]);
  await run("ffmpeg", ["-v", "warning", "-nostdin", "-xerror", "-err_detect", "explode", "-i", path, "-f", "null", "-"]);
  const packets: ProbedPacket[] = [];
  for (const line of text.split("\n")) {
    const [stream, pts, dts, duration] = line.split(",").map(Number);
    if (line === "" || stream === undefined || pts === undefined || dts === undefined) continue;
    packets.push({ stream, pts, dts, duration: duration ?? 0 });
  }
  return packets;
}

async function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let words = "";
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    words += chunk.toString();
  });
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code !== 0 || words !== "") throw new Error(`${program} ended with ${code}: ${words}`);
  return out;
}
