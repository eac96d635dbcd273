// Protecting packets in place in memory: AES-GCM (RFC 7714) and AES-CM with HMAC-SHA1 (RFC 3711), by OpenSSL's EVP.
//
// A cipher holds OpenSSL contexts that carry the expanded key, so a packet costs a new IV and the work itself. All addresses given in
// are used within the call only.

import { DirectGcm, type Gcm } from "./gcm-direct.js";
import { type Address, addressOf } from "./library.js";
import { loadOpenSsl, type OpenSsl } from "./openssl.js";
import { deriveSessionKeys, type SessionKeys, SRTP_TAG_LENGTH } from "./srtp-keys.js";
import type { SrtpKeys } from "./types.js";

/** What all ciphers of one owner share: the algorithms, and a little memory of known address for IVs, keys and tags. */
export class CipherWorkspace {
  readonly openssl: OpenSsl;
  readonly aes128Gcm: Address;
  readonly aes256Gcm: Address;
  readonly aes128Ctr: Address;
  readonly sha1: Address;
  /** 0: IV (16), 16: tag (20) or additional data (12), 40: word (4), 64: key (32). */
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly address: Address;

  /** @throws NativeUnavailable */
  constructor() {
    this.openssl = loadOpenSsl();
    this.aes128Gcm = this.openssl.EVP_CIPHER_fetch(0, "AES-128-GCM", null);
    this.aes256Gcm = this.openssl.EVP_CIPHER_fetch(0, "AES-256-GCM", null);
    this.aes128Ctr = this.openssl.EVP_CIPHER_fetch(0, "AES-128-CTR", null);
    this.sha1 = this.openssl.EVP_get_digestbyname("SHA1");
    if (!this.aes128Gcm || !this.aes256Gcm || !this.aes128Ctr || !this.sha1) throw new Error("OpenSSL lacks a cipher of SRTP");
    this.bytes = Buffer.alloc(WORKSPACE_SIZE); // zeros: the last four bytes of AES-CM's IV stay so
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
    this.address = addressOf(this.bytes);
  }

  /** Every context made with this workspace must be closed before. */
  close(): void {
    for (const cipher of [this.aes128Gcm, this.aes256Gcm, this.aes128Ctr]) this.openssl.EVP_CIPHER_free(cipher);
  }

  /** @returns an owned context with the key set, EVP_CIPHER_CTX_free */
  openContext(cipher: Address, key: Buffer, direction: Direction): Address {
    const context = this.openssl.EVP_CIPHER_CTX_new();
    key.copy(this.bytes, KEY);
    const done = this.openssl.EVP_CipherInit_ex(context, cipher, 0, this.address + KEY, 0, direction);
    this.bytes.fill(0, KEY, KEY + key.length);
    if (done !== 1) throw new Error("OpenSSL refused a key");
    return context;
  }

  /** @returns an owned HMAC-SHA1 context with the key set, HMAC_CTX_free */
  openHmac(key: Buffer): Address {
    const context = this.openssl.HMAC_CTX_new();
    key.copy(this.bytes, KEY);
    const done = this.openssl.HMAC_Init_ex(context, this.address + KEY, key.length, this.sha1, 0);
    this.bytes.fill(0, KEY, KEY + key.length);
    if (done !== 1) throw new Error("OpenSSL refused a key");
    return context;
  }
}

/** Protects the RTP packets of one sender, each where it lies.  */
export interface RtpProtector {
  /** Bytes the packet grows by. */
  readonly tagLength: number;
  /**
   * Encrypts `length` bytes at `payload` to `packet + headerLength` and writes the tag behind them; the 12 to 96 bytes of header at
   * `packet` must be there already, and room for MAX_TAG bytes behind the payload.
   */
  protect(
    packet: Address,
    headerLength: number,
    payload: Address,
    length: number,
    ssrc: number,
    rolloverCounter: number,
    sequenceNumber: number,
  ): boolean;
  /** Frees the contexts; nothing may be protected after. */
  close(): void;
}

export type RtpProtectorOptions = {
  /** What `deriveSessionKeys` gives for the keys, if that is there already. */
  readonly session?: SessionKeys;
  /** Whether AES-GCM may go below EVP. Default true. */
  readonly direct?: boolean;
};

export function createRtpProtector(workspace: CipherWorkspace, keys: SrtpKeys, options: RtpProtectorOptions = {}): RtpProtector {
  const session = options.session ?? deriveSessionKeys(keys);
  if (keys.profile === "AES128_CM_SHA1_80") return new CounterProtector(workspace, session);
  return new GcmProtector(workspace, createGcm(workspace, keys, session.rtpKey, options), session.rtpSalt);
}

