// hls_path: what is on disk while a stream runs, when its disk is full, and after its end.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { type DiskSettings, type FileSystem, HlsDisk } from "../../gateway/hls/disk.js";
import { FakeClock } from "../support/fake-clock.js";
import { peer, RecordingSource } from "../support/frames.js";
import { readPlaylist } from "../support/hls-rules.js";
import { HlsWorld, type HlsWorldOptions, TestPublisher } from "../support/hls-source.js";

async function setUp(
  t: TestContext,
  options: Partial<DiskSettings> & { files?: FileSystem; settings?: HlsWorldOptions["settings"] } = {},
) {
  const folder = mkdtempSync(join(tmpdir(), "sluice-hls-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const clock = new FakeClock();
  const lines: string[] = [];
  const told: (string | undefined)[] = [];
  const note = (_fields: object, message: string): void => void lines.push(message);
  const disk = new HlsDisk({
    settings: () => ({ path: folder, cleanup: true, dispose: 5_000, ...options }),
    clock,
    log: { info: note, warn: note },
    onSegment: (_packaged, _segment, file) => told.push(file),
    ...(options.files !== undefined && { files: options.files }),
  });
  const world = new HlsWorld({ listener: disk, grace: 0, settings: { window: 6_000, ...options.settings } });
  return { folder, disk, world, lines, told, clock };
}

async function play(world: HlsWorld, disk: HlsDisk, seconds: number, publisher?: TestPublisher): Promise<TestPublisher> {
  const one = publisher ?? (await world.publish());
  for (let i = 0; i < seconds; i++) {
    one.run(1_000);
    await disk.idle();
  }
  return one;
}

test("files appear whole, the playlist lists what is there, and old ones go", async (t) => {
  const { folder, disk, world, told } = await setUp(t);
  await play(world, disk, 21);
  const names = readdirSync(join(folder, "live")).sort();
  const text = readFileSync(join(folder, "live/livestream.m3u8"), "utf8");
  const listed = readPlaylist(text);
  assert.equal(listed.partTarget, undefined);
  assert.ok(listed.segments.length >= 3);
  for (const { uri, map } of listed.segments) assert.ok(names.includes(uri ?? "") && names.includes(map ?? ""));
  assert.ok(names.length <= listed.segments.length + 6, names.join(" "));
  assert.ok(!names.some((name) => name.endsWith(".tmp")));
  const [packaged] = world.service.streams;
  const last = listed.segments.at(-1);
  const bytes = readFileSync(join(folder, "live", last?.uri ?? ""));
  assert.deepEqual(bytes, Buffer.concat([...(packaged?.window.segment(last?.sequence ?? 0)?.body ?? [])]));
  assert.equal(told.length, 10);
  assert.match(told[0] ?? "", /live\/livestream-\w+-0\.m4s$/);
});

test("a stream's end is written, and its files go after hls_dispose", async (t) => {
  const { folder, world, clock, disk } = await setUp(t, { settings: { keys: true, format: "ts" } });
  const publisher = await play(world, disk, 7);
  publisher.publication.end("done");
  await disk.idle();
  const names = readdirSync(join(folder, "live"));
  assert.ok(readPlaylist(readFileSync(join(folder, "live/livestream.m3u8"), "utf8")).isEnded);
  assert.ok(names.some((name) => name.endsWith(".key")) && names.some((name) => name.endsWith(".ts")));
  clock.advance(5_000);
  await disk.idle();
  assert.deepEqual(readdirSync(join(folder, "live")), []);
  await disk.close();
  assert.equal(clock.pending, 0);
});

test("a stream that is back keeps its playlist when the old one's files go", async (t) => {
  const { folder, disk, world, clock } = await setUp(t);
  (await play(world, disk, 7)).publication.end("done");
  await play(world, disk, 7);
  clock.advance(5_000);
  await disk.idle();
  const { segments } = readPlaylist(readFileSync(join(folder, "live/livestream.m3u8"), "utf8"));
  const names = readdirSync(join(folder, "live"));
  assert.ok(segments.length > 0 && segments.every(({ uri }) => names.includes(uri ?? "")));
  assert.ok(
    names.every((name) => name === "livestream.m3u8" || name.startsWith(segments[0]?.uri?.slice(0, 19) ?? "?")),
    names.join(" "),
  );
});

test("a full disk is said once, viewers notice nothing, and what is missing is written later", async (t) => {
  const files = new Map<string, number>();
  let isFull = false;
  const { world, disk, lines } = await setUp(t, {
    files: {
      write: async (path, pieces) => {
        if (isFull) throw new Error("ENOSPC: no space left on device, write");
        files.set(
          path,
          pieces.reduce((sum, { length }) => sum + length, 0),
        );
      },
      remove: async (path) => void files.delete(path),
    },
  });
  const publisher = await play(world, disk, 5);
  isFull = true;
  await play(world, disk, 10, publisher);
  assert.equal(lines.length, 1, lines.join("; "));
  assert.match(lines.at(-1) ?? "", /^hls_path cannot be written, viewers are served from memory: ENOSPC/);
  const [packaged] = world.service.streams;
  assert.ok((packaged?.window.listed.length ?? 0) >= 3);
  isFull = false;
  await play(world, disk, 3, publisher);
  assert.equal(lines.at(-1), "hls_path is written again");
  const listed = packaged?.window.listed ?? [];
  for (const { sequenceNumber } of listed) assert.ok([...files.keys()].some((path) => path.endsWith(`-${sequenceNumber}.m4s`)));
});

test("a name that could leave the folder is not written", async (t) => {
  const written: string[] = [];
  const { world, disk, lines } = await setUp(t, {
    files: { write: async (path) => void written.push(path), remove: async () => {} },
  });
  for (const [app, stream] of [
    ["..", "x"],
    ["live", "../x"],
    ["live", ".."],
    ["/etc", "x"],
    ["live", "a\0b"],
    ["live", "x".repeat(300)],
  ] as const) {
    const publication = await world.hub.publish({
      name: { vhost: "v", app, stream },
      peer: peer(),
      source: new RecordingSource(),
      lane: "frames",
    });
    await play(world, disk, 5, new TestPublisher(world.clock, publication, {}));
  }
  assert.deepEqual(written, []);
  assert.ok(lines.filter((line) => line.includes("cannot be a file's")).length === 6);
});
