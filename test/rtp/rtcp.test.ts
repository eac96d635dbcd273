import assert from "node:assert/strict";
import { test } from "node:test";

import {
  FeedbackFormat,
  firNames,
  ntpMiddle,
  ReportBlock,
  RtcpReader,
  RtcpType,
  readDelaySinceReference,
  readReferenceTime,
  readRemb,
  readReportBlock,
  readSenderInfo,
  writeBye,
  writeDelaySinceReference,
  writeFir,
  writeNack,
  writePli,
  writeReceiverReport,
  writeReferenceTime,
  writeRemb,
  writeSenderReport,
  writeSourceDescription,
} from "../../gateway/rtp/rtcp.js";

const out = Buffer.alloc(2000);
const WALL_TIME = 1_700_000_000_123.5;

function block(more: Partial<ReportBlock> = {}): ReportBlock {
  return Object.assign(new ReportBlock(), {
    ssrc: 0xdeadbeef,
    fractionLost: 64,
    cumulativeLost: -5,
    highestSequence: 0x1fffe,
    jitter: 77,
    lastSenderReport: 0xfedcba98,
    delaySinceLast: 65536,
    ...more,
  });
}

/** Every kind of packet once: the corpus of the fuzz test too. */
export const PACKETS: readonly (readonly [string, () => number, (reader: RtcpReader) => void])[] = [
  [
    "sender report",
    () => writeSenderReport(out, 0, 7, WALL_TIME, 0x1_0000_0005, 3, 4),
    (reader) => {
      assert.equal(reader.packetType, RtcpType.senderReport);
      assert.equal(reader.senderSsrc, 7);
      const info = readSenderInfo(reader);
      assert.ok(info !== undefined);
      assert.ok(Math.abs(info.wallTime - WALL_TIME) < 0.001);
      assert.deepEqual([info.rtpTimestamp, info.packetCount, info.octetCount], [5, 3, 4]);
    },
  ],
  [
    "receiver report",
    () => writeReceiverReport(out, 0, 8, [block({ ssrc: 1 }), block()]),
    (reader) => {
      assert.equal(reader.packetType, RtcpType.receiverReport);
      assert.equal(reader.count, 2);
      const read = new ReportBlock();
      readReportBlock(read, reader.bytes, reader.reportsAt + 24);
      assert.deepEqual(read, block());
    },
  ],
  ["source description", () => writeSourceDescription(out, 0, [1, 2], "name"), (reader) => assert.equal(reader.count, 2)],
  ["goodbye", () => writeBye(out, 0, [1, 2]), (reader) => assert.equal(reader.packetType, RtcpType.bye)],
  [
    "NACK",
    () => writeNack(out, 0, 1, 2, [65534, 65535, 0, 14, 15, 40]),
    (reader) => {
      assert.equal(reader.count, FeedbackFormat.nack);
      assert.equal(reader.mediaSsrc, 2);
      assert.equal(reader.end - reader.start, 12 + 3 * 4);
      assert.equal(reader.bytes.readUInt16BE(12), 65534);
      assert.equal(reader.bytes.readUInt16BE(14), 0b1000_0000_0000_0011);
      assert.equal(reader.bytes.readUInt16BE(16), 15);
      assert.equal(reader.bytes.readUInt16BE(20), 40);
    },
  ],
  ["PLI", () => writePli(out, 0, 1, 2), (reader) => assert.deepEqual([reader.count, reader.mediaSsrc], [FeedbackFormat.pli, 2])],
  [
    "FIR",
    () => writeFir(out, 0, 1, 2, 9),
    (reader) => {
      assert.ok(firNames(reader, 2));
      assert.ok(!firNames(reader, 3));
    },
  ],
  [
    "REMB",
    () => writeRemb(out, 0, 1, 5_000_000, [2]),
    (reader) => assert.ok(Math.abs((readRemb(reader) ?? 0) / 5_000_000 - 1) < 0.001),
  ],
  [
    "reference time",
    () => writeReferenceTime(out, 0, 1, WALL_TIME),
    (reader) => assert.equal(readReferenceTime(reader), ntpMiddle(WALL_TIME)),
  ],
  [
    "delay since reference",
    () => writeDelaySinceReference(out, 0, 1, 2, 3, 4),
    (reader) => assert.equal(readReferenceTime(reader), undefined),
  ],
];

