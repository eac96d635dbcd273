import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { joinNalUnits, writeAvcConfig } from "../../gateway/media/h264.js";
import { H264Packetizer } from "../../gateway/rtp/h264-payload.js";
import { MAX_RTP_PAYLOAD, type MediaPacket } from "../../gateway/rtp/packet.js";
import { checkSequence, depacketizeH264 } from "../support/rtp-reader.js";

const SPS = Buffer.from("6742c00cd901419f9f011000000300100000030328f142a480", "hex");
const OTHER_SPS = Buffer.from("6742c00dd901419f9f011000000300100000030328f142a480", "hex"); // the same id, another level
const PPS = Buffer.from("68cb83cb20", "hex");
const CONFIG = writeAvcConfig([SPS], [PPS]);

/** A NAL unit of `size` bytes. */
function unit(type: number, size: number, refIdc = 3): Buffer {
  const bytes = Buffer.alloc(size, size & 0xff);
  bytes[0] = (refIdc << 5) | type;
  return bytes;
}

const AUD = Buffer.from([9, 0xf0]);
const SEI = unit(6, 30, 0);
const FILLER = unit(12, 50, 0);
const IDR = unit(5, 3_000);
const SMALL_IDR = unit(5, 200);
const P = unit(1, 400, 2);

/** The NAL units in the packets, by the tests' own reader. */
function reassemble(packets: readonly MediaPacket[]): Buffer[] {
  const recorded = packets.map((packet) => ({
    arrival: 0,
    payloadType: 96,
    marker: packet.marker,
    sequenceNumber: packet.sequenceNumber & 0xffff,
    timestamp: packet.timestamp >>> 0,
    ssrc: 1,
    payload: packet.payload,
  }));
  return depacketizeH264(checkSequence(recorded).ordered).flatMap((picture) => [...picture.nals]);
}

const cases: { name: string; units: Buffer[]; isKey: boolean; types: number[]; sent: Buffer[]; keepSei?: boolean }[] = [
  { name: "a small picture is a single NAL unit", units: [P], isKey: false, types: [1], sent: [P] },
  { name: "a key frame gets the configured sets", units: [SMALL_IDR], isKey: true, types: [24], sent: [SPS, PPS, SMALL_IDR] },
  { name: "sets go before a cut key frame", units: [IDR], isKey: true, types: [24, 28, 28, 28], sent: [SPS, PPS, IDR] },
  {
    name: "sets that are there are not doubled",
    units: [AUD, SPS, PPS, IDR],
    isKey: true,
    types: [24, 28, 28, 28],
    sent: [SPS, PPS, IDR],
  },
  {
    name: "sets in band replace those with their id",
    units: [OTHER_SPS, SMALL_IDR],
    isKey: true,
    types: [24],
    sent: [OTHER_SPS, PPS, SMALL_IDR],
  },
  { name: "delimiters and fillers are dropped", units: [AUD, P, FILLER], isKey: false, types: [1], sent: [P] },
  { name: "SEI stays", units: [SEI, P], isKey: false, types: [24], sent: [SEI, P] },
  { name: "SEI goes", units: [SEI, P], isKey: false, types: [1], sent: [P], keepSei: false },
  { name: "slices share a packet as far as they fit", units: [P, P, P, P], isKey: false, types: [24, 24], sent: [P, P, P, P] },
  { name: "nothing to send", units: [AUD], isKey: false, types: [], sent: [] },
];

for (const { name, units, isKey, types, sent, keepSei = true } of cases) {
  test(`packetizes: ${name}`, () => {
    const packetizer = new H264Packetizer({ keepSei });
    assert.equal(packetizer.setConfig(CONFIG), true);
    const packets = packetizer.packetize(joinNalUnits(units), isKey, 9_000, 65_534);
    assert.deepEqual(
      packets.map((packet) => (packet.payload[0] ?? 0) & 0x1f),
      types,
    );
    assert.deepEqual(reassemble(packets), sent);
    packets.forEach((packet, i) => {
      assert.equal(packet.sequenceNumber, 65_534 + i);
      assert.equal(packet.timestamp, 9_000);
      assert.equal(packet.marker, i === packets.length - 1);
      assert.equal(packet.startsKeyFrame, isKey && i === 0);
    });
  });
}

test("does not call a picture a start when parameter sets are missing", () => {
  const packets = new H264Packetizer().packetize(joinNalUnits([IDR]), true, 0, 0);
  assert.ok(packets.length > 0);
  assert.ok(packets.every((packet) => !packet.startsKeyFrame));
});

test("marks pictures as discardable only when no slice is referred to", () => {
  const packetizer = new H264Packetizer();
  const isDiscardable = (units: Buffer[]) => packetizer.packetize(joinNalUnits(units), false, 0, 0)[0]?.isDiscardable;
  assert.equal(isDiscardable([unit(1, 50, 0)]), true);
  assert.equal(isDiscardable([unit(1, 50, 0), unit(1, 50, 0)]), true);
  assert.equal(isDiscardable([unit(1, 50, 0), unit(1, 50, 1)]), false);
  assert.equal(isDiscardable([unit(1, 50, 2)]), false);
});

test("refuses a configuration that makes no sense and keeps the one before", () => {
  const packetizer = new H264Packetizer();
  packetizer.setConfig(CONFIG);
  for (const record of [Buffer.alloc(0), CONFIG.subarray(0, 9), Buffer.from([2, ...CONFIG.subarray(1)])]) {
    assert.equal(packetizer.setConfig(record), false);
  }
  assert.deepEqual(reassemble(packetizer.packetize(joinNalUnits([SMALL_IDR]), true, 0, 0)), [SPS, PPS, SMALL_IDR]);
});

test("any access unit comes back whole, in parts of one size", () => {
  const sizes = fc.oneof(
    fc.integer({ min: 2, max: 60 }),
    fc.integer({ min: 1_000, max: 1_300 }),
    fc.integer({ min: 2, max: 20_000 }),
  );
  const units = fc.array(fc.tuple(fc.constantFrom(1, 5, 6), sizes, fc.integer({ min: 0, max: 3 })), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(units, fc.integer({ min: 16, max: MAX_RTP_PAYLOAD }), (parts, maxPayload) => {
      const nals = parts.map(([type, size, refIdc]) => unit(type, size, refIdc));
      const packets = new H264Packetizer({ maxPayload }).packetize(joinNalUnits(nals), false, 0, 0);
      assert.deepEqual(reassemble(packets), nals);
      let run = 0; // size of the parts of the NAL unit in hand
      for (const [i, { payload, marker }] of packets.entries()) {
        assert.ok(payload.length <= maxPayload);
        assert.equal(marker, i === packets.length - 1);
        if (((payload[0] ?? 0) & 0x1f) !== 28) continue;
        const header = payload[1] ?? 0;
        if (header & 0x80) run = payload.length;
        if (header & 0x40) assert.ok(payload.length <= run);
        else assert.equal(payload.length, run);
      }
    }),
    { seed: 2, numRuns: 200 },
  );
});

test("takes any bytes as an access unit without throwing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3_000 }), fc.boolean(), (bytes, isKey) => {
      const packets = new H264Packetizer().packetize(Buffer.from(bytes), isKey, 0, 0);
      for (const packet of packets) assert.ok(packet.payload.length > 0 && packet.payload.length <= MAX_RTP_PAYLOAD);
    }),
    { seed: 2, numRuns: 300 },
  );
});
