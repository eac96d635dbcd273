// AMF0 and AMF3 values ("Action Message Format", 2007 and 2013), read with a limit beside each length, and written.

import { ByteReader, ByteWriter } from "../media/bytes.js";
import { ProtocolError } from "../media/errors.js";

/** A point in time; AMF's zone field is reserved and always 0. */
export class AmfDate {
  /** Milliseconds since 1970. */
  readonly time: number;

  constructor(time: number) {
    this.time = time;
  }
}

/** `undefined` is AMF's undefined; a Buffer is a ByteArray of AMF3. */
export type AmfValue = undefined | null | boolean | number | string | AmfDate | Buffer | AmfObject | readonly AmfValue[];

/** An object or associative array, in order. A Map, so that a key like `__proto__` is only a key. */
export class AmfObject extends Map<string, AmfValue> {
  /** `array` is an ECMA array, what onMetaData usually is. */
  readonly form: "object" | "array";
  /** Class name of a typed object, else empty. */
  readonly className: string;

  constructor(form: "object" | "array", entries: Iterable<readonly [string, AmfValue]> = [], className = "") {
    super(entries);
    this.form = form;
    this.className = className;
  }

  text(key: string): string | undefined {
    const value = this.get(key);
    return typeof value === "string" ? value : undefined;
  }

  number(key: string): number | undefined {
    const value = this.get(key);
    return typeof value === "number" ? value : undefined;
  }
}

export function amfObject(entries: Readonly<Record<string, AmfValue>>): AmfObject {
  return new AmfObject("object", Object.entries(entries));
}

const MAX_DEPTH = 32; // real commands nest three deep; the reader recurses
const MAX_VALUES = 10_000; // in one message: the longest real metadata has a few hundred (key frame index)
const MAX_MESSAGE = 1 << 20; // bytes of one message: connect is under 1 KiB, metadata with an index under 100 KiB

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

/** Reads the values of one AMF3 sequence. @throws ProtocolError `amf-…` or `bytes-truncated` */
export function readAmf3(bytes: Buffer): AmfValue[] {
  checkSize(bytes);
  const reader = new ByteReader(bytes);
  const budget = new Budget();
  const values: AmfValue[] = [];
  while (reader.remaining > 0) values.push(new Amf3Reader(reader, budget).value(0));
  return values;
}

function checkSize(bytes: Buffer): void {
  if (bytes.length > MAX_MESSAGE) throw new ProtocolError("amf-too-long", `${bytes.length} bytes of AMF in one message`);
}

/** Counts values over a message, however they are nested. */
class Budget {
  #left = MAX_VALUES;

