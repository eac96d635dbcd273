// What a measuring viewer needs of RTP, written apart from the gateway's own code so that one does not vouch for the other.

export type RecordedPacket = {
  /** Milliseconds on the machine's monotonic clock, the same in every process. */
  readonly arrival: number;
  readonly payloadType: number;
  readonly marker: boolean;
  readonly sequenceNumber: number;
  readonly timestamp: number;
  readonly ssrc: number;
  readonly payload: Buffer;
};

/** Milliseconds on the machine's monotonic clock (CLOCK_MONOTONIC), comparable between processes. */
export function monotonicNow(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** RFC 3550 section 5.1; undefined when it is no RTP packet. */
export function readRtp(bytes: Buffer, arrival: number): RecordedPacket | undefined {
  if (bytes.length < 12 || bytes.readUInt8(0) >> 6 !== 2) return undefined;
  const first = bytes.readUInt8(0);
  const second = bytes.readUInt8(1);
  let offset = 12 + (first & 0x0f) * 4;
  if (first & 0x10) {
    if (bytes.length < offset + 4) return undefined;
    offset += 4 + bytes.readUInt16BE(offset + 2) * 4;
  }
  const end = first & 0x20 ? bytes.length - bytes.readUInt8(bytes.length - 1) : bytes.length;
  if (end < offset) return undefined;
  return {
    arrival,
    payloadType: second & 0x7f,
    marker: (second & 0x80) !== 0,
    sequenceNumber: bytes.readUInt16BE(2),
    timestamp: bytes.readUInt32BE(4),
    ssrc: bytes.readUInt32BE(8),
    payload: bytes.subarray(offset, end),
  };
}

export type SenderReport = { readonly arrival: number; readonly ssrc: number; readonly ntpMs: number; readonly rtpTime: number };

/** RTCP packet types 192–223 stand where RTP has marker and payload type (RFC 5761 section 4). */
export function isRtcp(bytes: Buffer): boolean {
  return bytes.length >= 8 && bytes.readUInt8(1) >= 192 && bytes.readUInt8(1) <= 223;
}

/** The sender reports of a compound packet (RFC 3550 section 6.4.1), NTP time as milliseconds since 1970. */
export function readSenderReports(bytes: Buffer, arrival: number): SenderReport[] {
  const reports: SenderReport[] = [];
  let offset = 0;
  while (offset + 4 <= bytes.length) {
    const length = (bytes.readUInt16BE(offset + 2) + 1) * 4;
    if (bytes.readUInt8(offset + 1) === 200 && offset + 28 <= bytes.length) {
      const seconds = bytes.readUInt32BE(offset + 8) - 2_208_988_800;
      const ntpMs = seconds * 1000 + (bytes.readUInt32BE(offset + 12) / 2 ** 32) * 1000;
      reports.push({ arrival, ssrc: bytes.readUInt32BE(offset + 4), ntpMs, rtpTime: bytes.readUInt32BE(offset + 16) });
    }
    offset += length;
  }
  return reports;
}

/** Follows a counter that wraps at `bits`, in both directions. */
export class Unwrapper {
  readonly #period: number;
  #last: number | undefined;

  constructor(bits: 16 | 32) {
    this.#period = 2 ** bits;
  }

  next(value: number): number {
    if (this.#last === undefined) {
      this.#last = value;
      return value;
    }
    const period = this.#period;
    const lastWrapped = ((this.#last % period) + period) % period;
    let step = value - lastWrapped;
    if (step > period / 2) step -= period;
    if (step < -period / 2) step += period;
    this.#last += step;
    return this.#last;
  }
}

export type SequenceCheck = {
  readonly packets: number;
  /** Numbers that never came. */
  readonly missing: number;
  readonly duplicates: number;
  /** Packets that came after one with a higher number. */
  readonly reordered: number;
  /** In order of sequence number, without doubles; both numbers unwrapped. */
  readonly ordered: readonly (RecordedPacket & { readonly sequence: number; readonly time: number })[];
};

/** Counts gaps, doubles and disorder, and puts the packets of one SSRC in order. */
export function checkSequence(packets: readonly RecordedPacket[]): SequenceCheck {
  const sequences = new Unwrapper(16);
  const times = new Unwrapper(32);
  const bySequence = new Map<number, RecordedPacket & { sequence: number; time: number }>();
  let duplicates = 0;
  let reordered = 0;
  let highest = Number.NEGATIVE_INFINITY;
  for (const packet of packets) {
    const sequence = sequences.next(packet.sequenceNumber);
    const time = times.next(packet.timestamp);
    if (bySequence.has(sequence)) duplicates++;
    else bySequence.set(sequence, { ...packet, sequence, time });
    if (sequence < highest) reordered++;
    highest = Math.max(highest, sequence);
  }
  const ordered = [...bySequence.values()].sort((a, b) => a.sequence - b.sequence);
  const first = ordered[0];
  const missing = first === undefined ? 0 : highest - first.sequence + 1 - ordered.length;
  return { packets: packets.length, missing, duplicates, reordered, ordered };
}

export type AccessUnit = {
  readonly time: number;
  readonly firstArrival: number;
  readonly lastArrival: number;
  readonly nals: readonly Buffer[];
  readonly isKey: boolean;
  /** Parameter sets, slices and the marker are all there. */
  readonly isComplete: boolean;
};

/** Puts H.264 pictures together (RFC 6184: single NAL units, STAP-A, FU-A); packets in order. */
export function depacketizeH264(packets: SequenceCheck["ordered"]): AccessUnit[] {
  const units: AccessUnit[] = [];
  let current: (typeof packets)[number][] = [];
  let previous: (typeof packets)[number] | undefined;
  const finish = (): void => {
    if (current.length > 0) units.push(assemble(current, previous));
    previous = current.at(-1) ?? previous;
    current = [];
  };
  for (const packet of packets) {
    if (current[0] !== undefined && current[0].time !== packet.time) finish();
    current.push(packet);
    if (packet.marker) finish();
  }
  finish();
  return units;
}

function assemble(packets: SequenceCheck["ordered"][number][], previous: { sequence: number } | undefined): AccessUnit {
  const nals: Buffer[] = [];
  let fragments: Buffer[] | undefined;
  let whole = packets.at(-1)?.marker === true;
  let last = previous?.sequence;
  for (const { payload, sequence } of packets) {
    if (last !== undefined && sequence !== last + 1) whole = false;
    last = sequence;
    if (payload.length < 2) continue;
    const type = payload.readUInt8(0) & 0x1f;
    if (type === 24) {
      for (let offset = 1; offset + 2 < payload.length; ) {
        const length = payload.readUInt16BE(offset);
        nals.push(payload.subarray(offset + 2, offset + 2 + length));
        offset += 2 + length;
      }
    } else if (type === 28) {
      const header = payload.readUInt8(1);
      if (header & 0x80) fragments = [Buffer.from([(payload.readUInt8(0) & 0xe0) | (header & 0x1f)])];
      if (fragments === undefined) whole = false;
      fragments?.push(payload.subarray(2));
      if (header & 0x40 && fragments !== undefined) {
        nals.push(Buffer.concat(fragments));
        fragments = undefined;
      }
    } else {
      nals.push(payload);
    }
  }
  const types = new Set(nals.map((nal) => nal.readUInt8(0) & 0x1f));
  const isKey = types.has(5);
  return {
    time: packets[0]?.time ?? 0,
    firstArrival: packets[0]?.arrival ?? 0,
    lastArrival: packets.at(-1)?.arrival ?? 0,
    nals,
    isKey,
    isComplete: whole && fragments === undefined && (isKey ? types.has(7) && types.has(8) : types.has(1)),
  };
}

/** Access units as a file that every decoder reads (H.264 Annex B). */
export function toAnnexB(units: readonly AccessUnit[]): Buffer {
  const startCode = Buffer.from([0, 0, 0, 1]);
  return Buffer.concat(units.flatMap((unit) => unit.nals.flatMap((nal) => [startCode, nal])));
}

/** Opus packets as an Ogg file (RFC 7845) with pre-skip 0: every decoded sample counts. */
export function toOgg(packets: readonly Buffer[], channels = 2): Buffer {
  const head = Buffer.alloc(19);
  head.write("OpusHead", 0, "latin1");
  head.writeUInt8(1, 8);
  head.writeUInt8(channels, 9);
  head.writeUInt32LE(48_000, 12);
  const tags = Buffer.concat([Buffer.from("OpusTags"), Buffer.from([4, 0, 0, 0]), Buffer.from("test"), Buffer.alloc(4)]);
  const pages = [oggPage([head], 0n, 0, 2), oggPage([tags], 0n, 1, 0)];
  let granule = 0n;
  packets.forEach((packet, index) => {
    granule += BigInt(opusDuration(packet));
    pages.push(oggPage([packet], granule, index + 2, index === packets.length - 1 ? 4 : 0));
  });
  return Buffer.concat(pages);
}

/** Samples at 48 kHz that an Opus packet decodes to (RFC 6716 section 3.1). */
export function opusDuration(packet: Buffer): number {
  const toc = packet.readUInt8(0);
  const config = toc >> 3;
  const frame =
    config < 12 ? ([480, 960, 1920, 2880][config % 4] ?? 0) : config < 16 ? ([480, 960][config % 2] ?? 0) : 120 << (config % 4);
  const code = toc & 3;
  const count = code === 0 ? 1 : code < 3 ? 2 : packet.length > 1 ? packet.readUInt8(1) & 0x3f : 0;
  return frame * count;
}

function oggPage(packets: readonly Buffer[], granule: bigint, number: number, flags: number): Buffer {
  const lacing = packets.flatMap((packet) => [...Array(Math.floor(packet.length / 255)).fill(255), packet.length % 255]);
  const header = Buffer.alloc(27 + lacing.length);
  header.write("OggS", 0, "latin1");
  header.writeUInt8(flags, 5);
  header.writeBigUInt64LE(granule, 6);
  header.writeUInt32LE(0x51, 14);
  header.writeUInt32LE(number, 18);
  header.writeUInt8(lacing.length, 26);
  Buffer.from(lacing).copy(header, 27);
  const page = Buffer.concat([header, ...packets]);
  page.writeUInt32LE(oggCrc(page), 22);
  return page;
}

const OGG_CRC = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index << 24;
  for (let bit = 0; bit < 8; bit++) value = value & 0x80000000 ? (value << 1) ^ 0x04c11db7 : value << 1;
  return value >>> 0;
});

function oggCrc(bytes: Buffer): number {
  let crc = 0;
  for (const byte of bytes) crc = ((crc << 8) ^ (OGG_CRC[((crc >>> 24) ^ byte) & 0xff] ?? 0)) >>> 0;
  return crc;
}
