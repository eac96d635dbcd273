import assert from "node:assert/strict";
import { test } from "node:test";

import { LiveFrameLane } from "../../gateway/hub/frame-lane.js";
import { LivePacketLane } from "../../gateway/hub/packet-lane.js";
import type { PacketBatch } from "../../gateway/hub/types.js";
import type { Frame } from "../../gateway/media/frame.js";
import { PacketHistory } from "../../gateway/rtp/history.js";
import { audioFrame, Collector, mediaPacket, videoConfig, videoFrame } from "../support/frames.js";

function frameLane(maxFrames = 100): LiveFrameLane {
  return new LiveFrameLane(maxFrames, () => {});
}

function packetLane(
  options: { now?: () => number; asked?: string[]; keyFrames?: "on-request" | "at-intervals" } = {},
): LivePacketLane {
  return new LivePacketLane({
    epoch: 5000,
    now: options.now ?? (() => 0),
    onDemand: () => {},
    askForKeyFrame: (reason) => options.asked?.push(reason),
    keyFrames: () => options.keyFrames ?? "at-intervals",
  });
}

test("keeps the frames since the last key frame, audio among them", () => {
  const lane = frameLane();
  lane.write(videoFrame(0)); // no key frame yet: of no use to anyone
  const frames = [videoFrame(40, { isKey: true }), audioFrame(41), videoFrame(80)];
  for (const frame of frames) lane.write(frame);
  assert.deepEqual(lane.backlog, frames);
  const key = videoFrame(120, { isKey: true });
  lane.write(key);
  assert.deepEqual(lane.backlog, [key]);
});

test("caches no group of pictures that exceeds the bound in frames or bytes", () => {
  const few = frameLane(3);
  few.write(videoFrame(0, { isKey: true }));
  for (let i = 1; i <= 3; i++) few.write(videoFrame(i));
  assert.deepEqual(few.backlog, []);
  few.write(videoFrame(9, { isKey: true }));
  assert.equal(few.backlog.length, 1);

  const large = frameLane();
  large.write(videoFrame(0, { isKey: true, size: 31 * 1024 * 1024 }));
  assert.equal(large.backlog.length, 1);
  large.write(videoFrame(1, { size: 2 * 1024 * 1024 }));
  assert.deepEqual(large.backlog, []);
});

test("passes on a configuration only when it says something new, and drops pictures of the old one", () => {
  const lane = frameLane();
  const sink = new Collector<Frame>();
  lane.add(sink);
  lane.write(videoConfig("a"));
  lane.write(videoFrame(0, { isKey: true }));
  lane.write(videoConfig("a"));
  assert.equal(sink.items.length, 2);
  assert.equal(lane.backlog.length, 1);
  lane.write(videoConfig("b"));
  assert.equal(sink.items.length, 3);
  assert.deepEqual(lane.backlog, []);
});

test("is awaited while a sink is there that is not patient", () => {
  const lane = frameLane();
  assert.equal(lane.isAwaited, false);
  const patient = { write: () => {}, close: () => {}, isPatient: true };
  lane.add(patient);
  assert.equal(lane.isAwaited, false);
  const viewer = new Collector<Frame>();
  lane.add(viewer);
  assert.equal(lane.isAwaited, true);
  lane.remove(viewer);
  patient.isPatient = false;
  assert.equal(lane.isAwaited, true);
});

test("lets a sink leave from within its own write", () => {
  const lane = frameLane();
  const other = new Collector<Frame>();
  const leaver = { write: () => lane.remove(leaver), close: () => {} };
  lane.add(leaver);
  lane.add(other);
  lane.write(videoFrame(0));
  lane.write(videoFrame(1));
  assert.equal(other.items.length, 2);
  assert.equal(lane.viewerCount, 1);
});

test("finds packets again until the history has gone round", () => {
  const history = new PacketHistory("video", 512);
  const first = 2 ** 32 - 100; // unwrapped numbers pass every power of two
  for (let i = 0; i < 600; i++) history.add(mediaPacket(first + i));
  assert.equal(history.find(first + 87), undefined);
  assert.equal(history.find(first + 88)?.sequenceNumber, first + 88);
  assert.equal(history.find(first + 599)?.sequenceNumber, first + 599);
  assert.equal(history.find(first + 600), undefined);
  history.clear();
  assert.equal(history.find(first + 599), undefined);
});

test("knows where the newest key frame starts while the history holds it", () => {
  const lane = packetLane();
  assert.equal(lane.keyFrameStart, undefined);
  lane.write([mediaPacket(7, { key: true }), mediaPacket(8)]);
  lane.write([mediaPacket(9)]);
  assert.equal(lane.keyFrameStart, 7);
  assert.equal(lane.nextSequenceNumber("video"), 10);
  assert.equal(lane.nextSequenceNumber("audio"), 0);
  for (let i = 10; i < 7 + 16_385; i++) lane.write([mediaPacket(i)]);
  assert.equal(lane.keyFrameStart, undefined);
});

test("asks for a key frame once when many viewers do", () => {
  let now = 0;
  const asked: string[] = [];
  const lane = packetLane({ now: () => now, asked });
  lane.requestKeyFrame("first");
  lane.requestKeyFrame("second");
  now = 499;
  lane.requestKeyFrame("third");
  now = 500;
  lane.requestKeyFrame("fourth");
  assert.deepEqual(asked, ["first", "fourth"]);
});

