// H.264 packetiser throughput: 60 s of a publisher's access units, beside the plain way (a copy per NAL unit, a concat per packet) in
// the same run. Unit: microseconds of one core per picture, and new memory and Buffer objects per picture (process.cpuUsage, best of 10).

import { pathToFileURL } from "node:url";

import { joinNalUnits, writeAvcConfig } from "../../gateway/media/h264.js";
import { H264Packetizer } from "../../gateway/rtp/h264-payload.js";
import { MAX_RTP_PAYLOAD } from "../../gateway/rtp/packet.js";

export type PacketiserRow = {
  /** Bits per second of the source. */
  readonly bitrate: number;
  readonly own: PacketiserCost;
  readonly plain: PacketiserCost;
  /** How many times cheaper in time. */
  readonly ratio: number;
};

export type PacketiserCost = {
  /** CPU microseconds per picture. */
  readonly microseconds: number;
  /** Bytes of buffer memory asked for, per picture. */
  readonly bytes: number;
  /** Requests for buffer memory, per picture. */
  readonly allocations: number;
};

const SPS = Buffer.from("6742c01fd9005005bb016a02020280000003008000001e078c1924", "hex");
const PPS = Buffer.from("68cb83cb20", "hex");
const FRAMES = 60 * 25;
const PASSES = 10;

export async function run(): Promise<PacketiserRow[]> {
  console.log(
    `H.264 packetiser: ${FRAMES} pictures (25 a second, a key frame every 2 s), payloads up to ${MAX_RTP_PAYLOAD} bytes`,
  );
  const rows: PacketiserRow[] = [];
  for (const bitrate of [600_000, 2_500_000, 8_000_000]) {
    const pictures = publisherPictures(bitrate);
    const own = measure(() => packetizeOwn(pictures), pictures);
    const plain = measure(() => packetizePlain(pictures), pictures);
    const row = { bitrate, own, plain, ratio: plain.microseconds / own.microseconds };
    rows.push(row);
    const line = (name: string, cost: PacketiserCost) =>
      `  ${name.padEnd(6)} ${cost.microseconds.toFixed(2).padStart(7)} µs  ${cost.bytes.toFixed(0).padStart(7)} B in ${cost.allocations.toFixed(2).padStart(6)} allocations per picture`;
    console.log(`${bitrate / 1e6} Mbit/s`);
    console.log(line("ours", own));
    console.log(line("plain", plain));
    console.log(`  ${row.ratio.toFixed(1)} times cheaper`);
  }
  return rows;
}

type Picture = { readonly data: Buffer; readonly isKey: boolean };

/** Payload bytes that both ways must put on the wire, headers of packets and fragments aside. */
function publisherPictures(bitrate: number): Picture[] {
  const size = bitrate / 8 / 25;
  return Array.from({ length: FRAMES }, (_, i) => {
    const isKey = i % 50 === 0;
    const slice = Buffer.alloc(Math.round(isKey ? size * 8 : size * 0.85), i | 1);
    slice[0] = isKey ? 0x65 : 0x41;
    return { data: joinNalUnits([slice]), isKey };
  });
}

function packetizeOwn(pictures: readonly Picture[]): number {
  const packetizer = new H264Packetizer();
  packetizer.setConfig(writeAvcConfig([SPS], [PPS]));
  let sequenceNumber = 0;
  let bytes = 0;
  for (let i = 0; i < pictures.length; i++) {
    const { data, isKey } = pictures[i] as Picture;
    const packets = packetizer.packetize(data, isKey, i * 3_600, sequenceNumber);
    sequenceNumber += packets.length;
    for (let k = 0; k < packets.length; k++) bytes += mediaBytes((packets[k] as { payload: Buffer }).payload);
  }
  return bytes;
}

