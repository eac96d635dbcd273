// HLS by the players people use: hls.js and the browser's own in Chromium, ffmpeg, mpv, VLC, GStreamer; and what a recording of the
// segments holds against what was pushed. Players that are not installed are skipped; ffmpeg and Chromium are always there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";

import type { Browser } from "playwright-core";

import { type Fixture, makeFixture } from "../../scripts/fixtures.js";
import { type Child, eventually } from "../support/child.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { hasGstreamer, playByGstreamer } from "../support/gstreamer.js";
import { type HlsRecording, recordHls } from "../support/hls-recording.js";
import { judgeFile } from "../support/judge.js";
import { readByFfprobe, readByMediabunny, readByMp4box } from "../support/oracle.js";
import { openBrowser } from "../support/page-browser.js";
import { PagePublisher } from "../support/page-publisher.js";
import { until } from "../support/page-visit.js";
import { publish } from "../support/publish.js";
import { playByVlc } from "../support/vlc.js";

const run = promisify(execFile);
const STRICT = ["-v", "error", "-nostdin", "-xerror", "-err_detect", "explode"];

const isInstalled = (program: string): boolean =>
  (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
const without = (program: string): { skip: string | false } => ({ skip: isInstalled(program) ? false : `no ${program} here` });

const FORMATS = ["fmp4", "ts"] as const;
type Format = (typeof FORMATS)[number];

suite("HLS", () => {
  let gateway: GatewayProcess;
  let fixture: Fixture;
  let publishers: Child[];
  let browser: Browser;
  let folder: string;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "hls-"));
    fixture = await makeFixture({ bframes: "default" }); // what OBS sends
    gateway = await GatewayProcess.start({
      rtc: "rtc_to_rtmp on;",
      vhost: "hls { enabled on; hls_fragment 2; }",
      top: "vhost ts.example { hls { enabled on; hls_fragment 2; hls_format ts; } }",
    });
    publishers = [
      publish(fixture.path, gateway.rtmpUrl()),
      publish(fixture.path, gateway.rtmpUrl("livestream?vhost=ts.example")),
    ];
    browser = await openBrowser();
    await gateway.live();
  });

  after(async () => {
    await browser?.close();
    for (const publisher of publishers) await publisher.stop("SIGKILL");
    await gateway.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const query = (format: Format): string => (format === "ts" ? "?vhost=ts.example" : "");
  const url = (format: Format): string => `http://127.0.0.1:${gateway.ports.http}/live/livestream.m3u8${query(format)}`;

  const open = async (pageQuery: string, script = "") => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.message));
    if (script !== "") await page.addInitScript(script);
    await page.goto(gateway.pageUrl(`?autostart=true&${pageQuery}`, "players/srs_player.html"));
    const stats = async () => (await page.evaluate("__sluice.stats")) as PlayerStats;
    return { page, errors, stats, close: () => context.close() };
  };

  test("Chromium plays both formats by hls.js with low latency: picture, sound, near the live edge", async (t) => {
    const players = await Promise.all(
      FORMATS.map(async (format) => await open(`stream=livestream.m3u8${query(format).replace("?", "&")}`)),
    );
    for (const player of players) {
      await until(player.page, "__sluice.state === 'playing' && __sluice.stats?.framesDecoded > 75", 25_000);
      const stats = await player.stats();
      assert.ok(stats.partTarget !== undefined && stats.partTarget < 0.5, `parts of ${stats.partTarget} s`);
      assert.ok(((await player.page.evaluate(SOUND)) as number) > 0, "sound is decoded");
      // figures of two seconds belong to the benchmark: here a busy machine must pass
      assert.ok(
        (stats.behind ?? 99) < 6 && (stats.byClock ?? 99) < 7,
        `${stats.behind} s behind, ${stats.byClock} s by the clock`,
      );
      assert.deepEqual(player.errors, []);
      t.diagnostic(`${stats.byClock} s by the clock, ${stats.stalls} stalls, ${stats.framesDropped} pictures dropped`);
      await player.close();
    }
  });

  test("Chromium's own player plays where hls.js cannot", async (t) => {
    const player = await open("stream=livestream.m3u8", "delete window.MediaSource; delete window.ManagedMediaSource;");
    try {
      if ((await player.page.evaluate("__sluice.video.canPlayType('application/vnd.apple.mpegurl')")) === "") {
        t.skip("this Chromium has no player of its own for HLS");
        return;
      }
      await until(player.page, "__sluice.state === 'playing' && __sluice.stats?.framesDecoded > 50", 25_000);
      assert.ok(((await player.page.evaluate(SOUND)) as number) > 0, "sound is decoded");
      assert.deepEqual(player.errors, []);
    } finally {
      await player.close();
    }
  });

  for (const format of FORMATS) {
    test(`ffmpeg decodes ${format} and complains about nothing`, async () => {
      const { stderr } = await run("ffmpeg", [...STRICT, "-i", url(format), "-t", "3", "-f", "null", "-"], { timeout: 25_000 });
      assert.equal(stderr, "");
    });

    test(`recorded ${format} holds what was pushed: every packet, even times, flash with beep`, async () => {
      const recording = await eventually(
        "a recording of six seconds",
        async () => {
          const found = await recordHls(url(format));
          return found.duration >= 6 ? found : undefined;
        },
        15_000,
        500,
      );
      const path = join(folder, `recording.${format}`);
      writeFileSync(path, recording.bytes);
      await judgeRecording(recording, path, format, fixture);
    });
  }

  test("mpv plays", without("mpv"), async () => {
    await run("mpv", ["--no-config", "--really-quiet", "--vo=null", "--ao=null", "--frames=50", url("fmp4")], {
      timeout: 25_000,
    });
  });

  test("VLC plays without a lost picture", without("vlc"), async () => {
    await playByVlc(url("ts"), fixture.fps, (figures) => {
      assert.equal(figures.corrupted, 0);
      assert.equal(figures.discontinuities, 0);
      assert.ok(figures.lost <= fixture.fps, figures.text); // a busy machine shows some too late
    });
  });

  test("GStreamer plays", async (t) => {
    const isThere = await hasGstreamer(["hlsdemux2", "souphttpsrc", "qtdemux", "h264parse", "openh264dec", "faad"]);
    if (!isThere) t.skip("no GStreamer with HLS and decoders here");
    else t.diagnostic(JSON.stringify(await playByGstreamer(url("fmp4"), 2 * fixture.fps)));
  });

  test("a browser's camera and microphone by WHIP are seen and heard by HLS", async () => {
    const player = await open("stream=camera.m3u8");
    await until(player.page, "__sluice.state === 'waiting'");
    const camera = await (await browser.newContext({ bypassCSP: true })).newPage();
    await camera.goto(gateway.pageUrl("", ""));
    const publisher = await PagePublisher.start(camera, gateway.whipUrl("camera"));
    await until(player.page, "__sluice.state === 'playing' && __sluice.stats?.framesDecoded > 30", 30_000);
    assert.ok(((await player.page.evaluate(SOUND)) as number) > 0, "sound is decoded");
    assert.deepEqual(player.errors, []);
    await publisher.stop();
  });
});

