// STUN binding messages as ICE uses them (RFC 8489, RFC 8445 section 7).
//
//   0                   1                   2                   3
//   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |0 0|     STUN Message Type     |         Message Length        |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |                         Magic Cookie                          |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |                     Transaction ID (96 bits)                  |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

import { createHmac, timingSafeEqual } from "node:crypto";

import { addressBytes, addressText } from "./address.js";

export type StunClass = "request" | "indication" | "success" | "error";

/** A binding message; what it refers to in the datagram stays valid as long as the datagram does. */
export type StunMessage = {
  readonly class: StunClass;
  /** 12 bytes, a view. */
  readonly transactionId: Buffer;
  /** USERNAME, at most 513 bytes (RFC 8489 section 14.3). */
  readonly username: string | undefined;
  /** PRIORITY of a check. */
  readonly priority: number | undefined;
  readonly useCandidate: boolean;
  /** Tie-breaker of ICE-CONTROLLING or ICE-CONTROLLED, whichever role the sender claims. */
  readonly role: { readonly name: "controlling" | "controlled"; readonly tieBreaker: bigint } | undefined;
  readonly errorCode: number | undefined;
  readonly mappedAddress: { readonly address: string; readonly port: number } | undefined;
  /** Where MESSAGE-INTEGRITY begins in the datagram; 0 when there is none. */
  readonly integrityAt: number;
  /** Attributes that must be understood and are not (RFC 8489 section 14). */
  readonly unknownAttributes: readonly number[];
};

/** True when a datagram's first bytes say STUN (RFC 7983 section 7). */
export function isStun(datagram: Buffer): boolean {
  return datagram.length >= HEADER_SIZE && (datagram[0] ?? 0xff) < 4 && datagram.readUInt32BE(4) === MAGIC_COOKIE;
}

/** Our part of a check's USERNAME, before anything else is looked at: it says which session the check is for. */
export function usernameFragmentOf(datagram: Buffer): string | undefined {
  for (let at = HEADER_SIZE; at + 4 <= datagram.length; ) {
    const size = datagram.readUInt16BE(at + 2);
    const valueAt = at + 4;
    if (datagram.readUInt16BE(at) === USERNAME) {
      const colon = datagram.indexOf(0x3a, valueAt);
      return colon === -1 || colon > valueAt + size || colon > datagram.length
        ? undefined
        : datagram.toString("latin1", valueAt, colon);
    }
    at = valueAt + ((size + 3) & ~3);
  }
  return undefined;
}

/**
 * Reads a binding message. A FINGERPRINT that is there has been verified; MESSAGE-INTEGRITY has not.
 *
 * @returns undefined for anything else, anything damaged, and anything whose lengths do not add up
 */
