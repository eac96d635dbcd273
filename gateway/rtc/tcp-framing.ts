// Frames of a byte stream: each datagram of a session behind its length (RFC 4571 section 2), as ICE over TCP has them (RFC 6544).
//
//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//  -----------------------------------------------------------------
//  |             LENGTH            |  STUN, DTLS, RTP or RTCP ...   |
//  -----------------------------------------------------------------

import { isStun, MAX_STUN_SIZE } from "./stun.js";

/** Puts the frames of one connection together again, however the network has cut them. */
export class FrameReader {
  readonly #onFrame: (frame: Buffer) => void;
  readonly #maxLength: () => number;
  /** First byte of a length whose second has not come; -1: none. */
  #half = -1;
  /** A frame that has come in part. */
  #frame: Buffer | undefined;
  #filled = 0;
  #isEnded = false;

  /**
   * @param onFrame gets each frame that is not empty, as a view into what was read or a Buffer of its own: valid as long as it is kept
   * @param maxLength bytes that a frame may have now, asked at each frame's beginning
   */
  constructor(onFrame: (frame: Buffer) => void, maxLength: () => number) {
    this.#onFrame = onFrame;
    this.#maxLength = maxLength;
  }

  /** Bytes of a frame that has not come wholly. */
  get waiting(): number {
    return this.#filled + (this.#half === -1 ? 0 : 1);
  }

  /** @returns false when a frame is longer than it may be: nothing that follows can be read any more */
  read(chunk: Buffer): boolean {
    let at = 0;
    while (at < chunk.length && !this.#isEnded) {
      if (this.#frame !== undefined) {
        at += this.#fill(this.#frame, chunk, at);
        continue;
      }
      const first = this.#half === -1 ? (chunk[at++] as number) : this.#half;
      if (at === chunk.length) {
        this.#half = first;
        break;
      }
      this.#half = -1;
      const length = first * 256 + (chunk[at++] as number);
      if (length > this.#maxLength()) return false;
      if (length === 0) continue; // RFC 4571 section 2: a null packet, to be ignored
      if (at + length <= chunk.length) {
        this.#onFrame(chunk.subarray(at, at + length));
        at += length;
      } else {
        this.#frame = Buffer.allocUnsafe(length);
        this.#filled = 0;
      }
    }
    return true;
  }

  /** Gives out no more frames, also not those of a chunk that is being read. */
  end(): void {
    this.#isEnded = true;
    this.#frame = undefined;
  }

  #fill(frame: Buffer, chunk: Buffer, at: number): number {
    const copied = chunk.copy(frame, this.#filled, at);
    this.#filled += copied;
    if (this.#filled === frame.length) {
      this.#frame = undefined;
      this.#filled = 0;
      this.#onFrame(frame);
    }
    return copied;
  }
}

/** @returns the new offset */
export function writeFrameLength(out: Buffer, offset: number, length: number): number {
  return out.writeUInt16BE(length, offset);
}

/**
 * Whether a connection's first bytes are those of ICE: a frame with a STUN request in it. `more`: too few bytes to say.
 * No other protocol of one port begins so: a TLS record with 0x16, an HTTP request with a letter, and a check is never as long as those
 * two bytes would say.
 */
export function looksLikeIce(head: Buffer): "yes" | "no" | "more" {
  if (head.length >= 1 && (head[0] as number) > MAX_CHECK >> 8) return "no";
  if (head.length >= 3 && (head[2] as number) > 3) return "no"; // RFC 7983 section 7
  if (head.length < FRAME_HEADER + STUN_HEADER) return "more";
  const length = head.readUInt16BE(0);
  const isCheck = length >= STUN_HEADER && length <= MAX_CHECK && isStun(head.subarray(FRAME_HEADER));
  return isCheck ? "yes" : "no";
}

export const FRAME_HEADER = 2;
/** Bytes of the longest STUN message that a stranger may send: what `parseStun` takes. */
export const MAX_CHECK = MAX_STUN_SIZE;
/** Bytes that a frame can have at all. */
export const MAX_FRAME = 65_535;
const STUN_HEADER = 20;
