// Cursors over bytes: a checked reader, a growing writer, and a bit reader for H.264 payloads (ISO/IEC 14496-10 section 7.2).

import { ProtocolError } from "./errors.js";

/** Reads big-endian values one after the other. @throws ProtocolError `bytes-truncated` when a value reaches past the end */
export class ByteReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  #offset: number;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#offset = start;
    this.#end = end;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#end - this.#offset;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#advance(1));
  }

  peek(): number {
    const value = this.u8();
    this.#offset -= 1;
    return value;
  }

  u16(): number {
    return this.#bytes.readUInt16BE(this.#advance(2));
  }

  i16(): number {
    return this.#bytes.readInt16BE(this.#advance(2));
  }

  u24(): number {
    return this.#bytes.readUIntBE(this.#advance(3), 3);
  }

  i24(): number {
    return this.#bytes.readIntBE(this.#advance(3), 3);
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.#advance(4));
  }

  i32(): number {
    return this.#bytes.readInt32BE(this.#advance(4));
  }

  f64(): number {
    return this.#bytes.readDoubleBE(this.#advance(8));
  }

  /** A view, not a copy. */
  bytes(length: number): Buffer {
    const start = this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }

  /** A view of all that is left. */
  rest(): Buffer {
    return this.bytes(this.remaining);
  }

  text(length: number): string {
    const start = this.#advance(length);
    return this.#bytes.toString("utf8", start, start + length);
  }

  skip(length: number): void {
    this.#advance(length);
  }

  #advance(length: number): number {
    const start = this.#offset;
    if (length > this.#end - start) {
      throw new ProtocolError("bytes-truncated", `${length} bytes expected, ${this.#end - start} are left`);
    }
    this.#offset = start + length;
    return start;
  }
}

/** Writes big-endian values into a buffer that grows as needed. */
export class ByteWriter {
  #bytes: Buffer;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = Buffer.allocUnsafe(capacity);
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): void {
    const at = this.#room(1);
    this.#bytes.writeUInt8(value, at);
  }

  u16(value: number): void {
    const at = this.#room(2);
    this.#bytes.writeUInt16BE(value, at);
  }

  i16(value: number): void {
    const at = this.#room(2);
    this.#bytes.writeInt16BE(value, at);
  }

  u24(value: number): void {
    const at = this.#room(3);
    this.#bytes.writeUIntBE(value, at, 3);
  }

  u32(value: number): void {
    const at = this.#room(4);
    this.#bytes.writeUInt32BE(value, at);
  }

  i32(value: number): void {
    const at = this.#room(4);
    this.#bytes.writeInt32BE(value, at);
  }

  f64(value: number): void {
    const at = this.#room(8);
    this.#bytes.writeDoubleBE(value, at);
  }

  bytes(value: Uint8Array): void {
    const at = this.#room(value.length);
    this.#bytes.set(value, at);
  }

  text(value: string): void {
    const length = Buffer.byteLength(value);
    const at = this.#room(length);
    this.#bytes.write(value, at, length, "utf8");
  }

  /** What has been written: a view that the writer gives up. */
  finish(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Must be called before `#bytes` is looked at: it may move. */
  #room(length: number): number {
    const start = this.#length;
    this.#length = start + length;
    if (this.#length > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.#length, this.#bytes.length * 2));
      this.#bytes.copy(grown, 0, 0, start);
      this.#bytes = grown;
    }
    return start;
  }
}

/**
 * Reads bits, stepping over emulation prevention bytes (00 00 03). Past the end it gives zeros and sets `overrun`, so that a parser
 * checks once at its end.
 */
export class BitReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  readonly #escaped: boolean;
  #offset: number;
  #bit = 0;
  #zeros = 0;
  overrun = false;

  /** @param escaped the bytes are a NAL unit, with emulation prevention; otherwise a plain bit string */
  constructor(bytes: Buffer, start = 0, end = bytes.length, escaped = false) {
    this.#bytes = bytes;
    this.#offset = start;
    this.#end = end;
    this.#escaped = escaped;
  }

  /** Bits left, emulation prevention bytes counted in. */
  get remaining(): number {
    return Math.max(0, (this.#end - this.#offset) * 8 - this.#bit);
  }

  bit(): number {
    if (this.#offset >= this.#end) {
      this.overrun = true;
      return 0;
    }
    const byte = this.#bytes[this.#offset] as number;
    const value = (byte >> (7 - this.#bit)) & 1;
    this.#bit += 1;
    if (this.#bit === 8) {
      this.#bit = 0;
      this.#offset += 1;
      if (this.#escaped) {
        this.#zeros = byte === 0 ? this.#zeros + 1 : 0;
        if (this.#zeros >= 2 && this.#bytes[this.#offset] === 3) {
          this.#offset += 1;
          this.#zeros = 0;
        }
      }
    }
    return value;
  }

  /** Unsigned value of up to 32 bits. */
  bits(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) value = value * 2 + this.bit();
    return value;
  }

  flag(): boolean {
    return this.bit() === 1;
  }

  skip(count: number): void {
    for (let i = 0; i < count && !this.overrun; i++) this.bit();
  }

  /** Unsigned Exp-Golomb code, `ue(v)`. */
  ue(): number {
    let zeros = 0;
    while (this.bit() === 0) {
      zeros += 1;
      if (zeros > 32 || this.overrun) {
        this.overrun = true;
        return 0;
      }
    }
    return 2 ** zeros - 1 + this.bits(zeros);
  }

  /** Signed Exp-Golomb code, `se(v)`. */
  se(): number {
    const code = this.ue();
    return code % 2 === 1 ? (code + 1) / 2 : -code / 2;
  }
}
