// Receiving SRTP and SRTCP: authentication, rollover counter, replay window (RFC 3711 sections 3.3, 3.4; RFC 7714).

import { timingSafeEqual } from "node:crypto";

import { DirectGcm } from "./gcm-direct.js";
import { type Address, addressOf } from "./library.js";
import type { OpenSsl } from "./openssl.js";
import { CipherWorkspace, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, UNPROTECT } from "./srtp-cipher.js";
import { deriveSessionKeys, SRTP_TAG_LENGTH } from "./srtp-keys.js";
import type { SrtpKeys, SrtpProfile, SrtpReceiver } from "./types.js";

/**
 * @param options.direct whether AES-GCM may go below EVP. Default true
 * @throws NativeUnavailable, or TypeError when key or salt has the wrong length
 */
export function createSrtpReceiver(keys: SrtpKeys, options: { readonly direct?: boolean } = {}): SrtpReceiver {
  return new Receiver(keys, options.direct ?? true);
}

class Receiver implements SrtpReceiver {
  readonly #tagLength: number;
  readonly #isAead: boolean;
  readonly #rtp: Unprotector;
  readonly #rtcp: Unprotector;
  readonly #rtpSources = new Map<number, ReplayWindow>();
  readonly #rtcpSources = new Map<number, ReplayWindow>();
  readonly #scratch = sharedScratch();
  #isClosed = false;

  constructor(keys: SrtpKeys, direct: boolean) {
    const session = deriveSessionKeys(keys);
    this.#tagLength = SRTP_TAG_LENGTH[keys.profile];
    this.#isAead = keys.profile !== "AES128_CM_SHA1_80";
    const { workspace } = this.#scratch;
    const { rtpKey, rtpSalt, rtpAuthentication, rtcpKey, rtcpSalt, rtcpAuthentication } = session;
    this.#rtp = new Unprotector(workspace, keys.profile, rtpKey, rtpSalt, rtpAuthentication, direct);
    this.#rtcp = new Unprotector(workspace, keys.profile, rtcpKey, rtcpSalt, rtcpAuthentication, direct);
  }

