// RTMP chunk streams, RTMP 1.0 section 5.3: bytes to messages and back. The two control messages that steer the reader itself
// (Set Chunk Size, Abort) are obeyed here and handed on as well.

import { ProtocolError } from "../media/errors.js";

/** One message as it came off its chunk stream. */
export type ChunkMessage = {
  readonly chunkStreamId: number;
  /** Message type id: 8 audio, 9 video, 20 command, … */
  readonly type: number;
  readonly streamId: number;
  /** Milliseconds, 32 bits, wraps. */
  readonly timestamp: number;
  /** A view of the received bytes when the message came in one piece, else a buffer of its own. */
  readonly payload: Buffer;
};

export type ChunkLimits = {
  /** Bytes of one message. Default 16777215, all that its 24 bits can say. */
  readonly maxMessageLength: number;
  /** Chunk streams that may be in use at once. Default 64. */
  readonly maxChunkStreams: number;
  /** Bytes of unfinished messages over all chunk streams. Default 33554432, two of the largest. */
  readonly maxBuffered: number;
};

export const DEFAULT_CHUNK_LIMITS: ChunkLimits = {
  maxMessageLength: 0xffffff,
  maxChunkStreams: 64, // publishers use five; every one holds a little state for good
  maxBuffered: 2 * 0x1000000,
};

const DEFAULT_CHUNK_SIZE = 128; // both directions start with it, section 5.4.1
const MAX_CHUNK_SIZE = 0xffffff; // a larger chunk cannot be filled by any message
const EXTENDED = 0xffffff; // timestamp field that says: 32 bits follow
const FIRST_ALLOCATION = 65_536; // a declared length is believed so far; beyond, room grows with what has come

const SET_CHUNK_SIZE = 1;
const ABORT = 2;

class ChunkStream {
  readonly id: number;
  timestamp = 0;
  /** The timestamp field of the last header: a delta, or after a format 0 header the time itself. */
  delta = 0;
  isExtended = false;
  length = 0;
  type = 0;
  streamId = 0;
  /** Bytes of the unfinished message, undefined between messages. */
  partial: Buffer | undefined;
  filled = 0;

  constructor(id: number) {
    this.id = id;
  }
}

/**
 * Joins chunks to messages: `push` what came, then `read` until it gives undefined. A message that lies whole in one push is a view
 * of it, every other is copied once (long ones up to twice).
 */
export class ChunkReader {
  #limits: ChunkLimits;
  readonly #streams = new Map<number, ChunkStream>();
  #input: Buffer = EMPTY;
  #offset = 0;
  #chunkSize = DEFAULT_CHUNK_SIZE;
  /** The chunk whose payload is being read, and how much of it is still to come. */
  #current: ChunkStream | undefined;
  #chunkLeft = 0;
  /** Bytes allocated for unfinished messages. */
  #buffered = 0;

  constructor(limits: Partial<ChunkLimits> = {}) {
    this.#limits = { ...DEFAULT_CHUNK_LIMITS, ...limits };
  }

  /** Sets the limits that are given and leaves the others. Messages that are under way stay under the old ones as far as they have come. */
  setLimits(limits: Partial<ChunkLimits>): void {
    this.#limits = { ...this.#limits, ...limits };
  }

  get chunkSize(): number {
    return this.#chunkSize;
  }

  /** Bytes allocated for messages that are not complete yet. */
  get buffered(): number {
    return this.#buffered;
  }

  /** Bytes given and not read yet. */
  get unread(): number {
    return this.#input.length - this.#offset;
  }

  /** Gives more bytes. They must not change afterwards: messages are views of them. */
  push(bytes: Buffer): void {
    const rest = this.#input.length - this.#offset;
    // What rests is less than a chunk header, or what a caller left unread.
    this.#input = rest === 0 ? bytes : Buffer.concat([this.#input.subarray(this.#offset), bytes]);
    this.#offset = 0;
  }

