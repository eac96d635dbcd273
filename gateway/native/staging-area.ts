// Payloads shared by many packets, copied once to where native code can read them, until the next flush.

import { type Address, addressOf } from "./library.js";

export class StagingArea {
  /** Memory grows by chunks and none is ever moved or given back before the area itself is garbage. */
  readonly #chunks: { readonly bytes: Buffer; readonly address: Address }[] = [];
  readonly #addresses = new Float64Array(MAX_STAGED);
  readonly #chunkOf = new Uint8Array(MAX_STAGED);
  readonly #lengths = new Uint16Array(MAX_STAGED);
  readonly #paddings = new Uint8Array(MAX_STAGED);
  #count = 0;
  #chunk = 0;
  #used = 0;
  /** Added to the index, so that what was staged before the last `clear` is not taken for what was staged after. */
  #base = 0;

  /**
   * @param payload at most MAX_PAYLOAD bytes
   * @param padding bytes of RTP padding to put behind it (RFC 3550 section 5.1), 0 to 255
   * @returns a number for `indexOf`, -1 when there is no room or the payload is too long
   */
  add(payload: Buffer, padding: number): number {
    const length = payload.length + padding;
    if (payload.length > MAX_PAYLOAD || !(padding >= 0 && padding <= 255) || this.#count === MAX_STAGED) return -1;
    if (this.#used + PREFIX + length > CHUNK_SIZE) {
      if (this.#chunk + 1 === MAX_CHUNKS) return -1;
      this.#chunk++;
      this.#used = 0;
    }
    let chunk = this.#chunks[this.#chunk];
    if (chunk === undefined) {
      const bytes = Buffer.allocUnsafeSlow(CHUNK_SIZE);
      chunk = { bytes, address: addressOf(bytes) };
      this.#chunks.push(chunk);
    }
    const offset = this.#used + PREFIX;
    chunk.bytes.set(payload, offset);
    if (padding > 0) {
      chunk.bytes.fill(0, offset + payload.length, offset + length - 1);
      chunk.bytes[offset + length - 1] = padding;
    }
    const index = this.#count++;
    this.#addresses[index] = chunk.address + offset;
    this.#chunkOf[index] = this.#chunk;
    this.#lengths[index] = length;
    this.#paddings[index] = padding;
    this.#used = offset + length;
    return this.#base + index;
  }

  /** @returns the index for the other methods, -1 for anything that `add` did not give since the last `clear` */
  indexOf(staged: number): number {
    const index = staged - this.#base;
    return index >= 0 && index < this.#count ? index : -1;
  }

  addressOf(index: number): Address {
    return this.#addresses[index] ?? 0;
  }

  /** Bytes of payload and padding. */
  lengthOf(index: number): number {
    return this.#lengths[index] ?? 0;
  }

  isPadded(index: number): boolean {
    return this.#paddings[index] !== 0;
  }

  /** Writes 16 bits before the payload, for RTX. @returns the address of those */
  prefix(index: number, value: number): Address {
    const address = this.addressOf(index) - PREFIX;
    const chunk = this.#chunks[this.#chunkOf[index] ?? 0];
    chunk?.bytes.writeUInt16BE(value & 0xffff, address - chunk.address);
    return address;
  }

  clear(): void {
    this.#base += this.#count;
    this.#count = 0;
    this.#chunk = 0;
    this.#used = 0;
  }
}

const MAX_STAGED = 16_384; // payloads of one turn
const CHUNK_SIZE = 512 * 1024;
const MAX_CHUNKS = 32;
const MAX_PAYLOAD = 1400; // with its headers it must still be one Ethernet frame
const PREFIX = 2; // room before each payload for RTX's original sequence number (RFC 4588 section 4)
