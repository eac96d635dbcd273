// RTCP packets, read in place and written into the caller's buffer (RFC 3550 section 6, RFC 4585, RFC 5104, RFC 3611).
//
//   0                   1                   2                   3
//   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |V=2|P| count/FMT |       PT      |             length            |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//  |                    SSRC of packet sender                      |
//  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

export const RtcpType = {
  senderReport: 200,
  receiverReport: 201,
  sourceDescription: 202,
  bye: 203,
  transportFeedback: 205, // NACK (FMT 1), transport-cc (FMT 15)
  payloadFeedback: 206, // PLI (FMT 1), FIR (FMT 4), REMB (FMT 15)
  extendedReport: 207,
} as const;

export const FeedbackFormat = { nack: 1, transportCc: 15, pli: 1, fir: 4, applicationLayer: 15 } as const;

/** Walks the packets of a compound; one reader serves any number of compounds, one after the other. */
export class RtcpReader {
  /** The compound being read. */
  bytes: Buffer = EMPTY;
  packetType = 0;
  /** Reports, sources or feedback format, by type. */
  count = 0;
  /** First byte of the present packet's header, and the end of its content without padding. */
  start = 0;
  end = 0;
  #next = 0;

  /** Begins a compound. @returns false when its headers do not add up: then none of it counts */
  open(compound: Buffer): boolean {
    this.bytes = compound;
    this.#next = 0;
    let at = 0;
    while (at < compound.length) {
      if (at + 8 > compound.length || (compound[at] ?? 0) >> 6 !== 2) return false;
      const size = 4 + 4 * (((compound[at + 2] ?? 0) << 8) | (compound[at + 3] ?? 0));
      const end = at + size;
      if (size < 8 || end > compound.length) return false;
      if ((compound[at] ?? 0) & 0x20) {
        const padding = compound[end - 1] ?? 0;
        // Transport-wide feedback is padded by one to three bytes, whatever RFC 3550 says about multiples of four.
        if (end !== compound.length || padding === 0 || padding > size - 8) return false;
      }
      at = end;
    }
    return compound.length > 0;
  }

