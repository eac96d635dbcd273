import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { RtpHeader } from "../../gateway/rtp/header.js";
import { rtpPacket } from "../support/rtp-writer.js";

test("reads every field, the payload without padding", () => {
  const header = new RtpHeader();
  const payload = Buffer.from("payload");
  const packet = rtpPacket({
    sequenceNumber: 65535,
    timestamp: 0xfffffff0,
    ssrc: 0xdeadbeef,
    payloadType: 111,
    marker: true,
    payload,
    padding: 4,
  });
  assert.ok(header.read(packet));
  assert.equal(header.sequenceNumber, 65535);
  assert.equal(header.timestamp, 0xfffffff0);
  assert.equal(header.ssrc, 0xdeadbeef);
  assert.equal(header.payloadType, 111);
  assert.equal(header.marker, true);
  assert.deepEqual(packet.subarray(header.payloadStart, header.payloadEnd), payload);
});

test("finds one-byte extensions among others and padding", () => {
  const header = new RtpHeader();
  const extensions = [
    [2, Buffer.from([1, 2, 3])],
    [4, Buffer.from("video0")],
    [3, Buffer.from([0x12, 0x34])],
  ] as const;
  assert.ok(header.read(rtpPacket({ sequenceNumber: 1, extensions })));
  assert.equal(header.transportNumber(3), 0x1234);
  assert.equal(header.text(4), "video0");
  assert.equal(header.transportNumber(5), -1);
  assert.equal(header.text(0), undefined);
  assert.ok(header.read(rtpPacket({ sequenceNumber: 2 })));
  assert.equal(header.transportNumber(3), -1, "nothing is left of the packet before");
});

test("finds two-byte extensions", () => {
  const block = Buffer.from([0x10, 0x00, 0, 3, 17, 0, 0, 200, 2, 0xab, 0xcd, 4, 1, 0x31, 0, 0]);
  const packet = Buffer.concat([rtpPacket({ sequenceNumber: 1, payload: Buffer.alloc(0) }), block, Buffer.from("x")]);
  packet[0] = 0x90;
  const header = new RtpHeader();
  assert.ok(header.read(packet));
  assert.equal(header.transportNumber(200), 0xabcd);
  assert.equal(header.text(4), "1");
  assert.equal(header.text(17), "");
  assert.equal(header.payloadEnd - header.payloadStart, 1);
});

const BROKEN: readonly (readonly [string, Buffer])[] = [
  ["empty", Buffer.alloc(0)],
  ["eleven bytes", Buffer.alloc(11, 0x80)],
  ["version 1", Buffer.concat([Buffer.from([0x40]), Buffer.alloc(20)])],
  ["CSRCs past the end", Buffer.concat([Buffer.from([0x8f]), Buffer.alloc(20)])],
  ["extension header past the end", Buffer.concat([Buffer.from([0x90]), Buffer.alloc(13)])],
  [
    "extension past the end",
    Buffer.concat([Buffer.from([0x90]), Buffer.alloc(11), Buffer.from([0xbe, 0xde, 0xff, 0xff]), Buffer.alloc(8)]),
  ],
  ["padding of 0", Buffer.concat([Buffer.from([0xa0]), Buffer.alloc(12)])],
  ["padding longer than the packet", Buffer.concat([Buffer.from([0xa0]), Buffer.alloc(11), Buffer.from([9])])],
];

for (const [name, bytes] of BROKEN) {
  test(`refuses a packet with ${name}`, () => assert.equal(new RtpHeader().read(bytes), false));
}

test("survives any bytes, and then stays inside the packet", () => {
  const header = new RtpHeader();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(255), (bytes, id) => {
      const packet = Buffer.from(bytes);
      if (packet.length > 0) packet[0] = 0x80 | ((packet[0] as number) & 0x3f);
      if (!header.read(packet)) return;
      assert.ok(header.payloadStart <= header.payloadEnd && header.payloadEnd <= packet.length);
      header.transportNumber(id);
      header.text(id);
    }),
  );
});