for (const [name, write, check] of PACKETS) {
  test(`writes and reads a ${name}`, () => {
    const end = write();
    assert.equal(end % 4, 0);
    const reader = new RtcpReader();
    assert.ok(reader.open(out.subarray(0, end)));
    assert.ok(reader.next());
    check(reader);
    assert.ok(!reader.next());
  });
}

test("walks a compound packet by packet", () => {
  let end = writeSenderReport(out, 0, 1, WALL_TIME, 0, 0, 0);
  end = writeSourceDescription(out, end, [1], "a-name-of-some-length");
  end = writeBye(out, end, [1]);
  const reader = new RtcpReader();
  assert.ok(reader.open(out.subarray(0, end)));
  const types: number[] = [];
  while (reader.next()) types.push(reader.packetType);
  assert.deepEqual(types, [200, 202, 203]);
});

test("a compound whose lengths do not add up counts for nothing", () => {
  const reader = new RtcpReader();
  const end = writePli(out, 0, 1, 2);
  const good = Buffer.from(out.subarray(0, end));
  for (let length = 0; length < good.length; length++) assert.ok(!reader.open(good.subarray(0, length)));
  const tooLong = Buffer.from(good);
  tooLong.writeUInt16BE(3, 2);
  assert.ok(!reader.open(tooLong));
  const version = Buffer.from(good);
  version[0] = 0x41;
  assert.ok(!reader.open(version));
  const padded = Buffer.concat([good, Buffer.from([0, 0, 0, 4])]);
  padded[0] = 0xa1;
  padded.writeUInt16BE(3, 2);
  assert.ok(reader.open(padded) && reader.next());
  assert.equal(reader.end, 12, "padding is no content");
  padded[15] = 12;
  assert.ok(!reader.open(padded));
});

test("report blocks beyond the packet's end are not read", () => {
  const end = writeReceiverReport(out, 0, 8, [block()]);
  out[0] = 0x82; // says two
  const reader = new RtcpReader();
  assert.ok(reader.open(out.subarray(0, end)) && reader.next());
  assert.equal(reader.reportsAt, -1);
});

test("NTP times of both eras are understood", () => {
  for (const wallTime of [0, WALL_TIME, 2_100_000_000_000]) {
    const end = writeSenderReport(out, 0, 7, wallTime, 0, 0, 0);
    const reader = new RtcpReader();
    assert.ok(reader.open(out.subarray(0, end)) && reader.next());
    assert.ok(Math.abs((readSenderInfo(reader)?.wallTime ?? -1) - wallTime) < 0.001);
  }
});

test("the echo of a reference time is found among those for others, and a broken one is not read", () => {
  const xr = Buffer.from("80cf0009000000010500000600000007aaaaaaaa0000000100000008bbbbbbbb00010000", "hex");
  const whole = Buffer.concat([xr, Buffer.from("04000000", "hex")]);
  const reader = new RtcpReader();
  assert.ok(reader.open(whole) && reader.next());
  assert.deepEqual(readDelaySinceReference(reader, 8), { referenceTime: 0xbbbbbbbb, delay: 0x10000 });
  assert.deepEqual(readDelaySinceReference(reader, 7), { referenceTime: 0xaaaaaaaa, delay: 1 });
  assert.equal(readDelaySinceReference(reader, 9), undefined);
  whole.writeUInt16BE(200, 10); // the block says it is longer than the packet
  assert.ok(reader.open(whole) && reader.next());
  assert.equal(readDelaySinceReference(reader, 8), undefined);
});
