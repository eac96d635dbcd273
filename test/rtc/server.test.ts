import assert from "node:assert/strict";
import { test } from "node:test";

import { parseConfig } from "../../gateway/config/read.js";
import { Refusal } from "../../gateway/media/errors.js";
import { PacketSource, pictureOf } from "../support/packet-source.js";
import { FAKE_WRONG_CERTIFICATE } from "../support/rtc-fakes.js";
import type { PeerTrack, ReceivedPacket } from "../support/rtc-peer.js";
import { NAME, RtcWorld, type WorldPeer } from "../support/rtc-world.js";

const TICKS = 90; // per ms

async function world(options: { group?: number; history?: number; discardableEvery?: number; keyPackets?: number } = {}) {
  const rtc = new RtcWorld();
  await rtc.start();
  const publication = await rtc.publish();
  const { stream } = publication;
  const source = new PacketSource(stream.packets, rtc.clock.wallTime(), {
    group: options.group ?? 250,
    discardableEvery: options.discardableEvery ?? 0,
    keyPackets: options.keyPackets ?? 10,
  });
  rtc.run((options.history ?? 100) * 40, 40, () => source.next());
  return { rtc, publication, source, lane: stream.packets, play: (ms: number) => rtc.run(ms, 40, () => source.next()) };
}

function videoOf(peer: WorldPeer): PeerTrack {
  assert.ok(peer.video !== undefined);
  return peer.video;
}

/** What every viewer must have: no gap, a key frame first, whole pictures, times that only grow. */
function checkVideo(track: PeerTrack): number[] {
  assert.deepEqual(track.missing, []);
  const packets = track.inOrder;
  const pictures: number[] = [];
  let last: (typeof packets)[number] | undefined;
  for (const packet of packets) {
    const picture = pictureOf(packet.payload);
    if (last !== undefined) {
      const step = (packet.timestamp - last.timestamp) | 0;
      if (last.marker) {
        assert.ok(step > 0, `picture ${picture} is later than the one before`);
        assert.notEqual(picture, pictureOf(last.payload));
      } else {
        assert.equal(step, 0, "one time per picture");
        assert.equal(picture, pictureOf(last.payload), "no picture is broken off");
      }
    }
    if (last === undefined || last.marker) pictures.push(picture);
    last = packet;
  }
  return pictures;
}

test("a session that fails keeps back nothing of what the other sessions of its turn have to do", async () => {
  const { rtc, play } = await world();
  const peers = [await rtc.join(), await rtc.join()];
  for (const peer of peers) peer.start();
  play(500);
  const [first, second] = peers.map(({ id }) => rtc.rtc.session(id));
  assert.ok(first !== undefined && second !== undefined);
  second.receive = () => {
    throw new Error("broken");
  };
  const from = (port: number) => ({ socket: 0, address: "198.51.100.1", port });
  rtc.receive(Buffer.alloc(40, 0x90), from(20_000), true);
  assert.equal(first.isTouched, true, "its work waits for the end of the turn");
  assert.throws(() => rtc.receive(Buffer.alloc(40, 0x90), from(20_001)), /broken/);
  assert.equal(first.isTouched, false);
});

test("a viewer joining a group begins with its key frame and ends live, over a clean link", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  peer.start();
  play(2_000);
  const track = videoOf(peer);
  const pictures = checkVideo(track);
  assert.equal(pictures[0], 0);
  assert.deepEqual(
    pictures,
    Array.from({ length: pictures.length }, (_, index) => index),
  );
  assert.ok(pictures.length >= 148);
  const first = track.inOrder[0];
  assert.ok(first !== undefined && first.at - peer.connectedAt <= 0.001, "the key frame comes with the end of the handshake");
});

test("the group's pictures are squeezed to right before the live one, and live pictures keep their true times", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  peer.start();
  play(2_000);
  const firsts = videoOf(peer).inOrder.filter((_, index, all) => index === 0 || all[index - 1]?.marker);
  const live = firsts.at(-1);
  const first = firsts[0];
  assert.ok(live !== undefined && first !== undefined);
  const lag = (packet: typeof first): number => packet.at - (packet.timestamp - live.timestamp) / TICKS - live.at;
  // Delay of each picture against a live one: after the burst it must be none.
  const burst = firsts.filter((packet) => packet.at - peer.connectedAt < 300);
  assert.ok(burst.length >= 100, "the burst takes less than 300 ms");
  assert.ok(Math.abs(lag(first)) < 60, `the key frame's time is that of a live picture (${lag(first)} ms off)`);
  for (const packet of firsts.slice(burst.length)) assert.ok(Math.abs(lag(packet)) < 1, "no delay is left");
});

