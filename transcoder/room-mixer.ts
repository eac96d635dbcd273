// The ffmpeg command that mixes a room's streams into one, and the child that runs it. The command is also shown to people, to copy.
//
// Every input keeps the times that its stream has in the gateway (`-copyts`) and is moved by `-itsoffset` onto one clock that they all
// share, so that what was said at one moment is mixed at one moment, however long each had been live. What an input has cached from
// before `start` is decoded and dropped: the mix begins live.

import { MediaChild } from "./child.js";
import type { Ffmpeg } from "./ffmpeg.js";

export type MixLayout = "pip" | "grid";

export type MixInput = {
  readonly display: string;
  readonly hasVideo: boolean;
  readonly hasAudio: boolean;
  /** Microseconds that the stream's own time is behind the shared clock. */
  readonly offset: number;
};

export type MixPlan = {
  /** `rtmp://HOST:PORT` of the gateway. */
  readonly server: string;
  /** Vhost of the streams; empty: the default one. */
  readonly vhost: string;
  readonly room: string;
  readonly layout: MixLayout;
  /** Those with a picture fill the tiles in this order. At least one has something. */
  readonly inputs: readonly MixInput[];
  /** Microseconds on the shared clock at which the mix begins. */
  readonly start: number;
  /** Stream name of the mix with its query. */
  readonly output: string;
};

export type Mixer = { readonly close: () => void; readonly gone: Promise<void> };

/** Pictures of the mix. */
export const CANVAS = { width: 1280, height: 720, frameRate: 25 } as const;
const VIDEO_KBITS = 2_000;

/** Runs a plan. `onEnd` is called once when the child ends by itself. */
export function startMixer(
  ffmpeg: Ffmpeg,
  plan: MixPlan,
  onEnd: (reason: string) => void,
  log: (line: string) => void,
): MediaChild {
  return new MediaChild({
    command: ffmpeg.path,
    arguments: ["-hide_banner", "-nostdin", "-loglevel", "error", ...mixArguments(plan, ffmpeg)],
    queueLimit: 0,
    onOutput: () => {},
    onEnd,
    log,
  });
}

/** The command as a person would type it into a shell. */
export function mixCommand(plan: MixPlan, ffmpeg: Pick<Ffmpeg, "hasFpsMode"> = { hasFpsMode: true }): string {
  return ["ffmpeg", "-hide_banner", ...mixArguments(plan, ffmpeg)].map(quoted).join(" ");
}

export function mixArguments(plan: MixPlan, { hasFpsMode }: Pick<Ffmpeg, "hasFpsMode">): string[] {
  const { inputs, server, room, vhost, output } = plan;
  const videos = inputs.flatMap(({ hasVideo }, index) => (hasVideo ? [index] : []));
  const audios = inputs.flatMap(({ hasAudio }, index) => (hasAudio ? [index] : []));
  const start = (plan.start / 1e6).toFixed(3);
  const filters = [...videoFilters(videos, plan.layout, start), ...audioFilters(audios, plan.start, start, hasFpsMode)];
  const input = ({ display, offset }: MixInput): string[] => [
    // Probing as little as shows both tracks; a queue that takes what was cached while the other inputs are opened.
    ...["-fflags", "nobuffer", "-probesize", "500000", "-analyzeduration", "300000", "-fpsprobesize", "0"],
    ...["-thread_queue_size", "2048", "-threads", "1", "-reinit_filter", "0"],
    ...[
      "-itsoffset",
      (offset / 1e6).toFixed(3),
      "-f",
      "flv",
      ...address(server, room, display + vhostQuery(vhost, display), "-i"),
    ],
  ];
  const encoder =
    `-c:v libx264 -preset superfast -tune zerolatency -profile:v main -pix_fmt yuv420p -bf 0 -g ${CANVAS.frameRate * 2} ` +
    `-b:v ${VIDEO_KBITS}k -maxrate ${VIDEO_KBITS}k -bufsize ${VIDEO_KBITS}k -c:a aac -b:a 128k -ar 48000 -ac 2`;
  return [
    "-copyts",
    ...inputs.flatMap(input),
    ...["-filter_complex", filters.join(";"), "-map", "[video]", "-map", "[audio]"],
    ...[hasFpsMode ? "-fps_mode" : "-vsync", "passthrough"],
    ...encoder.split(" "),
    ...["-max_muxing_queue_size", "1024", "-flvflags", "no_duration_filesize", "-f", "flv"],
    ...address(server, room, output + vhostQuery(vhost, output), ""),
  ];
}

/** A display name that RTMP cannot ask for as it is: what a URL's query, a vhost and a path are cut at. */
export function isAddressable(display: string): boolean {
  return !/[?@\\]|^\/|\/$|\/\/|(?:^|\/)\.(?:\/|$)/.test(display);
}

