// HTTP-FLV by real clients: an RTMP publisher and a browser's WHIP, played by ffmpeg, mpv, and a reader that looks at each tag.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";

import { makeFixture } from "../../scripts/fixtures.js";
import { eventually, pause } from "../support/child.js";
import { Chromium } from "../support/chromium.js";
import { FlvClient } from "../support/flv-client.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { PagePublisher } from "../support/page-publisher.js";
import { publish } from "../support/publish.js";

const run = promisify(execFile);

suite("HTTP-FLV", () => {
  let gateway: GatewayProcess;

  before(async () => {
    gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;", vhost: "http_remux { enabled on; }" });
  });
  after(async () => {
    await gateway.stop();
  });
  const url = (stream = "livestream", query = "") => `http://127.0.0.1:${gateway.ports.http}/live/${stream}.flv${query}`;

  test("ffprobe, ffmpeg and mpv play an RTMP publisher without a decode error", async () => {
    const fixture = await makeFixture({});
    const publisher = publish(fixture.path, gateway.rtmpUrl());
    try {
      await gateway.live();
      const probe = await run("ffprobe", [
        ...["-v", "error", "-read_intervals", "%+3", "-count_packets"],
        ...["-show_entries", "stream=codec_name,nb_read_packets", "-of", "csv=p=0", url()],
      ]);
      const counts = new Map(
        probe.stdout
          .trim()
          .split("\n")
          .map((line) => line.split(",") as [string, string]),
      );
      assert.ok(Number(counts.get("h264")) >= 70 && Number(counts.get("aac")) >= 130, probe.stdout);
      const strict = ["-v", "error", "-xerror", "-err_detect", "explode"];
      const { stderr } = await run("ffmpeg", [...strict, "-i", url(), "-t", "4", "-f", "null", "-"], { timeout: 20_000 });
      assert.equal(stderr, "");
      for (const only of ["audio", "video"]) {
        await run("ffmpeg", [...strict, "-i", url("livestream", `?only=${only}`), "-t", "1", "-f", "null", "-"], {
          timeout: 20_000,
        });
      }
      await run("mpv", ["--no-config", "--really-quiet", "--vo=null", "--ao=null", "--frames=60", url()], { timeout: 20_000 });
    } finally {
      await publisher.stop("SIGKILL");
    }
  });

  test("a publisher that comes back: the player goes on, and time never steps back", async () => {
    const fixture = await makeFixture({});
    const viewer = new FlvClient(gateway.ports.http, "/live/again.flv");
    for (let round = 0; round < 2; round++) {
      const publisher = publish(fixture.path, gateway.rtmpUrl("again"));
      const count = viewer.flv.tags.length;
      await eventually("tags", () => (viewer.flv.tags.length > count + 100 ? true : undefined), 10_000);
      await publisher.stop("SIGKILL");
      await pause(500);
    }
    viewer.stop();
    assert.equal(viewer.failure, undefined);
    assert.equal(viewer.sessions, 1);
  });

  test("WHIP from Chromium: both tracks soon after ICE, AAC in steps of 1,024 samples, time never back", async (t) => {
    const browser = await Chromium.start();
    t.after(() => browser.stop());
    const page = await browser.openForProbe(gateway.pageUrl("", ""));
    await page.evaluate(REMEMBER_CONNECTED);
    const viewer = new FlvClient(gateway.ports.http, "/live/camera.flv");
    t.after(() => viewer.stop());
    const publisher = await PagePublisher.start(page, gateway.whipUrl("camera"));
    const first = await eventually("both tracks", () => {
      const [audio, video] = [viewer.first(8), viewer.first(9)];
      return audio !== undefined && video !== undefined ? { audio, video } : undefined;
    });
    const connectedAt = (await page.evaluate("__connectedAt")) as number;
    const [audioAfter, videoAfter] = [first.audio.at - connectedAt, first.video.at - connectedAt];
    t.diagnostic(`after ICE: video ${videoAfter} ms, audio ${audioAfter} ms`);
    assert.equal(viewer.flv.flags, 5);
    assert.ok(videoAfter < LATEST && audioAfter < LATEST, `video ${videoAfter} ms, audio ${audioAfter} ms after ICE`);

    await pause(5000);
    const strict = ["-v", "error", "-xerror", "-err_detect", "explode"];
    await run("ffmpeg", [...strict, "-i", url("camera"), "-t", "3", "-enc_time_base", "-1", "-f", "null", "-"], {
      timeout: 20_000,
    });
    assert.equal(viewer.failure, undefined);
    const audio = viewer.flv.tags.filter(({ type, body }) => type === 8 && body[1] === 1).map(({ timestamp }) => timestamp);
    const steps = audio.slice(1).map((time, index) => time - (audio[index] ?? 0));
    const odd = steps.filter((step) => step < 20 || step > 23); // 21.33 ms in whole milliseconds
    assert.ok(audio.length > 220, `${audio.length} audio tags`);
    assert.deepEqual(odd, []);
    await publisher.stop();
  });
});

/** The aim is 500 ms, and 130 is usual; but here a browser, its encoder and two children start at once, on a machine that may be busy. */
const LATEST = 1000;

const REMEMBER_CONNECTED = `
const Original = RTCPeerConnection;
window.RTCPeerConnection = class extends Original {
  constructor(...options) {
    super(...options);
    this.addEventListener("iceconnectionstatechange", () => {
      if (this.iceConnectionState === "connected") window.__connectedAt ??= Date.now();
    });
  }
};
`;
