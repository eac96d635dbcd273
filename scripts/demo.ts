// npm run demo: publishes the demo source to a running gateway, for those who have no camera at hand.

import { spawn, spawnSync } from "node:child_process";
import { connect } from "node:net";
import { parseArgs } from "node:util";

import { demoSource, findFont } from "./demo-source.js";

const DEFAULT_URL = "rtmp://127.0.0.1/live/livestream";
const HELP = `usage: npm run demo -- [URL] [options]

Publishes a moving test picture with a clock, a flash and a beep every second.
URL is where to publish, default ${DEFAULT_URL}

  --size WxH       picture size, default 1280x720
  --fps N          frames per second, default 25
  --bitrate N      video bits per second, default 2500000
  --gop N          frames between key frames, default 2 seconds
  --bframes N      B-frames in a row, default 0
  --rate N         audio sample rate, default 48000
  --seconds N      end after N seconds, default never
  --http PORT      port of the gateway's HTTP server, for the link that is printed, default 8080
  --ffmpeg FILE    ffmpeg to use, default the one on PATH`;

/** Milliseconds between tries, growing; back to the first after a minute of publishing. */
const BACKOFF = [500, 1_000, 2_000, 4_000, 8_000] as const;

process.exitCode = await main();

async function main(): Promise<number> {
  const options = readArguments();
  if (typeof options === "string") {
    console.error(options);
    return options === HELP ? 0 : 1;
  }
  const { url, ffmpeg, watch, args, seconds } = options;
  const missing = ffmpegProblem(ffmpeg);
  if (missing !== undefined) {
    console.error(missing);
    return 1;
  }

  const stopping = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stopping.abort());
  // ffmpeg counts media; this counts also the time in which there was no gateway.
  if (seconds > 0) setTimeout(() => stopping.abort(), (seconds + 3) * 1000).unref();
  console.log(`publishing to ${url}\nwatch at      ${watch}\nend with Ctrl-C`);

  const { hostname, port } = new URL(url);
  for (let attempt = 0; !stopping.signal.aborted; attempt++) {
    const started = Date.now();
    const ending = await publish(ffmpeg, [...args, "-f", "flv", url], stopping.signal);
    if (stopping.signal.aborted) break;
    if (ending.code === 0) return 0; // --seconds is over
    const unreachable = await probe(hostname, Number(port || 1935));
    if (unreachable === undefined) console.error(`ffmpeg ended (${ending.reason}); publishing again`);
    else console.error(`no gateway at ${hostname}:${port || 1935} (${unreachable}): start it with "npm start"; trying again`);
    if (Date.now() - started > 60_000) attempt = 0;
    await pause(BACKOFF[Math.min(attempt, BACKOFF.length - 1)] ?? 8_000, stopping.signal);
  }
  return 0;
}

type Options = { url: string; ffmpeg: string; watch: string; args: string[]; seconds: number };

/** @returns the options, or the text to show instead */
function readArguments(): Options | string {
  try {
    const text = { type: "string" } as const;
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        ...{
          size: text,
          fps: text,
          bitrate: text,
          gop: text,
          bframes: text,
          rate: text,
          seconds: text,
          http: text,
          ffmpeg: text,
        },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) return HELP;
    const url = positionals[0] ?? DEFAULT_URL;
    if (!/^rtmps?:\/\/[^/]+\/./.test(url)) return `the URL must look like ${DEFAULT_URL}, not ${url}`;
    const number = (name: keyof typeof values, fallback: number, lowest = 0): number => {
      const value = Number(values[name] ?? fallback);
      if (!Number.isInteger(value) || value < lowest) throw new TypeError(`--${name}: a whole number, not ${values[name]}`);
      return value;
    };
    const ffmpeg = values.ffmpeg ?? "ffmpeg";
    const fps = number("fps", 25, 1);
    const seconds = number("seconds", 0);
    const args = demoSource({
      size: values.size ?? "1280x720",
      fps,
      bitrate: number("bitrate", 2_500_000, 1),
      gop: number("gop", fps * 2, 1),
      bframes: number("bframes", 0),
      audioRate: number("rate", 48_000, 1),
      duration: seconds,
      font: findFont(ffmpeg),
    });
    return { url, ffmpeg, args, seconds, watch: watchUrl(new URL(url), number("http", 8080, 1)) };
  } catch (error) {
    return `${error instanceof Error ? error.message : error}\n\n${HELP}`;
  }
}

/** The page that plays what is published at an RTMP URL. */
function watchUrl(publish: URL, port: number): string {
  const [app = "live", ...stream] = publish.pathname.slice(1).split("/");
  const page = new URL(`http://${publish.hostname}:${port}/players/whep.html`);
  page.searchParams.set("autostart", "true");
  if (app !== "live") page.searchParams.set("app", app);
  if (stream.join("/") !== "livestream") page.searchParams.set("stream", stream.join("/"));
  const vhost = publish.searchParams.get("vhost");
  if (vhost !== null) page.searchParams.set("vhost", vhost);
  return page.href;
}

function ffmpegProblem(ffmpeg: string): string | undefined {
  const { error, status, stdout } = spawnSync(ffmpeg, ["-hide_banner", "-encoders"], { encoding: "utf8" });
  if (error !== undefined || status !== 0) {
    return `ffmpeg is needed and was not found (${ffmpeg}): install it (Debian, Ubuntu: apt-get install ffmpeg; macOS: brew install ffmpeg) or name one with --ffmpeg FILE`;
  }
  if (!stdout.includes("libx264")) return `this ffmpeg (${ffmpeg}) has no libx264 encoder: install a full build`;
  return undefined;
}

/** @returns why nobody listens there, or undefined */
function probe(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: host.replace(/^\[|\]$/g, ""), port, timeout: 3_000 });
    const end = (problem: string | undefined) => {
      socket.destroy();
      resolve(problem);
    };
    socket.once("connect", () => end(undefined));
    socket.once("timeout", () => end("no answer"));
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}

/** Runs ffmpeg until it ends or is asked to. */
function publish(ffmpeg: string, args: readonly string[], signal: AbortSignal): Promise<{ code: number | null; reason: string }> {
  return new Promise((resolve) => {
    const child = spawn(ffmpeg, args, { stdio: ["ignore", "ignore", "pipe"] });
    let lastLine = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      lastLine = text.trim().split("\n").at(-1)?.slice(0, 300) ?? lastLine;
    });
    // SIGINT lets ffmpeg say goodbye to the server; one that hangs in a write is killed.
    const stop = () => {
      child.kill("SIGINT");
      setTimeout(() => child.kill("SIGKILL"), 2_000).unref();
    };
    signal.addEventListener("abort", stop, { once: true });
    child.once("error", (error) => resolve({ code: null, reason: error.message }));
    child.once("close", (code, by) => {
      signal.removeEventListener("abort", stop);
      resolve({ code, reason: lastLine || `exit ${by ?? code}` });
    });
  });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}
