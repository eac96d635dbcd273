import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

import { demoSource, findFont, STRIP_BITS, stripCentres } from "../../scripts/demo-source.js";

const hasFfmpeg = spawnSync("ffmpeg", ["-version"]).status === 0;

function run(args: readonly string[]): Buffer {
  const { status, stdout, stderr } = spawnSync("ffmpeg", args, { maxBuffer: 64 << 20 });
  assert.equal(status, 0, stderr.toString());
  return stdout;
}

test("names the option that makes no sense", () => {
  assert.throws(() => demoSource({ size: "1281x720" }), /size/);
  assert.throws(() => demoSource({ size: "big" }), /size/);
  assert.throws(() => demoSource({ fps: 29.97 }), /fps/);
});

test("has no B-frames and no look-ahead unless asked", () => {
  const plain = demoSource();
  assert.equal(plain[plain.indexOf("-bf") + 1], "0");
  assert.ok(plain.includes("zerolatency"));
  const reordered = demoSource({ bframes: 3 });
  assert.equal(reordered[reordered.indexOf("-bf") + 1], "3");
  assert.ok(!reordered.includes("zerolatency"));
});

test("flashes and beeps together at each full second, and numbers its frames", { skip: !hasFfmpeg && "no ffmpeg" }, () => {
  const size = "320x180";
  const args = demoSource({ size, duration: 2, realTime: false, bitrate: 800_000, font: findFont() });
  const file = run([...args, "-f", "matroska", "pipe:1"]);
  const decode = (output: string[]) => {
    const { stdout } = spawnSync("ffmpeg", ["-loglevel", "error", "-i", "pipe:0", ...output, "pipe:1"], {
      input: file,
      maxBuffer: 64 << 20,
    });
    return stdout;
  };

  const video = decode(["-map", "0:v", "-vsync", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo"]);
  const frameSize = 320 * 180;
  assert.equal(video.length / frameSize, 50);
  const lit: number[] = [];
  for (let frame = 0; frame < 50; frame++) {
    const pixels = video.subarray(frame * frameSize, (frame + 1) * frameSize);
    if ((pixels[90 * 320 + 112] ?? 0) > 170) lit.push(frame);
    const number = stripCentres(size).reduce((sum, { x, y }, bit) => sum + ((pixels[y * 320 + x] ?? 0) > 128 ? 2 ** bit : 0), 0);
    assert.equal(number, frame);
  }
  assert.deepEqual(lit, [0, 1, 25, 26]);
  assert.equal(stripCentres(size).length, STRIP_BITS);

  const audio = decode(["-map", "0:a", "-f", "s16le", "-ac", "1", "-ar", "48000"]);
  const loud = (from: number, to: number) => {
    let peak = 0;
    for (let sample = Math.round(from * 48_000); sample < to * 48_000; sample++)
      peak = Math.max(peak, Math.abs(audio.readInt16LE(sample * 2)));
    return peak > 1_000;
  };
  // Raw samples begin with the encoder's 1,024 samples of priming, 21 ms.
  assert.ok(!loud(0.2, 0.99));
  assert.ok(loud(1.022, 1.04));
  assert.ok(!loud(1.15, 1.9));
});
