// Test media made by ffmpeg and kept in a cache folder by their arguments: time code, flash and beep each second at one instant.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import { makeBeeps, TestPicture } from "./test-picture.js";

export type FixtureOptions = {
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  /** Bits per second of the video. */
  readonly bitrate: number;
  /** Seconds between key frames; divides `seconds`. */
  readonly gop: number;
  /** `none`, or what x264 does when nobody tells it otherwise (3, adaptive, pyramid). */
  readonly bframes: "none" | "default";
  /** AAC sample rate; 0: no audio. */
  readonly sampleRate: 0 | 44_100 | 48_000;
  /** False: audio only. */
  readonly video: boolean;
  /** Length; a multiple of 8 makes video, 48 kHz AAC and the seconds end together, so that a loop has no seam. */
  readonly seconds: number;
  readonly format: "mp4" | "flv";
};

export type Fixture = FixtureOptions & { readonly path: string };

export const DEFAULT_FIXTURE: FixtureOptions = {
  width: 640,
  height: 360,
  fps: 25,
  bitrate: 600_000,
  gop: 2,
  bframes: "none",
  sampleRate: 48_000,
  video: true,
  seconds: 16,
  format: "mp4",
};

const REVISION = 3; // part of the cache key: raise it when the picture changes

/** The clip with these properties, made once. @throws Error with ffmpeg's words when it fails */
export async function makeFixture(options: Partial<FixtureOptions> = {}): Promise<Fixture> {
  const full = { ...DEFAULT_FIXTURE, ...options };
  const folder = join(tmpdir(), "sluice-fixtures");
  await mkdir(folder, { recursive: true });
  const key = createHash("sha256")
    .update(JSON.stringify([REVISION, full]))
    .digest("hex")
    .slice(0, 12);
  const path = join(folder, `${full.height}p-gop${full.gop}-${full.bframes}-${full.sampleRate}-${key}.${full.format}`);
  if (!existsSync(path)) await encode(full, path);
  return { ...full, path };
}

async function encode(options: FixtureOptions, path: string): Promise<void> {
  const temporary = `${path}.${process.pid}.part`;
  const beeps = `${path}.${process.pid}.pcm`;
  if (options.sampleRate > 0) await writeFile(beeps, makeBeeps(options.sampleRate, options.seconds));
  const child = spawn("ffmpeg", [...encoderArguments(options, beeps), "-y", temporary], { stdio: ["pipe", "ignore", "pipe"] });
  let words = "";
  child.stderr.on("data", (chunk: Buffer) => {
    words += chunk.toString();
  });
  const ended = once(child, "close");
  await pipeline(Readable.from(pictures(options)), child.stdin).catch(() => {}); // the exit code tells
  const [code] = await ended;
  await rm(beeps, { force: true });
  if (code !== 0) {
    await rm(temporary, { force: true });
    throw new Error(`ffmpeg could not make ${path}: ${words}`);
  }
  await rename(temporary, path); // whole or not at all, also when two processes make it at once
}

function* pictures(options: FixtureOptions): Generator<Buffer> {
  if (!options.video) return;
  const picture = new TestPicture(options.width, options.height, options.fps);
  for (let number = 0; number < options.seconds * options.fps; number++) yield Buffer.from(picture.paint(number));
}

function encoderArguments(options: FixtureOptions, beeps: string): string[] {
  const { width, height, fps, bitrate, gop, sampleRate } = options;
  const out = ["-hide_banner", "-loglevel", "error"];
  if (options.video)
    out.push("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", `${width}x${height}`, "-r", `${fps}`, "-i", "pipe:0");
  if (sampleRate > 0) out.push("-f", "s16le", "-ar", `${sampleRate}`, "-ac", "1", "-i", beeps);
  if (options.video) {
    const reordering = options.bframes === "none" ? ["-preset", "veryfast", "-bf", "0"] : [];
    const keyFrames = ["-g", `${gop * fps}`, "-keyint_min", `${gop * fps}`, "-sc_threshold", "0"];
    const rate = ["-b:v", `${bitrate}`, "-maxrate", `${bitrate}`, "-bufsize", `${bitrate}`];
    out.push("-c:v", "libx264", ...reordering, ...keyFrames, ...rate, "-pix_fmt", "yuv420p");
  }
  if (sampleRate > 0) out.push("-c:a", "aac", "-b:a", "96k", "-ac", "2");
  out.push("-t", `${options.seconds}`);
  if (options.format === "mp4") out.push("-movflags", "+faststart");
  out.push("-f", options.format);
  return out;
}

if (process.argv[1]?.endsWith("fixtures.js")) {
  for (const options of [{}, { bframes: "default" }, { gop: 10, seconds: 40 }, { sampleRate: 44_100 }] as const) {
    console.log((await makeFixture(options)).path);
  }
  console.log((await makeFixture({ width: 1280, height: 720, bitrate: 2_500_000 })).path);
}
