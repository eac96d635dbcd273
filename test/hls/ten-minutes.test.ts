// Ten minutes of a stream in made-up time, with two restarts of its publisher and another size of picture: every version of its playlist.

import assert from "node:assert/strict";
import { test } from "node:test";

import HLS from "hls-parser";

import type { PackagedStream } from "../../gateway/hls/packaged-stream.js";
import { type Listed, PlaylistFollower } from "../support/hls-rules.js";
import { HlsWorld, type HlsWorldOptions, VIDEO_CONFIGS } from "../support/hls-source.js";

/** Looks at the playlist whenever it has changed. */
class Watcher {
  readonly follower = new PlaylistFollower();
  readonly world: HlsWorld;
  last: Listed | undefined;
  deltas = 0;
  #text = "";

  constructor(world: HlsWorld) {
    this.world = world;
  }

  get packaged(): PackagedStream {
    const [packaged] = this.world.service.streams;
    assert.ok(packaged !== undefined);
    return packaged;
  }

  readonly look = (): void => {
    const [packaged] = this.world.service.streams;
    if (packaged !== undefined) this.lookAt(packaged);
  };

  lookAt(packaged: PackagedStream): void {
    if (!packaged.isReady) return;
    const { text } = packaged.mediaPlaylist(false);
    if (text === this.#text) return;
    this.#text = text;
    this.last = this.follower.push(text);
    HLS.parse(text);
    const delta = packaged.mediaPlaylist(true).text;
    if (this.follower.pushDelta(delta, text).skipped > 0) this.deltas++;
  }
}

HLS.setOptions({ strictMode: true });

async function tenMinutes(options: HlsWorldOptions): Promise<Watcher> {
  const world = new HlsWorld(options);
  const watcher = new Watcher(world);
  const first = await world.publish();
  first.run(200_000, watcher.look);
  first.publication.end("it crashed");
  watcher.look();
  world.clock.advance(4_000); // it comes back within the grace time
  const second = await world.publish({ offset: 77_000, frameMs: 1000 / 30, gop: 60 });
  second.run(120_000, watcher.look);
  second.reconfigure(VIDEO_CONFIGS.second);
  second.run(100_000, watcher.look);
  second.jump(-50_000); // of its clock: the hub bridges it
  second.run(40_000, watcher.look);
  const third = await world.publish({ video: VIDEO_CONFIGS.second }); // takes the stream over
  third.run(136_000, watcher.look);
  const { packaged } = watcher;
  third.publication.end("done");
  watcher.lookAt(packaged);
  world.clock.advance(10_100);
  assert.equal(packaged.state, "ended");
  watcher.lookAt(packaged);
  assert.equal(watcher.last?.isEnded, true);
  return watcher;
}

test("every version of ten minutes keeps the rules: fMP4 with parts", async () => {
  const watcher = await tenMinutes({});
  assert.ok(watcher.follower.versions > 2_500, `${watcher.follower.versions} versions`);
  assert.ok(watcher.deltas > 2_000, `${watcher.deltas} of them with a shorter update`);
  assert.equal(watcher.last?.segments.at(-1)?.discontinuity, 3); // two restarts and another size
  const segments = [...watcher.follower.segments.values()];
  assert.ok(segments.length >= 290 && segments.length <= 310, `${segments.length} segments`);
  const total = segments.reduce((sum, { duration }) => sum + (duration ?? 0), 0);
  assert.ok(Math.abs(total - 596) < 1, `${total} s of media`);
  assert.equal(watcher.last?.partTarget, 0.204);
  assert.equal(watcher.last?.isIndependent, true);
});

test("every version of ten minutes keeps the rules: MPEG-TS with parts", async () => {
  const watcher = await tenMinutes({ settings: { format: "ts" } });
  assert.ok(watcher.follower.versions > 2_500);
});

test("every version of ten minutes keeps the rules: plain, fMP4 and encrypted MPEG-TS", async () => {
  for (const settings of [{ lowLatency: false }, { format: "ts", keys: true }] as const) {
    const watcher = await tenMinutes({ settings });
    assert.ok(watcher.follower.versions > 280 && watcher.follower.versions < 320, `${watcher.follower.versions} versions`);
    assert.equal(watcher.last?.partTarget, undefined);
  }
});

test("memory is bounded by window and bit rate, also where no key frame comes for a minute", async () => {
  const world = new HlsWorld({ settings: { window: 10_000 } });
  const publisher = await world.publish({ size: 10_000 }); // 2 Mbit/s
  publisher.run(30_000);
  const [packaged] = world.service.streams;
  assert.ok(packaged !== undefined);
  const steady = packaged.window.size;
  assert.ok(steady < 22 * 300_000, `${steady} bytes`);
  publisher.gop = Number.POSITIVE_INFINITY;
  publisher.run(60_000);
  assert.ok(packaged.window.size < 100 * 300_000, `${packaged.window.size} bytes`);
  const text = packaged.mediaPlaylist(false).text;
  assert.doesNotMatch(text, /INDEPENDENT-SEGMENTS/, "segments that begin without a key frame");
  assert.match(text, /TARGETDURATION:20\n/);
});
