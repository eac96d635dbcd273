import assert from "node:assert/strict";
import { test } from "node:test";

import { RtcpReader, RtcpType } from "../../gateway/rtp/rtcp.js";
import { BASELINE_PPS, BASELINE_SPS } from "../support/pictures.js";
import { PublisherWorld } from "../support/publisher-world.js";
import { AUDIO, senderReport, VIDEO } from "../support/rtp-publisher.js";
import { rtpPacket } from "../support/rtp-writer.js";
import { seededBytes, seededRandom } from "../support/seeded.js";

test("a clean link: every packet goes onto the lane, numbered from 0, tracks announced", async () => {
  const world = await PublisherWorld.open();
  world.source.run(2000);
  world.clock.advance(100);
  assert.equal(world.stream.packets.track("video")?.codec, "h264");
  assert.equal(world.stream.packets.track("audio")?.channels, 2);
  assert.deepEqual(world.pictures(), world.source.sentFrames);
  for (const kind of ["audio", "video"] as const) {
    const packets = world.packets(kind);
    packets.forEach((packet, index) => {
      assert.equal(packet.sequenceNumber, index);
    });
  }
  assert.deepEqual(
    world
      .packets("video")
      .filter((packet) => packet.startsKeyFrame)
      .map((packet) => packet.sequenceNumber),
    [0],
  );
  assert.equal(world.source.nacked, 0);
  const audio = world.packets("audio");
  audio.forEach((packet, index) => {
    assert.equal(packet.timestamp, (audio[0]?.timestamp ?? 0) + index * 960, "over the wrap of the RTP time too");
  });
  world.close();
  assert.equal(world.clock.pending, 0);
});

for (const [loss, decodable] of [
  [0.05, 0.99],
  [0.1, 0.98],
] as const) {
  test(`${loss * 100} % loss both ways at 20 ms each: at least ${decodable * 100} % of the pictures come whole`, async () => {
    const world = await PublisherWorld.open({ seed: 11, loss, delay: 20, jitter: 4 });
    world.source.run(60_000);
    world.clock.advance(600);
    const share = world.pictures().length / world.source.sentFrames.length;
    assert.ok(share >= decodable, `${share}`);
    const sound = world.packets("audio").length / 3000;
    assert.ok(sound > 1 - loss - 0.02, `sound ${sound}`); // no repair is agreed on for it
    const statistics = world.publisher.statistics();
    assert.ok(Math.abs(statistics.loss - loss) < 0.07, `loss ${statistics.loss}`);
    assert.ok(statistics.rtt_ms >= 40 && statistics.rtt_ms < 60, `round trip ${statistics.rtt_ms}`);
    assert.ok(statistics.resent > 0);
    world.close();
  });
}

test("5 % loss both ways: sound sent with redundancy comes nearly whole", async () => {
  const world = await PublisherWorld.open({ seed: 11, loss: 0.05, delay: 20, jitter: 4, source: { redundancy: true } });
  world.source.run(60_000);
  world.clock.advance(600);
  const sound = world.packets("audio");
  assert.ok(sound.length / 3000 > 0.99, `${sound.length} of 3000`); // two in a row: one in 400
  const [first] = sound;
  for (const packet of sound) assert.deepEqual(packet.payload, first?.payload);
  sound.slice(1).forEach((packet, index) => {
    const before = sound[index];
    const step = packet.sequenceNumber - (before?.sequenceNumber ?? 0);
    assert.ok(step > 0 && packet.timestamp - (before?.timestamp ?? 0) === step * 960);
  });
  world.close();
});

test("the round trip is known without a repair, where the publisher echoes reference times, and rules the repeats", async () => {
  const plain = { ...VIDEO, rtxPayloadType: -1, rtxSsrc: 0, feedback: { ...VIDEO.feedback, nack: false } };
  const world = await PublisherWorld.open({ delay: 35, video: { ...plain, wantsReceiverRtt: true } });
  world.source.run(5000);
  assert.ok(Math.abs(world.publisher.statistics().rtt_ms - 70) <= 2, `${world.publisher.statistics().rtt_ms} ms`);
  world.publisher.rtcp(world.clock.now(), Buffer.from("80cf0005000022220500000377777777ffffffff00000000", "hex")); // made up
  assert.ok(Math.abs(world.publisher.statistics().rtt_ms - 70) <= 2);
  world.close();
  const silent = await PublisherWorld.open({ delay: 35, video: plain });
  silent.source.run(3000);
  assert.equal(silent.publisher.statistics().rtt_ms, 0, "not asked for, not known");
  silent.close();
});