test("pictures that nothing refers to are left out of the burst, and of the burst only", async () => {
  const { rtc, play } = await world({ discardableEvery: 2 });
  const peer = await rtc.join();
  peer.start();
  play(1_000);
  const pictures = checkVideo(videoOf(peer));
  assert.deepEqual(
    pictures.slice(0, 40),
    Array.from({ length: 40 }, (_, index) => (index === 0 ? 0 : 2 * index - 1)),
  );
  const tail = pictures.slice(-15);
  assert.deepEqual(
    tail,
    tail.map((_, index) => (tail[0] ?? 0) + index),
  );
});

for (const [client, seed] of [
  ["chromium156", 1],
  ["chromium156", 2],
  ["ndc", 3],
  ["firefox153", 4],
] as const) {
  test(`NACK repairs 10 % loss, in the burst too (${client}, seed ${seed})`, async () => {
    const { rtc, play } = await world();
    const peer = await rtc.join({ client, seed, faults: { loss: 0.1, delay: 15, jitter: 10, duplication: 0.01 } });
    peer.start();
    play(4_000);
    peer.down.faults = { delay: 15 };
    peer.up.faults = { delay: 15 };
    play(1_000);
    const track = videoOf(peer);
    const early = track.inOrder.filter((packet) => packet.at - peer.connectedAt < 1_000);
    assert.ok(early.length > 200, "the burst came");
    const pictures = checkVideo(track);
    assert.equal(pictures.at(-1), pictures.length - 1 + (pictures[0] ?? 0), "every picture");
    assert.equal(pictures[0], 0);
    const [session] = [...rtc.rtc.sessions()];
    const statistics = session?.statistics() as { resent: number; rtt_ms: number; nacks: number };
    assert.ok(statistics.resent > 20);
    assert.ok(statistics.rtt_ms > 25 && statistics.rtt_ms < 60, `round trip ${statistics.rtt_ms}`);
  });
}

test("a packet is sent again once per round trip, whatever is asked", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join({ nacks: false, client: "ndc" });
  peer.start();
  play(3_000);
  const track = videoOf(peer);
  const number = track.highest - 3;
  const before = peer.duplicates;
  for (let count = 0; count < 5; count++) peer.nack(track, [number]);
  rtc.clock.advance(5);
  rtc.clock.advance(40);
  assert.equal(peer.duplicates, before + 1);
  rtc.clock.advance(60);
  peer.nack(track, [number]);
  rtc.clock.advance(60);
  assert.equal(peer.duplicates, before + 2);
});

test("a retransmission in the same SSRC is the same packet byte for byte", async () => {
  const { rtc, play } = await world();
  const seen = new Map<number, string>();
  const peer = await rtc.join({ nacks: false, client: "ndc" });
  const receive = peer.receive.bind(peer);
  let compared = 0;
  peer.receive = (datagram) => {
    if ((datagram[0] ?? 0) >= 128 && ((datagram[1] ?? 0) & 0x7f) === 102) {
      const number = datagram.readUInt16BE(2);
      const text = datagram.toString("hex");
      const known = seen.get(number);
      if (known !== undefined) {
        assert.equal(text, known);
        compared++;
      }
      seen.set(number, text);
    }
    receive(datagram);
  };
  peer.start();
  play(500);
  const numbers = [...videoOf(peer).packets.keys()].sort((a, b) => a - b);
  peer.nack(videoOf(peer), numbers);
  play(2_500);
  peer.nack(videoOf(peer), numbers);
  play(200);
  assert.ok(compared > 300, `${compared} packets were compared`);
});

test("without a key frame in the history one is asked for, and nothing is sent from the middle of a group", async () => {
  const rtc = new RtcWorld();
  await rtc.start();
  const { stream } = await rtc.publish();
  const peer = await rtc.join();
  peer.start();
  rtc.clock.advance(200);
  assert.equal(peer.state, "connected");
  const source = new PacketSource(stream.packets, rtc.clock.wallTime(), { group: 30, firstPicture: 10 });
  rtc.run(400, 40, () => source.next());
  assert.equal(videoOf(peer).packets.size, 0);
  assert.ok((peer.audio?.packets.size ?? 0) > 15, "sound does not wait");
  rtc.clock.advance(2_500);
  assert.ok(rtc.source.keyFrameRequests.length >= 2, "asked again and again");
  rtc.run(800, 40, () => source.next());
  rtc.clock.advance(50);
  const pictures = checkVideo(videoOf(peer));
  assert.equal(pictures[0], 30);
  assert.equal(pictures.length, 10);
});

