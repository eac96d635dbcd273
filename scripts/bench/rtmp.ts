// Chunk reader throughput: a 2.5 Mbit/s publisher's bytes in the socket's usual pieces, beside the plain way (one growing buffer, a copy
// per chunk, a concat per message) in the same run. Unit: MB/s of input, ns, new bytes and Buffer objects per message.

import { pathToFileURL } from "node:url";

import { type ChunkMessage, ChunkReader, ChunkWriter } from "../../gateway/rtmp/chunk.js";

const CHUNK_SIZES = [128, 4096, 60_000];
const READ_SIZE = 65_536; // what Node reads from a socket at once
const PASSES = 5;
const PUBLISHERS_BITRATE = 2_500_000;

export async function run(): Promise<void> {
  console.log("rtmp chunk reader: 60 s of 25 fps video at 2.5 Mbit/s and AAC, reads of 64 KiB, best of 5 passes");
  for (const chunkSize of CHUNK_SIZES) {
    const { bytes, messages } = publisherBytes(chunkSize);
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += READ_SIZE) pieces.push(bytes.subarray(at, at + READ_SIZE));
    const ours = measure(() => readOurs(pieces), messages.length);
    const plain = measure(() => readPlain(pieces), messages.length);
    const line = (name: string, m: Measurement) =>
      `  ${name.padEnd(6)} ${(bytes.length / m.seconds / 1e6).toFixed(0).padStart(6)} MB/s  ${((m.seconds * 1e9) / messages.length).toFixed(0).padStart(6)} ns/message  ${m.bytes.toFixed(0).padStart(6)} B in ${m.objects.toFixed(1).padStart(5)} buffers/message  (${((m.seconds * 100) / 60).toFixed(4)} % of a core for this publisher)`;
    console.log(`chunk size ${chunkSize}: ${messages.length} messages, ${(bytes.length / 1e6).toFixed(1)} MB`);
    console.log(line("ours", ours));
    console.log(line("plain", plain));
    console.log(`  ${(plain.seconds / ours.seconds).toFixed(1)} times faster`);
  }
}

type Measurement = { readonly seconds: number; readonly bytes: number; readonly objects: number };

/** Best time of a few passes, and the allocations of one more that is not timed. @throws Error when messages are missing */
function measure(read: () => number, expected: number): Measurement {
  let seconds = Number.POSITIVE_INFINITY;
  for (let pass = 0; pass < PASSES; pass++) {
    const start = process.hrtime.bigint();
    const count = read();
    seconds = Math.min(seconds, Number(process.hrtime.bigint() - start) / 1e9);
    if (count !== expected) throw new Error(`${count} messages read, ${expected} were written`);
  }
  const { bytes, objects } = countAllocations(read);
  return { seconds, bytes: bytes / expected, objects: objects / expected };
}

/** Counts what the work asks Buffer for: new memory in bytes, and Buffer objects (views too). */
function countAllocations(work: () => unknown): { bytes: number; objects: number } {
  const { allocUnsafe, concat, from } = Buffer;
  const { subarray } = Buffer.prototype;
  let bytes = 0;
  let objects = 0;
  const count = (made: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> => {
    bytes += made.length;
    objects += 1;
    return made;
  };
  Buffer.allocUnsafe = (size) => count(allocUnsafe(size));
  Buffer.concat = (list) => count(concat(list));
  Buffer.from = ((source: Buffer) => count(from(source))) as typeof Buffer.from;
  Buffer.prototype.subarray = function (this: Buffer, start?: number, end?: number) {
    objects += 1;
    return subarray.call(this, start, end);
  } as typeof subarray;
  try {
    work();
  } finally {
    Object.assign(Buffer, { allocUnsafe, concat, from });
    Buffer.prototype.subarray = subarray;
  }
  return { bytes, objects };
}

function publisherBytes(chunkSize: number): { bytes: Buffer; messages: ChunkMessage[] } {
  const messages: ChunkMessage[] = [];
  const frameSize = PUBLISHERS_BITRATE / 8 / 25;
  for (let i = 0; i < 60 * 25; i++) {
    const size = Math.round(i % 50 === 0 ? frameSize * 8 : frameSize * 0.85);
    messages.push({ chunkStreamId: 6, type: 9, streamId: 1, timestamp: i * 40, payload: Buffer.alloc(size, i) });
    for (let k = 0; k < 2; k++) {
      messages.push({ chunkStreamId: 4, type: 8, streamId: 1, timestamp: i * 40 + k * 20, payload: Buffer.alloc(340, i) });
    }
  }
  const writer = new ChunkWriter();
  const size = Buffer.alloc(4);
  size.writeUInt32BE(chunkSize);
  messages.unshift({ chunkStreamId: 2, type: 1, streamId: 0, timestamp: 0, payload: size });
  const parts = messages.map((message, i) => {
    const part = writer.write(message);
    if (i === 0) writer.chunkSize = chunkSize;
    return part;
  });
  return { bytes: Buffer.concat(parts), messages };
}

function readOurs(pieces: readonly Buffer[]): number {
  const reader = new ChunkReader();
  let count = 0;
  for (const piece of pieces) {
    reader.push(piece);
    while (reader.read() !== undefined) count += 1;
  }
  return count;
}

type PlainStream = { length: number; type: number; parts: Buffer[]; filled: number };

/** What one writes first: append to a buffer, cut chunks off its front, collect copies, concat them. Formats as our writer uses them. */
function readPlain(pieces: readonly Buffer[]): number {
  const streams = new Map<number, PlainStream>();
  let buffer = Buffer.alloc(0);
  let chunkSize = 128;
  let count = 0;
  for (const piece of pieces) {
    buffer = Buffer.concat([buffer, piece]);
    for (;;) {
      if (buffer.length < 1) break;
      const format = buffer.readUInt8(0) >> 6;
      const id = buffer.readUInt8(0) & 0x3f;
      const header = 1 + ([11, 7, 3, 0][format] ?? 0);
      if (buffer.length < header) break;
      let stream = streams.get(id);
      if (stream === undefined) {
        stream = { length: 0, type: 0, parts: [], filled: 0 };
        streams.set(id, stream);
      }
      const length = format <= 1 ? buffer.readUIntBE(4, 3) : stream.length;
      const type = format <= 1 ? buffer.readUInt8(7) : stream.type;
      const size = Math.min(chunkSize, length - stream.filled);
      if (buffer.length < header + size) break;
      stream.length = length;
      stream.type = type;
      stream.parts.push(Buffer.from(buffer.subarray(header, header + size)));
      stream.filled += size;
      buffer = buffer.subarray(header + size);
      if (stream.filled < stream.length) continue;
      const payload = Buffer.concat(stream.parts);
      stream.parts = [];
      stream.filled = 0;
      if (stream.type === 1) chunkSize = payload.readUInt32BE(0);
      count += 1;
    }
  }
  return count;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await run();
