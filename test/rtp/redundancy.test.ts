import assert from "node:assert/strict";
import { test } from "node:test";

import { RtpHeader } from "../../gateway/rtp/header.js";
import type { ReceivedPacket } from "../../gateway/rtp/received-packet.js";
import { RtpReceiver } from "../../gateway/rtp/receiver.js";
import { canRepeat, RedundantBlocks, sizeOfRedundant, writeRedundant } from "../../gateway/rtp/redundancy.js";
import { redundantPayload, rtpPacket } from "../support/rtp-writer.js";
import { seededBytes } from "../support/seeded.js";

const OPUS = 111;
const RED = 63;

function blocksOf(payload: Buffer): { types: number[]; offsets: number[]; blocks: string[] } | undefined {
  const blocks = new RedundantBlocks();
  const bytes = Buffer.concat([Buffer.alloc(3), payload]); // somewhere in a datagram
  if (!blocks.read(bytes, 3, bytes.length)) return undefined;
  const ends = [...blocks.starts.subarray(1, blocks.count + 1), bytes.length];
  return {
    types: [...blocks.payloadTypes.subarray(0, blocks.count), blocks.primaryPayloadType],
    offsets: [...blocks.timestampOffsets.subarray(0, blocks.count)],
    blocks: ends.map((end, index) => bytes.toString("latin1", blocks.starts[index], end)),
  };
}

const cases: readonly (readonly [string, readonly (readonly [string, number])[], string])[] = [
  ["alone", [], "own"],
  ["one before", [["before", 960]], "own"],
  ["an empty own block", [["before", 2880]], ""],
  [
    "two before, the older empty",
    [
      ["", 1920],
      ["before", 960],
    ],
    "own",
  ],
  ["the largest fields", [["x".repeat(1023), 16_383]], "own"],
];
for (const [name, before, own] of cases) {
  test(`reads the blocks of a payload: ${name}`, () => {
    const payload = redundantPayload(
      OPUS,
      before.map(([text, offset]) => ({ payload: Buffer.from(text), offset })),
      Buffer.from(own),
    );
    assert.deepEqual(blocksOf(payload), {
      types: [...before.map(() => OPUS), OPUS],
      offsets: before.map(([, offset]) => offset),
      blocks: [...before.map(([text]) => text), own],
    });
    const [only] = before;
    if (before.length !== 1 || only === undefined) return;
    const out = Buffer.alloc(2000);
    const [previous, primary] = [Buffer.from(only[0]), Buffer.from(own)];
    assert.ok(canRepeat(previous, only[1]));
    const end = writeRedundant(out, 7, OPUS, previous, only[1], primary);
    assert.equal(end - 7, sizeOfRedundant(previous, primary));
    assert.deepEqual(out.subarray(7, end), payload);
  });
}

test("what does not fit the fields is not repeated", () => {
  assert.ok(!canRepeat(Buffer.alloc(1024), 960));
  for (const offset of [0, -960, 16_384]) assert.ok(!canRepeat(Buffer.alloc(10), offset));
});

test("broken payloads are refused, whatever they hold", () => {
  const whole = redundantPayload(OPUS, [{ payload: Buffer.from("before"), offset: 960 }], Buffer.from("own"));
  for (let length = 0; length < 11; length++) assert.equal(blocksOf(whole.subarray(0, length)), undefined, `${length} bytes`);
  const tooMany = Array.from({ length: 9 }, () => ({ payload: Buffer.alloc(1), offset: 960 }));
  assert.equal(blocksOf(redundantPayload(OPUS, tooMany, Buffer.from("own"))), undefined);
  const random = seededBytes(4);
  for (let round = 0; round < 2000; round++) blocksOf(random(round % 40)); // nothing is thrown
});

for (const first of [100, 65_530]) {
  test(`a receiver fills single losses from the packets behind them, in order and in time (from ${first})`, () => {
    const got: ReceivedPacket[] = [];
    const receiver = new RtpReceiver({
      ssrc: 1,
      clockRate: 48_000,
      repair: "none",
      onPacket: (packet) => void got.push(packet),
      onNack: () => assert.fail("nobody is asked"),
      onOutage: () => {},
    });
    const header = new RtpHeader();
    const frame = (number: number): Buffer => Buffer.from(`frame ${number}`);
    const start = 2 ** 32 - 5 * 960;
    for (let number = first; number < first + 40; number++) {
      const isLost = number % 3 === 1 || number === first + 21; // singles, and some two in a row
      if (isLost && number > first) continue;
      const before = number === first ? [] : [{ payload: frame(number - 1), offset: 960 }];
      const payload = redundantPayload(OPUS, before, frame(number));
      const timestamp = start + (number - first) * 960;
      assert.ok(header.read(rtpPacket({ sequenceNumber: number, timestamp, payloadType: RED, payload })));
      receiver.receiveRedundant(number * 20, header, OPUS);
      if (number % 10 === 0) receiver.receiveRedundant(number * 20, header, OPUS); // doubled by the network
    }
    receiver.onTimeout(1e9);
    const texts = got.map((packet) => packet.payload.toString());
    const expected = Array.from({ length: 40 }, (_, index) => `frame ${first + index}`);
    const missing = expected.filter((text) => !texts.includes(text));
    assert.deepEqual(
      texts,
      expected.filter((text) => !missing.includes(text)),
    );
    assert.ok(missing.length <= 2, missing.join(" "));
    for (const [index, packet] of got.entries()) {
      const number = Number(packet.payload.toString().slice(6)) - first;
      assert.equal(packet.sequenceNumber - (got[0]?.sequenceNumber ?? 0), number);
      assert.equal(packet.timestamp - (got[0]?.timestamp ?? 0), number * 960, `time of ${index}`);
    }
    assert.ok(receiver.statistics.redundant >= 10);
    assert.ok(receiver.lost > 5, "reports tell of the loss all the same");
  });
}

test("blocks of another payload type are left alone", () => {
  const got: string[] = [];
  const receiver = new RtpReceiver({
    ssrc: 1,
    clockRate: 48_000,
    repair: "none",
    onPacket: (packet) => void got.push(packet.payload.toString()),
    onNack: () => {},
    onOutage: () => {},
  });
  const header = new RtpHeader();
  for (const [number, payloadType] of [
    [1, OPUS],
    [3, 13],
    [5, OPUS],
  ] as const) {
    const before = [{ payload: Buffer.from("before"), offset: 960, payloadType }];
    const payload = redundantPayload(OPUS, before, Buffer.from(`own ${number}`));
    assert.ok(header.read(rtpPacket({ sequenceNumber: number, timestamp: number * 960, payloadType: RED, payload })));
    receiver.receiveRedundant(number * 20, header, OPUS);
  }
  receiver.onTimeout(1000);
  assert.deepEqual(got, ["own 1", "own 3", "before", "own 5"]);
});