test("a viewer that lost the picture gets the group again when the source cannot make a key frame", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  peer.start();
  play(2_000);
  const seen = videoOf(peer).packets.size;
  peer.pictureLoss();
  peer.pictureLoss();
  play(1_500);
  assert.ok(videoOf(peer).packets.size > seen + 300, "the burst came again");
  const track = videoOf(peer);
  assert.deepEqual(track.missing, []);
  let last = -1;
  for (const packet of track.inOrder) {
    if (last >= 0) assert.ok(((packet.timestamp - last) | 0) >= 0, "time goes on");
    last = packet.timestamp;
  }
  const count = track.packets.size;
  for (let again = 0; again < 20; again++) {
    peer.pictureLoss();
    play(80);
  }
  assert.ok(track.packets.size < count + 600, "but not as often as it is asked for");
});

test("sender reports give both tracks one clock", async () => {
  const { rtc, play, lane } = await world();
  const peer = await rtc.join();
  peer.start();
  play(3_000);
  for (const track of [peer.video, peer.audio]) {
    assert.ok(track !== undefined && track.reports.length >= 3);
    const kind = track === peer.video ? "video" : "audio";
    const rate = kind === "video" ? 90_000 : 48_000;
    const packet = track.inOrder.at(-1);
    const report = track.reports.at(-1);
    assert.ok(packet !== undefined && report !== undefined);
    const wallTime = report.wallTime + (((packet.timestamp - report.rtpTimestamp) | 0) * 1000) / rate;
    const next = lane.nextSequenceNumber(kind);
    const original = lane.find(kind, next - 1);
    assert.ok(original !== undefined);
    assert.ok(Math.abs(wallTime - lane.wallTimeOf(kind, original.timestamp)) < 0.05, `${kind} is off`);
    assert.ok(report.packetCount > 0 && report.octetCount > report.packetCount * 40);
  }
  const first = peer.video?.reports[0];
  assert.equal(first?.packetCount, 0, "the first report comes before the first packet");
});

test("an unsigned or wrongly signed check gets no answer and moves nothing", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  peer.start();
  play(500);
  let answers = 0;
  rtc.routes.set("203.0.113.9:666", () => answers++);
  const attack = { socket: 0, address: "203.0.113.9", port: 666 };
  const send = peer.up.send.bind(peer.up);
  const captured: Buffer[] = [];
  peer.up.send = (datagram) => void captured.push(Buffer.from(datagram));
  peer.check({ password: "wrongwrongwrongwrongwrong" });
  peer.up.send = send;
  const forged = captured[0];
  assert.ok(forged !== undefined);
  rtc.receive(forged, attack);
  const unsigned = Buffer.from(forged.subarray(0, forged.length - 32)); // without integrity and fingerprint
  unsigned.writeUInt16BE(unsigned.length - 20, 2);
  rtc.receive(unsigned, attack);
  for (const bytes of ["16feff", "80c8", "8060", "00", "", "0001000021 12a442".replace(" ", "")])
    rtc.receive(Buffer.from(bytes, "hex"), attack);
  const size = videoOf(peer).packets.size;
  play(500);
  assert.equal(answers, 0);
  assert.ok(videoOf(peer).packets.size > size + 20, "media still flows to the viewer");
});

test("media follows a viewer that moves, after a signed check with nomination", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  peer.start();
  play(500);
  let before = 0;
  let after = 0;
  const { address, port } = { address: "198.51.100.77", port: 4242 };
  const old = [...rtc.routes.keys()][0] ?? "";
  const deliver = rtc.routes.get(old);
  assert.ok(deliver !== undefined);
  rtc.routes.set(old, () => before++);
  rtc.routes.set(`${address}:${port}`, (datagram) => {
    after++;
    deliver(datagram);
  });
  const moved = { socket: 0, address, port };
  peer.up.send = (datagram) => rtc.receive(datagram, moved);
  peer.check({ useCandidate: false });
  play(200);
  assert.ok(before > 10 && after <= 2, "a check alone moves nothing");
  peer.check();
  before = 0;
  play(400);
  assert.equal(before, 0);
  assert.ok(after > 20);
});

