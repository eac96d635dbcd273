// Reads NUT, the container in which ffmpeg adds the least delay (https://ffmpeg.org/~michael/nut.txt). Bytes in, frames out; pure.

export type NutStream = {
  readonly streamClass: "video" | "audio" | "other";
  /** `H264`, `Opus`, … as four characters. */
  readonly fourcc: string;
  /** Seconds per tick is `timeBaseNumerator / timeBaseDenominator`. */
  readonly timeBaseNumerator: number;
  readonly timeBaseDenominator: number;
  readonly codecSpecificData: Buffer;
};

export type NutFrame = {
  readonly streamId: number;
  /** Ticks of the stream's time base. */
  readonly pts: number;
  readonly isKey: boolean;
  /** The reader's own copy, free to keep. */
  readonly data: Buffer;
};

/** The bytes are not NUT as this reader knows it; the reader must not be used again. */
export class NutError extends Error {
  override readonly name = "NutError";
}

/** A NUT byte stream cut anywhere goes in by `push`, whole frames come out in order. */
export class NutReader {
  #buffered: Buffer = EMPTY;
  #stage: "id" | "packets" = "id";
  readonly #timeBases: { numerator: number; denominator: number }[] = [];
  readonly #streams: (StreamState | undefined)[] = [];
  #streamCount = 0;
  #codes: readonly (FrameCode | undefined)[] = [];
  #elisionHeaders: readonly Buffer[] = [EMPTY];
  readonly #onFrame: (frame: NutFrame) => void;

  constructor(onFrame: (frame: NutFrame) => void) {
    this.#onFrame = onFrame;
  }

  /** The stream with this id, once its header has been read. */
  stream(id: number): NutStream | undefined {
    return this.#streams[id]?.header;
  }

