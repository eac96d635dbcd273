// AMF values ("Action Message Format", AMF0 of 2007 and AMF3 of 2013) and the limits both readers keep.

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

export const MAX_DEPTH = 32; // real commands nest three deep; the reader recurses
const MAX_VALUES = 10_000; // in one message: the longest real metadata has a few hundred (key frame index)
const MAX_MESSAGE = 1 << 20; // bytes of one message: connect is under 1 KiB, metadata with an index under 100 KiB

/** @throws ProtocolError `amf-too-long` */
export function checkSize(bytes: Buffer): void {
  if (bytes.length > MAX_MESSAGE) throw new ProtocolError("amf-too-long", `${bytes.length} bytes of AMF in one message`);
}

/** Counts values over a message, however they are nested. */
export class Budget {
  #left = MAX_VALUES;

  take(depth: number): void {
    if (depth > MAX_DEPTH) throw new ProtocolError("amf-too-deep", `AMF nested over ${MAX_DEPTH} deep`);
    this.#left -= 1;
    if (this.#left < 0) throw new ProtocolError("amf-too-many", `over ${MAX_VALUES} AMF values in one message`);
  }
}