test("a role conflict is answered with 487", async () => {
  const { rtc } = await world();
  const peer = await rtc.join();
  peer.check({ role: "controlled" });
  rtc.clock.advance(100);
  assert.equal(peer.errorCode, 487);
  assert.equal(peer.state, "checking");
});

test("sessions end: unanswered, silent, deleted, closed by the peer, wrong certificate, end of stream; nothing is left behind", async () => {
  const { rtc, play, publication } = await world();
  const reasons = (): string[] =>
    rtc.logged
      .filter((line) => line.message.endsWith(" ended"))
      .map((line) => String((line.fields as { reason?: string }).reason));
  await rtc.join(); // never checks
  play(31_000);
  assert.match(reasons()[0] ?? "", /no ICE check/);

  const silent = await rtc.join();
  silent.start();
  play(1_000);
  silent.stop();
  play(28_000);
  assert.equal(rtc.rtc.sessionCount, 1);
  play(4_000);
  assert.match(reasons()[1] ?? "", /nothing was heard for 3\d s/);

  const deleted = await rtc.join();
  deleted.start();
  play(500);
  assert.ok(rtc.rtc.closeSession(deleted.id, "deleted"));
  assert.ok(!rtc.rtc.closeSession(deleted.id, "deleted"));
  play(100);
  assert.equal(deleted.state, "closed", "it was told by close_notify");
  assert.equal(deleted.byes, 1);
  deleted.stop();

  const leaving = await rtc.join();
  leaving.start();
  play(500);
  leaving.closeNotify();
  play(100);
  assert.match(reasons()[3] ?? "", /the peer has closed/);
  leaving.stop();

  const forger = await rtc.join();
  forger.receive = () => {}; // does not go on with the handshake by itself
  forger.check();
  rtc.clock.advance(50);
  forger.up.send(FAKE_WRONG_CERTIFICATE);
  rtc.clock.advance(50);
  assert.match(reasons()[4] ?? "", /DTLS failed: the certificate/);
  assert.equal(videoOf(forger).packets.size, 0);

  const last = await rtc.join();
  last.start();
  play(500);
  publication.end("the publisher leaves");
  rtc.clock.advance(100);
  assert.equal(last.state, "closed");
  last.stop();
  assert.equal(rtc.rtc.sessionCount, 0);
  assert.equal([...rtc.hub.clients()].length, 0);
  assert.equal(rtc.egress.openPorts, 0);
  assert.equal(rtc.dtls.open, 0);
  await rtc.rtc.close("the test is over");
  rtc.clock.advance(100);

  assert.equal(rtc.clock.pending, 0, "no timer is left");
});

test("replayed RTCP is counted and has no effect", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join({ nacks: false, client: "ndc" });
  peer.start();
  play(1_000);
  const captured: Buffer[] = [];
  const send = peer.up.send.bind(peer.up);
  peer.up.send = (datagram) => void captured.push(Buffer.from(datagram));
  peer.nack(videoOf(peer), [videoOf(peer).highest]);
  peer.up.send = send;
  const nack = captured[0];
  assert.ok(nack !== undefined);
  peer.up.send(nack);
  play(1_000);
  const before = peer.duplicates;
  for (let count = 0; count < 10; count++) peer.up.send(nack);
  play(1_000);
  assert.equal(peer.duplicates, before);
  assert.equal(rtc.rtc.session(peer.id)?.discarded, 10);
});

test("refuses what it cannot serve, with a reason", async () => {
  const rtc = new RtcWorld({ maxSessions: 1 });
  await rtc.start();
  const refused = (promise: Promise<unknown>, code: string): Promise<void> =>
    assert.rejects(promise, (error) => error instanceof Refusal && error.code === code);
  await refused(rtc.rtc.play(rtc.offer()), "not-live");
  await rtc.publish();
  await refused(rtc.rtc.play(rtc.offer("ndc", { sdp: "v=0\r\n" })), "bad-request");
  await refused(rtc.rtc.play(rtc.offer("ndc", { iceUsernameFragment: "abcd", icePassword: "short" })), "bad-request");
  await refused(rtc.rtc.play(rtc.offer("ndc", { sdp: rtc.offer("ndc").sdp.replace("H264", "VP8") })), "unsupported");
  assert.equal(rtc.rtc.sessionCount, 0);
  assert.equal([...rtc.hub.clients()].filter((client) => client.role === "play").length, 0);
  const { sdp } = await rtc.rtc.play(rtc.offer("ndc", { iceUsernameFragment: "abcd", icePassword: "0123456789012345678901" }));
  assert.match(sdp, /a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n/);
  await refused(rtc.rtc.play(rtc.offer()), "overloaded");
  await rtc.rtc.close("over");
  await refused(rtc.rtc.play(rtc.offer()), "unavailable");
});