  take(depth: number): void {
    if (depth > MAX_DEPTH) throw new ProtocolError("amf-too-deep", `AMF nested over ${MAX_DEPTH} deep`);
    this.#left -= 1;
    if (this.#left < 0) throw new ProtocolError("amf-too-many", `over ${MAX_VALUES} AMF values in one message`);
  }
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

// AMF3 markers, section 3.1
const AMF3 = {
  UNDEFINED: 0x00,
  NULL: 0x01,
  FALSE: 0x02,
  TRUE: 0x03,
  INTEGER: 0x04,
  DOUBLE: 0x05,
  STRING: 0x06,
  XML_DOC: 0x07,
  DATE: 0x08,
  ARRAY: 0x09,
  OBJECT: 0x0a,
  XML: 0x0b,
  BYTE_ARRAY: 0x0c,
} as const;

type Traits = { readonly className: string; readonly isDynamic: boolean; readonly names: readonly string[] };

/** One AMF3 value with its own reference tables. Vectors, dictionaries and externalizable objects are refused: no RTMP client sends them. */
class Amf3Reader {
  readonly #reader: ByteReader;
  readonly #budget: Budget;
  readonly #strings: string[] = [];
  readonly #objects: AmfValue[] = [];
  readonly #traits: Traits[] = [];

  constructor(reader: ByteReader, budget: Budget) {
    this.#reader = reader;
    this.#budget = budget;
  }

  value(depth: number): AmfValue {
    this.#budget.take(depth);
    const r = this.#reader;
    const marker = r.u8();
    switch (marker) {
      case AMF3.UNDEFINED:
        return undefined;
      case AMF3.NULL:
        return null;
      case AMF3.FALSE:
        return false;
      case AMF3.TRUE:
        return true;
      case AMF3.INTEGER:
        return (this.#u29() << 3) >> 3;
      case AMF3.DOUBLE:
        return r.f64();
      case AMF3.STRING:
        return this.#string();
      case AMF3.XML_DOC:
      case AMF3.XML:
        return this.#object((length) => r.text(length));
      case AMF3.BYTE_ARRAY:
        return this.#object((length) => r.bytes(length));
      case AMF3.DATE:
        return this.#object(() => new AmfDate(r.f64()));
      case AMF3.ARRAY:
        return this.#array(depth);
      case AMF3.OBJECT:
        return this.#instance(depth);
      default:
        throw new ProtocolError("amf-marker", `AMF3 marker 0x${marker.toString(16)} is not supported`);
    }
  }

  /** U29, section 1.3.1. */
  #u29(): number {
    let value = 0;
    for (let i = 0; i < 3; i++) {
      const byte = this.#reader.u8();
      value = (value << 7) | (byte & 0x7f);
      if (byte < 0x80) return value;
    }
    return (value << 8) | this.#reader.u8();
  }

  #string(): string {
    const head = this.#u29();
    if ((head & 1) === 0) {
      const known = this.#strings[head >> 1];
      if (known === undefined) throw new ProtocolError("amf-reference", `AMF3 string reference ${head >> 1} to nothing`);
      return known;
    }
    const text = this.#reader.text(head >> 1);
    if (text !== "") this.#strings.push(text); // the empty string is never sent by reference
    return text;
  }

  #reference(head: number): AmfValue {
    const index = head >> 1;
    if (index >= this.#objects.length) throw new ProtocolError("amf-reference", `AMF3 object reference ${index} to nothing`);
    return this.#objects[index];
  }

  #object(read: (length: number) => AmfValue): AmfValue {
    const head = this.#u29();
    if ((head & 1) === 0) return this.#reference(head);
    const value = read(head >> 1);
    this.#objects.push(value);
    return value;
  }

