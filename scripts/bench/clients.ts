// Twenty seconds in each real client, of an RTMP source and of a WHIP source: pictures decoded, and every complaint of a decoder.
// What is not installed is left out. `SECONDS=8` shortens it; `ROWS=mpv,vlc` picks clients.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Child, eventually, pause } from "../../test/support/child.js";
import { Chromium } from "../../test/support/chromium.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";
import { NativePublisher } from "../../test/support/native-publisher.js";
import { publish } from "../../test/support/publish.js";
import { playByVlc } from "../../test/support/vlc.js";
import { makeFixture } from "../fixtures.js";

type Result = { readonly pictures: number; readonly trouble: string };
type Client = readonly [name: string, program: string, run: (place: Place) => Promise<Result>];
type Place = { readonly gateway: GatewayProcess; readonly flv: string; readonly folder: string };

const SECONDS = Number(process.env["SECONDS"] ?? 20);
const CHOSEN = process.env["ROWS"]?.split(",");
const STRICT = ["-v", "error", "-nostdin", "-err_detect", "explode"];

const CLIENTS: readonly Client[] = [
  ["ffmpeg RTMP", "ffmpeg", ({ gateway }) => decode(gateway.rtmpUrl())],
  ["ffmpeg FLV", "ffmpeg", ({ flv }) => decode(flv)],
  ["rtmpdump", "rtmpdump", dump],
  ["mpv RTMP", "mpv", ({ gateway }) => playByMpv(gateway.rtmpUrl())],
  ["VLC RTMP", "vlc", ({ gateway }) => watchVlc(gateway.rtmpUrl())],
  ["VLC FLV", "vlc", ({ flv }) => watchVlc(flv)],
  ["mpegts.js in Chromium", "chromium", playByPage],
];

export async function run(): Promise<void> {
  const { path } = await makeFixture();
  for (const source of ["RTMP", "WHIP"] as const) {
    const gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;", vhost: "http_remux { enabled on; }" });
    const folder = mkdtempSync(join(tmpdir(), "sluice-clients-"));
    const place = { gateway, folder, flv: `http://127.0.0.1:${gateway.ports.http}/live/livestream.flv` };
    const rtmp = source === "RTMP" ? publish(path, gateway.rtmpUrl()) : undefined;
    const whip = source === "WHIP" ? await NativePublisher.start("libdatachannel", gateway.whipUrl(), path) : undefined;
    try {
      await gateway.live();
      for (const [client, program, play] of CLIENTS) {
        if (CHOSEN !== undefined && !CHOSEN.some((word) => client.toLowerCase().includes(word.toLowerCase()))) continue;
        if (spawnSync("which", [program]).status !== 0) continue;
        const { pictures, trouble } = await play(place);
        const rate = (pictures / SECONDS).toFixed(2);
        console.log(`  ${source} to ${client}: ${rate} pictures a second (25)${trouble === "" ? "" : `; ${trouble}`}`);
      }
    } finally {
      await rtmp?.stop("SIGKILL");
      await whip?.stop();
      await gateway.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

/** Decodes so many seconds of a URL, or all of a file. */
async function decode(input: string): Promise<Result> {
  const child = new Child("ffmpeg", [...STRICT, "-progress", "pipe:1", "-i", input, "-t", String(SECONDS), "-f", "null", "-"]);
  const { code } = await child.exited;
  const pictures = Number([...child.log.matchAll(/^frame=(\d+)/gm)].at(-1)?.[1] ?? 0);
  const words = child.log.split("\n").filter((line) => line !== "" && !/^[a-z_0-9]+=/.test(line));
  return { pictures, trouble: [...(code === 0 ? [] : [`exit code ${code}`]), ...words.slice(0, 2)].join("; ") };
}

async function dump({ gateway, folder }: Place): Promise<Result> {
  const file = join(folder, "dump.flv");
  const child = new Child("rtmpdump", ["-q", "-r", gateway.rtmpUrl(), "--live", "-o", file]);
  await pause((SECONDS + 3) * 1000); // it may begin with the next key frame only
  await child.stop("SIGINT");
  return await decode(file);
}

async function playByMpv(url: string): Promise<Result> {
  const wanted = SECONDS * 25;
  const child = new Child("mpv", ["--no-config", "--vo=null", "--ao=null", "--msg-level=all=warn", `--frames=${wanted}`, url]);
  const started = performance.now();
  const { code } = await child.exited;
  const seconds = (performance.now() - started) / 1000;
  const words = child.log.split("\n").filter((line) => /error|fail|drop/i.test(line));
  const trouble = [...(code === 0 ? [] : [`exit code ${code}`]), ...words.slice(0, 2)].join("; ");
  return { pictures: code === 0 ? (wanted * SECONDS) / Math.max(SECONDS, seconds - 1.5) : 0, trouble }; // a start takes a second
}

async function watchVlc(url: string): Promise<Result> {
  let result: Result = { pictures: 0, trouble: "it showed nothing" };
  await playByVlc(url, SECONDS * 25, ({ corrupted, discontinuities, lost }) => {
    const trouble = Object.entries({ corrupted, discontinuities, lost }).filter(([, count]) => count > 0);
    result = { pictures: SECONDS * 25 - lost, trouble: trouble.map(([what, count]) => `${count} ${what}`).join(", ") };
  });
  return result;
}

async function playByPage({ gateway }: Place): Promise<Result> {
  const browser = await Chromium.start();
  try {
    const page = await browser.open(gateway.pageUrl("?autostart=true&stream=livestream.flv", "players/srs_player.html"));
    const quality = async (): Promise<{ totalVideoFrames: number; droppedVideoFrames: number }> =>
      (await page.evaluate(`(() => {
        const { totalVideoFrames, droppedVideoFrames } = document.querySelector("video").getVideoPlaybackQuality();
        return { totalVideoFrames, droppedVideoFrames };
      })()`)) as { totalVideoFrames: number; droppedVideoFrames: number };
    await eventually("the page plays", async () => ((await quality()).totalVideoFrames > 25 ? true : undefined), 20_000);
    const before = await quality();
    await pause(SECONDS * 1000);
    const after = await quality();
    const dropped = after.droppedVideoFrames - before.droppedVideoFrames;
    return { pictures: after.totalVideoFrames - before.totalVideoFrames, trouble: dropped > 0 ? `${dropped} dropped` : "" };
  } finally {
    await browser.stop();
  }
}

if (process.argv[1]?.endsWith("bench/clients.js")) await run();