test("a viewer may come before the publisher where that is allowed", async () => {
  const rtc = new RtcWorld();
  await rtc.start();
  const { sdp } = await rtc.rtc.play(rtc.offer("chromium156", { mayWait: true }));
  assert.match(sdp, /H264\/90000/);
  assert.match(sdp, /opus\/48000\/2/);
  assert.equal(rtc.hub.find(NAME)?.state, "idle");
});

test("candidates: eip replaces, interfaces with loopback last, the API's host", async () => {
  const rtc = new RtcWorld();
  await rtc.start();
  await rtc.publish();
  const candidatesOf = async (more: object): Promise<string[]> => {
    const { sdp } = await rtc.rtc.play(rtc.offer("ndc", more));
    return [...sdp.slice(0, sdp.indexOf("m=audio")).matchAll(/a=candidate:\d+ 1 udp \d+ (\S+ \d+)/g)].map(
      (match) => match[1] ?? "",
    );
  };
  assert.deepEqual(await candidatesOf({}), ["192.0.2.7 8000", "127.0.0.1 8000"]);
  assert.deepEqual(await candidatesOf({ candidates: ["203.0.113.1:9000", "[2001:db8::1]:9001", "x.example"] }), [
    "203.0.113.1 9000",
    "2001:db8::1 9001",
    "x.example 8000",
  ]);
  assert.deepEqual(await candidatesOf({ apiHost: "gateway.example" }), ["192.0.2.7 8000", "127.0.0.1 8000", "192.0.2.8 8000"]);
  assert.deepEqual(await candidatesOf({ apiHost: "127.0.0.1" }), ["192.0.2.7 8000", "127.0.0.1 8000"]);
});

test("a full send queue costs packets, not the session, and the burst goes on", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  rtc.egress.isFull = true;
  peer.start();
  play(200);
  rtc.egress.isFull = false;
  play(2_000);
  const [session] = [...rtc.rtc.sessions()];
  assert.equal(session?.state, "connected");
  assert.ok((session?.statistics()["dropped"] as number) > 0);
  assert.ok(videoOf(peer).packets.size > 100);
});

test("a viewer over TCP that lags is spared pictures until it has taken what waits, then goes on with the newest group", async () => {
  const { rtc, play } = await world({ group: 50 });
  const peer = await rtc.join();
  peer.start();
  play(1_000);
  const track = videoOf(peer);
  rtc.egress.lag = 900;
  play(400);
  const before = track.packets.size;
  play(400);
  assert.ok(track.packets.size > before, "a little lag is nothing");
  rtc.egress.lag = 1_200;
  play(40);
  const stopped = track.packets.size;
  play(3_000); // a key frame in it
  assert.equal(track.packets.size, stopped);
  assert.ok((peer.audio?.packets.size ?? 0) > 200, "sound goes on");
  const [session] = [...rtc.rtc.sessions()];
  assert.equal(session?.statistics()["falls"], 1);
  rtc.egress.lag = 0;
  play(1_000);
  const pictures = checkVideo(track);
  const jump = pictures.findIndex((picture, index) => index > 0 && picture !== (pictures[index - 1] ?? 0) + 1);
  assert.ok(jump > 0);
  assert.equal((pictures[jump] ?? 1) % 50, 0, "it goes on with a key frame");
  assert.ok((pictures.at(-1) ?? 0) >= (pictures[jump] ?? 0) + 20, "and is live again");
});

