// Reads MPEG-TS as strictly as a checker: every packet, counter, table and PES header is looked at (ISO/IEC 13818-1). Independent of
// what the gateway writes with.

import assert from "node:assert/strict";

export type TsUnit = {
  readonly pid: number;
  /** 90 kHz, 33 bits, as written. */
  readonly pts: number;
  readonly dts: number;
  /** program_clock_reference_base of the unit's first packet. */
  readonly pcr: number | undefined;
  readonly isRandomAccess: boolean;
  readonly data: Buffer;
};

export type TsStream = { readonly pid: number; readonly streamType: number };

/** Takes the bytes of one segment or part after the other; counters are checked over all of them. */
export class TsReader {
  readonly units: TsUnit[] = [];
  streams: readonly TsStream[] = [];
  pcrPid = -1;
  /** How many program map tables came. */
  tables = 0;
  readonly #counters = new Map<number, number>();
  readonly #open = new Map<number, { chunks: Buffer[]; pcr: number | undefined; isRandomAccess: boolean }>();
  #pmtPid = -1;

  /** @throws AssertionError naming what is wrong; a PES packet must end with the bytes it came in */
  push(bytes: Buffer): void {
    assert.equal(bytes.length % 188, 0, "whole packets");
    for (let at = 0; at < bytes.length; at += 188) this.#packet(bytes.subarray(at, at + 188));
    for (const pid of [...this.#open.keys()]) this.#closeUnit(pid);
  }

  #packet(packet: Buffer): void {
    assert.equal(packet[0], 0x47, "sync_byte");
    const second = packet.readUInt8(1);
    assert.equal(second & 0xa0, 0, "no transport error, no priority");
    const starts = (second & 0x40) !== 0;
    const pid = packet.readUInt16BE(1) & 0x1fff;
    const fourth = packet.readUInt8(3);
    assert.equal(fourth >> 6, 0, "not scrambled");
    assert.ok((fourth & 0x10) !== 0, "every packet has payload");
    const counter = fourth & 15;
    const before = this.#counters.get(pid);
    if (before !== undefined) assert.equal(counter, (before + 1) & 15, `continuity of PID ${pid}`);
    this.#counters.set(pid, counter);

    let offset = 4;
    let pcr: number | undefined;
    let isRandomAccess = false;
    if ((fourth & 0x20) !== 0) {
      const length = packet.readUInt8(4);
      offset = 5 + length;
      assert.ok(length <= 182, "adaptation_field_length with payload is at most 182");
      if (length > 0) {
        const flags = packet.readUInt8(5);
        assert.equal(flags & ~0x50, 0, "random access and PCR only");
        isRandomAccess = (flags & 0x40) !== 0;
        let used = 6;
        if ((flags & 0x10) !== 0) {
          pcr = packet.readUInt32BE(6) * 2 + (packet.readUInt8(10) >> 7);
          used = 12;
        }
        assert.ok(used <= offset, "the field holds its parts");
        for (let at = used; at < offset; at++) assert.equal(packet[at], 0xff, "stuffing_byte");
      }
    }
    const payload = packet.subarray(offset);
    if (pid === 0) this.#pat(payload);
    else if (pid === this.#pmtPid) this.#pmt(payload);
    else {
      assert.ok(
        this.streams.some((stream) => stream.pid === pid),
        `PID ${pid} stands in a table that came before`,
      );
      if (starts) {
        this.#closeUnit(pid);
        this.#open.set(pid, { chunks: [], pcr, isRandomAccess });
      } else assert.equal(pcr, undefined, "PCR at the start of units only");
      const open = this.#open.get(pid);
      assert.ok(open !== undefined, "payload belongs to a unit that began");
      open.chunks.push(payload);
    }
  }

  #section(payload: Buffer, tableId: number): Buffer {
    assert.equal(payload[0], 0, "pointer_field");
    assert.equal(payload[1], tableId);
    const length = payload.readUInt16BE(2) & 0x0fff;
    const section = payload.subarray(1, 4 + length);
    assert.equal(crc(section), 0, "CRC_32");
    for (const byte of payload.subarray(4 + length)) assert.equal(byte, 0xff);
    return section.subarray(8, section.length - 4);
  }

  #pat(payload: Buffer): void {
    const body = this.#section(payload, 0);
    assert.equal(body.length, 4, "one program");
    this.#pmtPid = body.readUInt16BE(2) & 0x1fff;
  }

  #pmt(payload: Buffer): void {
    const body = this.#section(payload, 2);
    this.pcrPid = body.readUInt16BE(0) & 0x1fff;
    const streams: TsStream[] = [];
    let offset = 4 + (body.readUInt16BE(2) & 0x0fff);
    for (; offset < body.length; offset += 5 + (body.readUInt16BE(offset + 3) & 0x0fff)) {
      streams.push({ streamType: body.readUInt8(offset), pid: body.readUInt16BE(offset + 1) & 0x1fff });
    }
    this.streams = streams;
    this.tables += 1;
  }

  #closeUnit(pid: number): void {
    const open = this.#open.get(pid);
    if (open === undefined) return;
    this.#open.delete(pid);
    const pes = Buffer.concat(open.chunks);
    assert.equal(pes.readUIntBE(0, 3), 1, "packet_start_code_prefix");
    const length = pes.readUInt16BE(4);
    if (length === 0) assert.equal(pes.readUInt8(3) & 0xf0, 0xe0, "only video may be unbounded");
    else assert.equal(length, pes.length - 6, "PES_packet_length");
    const flags = pes.readUInt8(7) >> 6;
    const headerLength = pes.readUInt8(8);
    assert.ok(flags === 2 || flags === 3);
    assert.equal(headerLength, flags === 2 ? 5 : 10);
    const pts = readTime(pes, 9, flags);
    const dts = flags === 3 ? readTime(pes, 14, 1) : pts;
    const { pcr, isRandomAccess } = open;
    this.units.push({ pid, pts, dts, pcr, isRandomAccess, data: pes.subarray(9 + headerLength) });
  }
}

function readTime(pes: Buffer, offset: number, prefix: number): number {
  const first = pes.readUInt8(offset);
  assert.equal(first >> 4, prefix);
  const middle = pes.readUInt16BE(offset + 1);
  const last = pes.readUInt16BE(offset + 3);
  assert.deepEqual([first & 1, middle & 1, last & 1], [1, 1, 1], "marker bits");
  return ((first >> 1) & 7) * 2 ** 30 + (middle >> 1) * 2 ** 15 + (last >> 1);
}

/** Over a whole section with its CRC this is 0. */
function crc(bytes: Buffer): number {
  let value = 0xffffffff;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      const top = ((value >>> 31) ^ (byte >> bit)) & 1;
      value = (value << 1) >>> 0;
      if (top === 1) value = (value ^ 0x04c11db7) >>> 0;
    }
  }
  return value;
}

/** Raw AAC frames of a unit of ADTS; every header is checked for its length. */
export function splitAdts(data: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < data.length; ) {
    assert.equal(data.readUInt16BE(at) & 0xfff6, 0xfff0, "syncword, layer 0");
    const length = (data.readUIntBE(at + 3, 3) >> 5) & 0x1fff;
    assert.ok(length >= 7 && at + length <= data.length, "aac_frame_length");
    frames.push(data.subarray(at + 7, at + length));
    at += length;
  }
  return frames;
}
