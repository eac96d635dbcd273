// Redundant audio (RFC 2198): a packet carries the frame before it again, so that the loss of a single packet is nobody's loss.
//
//   0                   1                    2                   3
//   0 1 2 3 4 5 6 7 8 9 0 1 2 3  4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |F|   block PT  |  timestamp offset         |   block length    |  of each block but the last, F=1
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |0|   block PT  |  of the last: the packet's own frame, at its time and as long as what is left

/** A payload's blocks, read in place; one object serves any number of payloads. */
export class RedundantBlocks {
  /** Blocks before the packet's own, oldest first. */
  count = 0;
  readonly payloadTypes = new Uint8Array(MAX_BLOCKS);
  /** RTP time of the packet less that of the block. */
  readonly timestampOffsets = new Uint16Array(MAX_BLOCKS);
  /** Block `index` is `bytes[starts[index]]` up to `bytes[starts[index + 1]]`; the one at `count` is the packet's own. */
  readonly starts = new Uint32Array(MAX_BLOCKS + 1);
  /** Payload type of the packet's own block. */
  primaryPayloadType = 0;

  /** @returns false when this is no such payload; the fields then mean nothing */
  read(bytes: Buffer, start: number, end: number): boolean {
    let at = start;
    let total = 0;
    this.count = 0;
    for (; at < end && ((bytes[at] as number) & 0x80) !== 0; at += 4) {
      if (this.count === MAX_BLOCKS || at + 4 >= end) return false;
      const word = bytes.readUInt32BE(at);
      this.payloadTypes[this.count] = (word >>> 24) & 0x7f;
      this.timestampOffsets[this.count] = (word >>> 10) & 0x3fff;
      this.starts[this.count] = total;
      total += word & 0x3ff;
      this.count += 1;
    }
    if (at >= end) return false;
    this.primaryPayloadType = bytes[at] as number;
    at += 1;
    if (at + total > end) return false;
    for (let index = 0; index < this.count; index++) this.starts[index] = (this.starts[index] as number) + at;
    this.starts[this.count] = at + total;
    return true;
  }
}

/** Bytes of a payload with one redundant block. */
export function sizeOfRedundant(previous: Buffer, primary: Buffer): number {
  return 5 + previous.length + primary.length;
}

/** Whether a frame can be repeated that much later (ticks of RTP time). */
export function canRepeat(previous: Buffer, timestampOffset: number): boolean {
  return previous.length <= MAX_BLOCK && timestampOffset > 0 && timestampOffset <= MAX_OFFSET;
}

/**
 * Writes a payload of two blocks; see `canRepeat`.
 *
 * @param timestampOffset RTP time of the packet less that of `previous`
 * @returns the offset behind it
 */
export function writeRedundant(
  out: Buffer,
  offset: number,
  payloadType: number,
  previous: Buffer,
  timestampOffset: number,
  primary: Buffer,
): number {
  let at = out.writeUInt8(0x80 | payloadType, offset);
  at = out.writeUIntBE(timestampOffset * 0x400 + previous.length, at, 3);
  at = out.writeUInt8(payloadType, at);
  at += previous.copy(out, at);
  return at + primary.copy(out, at);
}

const MAX_BLOCKS = 8; // browsers send one or two; more would not fit a datagram
const MAX_BLOCK = 0x3ff; // bytes
const MAX_OFFSET = 0x3fff; // ticks
