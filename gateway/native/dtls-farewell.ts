// What is left of a DTLS association once OpenSSL's state (40 KiB) is given back: the key that the peer's last alert opens with.
// Nothing else is to be expected: there is no data, no renegotiation, and the peer has proved to be done with the handshake.

import { createDecipheriv, createHmac } from "node:crypto";

/** What TLS 1.2 makes a connection's keys of (RFC 5246 section 6.3). */
export type ConnectionSecrets = {
  /** Number of the cipher suite. */
  readonly suite: number;
  readonly masterSecret: Buffer;
  readonly clientRandom: Buffer;
  readonly serverRandom: Buffer;
};

/** Reads the alerts of one peer. */
export class FarewellReader {
  readonly #cipher: "aes-128-gcm" | "aes-256-gcm";
  readonly #key: Buffer;
  readonly #salt: Buffer;

  private constructor(cipher: "aes-128-gcm" | "aes-256-gcm", key: Buffer, salt: Buffer) {
    this.#cipher = cipher;
    this.#key = key;
    this.#salt = salt;
  }

  /** @param peer the role of who sends the alerts; @returns undefined for a cipher suite that is not AES in GCM */
  static create(secrets: ConnectionSecrets, peer: "client" | "server"): FarewellReader | undefined {
    const suite = SUITES.get(secrets.suite);
    if (suite === undefined) return undefined;
    const { keyLength, digest, cipher } = suite;
    const seed = Buffer.concat([Buffer.from("key expansion"), secrets.serverRandom, secrets.clientRandom]);
    const block = expand(digest, secrets.masterSecret, seed, 2 * (keyLength + SALT));
    const index = peer === "client" ? 0 : 1; // client key, server key, client salt, server salt
    const saltAt = 2 * keyLength + index * SALT;
    // Copies: a view would keep the whole key block in memory.
    const key = Buffer.from(block.subarray(index * keyLength, (index + 1) * keyLength));
    const salt = Buffer.from(block.subarray(saltAt, saltAt + SALT));
    block.fill(0);
    return new FarewellReader(cipher, key, salt);
  }

  /** Whether the datagram holds an authentic close_notify or fatal alert. */
  isFarewell(datagram: Buffer): boolean {
    for (let at = 0; at + HEADER <= datagram.length; ) {
      const end = at + HEADER + datagram.readUInt16BE(at + 11);
      if (end > datagram.length) return false;
      if (datagram[at] === ALERT && datagram.readUInt16BE(at + 3) === 1 && this.#opens(datagram.subarray(at, end))) return true;
      at = end;
    }
    return false;
  }

  /**
   * RFC 5288 section 3, RFC 6347 section 4.1.2.1:
   *
   *   type (1) version (2) epoch (2) sequence number (6) length (2) | explicit nonce (8) ciphertext (2) tag (16)
   */
  #opens(record: Buffer): boolean {
    if (record.length !== HEADER + EXPLICIT_NONCE + ALERT_SIZE + TAG) return false;
    const nonce = Buffer.concat([this.#salt, record.subarray(HEADER, HEADER + EXPLICIT_NONCE)]);
    const additional = Buffer.concat([record.subarray(3, 11), record.subarray(0, 3), Buffer.from([0, ALERT_SIZE])]);
    const decipher = createDecipheriv(this.#cipher, this.#key, nonce, { authTagLength: TAG });
    decipher.setAAD(additional);
    decipher.setAuthTag(record.subarray(record.length - TAG));
    const plain = decipher.update(record.subarray(HEADER + EXPLICIT_NONCE, record.length - TAG));
    try {
      decipher.final();
    } catch {
      return false; // not from the peer
    }
    return plain[0] === FATAL || plain[1] === CLOSE_NOTIFY;
  }
}

/** P_hash of RFC 5246 section 5. */
function expand(digest: "sha256" | "sha384", secret: Buffer, seed: Buffer, length: number): Buffer {
  const blocks: Buffer[] = [];
  let chain = seed;
  for (let have = 0; have < length; ) {
    chain = createHmac(digest, secret).update(chain).digest();
    const block = createHmac(digest, secret).update(chain).update(seed).digest();
    blocks.push(block);
    have += block.length;
  }
  return Buffer.concat(blocks).subarray(0, length);
}

/** RFC 5289 section 3.2. */
const SUITES: ReadonlyMap<
  number,
  { readonly keyLength: number; readonly digest: "sha256" | "sha384"; readonly cipher: "aes-128-gcm" | "aes-256-gcm" }
> = new Map([
  [0xc02b, { keyLength: 16, digest: "sha256", cipher: "aes-128-gcm" }], // ECDHE-ECDSA-AES128-GCM-SHA256
  [0xc02f, { keyLength: 16, digest: "sha256", cipher: "aes-128-gcm" }], // ECDHE-RSA-AES128-GCM-SHA256
  [0xc02c, { keyLength: 32, digest: "sha384", cipher: "aes-256-gcm" }], // ECDHE-ECDSA-AES256-GCM-SHA384
  [0xc030, { keyLength: 32, digest: "sha384", cipher: "aes-256-gcm" }], // ECDHE-RSA-AES256-GCM-SHA384
]);
const SALT = 4;
const HEADER = 13;
const EXPLICIT_NONCE = 8;
const TAG = 16;
const ALERT = 21;
const ALERT_SIZE = 2;
const FATAL = 2;
const CLOSE_NOTIFY = 0;