/** Positions of the pictures on the canvas, in their order. */
export function tilesOf(layout: MixLayout, count: number): Tile[] {
  const { width, height } = CANVAS;
  if (layout === "grid" || count === 1) {
    const columns = Math.ceil(Math.sqrt(count));
    const rows = Math.ceil(count / columns);
    const [w, h] = [even(width / columns), even(height / rows)];
    return Array.from({ length: count }, (_, index) => {
      const row = Math.floor(index / columns);
      const inRow = Math.min(columns, count - row * columns);
      const left = even((width - inRow * w) / 2); // the last row stands in the middle
      return { x: left + (index - row * columns) * w, y: even((height - rows * h) / 2) + row * h, width: w, height: h };
    });
  }
  const small = count - 1;
  const w = even(Math.min(width / 4, (width - MARGIN * (small + 1)) / small));
  const h = even((w * height) / width);
  const others = Array.from({ length: small }, (_, index) => {
    return { x: width - (w + MARGIN) * (index + 1), y: height - h - MARGIN, width: w, height: h };
  });
  return [{ x: 0, y: 0, width, height }, ...others];
}

type Tile = { readonly x: number; readonly y: number; readonly width: number; readonly height: number };

/** The first picture is laid onto the canvas, each other one over what there is. */
function videoFilters(videos: readonly number[], layout: MixLayout, start: string): string[] {
  const { width, height, frameRate } = CANVAS;
  if (videos.length === 0) return [`color=black:s=${width}x${height}:r=${frameRate},setpts=PTS+${start}/TB[video]`];
  const tiles = tilesOf(layout, videos.length);
  const filters: string[] = [];
  let under = "";
  videos.forEach((input, index) => {
    const { x, y, width: w, height: h } = tiles[index] ?? { x: 0, y: 0, width, height };
    const isLast = index === videos.length - 1;
    const fitted =
      `[${input}:v:0]trim=start=${start},fps=${frameRate},scale=${w}:${h}:force_original_aspect_ratio=decrease:force_divisible_by=2,` +
      `pad=${w}:${h}:(ow-iw)/2:(oh-ih)/2,setsar=1`;
    if (index === 0) {
      filters.push(`${fitted},pad=${width}:${height}:${x}:${y}${isLast ? "[video]" : "[canvas0]"}`);
    } else {
      filters.push(
        `${fitted}[tile${index}]`,
        `[${under}][tile${index}]overlay=${x}:${y}:eof_action=pass${isLast ? "[video]" : `[canvas${index}]`}`,
      );
    }
    under = `canvas${index}`;
  });
  return filters;
}

/** Each sound is cut or filled up to begin at the start, since amix counts samples and knows no time. */
function audioFilters(audios: readonly number[], startMicroseconds: number, start: string, isNew: boolean): string[] {
  if (audios.length === 0) return [`anullsrc=r=${SAMPLE_RATE}:cl=stereo,asetpts=PTS+${start}/TB[audio]`];
  const first = Math.round((startMicroseconds * SAMPLE_RATE) / 1e6);
  const aligned = (input: number): string =>
    `[${input}:a:0]aresample=${SAMPLE_RATE}:async=1000:first_pts=${first},aformat=sample_fmts=fltp:channel_layouts=stereo`;
  const [only] = audios;
  if (audios.length === 1 && only !== undefined) return [`${aligned(only)}[audio]`];
  const mixed = audios.map((_, index) => `[sound${index}]`).join("");
  // Without normalising, a voice is as loud in company as alone; the limiter keeps two at once from clipping. (Since ffmpeg 4.4.)
  const level = isNew ? ":normalize=0,alimiter=limit=0.9:level=0" : "";
  return [
    ...audios.map((input, index) => `${aligned(input)}[sound${index}]`),
    `${mixed}amix=inputs=${audios.length}:duration=longest:dropout_transition=0${level}[audio]`,
  ];
}

/** The URL, or app and name of their own where the URL would be read otherwise than it is meant. */
function address(server: string, app: string, stream: string, flag: string): string[] {
  const last = flag === "" ? [] : [flag];
  if (/^[\w.-]+$/.test(app) && /^[\w.-]+(?:\?[\w.=&%-]*)?$/.test(stream) && !/\.(?:flv|mp4|f4v)$/i.test(stream)) {
    return [...last, `${server}/${app}/${stream}`];
  }
  return ["-rtmp_app", app, "-rtmp_playpath", stream, ...last, `${server}/`];
}

function vhostQuery(vhost: string, stream: string): string {
  if (vhost === "") return "";
  return `${stream.includes("?") ? "&" : "?"}vhost=${encodeURIComponent(vhost)}`;
}

function even(value: number): number {
  return Math.floor(value / 2) * 2;
}

/** A word for a POSIX shell. */
function quoted(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

const SAMPLE_RATE = 48_000;
const MARGIN = 16; // pixels around small pictures