test("a viewer over TCP that lags in a long group waits for the next key frame", async () => {
  const { rtc, play } = await world({ group: 150, history: 20 });
  const peer = await rtc.join();
  peer.start();
  play(1_000);
  const track = videoOf(peer);
  rtc.egress.lag = 1_200;
  play(80);
  rtc.egress.lag = 0;
  const stopped = track.packets.size;
  play(1_000);
  assert.equal(track.packets.size, stopped, "nothing refers to what it did not get");
  play(4_000);
  const pictures = checkVideo(track);
  const jump = pictures.findIndex((picture, index) => index > 0 && picture !== (pictures[index - 1] ?? 0) + 1);
  assert.equal(pictures[jump], 150);
});

test("a browser is told the lasting playout delay after the burst, and spared the mid once it has reported", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  peer.start();
  play(4_000);
  const packets = videoOf(peer).inOrder;
  const delays = packets.map((packet) => /^bede000341....9.3052([0-9a-f]{6})/.exec(packet.extension?.toString("hex") ?? "")?.[1]);
  assert.equal(delays[0], "000000");
  const lasting = delays.indexOf("000fff");
  assert.ok(lasting > 100 && delays.slice(0, lasting).every((delay) => delay === "000000"), "the burst is shown at once");
  assert.ok(delays.filter((delay) => delay === "000fff").length >= 5);
  assert.equal(delays.at(-1), undefined);
  assert.ok(
    packets
      .at(-1)
      ?.extension?.toString("hex")
      .startsWith("bede0001" + "41"),
    "the transport-wide number stays",
  );
});

test("nobody takes a live viewer's address by checks that claim to come from it", async () => {
  const { rtc, play } = await world();
  const viewer = await rtc.join({ nacks: false, client: "ndc" });
  viewer.start();
  play(1_000);
  const attacker = await rtc.join();
  const [victim] = [...rtc.routes.keys()];
  assert.ok(victim !== undefined);
  const [address = "", port = ""] = victim.split(":");
  attacker.up.send = (datagram) => rtc.receive(datagram, { socket: 0, address, port: Number(port) });
  attacker.check();
  play(100);
  const resent = (): number => rtc.rtc.session(viewer.id)?.statistics()["resent"] as number;
  viewer.nack(videoOf(viewer), [videoOf(viewer).highest]);
  play(200);
  assert.equal(resent(), 1, "its feedback still reaches its own session");
});

test("a session that has ended leaves no address behind, however many it had", async () => {
  const { rtc, play } = await world();
  const viewer = await rtc.join();
  viewer.start();
  play(500);
  const ports = Array.from({ length: 40 }, (_, index) => 30_000 + index);
  for (const port of ports) {
    viewer.up.send = (datagram) => rtc.receive(datagram, { socket: 0, address: "198.51.100.1", port });
    viewer.check({ useCandidate: false });
    play(1_000);
  }
  rtc.rtc.closeSession(viewer.id, "over");
  viewer.stop();
  const before = rtc.rtc.statistics.strayDatagrams;
  for (const port of ports) rtc.receive(Buffer.from([0x80, 200, 0, 0]), { socket: 0, address: "198.51.100.1", port });
  assert.equal(rtc.rtc.statistics.strayDatagrams, before + 40);
});

test("takes other settings of a vhost into use for the sessions to come", async () => {
  const rtc = new RtcWorld();
  await rtc.start();
  await rtc.publish();
  const { config } = parseConfig(
    "rtc_server { enabled on; candidate 203.0.113.5; } vhost __defaultVhost__ { rtc { enabled on; nack off; } }",
  );
  rtc.rtc.configure(config);
  const { sdp } = await rtc.rtc.play(rtc.offer());
  assert.ok(!/ nack\r\n/.test(sdp));
  assert.match(sdp, /203\.0\.113\.5 8000/);
});

test("the doctor follows a viewer from the offer to its first report, and remembers it", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  const before = rtc.rtc.diagnosis(peer.id);
  assert.equal(before?.verdict, "in-progress");
  assert.equal(before?.stopped_at, "stun");
  peer.start();
  play(3_000);
  const [client] = [...rtc.hub.clients()].filter(({ role }) => role === "play");
  const { doctor } = (client?.statistics() ?? {}) as { doctor: NonNullable<ReturnType<typeof rtc.rtc.diagnosis>> };
  assert.equal(doctor.verdict, "ok", JSON.stringify(doctor));
  assert.equal(doctor.stopped_at, null);
  const times = doctor.steps.map(({ ms }) => ms);
  assert.ok(
    times.every((ms, index) => ms !== null && ms >= (times[index - 1] ?? 0)),
    JSON.stringify(doctor.steps),
  );
  assert.match(doctor.steps.find(({ step }) => step === "nominated")?.detail ?? "", /^from 198\.51\.100\.1:\d+ over UDP$/);
  rtc.rtc.closeSession(peer.id, "over");
  peer.stop();
  const after = rtc.rtc.diagnosis(peer.id);
  assert.equal(after?.verdict, "ended");
  assert.equal(after?.ended, "over");
  assert.equal(rtc.rtc.diagnosis("nobody"), undefined);
});

