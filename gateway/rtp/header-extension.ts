// The header extensions one track's packets carry to one viewer, in the one-byte form (RFC 8285 section 4.2), prepared once:
// only the transport-wide number and the playout delay are written per packet.
//
//   0                   1                   2                   3
//   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |       0xBE    |    0xDE       |           length              |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |  ID   | L=0   |     data      |  ID   |  L=1  |   data...

/** Ids are 0 for extensions not in use. */
export type ExtensionUse = { readonly mid: number; readonly transportCc: number; readonly playoutDelay: number };

export class HeaderExtension {
  readonly #full: Buffer | undefined;
  readonly #plain: Buffer | undefined;
  readonly #fullNumberAt: number;
  readonly #fullDelayAt: number;
  readonly #plainNumberAt: number;

  constructor(use: ExtensionUse, mid: string) {
    const withMid = use.mid !== 0 && mid !== "" && blockSize(use, mid.length) <= MAX_EXTENSION;
    const full = Buffer.alloc(MAX_EXTENSION);
    let at = 4;
    this.#fullNumberAt = 0;
    this.#fullDelayAt = 0;
    if (use.transportCc !== 0) {
      full[at] = (use.transportCc << 4) | 1;
      this.#fullNumberAt = at + 1;
      at += 3;
    }
    if (withMid) {
      full[at] = (use.mid << 4) | (mid.length - 1);
      at += 1 + full.write(mid, at + 1, "latin1");
    }
    if (use.playoutDelay !== 0) {
      full[at] = (use.playoutDelay << 4) | 2;
      this.#fullDelayAt = at + 1;
      at += 4;
    }
    this.#full = close(full, at);
    // Without a number nothing may differ between a packet and its retransmission: then the full form is the only one.
    this.#plainNumberAt = 5;
    if (use.transportCc === 0) {
      this.#plain = this.#full;
    } else {
      const plain = Buffer.alloc(8);
      plain[4] = (use.transportCc << 4) | 1;
      this.#plain = close(plain, 7);
    }
  }

  /** True when packets carry a transport-wide number. */
  get isNumbered(): boolean {
    return this.#fullNumberAt !== 0;
  }

  /**
   * Everything: while the viewer may not know yet which source is which, and while a playout delay is to be set.
   *
   * @param delay smallest << 12 | largest playout delay, in 10 ms
   * @returns a view that is valid until the next call, undefined when no extension is in use
   */
  full(transportNumber: number, delay: number): Buffer | undefined {
    const out = this.#full;
    if (out === undefined) return undefined;
    if (this.#fullNumberAt !== 0) {
      out[this.#fullNumberAt] = transportNumber >> 8;
      out[this.#fullNumberAt + 1] = transportNumber & 0xff;
    }
    if (this.#fullDelayAt !== 0) {
      out[this.#fullDelayAt] = delay >> 16;
      out[this.#fullDelayAt + 1] = (delay >> 8) & 0xff;
      out[this.#fullDelayAt + 2] = delay & 0xff;
    }
    return out;
  }

  /** What every packet needs. */
  plain(transportNumber: number): Buffer | undefined {
    const out = this.#plain;
    if (out === undefined || !this.isNumbered) return out;
    out[this.#plainNumberAt] = transportNumber >> 8;
    out[this.#plainNumberAt + 1] = transportNumber & 0xff;
    return out;
  }
}

function blockSize(use: ExtensionUse, midLength: number): number {
  const size = 4 + (use.transportCc === 0 ? 0 : 3) + 1 + midLength + (use.playoutDelay === 0 ? 0 : 4);
  return (size + 3) & ~3;
}

/** Pads to words and writes the length; undefined when there is no element. */
function close(block: Buffer, end: number): Buffer | undefined {
  if (end === 4) return undefined;
  const size = (end + 3) & ~3;
  block.writeUInt16BE(0xbede, 0);
  block.writeUInt16BE(size / 4 - 1, 2);
  return block.subarray(0, size);
}

const MAX_EXTENSION = 24; // what MAX_RTP_PAYLOAD leaves room for
