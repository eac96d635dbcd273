import assert from "node:assert/strict";
import { test } from "node:test";

import { type HubVhost, LiveHub } from "../../gateway/hub/hub.js";
import type { Converter, HubEvent, PacketBatch, Publication, Stream } from "../../gateway/hub/types.js";
import { Refusal } from "../../gateway/media/errors.js";
import type { Frame } from "../../gateway/media/frame.js";
import { FakeClock } from "../support/fake-clock.js";
import { Collector, mediaPacket, peer, RecordingSource, videoConfig, videoFrame } from "../support/frames.js";

const NAME = { vhost: "__defaultVhost__", app: "live", stream: "livestream" };

class RecordingConverter implements Converter {
  readonly calls: string[] = [];
  reason: string | undefined;

  start(): void {
    this.calls.push("start");
  }

  stop(): void {
    this.calls.push("stop");
  }

  requestKeyFrame(reason: string): void {
    this.calls.push(`key frame: ${reason}`);
  }

  refusal(): string | undefined {
    return this.reason;
  }

  close(): void {
    this.calls.push("close");
  }
}

function set(vhost: Partial<HubVhost> = {}) {
  const clock = new FakeClock();
  const events: HubEvent[] = [];
  const converter = new RecordingConverter();
  const hub = new LiveHub({
    clock,
    vhost: () => ({ name: "__defaultVhost__", gopCacheFrames: 100, grace: 5000, takeover: "stale", ...vhost }),
    converter: (_stream: Stream, lane) => (lane === "frames" ? converter : undefined),
    onEvent: (event) => events.push(event),
  });
  const source = new RecordingSource();
  const publish = (address?: string, by = source): Promise<Publication> =>
    hub.publish({ name: NAME, peer: peer(address), source: by, lane: "frames" });
  const play = (lane: "frames" | "packets" = "packets", mayWait = false) =>
    hub.play({ name: NAME, peer: peer("192.0.2.9", "rtc"), lane, mayWait });
  const types = (): string[] => events.map((event) => event.type);
  return { clock, hub, converter, source, publish, play, types };
}

function refused(code: string, text: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof Refusal && error.code === code && text.test(error.message);
}

/** Lets the microtasks of pending promises run. */
async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

test("refuses a viewer of a stream that nobody publishes, and leaves nothing behind", async () => {
  const { hub, play } = set();
  await assert.rejects(play(), refused("not-live", /live\/livestream/));
  assert.equal([...hub.streams()].length, 0);
});

test("starts the converter for the first viewer and stops it a while after the last", async () => {
  const { clock, publish, play, converter } = set();
  await publish();
  const { stream } = await play();
  assert.deepEqual(converter.calls, []);
  const [a, b] = [new Collector<PacketBatch>(), new Collector<PacketBatch>()];
  stream.packets.add(a);
  stream.packets.add(b);
  assert.deepEqual(converter.calls, ["start"]);
  stream.packets.remove(a);
  stream.packets.remove(b);
  clock.advance(3000);
  stream.packets.add(a); // the page was reloaded
  clock.advance(60_000);
  assert.deepEqual(converter.calls, ["start"]);
  stream.packets.remove(a);
  clock.advance(5000);
  assert.deepEqual(converter.calls, ["start", "stop"]);
  assert.equal(clock.pending, 0);
});

test("does not start the converter for viewers of the publisher's own lane", async () => {
  const { publish, play, converter } = set();
  await publish();
  const { stream } = await play("frames");
  stream.frames.add(new Collector<Frame>());
  assert.deepEqual(converter.calls, []);
});

test("refuses with the converter's reason what cannot be bridged", async () => {
  const { publish, play, converter } = set();
  await publish();
  converter.reason = "hevc is not bridged";
  await assert.rejects(play(), refused("unsupported", /hevc/));
});

test("keeps viewers through the grace time and goes on with later times", async () => {
  const { clock, hub, publish, play, types } = set();
  const first = await publish();
  const { stream } = await play("frames");
  const sink = new Collector<Frame>();
  stream.frames.add(sink);
  first.writeFrame(videoFrame(0, { isKey: true }));
  first.writeFrame(videoFrame(40_000));
  first.end("connection lost");
  first.writeFrame(videoFrame(80_000)); // too late: ignored
  clock.advance(3000);
  assert.equal(stream.state, "grace");
  const second = await publish();
  second.writeFrame(videoFrame(0, { isKey: true }));
  assert.equal(sink.items.length, 3);
  const [, before, after] = sink.items.map((frame) => frame.dts);
  assert.ok(before !== undefined && after !== undefined && after >= before + 2_900_000);
  assert.equal(hub.find(NAME), stream);
  second.end("done");
  clock.advance(5000);
  assert.equal(sink.closed, "the publisher left and did not come back");
  assert.equal(hub.find(NAME), undefined);
  assert.equal(clock.pending, 0);
  assert.deepEqual(types(), ["publish", "play", "unpublish", "publish", "unpublish", "end"]);
});

test("begins a new publisher without the pictures and configuration of the old one", async () => {
  const { publish } = set();
  const first = await publish();
  first.writeFrame(videoConfig("old"));
  first.writeFrame(videoFrame(0, { isKey: true }));
  first.end("done");
  const second = await publish();
  assert.equal(second.stream.frames.videoConfig, undefined);
  assert.deepEqual(second.stream.frames.backlog, []);
});

