// The demo's picture and sound as ffmpeg arguments; tests and benchmarks publish the same source.
//
// Picture: a moving test pattern, a clock, a white square that flashes for 80 ms at each full second, and a strip of 16 squares at
// the bottom with the frame number in binary (least significant bit right, white = 1) for machines that read the picture.
// Sound: a 1 kHz beep of 80 ms that starts with the flash. Both begin at media time 0, so flash k and beep k share one time.

import { spawnSync } from "node:child_process";

export type DemoSource = {
  /** Picture size `WIDTHxHEIGHT`, both even. Default `1280x720`. */
  readonly size?: string;
  /** Whole frames per second. Default 25. */
  readonly fps?: number;
  /** Video bits per second. Default 2500000. */
  readonly bitrate?: number;
  /** Frames from one key frame to the next. Default 2 seconds of frames. */
  readonly gop?: number;
  /** B-frames in a row; 0 also tunes x264 for zero latency. Default 0. */
  readonly bframes?: number;
  /** x264 preset. Default `superfast`. */
  readonly preset?: string;
  /** AAC sample rate. Default 48000. */
  readonly audioRate?: number;
  /** Seconds after which the source ends; 0: never. Default 0. */
  readonly duration?: number;
  /** Leave a track out. Default both. */
  readonly tracks?: "both" | "video" | "audio";
  /** Font file for the clock; undefined: no clock. Default undefined (`findFont` finds one). */
  readonly font?: string | undefined;
  /** Read at the speed of a clock (`-re`). Default true. */
  readonly realTime?: boolean;
};

/** Seconds that flash and beep last. */
export const FLASH_SECONDS = 0.08;
/** Squares of the frame-number strip. */
export const STRIP_BITS = 16;

/**
 * ffmpeg arguments up to the encoder's options: append the output, `["-f", "flv", "rtmp://…"]` or a file.
 *
 * @throws TypeError naming the option that makes no sense
 */
export function demoSource(options: DemoSource = {}): string[] {
  const { size = "1280x720", fps = 25, bitrate = 2_500_000, bframes = 0, preset = "superfast", audioRate = 48_000 } = options;
  const { duration = 0, tracks = "both", font, realTime = true, gop = fps * 2 } = options;
  const [width, height] = parseSize(size);
  if (!Number.isInteger(fps) || fps < 1 || fps > 120) throw new TypeError(`fps: a whole number from 1 to 120, not ${fps}`);

  const graphs: string[] = [];
  if (tracks !== "audio") graphs.push(`${videoGraph(width, height, fps, font)}[out0]`);
  if (tracks !== "video") graphs.push(`${audioGraph(audioRate)}[out${graphs.length}]`);
  const input = [...(realTime ? ["-re"] : []), "-f", "lavfi", "-i", graphs.join(";")];
  const video =
    tracks === "audio"
      ? []
      : [
          ...["-c:v", "libx264", "-preset", preset, ...(bframes === 0 ? ["-tune", "zerolatency"] : []), "-bf", String(bframes)],
          ...["-profile:v", bframes === 0 ? "baseline" : "high", "-pix_fmt", "yuv420p", "-g", String(gop), "-sc_threshold", "0"],
          ...["-b:v", String(bitrate), "-maxrate", String(bitrate), "-bufsize", String(bitrate)],
        ];
  const audio = tracks === "video" ? [] : ["-c:a", "aac", "-b:a", "128k", "-ar", String(audioRate), "-ac", "2"];
  const length = duration > 0 ? ["-t", String(duration)] : [];
  return ["-hide_banner", "-nostdin", "-loglevel", "error", ...input, ...video, ...audio, ...length];
}

function parseSize(size: string): [number, number] {
  const match = /^(\d{2,4})x(\d{2,4})$/.exec(size);
  const width = Number(match?.[1]);
  const height = Number(match?.[2]);
  if (match === null || width % 2 !== 0 || height % 2 !== 0) throw new TypeError(`size: WIDTHxHEIGHT, both even, not ${size}`);
  return [width, height];
}

