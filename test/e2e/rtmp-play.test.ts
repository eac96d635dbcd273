// What ffmpeg and browsers publish, played over RTMP by the clients people use, and relayed over servers that are not ours. Clients that are not
// installed are skipped; ffmpeg is always there.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, suite, test } from "node:test";

import type { Frame } from "../../gateway/media/frame.js";
import { RtmpClient } from "../../gateway/rtmp/client.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { type Fixture, makeFixture } from "../../scripts/fixtures.js";
import { Child, eventually, pause } from "../support/child.js";
import { Chromium } from "../support/chromium.js";
import { freeTcpPort, GatewayProcess } from "../support/gateway-process.js";
import { MediaServer } from "../support/media-server.js";
import { PagePublisher } from "../support/page-publisher.js";
import { publish } from "../support/publish.js";
import { playByVlc } from "../support/vlc.js";

const SECONDS = 6;
const STRICT = ["-v", "error", "-nostdin", "-xerror", "-err_detect", "explode"];

const isInstalled = (program: string): boolean =>
  (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
const NGINX_MODULE = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const NGINX = { skip: isInstalled("nginx") && existsSync(NGINX_MODULE) ? false : "no nginx with its RTMP module here" };
const without = (program: string): { skip: string | false } => ({ skip: isInstalled(program) ? false : `no ${program} here` });

/** Runs a program to its end. @throws Error with its words when it fails */
async function run(program: string, args: readonly string[]): Promise<string> {
  const child = new Child(program, args);
  const { code } = await child.exited;
  assert.equal(code, 0, `${program} ended with ${code}:\n${child.log}`);
  return child.log;
}

/** Decodes for some seconds without any complaint; gives the number of pictures. */
async function decode(url: string, seconds = SECONDS): Promise<number> {
  // In the stream's own time base: in that of a guessed frame rate, two pictures of a camera's uneven pace may get the same time.
  const output = ["-t", `${seconds}`, "-enc_time_base", "-1", "-progress", "pipe:1", "-f", "null", "-"];
  const said = await run("ffmpeg", [...STRICT, "-i", url, ...output]);
  const lines = said.split("\n");
  assert.deepEqual(
    lines.filter((line) => !/^\w+= *[\w./:-]+$/.test(line) && line !== ""),
    [],
    "ffmpeg complained",
  );
  return Number(
    lines
      .filter((line) => line.startsWith("frame="))
      .at(-1)
      ?.slice("frame=".length),
  );
}

/** Who publishes `live/livestream`. */
type Source = { readonly stop: () => Promise<unknown> };

async function pushByFfmpeg(gateway: GatewayProcess, fixture: Fixture): Promise<Source> {
  const child = publish(fixture.path, gateway.rtmpUrl());
  return { stop: () => child.stop("SIGKILL") };
}

/** Chromium's fake camera and microphone: pictures come as the machine has time for them. */
async function publishByWhip(gateway: GatewayProcess): Promise<Source> {
  const browser = await Chromium.start();
  const page = await browser.openForProbe(gateway.pageUrl("", ""));
  await PagePublisher.start(page, gateway.whipUrl());
  return { stop: () => browser.stop() };
}

for (const [name, start, pace] of [
  ["an ffmpeg push", pushByFfmpeg, "even"],
  ["a browser's WHIP", publishByWhip, "uneven"],
] as const) {
  suite(`RTMP play of ${name}`, () => {
    let fixture: Fixture;
    let gateway: GatewayProcess;
    let source: Source;
    let folder: string;

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), "rtmp-play-"));
      fixture = await makeFixture({ bframes: "default" });
      gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;" });
      source = await start(gateway, fixture);
      await gateway.live();
    });

    after(async () => {
      await source.stop();
      await gateway.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    test("ffmpeg decodes it and complains about nothing", async () => {
      const pictures = await decode(gateway.rtmpUrl());
      if (pace === "even") assertNear(pictures, SECONDS * fixture.fps);
      else assert.ok(pictures > SECONDS * 5, `${pictures} pictures`);
    });

    test("ffprobe sees even times that never step back, over both tracks", async () => {
      const entries = ["-show_entries", "packet=codec_type,pts_time,dts_time", "-of", "json"];
      const said = await run("ffprobe", ["-v", "error", ...entries, "-read_intervals", `%+${SECONDS}`, gateway.rtmpUrl()]);
      type Packet = { readonly codec_type: string; readonly pts_time: string; readonly dts_time: string };
      const { packets } = JSON.parse(said) as { packets: Packet[] };
      const times = packets.map(({ dts_time }) => Math.round(Number(dts_time) * 1000));
      assert.deepEqual(
        times.filter((time, i) => time < (times[i - 1] ?? 0)),
        [],
      );
      const steps = (type: string): Set<number> => {
        const own = times.filter((_, i) => packets[i]?.codec_type === type);
        return new Set(own.slice(1).map((time, i) => time - (own[i] ?? 0)));
      };
      assert.deepEqual([...steps("audio")].sort(), [21, 22]); // 1,024 samples at 48 kHz in whole milliseconds
      if (pace === "uneven") return;
      assert.deepEqual(steps("video"), new Set([40]));
      const shown = packets.filter(({ codec_type }) => codec_type === "video").map(({ pts_time }) => Number(pts_time) * 1000);
      shown.sort((a, b) => a - b);
      for (let i = 1; i < shown.length - fixture.fps; i++) assert.equal(Math.round((shown[i] ?? 0) - (shown[i - 1] ?? 0)), 40);
    });

    test("rtmpdump records a file that decodes", without("rtmpdump"), async () => {
      const file = join(folder, "dump.flv");
      const dump = new Child("rtmpdump", ["-q", "-r", gateway.rtmpUrl(), "--live", "-o", file]);
      await eventually("a recording", () => (existsSync(file) && statSync(file).size > 100_000 ? true : undefined));
      await dump.stop("SIGINT");
      assert.ok((await decode(file)) > fixture.fps);
    });

    test("mpv plays", without("mpv"), async () => {
      await run("mpv", ["--no-config", "--vo=null", "--ao=null", "--no-terminal", "--frames=50", gateway.rtmpUrl()]);
    });

    test("VLC plays as an ordinary user, without a lost picture", without("vlc"), async () => {
      await playByVlc(gateway.rtmpUrl(), 2 * fixture.fps, (figures) => {
        assert.equal(figures.corrupted, 0);
        assert.equal(figures.discontinuities, 0);
        assert.ok(figures.lost <= fixture.fps / 2, figures.text); // a busy machine shows some too late
      });
    });
  });
}

