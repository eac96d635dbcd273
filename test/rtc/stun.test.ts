import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import {
  parseStun,
  verifyIntegrity,
  writeBindingError,
  writeBindingRequest,
  writeBindingResponse,
} from "../../gateway/rtc/stun.js";

const PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt";
const TRANSACTION = Buffer.from("b7e7a701bc34d686fa87dfae", "hex");

const hex = (text: string) => Buffer.from(text.replace(/\s+/g, ""), "hex");

// RFC 5769 sections 2.1 to 2.3
const SAMPLE_REQUEST = hex(`
  00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74 00240004 6e0001ff
  80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249
  c1b571a2 80280004 e57a3bcf`);
const SAMPLE_RESPONSE_V4 = hex(`
  0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200008 0001a147 e112a643
  00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96`);
const SAMPLE_RESPONSE_V6 = hex(`
  01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200014 0002a147 0113a9fa
  a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c`);

function parsed(datagram: Buffer) {
  const message = parseStun(datagram);
  assert.ok(message !== undefined);
  return message;
}

test("reads the sample request of RFC 5769", () => {
  const message = parsed(SAMPLE_REQUEST);
  assert.equal(message.class, "request");
  assert.equal(message.username, "evtj:h6vY");
  assert.equal(message.priority, 0x6e0001ff);
  assert.deepEqual(message.role, { name: "controlled", tieBreaker: 0x932ff9b151263b36n });
  assert.deepEqual(message.transactionId, TRANSACTION);
  assert.ok(verifyIntegrity(SAMPLE_REQUEST, message, PASSWORD));
  assert.ok(!verifyIntegrity(SAMPLE_REQUEST, message, `${PASSWORD}x`));
});

test("reads the sample responses of RFC 5769", () => {
  const v4 = parsed(SAMPLE_RESPONSE_V4);
  assert.equal(v4.class, "success");
  assert.deepEqual(v4.mappedAddress, { address: "192.0.2.1", port: 32853 });
  assert.ok(verifyIntegrity(SAMPLE_RESPONSE_V4, v4, PASSWORD));
  const v6 = parsed(SAMPLE_RESPONSE_V6);
  assert.deepEqual(v6.mappedAddress, { address: "2001:db8:1234:5678:11:2233:4455:6677", port: 32853 });
  assert.ok(verifyIntegrity(SAMPLE_RESPONSE_V6, v6, PASSWORD));
});

test("writes responses that it reads back, for IPv4, IPv6 and IPv4-mapped addresses", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["fd00::2", "fd00:0:0:0:0:0:0:2"],
    ["fe80::1%eth0", "fe80:0:0:0:0:0:0:1"],
  ];
  for (const [address, expected] of cases) {
    const datagram = writeBindingResponse(TRANSACTION, address, 32853, PASSWORD);
    const message = parsed(datagram);
    assert.deepEqual(message.mappedAddress, { address: expected, port: 32853 });
    assert.ok(verifyIntegrity(datagram, message, PASSWORD));
  }
  assert.throws(() => writeBindingResponse(TRANSACTION, "host.example", 1, PASSWORD), TypeError);
});

test("writes requests and errors that it reads back", () => {
  const request = writeBindingRequest({
    transactionId: TRANSACTION,
    username: "evtj:h6vY",
    password: PASSWORD,
    priority: 0x6e0001ff,
    role: "controlling",
    tieBreaker: 7n,
    useCandidate: true,
  });
  const message = parsed(request);
  assert.equal(message.username, "evtj:h6vY");
  assert.ok(message.useCandidate);
  assert.deepEqual(message.role, { name: "controlling", tieBreaker: 7n });
  assert.ok(verifyIntegrity(request, message, PASSWORD));

  const conflict = writeBindingError(TRANSACTION, 487, PASSWORD);
  assert.equal(parsed(conflict).errorCode, 487);
  assert.ok(verifyIntegrity(conflict, parsed(conflict), PASSWORD));
  assert.ok(conflict.length < request.length);
  assert.equal(parsed(writeBindingError(TRANSACTION, 420, PASSWORD, [0x0031])).errorCode, 420);
});

test("refuses a message whose fingerprint or lengths are wrong", () => {
  for (let at = 0; at < SAMPLE_REQUEST.length; at++) {
    const broken = Buffer.from(SAMPLE_REQUEST);
    broken[at] = (broken[at] ?? 0) ^ 0x10;
    const message = parseStun(broken);
    // Either the fingerprint catches it or it is no STUN at all; the fingerprint attribute itself may turn into an unknown one.
    if (message !== undefined) assert.ok(at >= SAMPLE_REQUEST.length - 8 && !message.class.startsWith("s"), `byte ${at}`);
  }
  for (let length = 0; length < SAMPLE_REQUEST.length; length++)
    assert.equal(parseStun(SAMPLE_REQUEST.subarray(0, length)), undefined);
});

test("attributes behind MESSAGE-INTEGRITY count for nothing", () => {
  const request = writeBindingRequest({
    transactionId: TRANSACTION,
    username: "a:b",
    password: PASSWORD,
    priority: 1,
    role: "controlling",
    tieBreaker: 7n,
    useCandidate: false,
  });
  // Without its fingerprint, an attacker on the path appends USE-CANDIDATE.
  const forged = Buffer.concat([request.subarray(0, -8), hex("00250000")]);
  forged.writeUInt16BE(forged.length - 20, 2);
  const message = parsed(forged);
  assert.equal(message.useCandidate, false);
  assert.ok(verifyIntegrity(forged, message, PASSWORD));
});

test("unknown attributes that must be understood are named", () => {
  const plain = Buffer.concat([SAMPLE_REQUEST.subarray(0, 20), hex("00310004 01020304 80310000")]);
  plain.writeUInt16BE(plain.length - 20, 2);
  assert.deepEqual(parsed(plain).unknownAttributes, [0x31]);
});

test("never throws, whatever the bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, withHeader) => {
      const datagram = Buffer.from(bytes);
      if (withHeader && datagram.length >= 20) {
        SAMPLE_REQUEST.copy(datagram, 0, 0, 20);
        datagram.writeUInt16BE((datagram.length - 20) & ~3, 2);
      }
      parseStun(datagram.subarray(0, withHeader && datagram.length >= 20 ? 20 + ((datagram.length - 20) & ~3) : datagram.length));
    }),
  );
});