/** Script: bytes of sound that the element has decoded. */
const SOUND = "__sluice.video.webkitAudioDecodedByteCount";

type PlayerStats = {
  readonly behind?: number;
  readonly byClock?: number;
  readonly partTarget?: number;
  readonly stalls: number;
  readonly framesDropped: number;
};

async function judgeRecording(recording: HlsRecording, path: string, format: Format, fixture: Fixture): Promise<void> {
  // Every picture and every frame of sound is the one that follows in what was pushed.
  const source = await readByMediabunny(readFileSync(fixture.path));
  const tracks = await readByMediabunny(recording.bytes);
  assert.deepEqual(tracks.map(({ kind }) => kind).sort(), ["audio", "video"]);
  for (const { kind, packets } of tracks) {
    assert.ok(packets.length > recording.duration * 20, `${packets.length} packets of ${kind}`);
    const pushed = (source.find((track) => track.kind === kind)?.packets ?? []).map(({ data }) => data);
    const places = placesOf(pushed);
    let before: number | undefined;
    for (const [i, { data }] of packets.entries()) {
      const own = places.get(tailOf(data));
      assert.ok(own !== undefined, `${kind} ${i} was pushed`);
      const place = own.length === 1 ? own[0] : undefined; // frames of silence look alike: those cannot be told apart
      if (place !== undefined && before !== undefined) assert.equal(place, (before + 1) % pushed.length, `${kind} ${i} follows`);
      before = place;
    }
  }
  if (format === "fmp4") {
    const { samples } = readByMp4box(recording.pieces);
    assert.equal(samples.size, 2);
  }
  // No gap and no overlap, and nothing that a decoder complains about.
  const packets = await readByFfprobe(path);
  for (const stream of [0, 1]) {
    const times = packets.filter((packet) => packet.stream === stream).map(({ dts }) => dts);
    const steps = times.slice(1).map((time, i) => time - (times[i] ?? 0));
    assert.ok(
      Math.max(...steps) < 0.045 && Math.min(...steps) > 0.015,
      `stream ${stream}: steps ${Math.min(...steps)} to ${Math.max(...steps)} s`,
    );
  }
  const lips = await judgeFile(path);
  assert.ok(lips.offsets.length >= 3, `${lips.flashes} flashes, ${lips.beeps} beeps`);
  assert.ok(Math.abs(lips.worstMs) < 30, `beep ${lips.worstMs} ms from the flash`);
}

function placesOf(frames: readonly Buffer[]): Map<string, number[]> {
  const places = new Map<string, number[]>();
  for (const [i, data] of frames.entries()) {
    const tail = tailOf(data);
    places.set(tail, [...(places.get(tail) ?? []), i]);
  }
  return places;
}

/** The end of a packet tells which it is; a short one may be silence in an ADTS frame. */
function tailOf(data: Buffer): string {
  const isAdts = data.length > 7 && data.readUInt16BE(0) >> 4 === 0xfff;
  return data.subarray(Math.max(isAdts ? 7 : 0, data.length - 24)).toString("hex");
}
