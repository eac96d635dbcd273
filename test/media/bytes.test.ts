import assert from "node:assert/strict";
import { test } from "node:test";

import { BitReader, ByteReader, ByteWriter } from "../../gateway/media/bytes.js";
import { ProtocolError } from "../../gateway/media/errors.js";

test("what a writer writes a reader reads, over several growths", () => {
  const writer = new ByteWriter(1);
  writer.u8(1);
  writer.u16(0x0203);
  writer.u24(0x040506);
  writer.u32(0xfffefdfc);
  writer.i16(-2);
  writer.i32(-3);
  writer.f64(1.5);
  writer.text("grüße");
  writer.bytes(Buffer.from([9]));
  const reader = new ByteReader(writer.finish());
  assert.deepEqual([reader.u8(), reader.u16(), reader.u24(), reader.u32()], [1, 0x0203, 0x040506, 0xfffefdfc]);
  assert.deepEqual([reader.i16(), reader.i32(), reader.f64(), reader.text(7)], [-2, -3, 1.5, "grüße"]);
  assert.deepEqual([reader.peek(), reader.rest(), reader.remaining], [9, Buffer.from([9]), 0]);
});

test("a reader does not read past its end", () => {
  const reader = new ByteReader(Buffer.from([1, 2, 3, 4]), 1, 3);
  assert.throws(() => reader.u24(), ProtocolError);
  assert.equal(reader.u16(), 0x0203);
  assert.throws(() => reader.u8(), ProtocolError);
  assert.throws(() => new ByteReader(Buffer.alloc(1)).text(5), ProtocolError);
});

test("bits, Exp-Golomb codes and emulation prevention", () => {
  // ue: 1=0 010=1 011=2 00100=3; se of codes 1, 2: 1, -1
  const golomb = new BitReader(Buffer.from([0b10100110, 0b01000100, 0b11000000]));
  assert.deepEqual([golomb.ue(), golomb.ue(), golomb.ue(), golomb.ue(), golomb.se(), golomb.se()], [0, 1, 2, 3, 1, -1]);
  const escaped = new BitReader(Buffer.from([0, 0, 3, 1, 0, 0, 3]), 0, 7, true);
  assert.equal(escaped.bits(32), 0x00000100);
  assert.equal(escaped.bits(8), 0);
  assert.equal(escaped.overrun, false);
  escaped.bit();
  assert.equal(escaped.overrun, true);
});

test("an Exp-Golomb code of only zeros ends", () => {
  const reader = new BitReader(Buffer.alloc(100));
  assert.equal(reader.ue(), 0);
  assert.equal(reader.overrun, true);
});