test("a viewer that never came leaves one line that says why", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  play(31_000);
  const lines = rtc.logged.filter(({ message }) => message === "webrtc play ended");
  assert.equal(lines.length, 1);
  const { verdict, cause, reason } = (lines[0]?.fields ?? {}) as Record<"verdict" | "cause" | "reason", string>;
  assert.equal(verdict, "unreachable");
  assert.match(cause, /never heard from this client on UDP 8000 at 192\.0\.2\.7, 127\.0\.0\.1/);
  assert.match(reason, /no ICE check/);
  assert.equal(rtc.rtc.diagnosis(peer.id)?.verdict, "unreachable");
});

test("a handshake with another certificate is named as such", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  peer.check();
  peer.up.send(FAKE_WRONG_CERTIFICATE);
  play(40);
  assert.equal(rtc.rtc.diagnosis(peer.id)?.verdict, "fingerprint-mismatch");
});

test("checks with a wrong password show as such", async () => {
  const { rtc, play } = await world();
  const peer = await rtc.join();
  for (let count = 0; count < 3; count++) peer.check({ password: "wrongwrongwrongwrongwrong" });
  play(40);
  assert.equal(rtc.rtc.diagnosis(peer.id)?.verdict, "wrong-credentials");
});

test("says at the start when nobody outside can reach what will be announced", async () => {
  const notes = async (candidate: string) => {
    const { config } = parseConfig(
      `rtc_server { enabled on; candidate ${candidate}; } vhost __defaultVhost__ { rtc { enabled on; } }`,
    );
    const rtc = new RtcWorld({ config: () => config });
    await rtc.start();
    return rtc.logged.map(({ message }) => message).join("|");
  };
  assert.match(await notes("10.0.0.5"), /own network can reach.*rtc_server\.candidate/);
  assert.match(await notes("127.0.0.1"), /own machine can reach/);
  assert.match(await notes("203.0.113.7"), /webrtc announces/);
});

test("sound on a path that loses packets comes with the frame before it, and on a clean one without", async () => {
  const { rtc, play } = await world();
  const clean = await rtc.join();
  const lossy = await rtc.join({ seed: 5, faults: { loss: 0.05, delay: 20 } });
  const plain = await rtc.join({ client: "ndc", seed: 5, faults: { loss: 0.05, delay: 20 } }); // offers no such format
  for (const peer of [clean, lossy, plain]) peer.start();
  play(20_000);
  for (const peer of [clean, plain]) {
    assert.ok(peer.audio?.inOrder.every((packet) => packet.payloadType !== 63));
  }
  const { audio } = lossy;
  assert.ok(audio !== undefined && audio.missing.length > 20, "enough is lost");
  const doubled = audio.inOrder.filter((packet) => packet.payloadType === 63);
  assert.ok(doubled.length > audio.inOrder.length * 0.8, `${doubled.length} of ${audio.inOrder.length}`);
  let held = 0;
  for (const packet of doubled) {
    const word = packet.payload.readUInt32BE(0);
    assert.deepEqual([word >>> 24, (word >>> 10) & 0x3fff, packet.payload[4]], [0x80 | 111, 960, 111]);
    const before = audio.packets.get(packet.sequenceNumber - 1);
    if (before === undefined) {
      held++;
      continue;
    }
    assert.deepEqual(packet.payload.subarray(5, 5 + (word & 0x3ff)), ownFrame(before));
  }
  assert.ok(held > audio.missing.length * 0.8, `${held} of ${audio.missing.length} lost frames are in the packet behind`);
  assert.equal(clean.audio?.missing.length, 0);
});

/** Of a packet with or without redundancy. */
function ownFrame({ payloadType, payload }: ReceivedPacket): Buffer {
  return payloadType === 63 ? payload.subarray(5 + (payload.readUInt32BE(0) & 0x3ff)) : payload;
}
