import assert from "node:assert/strict";
import { test } from "node:test";

import { RtpHeader } from "../../gateway/rtp/header.js";
import type { ReceivedPacket } from "../../gateway/rtp/received-packet.js";
import { RtpReceiver } from "../../gateway/rtp/receiver.js";
import { FakeClock } from "../support/fake-clock.js";
import { LossyPipe } from "../support/lossy-link.js";
import { rtpPacket, rtxPacket } from "../support/rtp-writer.js";
import { seededRandom } from "../support/seeded.js";

const MEDIA = 0x1234;
const RTX = 0x5678;

/** A sender that answers requests, a lossy link both ways, and the receiver, on one clock. */
class World {
  readonly clock = new FakeClock();
  readonly packets: (ReceivedPacket & { readonly at: number })[] = [];
  readonly requests: number[][] = [];
  outages = 0;
  readonly receiver: RtpReceiver;
  readonly #header = new RtpHeader();
  readonly #sent = new Map<number, Buffer>();
  readonly #up: LossyPipe;
  readonly #down: LossyPipe;
  #rtxNumber = 65_530;
  #wake: { cancel(): void } | undefined;
  readonly #repair: "rtx" | "nack" | "none";

  constructor(options: {
    seed?: number;
    loss?: number;
    delay?: number;
    jitter?: number;
    duplication?: number;
    repair?: "rtx" | "nack" | "none";
  }) {
    const { seed = 1, ...faults } = options;
    this.#repair = options.repair ?? "rtx";
    this.#up = new LossyPipe(this.clock, seed, faults, (bytes) => this.#receive(bytes));
    this.#down = new LossyPipe(this.clock, seed + 1, faults, (bytes) => this.#answer(bytes.readUInt16BE(0)));
    this.receiver = new RtpReceiver({
      ssrc: MEDIA,
      clockRate: 90_000,
      repair: this.#repair,
      onPacket: (packet) => void this.packets.push(Object.assign(packet, { at: this.clock.now() })),
      onNack: (numbers) => {
        this.requests.push([...numbers]);
        const bytes = Buffer.alloc(2);
        for (const number of numbers) {
          bytes.writeUInt16BE(number & 0xffff, 0);
          this.#down.send(bytes);
        }
      },
      onOutage: () => void this.outages++,
    });
  }

  send(number: number, timestamp = number * 900): void {
    const payload = Buffer.alloc(20);
    payload.writeUInt32BE(number, 0);
    const packet = rtpPacket({ sequenceNumber: number, timestamp, ssrc: MEDIA, payload });
    this.#sent.set(number & 0xffff, packet);
    this.#up.send(packet);
  }

  /** Sends `count` packets, one each `step` ms, but for those left out. */
  run(first: number, count: number, step = 10, leftOut: readonly number[] = []): void {
    for (let number = first; number < first + count; number++) {
      if (!leftOut.includes(number)) this.send(number);
      this.clock.advance(step);
    }
  }

  get received(): number[] {
    return this.packets.map((packet) => packet.payload.readUInt32BE(0));
  }

  #answer(low: number): void {
    const original = this.#sent.get(low);
    if (original === undefined) return;
    this.#up.send(
      this.#repair === "nack" ? original : rtxPacket(original, { ssrc: RTX, payloadType: 97, sequenceNumber: this.#rtxNumber++ }),
    );
  }

  #receive(bytes: Buffer): void {
    assert.ok(this.#header.read(bytes));
    if (this.#header.ssrc === RTX) this.receiver.receiveRetransmission(this.clock.now(), this.#header);
    else this.receiver.receive(this.clock.now(), this.#header);
    bytes.fill(0xee); // the receiver must have its own copy
    this.#arm();
  }

  #arm(): void {
    this.#wake?.cancel();
    const next = this.receiver.nextTimeout();
    if (next === Number.POSITIVE_INFINITY) return;
    this.#wake = this.clock.after(next - this.clock.now(), () => {
      this.receiver.onTimeout(this.clock.now());
      this.#arm();
    });
  }
}

function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => from + index);
}

