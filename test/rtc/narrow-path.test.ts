// Viewers whose path carries less than the stream: pictures go on at key frames, without delay that grows, and nobody else notices.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { LinkFaults } from "../support/lossy-link.js";
import { PacketSource, pictureOf } from "../support/packet-source.js";
import type { ReceivedPacket } from "../support/rtc-peer.js";
import { RtcWorld, type WorldPeer } from "../support/rtc-world.js";

/** 25 pictures a second of 6 packets, key frames of 15, in groups of one second: 1.28 Mbit/s on the wire, 1.35 with sound. */
const STREAM = { group: 25, keyPackets: 15, packets: 6, size: 1000 };
const THIRD = 450_000;
const FRAME = 40;

async function open(group = STREAM.group, keyFrames: "on-request" | "at-intervals" = "at-intervals") {
  const world = new RtcWorld();
  await world.start();
  const requests: number[] = [];
  const source = {
    requestKeyFrame: () => {
      requests.push(world.clock.now());
      if (keyFrames === "on-request") media.makeKeyFrame();
    },
    keyFrames,
    close: () => {},
  };
  const publication = await world.publishWith(source);
  const media: PacketSource = new PacketSource(publication.stream.packets, world.clock.wallTime(), { ...STREAM, group });
  /** When each picture was written. */
  const written: number[] = [];
  const play = (ms: number): void =>
    world.run(ms, FRAME, () => {
      written.push(world.clock.now());
      media.next();
    });
  play(2_000);
  return { world, media, requests, written, play };
}

/** Delay of each picture that came whole, from its being written, in order of arrival; and which they are. */
function pictures(
  peer: WorldPeer,
  written: readonly number[],
): { picture: number; delay: number; at: number; isWhole: boolean }[] {
  const byPicture = new Map<number, ReceivedPacket[]>();
  for (const packet of peer.video?.inOrder ?? []) {
    const picture = pictureOf(packet.payload);
    byPicture.set(picture, [...(byPicture.get(picture) ?? []), packet]);
  }
  const all = [...byPicture].map(([picture, packets]) => {
    const at = Math.max(...packets.map((packet) => packet.at));
    const wanted = picture % STREAM.group === 0 ? STREAM.keyPackets : STREAM.packets;
    return { picture, at, delay: at - (written[picture] ?? 0), isWhole: packets.length >= wanted };
  });
  // What a decoder would not wait for: repaired after a newer key frame was whole.
  const keys = all.filter(({ picture, isWhole }) => isWhole && picture % STREAM.group === 0);
  return all.filter((one) => !keys.some((key) => key.picture > one.picture && key.at < one.at));
}

/** `rtc` of the API's client. */
function figures(world: RtcWorld, index: number): Record<string, unknown> {
  const viewers = [...world.hub.clients()].filter(({ role }) => role === "play");
  return viewers[index]?.statistics() ?? {};
}

const PATHS: readonly [name: string, path: LinkFaults][] = [
  ["that queues for long", { delay: 20, rate: THIRD, queue: 5_000 }],
  ["that queues a little and drops the rest", { delay: 20, rate: THIRD, queue: 200 }],
  ["with jitter and some loss besides", { delay: 20, rate: THIRD, queue: 2_000, jitter: 20, loss: 0.01 }],
];

for (const [name, path] of PATHS) {
  test(`a viewer behind a third of the rate, on a path ${name}, goes on at key frames within a second`, async () => {
    const { world, written, play } = await open();
    const wide = await world.join({ transportCc: true, faults: { delay: 20 } });
    const narrow = await world.join({ transportCc: true, faults: { delay: 20 }, down: path, seed: 7 });
    wide.start();
    narrow.start();
    play(30_000);
    const settled = pictures(narrow, written).filter(({ at, isWhole }) => isWhole && at > world.clock.now() - 25_000);
    const worst = Math.max(...settled.map(({ delay }) => delay));
    assert.ok(worst < 1_000, `the worst delay was ${worst} ms`);
    const keys = settled.filter(({ picture }) => picture % STREAM.group === 0).length;
    assert.ok(keys >= 15, `${keys} key frames in 25 s`);
    for (const [index, { picture }] of settled.entries()) {
      if (index === 0 || path.loss !== undefined || path.queue === 200) continue;
      const before = settled[index - 1]?.picture ?? -1;
      assert.ok(picture === before + 1 || picture % STREAM.group === 0, `${picture} after ${before}: a gap ends at a key frame`);
    }
    assert.ok(Number(figures(world, 1)["thinned"]) > 100);
    const capacity = Number(figures(world, 1)["path_bitrate"]);
    assert.ok(capacity > THIRD * 0.5 && capacity < THIRD * 1.6, `estimated ${capacity}`);
    // The other viewer gets every picture.
    assert.deepEqual([figures(world, 0)["thinned"], wide.video?.missing.length], [0, 0]);
    const first = pictureOf(wide.video?.inOrder[0]?.payload ?? Buffer.alloc(6));
    assert.ok(pictures(wide, written).length >= written.length - first - 2);
  });
}

test("a path that becomes wide again has the whole stream again", async () => {
  const { world, written, play } = await open();
  const peer = await world.join({ transportCc: true, faults: { delay: 20 } });
  peer.start();
  play(5_000);
  assert.equal(figures(world, 0)["thinned"], 0);
  peer.down.faults = { delay: 20, rate: THIRD };
  play(10_000);
  assert.ok(Number(figures(world, 0)["thinned"]) > 50);
  peer.down.faults = { delay: 20 };
  play(60_000);
  const before = Number(figures(world, 0)["thinned"]);
  play(10_000);
  assert.equal(figures(world, 0)["thinned"], before);
  assert.equal(figures(world, 0)["path_bitrate"], undefined);
  assert.equal(
    pictures(peer, written).at(-1)?.picture,
    written.length - 1 - Math.floor(20 / FRAME) - (20 % FRAME > 0 ? 0 : 1) || written.length - 1,
  );
});

test("jitter, loss and a longer way are no narrow path", async () => {
  for (const faults of [{ delay: 100, jitter: 30 }, { delay: 20, loss: 0.08 }, { delay: 300 }, { delay: 20, rate: 2_500_000 }]) {
    const { world, play } = await open();
    const peer = await world.join({ transportCc: true, faults: { delay: 20 }, down: faults, seed: 3 });
    peer.start();
    play(20_000);
    const { falls, thinned } = figures(world, 0);
    assert.deepEqual({ faults, falls, thinned }, { faults, falls: 0, thinned: 0 });
  }
});

test("a publisher that makes key frames on request is asked for one now and then, not all the time", async () => {
  const { world, requests, play } = await open(100_000, "on-request");
  const narrow = await world.join({ transportCc: true, faults: { delay: 20 }, down: { delay: 20, rate: THIRD }, seed: 7 });
  narrow.start();
  play(30_000);
  assert.ok(requests.length >= 4 && requests.length <= 14, `${requests.length} requests in 30 s`);
});

test("without transport-wide feedback the loss that receiver reports tell of must do", async () => {
  const { world, play } = await open();
  const narrow = await world.join({ faults: { delay: 20 }, down: { delay: 20, rate: THIRD, queue: 200 }, seed: 7, nacks: false });
  narrow.start();
  const before = narrow.down.counts;
  play(15_000);
  assert.ok(before.sent > 0);
  assert.equal(typeof figures(world, 0)["thinned"], "number");
});