for (const sendSets of ["never", "first", "each"] as const) {
  test(`H.264 whose parameter sets come ${sendSets === "never" ? "in the offer only" : `with ${sendSets} key frame`}: every key frame has them`, async () => {
    const sets = [BASELINE_SPS, BASELINE_PPS].map((nal) => nal.toString("base64")).join(",");
    const video = sendSets === "never" ? { ...VIDEO, parameterSets: `sprop-parameter-sets=${sets}` } : VIDEO;
    const world = await PublisherWorld.open({ seed: 5, loss: 0.03, delay: 10, video, source: { sendSets } });
    for (let second = 0; second < 5; second++) {
      world.source.run(1000);
      world.stream.packets.requestKeyFrame("test");
    }
    world.clock.advance(600);
    const packets = world.packets("video");
    packets.forEach((packet, index) => {
      const isIdr = (packet.payload.readUInt8(0) & 0x1f) === 28 && (packet.payload.readUInt8(1) & 0x9f) === 0x85;
      if (!isIdr) return;
      const before = packets[index - 1];
      assert.ok(before?.startsKeyFrame && !packet.startsKeyFrame && before.timestamp === packet.timestamp);
      assert.deepEqual(before.payload.subarray(3, 3 + BASELINE_SPS.length), BASELINE_SPS);
      assert.deepEqual(before.payload.subarray(-BASELINE_PPS.length), BASELINE_PPS);
      assert.equal(packet.sequenceNumber, before.sequenceNumber + 1);
    });
    assert.ok(packets.filter((packet) => packet.startsKeyFrame).length >= 4);
    packets.slice(1).forEach((packet, index) => {
      assert.ok(packet.sequenceNumber > (packets[index]?.sequenceNumber ?? 0));
    });
    assert.ok(world.pictures().length >= world.source.sentFrames.length * 0.98);
    world.close();
  });
}

test("a lost request for a key frame is repeated", async () => {
  const world = await PublisherWorld.open({ seed: 3, loss: 0.5, delay: 20 });
  world.source.run(3000);
  assert.ok(world.packets("video").some((packet) => packet.startsKeyFrame));
  world.close();
});

test("a publisher that comes back: numbers and time go on, nothing comes before its key frame", async () => {
  const world = await PublisherWorld.open();
  world.source.run(1000);
  world.clock.advance(50);
  const before = world.packets("video").at(-1);
  const beforeAudio = world.packets("audio").at(-1);
  world.unpublish();
  const left = world.clock.now();
  world.clock.advance(2000);
  await world.publish({ sequenceNumber: 17, timestamp: 12345, ssrcs: { audio: 5, video: 6, rtx: 7 } });
  const count = world.packets("video").length;
  world.source.run(1000);
  world.clock.advance(50);
  const next = world.packets("video")[count];
  assert.ok(before !== undefined && next !== undefined && beforeAudio !== undefined);
  assert.equal(next.sequenceNumber, before.sequenceNumber + 1);
  assert.ok(next.startsKeyFrame);
  const gap = (next.timestamp - before.timestamp) / 90;
  assert.ok(Math.abs(gap - (world.clock.now() - left - 1050) - 100) < 80, `RTP time went on by ${gap} ms`);
  const audio = world.packets("audio").find((packet) => packet.sequenceNumber === beforeAudio.sequenceNumber + 1);
  assert.ok(audio !== undefined && audio.timestamp > beforeAudio.timestamp + 90_000);
  world.close();
});

test("an offer without SSRCs: payload type or MID tell the track", async () => {
  const audio = { ...AUDIO, ssrc: 0 };
  const video = { ...VIDEO, ssrc: 0, rtxSsrc: 0 };
  const world = await PublisherWorld.open({ audio, video, loss: 0.05, delay: 20, seed: 4 });
  world.source.run(5000);
  world.clock.advance(600);
  assert.ok(world.pictures().length >= 123, `${world.pictures().length}`);
  world.close();
});