export function parseStun(datagram: Buffer): StunMessage | undefined {
  if (!isStun(datagram) || datagram.length > MAX_STUN_SIZE) return undefined;
  const messageClass = CLASSES.get(datagram.readUInt16BE(0));
  const length = datagram.readUInt16BE(2);
  if (messageClass === undefined || length % 4 !== 0 || length + HEADER_SIZE !== datagram.length) return undefined;

  let username: string | undefined;
  let priority: number | undefined;
  let useCandidate = false;
  let role: StunMessage["role"];
  let errorCode: number | undefined;
  let mappedAddress: StunMessage["mappedAddress"];
  let integrityAt = 0;
  const unknownAttributes: number[] = [];

  let at = HEADER_SIZE;
  while (at < datagram.length) {
    const type = datagram.readUInt16BE(at);
    const size = datagram.readUInt16BE(at + 2);
    const valueAt = at + 4;
    const next = valueAt + ((size + 3) & ~3);
    if (next > datagram.length) return undefined;
    if (type === FINGERPRINT) {
      if (size !== 4 || next !== datagram.length) return undefined; // it is the last one
      if ((crc32(datagram, at) ^ FINGERPRINT_XOR) >>> 0 !== datagram.readUInt32BE(valueAt)) return undefined;
    } else if (integrityAt === 0) {
      // What follows MESSAGE-INTEGRITY is not covered by it and therefore ignored (RFC 8489 section 14.5).
      switch (type) {
        case USERNAME:
          if (size > MAX_USERNAME) return undefined;
          username ??= datagram.toString("utf8", valueAt, valueAt + size);
          break;
        case MESSAGE_INTEGRITY:
          if (size !== INTEGRITY_SIZE) return undefined;
          integrityAt = at;
          break;
        case PRIORITY:
          if (size !== 4) return undefined;
          priority ??= datagram.readUInt32BE(valueAt);
          break;
        case USE_CANDIDATE:
          useCandidate = true;
          break;
        case ICE_CONTROLLED:
        case ICE_CONTROLLING:
          if (size !== 8) return undefined;
          role ??= {
            name: type === ICE_CONTROLLING ? "controlling" : "controlled",
            tieBreaker: datagram.readBigUInt64BE(valueAt),
          };
          break;
        case ERROR_CODE:
          if (size < 4) return undefined;
          errorCode ??= ((datagram[valueAt + 2] ?? 0) & 7) * 100 + (datagram[valueAt + 3] ?? 0);
          break;
        case XOR_MAPPED_ADDRESS:
          mappedAddress ??= readXorAddress(datagram, valueAt, size);
          if (mappedAddress === undefined) return undefined;
          break;
        default:
          // Below 0x8000: comprehension required. More than a few of them is nonsense, not a message.
          if (type < 0x8000 && !KNOWN_UNUSED.has(type) && unknownAttributes.push(type) > MAX_UNKNOWN) return undefined;
      }
    }
    at = next;
  }
  return {
    class: messageClass,
    transactionId: datagram.subarray(8, HEADER_SIZE),
    username,
    priority,
    useCandidate,
    role,
    errorCode,
    mappedAddress,
    integrityAt,
    unknownAttributes,
  };
}

/** Whether the datagram's MESSAGE-INTEGRITY was made with this password (short-term credentials, RFC 8489 section 9.1). */
export function verifyIntegrity(datagram: Buffer, message: StunMessage, password: string): boolean {
  const at = message.integrityAt;
  if (at === 0) return false;
  const expected = integrity(datagram, at, password);
  return timingSafeEqual(expected, datagram.subarray(at + 4, at + 4 + INTEGRITY_SIZE));
}

export type BindingRequest = {
  readonly transactionId: Buffer;
  readonly username: string;
  readonly password: string;
  readonly priority: number;
  readonly role: "controlling" | "controlled";
  readonly tieBreaker: bigint;
  readonly useCandidate: boolean;
};

/** A check with integrity and fingerprint, as the full agent of a test peer sends it. */
export function writeBindingRequest(request: BindingRequest): Buffer {
  const out = Buffer.alloc(HEADER_SIZE + 4 + MAX_USERNAME + 3 + 8 + 12 + 4 + TRAILER_SIZE);
  let at = writeHeader(out, BINDING_REQUEST, request.transactionId);
  const username = Buffer.from(request.username, "utf8");
  at = writeAttributeHeader(out, at, USERNAME, username.length);
  at += (username.copy(out, at) + 3) & ~3;
  at = writeAttributeHeader(out, at, PRIORITY, 4);
  at = out.writeUInt32BE(request.priority, at);
  at = writeAttributeHeader(out, at, request.role === "controlling" ? ICE_CONTROLLING : ICE_CONTROLLED, 8);
  at = out.writeBigUInt64BE(request.tieBreaker, at);
  if (request.useCandidate) at = writeAttributeHeader(out, at, USE_CANDIDATE, 0);
  return seal(out, at, request.password);
}