/** What one writes first: NAL units copied out, parameter sets as packets of their own, header and payload joined for each packet. */
function packetizePlain(pictures: readonly Picture[]): number {
  let sequenceNumber = 0;
  let bytes = 0;
  for (const [i, { data, isKey }] of pictures.entries()) {
    const units: Buffer[] = isKey ? [SPS, PPS] : [];
    for (let offset = 0; offset + 4 <= data.length; ) {
      const length = data.readUInt32BE(offset);
      units.push(Buffer.from(data.subarray(offset + 4, offset + 4 + length)));
      offset += 4 + length;
    }
    for (const [k, unit] of units.entries()) {
      const payloads: Buffer[] = [];
      if (unit.length <= MAX_RTP_PAYLOAD) {
        payloads.push(unit);
      } else {
        for (let offset = 1; offset < unit.length; offset += MAX_RTP_PAYLOAD - 2) {
          const part = unit.subarray(offset, offset + MAX_RTP_PAYLOAD - 2);
          const isLast = offset + part.length === unit.length;
          const type = unit.readUInt8(0);
          const header = Buffer.from([(type & 0xe0) | 28, (offset === 1 ? 0x80 : 0) | (isLast ? 0x40 : 0) | (type & 0x1f)]);
          payloads.push(Buffer.concat([header, part]));
        }
      }
      for (const [n, payload] of payloads.entries()) {
        const header = Buffer.alloc(12);
        header[0] = 0x80;
        header[1] = 96 | (k === units.length - 1 && n === payloads.length - 1 ? 0x80 : 0);
        header.writeUInt16BE(sequenceNumber++ & 0xffff, 2);
        header.writeUInt32BE(i * 3_600, 4);
        const packet = Buffer.concat([header, payload]);
        bytes += mediaBytes(packet.subarray(12));
      }
    }
  }
  return bytes;
}

/** NAL unit bytes in a payload, less those of FU-A and STAP-A headers. */
function mediaBytes(payload: Buffer): number {
  const type = (payload[0] as number) & 0x1f;
  if (type === 28) return payload.length - 2 + (((payload[1] as number) & 0x80) !== 0 ? 1 : 0);
  if (type !== 24) return payload.length;
  let bytes = 0;
  for (let offset = 1; offset + 2 <= payload.length; ) {
    const length = payload.readUInt16BE(offset);
    bytes += length;
    offset += 2 + length;
  }
  return bytes;
}

/** Best of a few passes; the allocations are counted in one more. @throws Error when media is missing */
function measure(work: () => number, pictures: readonly Picture[]): PacketiserCost {
  let expected = 0;
  for (const { data, isKey } of pictures) expected += data.length - 4 + (isKey ? SPS.length + PPS.length : 0);
  let best = Number.POSITIVE_INFINITY;
  for (let pass = 0; pass < PASSES; pass++) {
    const before = process.cpuUsage();
    const bytes = work();
    const used = process.cpuUsage(before);
    if (bytes !== expected) throw new Error(`${bytes} bytes of media were packetised out of ${expected}`);
    best = Math.min(best, used.user + used.system);
  }
  const { bytes, allocations } = countAllocations(work);
  return { microseconds: best / pictures.length, bytes: bytes / pictures.length, allocations: allocations / pictures.length };
}

function countAllocations(work: () => unknown): { bytes: number; allocations: number } {
  const { alloc, allocUnsafe, concat, from } = Buffer;
  let bytes = 0;
  let allocations = 0;
  const count = (made: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> => {
    bytes += made.length;
    allocations += 1;
    return made;
  };
  Buffer.alloc = (size) => count(alloc(size));
  Buffer.allocUnsafe = (size) => count(allocUnsafe(size));
  Buffer.concat = (list) => count(concat(list));
  Buffer.from = ((source: Buffer) => count(from(source))) as typeof Buffer.from;
  try {
    work();
  } finally {
    Object.assign(Buffer, { alloc, allocUnsafe, concat, from });
  }
  return { bytes, allocations };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await run();