  #array(depth: number): AmfValue {
    const head = this.#u29();
    if ((head & 1) === 0) return this.#reference(head);
    const count = head >> 1;
    if (count > this.#reader.remaining)
      throw new ProtocolError("amf-array", `an AMF3 array of ${count} in ${this.#reader.remaining} bytes`);
    const index = this.#objects.push(undefined) - 1;
    const named = new AmfObject("array");
    for (let key = this.#string(); key !== ""; key = this.#string()) named.set(key, this.value(depth + 1));
    const dense: AmfValue[] = [];
    for (let i = 0; i < count; i++) {
      const value = this.value(depth + 1);
      dense.push(value);
      if (named.size > 0) named.set(String(i), value);
    }
    const value = named.size > 0 ? named : dense;
    this.#objects[index] = value;
    return value;
  }

  #instance(depth: number): AmfValue {
    const head = this.#u29();
    if ((head & 1) === 0) return this.#reference(head);
    const traits = this.#readTraits(head);
    const object = new AmfObject("object", [], traits.className);
    this.#objects.push(object);
    for (const name of traits.names) object.set(name, this.value(depth + 1));
    if (traits.isDynamic) {
      for (let key = this.#string(); key !== ""; key = this.#string()) object.set(key, this.value(depth + 1));
    }
    return object;
  }

  #readTraits(head: number): Traits {
    if ((head & 2) === 0) {
      const known = this.#traits[head >> 2];
      if (known === undefined) throw new ProtocolError("amf-reference", `AMF3 traits reference ${head >> 2} to nothing`);
      return known;
    }
    const className = this.#string();
    if ((head & 4) !== 0) throw new ProtocolError("amf-externalizable", `AMF3 class ${className} has a form of its own`);
    const count = head >> 4;
    if (count > this.#reader.remaining)
      throw new ProtocolError("amf-array", `AMF3 traits of ${count} in ${this.#reader.remaining} bytes`);
    const names: string[] = [];
    for (let i = 0; i < count; i++) names.push(this.#string());
    const traits = { className, isDynamic: (head & 8) !== 0, names };
    this.#traits.push(traits);
    return traits;
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

/** Writes AMF3 without references: longer than need be, and always right. */
export function writeAmf3(values: readonly AmfValue[]): Buffer {
  const writer = new ByteWriter();
  for (const value of values) writeAmf3Value(writer, value, 0);
  return writer.finish();
}

function writeAmf3Value(w: ByteWriter, value: AmfValue, depth: number): void {
  if (depth > MAX_DEPTH) throw new TypeError(`writeAmf3: nested over ${MAX_DEPTH} deep`);
  if (value === undefined) w.u8(AMF3.UNDEFINED);
  else if (value === null) w.u8(AMF3.NULL);
  else if (typeof value === "boolean") w.u8(value ? AMF3.TRUE : AMF3.FALSE);
  else if (typeof value === "number") {
    if (Number.isInteger(value) && !Object.is(value, -0) && value >= -(2 ** 28) && value < 2 ** 28) {
      w.u8(AMF3.INTEGER);
      writeU29(w, value & 0x1fffffff);
    } else {
      w.u8(AMF3.DOUBLE);
      w.f64(value);
    }
  } else if (typeof value === "string") {
    w.u8(AMF3.STRING);
    writeAmf3String(w, value);
  } else if (value instanceof AmfDate) {
    w.u8(AMF3.DATE);
    writeU29(w, 1);
    w.f64(value.time);
  } else if (Buffer.isBuffer(value)) {
    w.u8(AMF3.BYTE_ARRAY);
    writeU29(w, (value.length << 1) | 1);
    w.bytes(value);
  } else if (value instanceof AmfObject) {
    if (value.form === "array") {
      w.u8(AMF3.ARRAY);
      writeU29(w, 1); // no dense part
    } else {
      w.u8(AMF3.OBJECT);
      writeU29(w, 0x0b); // inline, inline traits, dynamic, no sealed names
      writeAmf3String(w, value.className);
    }
    for (const [key, item] of value) {
      if (key === "") continue; // the empty key ends the list
      writeAmf3String(w, key);
      writeAmf3Value(w, item, depth + 1);
    }
    writeAmf3String(w, "");
  } else {
    w.u8(AMF3.ARRAY);
    writeU29(w, (value.length << 1) | 1);
    writeAmf3String(w, ""); // no named part
    for (const item of value) writeAmf3Value(w, item, depth + 1);
  }
}

function writeAmf3String(w: ByteWriter, text: string): void {
  writeU29(w, (Buffer.byteLength(text) << 1) | 1);
  w.text(text);
}

function writeU29(w: ByteWriter, value: number): void {
  if (value < 0x80) w.u8(value);
  else if (value < 0x4000) {
    w.u8(0x80 | (value >> 7));
    w.u8(value & 0x7f);
  } else if (value < 0x200000) {
    w.u8(0x80 | (value >> 14));
    w.u8(0x80 | ((value >> 7) & 0x7f));
    w.u8(value & 0x7f);
  } else {
    w.u8(0x80 | ((value >> 22) & 0x7f));
    w.u8(0x80 | ((value >> 15) & 0x7f));
    w.u8(0x80 | ((value >> 8) & 0x7f));
    w.u8(value & 0xff);
  }
}