/**
 * The success response: where the request came from, integrity, fingerprint.
 *
 * @param username echoed before all else when given; not of RFC 8489 (section 9.1.4), but what tools for checking a path compare
 * @throws TypeError for an address that is none
 */
export function writeBindingResponse(
  transactionId: Buffer,
  address: string,
  port: number,
  password: string,
  username?: string,
): Buffer {
  const bytes = addressBytes(address);
  if (bytes === undefined) throw new TypeError(`address: ${address} is not an IP address`);
  const echo = Buffer.from(username ?? "", "utf8");
  const echoSize = username === undefined ? 0 : 4 + ((echo.length + 3) & ~3);
  const out = Buffer.alloc(HEADER_SIZE + echoSize + 8 + bytes.length + TRAILER_SIZE);
  let at = writeHeader(out, BINDING_SUCCESS, transactionId);
  if (username !== undefined) {
    at = writeAttributeHeader(out, at, USERNAME, echo.length);
    at += (echo.copy(out, at) + 3) & ~3;
  }
  at = writeAttributeHeader(out, at, XOR_MAPPED_ADDRESS, 4 + bytes.length);
  out[at + 1] = bytes.length === 4 ? FAMILY_V4 : FAMILY_V6;
  out.writeUInt16BE(port ^ (MAGIC_COOKIE >>> 16), at + 2);
  for (let index = 0; index < bytes.length; index++) {
    out[at + 4 + index] = (bytes[index] ?? 0) ^ (out[4 + index] ?? 0); // cookie, then transaction id
  }
  return seal(out, at + 4 + bytes.length, password);
}

/** An error response: 487 and 420 are signed, as their requests were; `unknownAttributes` go with 420. */
export function writeBindingError(
  transactionId: Buffer,
  code: 400 | 401 | 420 | 487,
  password: string,
  unknownAttributes: readonly number[] = [],
): Buffer {
  const listSize = unknownAttributes.length === 0 ? 0 : 4 + ((unknownAttributes.length * 2 + 3) & ~3);
  const out = Buffer.alloc(HEADER_SIZE + 8 + listSize + TRAILER_SIZE);
  let at = writeHeader(out, BINDING_ERROR, transactionId);
  at = writeAttributeHeader(out, at, ERROR_CODE, 4); // no reason phrase: the answer stays smaller than its request
  out[at + 2] = Math.floor(code / 100);
  out[at + 3] = code % 100;
  at += 4;
  if (listSize > 0) {
    writeAttributeHeader(out, at, UNKNOWN_ATTRIBUTES, unknownAttributes.length * 2);
    for (let index = 0; index < unknownAttributes.length; index++) {
      out.writeUInt16BE(unknownAttributes[index] ?? 0, at + 4 + index * 2);
    }
    at += listSize;
  }
  return seal(out, at, password);
}

function readXorAddress(datagram: Buffer, at: number, size: number): StunMessage["mappedAddress"] {
  const length = datagram[at + 1] === FAMILY_V4 ? 4 : 16;
  if (size !== 4 + length || (length === 16 && datagram[at + 1] !== FAMILY_V6)) return undefined;
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++) bytes[index] = (datagram[at + 4 + index] ?? 0) ^ (datagram[4 + index] ?? 0);
  return { address: addressText(bytes), port: datagram.readUInt16BE(at + 2) ^ (MAGIC_COOKIE >>> 16) };
}

function writeHeader(out: Buffer, type: number, transactionId: Buffer): number {
  out.writeUInt16BE(type, 0);
  out.writeUInt32BE(MAGIC_COOKIE, 4);
  transactionId.copy(out, 8, 0, 12);
  return HEADER_SIZE;
}

function writeAttributeHeader(out: Buffer, at: number, type: number, size: number): number {
  out.writeUInt16BE(type, at);
  out.writeUInt16BE(size, at + 2);
  return at + 4;
}

