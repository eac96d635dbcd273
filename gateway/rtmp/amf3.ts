// AMF3 ("Action Message Format -- AMF 3", 2013): a value inside AMF0 messages behind the marker 0x11.

import { ByteReader, ByteWriter } from "../media/bytes.js";
import { ProtocolError } from "../media/errors.js";
import { AmfDate, AmfObject, type AmfValue, Budget, checkSize, MAX_DEPTH } from "./amf.js";

/** Reads the values of one AMF3 sequence. @throws ProtocolError `amf-…` or `bytes-truncated` */
export function readAmf3(bytes: Buffer): AmfValue[] {
  checkSize(bytes);
  const reader = new ByteReader(bytes);
  const budget = new Budget();
  const values: AmfValue[] = [];
  while (reader.remaining > 0) values.push(new Amf3Reader(reader, budget).value(0));
  return values;
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
export class Amf3Reader {
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

/** Writes AMF3 without references: longer than need be, and always right. */
export function writeAmf3(values: readonly AmfValue[]): Buffer {
  const writer = new ByteWriter();
  for (const value of values) writeAmf3Value(writer, value, 0);
  return writer.finish();
}

export function writeAmf3Value(w: ByteWriter, value: AmfValue, depth: number): void {
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
