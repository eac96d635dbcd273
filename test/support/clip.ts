// Short clips as a publisher would send them: ffmpeg encodes, the gateway's own FLV reader makes frames.

import { spawn } from "node:child_process";

import { FlvFrameReader } from "../../gateway/media/flv-frames.js";
import type { Frame } from "../../gateway/media/frame.js";
import { type DemoSource, demoSource } from "../../scripts/demo-source.js";

/** Frames of the demo source in the order they are sent, configurations first, times from about 0. */
export async function demoClip(options: DemoSource & { readonly duration: number }): Promise<Frame[]> {
  return framesOfFlv(await runFfmpeg([...demoSource({ ...options, realTime: false }), "-f", "flv", "pipe:1"]));
}

/** Runs ffmpeg and gives what it writes to its standard output. */
export async function runFfmpeg(args: readonly string[], input?: Buffer): Promise<Buffer> {
  const child = spawn("ffmpeg", ["-hide_banner", "-loglevel", "error", ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(`ffmpeg ended with code ${code}`);
  return Buffer.concat(chunks);
}

export function framesOfFlv(file: Buffer): Frame[] {
  const frames: Frame[] = [];
  const reader = new FlvFrameReader({
    onFrame: (frame) => frames.push(frame),
    onProblem: (code, description) => {
      throw new Error(`${code}: ${description}`);
    },
  });
  for (let offset = 13; offset + 11 <= file.length; ) {
    const type = file.readUInt8(offset);
    const size = file.readUIntBE(offset + 1, 3);
    const timestamp = file.readUIntBE(offset + 4, 3) + file.readUInt8(offset + 7) * 0x1000000;
    const body = file.subarray(offset + 11, offset + 11 + size);
    if (type === 8) reader.audio(timestamp, body);
    else if (type === 9) reader.video(timestamp, body);
    offset += 11 + size + 4;
  }
  return frames;
}