/** Appends MESSAGE-INTEGRITY and FINGERPRINT at `at` and cuts the message there. */
function seal(out: Buffer, at: number, password: string): Buffer {
  integrity(out, at, password).copy(out, at + 4);
  const fingerprintAt = writeAttributeHeader(out, at, MESSAGE_INTEGRITY, INTEGRITY_SIZE) + INTEGRITY_SIZE;
  const end = writeAttributeHeader(out, fingerprintAt, FINGERPRINT, 4) + 4;
  out.writeUInt16BE(end - HEADER_SIZE, 2);
  out.writeUInt32BE((crc32(out, fingerprintAt) ^ FINGERPRINT_XOR) >>> 0, fingerprintAt + 4);
  return out.subarray(0, end);
}

/** HMAC-SHA1 over what stands before `at`, the length field set as if the message ended with MESSAGE-INTEGRITY. */
function integrity(datagram: Buffer, at: number, password: string): Buffer {
  const hmac = createHmac("sha1", password);
  LENGTH_SCRATCH.writeUInt16BE(at + 4 + INTEGRITY_SIZE - HEADER_SIZE, 0);
  hmac.update(datagram.subarray(0, 2));
  hmac.update(LENGTH_SCRATCH);
  hmac.update(datagram.subarray(4, at));
  return hmac.digest();
}

function crc32(bytes: Buffer, end: number): number {
  let crc = -1;
  for (let at = 0; at < end; at++) crc = (CRC_TABLE[(crc ^ (bytes[at] ?? 0)) & 0xff] ?? 0) ^ (crc >>> 8);
  return crc ^ -1;
}

function makeCrcTable(): Int32Array {
  const table = new Int32Array(256);
  for (let index = 0; index < 256; index++) {
    let value = index;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1; // ITU V.42, reflected
    table[index] = value;
  }
  return table;
}

const HEADER_SIZE = 20;
const MAGIC_COOKIE = 0x2112a442;
export const MAX_STUN_SIZE = 1500; // one datagram; RFC 8489 section 6.1 wants requests under the path's MTU
const MAX_USERNAME = 513; // RFC 8489 section 14.3: fewer than 509 bytes as an opaque string, 513 in RFC 5389
const MAX_UNKNOWN = 16;
const INTEGRITY_SIZE = 20;
const TRAILER_SIZE = 4 + INTEGRITY_SIZE + 8;

const BINDING_REQUEST = 0x0001;
const BINDING_INDICATION = 0x0011;
const BINDING_SUCCESS = 0x0101;
const BINDING_ERROR = 0x0111;
const CLASSES: ReadonlyMap<number, StunClass> = new Map([
  [BINDING_REQUEST, "request"],
  [BINDING_INDICATION, "indication"],
  [BINDING_SUCCESS, "success"],
  [BINDING_ERROR, "error"],
]);

const USERNAME = 0x0006;
const MESSAGE_INTEGRITY = 0x0008;
const ERROR_CODE = 0x0009;
const UNKNOWN_ATTRIBUTES = 0x000a;
const XOR_MAPPED_ADDRESS = 0x0020;
const PRIORITY = 0x0024;
const USE_CANDIDATE = 0x0025;
const FINGERPRINT = 0x8028;
const ICE_CONTROLLED = 0x8029;
const ICE_CONTROLLING = 0x802a;
/** Understood and without meaning for us: MAPPED-ADDRESS, UNKNOWN-ATTRIBUTES, REALM, NONCE, MESSAGE-INTEGRITY-SHA256. */
const KNOWN_UNUSED: ReadonlySet<number> = new Set([0x0001, UNKNOWN_ATTRIBUTES, 0x0014, 0x0015, 0x001c]);

const FAMILY_V4 = 1;
const FAMILY_V6 = 2;
const FINGERPRINT_XOR = 0x5354554e; // "STUN"
const CRC_TABLE = makeCrcTable();
const LENGTH_SCRATCH = Buffer.alloc(2);
