import assert from "node:assert/strict";
import { test } from "node:test";
import { writeBindingRequest } from "../../gateway/rtc/stun.js";
import { FrameReader, looksLikeIce, MAX_FRAME, writeFrameLength } from "../../gateway/rtc/tcp-framing.js";
import { seededRandom } from "../support/seeded.js";

function frameOf(body: Buffer): Buffer {
  const frame = Buffer.alloc(2 + body.length);
  body.copy(frame, writeFrameLength(frame, 0, body.length));
  return frame;
}

function readAll(chunks: readonly Buffer[], limit = MAX_FRAME): { frames: Buffer[]; isGood: boolean } {
  const frames: Buffer[] = [];
  const reader = new FrameReader(
    (frame) => frames.push(Buffer.from(frame)),
    () => limit,
  );
  const isGood = chunks.every((chunk) => reader.read(chunk));
  return { frames, isGood };
}

const BODIES = [
  Buffer.from("a"),
  Buffer.alloc(0),
  Buffer.alloc(300, 7),
  Buffer.from("bcd"),
  Buffer.alloc(255, 1),
  Buffer.alloc(256, 2),
];
const STREAM = Buffer.concat(BODIES.map(frameOf));
const FULL = BODIES.filter((body) => body.length > 0);

test("frames come out whole wherever the stream is cut in two", () => {
  for (let at = 0; at <= STREAM.length; at++) {
    const { frames } = readAll([STREAM.subarray(0, at), STREAM.subarray(at)]);
    assert.deepEqual(frames, FULL, `cut at ${at}`);
  }
});

test("frames come out whole byte by byte, and in random pieces", () => {
  assert.deepEqual(readAll(Array.from(STREAM, (byte) => Buffer.from([byte]))).frames, FULL);
  const random = seededRandom(571);
  for (let round = 0; round < 200; round++) {
    const pieces: Buffer[] = [];
    for (let at = 0; at < STREAM.length; ) {
      const end = at + 1 + Math.floor(random() * 90);
      pieces.push(STREAM.subarray(at, end));
      at = end;
    }
    assert.deepEqual(readAll(pieces).frames, FULL);
  }
});

test("a frame may have 65,535 bytes, and none is nothing", () => {
  const body = Buffer.alloc(65_535, 9);
  const stream = Buffer.concat([frameOf(Buffer.alloc(0)), frameOf(body), frameOf(Buffer.alloc(0)), frameOf(Buffer.from("x"))]);
  assert.deepEqual(readAll([stream]).frames, [body, Buffer.from("x")]);
  assert.deepEqual(readAll([stream.subarray(0, 30_000), stream.subarray(30_000)]).frames, [body, Buffer.from("x")]);
});

test("a frame over the limit ends the reading, before room is made for it", () => {
  const { frames, isGood } = readAll([Buffer.concat([frameOf(Buffer.from("ok")), Buffer.from([0x05, 0xdd])])], 1500);
  assert.equal(isGood, false);
  assert.deepEqual(frames, [Buffer.from("ok")]);
  assert.equal(readAll([Buffer.from([0x05, 0xdc])], 1500).isGood, true);
});

test("a reader that was ended gives out nothing more of the same chunk", () => {
  const frames: Buffer[] = [];
  const reader: FrameReader = new FrameReader(
    (frame) => {
      frames.push(frame);
      reader.end();
    },
    () => MAX_FRAME,
  );
  reader.read(Buffer.concat([frameOf(Buffer.from("1")), frameOf(Buffer.from("2"))]));
  reader.read(frameOf(Buffer.from("3")));
  assert.deepEqual(frames, [Buffer.from("1")]);
});

test("tells ICE from TLS and HTTP by its first bytes", () => {
  const check = frameOf(
    writeBindingRequest({
      transactionId: Buffer.alloc(12, 1),
      username: "abcd:efgh",
      password: "p".repeat(22),
      priority: 1,
      role: "controlling",
      tieBreaker: 1n,
      useCandidate: false,
    }),
  );
  assert.equal(looksLikeIce(check), "yes");
  for (let length = 0; length < 22; length++)
    assert.equal(looksLikeIce(check.subarray(0, length)), "more", `after ${length} bytes`);
  for (const other of ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n", "\x16\x03\x01\x05", "\x03\x00\x00\x01", "\0\x14\x80"]) {
    assert.equal(looksLikeIce(Buffer.from(other.padEnd(30, "\0"), "latin1")), "no", other);
  }
  assert.equal(looksLikeIce(Buffer.from("G")), "no", "the first byte is enough");
  const wrongCookie = Buffer.from(check);
  wrongCookie.writeUInt32BE(0x2112a443, 6);
  assert.equal(looksLikeIce(wrongCookie), "no");
});