  /** Steps to the next packet. */
  next(): boolean {
    const { bytes } = this;
    const at = this.#next;
    if (at >= bytes.length) return false;
    this.start = at;
    this.count = (bytes[at] ?? 0) & 0x1f;
    this.packetType = bytes[at + 1] ?? 0;
    const end = at + 4 + 4 * (((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0));
    this.end = (bytes[at] ?? 0) & 0x20 ? end - (bytes[end - 1] ?? 0) : end;
    this.#next = end;
    return true;
  }

  /** SSRC of the packet's sender. */
  get senderSsrc(): number {
    return this.bytes.readUInt32BE(this.start + 4);
  }

  /** SSRC that feedback is about; 0 when the packet is too short for one. */
  get mediaSsrc(): number {
    return this.start + 12 <= this.end ? this.bytes.readUInt32BE(this.start + 8) : 0;
  }

  /** Offset of the first report block of a sender or receiver report, -1 when the blocks do not fit. */
  get reportsAt(): number {
    const at = this.start + (this.packetType === RtcpType.senderReport ? 28 : 8);
    return at + this.count * REPORT_BLOCK_SIZE <= this.end ? at : -1;
  }
}

export const REPORT_BLOCK_SIZE = 24;

/** One report block; filled in by `readReportBlock`, one object serves all. */
export class ReportBlock {
  ssrc = 0;
  /** In 1/256. */
  fractionLost = 0;
  /** Signed: duplicates count against it. */
  cumulativeLost = 0;
  /** Extended highest sequence number. */
  highestSequence = 0;
  /** In ticks of the track's clock. */
  jitter = 0;
  /** Middle 32 bits of the NTP time of the last sender report, 0 when there was none. */
  lastSenderReport = 0;
  /** Since that report, in 1/65536 s. */
  delaySinceLast = 0;
}

export function readReportBlock(out: ReportBlock, bytes: Buffer, at: number): void {
  out.ssrc = bytes.readUInt32BE(at);
  out.fractionLost = bytes[at + 4] ?? 0;
  out.cumulativeLost = bytes.readIntBE(at + 5, 3);
  out.highestSequence = bytes.readUInt32BE(at + 8);
  out.jitter = bytes.readUInt32BE(at + 12);
  out.lastSenderReport = bytes.readUInt32BE(at + 16);
  out.delaySinceLast = bytes.readUInt32BE(at + 20);
}

export function writeReportBlock(out: Buffer, at: number, block: ReportBlock): number {
  out.writeUInt32BE(block.ssrc, at);
  out[at + 4] = block.fractionLost;
  out.writeIntBE(Math.max(-0x800000, Math.min(0x7fffff, block.cumulativeLost)), at + 5, 3);
  out.writeUInt32BE(block.highestSequence >>> 0, at + 8);
  out.writeUInt32BE(block.jitter >>> 0, at + 12);
  out.writeUInt32BE(block.lastSenderReport >>> 0, at + 16);
  return out.writeUInt32BE(block.delaySinceLast >>> 0, at + 20);
}

/** A sender report's times and counters (RFC 3550 section 6.4.1). */
export type SenderInfo = {
  /** Milliseconds since 1970. */
  readonly wallTime: number;
  /** RTP time at that moment, 32 bits. */
  readonly rtpTimestamp: number;
  readonly packetCount: number;
  readonly octetCount: number;
};

/** @returns undefined when the packet is too short */
export function readSenderInfo(reader: RtcpReader): SenderInfo | undefined {
  const { bytes, start, end } = reader;
  if (start + 28 > end) return undefined;
  return {
    wallTime: fromNtp(bytes.readUInt32BE(start + 8), bytes.readUInt32BE(start + 12)),
    rtpTimestamp: bytes.readUInt32BE(start + 16),
    packetCount: bytes.readUInt32BE(start + 20),
    octetCount: bytes.readUInt32BE(start + 24),
  };
}

/** Writes a sender report without report blocks. */
export function writeSenderReport(
  out: Buffer,
  at: number,
  ssrc: number,
  wallTime: number,
  rtpTimestamp: number,
  packetCount: number,
  octetCount: number,
): number {
  at = writeRtcpHeader(out, at, 0, RtcpType.senderReport, 28, ssrc);
  at = writeNtp(out, at, wallTime);
  at = out.writeUInt32BE(rtpTimestamp >>> 0, at);
  at = out.writeUInt32BE(packetCount >>> 0, at);
  return out.writeUInt32BE(octetCount >>> 0, at);
}

/** Writes a receiver report with these blocks, at most 31. */
export function writeReceiverReport(out: Buffer, at: number, ssrc: number, blocks: readonly ReportBlock[]): number {
  at = writeRtcpHeader(out, at, blocks.length, RtcpType.receiverReport, 8 + blocks.length * REPORT_BLOCK_SIZE, ssrc);
  for (const block of blocks) at = writeReportBlock(out, at, block);
  return at;
}

/** Writes a source description with one CNAME for every source (RFC 3550 section 6.5.1). */
export function writeSourceDescription(out: Buffer, at: number, ssrcs: readonly number[], cname: string): number {
  const start = at;
  at += 4;
  for (const ssrc of ssrcs) {
    at = out.writeUInt32BE(ssrc, at);
    out[at] = 1; // CNAME
    const length = out.write(cname, at + 2, 255, "utf8");
    out[at + 1] = length;
    at += 2 + length;
    do out[at++] = 0;
    while ((at - start) % 4 !== 0); // the item list ends with at least one zero
  }
  return finish(out, start, at, ssrcs.length, RtcpType.sourceDescription);
}

export function writeBye(out: Buffer, at: number, ssrcs: readonly number[]): number {
  const start = at;
  at += 4;
  for (const ssrc of ssrcs) at = out.writeUInt32BE(ssrc, at);
  return finish(out, start, at, ssrcs.length, RtcpType.bye);
}

/** Writes a generic NACK for these sequence numbers, ascending modulo 2^16 (RFC 4585 section 6.2.1). */
export function writeNack(
  out: Buffer,
  at: number,
  senderSsrc: number,
  mediaSsrc: number,
  sequenceNumbers: readonly number[],
): number {
  const start = at;
  at = out.writeUInt32BE(mediaSsrc, writeRtcpHeader(out, at, FeedbackFormat.nack, RtcpType.transportFeedback, 12, senderSsrc));
  for (let index = 0; index < sequenceNumbers.length; ) {
    const first = (sequenceNumbers[index++] ?? 0) & 0xffff;
    let bitmask = 0;
    for (; index < sequenceNumbers.length; index++) {
      const distance = (((sequenceNumbers[index] ?? 0) - first) & 0xffff) - 1;
      if (distance < 0 || distance > 15) break;
      bitmask |= 1 << distance;
    }
    at = out.writeUInt16BE(bitmask, out.writeUInt16BE(first, at));
  }
  return finish(out, start, at, FeedbackFormat.nack, RtcpType.transportFeedback);
}

export function writePli(out: Buffer, at: number, senderSsrc: number, mediaSsrc: number): number {
  at = writeRtcpHeader(out, at, FeedbackFormat.pli, RtcpType.payloadFeedback, 12, senderSsrc);
  return out.writeUInt32BE(mediaSsrc, at);
}

/** Full intra request (RFC 5104 section 4.3.1). */
export function writeFir(out: Buffer, at: number, senderSsrc: number, mediaSsrc: number, sequence: number): number {
  at = writeRtcpHeader(out, at, FeedbackFormat.fir, RtcpType.payloadFeedback, 20, senderSsrc);
  at = out.writeUInt32BE(0, at);
  at = out.writeUInt32BE(mediaSsrc, at);
  return out.writeUInt32BE((sequence & 0xff) * 0x1000000, at);
}

/** Whether the present FIR names this source. */
export function firNames(reader: RtcpReader, ssrc: number): boolean {
  for (let at = reader.start + 12; at + 8 <= reader.end; at += 8) if (reader.bytes.readUInt32BE(at) === ssrc) return true;
  return false;
}

/** Receiver estimated maximum bitrate: bits per second, or undefined (draft-alvestrand-rmcat-remb-03 section 2.2). */
export function readRemb(reader: RtcpReader): number | undefined {
  const { bytes, start, end } = reader;
  if (start + 20 > end || bytes.readUInt32BE(start + 12) !== REMB) return undefined;
  const exponent = (bytes[start + 17] ?? 0) >> 2;
  const mantissa = (((bytes[start + 17] ?? 0) & 3) << 16) | bytes.readUInt16BE(start + 18);
  return mantissa * 2 ** exponent;
}

export function writeRemb(out: Buffer, at: number, senderSsrc: number, bitrate: number, ssrcs: readonly number[]): number {
  at = writeRtcpHeader(out, at, FeedbackFormat.applicationLayer, RtcpType.payloadFeedback, 20 + ssrcs.length * 4, senderSsrc);
  at = out.writeUInt32BE(0, at);
  at = out.writeUInt32BE(REMB, at);
  let exponent = 0;
  let mantissa = Math.floor(bitrate);
  while (mantissa > 0x3ffff) {
    mantissa = Math.floor(mantissa / 2);
    exponent++;
  }
  out[at] = ssrcs.length;
  out[at + 1] = (exponent << 2) | (mantissa >> 16);
  at = out.writeUInt16BE(mantissa & 0xffff, at + 2);
  for (const ssrc of ssrcs) at = out.writeUInt32BE(ssrc, at);
  return at;
}

/** NTP middle 32 bits of a receiver reference time report (RFC 3611 section 4.4), or undefined when the packet has none. */
export function readReferenceTime(reader: RtcpReader): number | undefined {
  const { bytes, end } = reader;
  for (let at = reader.start + 8; at + 4 <= end; ) {
    const size = 4 + bytes.readUInt16BE(at + 2) * 4;
    if (at + size > end) return undefined;
    if (bytes[at] === XR_RECEIVER_REFERENCE_TIME && size === 12)
      return ((bytes.readUInt32BE(at + 4) & 0xffff) * 0x10000 + bytes.readUInt16BE(at + 8)) >>> 0;
    at += size;
  }
  return undefined;
}

export function writeReferenceTime(out: Buffer, at: number, ssrc: number, wallTime: number): number {
  at = writeRtcpHeader(out, at, 0, RtcpType.extendedReport, 20, ssrc);
  out.writeUInt32BE(XR_RECEIVER_REFERENCE_TIME * 0x1000000 + 2, at);
  return writeNtp(out, at + 4, wallTime);
}

/** Answers a reference time (RFC 3611 section 4.5): `delay` since it came, in 1/65536 s. */
export function writeDelaySinceReference(
  out: Buffer,
  at: number,
  ssrc: number,
  receiverSsrc: number,
  referenceTime: number,
  delay: number,
): number {
  at = writeRtcpHeader(out, at, 0, RtcpType.extendedReport, 24, ssrc);
  at = out.writeUInt32BE(XR_DELAY_SINCE_REFERENCE * 0x1000000 + 3, at);
  at = out.writeUInt32BE(receiverSsrc, at);
  at = out.writeUInt32BE(referenceTime >>> 0, at);
  return out.writeUInt32BE(delay >>> 0, at);
}

/**
 * Reads the answer to a reference time that this source sent (RFC 3611 section 4.5).
 *
 * @param ssrc ours
 * @returns the reference time, and the delay since it came in 1/65536 s; undefined when there is none for us
 */
export function readDelaySinceReference(
  reader: RtcpReader,
  ssrc: number,
): { readonly referenceTime: number; readonly delay: number } | undefined {
  const { bytes, end } = reader;
  for (let at = reader.start + 8; at + 4 <= end; ) {
    const blockEnd = at + 4 + bytes.readUInt16BE(at + 2) * 4;
    if (blockEnd > end) return undefined;
    if (bytes[at] === XR_DELAY_SINCE_REFERENCE) {
      for (let entry = at + 4; entry + 12 <= blockEnd; entry += 12) {
        if (bytes.readUInt32BE(entry) !== ssrc) continue;
        return { referenceTime: bytes.readUInt32BE(entry + 4), delay: bytes.readUInt32BE(entry + 8) };
      }
    }
    at = blockEnd;
  }
  return undefined;
}

/** The middle 32 bits of a wall time's NTP form: what LSR echoes. */
export function ntpMiddle(wallTime: number): number {
  const seconds = Math.floor(wallTime / 1000);
  const fraction = Math.floor(((wallTime - seconds * 1000) / 1000) * 0x10000);
  return (((seconds + NTP_EPOCH) & 0xffff) * 0x10000 + fraction) >>> 0;
}

/** @param size of the whole packet, a multiple of 4 */
export function writeRtcpHeader(out: Buffer, at: number, count: number, packetType: number, size: number, ssrc: number): number {
  out[at] = 0x80 | count; // version=2, padding=0
  out[at + 1] = packetType;
  out.writeUInt16BE(size / 4 - 1, at + 2);
  return out.writeUInt32BE(ssrc, at + 4);
}

function finish(out: Buffer, start: number, end: number, count: number, packetType: number): number {
  out[start] = 0x80 | count;
  out[start + 1] = packetType;
  out.writeUInt16BE((end - start) / 4 - 1, start + 2);
  return end;
}

function writeNtp(out: Buffer, at: number, wallTime: number): number {
  const seconds = Math.floor(wallTime / 1000);
  const fraction = Math.floor(((wallTime - seconds * 1000) / 1000) * 0x100000000);
  at = out.writeUInt32BE((seconds + NTP_EPOCH) % 0x100000000, at);
  return out.writeUInt32BE(fraction, at);
}

function fromNtp(seconds: number, fraction: number): number {
  // Era 1 begins in February 2036; a small value belongs to it (RFC 4330 section 3).
  const era = seconds < 0x80000000 ? 0x100000000 : 0;
  return (seconds + era - NTP_EPOCH) * 1000 + (fraction * 1000) / 0x100000000;
}

const EMPTY = Buffer.alloc(0);
const NTP_EPOCH = 2_208_988_800; // seconds from 1900 to 1970
const REMB = 0x52454d42; // "REMB"
const XR_RECEIVER_REFERENCE_TIME = 4;
const XR_DELAY_SINCE_REFERENCE = 5;