  /** The next complete message, or undefined when more bytes are needed. @throws ProtocolError `chunk-…` */
  read(): ChunkMessage | undefined {
    for (;;) {
      if (this.#current === undefined && !this.#readHeader()) return undefined;
      const message = this.#readPayload();
      if (message !== undefined) {
        this.#obey(message);
        return message;
      }
      if (this.#offset === this.#input.length) return undefined;
    }
  }

  /**
   * ```
   *  0 1 2 3 4 5 6 7
   * +-+-+-+-+-+-+-+-+
   * |fmt|   cs id   |   cs id 0: one more byte (64 + it); 1: two more (64 + low + 256 * high)
   * +-+-+-+-+-+-+-+-+
   * fmt 0: timestamp(3) length(3) type(1) stream id(4, little endian)
   * fmt 1: delta(3) length(3) type(1)    fmt 2: delta(3)    fmt 3: nothing
   * then 4 bytes of extended timestamp, if the (last) timestamp field was ffffff
   * ```
   */
  #readHeader(): boolean {
    const input = this.#input;
    let at = this.#offset;
    const available = input.length - at;
    if (available === 0) return false;
    const first = input[at] as number;
    const format = first >> 6;
    let id = first & 0x3f;
    const basic = id === 0 ? 2 : id === 1 ? 3 : 1;
    if (available < basic) return false;
    if (id === 0) id = 64 + (input[at + 1] as number);
    else if (id === 1) id = 64 + input.readUInt16LE(at + 1);
    at += basic;

    const known = this.#streams.get(id);
    // librtmp opens a chunk stream with format 1 for its pings; formats 2 and 3 would mean nothing.
    if (known === undefined && format > 1) {
      throw new ProtocolError("chunk-format", `chunk stream ${id} starts with format ${format}, which continues nothing`);
    }
    if (known?.partial !== undefined && format !== 3) {
      throw new ProtocolError("chunk-interrupted", `chunk stream ${id} starts a message inside another one`);
    }
    const size = HEADER_SIZES[format] as number;
    if (input.length - at < size) return false;
    const field = format === 3 ? 0 : input.readUIntBE(at, 3);
    let isExtended = format === 3 ? known?.isExtended === true : field === EXTENDED;
    let value = field;
    if (isExtended) {
      if (input.length - at - size < 4) return false;
      value = input.readUInt32BE(at + size);
      // Some writers leave it out of format 3 chunks: then what stands there is not the time of the message that goes on.
      if (format === 3 && known?.partial !== undefined && value !== known.delta && value !== known.timestamp) {
        isExtended = false;
      }
    }
    const stream = known ?? this.#open(id);
    if (format <= 1) {
      stream.length = input.readUIntBE(at + 3, 3);
      stream.type = input[at + 6] as number;
    }
    if (format === 0) stream.streamId = input.readUInt32LE(at + 7);
    if (format !== 3) {
      stream.isExtended = isExtended;
      stream.delta = value;
    }
    this.#offset = at + size + (isExtended ? 4 : 0);
    if (stream.partial === undefined) {
      if (stream.length > this.#limits.maxMessageLength) {
        throw new ProtocolError("chunk-message-too-long", `a message of ${stream.length} bytes on chunk stream ${id}`);
      }
      if (format === 0) stream.timestamp = stream.delta;
      else stream.timestamp = (stream.timestamp + stream.delta) >>> 0;
      this.#chunkLeft = Math.min(stream.length, this.#chunkSize);
    } else {
      this.#chunkLeft = Math.min(stream.length - stream.filled, this.#chunkSize);
    }
    this.#current = stream;
    return true;
  }

  #open(id: number): ChunkStream {
    if (this.#streams.size >= this.#limits.maxChunkStreams) {
      throw new ProtocolError("chunk-too-many-streams", `over ${this.#limits.maxChunkStreams} chunk streams`);
    }
    const stream = new ChunkStream(id);
    this.#streams.set(id, stream);
    return stream;
  }

  /** Takes what there is of the current chunk. @returns the message that it completes */
  #readPayload(): ChunkMessage | undefined {
    const stream = this.#current as ChunkStream;
    const available = this.#input.length - this.#offset;
    const taken = Math.min(available, this.#chunkLeft);
    const isWhole = stream.partial === undefined && taken === stream.length;
    if (isWhole) {
      const payload = this.#input.subarray(this.#offset, this.#offset + taken);
      this.#offset += taken;
      this.#current = undefined;
      return this.#message(stream, payload);
    }
    const partial = this.#reserve(stream, stream.filled + taken);
    this.#input.copy(partial, stream.filled, this.#offset, this.#offset + taken);
    stream.filled += taken;
    this.#offset += taken;
    this.#chunkLeft -= taken;
    if (this.#chunkLeft > 0) return undefined;
    this.#current = undefined;
    if (stream.filled < stream.length) return undefined;
    this.#release(stream);
    return this.#message(stream, partial.subarray(0, stream.length));
  }

  #message(stream: ChunkStream, payload: Buffer): ChunkMessage {
    return { chunkStreamId: stream.id, type: stream.type, streamId: stream.streamId, timestamp: stream.timestamp, payload };
  }

  /** Room for `needed` bytes of the stream's message. A length that was only declared costs FIRST_ALLOCATION at most. */
  #reserve(stream: ChunkStream, needed: number): Buffer {
    const old = stream.partial;
    if (old !== undefined && old.length >= needed) return old;
    const size = Math.min(stream.length, Math.max(needed, old === undefined ? FIRST_ALLOCATION : old.length * 4));
    this.#buffered += size - (old?.length ?? 0);
    if (this.#buffered > this.#limits.maxBuffered) {
      throw new ProtocolError("chunk-too-much-buffered", `over ${this.#limits.maxBuffered} bytes of unfinished messages`);
    }
    const grown = Buffer.allocUnsafe(size);
    old?.copy(grown, 0, 0, stream.filled);
    stream.partial = grown;
    return grown;
  }

  #release(stream: ChunkStream): void {
    this.#buffered -= stream.partial?.length ?? 0;
    stream.partial = undefined;
    stream.filled = 0;
  }

  #obey(message: ChunkMessage): void {
    if (message.type === SET_CHUNK_SIZE) {
      const size = message.payload.length >= 4 ? message.payload.readUInt32BE(0) : 0;
      if (size < 1 || size > 0x7fffffff)
        throw new ProtocolError("chunk-size-invalid", `chunk size ${size} is not in 1..2147483647`);
      this.#chunkSize = Math.min(size, MAX_CHUNK_SIZE);
    } else if (message.type === ABORT && message.payload.length >= 4) {
      const stream = this.#streams.get(message.payload.readUInt32BE(0));
      if (stream !== undefined) this.#release(stream);
    }
  }
}