test("sender reports put the picture to its sound; without them arrival does", async () => {
  const world = await PublisherWorld.open({ source: { videoDelay: 120 } });
  const skew = (): number => {
    const { packets } = world.stream;
    const picture = world.packets("video").at(-1);
    const sound = world.packets("audio").at(-1);
    assert.ok(picture !== undefined && sound !== undefined);
    // Pictures are captured 120 ms before they are sent, sound 0 ms: at one arrival their true times differ by that.
    return packets.wallTimeOf("audio", sound.timestamp) - packets.wallTimeOf("video", picture.timestamp);
  };
  world.source.run(400);
  assert.ok(Math.abs(skew()) < 25, `before any report ${skew()}`);
  world.source.run(2000);
  assert.ok(Math.abs(skew() - 120) < 25, `after reports ${skew()}`);
  world.close();
});

test("absurd reports change nothing: another epoch per track, an RTP time from nowhere, a clock of 0", async () => {
  for (const shift of [{ videoNtp: 5_000 }, { audioRtp: 4_000 }, { videoRtp: -90_000 }, { audioNtp: -1e9 }]) {
    const world = await PublisherWorld.open();
    world.source.run(500, false);
    const { packets } = world.stream;
    const before = [packets.wallTimeOf("audio", 0), packets.wallTimeOf("video", 0)];
    for (let i = 0; i < 5; i++) {
      world.source.report(shift);
      world.source.run(500, false);
    }
    const after = [packets.wallTimeOf("audio", 0), packets.wallTimeOf("video", 0)];
    after.forEach((time, index) => {
      assert.ok(Math.abs(time - (before[index] ?? 0)) < 3, `${JSON.stringify(shift)}: ${time - (before[index] ?? 0)}`);
    });
    world.close();
  }
});

test("a clock that counts whole seconds, as werift's does, parts nobody's lips", async () => {
  const world = await PublisherWorld.open();
  world.source.run(500, false);
  const { packets } = world.stream;
  const before = [packets.wallTimeOf("audio", 0), packets.wallTimeOf("video", 0)];
  for (let i = 0; i < 20; i++) {
    world.source.run(460, false);
    const seconds = Math.floor(world.clock.wallTime() / 1000) * 1000;
    const ticks = world.source.mediaTime;
    world.source.raw(senderReport(AUDIO.ssrc, seconds + 0.2, 2 ** 32 - 50_000 + ticks * 48));
    world.source.raw(senderReport(VIDEO.ssrc, seconds + 1.9, 2 ** 32 - 50_000 + (ticks - 40) * 90));
  }
  const after = [packets.wallTimeOf("audio", 0), packets.wallTimeOf("video", 0)];
  after.forEach((time, index) => {
    assert.ok(Math.abs(time - (before[index] ?? 0)) < 5, `${time - (before[index] ?? 0)} ms`);
  });
  world.close();
});

test("padding leaves no hole, a packet lost for good does", async () => {
  const video = { ...VIDEO, rtxPayloadType: -1, rtxSsrc: 0, feedback: { ...VIDEO.feedback, nack: false } };
  const world = await PublisherWorld.open({ video, delay: 1 });
  const send = (sequenceNumber: number, payload: Buffer, padding = 0): void => {
    const marker = padding === 0;
    world.source.raw(
      rtpPacket({
        sequenceNumber,
        timestamp: sequenceNumber * 3000,
        ssrc: VIDEO.ssrc,
        payloadType: 102,
        marker,
        payload,
        padding,
      }),
    );
    world.clock.advance(30);
  };
  const slice = Buffer.from("419a01", "hex");
  send(10, Buffer.from("67420000", "hex"));
  send(11, slice);
  send(12, Buffer.alloc(0), 200);
  send(13, slice);
  send(15, slice);
  send(16, slice);
  world.clock.advance(100);
  assert.deepEqual(
    world.packets("video").map((packet) => packet.sequenceNumber),
    [0, 1, 2, 4, 5],
  );
  world.close();
});

test("a second source of a track is taken when the first one is silent, or has said goodbye", async () => {
  const world = await PublisherWorld.open({ delay: 1 });
  world.source.run(400);
  const count = world.packets("audio").length;
  const intruder = (number: number): void =>
    world.source.raw(rtpPacket({ sequenceNumber: number, timestamp: number * 960, ssrc: 99, payloadType: 111 }));
  intruder(1);
  world.clock.advance(5);
  assert.equal(world.packets("audio").length, count, "two at once: the first stays");
  const bye = Buffer.from([0x81, 203, 0, 1, 0, 0, 0x11, 0x11]);
  world.source.raw(bye);
  world.clock.advance(5);
  intruder(2);
  world.clock.advance(5);
  assert.equal(world.packets("audio").length, count + 1);
  const [last, next] = world.packets("audio").slice(-2);
  assert.equal(next?.sequenceNumber, (last?.sequenceNumber ?? 0) + 1);
  world.close();
});