test("puts both tracks on one clock", () => {
  const lane = packetLane();
  lane.setTrack({ kind: "video", codec: "h264", clockRate: 90_000, formatParameters: "" });
  lane.setTrack({ kind: "audio", codec: "opus", clockRate: 48_000, channels: 2, formatParameters: "" });
  assert.equal(lane.wallTimeOf("video", 90_000), 6000);
  assert.equal(lane.wallTimeOf("audio", 48_000), 6000);
  assert.equal(lane.timestampAt("video", 6000), 90_000);
  assert.equal(lane.timestampAt("audio", 5020), 960);
});

test("tells its viewers once when it closes", () => {
  const lane = packetLane();
  const sink = new Collector<PacketBatch>();
  lane.add(sink);
  lane.close("over");
  lane.write([mediaPacket(1)]);
  assert.equal(sink.closed, "over");
  assert.equal(sink.items.length, 0);
});

test("closes viewers that were promised another codec, and only those of a real change", () => {
  const lane = packetLane();
  const sink = new Collector<PacketBatch>();
  const h264 = { kind: "video", codec: "h264", clockRate: 90_000, formatParameters: "" } as const;
  lane.setTrack(h264);
  lane.add(sink);
  lane.setTrack({ ...h264, formatParameters: "profile-level-id=640028" });
  assert.equal(sink.closed, undefined);
  lane.setTrack({ ...h264, codec: "vp8" });
  assert.equal(sink.closed, "the stream's video is vp8 now, it was h264");
  assert.equal(lane.viewerCount, 0);
});

test("follows the clock of a publisher of packets", () => {
  const lane = packetLane();
  lane.setTimeReference("video", { timestamp: 4_500_000, wallTime: 7000 });
  assert.equal(lane.wallTimeOf("video", 4_590_000), 8000);
  assert.equal(lane.timestampAt("video", 6000), 4_410_000);
});

test("forgets the group before the newest key frame after a while, not at once", () => {
  let now = 0;
  const lane = packetLane({ now: () => now, asked: [] });
  for (let i = 0; i < 1_000; i++) {
    lane.write([mediaPacket(i, { key: i % 100 === 0 })]);
    now += 40;
  }
  assert.equal(lane.keyFrameStart, 900);
  assert.ok(lane.find("video", 900) !== undefined);
  assert.ok(lane.find("video", 899) === undefined, "its key frame came 4 s ago");
  now += 1;
  lane.write([mediaPacket(1_000, { key: true })]);
  now += 2_900;
  lane.write([mediaPacket(1_001)]);
  assert.ok(lane.find("video", 950) !== undefined, "may still be asked for");
  now += 200;
  lane.write([mediaPacket(1_002)]);
  assert.equal(lane.find("video", 999), undefined);
  assert.equal(lane.keyFrameStart, 1_000);
});

for (const answers of [true, false]) {
  const source = answers ? "has made a key frame on request" : "may make key frames on request";
  test(`of a long group by a source that ${source} only what may be asked for again is kept`, () => {
    let now = 0;
    const asked: string[] = [];
    const lane = packetLane({ now: () => now, keyFrames: "on-request", asked });
    const kept = (): number => {
      const next = lane.nextSequenceNumber("video");
      let number = next;
      while (number > 0 && lane.find("video", number - 1) !== undefined) number--;
      return next - number;
    };
    const run = (seconds: number): void => {
      for (const end = now + seconds * 1000; now < end; now += 40) lane.write([mediaPacket(lane.nextSequenceNumber("video"))]);
    };
    lane.write([mediaPacket(0, { key: true })]);
    run(2.5);
    assert.deepEqual(asked, ["to see whether the publisher answers"], "once");
    now += answers ? 0 : 1000;
    lane.write([mediaPacket(lane.nextSequenceNumber("video"), { key: true })]);
    const start = lane.nextSequenceNumber("video") - 1;
    run(answers ? 1.9 : 19.9);
    assert.equal(lane.keyFrameStart, start, "it may still be what a viewer starts with");
    run(10);
    assert.equal(lane.keyFrameStart, undefined);
    for (let second = 0; second < 20; second++) {
      assert.ok(kept() >= 75 && kept() <= 102, `${kept()} packets, 25 a second`);
      run(1);
    }
    assert.equal(lane.keyFrameHead?.sequenceNumber, start, "what the pictures are like is still known");
    lane.write([mediaPacket(lane.nextSequenceNumber("video"), { key: true })]);
    run(4);
    assert.ok(lane.keyFrameStart !== undefined && lane.keyFrameStart > start);
    lane.reset();
    assert.equal(lane.keyFrameHead, undefined);
  });
}

test("forgets what a publisher announced when the next one begins, but not what viewers were promised", () => {
  const lane = packetLane();
  const sink = new Collector<PacketBatch>();
  lane.setTrack({ kind: "video", codec: "h264", clockRate: 90_000, formatParameters: "" });
  lane.setTimeReference("video", { timestamp: 90_000, wallTime: 5000 });
  lane.add(sink);
  lane.restart();
  assert.equal(lane.track("video"), undefined);
  assert.equal(lane.timestampAt("video", 6000), 90_000);
  lane.setTrack({ kind: "video", codec: "vp8", clockRate: 90_000, formatParameters: "" });
  assert.match(sink.closed ?? "", /vp8 now, it was h264/);
});