class GcmProtector implements RtpProtector {
  readonly tagLength = SRTP_TAG_LENGTH.AEAD_AES_128_GCM;
  readonly #gcm: Gcm;
  readonly #iv: DataView;
  readonly #ivAddress: Address;
  readonly #salt0: number;
  readonly #salt1: number;
  readonly #salt2: number;

  constructor(workspace: CipherWorkspace, gcm: Gcm, salt: Buffer) {
    this.#gcm = gcm;
    this.#iv = workspace.view;
    this.#ivAddress = workspace.address;
    this.#salt0 = salt.readInt32BE(0);
    this.#salt1 = salt.readInt32BE(4);
    this.#salt2 = salt.readInt32BE(8);
  }

  protect(
    packet: Address,
    headerLength: number,
    payload: Address,
    length: number,
    ssrc: number,
    rolloverCounter: number,
    sequenceNumber: number,
  ): boolean {
    // RFC 7714 section 8.1: 16 zero bits, SSRC, rollover counter, sequence number, all XOR the salt
    this.#iv.setInt32(0, this.#salt0 ^ (ssrc >>> 16));
    this.#iv.setInt32(4, this.#salt1 ^ ((ssrc << 16) | (rolloverCounter >>> 16)));
    this.#iv.setInt32(8, this.#salt2 ^ ((rolloverCounter << 16) | sequenceNumber));
    return this.#gcm.seal(this.#ivAddress, packet, headerLength, payload, packet + headerLength, length);
  }

  close(): void {
    this.#gcm.close();
  }
}

/** Protects the compound RTCP packets of one sender with AES-GCM, each where it lies. AES-CM goes by srtp-portable. */
export class GcmRtcpProtector {
  readonly #gcm: Gcm;
  readonly #workspace: CipherWorkspace;
  readonly #salt0: number;
  readonly #salt1: number;
  readonly #salt2: number;
  #index = 0;

  constructor(workspace: CipherWorkspace, keys: SrtpKeys, options: RtpProtectorOptions = {}) {
    const session = options.session ?? deriveSessionKeys(keys);
    this.#gcm = createGcm(workspace, keys, session.rtcpKey, options);
    this.#workspace = workspace;
    this.#salt0 = session.rtcpSalt.readInt32BE(0);
    this.#salt1 = session.rtcpSalt.readInt32BE(4);
    this.#salt2 = session.rtcpSalt.readInt32BE(8);
  }

