// The RTMP handshake, RTMP 1.0 section 5.2, and the digest form of it that Flash Player 9 brought ("complex": HMAC-SHA256 hidden in
// C1 and S1, in one of two places). Pure: chance is handed in.

import { createHmac } from "node:crypto";

import { ProtocolError } from "../media/errors.js";

export const HANDSHAKE_SIZE = 1536; // C1, S1, C2, S2
export const RTMP_VERSION = 3; // C0, S0

/** Where the digest hides: behind the byte at 8 (scheme 1) or behind the one at 772 (scheme 0, after the key). */
export type DigestScheme = 0 | 1;

export type RandomBytes = (size: number) => Buffer;

/** What C0 and C1 are answered with. */
export type ServerHandshake = { readonly kind: "simple" | "complex"; readonly answer: Buffer };

/**
 * Answers C0 and C1 with S0, S1 and S2.
 *
 * @param c0c1 1 + 1536 bytes
 * @throws ProtocolError `handshake-version`
 */
export function answerHandshake(c0c1: Buffer, random: RandomBytes): ServerHandshake {
  checkVersion(c0c1);
  const c1 = c0c1.subarray(1, 1 + HANDSHAKE_SIZE);
  const answer = Buffer.allocUnsafe(1 + 2 * HANDSHAKE_SIZE);
  answer[0] = RTMP_VERSION;
  const s1 = answer.subarray(1, 1 + HANDSHAKE_SIZE);
  const s2 = answer.subarray(1 + HANDSHAKE_SIZE);
  random(HANDSHAKE_SIZE).copy(s1);
  s1.writeUInt32BE(0, 0); // time
  const scheme = c1.readUInt32BE(4) === 0 ? undefined : findScheme(c1, CLIENT_KEY);
  if (scheme === undefined) {
    s1.writeUInt32BE(0, 4);
    c1.copy(s2);
    return { kind: "simple", answer };
  }
  s1.writeUInt32BE(SERVER_VERSION, 4);
  writeDigest(s1, scheme, SERVER_KEY);
  random(HANDSHAKE_SIZE).copy(s2);
  signResponse(s2, digestOf(c1, scheme), SERVER_FULL_KEY);
  return { kind: "complex", answer };
}

/** @throws ProtocolError `handshake-version` unless the first byte is RTMP's. */
export function checkVersion(bytes: Buffer): void {
  const version = bytes[0];
  if (version === RTMP_VERSION) return;
  const text = bytes.toString("latin1", 0, 8);
  let guess = `version byte ${version}`;
  if (/^(GET|POST|HEAD|OPTIONS|PUT|DELETE) ?/.test(text)) guess = "HTTP, is the port right?";
  else if (version === 0x16) guess = "TLS on a port for plain RTMP";
  else if (version === 6 || version === 8) guess = `RTMPE (version ${version}), which is not supported`;
  throw new ProtocolError("handshake-version", `the first byte is not RTMP's 3: ${guess}`);
}

/** C0 and C1. */
export function startHandshake(random: RandomBytes, scheme?: DigestScheme): Buffer {
  const out = Buffer.allocUnsafe(1 + HANDSHAKE_SIZE);
  out[0] = RTMP_VERSION;
  const c1 = out.subarray(1);
  random(HANDSHAKE_SIZE).copy(c1);
  c1.writeUInt32BE(0, 0); // time
  c1.writeUInt32BE(scheme === undefined ? 0 : CLIENT_VERSION, 4);
  if (scheme !== undefined) writeDigest(c1, scheme, CLIENT_KEY);
  return out;
}

/**
 * C2, for S0, S1 and S2.
 *
 * @param c0c1 what `startHandshake` gave
 * @param answer 1 + 2 * 1536 bytes
 * @throws ProtocolError `handshake-version`, or `handshake-digest` when a digest was sent and the server's own does not match
 */
