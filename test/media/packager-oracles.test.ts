// What libraries that are not ours find in our segments.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { describeVideo } from "../../gateway/media/codec-strings.js";
import type { Frame } from "../../gateway/media/frame.js";
import { createPackager, type SegmentFormat } from "../../gateway/media/packager.js";
import { makeFixture } from "../../scripts/fixtures.js";
import { demoClip, framesOfFlv, runFfmpeg } from "../support/clip.js";
import { judgeFile } from "../support/judge.js";
import { framesOfFile, readByFfprobe, readByMediabunny, readByMp4box } from "../support/oracle.js";
import { cutIntoRuns, tracksOf } from "../support/packaged.js";
import { TsReader } from "../support/ts-reader.js";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "packager-"));
});
after(() => rm(folder, { recursive: true }));

const PART = 200_000;

/** The initialization, if there is one, and then the runs. */
function packaged(format: SegmentFormat, frames: readonly Frame[]): Buffer[] {
  const packager = createPackager(format, tracksOf(frames));
  const runs = cutIntoRuns(frames, PART).map((run) => packager.write(run.frames, run));
  return packager.initialization === undefined ? runs : [packager.initialization, ...runs];
}

const mediaOf = (frames: readonly Frame[], kind: "video" | "audio"): Frame[] =>
  frames.filter((frame) => frame.kind === kind && !frame.isConfig);

const SMALL = { size: "160x90", bitrate: 100_000, preset: "ultrafast" } as const;

test("H.264 with B-frames and AAC of 44.1 kHz: every packet, its time and its bytes, in both formats", async () => {
  const fixture = {
    width: 320,
    height: 180,
    bitrate: 200_000,
    seconds: 8,
    sampleRate: 44_100,
    bframes: "default",
    format: "flv",
  } as const;
  const frames = framesOfFlv(await readFile((await makeFixture(fixture)).path));
  for (const format of ["ts", "fmp4"] as const) {
    const pieces = packaged(format, frames);
    const tracks = await readByMediabunny(Buffer.concat(pieces));
    const shift = format === "ts" ? 1 : 0; // seconds of TS_OFFSET
    for (const kind of ["video", "audio"] as const) {
      const track = tracks.find((candidate) => candidate.kind === kind);
      const expected = mediaOf(frames, kind);
      assert.equal(track?.packets.length, expected.length, `${format}: ${kind} packets`);
      track?.packets.forEach((packet, i) => {
        const want = expected[i] as Frame;
        assert.ok(Math.abs(packet.pts - shift - want.pts / 1e6) < 0.0012, `${format}: ${kind} ${i} at ${packet.pts}`);
        assert.equal(packet.isKey, want.isKey);
        if (format === "fmp4") assert.ok(packet.data.equals(want.data));
      });
      const step = 1024 / 44_100;
      const first = track?.packets[0]?.pts ?? 0;
      if (kind === "video") continue;
      for (const [i, packet] of track?.packets.entries() ?? []) {
        assert.ok(Math.abs(packet.pts - first - i * step) < 1e-4, "sound in even steps");
      }
    }
    const { video } = tracksOf(frames);
    assert.equal(tracks.find((track) => track.kind === "video")?.codec, video === undefined ? "" : describeVideo(video)?.codec);
    assert.equal(tracks.find((track) => track.kind === "audio")?.codec, "mp4a.40.2");
    const path = join(folder, `clip.${format}`);
    await writeFile(path, Buffer.concat(pieces));
    const packets = await readByFfprobe(path);
    assert.equal(packets.length, mediaOf(frames, "video").length + mediaOf(frames, "audio").length);
    const lips = await judgeFile(path);
    assert.ok(lips.offsets.length >= 6, `${format}: ${lips.flashes} flashes, ${lips.beeps} beeps`);
    assert.ok(Math.abs(lips.worstMs) < 30, `${format}: beep ${lips.worstMs} ms from the flash`);
  }
});

test("mp4box reads each part as it comes", async () => {
  const frames = await demoClip({ ...SMALL, duration: 3, bframes: 2 });
  const pieces = packaged("fmp4", frames);
  assert.ok(pieces.length > 10);
  const { samples } = readByMp4box(pieces);
  const video = samples.get(1) ?? [];
  const expected = mediaOf(frames, "video");
  assert.deepEqual(
    video.map((sample) => [sample.dts, sample.cts, sample.is_sync, sample.size]),
    expected.map((frame) => [(frame.dts * 9) / 100, (frame.pts * 9) / 100, frame.isKey, frame.data.length]),
  );
  assert.equal(samples.get(2)?.length, mediaOf(frames, "audio").length);
});

test("an independent checker finds nothing against any transport packet of a stream", async () => {
  const frames = await demoClip({ ...SMALL, bitrate: 600_000, duration: 3 });
  const reader = new TsReader();
  for (const piece of packaged("ts", frames)) reader.push(piece);
  assert.ok(reader.tables >= 2, "for each group of pictures");
  assert.equal(reader.units.filter((unit) => unit.pid === 0x100).length, 75);
});

test("sound alone and picture alone", async () => {
  for (const tracks of ["audio", "video"] as const) {
    const frames = await demoClip({ ...SMALL, duration: 2, tracks });
    for (const format of ["ts", "fmp4"] as const) {
      const path = join(folder, `${tracks}.${format}`);
      await writeFile(path, Buffer.concat(packaged(format, frames)));
      assert.equal((await readByFfprobe(path)).length, mediaOf(frames, tracks).length);
    }
  }
});

const ENCODERS = [
  {
    name: "H.265 and AAC",
    args: ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:bframes=0", "-c:a", "aac"],
  },
  {
    name: "AV1 and Opus",
    args: ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-c:a", "libopus", "-strict", "-2"],
  },
] as const;

for (const { name, args } of ENCODERS) {
  test(`${name} in fMP4 are read back as they were`, async () => {
    const source = [
      "-f",
      "lavfi",
      "-i",
      "testsrc=size=162x90:rate=25:duration=2",
      "-f",
      "lavfi",
      "-i",
      "sine=duration=2:sample_rate=48000",
    ];
    const path = join(folder, "source.mp4");
    await runFfmpeg([...source, ...args, "-pix_fmt", "yuv420p", "-g", "25", "-y", path]);
    const frames = await framesOfFile(await readFile(path));
    const { video } = tracksOf(frames);
    assert.ok(video !== undefined);
    const pieces = packaged("fmp4", frames);
    const tracks = await readByMediabunny(Buffer.concat(pieces));
    for (const kind of ["video", "audio"] as const) {
      const track = tracks.find((candidate) => candidate.kind === kind);
      const expected = mediaOf(frames, kind);
      assert.equal(track?.packets.length, expected.length);
      for (const [i, packet] of track?.packets.entries() ?? []) assert.ok(packet.data.equals((expected[i] as Frame).data));
    }
    const described = describeVideo(video);
    assert.deepEqual([described?.width, described?.height], [162, 90]);
    const found = tracks.find((track) => track.kind === "video")?.codec.replace("hev1", "hvc1") ?? ""; // it says hev1 of either
    assert.ok(found.startsWith(described?.codec ?? "none"), `${described?.codec} against ${found}`);
    const copy = join(folder, "copy.mp4");
    await writeFile(copy, Buffer.concat(pieces));
    assert.equal((await readByFfprobe(copy)).length, frames.length - 2);
    if (video.codec !== "hevc") return;
    const transport = join(folder, "copy.ts");
    await writeFile(transport, Buffer.concat(packaged("ts", frames)));
    assert.equal((await readByFfprobe(transport)).length, frames.length - 2);
  });
}