  unprotectRtp(packet: Buffer): Buffer | undefined {
    const headerLength = rtpHeaderLength(packet);
    const length = packet.length - headerLength - this.#tagLength;
    if (this.#isClosed || headerLength === 0 || length < 0 || packet.length > MAX_PACKET) return undefined;
    const sequenceNumber = packet.readUInt16BE(2);
    const ssrc = packet.readUInt32BE(8);
    const window = this.#rtpSources.get(ssrc);
    if (window === undefined) {
      if (this.#rtpSources.size >= MAX_SOURCES) return undefined;
      // The first packet to arrive need not be the first one sent: its counter may have gone over to 1 already.
      for (let index = sequenceNumber; index <= 0x1_ffff; index += 0x1_0000) {
        const plain = this.#unprotectRtpAs(packet, headerLength, length, ssrc, index);
        if (plain === undefined) continue;
        const first = new ReplayWindow();
        first.add(index);
        this.#rtpSources.set(ssrc, first);
        return plain;
      }
      return undefined;
    }
    const index = window.nearest(sequenceNumber);
    if (!window.isNew(index)) return undefined;
    const plain = this.#unprotectRtpAs(packet, headerLength, length, ssrc, index);
    if (plain !== undefined) window.add(index);
    return plain;
  }

  unprotectRtcp(packet: Buffer): Buffer | undefined {
    const length = packet.length - RTCP_HEADER - INDEX_LENGTH - this.#tagLength;
    if (this.#isClosed || length < 0 || packet.length > MAX_PACKET || (packet[0] ?? 0) >>> 6 !== 2) return undefined;
    const end = RTCP_HEADER + length;
    const wordOffset = this.#isAead ? end + this.#tagLength : end; // the index is last for AEAD, the tag is last otherwise
    const word = packet.readUInt32BE(wordOffset);
    if (word < 0x8000_0000) return undefined; // E=0: nobody sends it unencrypted here
    const index = word - 0x8000_0000;
    const ssrc = packet.readUInt32BE(4);
    const window = this.#rtcpSources.get(ssrc);
    if (window === undefined ? this.#rtcpSources.size >= MAX_SOURCES : !window.isNew(index)) return undefined;

    const { bytes, address, workspace } = this.#scratch;
    packet.copy(bytes);
    const body = address + RTCP_HEADER;
    let isGenuine: boolean;
    if (this.#isAead) {
      this.#rtcp.setGcmIv(ssrc, 0, index >>> 16, index & 0xffff);
      workspace.view.setUint32(WORD, word);
      isGenuine = this.#rtcp.openGcm(address, RTCP_HEADER, true, body, length);
    } else {
      this.#rtcp.setCounterIv(ssrc, index >>> 16, index & 0xffff);
      const tag = packet.subarray(end + INDEX_LENGTH, end + INDEX_LENGTH + this.#tagLength);
      isGenuine = this.#rtcp.openCounter(address, end + INDEX_LENGTH, false, tag, body, length);
    }
    if (!isGenuine) return undefined;
    const seen = window ?? new ReplayWindow();
    if (window === undefined) this.#rtcpSources.set(ssrc, seen);
    seen.add(index);
    return bytes.subarray(0, end);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#rtp.close();
    this.#rtcp.close();
  }

  #unprotectRtpAs(packet: Buffer, headerLength: number, length: number, ssrc: number, index: number): Buffer | undefined {
    const rolloverCounter = Math.floor(index / 0x1_0000);
    const sequenceNumber = index % 0x1_0000;
    const end = headerLength + length;
    const { bytes, address, workspace } = this.#scratch;
    packet.copy(bytes);
    let isGenuine: boolean;
    if (this.#isAead) {
      this.#rtp.setGcmIv(ssrc, rolloverCounter >>> 16, rolloverCounter & 0xffff, sequenceNumber);
      isGenuine = this.#rtp.openGcm(address, headerLength, false, address + headerLength, length);
    } else {
      this.#rtp.setCounterIv(ssrc, rolloverCounter, sequenceNumber);
      workspace.view.setUint32(WORD, rolloverCounter);
      isGenuine = this.#rtp.openCounter(address, end, true, packet.subarray(end), address + headerLength, length);
    }
    return isGenuine ? bytes.subarray(0, end) : undefined;
  }
}

/** Where packets are decrypted: one place for all receivers, whose calls do not nest. */
type Scratch = { readonly bytes: Buffer; readonly address: Address; readonly workspace: CipherWorkspace };

let shared: Scratch | undefined;

function sharedScratch(): Scratch {
  if (shared === undefined) {
    const bytes = Buffer.allocUnsafeSlow(MAX_PACKET);
    shared = { bytes, address: addressOf(bytes), workspace: new CipherWorkspace() };
  }
  return shared;
}

/** One key's contexts for checking and decrypting. */
class Unprotector {
  readonly #workspace: CipherWorkspace;
  readonly #openssl: OpenSsl;
  readonly #salt: Buffer;
  readonly #salt0: number;
  readonly #salt1: number;
  readonly #salt2: number;
  /** AES-GCM below EVP, where that is to be had; else there is a cipher context. */
  readonly #gcm: DirectGcm | undefined;
  readonly #cipher: Address;
  readonly #hmac: Address;

  constructor(
    workspace: CipherWorkspace,
    profile: SrtpProfile,
    key: Buffer,
    salt: Buffer,
    authentication: Buffer,
    direct: boolean,
  ) {
    this.#workspace = workspace;
    this.#openssl = workspace.openssl;
    this.#salt = Buffer.alloc(16);
    salt.copy(this.#salt);
    this.#salt0 = this.#salt.readInt32BE(0);
    this.#salt1 = this.#salt.readInt32BE(4);
    this.#salt2 = this.#salt.readInt32BE(8);
    const { aes128Gcm, aes256Gcm, aes128Ctr } = workspace;
    const isCounter = profile === "AES128_CM_SHA1_80";
    const functions = isCounter || !direct ? undefined : DirectGcm.load();
    this.#gcm = functions === undefined ? undefined : new DirectGcm(functions, key);
    const cipher = isCounter ? aes128Ctr : profile === "AEAD_AES_256_GCM" ? aes256Gcm : aes128Gcm;
    this.#cipher = this.#gcm === undefined ? workspace.openContext(cipher, key, UNPROTECT) : 0;
    this.#hmac = isCounter ? workspace.openHmac(authentication) : 0;
  }

  /** RFC 7714 sections 8.1 and 9.1: 16 zero bits, SSRC, and three 16-bit words that make up counter and sequence number, or index. */
  setGcmIv(ssrc: number, high: number, middle: number, low: number): void {
    const { view } = this.#workspace;
    view.setInt32(0, this.#salt0 ^ (ssrc >>> 16));
    view.setInt32(4, this.#salt1 ^ ((ssrc << 16) | high));
    view.setInt32(8, this.#salt2 ^ ((middle << 16) | low));
  }

  /** RFC 3711 section 4.1.1: the SSRC at byte 4, the 48-bit index at byte 8. */
  setCounterIv(ssrc: number, high: number, low: number): void {
    const { view } = this.#workspace;
    view.setUint32(0, 0);
    view.setUint32(4, ssrc);
    view.setUint32(8, high);
    view.setUint16(12, low);
    view.setUint16(14, 0);
    this.#mixSalt(14);
  }

  /**
   * Decrypts in place; the tag lies behind the body.
   *
   * @param hasWord whether the workspace's word is additional data too, behind the header
   */
  openGcm(header: Address, headerLength: number, hasWord: boolean, body: Address, length: number): boolean {
    const openssl = this.#openssl;
    const context = this.#cipher;
    const scratch = this.#workspace.address;
    const word = scratch + WORD;
    const tag = body + length;
    if (this.#gcm !== undefined) {
      return this.#gcm.open(scratch, header, headerLength, word, hasWord ? INDEX_LENGTH : 0, body, body, length, tag);
    }
    return (
      openssl.EVP_CipherInit_ex(context, 0, 0, 0, scratch, -1) === 1 &&
      openssl.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, tag) === 1 &&
      openssl.EVP_Cipher(context, 0, header, headerLength) >= 0 &&
      (!hasWord || openssl.EVP_Cipher(context, 0, word, INDEX_LENGTH) >= 0) &&
      openssl.EVP_Cipher(context, body, body, length) >= 0 &&
      openssl.EVP_Cipher(context, body, 0, 0) >= 0
    );
  }

  /** @param hasWord whether the workspace's word (the rollover counter) is authenticated behind the packet */
  openCounter(packet: Address, authenticated: number, hasWord: boolean, tag: Buffer, body: Address, length: number): boolean {
    const openssl = this.#openssl;
    const { address, bytes } = this.#workspace;
    const isHashed =
      openssl.HMAC_Init_ex(this.#hmac, 0, 0, 0, 0) === 1 &&
      openssl.HMAC_Update(this.#hmac, packet, authenticated) === 1 &&
      (!hasWord || openssl.HMAC_Update(this.#hmac, address + WORD, INDEX_LENGTH) === 1) &&
      openssl.HMAC_Final(this.#hmac, address + TAG, 0) === 1;
    return (
      isHashed &&
      timingSafeEqual(bytes.subarray(TAG, TAG + tag.length), tag) &&
      openssl.EVP_CipherInit_ex(this.#cipher, 0, 0, 0, address, -1) === 1 &&
      openssl.EVP_Cipher(this.#cipher, body, body, length) >= 0
    );
  }

  close(): void {
    this.#gcm?.close();
    this.#openssl.EVP_CIPHER_CTX_free(this.#cipher); // NULL is harmless
    if (this.#hmac !== 0) this.#openssl.HMAC_CTX_free(this.#hmac);
  }

  #mixSalt(length: number): void {
    const { bytes } = this.#workspace;
    for (let index = 0; index < length; index++) bytes[index] = (bytes[index] ?? 0) ^ (this.#salt[index] ?? 0);
  }
}

/** Which of the last WINDOW packet indexes were seen (RFC 3711 section 3.3.2). Indexes are unwrapped, below 2^48. */
class ReplayWindow {
  #highest = -1;
  readonly #seen = new Uint32Array(WINDOW / 32);

  /** The index nearest to the highest one that has these low 16 bits (RFC 3711 section 3.3.1). */
  nearest(sequenceNumber: number): number {
    const index = this.#highest - (this.#highest % 0x1_0000) + sequenceNumber;
    if (index - this.#highest > 0x8000) return Math.max(index - 0x1_0000, sequenceNumber);
    return this.#highest - index > 0x8000 ? index + 0x1_0000 : index;
  }

  isNew(index: number): boolean {
    if (index > this.#highest) return true;
    if (this.#highest - index >= WINDOW) return false;
    const bit = index % WINDOW;
    return ((this.#seen[bit >>> 5] ?? 0) & (1 << (bit & 31))) === 0;
  }

  add(index: number): void {
    if (index - this.#highest >= WINDOW) this.#seen.fill(0);
    else for (let gap = this.#highest + 1; gap <= index; gap++) this.#clear(gap % WINDOW);
    this.#highest = Math.max(this.#highest, index);
    const bit = index % WINDOW;
    this.#seen[bit >>> 5] = (this.#seen[bit >>> 5] ?? 0) | (1 << (bit & 31));
  }

  #clear(bit: number): void {
    this.#seen[bit >>> 5] = (this.#seen[bit >>> 5] ?? 0) & ~(1 << (bit & 31));
  }
}

/** @returns the bytes before the payload (RFC 3550 section 5.1), 0 when this is no RTP packet */
function rtpHeaderLength(packet: Buffer): number {
  const first = packet[0] ?? 0;
  if (packet.length < 12 || first >>> 6 !== 2) return 0;
  let length = 12 + (first & 0x0f) * 4;
  if ((first & 0x10) !== 0) {
    if (packet.length < length + 4) return 0;
    length += 4 + packet.readUInt16BE(length + 2) * 4;
  }
  return packet.length < length ? 0 : length;
}

const MAX_PACKET = 16_384; // no network carries more in a datagram that is not a mistake
const MAX_SOURCES = 64; // SSRCs of one peer; only authenticated ones count
const WINDOW = 1024; // packets; wide enough for a retransmission at 1,000 packets a second
const RTCP_HEADER = 8;
const INDEX_LENGTH = 4; // SRTCP index, or the rollover counter where that is authenticated
const TAG = 16; // offsets into the workspace
const WORD = 40;
