// The RTP header, read in place (RFC 3550 section 5.1), and its extensions (RFC 8285).
//
//   0                   1                   2                   3
//   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//  |                           timestamp                           |
//  |                             SSRC                              |
//  |                    CSRC list, CC entries                      |
//  |      extension profile        |   extension length in words   |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

/** One object serves any number of packets, one after the other: `read` fills it in. */
export class RtpHeader {
  bytes: Buffer = EMPTY;
  payloadType = 0;
  marker = false;
  /** 16 bits. */
  sequenceNumber = 0;
  /** 32 bits. */
  timestamp = 0;
  ssrc = 0;
  /** The payload without padding: `bytes[payloadStart]` up to `bytes[payloadEnd]`; empty in packets of padding only. */
  payloadStart = 0;
  payloadEnd = 0;
  #extensionsStart = 0;
  #extensionsEnd = 0;
  #extensionForm: "none" | "one-byte" | "two-byte" = "none";

  /** @returns false when this is no RTP packet; the fields then mean nothing */
  read(bytes: Buffer): boolean {
    if (bytes.length < FIXED_SIZE) return false;
    const first = bytes[0] as number;
    if (first >> 6 !== 2) return false;
    const second = bytes[1] as number;
    let offset = FIXED_SIZE + 4 * (first & 0x0f);
    this.#extensionForm = "none";
    if ((first & 0x10) !== 0) {
      if (offset + 4 > bytes.length) return false;
      const profile = bytes.readUInt16BE(offset);
      this.#extensionsStart = offset + 4;
      this.#extensionsEnd = offset + 4 + 4 * bytes.readUInt16BE(offset + 2);
      offset = this.#extensionsEnd;
      if (profile === ONE_BYTE_PROFILE) this.#extensionForm = "one-byte";
      else if (profile >> 4 === TWO_BYTE_PROFILE) this.#extensionForm = "two-byte";
    }
    if (offset > bytes.length) return false;
    const padding = (first & 0x20) === 0 ? 0 : (bytes[bytes.length - 1] as number);
    if ((first & 0x20) !== 0 && (padding === 0 || offset + padding > bytes.length)) return false;
    this.bytes = bytes;
    this.marker = second >> 7 === 1;
    this.payloadType = second & 0x7f;
    this.sequenceNumber = bytes.readUInt16BE(2);
    this.timestamp = bytes.readUInt32BE(4);
    this.ssrc = bytes.readUInt32BE(8);
    this.payloadStart = offset;
    this.payloadEnd = bytes.length - padding;
    return true;
  }

  /** The transport-wide sequence number (16 bits) in the extension with this id, or -1. */
  transportNumber(id: number): number {
    const found = this.#find(id);
    return found === -1 || found % 256 < 2 ? -1 : this.bytes.readUInt16BE(Math.floor(found / 256));
  }

  /** The text of the extension with this id: MID or RID (RFC 8843 section 15, RFC 8852); undefined without. */
  text(id: number): string | undefined {
    const found = this.#find(id);
    if (found === -1) return undefined;
    const at = Math.floor(found / 256);
    return this.bytes.toString("latin1", at, at + (found % 256));
  }

  /** @returns offset * 256 + length of the extension's value, -1 when it is not there */
  #find(id: number): number {
    if (this.#extensionForm === "none" || id === 0) return -1;
    const headerSize = this.#extensionForm === "one-byte" ? 1 : 2;
    for (let at = this.#extensionsStart; at + headerSize <= this.#extensionsEnd; ) {
      const first = this.bytes[at] as number;
      if (first === 0) {
        at += 1; // padding
        continue;
      }
      const elementId = headerSize === 1 ? first >> 4 : first;
      if (headerSize === 1 && elementId === 15) return -1; // RFC 8285 section 4.2: stop here
      const length = headerSize === 1 ? (first & 0x0f) + 1 : (this.bytes[at + 1] as number);
      at += headerSize;
      if (at + length > this.#extensionsEnd) return -1;
      if (elementId === id) return at * 256 + length;
      at += length;
    }
    return -1;
  }
}

const EMPTY = Buffer.alloc(0);
const FIXED_SIZE = 12;
const ONE_BYTE_PROFILE = 0xbede;
const TWO_BYTE_PROFILE = 0x100; // the upper 12 bits; the lower four are up to the application