suite("RTMP play over restarts and other servers", () => {
  let fixture: Fixture;
  let gateway: GatewayProcess;
  let publisher: Child;
  let folder: string;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "rtmp-peers-"));
    fixture = await makeFixture({ bframes: "default" });
    gateway = await GatewayProcess.start();
    publisher = publish(fixture.path, gateway.rtmpUrl());
    await gateway.live();
  });

  after(async () => {
    await publisher.stop("SIGKILL");
    await gateway.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test("a publisher that restarts: the player goes on", async () => {
    const first = publish(fixture.path, gateway.rtmpUrl("restarting"));
    await gateway.live("restarting");
    const frames: Frame[] = [];
    const closed: string[] = [];
    const player = new RtmpClient({
      url: gateway.rtmpUrl("restarting"),
      action: "play",
      clock: new SystemClock(),
      onFrame: (frame) => frames.push(frame),
      onClose: (reason) => closed.push(reason),
    });
    await eventually("media", () => (frames.length > 50 ? true : undefined));
    await first.stop("SIGKILL");
    await pause(500);
    const before = frames.length;
    const second = publish(fixture.path, gateway.rtmpUrl("restarting"));
    try {
      const after = await eventually("media again", () => (frames.length > before + 50 ? frames.slice(before) : undefined));
      const video = after.filter(({ kind, isConfig }) => kind === "video" && !isConfig);
      assert.equal(video[0]?.isKey, true);
      const times = frames.filter(({ kind, isConfig }) => kind !== "data" && !isConfig).map(({ dts }) => dts);
      assert.deepEqual(
        times.filter((time, i) => time < (times[i - 1] ?? 0)),
        [],
      );
      assert.deepEqual(closed, []);
    } finally {
      player.close();
      await second.stop("SIGKILL");
    }
  });

  test("a publisher that comes back with another picture size: ffmpeg decodes on, and ends well", async () => {
    const small = await makeFixture({ width: 320, height: 180 });
    const own = await GatewayProcess.start({ vhost: "publish { grace 2000; }" });
    let current = publish(fixture.path, own.rtmpUrl());
    try {
      await own.live();
      const player = new Child("ffmpeg", [...STRICT, "-i", own.rtmpUrl(), "-progress", "pipe:1", "-f", "null", "-"]);
      const frames = () =>
        Number(
          player
            .lines(/^frame=/)
            .at(-1)
            ?.slice("frame=".length) ?? 0,
        );
      await eventually("pictures", () => (frames() > 2 * fixture.fps ? true : undefined));
      await current.stop("SIGKILL");
      const before = frames();
      current = publish(small.path, own.rtmpUrl());
      await eventually("pictures again", () => (frames() > before + 3 * fixture.fps ? true : undefined), 15_000);
      await current.stop("SIGKILL");
      const { code } = await player.exited;
      assert.equal(code, 0, player.log);
      // Its parser (NULL) keeps to the first parameter sets and grumbles; its decoder takes the new ones.
      assert.deepEqual(player.lines(/\[(?!NULL)\w+ @/), []);
    } finally {
      await current.stop("SIGKILL");
      await own.stop();
    }
  });

  test("nginx-rtmp pulls from us and pushes to us", NGINX, async () => {
    const port = await freeTcpPort();
    const config = join(folder, "nginx.conf");
    const text = `
      load_module ${NGINX_MODULE}; daemon off; master_process off; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
      events { worker_connections 64; }
      rtmp { server { listen 127.0.0.1:${port};
        application pulled { live on; pull ${gateway.rtmpUrl()} name=livestream static; }
        application pushed { live on; push rtmp://127.0.0.1:${gateway.ports.rtmp}/live; }
      } }`;
    writeFileSync(config, text);
    const nginx = new Child("nginx", ["-c", config, "-p", folder]);
    let through: Child | undefined;
    try {
      // Without a cache of its own it begins anywhere: the picture follows at the next key frame.
      assert.ok((await decode(`rtmp://127.0.0.1:${port}/pulled/livestream`, 4)) > fixture.fps);
      through = publish(fixture.path, `rtmp://127.0.0.1:${port}/pushed/pushed`);
      await gateway.live("pushed");
      assert.ok((await decode(gateway.rtmpUrl("pushed"), 4)) > fixture.fps);
    } finally {
      await through?.stop("SIGKILL");
      await nginx.stop("SIGKILL");
    }
  });

  test("our client relays to node-media-server and back, and what comes back decodes", async () => {
    const server = await MediaServer.start();
    const there = relay(gateway.rtmpUrl(), server.url());
    let back: { close(): void } | undefined;
    try {
      await there.flowing();
      const returning = relay(server.url(), gateway.rtmpUrl("returned"));
      back = returning;
      await returning.flowing();
      await gateway.live("returned");
      assertNear(await decode(gateway.rtmpUrl("returned"), 3), 3 * fixture.fps);
    } finally {
      back?.close();
      there.close();
      await server.stop();
    }
  });
});

/** ffmpeg counts its seconds from the first packet of either track, and B-frames come later than they are shown. */
function assertNear(pictures: number, expected: number): void {
  assert.ok(Math.abs(pictures - expected) <= 3, `${pictures} pictures of ${expected}`);
}

/** Plays from one server and publishes to another. */
function relay(from: string, to: string) {
  const clock = new SystemClock();
  const ends: string[] = [];
  let passed = 0;
  const waiting: Frame[] = [];
  let isOpen = false;
  const push = new RtmpClient({
    url: to,
    action: "publish",
    clock,
    onReady: () => {
      isOpen = true;
      for (const frame of waiting.splice(0)) push.writeFrame(frame);
    },
    onClose: (reason) => ends.push(`push: ${reason}`),
  });
  const pull = new RtmpClient({
    url: from,
    action: "play",
    clock,
    onFrame: (frame) => {
      passed += 1;
      if (isOpen) push.writeFrame(frame);
      else waiting.push(frame);
    },
    onClose: (reason) => ends.push(`pull: ${reason}`),
  });
  return {
    flowing: () =>
      eventually(`a relay from ${from} to ${to}`, () => {
        if (ends.length > 0) throw new Error(ends.join("; "));
        return isOpen && passed > 30 ? true : undefined;
      }),
    close: () => {
      pull.close();
      push.close();
    },
  };
}