  /** @throws NutError */
  push(chunk: Buffer): void {
    const bytes = this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk]);
    let offset = 0;
    for (;;) {
      const next = this.#readItem(bytes, offset);
      if (next < 0) break;
      offset = next;
    }
    const rest = bytes.length - offset;
    if (rest > MAX_ITEM + 64) throw new NutError(`more than ${MAX_ITEM} bytes without the end of a frame`);
    this.#buffered = rest === 0 ? EMPTY : Buffer.from(bytes.subarray(offset)); // a copy: the chunk's memory is not held
  }

  /** @returns the offset after one packet or frame, or -1 when it is not all there yet */
  #readItem(bytes: Buffer, start: number): number {
    if (this.#stage === "id") {
      if (bytes.length - start < FILE_ID.length) return -1;
      if (!bytes.subarray(start, start + FILE_ID.length).equals(FILE_ID)) throw new NutError("not a NUT file");
      this.#stage = "packets";
      return start + FILE_ID.length;
    }
    if (start >= bytes.length) return -1;
    const cursor = new Cursor(bytes, start);
    try {
      return bytes[start] === STARTCODE_FIRST ? this.#readPacket(cursor) : this.#readFrame(cursor);
    } catch (error) {
      if (error === MORE) return -1;
      throw error;
    }
  }

  // packet: startcode f(64), forward_ptr v, [header_checksum u(32) when forward_ptr > 4096], body, checksum u(32)
  #readPacket(cursor: Cursor): number {
    cursor.need(8);
    const startcode = cursor.bytes.readBigUInt64BE(cursor.offset);
    cursor.offset += 8;
    const forward = cursor.v();
    if (forward > MAX_HEADER || forward < 4) throw new NutError(`packet of ${forward} bytes`);
    if (forward > 4096) cursor.take(4);
    cursor.need(forward);
    const end = cursor.offset + forward;
    const body = new Cursor(cursor.bytes.subarray(0, end - 4), cursor.offset);
    try {
      if (startcode === MAIN) this.#readMain(body);
      else if (startcode === STREAM) this.#readStream(body);
      else if (startcode === SYNCPOINT) this.#readSyncpoint(body);
      else if (startcode !== INFO && startcode !== INDEX) throw new NutError("unknown startcode");
    } catch (error) {
      if (error === MORE) throw new NutError("header shorter than its fields");
      throw error;
    }
    return end;
  }

  #readMain(body: Cursor): void {
    if (this.#streamCount > 0) return; // headers are repeated now and then
    const version = body.v();
    if (version < 2 || version > 4) throw new NutError(`version ${version}`);
    if (version > 3) body.v(); // minor_version
    const streamCount = body.v();
    if (streamCount < 1 || streamCount > MAX_STREAMS) throw new NutError(`${streamCount} streams`);
    body.v(); // max_distance
    const timeBaseCount = body.v();
    if (timeBaseCount < 1 || timeBaseCount > MAX_STREAMS) throw new NutError(`${timeBaseCount} time bases`);
    for (let i = 0; i < timeBaseCount; i++) {
      const numerator = body.v();
      const denominator = body.v();
      if (numerator < 1 || denominator < 1 || numerator > 0x7fffffff || denominator > 0x7fffffff) throw new NutError("time base");
      this.#timeBases.push({ numerator, denominator });
    }
    this.#codes = readFrameCodes(body);
    const elision: Buffer[] = [EMPTY];
    const count = body.v();
    if (count > 127) throw new NutError(`${count} elision headers`);
    for (let i = 0; i < count; i++) elision.push(body.vb(MAX_ELISION));
    this.#elisionHeaders = elision;
    this.#streamCount = streamCount;
  }

  #readStream(body: Cursor): void {
    const id = body.v();
    if (id >= this.#streamCount) throw new NutError(`stream ${id} of ${this.#streamCount}`);
    if (this.#streams[id] !== undefined) return;
    const streamClass: NutStream["streamClass"] = STREAM_CLASSES[body.v()] ?? "other";
    const fourcc = body.vb(16).toString("latin1");
    const timeBase = this.#timeBases[body.v()];
    if (timeBase === undefined) throw new NutError("time base that is not declared");
    const msbShift = body.v();
    if (msbShift > 30) throw new NutError(`msb_pts_shift ${msbShift}`);
    body.v(); // max_pts_distance
    body.v(); // decode_delay
    body.v(); // stream_flags
    const codecSpecificData = Buffer.from(body.vb(MAX_HEADER));
    const { numerator, denominator } = timeBase;
    const header = { streamClass, fourcc, timeBaseNumerator: numerator, timeBaseDenominator: denominator, codecSpecificData };
    this.#streams[id] = { header, msbShift, lastPts: 0 };
  }

  // A syncpoint sets the last pts of every stream to its global_key_pts, rounded down to the stream's time base.
  #readSyncpoint(body: Cursor): void {
    const coded = body.v();
    const count = this.#timeBases.length;
    const from = this.#timeBases[coded % count];
    if (from === undefined) throw new NutError("syncpoint before the main header");
    const ticks = BigInt(Math.floor(coded / count)) * BigInt(from.numerator);
    for (const stream of this.#streams) {
      if (stream === undefined) continue;
      const { timeBaseNumerator, timeBaseDenominator } = stream.header;
      stream.lastPts = Number((ticks * BigInt(timeBaseDenominator)) / (BigInt(from.denominator) * BigInt(timeBaseNumerator)));
      if (stream.lastPts > MAX_PTS) throw new NutError("time out of range");
    }
  }

  #readFrame(cursor: Cursor): number {
    const frameCode = cursor.u8();
    const code = this.#codes[frameCode];
    if (code === undefined) throw new NutError(`frame code ${frameCode} is not valid here`);
    let flags = code.flags;
    if (flags & FLAG_CODED) flags ^= cursor.v();
    const streamId = flags & FLAG_STREAM_ID ? cursor.v() : code.streamId;
    const stream = this.#streams[streamId];
    if (stream === undefined) throw new NutError(`frame of stream ${streamId}, which has no header`);
    let pts = stream.lastPts + code.ptsDelta;
    if (flags & FLAG_CODED_PTS) pts = fullPts(cursor.v(), stream);
    if (!(Math.abs(pts) <= MAX_PTS)) throw new NutError("time out of range");
    let size = code.sizeLsb;
    if (flags & FLAG_SIZE_MSB) size += code.sizeMul * cursor.v();
    if (flags & FLAG_MATCH_TIME) cursor.v();
    let headerIndex = flags & FLAG_HEADER_IDX ? cursor.v() : code.headerIndex;
    const reserved = flags & FLAG_RESERVED ? cursor.v() : code.reservedCount;
    if (reserved > 16) throw new NutError(`${reserved} reserved fields`);
    for (let i = 0; i < reserved; i++) cursor.v();
    if (flags & FLAG_CHECKSUM) cursor.take(4); // not verified: a pipe does not lose bytes
    if (flags & FLAG_SIDE_DATA) throw new NutError("side data, which this reader does not know");
    if (size > MAX_ITEM) throw new NutError(`frame of ${size} bytes`);
    if (size > 4096) headerIndex = 0; // elision headers are for small frames only
    const elided = this.#elisionHeaders[headerIndex];
    if (elided === undefined || elided.length > size) throw new NutError(`elision header ${headerIndex}`);
    const data = cursor.take(size - elided.length);
    stream.lastPts = pts;
    if ((flags & FLAG_EOR) === 0) {
      this.#onFrame({ streamId, pts, isKey: (flags & FLAG_KEY) !== 0, data: Buffer.concat([elided, data]) });
    }
    return cursor.offset;
  }
}

type StreamState = { readonly header: NutStream; readonly msbShift: number; lastPts: number };

/** What one of the 256 first bytes of a frame stands for. */
type FrameCode = {
  readonly flags: number;
  readonly streamId: number;
  readonly ptsDelta: number;
  readonly sizeMul: number;
  readonly sizeLsb: number;
  readonly reservedCount: number;
  readonly headerIndex: number;
};

