// H.264 out of RTP: access units from packets in order (RFC 6184, packetization modes 0 and 1: single NAL units, STAP-A, FU-A).

import { NAL, parsePpsIds, writeAvcConfig } from "../media/h264.js";
import { parseSps } from "../media/h264-sps.js";

export type DepayloadedUnit = {
  /** RTP time as it was handed in. */
  readonly timestamp: number;
  /** Has an IDR slice: a decoder can start here. */
  readonly isKey: boolean;
  /** NAL units, each behind a 4-byte length; without parameter sets, delimiters and filler. */
  readonly data: Buffer;
  /** AVCDecoderConfigurationRecord that holds from this unit on; present when it is another one than before. */
  readonly config: Buffer | undefined;
};

export type H264DepayloaderEvents = {
  readonly onUnit: (unit: DepayloadedUnit) => void;
  /** A unit was lost or broken: nothing comes out until the next key frame, which should be asked for. */
  readonly onDamage: (reason: string) => void;
};

/**
 * Holds one access unit at a time. What is damaged never comes out, nor what refers to it: after a hole in the numbers or a packet
 * that makes no sense it waits for a key frame.
 */
export class H264Depayloader {
  readonly #events: H264DepayloaderEvents;
  readonly #parameterSets = new ParameterSets();
  #state: "waiting" | "decoding" = "waiting";
  #expected = -1;
  #timestamp = 0;
  /** Pieces of the access unit in hand, in order; `#sizes` has the size of each NAL unit, `#counts` its number of pieces. */
  #pieces: Buffer[] = [];
  #sizes: number[] = [];
  #counts: number[] = [];
  #bytes = 0;
  #hasSlice = false;
  #hasIdr = false;
  #isDamaged = false;
  /** NAL header of the fragmented unit under way, -1 for none. */
  #fragment = -1;
  #fragmentPieces: Buffer[] = [];
  #fragmentSize = 0;

  constructor(events: H264DepayloaderEvents) {
    this.#events = events;
  }

  /** `waiting`: for a key frame. */
  get state(): "waiting" | "decoding" {
    return this.#state;
  }

  /** Parameter sets from out of band: `sprop-parameter-sets` of the format parameters (RFC 6184 section 8.1). */
  setFormatParameters(parameters: string): void {
    const value = /(?:^|;)\s*sprop-parameter-sets=([A-Za-z0-9+/=,]*)/.exec(parameters)?.[1] ?? "";
    for (const text of value.split(",")) {
      const nal = Buffer.from(text, "base64");
      if (nal.length > 0) this.#parameterSets.add(nal);
    }
  }

  /**
   * Takes the next packet.
   *
   * @param sequenceNumber unwrapped; a number that is left out is a packet lost
   * @param timestamp unwrapped RTP time
   * @param payload kept alive and read until its access unit has come out
   */
  push(sequenceNumber: number, timestamp: number, marker: boolean, payload: Buffer): void {
    const isGap = this.#expected !== -1 && sequenceNumber !== this.#expected;
    this.#expected = sequenceNumber + 1;
    if (isGap) {
      this.#discard();
      this.#damage("packets are missing");
      this.#timestamp = timestamp;
      this.#isDamaged = true; // unless this packet begins a unit, which its own first bytes tell
      if (beginsUnit(payload)) this.#isDamaged = false;
    } else if (timestamp !== this.#timestamp) {
      // The marker is missing: some senders never set it. Parameter sets sent ahead stay for the unit that follows.
      this.#finish();
      this.#timestamp = timestamp;
    }
    if (!this.#isDamaged && !this.#take(payload)) {
      this.#isDamaged = true;
      this.#damage("a packet makes no sense");
    }
    if (marker) this.#finish();
  }

  /** Forgets the unit under way and waits for a key frame: another source follows. Parameter sets stay, and are told again. */
  reset(): void {
    this.#discard();
    this.#expected = -1;
    this.#state = "waiting";
    this.#parameterSets.forgetTold();
  }

  #take(payload: Buffer): boolean {
    const header = payload[0];
    if (header === undefined || (header & 0x80) !== 0) return false; // forbidden_zero_bit
    const type = header & 0x1f;
    if (type === FU_A) return this.#takeFragment(payload);
    if (this.#fragment !== -1) return false; // the unit before has no end
    if (type === STAP_A) return this.#takeAggregate(payload);
    if (type === 0 || type > 23) return false; // reserved, or of the interleaved mode, which is never agreed on
    return this.#addUnit(payload);
  }