function videoGraph(width: number, height: number, fps: number, font: string | undefined): string {
  const filters = [`testsrc2=size=${width}x${height}:rate=${fps}`];
  const unit = Math.max(2, Math.floor(height / 90)); // 8 at 720p: everything scales with the picture
  const draw = (x: number, y: number, w: number, h: number, color: string, enable = "1") =>
    filters.push(`drawbox=x=${x}:y=${y}:w=${w}:h=${h}:color=${color}:t=fill:enable='${enable}'`);

  draw(0, 0, width, height, "0x0d1420@0.28"); // the pattern is loud; this much keeps its motion and detail

  // A dark panel in the middle carries the clock and the flash.
  const panel = { w: 64 * unit, h: 26 * unit };
  const left = Math.floor((width - panel.w) / 2);
  const top = Math.floor((height - panel.h) / 2);
  draw(left, top, panel.w, panel.h, "0x10151f@0.92");
  draw(left, top + panel.h - unit, panel.w, unit, "0x2f7df6");
  const flash = 12 * unit;
  draw(left + 3 * unit, top + 6 * unit, flash, flash, "0x2a3344");
  draw(
    left + 3 * unit,
    top + 6 * unit,
    flash,
    flash,
    "white",
    `lt(mod(n,${fps}),${Math.max(1, Math.round(FLASH_SECONDS * fps))})`,
  );
  if (font !== undefined) {
    const text = (size: number, x: number, y: number, color: string, value: string) =>
      filters.push(`drawtext=fontfile='${font}':fontsize=${size}:fontcolor=${color}:x=${x}:y=${y}:text='${value}'`);
    text(9 * unit, left + 18 * unit, top + 5 * unit, "white", "%{localtime\\:%H}\\:%{localtime\\:%M}\\:%{localtime\\:%S}");
    text(4 * unit, left + 18 * unit + Math.floor(unit / 2), top + 16 * unit, "0x9fb0c8", "%{pts\\:hms}");
  }

  // The frame number, 16 squares with a dark frame around.
  const cell = 3 * unit;
  const stripLeft = Math.floor((width - STRIP_BITS * cell) / 2);
  const stripTop = height - cell - 2 * unit;
  draw(stripLeft - unit, stripTop - unit, STRIP_BITS * cell + 2 * unit, cell + 2 * unit, "black");
  for (let bit = 0; bit < STRIP_BITS; bit++) {
    const x = stripLeft + (STRIP_BITS - 1 - bit) * cell;
    draw(x, stripTop, cell, cell, "white", `mod(floor(n/${2 ** bit}),2)`);
  }
  return filters.join(",");
}

function audioGraph(rate: number): string {
  const beep = `if(lt(mod(t,1),${FLASH_SECONDS}),0.4*sin(2*PI*1000*t),0)`;
  return `aevalsrc=exprs='${beep}|${beep}':sample_rate=${rate}`;
}

/** Where the frame-number strip is: centre of the square of each bit, least significant first, in pixels of the picture. */
export function stripCentres(size = "1280x720"): { x: number; y: number }[] {
  const [width, height] = parseSize(size);
  const unit = Math.max(2, Math.floor(height / 90));
  const cell = 3 * unit;
  const left = Math.floor((width - STRIP_BITS * cell) / 2);
  const y = height - cell - 2 * unit + cell / 2;
  return Array.from({ length: STRIP_BITS }, (_, bit) => ({ x: left + (STRIP_BITS - 1 - bit) * cell + cell / 2, y }));
}

/** A monospaced font file for the clock, by fontconfig; undefined: this ffmpeg draws no text or there is no font. */
export function findFont(ffmpeg = "ffmpeg"): string | undefined {
  if (!spawnSync(ffmpeg, ["-hide_banner", "-filters"], { encoding: "utf8" }).stdout?.includes(" drawtext ")) return undefined;
  const { status, stdout } = spawnSync("fc-match", ["-f", "%{file}", "monospace:fontformat=TrueType"], { encoding: "utf8" });
  // A quote, colon or backslash would have to be escaped twice for the filter graph: do without such a file.
  return status === 0 && /^\/[^':\\]+\.(ttf|otf|ttc)$/.test(stdout) ? stdout : undefined;
}
