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
  return {
    rtpKey: derive(key, salt, 0, keyLength),
    rtpAuthentication: derive(key, salt, 1, authenticationLength),
    rtpSalt: derive(key, salt, 2, saltLength),
    rtcpKey: derive(key, salt, 3, keyLength),
    rtcpAuthentication: derive(key, salt, 4, authenticationLength),
    rtcpSalt: derive(key, salt, 5, saltLength),
  };
}

/** RFC 3711 section 4.3.3 with a key derivation rate of 0: AES-CM key stream for x = label << 48 XOR salt. */
function derive(key: Buffer, salt: Buffer, label: number, length: number): Buffer {
  if (length === 0) return Buffer.alloc(0);
  const iv = Buffer.alloc(16); // a 12-byte salt counts as one of 14 with two zero bytes behind (RFC 7714 section 11)
  salt.copy(iv);
  iv[7] = (iv[7] ?? 0) ^ label;
  const cipher = createCipheriv(key.length === 32 ? "aes-256-ctr" : "aes-128-ctr", key, iv);
  return cipher.update(Buffer.alloc(length));
}