  #takeAggregate(payload: Buffer): boolean {
    let at = 1;
    while (at + 2 < payload.length) {
      const size = payload.readUInt16BE(at);
      const start = at + 2;
      if (size === 0 || start + size > payload.length) return false;
      const type = (payload[start] as number) & 0x1f;
      if (type === 0 || type > 23 || !this.#addUnit(payload.subarray(start, start + size))) return false;
      at = start + size;
    }
    return at > 1 && at === payload.length;
  }

  // RFC 6184 section 5.8: FU indicator |F|NRI|  28  |, FU header |S|E|R|  Type   |
  #takeFragment(payload: Buffer): boolean {
    if (payload.length < 3) return false;
    const fuHeader = payload[1] as number;
    const header = ((payload[0] as number) & 0xe0) | (fuHeader & 0x1f);
    const isStart = (fuHeader & 0x80) !== 0;
    const isEnd = (fuHeader & 0x40) !== 0;
    const type = header & 0x1f;
    if (type === 0 || type > 23) return false;
    if (isStart) {
      if (this.#fragment !== -1 || isEnd) return false; // a fragment that is a whole unit is not allowed
      this.#fragment = header;
      this.#fragmentPieces.push(NAL_HEADERS[header] as Buffer);
      this.#fragmentSize = 1;
    } else if (this.#fragment === -1 || (this.#fragment & 0x1f) !== type) {
      return false;
    }
    this.#fragmentPieces.push(payload.subarray(2));
    this.#fragmentSize += payload.length - 2;
    if (this.#bytes + this.#fragmentSize > MAX_UNIT_BYTES) return false;
    if (!isEnd) return true;
    const pieces = this.#fragmentPieces;
    const size = this.#fragmentSize;
    this.#endFragment();
    return isSlice(type) ? this.#addPieces(type, pieces, size) : this.#addUnit(Buffer.concat(pieces, size));
  }

  #addUnit(nal: Buffer): boolean {
    const type = (nal[0] as number) & 0x1f;
    if (type === NAL.AUD || type === NAL.FILLER || type === NAL.END_OF_SEQUENCE || type === NAL.END_OF_STREAM) return true;
    if (isParameterSet(type)) return this.#parameterSets.add(nal);
    return this.#addPieces(type, [nal], nal.length);
  }

  #addPieces(type: number, pieces: readonly Buffer[], size: number): boolean {
    if (this.#sizes.length === MAX_UNITS || this.#bytes + size > MAX_UNIT_BYTES) return false;
    for (const piece of pieces) this.#pieces.push(piece);
    this.#sizes.push(size);
    this.#counts.push(pieces.length);
    this.#bytes += 4 + size;
    if (isSlice(type)) this.#hasSlice = true;
    if (type === NAL.IDR) this.#hasIdr = true;
    return true;
  }