const EMPTY = Buffer.alloc(0);
const HEADER_SIZES: readonly number[] = [11, 7, 3, 0];

/** Bytes of a message as `writeMessage` writes it. */
export function sizeOfMessage(chunkStreamId: number, timestamp: number, length: number, chunkSize: number): number {
  const basic = sizeOfBasicHeader(chunkStreamId);
  const extended = timestamp >= EXTENDED ? 4 : 0;
  const chunks = Math.max(1, Math.ceil(length / chunkSize));
  return chunks * (basic + extended) + 11 + length;
}

/**
 * Writes a message as one format 0 chunk and as many of format 3 as it takes. It depends on nothing sent before, so that the same
 * bytes do for every connection with this chunk size. @returns the new offset
 */
export function writeMessage(out: Buffer, offset: number, message: ChunkMessage, chunkSize: number): number {
  const { chunkStreamId, timestamp, payload } = message;
  const isExtended = timestamp >= EXTENDED;
  let at = writeBasicHeader(out, offset, 0, chunkStreamId);
  at = out.writeUIntBE(isExtended ? EXTENDED : timestamp, at, 3);
  at = out.writeUIntBE(payload.length, at, 3);
  at = out.writeUInt8(message.type, at);
  at = out.writeUInt32LE(message.streamId, at);
  if (isExtended) at = out.writeUInt32BE(timestamp, at);
  return writePayload(out, at, message, chunkSize, isExtended ? timestamp : -1);
}

/** @param extended what stands behind each format 3 header, -1 for nothing */
function writePayload(out: Buffer, offset: number, message: ChunkMessage, chunkSize: number, extended: number): number {
  const { payload, chunkStreamId } = message;
  let at = offset;
  for (let taken = 0; taken < payload.length; ) {
    if (taken > 0) {
      at = writeBasicHeader(out, at, 3, chunkStreamId);
      if (extended !== -1) at = out.writeUInt32BE(extended, at);
    }
    const end = Math.min(payload.length, taken + chunkSize);
    at += payload.copy(out, at, taken, end);
    taken = end;
  }
  return at;
}

function sizeOfBasicHeader(id: number): number {
  return id < 64 ? 1 : id < 320 ? 2 : 3;
}

function writeBasicHeader(out: Buffer, offset: number, format: number, id: number): number {
  if (id < 64) return out.writeUInt8((format << 6) | id, offset);
  if (id < 320) return out.writeUInt8(id - 64, out.writeUInt8(format << 6, offset));
  return out.writeUInt16LE(id - 64, out.writeUInt8((format << 6) | 1, offset));
}

type Written = { timestamp: number; delta: number; length: number; type: number; streamId: number };

/** Writes messages with the shortest header that says them, as encoders do; keeps what the headers refer to. */
export class ChunkWriter {
  readonly #last = new Map<number, Written>();
  /** Bytes per chunk. Tell the peer by Set Chunk Size before changing it. */
  chunkSize = DEFAULT_CHUNK_SIZE;

  write(message: ChunkMessage): Buffer {
    const { chunkStreamId, timestamp, type, streamId, payload } = message;
    const last = this.#last.get(chunkStreamId);
    const delta = last === undefined ? 0 : timestamp - last.timestamp;
    let format = 0;
    if (last !== undefined && last.streamId === streamId && delta >= 0) {
      format = last.length !== payload.length || last.type !== type ? 1 : last.delta !== delta ? 2 : 3;
    }
    const field = format === 0 ? timestamp : delta;
    this.#last.set(chunkStreamId, { timestamp, delta: field, length: payload.length, type, streamId });
    const out = Buffer.allocUnsafe(sizeOfMessage(chunkStreamId, field, payload.length, this.chunkSize));
    if (format === 0) return out.subarray(0, writeMessage(out, 0, message, this.chunkSize));
    const isExtended = field >= EXTENDED;
    let at = writeBasicHeader(out, 0, format, chunkStreamId);
    if (format <= 2) at = out.writeUIntBE(isExtended ? EXTENDED : field, at, 3);
    if (format <= 1) at = out.writeUInt8(type, out.writeUIntBE(payload.length, at, 3));
    if (isExtended) at = out.writeUInt32BE(field, at);
    return out.subarray(0, writePayload(out, at, message, this.chunkSize, isExtended ? field : -1));
  }
}
