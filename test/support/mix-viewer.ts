// Watches a mixed stream with one ffmpeg from beginning to end: the colours of its newest picture, the tones of its newest second.

import { type ChildProcess, spawn } from "node:child_process";

/** Pictures are judged at this size: a place on the 1280x720 canvas is divided by 40. */
const WIDTH = 32;
const HEIGHT = 18;
const SCALE = 40;
const RATE = 8_000;

export class MixViewer {
  pictures = 0;
  readonly #process: ChildProcess;
  #log = "";
  #exit: number | undefined;
  #partial = Buffer.alloc(0);
  #picture: Buffer | undefined;
  #sound = Buffer.alloc(0);
  readonly #exited: Promise<void>;

  constructor(url: string) {
    const video = ["-map", "0:v", "-vf", `fps=10,scale=${WIDTH}:${HEIGHT}`, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"];
    const audio = ["-map", "0:a", "-ac", "1", "-ar", String(RATE), "-f", "f32le", "pipe:3"];
    const input = ["-hide_banner", "-nostdin", "-loglevel", "error", "-fflags", "nobuffer", "-i", url];
    this.#process = spawn("ffmpeg", [...input, ...video, ...audio], { stdio: ["ignore", "pipe", "pipe", "pipe"] });
    const [, stdout, stderr, sound] = this.#process.stdio;
    stdout?.on("data", (bytes: Buffer) => this.#onVideo(bytes));
    stderr?.on("data", (bytes: Buffer) => {
      this.#log = (this.#log + bytes.toString()).slice(-4_000);
    });
    sound?.on("data", (bytes: Buffer) => {
      this.#sound = Buffer.concat([this.#sound, bytes]).subarray(-RATE * 4); // a second
    });
    this.#exited = new Promise((resolve) =>
      this.#process.once("close", (code) => {
        this.#exit = code ?? -1;
        resolve();
      }),
    );
  }

  /** @throws Error when it ended by itself */
  requireRunning(): void {
    if (this.#exit !== undefined) throw new Error(`the viewer ended with ${this.#exit}: ${this.#log}`);
  }

  /** `red`, `green`, `blue`, `yellow`, `black` or the three numbers, at a place of the canvas; undefined before the first picture. */
  colourAt(x: number, y: number): string | undefined {
    if (this.#picture === undefined) return undefined;
    const at = (Math.floor(y / SCALE) * WIDTH + Math.floor(x / SCALE)) * 3;
    const [r = 0, g = 0, b = 0] = this.#picture.subarray(at, at + 3);
    const key = [r, g, b].map((value) => (value > 160 ? 1 : value < 90 ? 0 : "?")).join("");
    return (
      { "000": "black", "100": "red", "010": "green", "001": "blue", "110": "yellow", "101": "magenta" }[key] ?? `${r},${g},${b}`
    );
  }

  /** Which of these frequencies (Hz) sound in the newest second. */
  tones(frequencies: readonly number[]): number[] {
    const samples = new Float32Array(
      this.#sound.buffer.slice(this.#sound.byteOffset, this.#sound.byteOffset + (this.#sound.length & ~3)),
    );
    if (samples.length < RATE / 2) return [];
    return frequencies.filter((frequency) => amplitude(samples, frequency) > 0.02);
  }

  async stop(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#exited;
  }

  #onVideo(bytes: Buffer): void {
    const size = WIDTH * HEIGHT * 3;
    let rest = Buffer.concat([this.#partial, bytes]);
    while (rest.length >= size) {
      this.#picture = rest.subarray(0, size);
      this.pictures++;
      rest = rest.subarray(size);
    }
    this.#partial = rest;
  }
}

/** Of one frequency: a single bin of the Fourier transform. */
function amplitude(samples: Float32Array, frequency: number): number {
  let [real, imaginary] = [0, 0];
  for (let i = 0; i < samples.length; i++) {
    const angle = (2 * Math.PI * frequency * i) / RATE;
    real += (samples[i] ?? 0) * Math.cos(angle);
    imaginary += (samples[i] ?? 0) * Math.sin(angle);
  }
  return (2 * Math.hypot(real, imaginary)) / samples.length;
}
