// Segments encrypted as a whole: METHOD=AES-128 of RFC 8216 section 4.3.2.4 (CBC, PKCS7 padding, one IV per segment).

import { createCipheriv } from "node:crypto";

import type { Segment, SegmentKey } from "./segment.js";

export const KEY_SIZE = 16;

/** The Media Sequence Number as a big-endian integer, section 5.2: what players take when a playlist says nothing. */
export function initializationVector({ sequenceNumber }: Pick<Segment, "sequenceNumber">): Buffer {
  const iv = Buffer.alloc(KEY_SIZE);
  iv.writeBigUInt64BE(BigInt(sequenceNumber), 8);
  return iv;
}

export function encrypt(segment: Segment, key: SegmentKey): Buffer {
  const cipher = createCipheriv("aes-128-cbc", key.bytes, initializationVector(segment));
  return Buffer.concat([...segment.parts.map(({ bytes }) => cipher.update(bytes)), cipher.final()]);
}

/** Hands out keys: another one after so many segments. */
export class KeyRing {
  readonly #segmentsPerKey: number;
  readonly #makeKey: () => Buffer;
  #current: SegmentKey | undefined;
  #used = 0;

  /** @param makeKey makes 16 bytes that nobody can guess */
  constructor(segmentsPerKey: number, makeKey: () => Buffer) {
    this.#segmentsPerKey = segmentsPerKey;
    this.#makeKey = makeKey;
  }

  next(): SegmentKey {
    if (this.#current === undefined || this.#used >= this.#segmentsPerKey) {
      this.#current = { number: (this.#current?.number ?? -1) + 1, bytes: this.#makeKey() };
      this.#used = 0;
    }
    this.#used++;
    return this.#current;
  }
}
