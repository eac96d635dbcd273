// Chromium sends smaller pictures from one moment on, and the first size again: RTMP and FLV players go on, and WHEP viewers.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Child, eventually, pause } from "../support/child.js";
import { Chromium, PageViewer } from "../support/chromium.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { PagePublisher } from "../support/page-publisher.js";

async function outputOf(program: string, args: readonly string[]): Promise<string> {
  const child = new Child(program, args);
  const { code } = await child.exited;
  assert.equal(code, 0, child.log);
  return child.log;
}

test("a browser changes its resolution in mid-stream: players go on over RTMP and FLV, both sizes decode without an error", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sluice-resolution-"));
  const gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;", vhost: "http_remux { enabled on; }" });
  const browser = await Chromium.start();
  try {
    const page = await browser.openForProbe(gateway.pageUrl("", ""));
    const publisher = await PagePublisher.start(page, gateway.whipUrl());
    await gateway.live();
    const viewer = await PageViewer.join(page, gateway.whepUrl());
    const width = async (): Promise<number | undefined> => (await viewer.statistics()).video?.frameWidth;
    await eventually("the first size is seen", async () => ((await width()) === 640 ? true : undefined), 15_000);
    const urls = { rtmp: gateway.rtmpUrl(), flv: `http://127.0.0.1:${gateway.ports.http}/live/livestream.flv` };
    const recorders = Object.entries(urls).map(([name, url]) => {
      const file = join(folder, `${name}.flv`);
      return { file, child: new Child("ffmpeg", ["-nostdin", "-loglevel", "error", "-i", url, "-c", "copy", "-y", file]) };
    });
    await pause(3000);
    await publisher.scaleDown(2);
    await eventually("the second size is seen", async () => ((await width()) === 320 ? true : undefined), 10_000);
    await pause(1500);
    await publisher.scaleDown(1);
    await eventually("the first size is seen again", async () => ((await width()) === 640 ? true : undefined), 10_000);
    await pause(1500);
    for (const { child } of recorders) {
      assert.equal(child.exit, undefined, child.log);
      await child.stop("SIGINT"); // it ends its file
      assert.equal(child.log, "");
    }
    for (const { file } of recorders) {
      const decode = ["-nostdin", "-v", "error", "-xerror", "-err_detect", "explode", "-i", file];
      decode.push("-enc_time_base", "-1", "-f", "null", "-"); // a camera's pace is uneven: not in a guessed frame rate
      assert.equal(await outputOf("ffmpeg", decode), "");
      const sizes = await outputOf("ffprobe", [
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "frame=width",
        "-of",
        "csv=p=0",
        file,
      ]);
      const seen = new Set(sizes.match(/\d+/g));
      assert.ok(seen.has("640") && seen.has("320"), `${file}: ${[...seen].join(" ")}`);
    }
    const { video } = await viewer.statistics();
    assert.ok(video !== undefined && video.framesDecoded > 100);
    await publisher.stop();
  } finally {
    await browser.stop();
    await gateway.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});
