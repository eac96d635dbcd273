// The SRTP key schedule (RFC 3711 section 4.3, RFC 7714 section 11): six session keys out of one master key and salt.

import { createCipheriv } from "node:crypto";

import type { SrtpKeys, SrtpProfile } from "./types.js";

export type SessionKeys = {
  readonly rtpKey: Buffer;
  /** HMAC-SHA1 key; empty for the AEAD profiles. */
  readonly rtpAuthentication: Buffer;
  readonly rtpSalt: Buffer;
  readonly rtcpKey: Buffer;
  readonly rtcpAuthentication: Buffer;
  readonly rtcpSalt: Buffer;
};

/** Bytes that a protected RTP packet is longer than the plain one. RTCP adds its 4-byte index to that. */
export const SRTP_TAG_LENGTH: Readonly<Record<SrtpProfile, number>> = {
  AEAD_AES_128_GCM: 16,
  AEAD_AES_256_GCM: 16,
  AES128_CM_SHA1_80: 10,
};

/** @throws TypeError when key or salt has not the length its profile asks for */
export function deriveSessionKeys(keys: SrtpKeys): SessionKeys {
  const { key, salt, profile } = keys;
  const isAead = profile !== "AES128_CM_SHA1_80";
  const keyLength = profile === "AEAD_AES_256_GCM" ? 32 : 16;
  const saltLength = isAead ? 12 : 14;
  if (key.length !== keyLength || salt.length !== saltLength) {
    throw new TypeError(
      `${profile} takes a key of ${keyLength} and a salt of ${saltLength} bytes, got ${key.length} and ${salt.length}`,
    );
  }
  const authenticationLength = isAead ? 0 : 20;
  const all = Buffer.alloc(2 * (keyLength + authenticationLength + saltLength)); // one piece of memory: there is one for each viewer
  let used = 0;
  const next = (label: number, length: number): Buffer => {
    const part = all.subarray(used, used + length);
    used += length;
    derive(part, key, salt, label);
    return part;
  };
  return {
    rtpKey: next(0, keyLength),
    rtpAuthentication: next(1, authenticationLength),
    rtpSalt: next(2, saltLength),
    rtcpKey: next(3, keyLength),
    rtcpAuthentication: next(4, authenticationLength),
    rtcpSalt: next(5, saltLength),
  };
}

/** RFC 3711 section 4.3.3 with a key derivation rate of 0: AES-CM key stream for x = label << 48 XOR salt. */
function derive(out: Buffer, key: Buffer, salt: Buffer, label: number): void {
  if (out.length === 0) return;
  const iv = Buffer.alloc(16); // a 12-byte salt counts as one of 14 with two zero bytes behind (RFC 7714 section 11)
  salt.copy(iv);
  iv[7] = (iv[7] ?? 0) ^ label;
  const cipher = createCipheriv(key.length === 32 ? "aes-256-ctr" : "aes-128-ctr", key, iv);
  cipher.update(Buffer.alloc(out.length)).copy(out);
}