export function finishHandshake(c0c1: Buffer, answer: Buffer, random: RandomBytes, scheme?: DigestScheme): Buffer {
  checkVersion(answer);
  const s1 = answer.subarray(1, 1 + HANDSHAKE_SIZE);
  const s2 = answer.subarray(1 + HANDSHAKE_SIZE, 1 + 2 * HANDSHAKE_SIZE);
  const c1 = c0c1.subarray(1);
  const serverScheme = scheme === undefined ? undefined : findScheme(s1, SERVER_KEY);
  if (scheme === undefined || serverScheme === undefined) return Buffer.from(s1); // simple: an echo
  if (!isSigned(s2, digestOf(c1, scheme), SERVER_FULL_KEY)) {
    throw new ProtocolError("handshake-digest", "the server's answer is not signed as it should be");
  }
  const c2 = Buffer.from(random(HANDSHAKE_SIZE));
  signResponse(c2, digestOf(s1, serverScheme), CLIENT_FULL_KEY);
  return c2;
}

const DIGEST_SIZE = 32;
const CLIENT_VERSION = 0x0c_00_0d_0e; // any with the first byte not 0; servers take it for a Flash Player that knows digests
const SERVER_VERSION = 0x04_05_00_01; // likewise: ffmpeg checks the digest only when it is over 3

/** The bytes that Flash Player and Flash Media Server put behind their names; published with the protocol's first descriptions. */
const KEY_TAIL = Buffer.from("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae", "hex");
const CLIENT_KEY = Buffer.from("Genuine Adobe Flash Player 001");
const SERVER_KEY = Buffer.from("Genuine Adobe Flash Media Server 001");
const CLIENT_FULL_KEY = Buffer.concat([CLIENT_KEY, KEY_TAIL]);
const SERVER_FULL_KEY = Buffer.concat([SERVER_KEY, KEY_TAIL]);

function findScheme(block: Buffer, key: Buffer): DigestScheme | undefined {
  for (const scheme of [0, 1] as const) {
    if (computeDigest(block, scheme, key).equals(digestOf(block, scheme))) return scheme;
  }
  return undefined;
}

/** The four bytes at 8 or 772 add up to the place of the digest behind them. */
function digestOffset(block: Buffer, scheme: DigestScheme): number {
  const at = scheme === 1 ? 8 : 772;
  const sum = block.readUInt8(at) + block.readUInt8(at + 1) + block.readUInt8(at + 2) + block.readUInt8(at + 3);
  return at + 4 + (sum % 728); // 764 bytes of digest block less 4 and 32
}

function digestOf(block: Buffer, scheme: DigestScheme): Buffer {
  const offset = digestOffset(block, scheme);
  return block.subarray(offset, offset + DIGEST_SIZE);
}

/** Over everything but the digest itself. */
function computeDigest(block: Buffer, scheme: DigestScheme, key: Buffer): Buffer {
  const offset = digestOffset(block, scheme);
  return createHmac("sha256", key)
    .update(block.subarray(0, offset))
    .update(block.subarray(offset + DIGEST_SIZE, HANDSHAKE_SIZE))
    .digest();
}

function writeDigest(block: Buffer, scheme: DigestScheme, key: Buffer): void {
  computeDigest(block, scheme, key).copy(block, digestOffset(block, scheme));
}

/** S2 and C2 end with a digest whose key is made from the other side's. */
function signResponse(block: Buffer, peerDigest: Buffer, key: Buffer): void {
  responseDigest(block, peerDigest, key).copy(block, HANDSHAKE_SIZE - DIGEST_SIZE);
}

function isSigned(block: Buffer, peerDigest: Buffer, key: Buffer): boolean {
  return responseDigest(block, peerDigest, key).equals(block.subarray(HANDSHAKE_SIZE - DIGEST_SIZE));
}

function responseDigest(block: Buffer, peerDigest: Buffer, key: Buffer): Buffer {
  const secret = createHmac("sha256", key).update(peerDigest).digest();
  return createHmac("sha256", secret)
    .update(block.subarray(0, HANDSHAKE_SIZE - DIGEST_SIZE))
    .digest();
}
