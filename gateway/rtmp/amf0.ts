// AMF0, the encoding of nearly every RTMP command ("Action Message Format -- AMF 0", 2007), read with a limit beside each length.

import { ByteReader, ByteWriter } from "../media/bytes.js";
import { ProtocolError } from "../media/errors.js";
import { AmfDate, AmfObject, type AmfValue, Budget, checkSize, MAX_DEPTH } from "./amf.js";
import { Amf3Reader, writeAmf3Value } from "./amf3.js";

// AMF0 markers, section 2.1
const NUMBER = 0x00;
const BOOLEAN = 0x01;
const STRING = 0x02;
const OBJECT = 0x03;
const NULL = 0x05;
const UNDEFINED = 0x06;
const REFERENCE = 0x07;
const ECMA_ARRAY = 0x08;
const OBJECT_END = 0x09;
const STRICT_ARRAY = 0x0a;
const DATE = 0x0b;
const LONG_STRING = 0x0c;
const UNSUPPORTED = 0x0d;
const XML = 0x0f;
const TYPED_OBJECT = 0x10;
const AVMPLUS = 0x11; // what follows is one AMF3 value

/** Reads the values of one message. @throws ProtocolError `amf-…` or `bytes-truncated` */
export function readAmf0(bytes: Buffer): AmfValue[] {
  const reader = new Amf0Reader(bytes);
  const values: AmfValue[] = [];
  while (reader.remaining > 0) values.push(reader.value(0));
  return values;
}

/** Reads at most `count` values and says where the next one starts: to take a name off a message and pass the rest on. */
export function readAmf0Prefix(bytes: Buffer, count: number): { readonly values: AmfValue[]; readonly end: number } {
  const reader = new Amf0Reader(bytes);
  const values: AmfValue[] = [];
  while (values.length < count && reader.remaining > 0) values.push(reader.value(0));
  return { values, end: reader.offset };
}

class Amf0Reader {
  readonly #reader: ByteReader;
  readonly #budget = new Budget();
  readonly #references: AmfValue[] = [];

  constructor(bytes: Buffer) {
    checkSize(bytes);
    this.#reader = new ByteReader(bytes);
  }

  get remaining(): number {
    return this.#reader.remaining;
  }

  get offset(): number {
    return this.#reader.offset;
  }

  value(depth: number): AmfValue {
    this.#budget.take(depth);
    const r = this.#reader;
    const marker = r.u8();
    switch (marker) {
      case NUMBER:
        return r.f64();
      case BOOLEAN:
        return r.u8() !== 0;
      case STRING:
        return r.text(r.u16());
      case LONG_STRING:
      case XML:
        return r.text(r.u32());
      case NULL:
        return null;
      case UNDEFINED:
      case UNSUPPORTED:
        return undefined;
      case OBJECT:
        return this.#properties(new AmfObject("object"), depth);
      case TYPED_OBJECT:
        return this.#properties(new AmfObject("object", [], r.text(r.u16())), depth);
      case ECMA_ARRAY:
        r.skip(4); // the count is a hint that many writers get wrong
        return this.#properties(new AmfObject("array"), depth);
      case STRICT_ARRAY:
        return this.#strictArray(depth);
      case DATE: {
        const time = r.f64();
        r.skip(2); // time zone, reserved
        return new AmfDate(time);
      }
      case REFERENCE: {
        const index = r.u16();
        if (index >= this.#references.length) throw new ProtocolError("amf-reference", `AMF0 reference ${index} to nothing`);
        return this.#references[index];
      }
      case AVMPLUS:
        return new Amf3Reader(r, this.#budget).value(depth + 1);
      default:
        throw new ProtocolError("amf-marker", `AMF0 marker 0x${marker.toString(16)} is not known`);
    }
  }

  #properties(object: AmfObject, depth: number): AmfObject {
    const r = this.#reader;
    this.#references.push(object);
    for (;;) {
      // Some writers leave out the end marker of the last ECMA array.
      if (r.remaining === 0 && object.form === "array") return object;
      const key = r.text(r.u16());
      if (key === "" && r.peek() === OBJECT_END) {
        r.skip(1);
        return object;
      }
      object.set(key, this.value(depth + 1));
    }
  }

  #strictArray(depth: number): AmfValue[] {
    const count = this.#reader.u32();
    if (count > this.#reader.remaining)
      throw new ProtocolError("amf-array", `an AMF0 array of ${count} in ${this.#reader.remaining} bytes`);
    const array: AmfValue[] = [];
    this.#references.push(array);
    for (let i = 0; i < count; i++) array.push(this.value(depth + 1));
    return array;
  }
}

export function writeAmf0(values: readonly AmfValue[]): Buffer {
  const writer = new ByteWriter();
  for (const value of values) writeAmf0Value(writer, value, 0);
  return writer.finish();
}

function writeAmf0Value(w: ByteWriter, value: AmfValue, depth: number): void {
  if (depth > MAX_DEPTH) throw new TypeError(`writeAmf0: nested over ${MAX_DEPTH} deep`);
  if (value === undefined) w.u8(UNDEFINED);
  else if (value === null) w.u8(NULL);
  else if (typeof value === "number") {
    w.u8(NUMBER);
    w.f64(value);
  } else if (typeof value === "boolean") {
    w.u8(BOOLEAN);
    w.u8(value ? 1 : 0);
  } else if (typeof value === "string") {
    const length = Buffer.byteLength(value);
    w.u8(length > 0xffff ? LONG_STRING : STRING);
    if (length > 0xffff) w.u32(length);
    else w.u16(length);
    w.text(value);
  } else if (value instanceof AmfDate) {
    w.u8(DATE);
    w.f64(value.time);
    w.u16(0);
  } else if (value instanceof AmfObject) {
    if (value.form === "array") {
      w.u8(ECMA_ARRAY);
      w.u32(value.size);
    } else if (value.className !== "") {
      w.u8(TYPED_OBJECT);
      writeKey(w, value.className);
    } else {
      w.u8(OBJECT);
    }
    for (const [key, item] of value) {
      writeKey(w, key);
      writeAmf0Value(w, item, depth + 1);
    }
    w.u16(0);
    w.u8(OBJECT_END);
  } else if (Buffer.isBuffer(value)) {
    w.u8(AVMPLUS); // AMF0 has no byte array
    writeAmf3Value(w, value, depth);
  } else {
    w.u8(STRICT_ARRAY);
    w.u32(value.length);
    for (const item of value) writeAmf0Value(w, item, depth + 1);
  }
}

function writeKey(w: ByteWriter, key: string): void {
  const length = Buffer.byteLength(key);
  if (length > 0xffff) throw new TypeError(`writeAmf0: a key of ${length} bytes`);
  w.u16(length);
  w.text(key);
}
