import assert from "node:assert/strict";
import { test } from "node:test";

import { LivePacketLane } from "../../gateway/hub/packet-lane.js";
import { CatchUp } from "../../gateway/rtp/catch-up.js";
import { PacketSource, type PacketSourceOptions, pictureOf } from "../support/packet-source.js";

function laneWith(pictures: number, options: PacketSourceOptions = {}): { lane: LivePacketLane; source: PacketSource } {
  const lane = new LivePacketLane({ epoch: 0, now: () => 0, onDemand: () => {}, askForKeyFrame: () => {} });
  const source = new PacketSource(lane, 0, { group: 250, audio: false, ...options });
  source.run(pictures);
  return { lane, source };
}

type Sent = { readonly picture: number; readonly timestamp: number; readonly isLast: boolean };

function drain(catchUp: CatchUp, limit = Number.POSITIVE_INFINITY): Sent[] {
  const sent: Sent[] = [];
  while (sent.length < limit) {
    const packet = catchUp.next();
    if (packet === undefined) break;
    sent.push({
      picture: pictureOf(packet.payload),
      timestamp: packet.timestamp + catchUp.timestampDelta,
      isLast: packet.marker,
    });
  }
  return sent;
}

/** One time per picture, in order. */
function timesOf(sent: readonly Sent[]): number[] {
  const times = new Map<number, number>();
  for (const { picture, timestamp } of sent) {
    assert.equal(times.get(picture) ?? timestamp, timestamp, "a picture has one time");
    times.set(picture, timestamp);
  }
  return [...times.values()];
}

test("begins with the key frame, ends live, and squeezes the times to right before the newest picture", () => {
  const { lane } = laneWith(200);
  const catchUp = new CatchUp(lane, lane.keyFrameStart ?? -1, Number.NEGATIVE_INFINITY);
  const sent = drain(catchUp);
  assert.equal(catchUp.state, "live");
  assert.equal(sent[0]?.picture, 0);
  assert.equal(sent.at(-1)?.picture, 199);
  const times = timesOf(sent);
  assert.equal(times.length, 200);
  assert.equal(times.at(-1), 199 * 3600, "the newest keeps its true time");
  assert.ok((times[0] ?? 0) >= 199 * 3600 - 600, "a tick per packet");
  for (let index = 1; index < times.length; index++) assert.ok((times[index] ?? 0) > (times[index - 1] ?? 0));
  assert.equal(catchUp.keyFrameBytes, 10_000);
  assert.equal(catchUp.totalBytes, 10_000 + 199 * 2_000);
});

test("times go on with the live ones while the burst lasts, so that the receiver sees a clock that runs", () => {
  const { lane, source } = laneWith(200);
  const catchUp = new CatchUp(lane, lane.keyFrameStart ?? -1, Number.NEGATIVE_INFINITY);
  const sent: Sent[] = [];
  for (let newest = 199; catchUp.state === "running"; newest++) {
    const part = drain(catchUp, 40);
    for (const { timestamp } of part) {
      assert.ok(timestamp <= newest * 3600 && timestamp > newest * 3600 - 600, `${timestamp} beside ${newest * 3600}`);
    }
    sent.push(...part);
    if (catchUp.state === "running") source.run(1);
  }
  const times = timesOf(sent);
  for (let index = 1; index < times.length; index++) assert.ok((times[index] ?? 0) > (times[index - 1] ?? 0));
  assert.equal(times.at(-1), (sent.at(-1)?.picture ?? 0) * 3600, "the newest keeps its true time");
});

test("a new group that begins meanwhile cuts the old one short, between pictures", () => {
  const { lane, source } = laneWith(240);
  const catchUp = new CatchUp(lane, lane.keyFrameStart ?? -1, Number.NEGATIVE_INFINITY);
  const sent = drain(catchUp, 51); // one packet into a picture of two
  source.run(20);
  sent.push(...drain(catchUp));
  timesOf(sent);
  const pictures = sent.map((packet) => packet.picture);
  const cut = pictures.indexOf(250);
  assert.ok(sent[cut - 1]?.isLast, "the picture before is whole");
  assert.ok((pictures[cut - 1] ?? 0) < 30);
  assert.equal(pictures.at(-1), 259);
});

test("history that is overwritten or dropped meanwhile is lost", () => {
  const { lane } = laneWith(100);
  const catchUp = new CatchUp(lane, lane.keyFrameStart ?? -1, Number.NEGATIVE_INFINITY);
  drain(catchUp, 20);
  lane.reset();
  assert.deepEqual(drain(catchUp), []);
  assert.equal(catchUp.state, "lost");
});

test("a viewer that has had live pictures gets later times, not the same again", () => {
  const { lane } = laneWith(200);
  const last = 199 * 3600;
  const times = timesOf(drain(new CatchUp(lane, lane.keyFrameStart ?? -1, last)));
  assert.deepEqual(
    times,
    times.map((_, index) => last + 1 + index),
  );
});

test("a group of an hour still has a time for each picture", () => {
  const { lane } = laneWith(5_000, { group: 100_000, packets: 1, size: 20 });
  const times = timesOf(drain(new CatchUp(lane, lane.keyFrameStart ?? -1, Number.NEGATIVE_INFINITY)));
  assert.equal(new Set(times).size, 5_000);
  assert.equal(times.at(-1), 4_999 * 3600);
});

test("leaves out pictures that nothing refers to", () => {
  const { lane } = laneWith(100, { discardableEvery: 3 });
  const sent = drain(new CatchUp(lane, lane.keyFrameStart ?? -1, Number.NEGATIVE_INFINITY));
  assert.ok(sent.every(({ picture }) => picture === 0 || picture % 3 !== 0));
  assert.equal(timesOf(sent).length, 67 - 0);
});
