// Publishers at the RTC server: admission, forwarding to viewers, key frames, takeover, ICE restarts, and the end.

import assert from "node:assert/strict";
import { test } from "node:test";

import { shownId } from "../../gateway/hub/names.js";
import { Refusal } from "../../gateway/media/errors.js";
import { FAKE_CLOSE_NOTIFY } from "../support/rtc-fakes.js";
import type { PeerTrack } from "../support/rtc-peer.js";
import { RtcWorld, WHIP_OFFER, type WorldPeer } from "../support/rtc-world.js";

async function open(options: ConstructorParameters<typeof RtcWorld>[0] = {}): Promise<RtcWorld> {
  const world = new RtcWorld({ grace: 10_000, takeover: "stale", ...options });
  await world.start();
  return world;
}

function videoOf(peer: WorldPeer): PeerTrack {
  assert.ok(peer.video !== undefined);
  return peer.video;
}

/** Numbers of the pictures a viewer got whole, in order. */
function picturesOf(peer: WorldPeer): number[] {
  return videoOf(peer)
    .inOrder.filter(({ payload }) => (payload.readUInt8(0) & 0x1f) === 28 && (payload.readUInt8(1) & 0x80) !== 0)
    .map(({ payload }) => payload.readUInt32BE(3));
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const consecutive = (numbers: readonly number[]): boolean =>
  numbers.every((number, index) => index === 0 || number === (numbers[index - 1] ?? 0) + 1);

test("what a publisher sends a viewer gets: every packet, key frame first, under the viewer's own numbers", async () => {
  const world = await open();
  const { source } = await world.publishBy();
  source.run(1000);
  const viewer = await world.join();
  viewer.start();
  source.run(3000);
  const video = videoOf(viewer);
  assert.deepEqual(video.missing, []);
  const pictures = picturesOf(viewer);
  assert.ok(consecutive(pictures), pictures.join(" "));
  assert.ok(pictures.length >= 70, `${pictures.length} pictures`);
  assert.equal((video.inOrder[0]?.payload.readUInt8(0) ?? 0) & 0x1f, 24, "parameter sets first");
  assert.ok(viewer.audio !== undefined && viewer.audio.packets.size >= 140 && viewer.audio.missing.length === 0);
  assert.ok(video.ssrc !== 0x2222 && video.reports.length > 0);
});

test("a viewer that comes late waits for a fresh key frame instead of getting a minute of pictures", async () => {
  const world = await open();
  const { source } = await world.publishBy();
  source.run(20_000);
  const plis = source.plis;
  const viewer = await world.join();
  viewer.start();
  const joined = world.clock.now();
  source.run(1000);
  assert.equal(source.plis, plis + 1);
  const first = videoOf(viewer).inOrder[0];
  assert.ok(first !== undefined && first.at - joined < 200, "within 200 ms");
  assert.ok(picturesOf(viewer).length < 30);
  assert.ok(consecutive(picturesOf(viewer)));
});

test("a publisher that makes no key frame when asked: the viewer gets the group after a second", async () => {
  const world = await open();
  const deaf = await world.publishBy();
  const { source } = deaf;
  source.receive = () => {}; // hears no PLI
  source.run(4000);
  const viewer = await world.join();
  viewer.start();
  source.run(3000);
  const pictures = picturesOf(viewer);
  assert.equal(pictures[0], 0);
  assert.ok(consecutive(pictures) && pictures.length > 150, `${pictures.length} pictures`);
});

test("the requests of many viewers are one", async () => {
  const world = await open();
  const { source } = await world.publishBy();
  source.run(3000);
  const viewers = await Promise.all(Array.from({ length: 20 }, () => world.join()));
  for (const viewer of viewers) viewer.start();
  source.run(2000);
  const before = source.plis;
  for (const viewer of viewers) viewer.pictureLoss();
  source.run(1000);
  assert.equal(source.plis, before + 1);
});

test("sender reports tell viewers what they told us: sound and picture of one moment stay together", async () => {
  const world = await open();
  const { source } = await world.publishBy({ videoDelay: 120 });
  const viewer = await world.join();
  viewer.start();
  source.run(5000);
  const { video, audio } = viewer;
  assert.ok(video?.report && audio?.report);
  const capture = (track: PeerTrack, rate: number): number => {
    const packet = track.inOrder.at(-1);
    assert.ok(packet !== undefined && track.report !== undefined);
    return track.report.wallTime + ((packet.timestamp - track.report.rtpTimestamp) | 0) / rate;
  };
  const difference = capture(audio, 48) - capture(video, 90);
  assert.ok(Math.abs(difference - 120) < 25, `${difference} ms`);
});

test("publisher and viewer behind 5 % loss: nearly every picture comes whole", async () => {
  const world = await open();
  const { source } = await world.publishBy({ faults: { loss: 0.05, delay: 20, jitter: 4 } });
  const viewer = await world.join({ faults: { loss: 0.05, delay: 20, jitter: 4 } });
  viewer.start();
  source.run(20_000);
  world.clock.advance(1000);
  const track = videoOf(viewer);
  const pictures = picturesOf(viewer);
  assert.ok(pictures.length >= 0.98 * 495, `${pictures.length} of 500`);
  assert.ok(track.missing.length < 10, `${track.missing.length} packets missing`);
});

test("a second publisher is refused while the first one sends, with who that is", async () => {
  const world = await open();
  const { source } = await world.publishBy();
  source.run(3000);
  const refused = world.publishBy({ offer: { address: "198.51.100.77" } }).then(
    () => undefined,
    (error: unknown) => error,
  );
  await turn(); // it has asked the hub by now
  source.run(1500);
  const error = await refused;
  assert.ok(error instanceof Refusal && error.code === "busy");
  assert.match(error.message, /198\.51\.100\.1/);
  source.run(200);
  assert.equal(world.rtc.sessionCount, 1);
});

for (const [what, silence] of [
  ["that has been silent for 2 s is replaced at once", 2_100],
  ["that was there a moment ago is replaced within a second", 100],
] as const) {
  test(`a publisher ${what}; viewers go on`, async () => {
    const world = await open();
    const first = await world.publishBy();
    const viewer = await world.join();
    viewer.start();
    first.source.run(2000);
    const [before] = [videoOf(viewer).inOrder.at(-1)];
    first.peer.stop();
    world.clock.advance(silence);
    const came = world.clock.now();
    const coming = world.publishBy({ ssrcs: { audio: 5, video: 6, rtx: 7 }, sequenceNumber: 99, timestamp: 5 });
    for (let i = 0; i < 10; i++) {
      await turn();
      world.clock.advance(100);
    }
    const second = await coming;
    assert.ok(world.clock.now() - came <= 1_300);
    second.source.run(2000);
    const track = videoOf(viewer);
    assert.deepEqual(track.missing, [], "numbers go on");
    const next = track.inOrder.find((packet) => packet.sequenceNumber === (before?.sequenceNumber ?? 0) + 1);
    assert.ok(next !== undefined && before !== undefined);
    const gap = ((next.timestamp - before.timestamp) | 0) / 90;
    assert.ok(Math.abs(gap - (next.at - before.at)) < 60, `RTP time goes on by ${gap} ms in ${next.at - before.at} ms`);
    assert.equal(world.rtc.sessionCount, 2);
    assert.equal(viewer.state, "connected");
  });
}

test("a publisher that never connects is replaced within a second, and expires", async () => {
  const world = await open({ grace: 0 });
  const { id } = await world.publishBy({ connect: false });
  world.clock.advance(50);
  let done = false;
  const second = world.publishBy({ connect: false }).then((publisher) => {
    done = true;
    return publisher;
  });
  for (let waited = 0; waited < 1000 && !done; waited += 100) {
    world.clock.advance(100);
    await turn();
  }
  assert.ok(done);
  assert.notEqual((await second).id, id);
  assert.equal(world.rtc.sessionCount, 1);
  world.clock.advance(30_000);
  assert.equal(world.rtc.sessionCount, 0);
  assert.equal([...world.hub.streams()].length, 0);
  assert.equal(world.dtls.open, 0);
});

test("no room for one more DTLS association ends that session, and nothing else", async () => {
  const world = await open();
  const { source } = await world.publishBy();
  const { create } = world.dtls;
  world.dtls.create = () => {
    throw new Error("out of memory");
  };
  const viewer = await world.join();
  viewer.start();
  source.run(200);
  assert.equal(world.rtc.session(viewer.id), undefined);
  assert.ok(world.logged.some(({ fields }) => (fields as { reason?: string }).reason === "DTLS cannot be set up: out of memory"));
  world.dtls.create = create;
  assert.equal(world.rtc.sessionCount, 1);
});

test("an offer that cannot be answered pushes nobody out", async () => {
  const world = await open({ takeover: "on" });
  const { source } = await world.publishBy();
  source.run(200);
  for (const more of [
    { sdp: WHIP_OFFER.replaceAll("a=sendonly", "a=recvonly") },
    { videoCodec: "theora" },
    { videoCodec: "h265" },
  ]) {
    await assert.rejects(world.publishBy({ offer: more }), Refusal);
  }
  assert.equal(world.rtc.sessionCount, 1);
});

test("a viewer whose browser lacks the codec is refused, and told both sides' codecs", async () => {
  const world = await open();
  await world.publishBy({ offer: { videoCodec: "vp9" } });
  assert.equal(world.hub.find(world.offer().name)?.packets.track("video")?.codec, "vp9");
  await assert.rejects(world.join({ client: "ndc" }), (error) => {
    assert.ok(error instanceof Refusal && error.code === "unsupported");
    assert.match(error.message, /vp9.*h264/s);
    return true;
  });
  await world.join({ client: "chromium156" });
});

test("ICE restart: media goes on, the new user name works, the old one until then, and both are forgotten at the end", async () => {
  const world = await open();
  const { id, source, peer } = await world.publishBy();
  const viewer = await world.join();
  viewer.start();
  source.run(500);
  assert.throws(() => world.rtc.updateIce(id, "a=ice-ufrag:newufrag\r\n", "restart"), Refusal);
  assert.equal(world.rtc.iceGeneration(id), 0);
  const password = "abcdefghijklmnopqrstuvwx";
  const answer = world.rtc.updateIce(id, `a=ice-ufrag:newufrag\r\na=ice-pwd:${password}\r\n`, "restart");
  assert.ok(answer !== undefined);
  assert.equal(world.rtc.iceGeneration(id), 1);
  const again = world.rtc.updateIce(id, `a=ice-ufrag:newufrag\r\na=ice-pwd:${password}\r\n`, "restart");
  assert.equal(again, answer, "a repeated request is answered the same way");
  peer.check(); // by the old credentials
  source.run(500);
  assert.equal(world.rtc.session(id)?.ice.localFragments.length, 2);

  const restarted = world.peerFor(answer, "newufrag");
  restarted.check();
  source.run(500);
  const session = world.rtc.session(id);
  assert.equal(session?.ice.localFragments.length, 1, "the new credentials are in use");
  assert.equal(session?.state, "connected");
  assert.deepEqual(videoOf(viewer).missing, []);
  assert.equal(world.rtc.updateIce(id, "a=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n", "candidates"), undefined);
  assert.ok(world.rtc.closeSession(id, "test"));
  assert.equal(world.rtc.iceGeneration(id), undefined);
});

test("a publisher's address changes: media goes on from the new one", async () => {
  const world = await open();
  const publisher = await world.publishBy();
  const viewer = await world.join();
  viewer.start();
  publisher.source.run(1000);
  publisher.move();
  publisher.peer.check(); // with USE-CANDIDATE, as a browser does on another network
  publisher.source.run(2000);
  assert.deepEqual(videoOf(viewer).missing, []);
  const statistics = world.rtc.session(publisher.id)?.statistics();
  assert.equal(statistics?.["state"], "connected");
});

test("the end of a publisher: DELETE, a goodbye of DTLS, silence of 30 s; the viewers' wait is the hub's affair", async () => {
  for (const how of ["delete", "notify", "silence"] as const) {
    const world = await open({ grace: 1000 });
    const { id, source, peer, up } = await world.publishBy();
    const viewer = await world.join();
    viewer.start();
    source.run(500);
    if (how === "delete") world.rtc.closeSession(id, "deleted by the client");
    else if (how === "notify") up.send(FAKE_CLOSE_NOTIFY);
    else {
      peer.stop();
      source.receive = () => {};
    }
    world.clock.advance(how === "silence" ? 30_300 : 50);
    assert.equal(world.rtc.session(id), undefined, how);
    if (how === "delete") assert.equal(peer.state, "closed", "it was told");
    world.clock.advance(1000);
    assert.equal(viewer.state, "closed");
    assert.equal(world.rtc.sessionCount, 0);
    const left = world.logged.filter(({ message }) => message === "webrtc publish ended");
    assert.equal(left.length, 1);
    const fields = left[0]?.fields as { session: string; stream: string; peer: string; reason: string };
    assert.deepEqual([fields.session, fields.stream, fields.peer], [shownId(id), "live/livestream", "198.51.100.1"]);
  }
});
