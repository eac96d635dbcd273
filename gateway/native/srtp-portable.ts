// SRTP and SRTCP for a sender with node:crypto alone: every RTCP packet goes this way, and RTP where packets are not sent natively.

import { createCipheriv, createHmac } from "node:crypto";

import { deriveSessionKeys, type SessionKeys, SRTP_TAG_LENGTH } from "./srtp-keys.js";
import type { SrtpKeys, SrtpProfile } from "./types.js";

export class PortableSrtpSender {
  readonly #profile: SrtpProfile;
  readonly #keys: SessionKeys;
  #rtcpIndex = 0;

  /** @param session what `deriveSessionKeys` gives for `keys`, if that is there already */
  constructor(keys: SrtpKeys, session = deriveSessionKeys(keys)) {
    this.#profile = keys.profile;
    this.#keys = session;
  }

  /**
   * @param header the whole RTP header with its extension
   * @param rolloverCounter of the header's sequence number
   */
  protectRtp(header: Buffer, payload: Buffer, rolloverCounter: number): Buffer {
    const { rtpKey, rtpSalt, rtpAuthentication } = this.#keys;
    const ssrc = header.readUInt32BE(8);
    const sequenceNumber = header.readUInt16BE(2);
    if (this.#profile === "AES128_CM_SHA1_80") {
      const iv = counterIv(rtpSalt, ssrc, rolloverCounter, sequenceNumber);
      const body = createCipheriv("aes-128-ctr", rtpKey, iv).update(payload);
      const word = Buffer.alloc(4);
      word.writeUInt32BE(rolloverCounter);
      const hmac = createHmac("sha1", rtpAuthentication).update(header).update(body).update(word).digest();
      return Buffer.concat([header, body, hmac.subarray(0, SRTP_TAG_LENGTH.AES128_CM_SHA1_80)]);
    }
    const iv = Buffer.alloc(12); // RFC 7714 section 8.1
    iv.writeUInt32BE(ssrc, 2);
    iv.writeUInt32BE(rolloverCounter, 6);
    iv.writeUInt16BE(sequenceNumber, 10);
    const cipher = createCipheriv(gcmOf(this.#profile), rtpKey, xor(iv, rtpSalt)).setAAD(header);
    return Buffer.concat([header, cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
  }

  /** @param packet a compound RTCP packet of at least 8 bytes */
  protectRtcp(packet: Buffer): Buffer {
    const { rtcpKey, rtcpSalt, rtcpAuthentication } = this.#keys;
    const ssrc = packet.readUInt32BE(4);
    const index = this.#rtcpIndex;
    this.#rtcpIndex = (index + 1) % 0x8000_0000; // RFC 3711 section 3.4: 31 bits
    const word = Buffer.alloc(4);
    word.writeUInt32BE(index + 0x8000_0000); // E=1: encrypted
    const header = packet.subarray(0, RTCP_HEADER);
    const plain = packet.subarray(RTCP_HEADER);
    if (this.#profile === "AES128_CM_SHA1_80") {
      const iv = counterIv(rtcpSalt, ssrc, index >>> 16, index & 0xffff);
      const body = createCipheriv("aes-128-ctr", rtcpKey, iv).update(plain);
      const hmac = createHmac("sha1", rtcpAuthentication).update(header).update(body).update(word).digest();
      return Buffer.concat([header, body, word, hmac.subarray(0, SRTP_TAG_LENGTH.AES128_CM_SHA1_80)]);
    }
    const iv = Buffer.alloc(12); // RFC 7714 section 9.1: 16 zero bits, SSRC, 16 zero bits, index
    iv.writeUInt32BE(ssrc, 2);
    iv.writeUInt32BE(index, 8);
    const cipher = createCipheriv(gcmOf(this.#profile), rtcpKey, xor(iv, rtcpSalt)).setAAD(Buffer.concat([header, word]));
    return Buffer.concat([header, cipher.update(plain), cipher.final(), cipher.getAuthTag(), word]);
  }
}

/** RFC 3711 section 4.1.1: (salt << 16) XOR (SSRC << 64) XOR (index << 16); for RTCP `high` and `low` are the halves of the index. */
function counterIv(salt: Buffer, ssrc: number, high: number, low: number): Buffer {
  const iv = Buffer.alloc(16);
  iv.writeUInt32BE(ssrc, 4);
  iv.writeUInt32BE(high, 8);
  iv.writeUInt16BE(low, 12);
  return xor(iv, salt);
}

function xor(target: Buffer, other: Buffer): Buffer {
  for (let index = 0; index < other.length; index++) target[index] = (target[index] ?? 0) ^ (other[index] ?? 0);
  return target;
}

function gcmOf(profile: SrtpProfile): "aes-128-gcm" | "aes-256-gcm" {
  return profile === "AEAD_AES_256_GCM" ? "aes-256-gcm" : "aes-128-gcm";
}

const RTCP_HEADER = 8; // the first packet's header and sender SSRC stay readable