  /**
   * @param memory holds the packet at `offset`, and has room for RTCP_OVERHEAD bytes behind it
   * @param address of `memory`
   */
  protect(memory: DataView, address: Address, offset: number, length: number): boolean {
    const { view, address: scratch } = this.#workspace;
    const index = this.#index;
    this.#index = (index + 1) % 0x8000_0000; // RFC 3711 section 3.4: 31 bits
    const ssrc = memory.getUint32(offset + 4);
    // RFC 7714 section 9.1: 16 zero bits, SSRC, 16 zero bits, index
    view.setInt32(0, this.#salt0 ^ (ssrc >>> 16));
    view.setInt32(4, this.#salt1 ^ (ssrc << 16));
    view.setInt32(8, this.#salt2 ^ index);
    // section 9.2: the first 8 bytes and the index with its E bit are authenticated only
    view.setUint32(AAD, memory.getUint32(offset));
    view.setUint32(AAD + 4, ssrc);
    view.setUint32(AAD + 8, index + 0x8000_0000);
    const start = address + offset + RTCP_HEADER;
    const isSealed = this.#gcm.seal(scratch, scratch + AAD, 12, start, start, length - RTCP_HEADER);
    memory.setUint32(offset + length + TAG_LENGTH, index + 0x8000_0000);
    return isSealed;
  }

  close(): void {
    this.#gcm.close();
  }
}

function createGcm(workspace: CipherWorkspace, keys: SrtpKeys, key: Buffer, options: RtpProtectorOptions): Gcm {
  const functions = options.direct === false ? undefined : DirectGcm.load();
  if (functions !== undefined) return new DirectGcm(functions, key);
  return new EvpGcm(workspace, keys.profile === "AEAD_AES_256_GCM" ? workspace.aes256Gcm : workspace.aes128Gcm, key);
}

/** AES-GCM by EVP, where DirectGcm is not to be had. */
class EvpGcm implements Gcm {
  readonly #openssl: OpenSsl;
  #context: Address;

  constructor(workspace: CipherWorkspace, cipher: Address, key: Buffer) {
    this.#openssl = workspace.openssl;
    this.#context = workspace.openContext(cipher, key, PROTECT);
  }

  seal(iv: Address, additional: Address, additionalLength: number, input: Address, output: Address, length: number): boolean {
    const context = this.#context;
    const openssl = this.#openssl;
    return (
      openssl.EVP_CipherInit_ex(context, 0, 0, 0, iv, -1) === 1 &&
      openssl.EVP_Cipher(context, 0, additional, additionalLength) >= 0 &&
      openssl.EVP_Cipher(context, output, input, length) >= 0 &&
      openssl.EVP_Cipher(context, output, 0, 0) >= 0 &&
      openssl.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, output + length) === 1
    );
  }

  close(): void {
    this.#openssl.EVP_CIPHER_CTX_free(this.#context); // NULL is harmless
    this.#context = 0;
  }
}

class CounterProtector implements RtpProtector {
  readonly tagLength = SRTP_TAG_LENGTH.AES128_CM_SHA1_80;
  readonly #workspace: CipherWorkspace;
  readonly #openssl: OpenSsl;
  readonly #salt: readonly [number, number, number, number];
  #context: Address;
  #hmac: Address;

  constructor(workspace: CipherWorkspace, session: SessionKeys) {
    this.#workspace = workspace;
    this.#openssl = workspace.openssl;
    const { rtpSalt } = session;
    this.#salt = [rtpSalt.readInt32BE(0), rtpSalt.readInt32BE(4), rtpSalt.readInt32BE(8), rtpSalt.readUInt16BE(12) << 16];
    this.#context = workspace.openContext(workspace.aes128Ctr, session.rtpKey, PROTECT);
    this.#hmac = workspace.openHmac(session.rtpAuthentication);
  }

  protect(
    packet: Address,
    headerLength: number,
    payload: Address,
    length: number,
    ssrc: number,
    rolloverCounter: number,
    sequenceNumber: number,
  ): boolean {
    const { view, address } = this.#workspace;
    const openssl = this.#openssl;
    // RFC 3711 section 4.1.1: (salt << 16) XOR (SSRC << 64) XOR (index << 16), the index being counter and sequence number
    view.setInt32(0, this.#salt[0]);
    view.setInt32(4, this.#salt[1] ^ ssrc);
    view.setInt32(8, this.#salt[2] ^ rolloverCounter);
    view.setInt32(12, this.#salt[3] ^ (sequenceNumber << 16));
    view.setInt32(WORD, rolloverCounter); // authenticated behind the packet (section 4.2)
    const output = packet + headerLength;
    return (
      openssl.EVP_CipherInit_ex(this.#context, 0, 0, 0, address, -1) === 1 &&
      openssl.EVP_Cipher(this.#context, output, payload, length) >= 0 &&
      openssl.HMAC_Init_ex(this.#hmac, 0, 0, 0, 0) === 1 &&
      openssl.HMAC_Update(this.#hmac, packet, headerLength + length) === 1 &&
      openssl.HMAC_Update(this.#hmac, address + WORD, 4) === 1 &&
      openssl.HMAC_Final(this.#hmac, output + length, 0) === 1 // writes 20 bytes; the last ten are overwritten by what follows
    );
  }

  close(): void {
    this.#openssl.EVP_CIPHER_CTX_free(this.#context);
    this.#openssl.HMAC_CTX_free(this.#hmac);
    this.#context = 0;
    this.#hmac = 0;
  }
}

export type Direction = 1 | 0;
export const PROTECT: Direction = 1;
export const UNPROTECT: Direction = 0;
/** Room that must lie behind a payload: an HMAC-SHA1 is written whole and cut after. */
export const MAX_TAG = 20;
export const TAG_LENGTH = 16; // AEAD_AES_128_GCM and AEAD_AES_256_GCM, RFC 7714 section 13.2
export const EVP_CTRL_AEAD_GET_TAG = 0x10; // evp.h
export const EVP_CTRL_AEAD_SET_TAG = 0x11;

/** Bytes that a protected RTCP packet is longer: tag and index. */
export const RTCP_OVERHEAD = TAG_LENGTH + 4;

const RTCP_HEADER = 8;
const AAD = 16;
const WORKSPACE_SIZE = 128;
const WORD = 40;
const KEY = 64;