for (const first of [0, 65_400]) {
  for (const repair of ["rtx", "nack"] as const) {
    test(`10 % loss both ways, jitter and doubles: everything comes, in order (${repair}, from ${first})`, () => {
      const world = new World({ seed: 7 + first, loss: 0.1, delay: 20, jitter: 8, duplication: 0.02, repair });
      world.run(first, 3000, 4);
      world.clock.advance(1000);
      assert.deepEqual(world.received, range(world.received[0] ?? -1, world.received.length));
      const abandoned = first + 3000 - (world.received[0] ?? 0) - world.received.length;
      assert.ok(abandoned <= 2, `${abandoned} given up`);
      assert.ok(world.receiver.roundTrip >= 40 && world.receiver.roundTrip < 70, `round trip ${world.receiver.roundTrip}`);
      const share = world.receiver.lost / world.receiver.expected;
      if (repair === "rtx") assert.ok(share > 0.06 && share < 0.11, `true loss ${share}`); // doubles make it less
      const delays = world.packets.map((packet) => packet.at - packet.arrival);
      assert.ok(Math.max(...delays) <= 500);
    });
  }
}

test("nothing lost: each packet leaves as it comes and nobody is asked", () => {
  const world = new World({ delay: 5 });
  world.run(65_530, 20);
  assert.deepEqual(world.received, range(65_530, 20));
  assert.ok(world.packets.every((packet) => packet.at === packet.arrival));
  assert.equal(world.requests.length, 0);
  assert.equal(world.receiver.nextTimeout(), Number.POSITIVE_INFINITY);
});

test("counters are endless over both wraps", () => {
  const world = new World({ delay: 1 });
  const start = 2 ** 32 - 5 * 900;
  for (let i = 0; i < 10; i++) {
    world.send(65_531 + i, start + i * 900);
    world.clock.advance(10);
  }
  world.packets.forEach((packet, index) => {
    assert.equal(packet.sequenceNumber, (world.packets[0]?.sequenceNumber ?? 0) + index);
    assert.equal(packet.timestamp, (world.packets[0]?.timestamp ?? 0) + index * 900);
  });
});

test("a packet that is only late is waited for and not asked for", () => {
  const world = new World({ delay: 1 });
  world.run(10, 2);
  world.send(13);
  world.clock.advance(2);
  world.send(12);
  world.clock.advance(50);
  assert.deepEqual(world.received, [10, 11, 12, 13]);
  assert.equal(world.requests.length, 0);
});

test("requests repeat after the round trip and end after the limit; then the stream goes on with a hole", () => {
  const world = new World({ delay: 1 });
  world.receiver.setRoundTrip(40);
  world.run(100, 100, 10, [105]);
  const times = world.requests.filter((numbers) => numbers.some((number) => (number & 0xffff) === 105)).length;
  assert.ok(times >= 4 && times <= 6, `${times} requests`);
  assert.deepEqual(
    world.received,
    range(100, 100).filter((number) => number !== 105),
  );
  assert.equal(world.receiver.statistics.abandoned, 1);
  const hole = world.packets.find((packet) => packet.payload.readUInt32BE(0) === 106);
  const waited = (hole?.at ?? 0) - (hole?.arrival ?? 0);
  assert.ok(waited >= 235 && waited <= 245, `waited ${waited}`); // six round trips
});

test("a track without repair waits for reordered packets only", () => {
  const world = new World({ delay: 1, repair: "none" });
  world.run(100, 20, 10, [105]);
  world.clock.advance(100);
  assert.equal(world.requests.length, 0);
  assert.deepEqual(
    world.received,
    range(100, 20).filter((number) => number !== 105),
  );
});

test("an outage ends in one request for a key frame instead of hundreds for packets", () => {
  const world = new World({ delay: 1 });
  world.run(0, 5);
  world.run(1000, 5);
  assert.equal(world.outages, 1);
  assert.equal(world.requests.length, 0);
  assert.deepEqual(world.received, [...range(0, 5), ...range(1000, 5)]);
});