test("reports: loss, jitter, the echo of the sender report, a CNAME; REMB only without transport-cc", async () => {
  for (const transportCc of [true, false]) {
    const feedback = { ...VIDEO.feedback, transportCc };
    const world = await PublisherWorld.open({
      video: { ...VIDEO, feedback },
      audio: { ...AUDIO, feedback: { ...AUDIO.feedback, transportCc } },
    });
    world.source.run(3000);
    const reader = new RtcpReader();
    const types = new Set<string>();
    let echoed = 0;
    for (const compound of world.rtcp) {
      assert.ok(reader.open(compound));
      assert.equal(compound.readUInt8(1), 201, "every compound begins with a report");
      while (reader.next()) {
        types.add(`${reader.packetType}${reader.packetType >= 205 ? `/${reader.count}` : ""}`);
        if (reader.packetType === RtcpType.receiverReport && reader.count > 0)
          echoed = reader.bytes.readUInt32BE(reader.reportsAt + 16);
      }
    }
    assert.ok(types.has("202"));
    assert.equal(types.has("205/15"), transportCc);
    assert.equal(types.has("206/15"), !transportCc);
    assert.notEqual(echoed, 0);
    world.close();
  }
});

test("broken RTP and RTCP of every shape: nothing throws, nothing of it gets onto the lane, media goes on", async () => {
  const world = await PublisherWorld.open({ delay: 1 });
  world.source.run(200);
  const random = seededRandom(8);
  const bytes = seededBytes(9);
  for (let i = 0; i < 5000; i++) {
    const packet = bytes(12 + Math.floor(random() * 40));
    packet[0] = 0x80 | ((packet[0] as number) & (random() < 0.5 ? 0x00 : 0x3f));
    const isRtcp = random() < 0.6;
    if (isRtcp) {
      packet[1] = 200 + Math.floor(random() * 8);
      if (random() < 0.7) packet.writeUInt16BE(Math.floor(packet.length / 4) - 1, 2);
      packet.writeUInt32BE(random() < 0.5 ? VIDEO.ssrc : AUDIO.ssrc, 4);
    } else {
      packet[1] = Math.floor(random() * 100);
    }
    world.source.raw(packet);
    if (i % 100 === 0) world.source.run(40);
  }
  for (let ssrc = 1000; ssrc < 3000; ssrc++) {
    world.source.raw(rtpPacket({ sequenceNumber: 1, ssrc, payloadType: ssrc % 128 }));
    world.source.raw(senderReport(ssrc, 0, 0));
  }
  world.clock.advance(100);
  const before = world.pictures().length;
  world.source.run(2000);
  world.clock.advance(600);
  assert.ok(world.pictures().length >= before + 48);
  world.close();
});

test("a source whose RTP time jumps, or stood still in a pause, goes on in time", async () => {
  const world = await PublisherWorld.open({ delay: 1 });
  const send = (number: number, timestamp: number): void =>
    world.source.raw(
      rtpPacket({ sequenceNumber: number, timestamp, ssrc: AUDIO.ssrc, payloadType: 111, payload: Buffer.from([0xfc, 1, 2]) }),
    );
  let number = 0;
  let timestamp = 1000;
  const speak = (count: number): void => {
    for (let i = 0; i < count; i++) {
      send(number++, timestamp);
      timestamp += 960;
      world.clock.advance(20);
    }
  };
  speak(20);
  world.clock.advance(60_000);
  speak(20);
  timestamp += 2 ** 31 - 5000;
  speak(20);
  const times = world.packets("audio").map((packet) => packet.timestamp);
  assert.equal(times.length, 60);
  times.forEach((time, index) => {
    if (index > 0) assert.ok(time > (times[index - 1] as number));
  });
  const { packets } = world.stream;
  const error = packets.wallTimeOf("audio", times.at(-1) ?? 0) - world.clock.wallTime();
  assert.ok(Math.abs(error) < 100, `${error}`);
  world.close();
});