test("refuses a second publisher while the first one sends", async () => {
  const { clock, publish, source } = set();
  const first = await publish();
  first.writeFrame(videoFrame(0));
  const second = publish("198.51.100.7");
  await settle();
  first.writeFrame(videoFrame(40_000));
  clock.advance(900);
  await assert.rejects(second, refused("busy", /rtmp from 192\.0\.2\.1/));
  assert.equal(source.closed, undefined);
});

test("gives the stream to a newcomer within a second when the old publisher has fallen silent", async () => {
  const { clock, publish, source, types } = set();
  const first = await publish();
  first.writeFrame(videoFrame(0));
  clock.advance(100);
  const second = publish("198.51.100.7", new RecordingSource());
  await settle();
  clock.advance(900);
  const publication = await second;
  assert.match(source.closed ?? "", /replaced/);
  assert.equal(publication.stream.publisher?.address, "198.51.100.7");
  first.end("its socket closed at last"); // must not end the new one
  assert.equal(publication.stream.state, "live");
  assert.deepEqual(types(), ["publish", "unpublish", "publish"]);
});

test("replaces at once what has been silent for two seconds", async () => {
  const { clock, publish } = set();
  const first = await publish();
  first.writeFrame(videoFrame(0));
  clock.advance(2000);
  const second = await publish("198.51.100.7", new RecordingSource());
  assert.equal(second.stream.publisher?.address, "198.51.100.7");
});

test("takeover off refuses, takeover on replaces a live publisher", async () => {
  const off = set({ takeover: "off" });
  await off.publish();
  off.clock.advance(60_000);
  await assert.rejects(off.publish(), refused("busy", /already/));

  const on = set({ takeover: "on" });
  const first = await on.publish();
  first.writeFrame(videoFrame(0));
  await on.publish("198.51.100.7", new RecordingSource());
  assert.match(on.source.closed ?? "", /replaced/);
});

test("lets a viewer that may wait see the publisher come", async () => {
  const { publish, play, converter, hub } = set();
  const viewer = await play("packets", true);
  const sink = new Collector<PacketBatch>();
  viewer.stream.packets.add(sink);
  assert.deepEqual(converter.calls, []);
  const publication = await publish();
  assert.equal(publication.stream, viewer.stream);
  assert.deepEqual(converter.calls, ["start"]);
  assert.equal([...hub.clients()].length, 2);
});

test("forgets a stream that was only waited for", async () => {
  const { hub, play, types } = set();
  const viewer = await play("packets", true);
  viewer.end("closed the page");
  viewer.end("again");
  assert.equal([...hub.streams()].length, 0);
  assert.deepEqual(types(), ["play", "stop", "end"]);
});

test("closes publishers and viewers when the gateway ends, and lets nobody in", async () => {
  const { hub, clock, publish, play, source, converter } = set();
  await publish();
  const { stream } = await play();
  const sink = new Collector<PacketBatch>();
  stream.packets.add(sink);
  hub.close("shutdown");
  assert.equal(source.closed, "shutdown");
  assert.equal(sink.closed, "shutdown");
  assert.deepEqual(converter.calls, ["start", "close"]);
  assert.equal(clock.pending, 0);
  await assert.rejects(publish(), refused("overloaded", /shutting down/));
});

test("asks a publisher of packets for key frames, and the converter for one of frames", async () => {
  const { hub, converter, publish } = set();
  const frames = await publish();
  frames.stream.packets.requestKeyFrame("a viewer came");
  assert.deepEqual(converter.calls, ["key frame: a viewer came"]);
  const source = new RecordingSource();
  const packets = await hub.publish({ name: { ...NAME, stream: "two" }, peer: peer(), source, lane: "packets" });
  packets.stream.packets.requestKeyFrame("a viewer came");
  assert.deepEqual(source.keyFrameRequests, ["a viewer came"]);
});

test("takes names of vhosts that are not configured for the default one", async () => {
  const { hub, publish } = set();
  const { stream } = await publish();
  assert.equal(hub.find({ ...NAME, vhost: "example.org" }), stream);
  await hub.play({ name: { ...NAME, vhost: "example.org" }, peer: peer(), lane: "frames" });
  assert.equal([...hub.streams()].length, 1);
});

test("counts a publisher of packets as alive by its packets", async () => {
  const { hub, clock } = set({ takeover: "stale" });
  const publish = (): Promise<Publication> =>
    hub.publish({ name: NAME, peer: peer("192.0.2.3", "rtc"), source: new RecordingSource(), lane: "packets" });
  const publication = await publish();
  clock.advance(1900);
  publication.writePackets([mediaPacket(0)]);
  const second = publish();
  await settle();
  clock.advance(500);
  publication.writePackets([mediaPacket(1)]);
  clock.advance(400);
  await assert.rejects(second, refused("busy", /rtc/));
  assert.deepEqual(publication.stream.received, { units: 2, bytes: 20 });
});

test("holds streams within its bound", async () => {
  const clock = new FakeClock();
  const hub = new LiveHub({
    clock,
    maxStreams: 1,
    vhost: () => ({ name: "__defaultVhost__", gopCacheFrames: 0, grace: 0, takeover: "off" }),
  });
  const publish = (stream: string): Promise<Publication> =>
    hub.publish({ name: { ...NAME, stream }, peer: peer(), source: new RecordingSource(), lane: "frames" });
  const first = await publish("a");
  await assert.rejects(publish("b"), refused("overloaded", /1 streams/));
  first.end("done");
  await publish("b");
});