test("a source that begins a new numbering goes on with the second packet of it", () => {
  const world = new World({ delay: 1 });
  world.run(100, 5);
  world.run(50_000, 5);
  assert.deepEqual(world.received, [...range(100, 5), ...range(50_001, 4)]);
  assert.equal(world.receiver.lost, 0);
  for (let i = 1; i < world.packets.length; i++) {
    assert.ok((world.packets[i]?.sequenceNumber ?? 0) > (world.packets[i - 1]?.sequenceNumber ?? 0));
  }
});

test("retransmissions of every odd kind: empty, unasked, twice, too late, before anything", () => {
  const receiver = new RtpReceiver({
    ssrc: MEDIA,
    clockRate: 90_000,
    repair: "rtx",
    onPacket: (packet) => void got.push(packet.sequenceNumber & 0xffff),
    onNack: () => {},
    onOutage: () => {},
  });
  const got: number[] = [];
  const header = new RtpHeader();
  const original = (number: number): Buffer =>
    rtpPacket({ sequenceNumber: number, timestamp: number * 900, ssrc: MEDIA, payload: Buffer.alloc(4) });
  const retransmit = (number: number): void => {
    header.read(rtxPacket(original(number), { ssrc: RTX, payloadType: 97, sequenceNumber: 1 }));
    receiver.receiveRetransmission(0, header);
  };
  retransmit(9);
  for (const payload of [Buffer.alloc(0), Buffer.alloc(1)]) {
    header.read(rtpPacket({ sequenceNumber: 1, ssrc: RTX, payload }));
    receiver.receiveRetransmission(0, header);
  }
  for (const number of [10, 12]) {
    header.read(original(number));
    receiver.receive(0, header);
  }
  retransmit(10);
  retransmit(11);
  retransmit(11);
  retransmit(20); // ahead of anything seen: not to be believed
  assert.deepEqual(got, [10, 11, 12]);
  assert.equal(receiver.statistics.repaired, 1);
});

test("the report: true loss, highest number with its cycles, echo of the sender report", () => {
  const world = new World({ delay: 0, repair: "none" });
  assert.equal(world.receiver.report(0), undefined);
  world.run(65_526, 20, 10, [65_530, 65_540]);
  world.receiver.onSenderReport(world.clock.now() - 500, 0xabcdef01);
  const report = world.receiver.report(world.clock.now());
  assert.equal(report?.ssrc, MEDIA);
  assert.equal(report?.cumulativeLost, 2);
  assert.equal(report?.fractionLost, Math.floor((2 * 256) / 20));
  assert.equal(report?.highestSequence, 0x10000 + 9);
  assert.equal(report?.lastSenderReport, 0xabcdef01);
  assert.equal(report?.delaySinceLast, 32_768);
  assert.equal(world.receiver.report(world.clock.now())?.fractionLost, 0);
});

test("random streams of nonsense never throw, and what comes out is in order", () => {
  const random = seededRandom(99);
  const out: number[] = [];
  const receiver = new RtpReceiver({
    ssrc: MEDIA,
    clockRate: 90_000,
    repair: "rtx",
    onPacket: (packet) => void out.push(packet.sequenceNumber),
    onNack: () => {},
    onOutage: () => {},
  });
  const header = new RtpHeader();
  for (let i = 0; i < 20_000; i++) {
    const wild = random() < 0.3;
    const sequenceNumber = wild ? Math.floor(random() * 65_536) : i & 0xffff;
    header.read(
      rtpPacket({
        sequenceNumber,
        timestamp: Math.floor(random() * 2 ** 32),
        ssrc: MEDIA,
        payload: Buffer.alloc(Math.floor(random() * 4)),
      }),
    );
    if (random() < 0.2) receiver.receiveRetransmission(i, header);
    else receiver.receive(i, header);
    if (random() < 0.1) receiver.onTimeout(i);
    if (random() < 0.01) receiver.report(i);
    receiver.nextTimeout();
  }
  for (let i = 1; i < out.length; i++) assert.ok((out[i] as number) > (out[i - 1] as number), `${out[i - 1]} then ${out[i]}`);
  assert.ok(out.length > 1000);
});