  /** The access unit is over. */
  #finish(): void {
    if (this.#fragment !== -1 && !this.#isDamaged) {
      this.#isDamaged = true;
      this.#damage("a fragmented unit has no end");
    }
    if (this.#isDamaged) {
      this.#discard();
      return;
    }
    if (!this.#hasSlice) return; // parameter sets or SEI with a marker of their own: they belong to the next unit
    if (this.#hasIdr) this.#parameterSets.onKeyFrame();
    const config = this.#parameterSets.takeChanged();
    if (this.#hasIdr && this.#parameterSets.isComplete) this.#state = "decoding";
    else if (this.#hasIdr) this.#damage("a key frame without parameter sets");
    if (this.#state === "decoding") {
      this.#events.onUnit({ timestamp: this.#timestamp, isKey: this.#hasIdr, data: this.#join(), config });
    } else if (config !== undefined) {
      this.#parameterSets.forgetTold();
    }
    this.#discard();
  }

  #join(): Buffer {
    const data = Buffer.allocUnsafe(this.#bytes);
    let offset = 0;
    let piece = 0;
    for (let unit = 0; unit < this.#sizes.length; unit++) {
      offset = data.writeUInt32BE(this.#sizes[unit] as number, offset);
      for (const end = piece + (this.#counts[unit] as number); piece < end; piece++) {
        offset += (this.#pieces[piece] as Buffer).copy(data, offset);
      }
    }
    return data;
  }

  #damage(reason: string): void {
    this.#state = "waiting";
    this.#events.onDamage(reason);
  }

  #discard(): void {
    this.#endFragment();
    this.#pieces = [];
    this.#sizes = [];
    this.#counts = [];
    this.#bytes = 0;
    this.#hasSlice = false;
    this.#hasIdr = false;
    this.#isDamaged = false;
  }

  #endFragment(): void {
    this.#fragment = -1;
    this.#fragmentPieces = [];
    this.#fragmentSize = 0;
  }
}

/** The stream's parameter sets, and whether they are still those that were told. */
class ParameterSets {
  #sps = new Map<number, Buffer>();
  #pps = new Map<number, Buffer>();
  /** Ids that came since the last slice. */
  readonly #freshSps = new Set<number>();
  readonly #freshPps = new Set<number>();
  #told: Buffer | undefined;
  #isChanged = false;

  get isComplete(): boolean {
    return this.#sps.size > 0 && this.#pps.size > 0;
  }

  /** @returns false when it makes no sense */
  add(nal: Buffer): boolean {
    const type = (nal[0] as number) & 0x1f;
    if (type === NAL.SPS) {
      const id = parseSps(nal)?.id;
      if (id === undefined) return false;
      this.#set(this.#sps, this.#freshSps, id, nal);
    } else if (type === NAL.PPS) {
      const id = parsePpsIds(nal)?.id;
      if (id === undefined) return false;
      this.#set(this.#pps, this.#freshPps, id, nal);
    }
    return true; // SPS extensions and subset SPS are of no use here
  }

  /** A key frame that brought its SPS along needs no other: encoders that number them anew would pile them up. */
  onKeyFrame(): void {
    if (this.#freshSps.size > 0) {
      this.#retain(this.#sps, this.#freshSps);
      if (this.#freshPps.size > 0) this.#retain(this.#pps, this.#freshPps);
    }
    this.#freshSps.clear();
    this.#freshPps.clear();
  }

  /** The configuration, when it is another one than was told last. */
  takeChanged(): Buffer | undefined {
    if (!this.#isChanged || !this.isComplete) return undefined;
    this.#isChanged = false;
    const config = writeAvcConfig([...this.#sps.values()], [...this.#pps.values()]);
    if (this.#told?.equals(config) === true) return undefined;
    this.#told = config;
    return config;
  }

  forgetTold(): void {
    this.#told = undefined;
    this.#isChanged = true;
  }

  #set(sets: Map<number, Buffer>, fresh: Set<number>, id: number, nal: Buffer): void {
    fresh.add(id);
    if (sets.get(id)?.equals(nal) === true) return;
    sets.set(id, Buffer.from(nal)); // lives longer than its packet
    this.#isChanged = true;
  }

  #retain(sets: Map<number, Buffer>, fresh: ReadonlySet<number>): void {
    for (const id of sets.keys()) {
      if (fresh.has(id)) continue;
      sets.delete(id);
      this.#isChanged = true;
    }
  }
}

function isSlice(type: number): boolean {
  return type >= NAL.SLICE && type <= NAL.IDR;
}

function isParameterSet(type: number): boolean {
  return type === NAL.SPS || type === NAL.PPS || type === NAL.SPS_EXTENSION || type === SUBSET_SPS;
}

/** Whether a packet is surely the first of an access unit: it begins with a delimiter or with parameter sets. */
function beginsUnit(payload: Buffer): boolean {
  const type = (payload[0] ?? 0) & 0x1f;
  const first = type === STAP_A ? (payload[3] ?? 0) & 0x1f : type;
  return first === NAL.AUD || first === NAL.SPS;
}

const NAL_HEADERS: readonly Buffer[] = Array.from({ length: 256 }, (_, header) => Buffer.from([header]));
const STAP_A = 24;
const FU_A = 28;
const SUBSET_SPS = 15;
const MAX_UNIT_BYTES = 8 * 1024 * 1024; // one picture; FLV has 16 MiB for a tag
const MAX_UNITS = 2048; // NAL units of one picture: slices as small as packets