/** The run-length coded table of the main header; each field keeps its value until it is given again. */
function readFrameCodes(body: Cursor): (FrameCode | undefined)[] {
  const codes: (FrameCode | undefined)[] = [];
  let ptsDelta = 0;
  let sizeMul = 1;
  let streamId = 0;
  let headerIndex = 0;
  while (codes.length < 256) {
    const flags = body.v();
    const fields = body.v();
    if (fields > 32) throw new NutError(`${fields} fields in the frame code table`);
    if (fields > 0) ptsDelta = body.s();
    if (fields > 1) sizeMul = body.v();
    if (fields > 2) streamId = body.v();
    const sizeLsb = fields > 3 ? body.v() : 0;
    const reservedCount = fields > 4 ? body.v() : 0;
    const count = fields > 5 ? body.v() : sizeMul - sizeLsb;
    if (fields > 6) body.s(); // match_time_delta
    if (fields > 7) headerIndex = body.v();
    for (let j = 8; j < fields; j++) body.v();
    if (count < 1 || count > 256) throw new NutError(`frame code table: a run of ${count}`);
    for (let j = 0; j < count && codes.length < 256; j++) {
      if (codes.length === STARTCODE_FIRST) codes.push(undefined); // 'N' is where a startcode begins
      if (flags & FLAG_INVALID) codes.push(undefined);
      else codes.push({ flags, streamId, ptsDelta, sizeMul, sizeLsb: sizeLsb + j, reservedCount, headerIndex });
    }
  }
  return codes;
}

/** coded_pts holds either the low bits only, near the last pts, or 2^msb_pts_shift + the whole. */
function fullPts(coded: number, stream: StreamState): number {
  const range = 2 ** stream.msbShift;
  if (coded >= range) return coded - range;
  const delta = stream.lastPts - Math.floor((range - 1) / 2);
  const low = (((coded - delta) % range) + range) % range;
  return low + delta;
}

/** Reads NUT's numbers; throws MORE at the end of the bytes. */
class Cursor {
  readonly bytes: Buffer;
  offset: number;

  constructor(bytes: Buffer, offset: number) {
    this.bytes = bytes;
    this.offset = offset;
  }

  need(count: number): void {
    if (this.offset + count > this.bytes.length) throw MORE;
  }

  u8(): number {
    const value = this.bytes[this.offset];
    if (value === undefined) throw MORE;
    this.offset += 1;
    return value;
  }

  /** Seven bits a byte, the highest first; the top bit says that more follow. */
  v(): number {
    let value = 0;
    for (;;) {
      const byte = this.u8();
      value = value * 128 + (byte & 0x7f);
      if (value > Number.MAX_SAFE_INTEGER) throw new NutError("number out of range");
      if (byte < 0x80) return value;
    }
  }

  s(): number {
    const value = this.v() + 1;
    return value % 2 === 1 ? -Math.floor(value / 2) : value / 2;
  }

  vb(limit: number): Buffer {
    const length = this.v();
    if (length > limit) throw new NutError(`field of ${length} bytes`);
    return this.take(length);
  }

  take(count: number): Buffer {
    this.need(count);
    const view = this.bytes.subarray(this.offset, this.offset + count);
    this.offset += count;
    return view;
  }
}

const EMPTY: Buffer = Buffer.alloc(0);
const MORE = Symbol("more bytes needed");
const FILE_ID = Buffer.from("nut/multimedia container\0", "latin1");
const STARTCODE_FIRST = 0x4e; // 'N'
const MAIN = 0x4e4d7a561f5f04adn;
const STREAM = 0x4e5311405bf2f9dbn;
const SYNCPOINT = 0x4e4be4adeeca4569n;
const INDEX = 0x4e58dd672f23e64en;
const INFO = 0x4e49ab68b596ba78n;
const STREAM_CLASSES = ["video", "audio"] as const;

const FLAG_KEY = 1;
const FLAG_EOR = 2; // end of relevance: the frame carries no media
const FLAG_CODED_PTS = 8;
const FLAG_STREAM_ID = 16;
const FLAG_SIZE_MSB = 32;
const FLAG_CHECKSUM = 64;
const FLAG_RESERVED = 128;
const FLAG_SIDE_DATA = 256;
const FLAG_HEADER_IDX = 1024;
const FLAG_MATCH_TIME = 2048;
const FLAG_CODED = 4096;
const FLAG_INVALID = 8192;

const MAX_ITEM = 16 * 1024 * 1024; // one picture; an FLV tag cannot hold more either (24-bit size)
const MAX_HEADER = 1024 * 1024; // headers and indexes are some kilobytes
const MAX_STREAMS = 16; // this gateway asks for one
const MAX_ELISION = 1024; // elision headers are a few bytes of a frame's start
const MAX_PTS = 2 ** 52; // leaves room for a delta
