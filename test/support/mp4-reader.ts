// Reads fragmented MP4: boxes, and the samples of each fragment with their exact times (ISO/IEC 14496-12). Independent of what the
// gateway writes with.

import assert from "node:assert/strict";

export type Mp4Box = { readonly type: string; readonly start: number; readonly body: Buffer };

export type Mp4Sample = {
  readonly track: number;
  /** In the track's timescale. */
  readonly dts: number;
  readonly pts: number;
  readonly duration: number;
  readonly isSync: boolean;
  readonly data: Buffer;
};

/** @throws AssertionError when the boxes do not fill the bytes */
export function readBoxes(bytes: Buffer): Mp4Box[] {
  const boxes: Mp4Box[] = [];
  for (let at = 0; at < bytes.length; ) {
    assert.ok(at + 8 <= bytes.length, "a box header fits");
    const size = bytes.readUInt32BE(at);
    const type = bytes.toString("latin1", at + 4, at + 8);
    assert.ok(size >= 8 && at + size <= bytes.length, `${type} of ${size} bytes fits`);
    boxes.push({ type, start: at, body: bytes.subarray(at + 8, at + size) });
    at += size;
  }
  return boxes;
}

export function findBox(boxes: readonly Mp4Box[], type: string): Mp4Box {
  const found = boxes.find((box) => box.type === type);
  assert.ok(found !== undefined, `a box ${type}`);
  return found;
}

/** Timescales by track id. */
export function readTimescales(initialization: Buffer): Map<number, number> {
  const scales = new Map<number, number>();
  const moov = readBoxes(findBox(readBoxes(initialization), "moov").body);
  for (const trak of moov.filter((box) => box.type === "trak")) {
    const boxes = readBoxes(trak.body);
    const id = findBox(boxes, "tkhd").body.readUInt32BE(12);
    scales.set(id, findBox(readBoxes(findBox(boxes, "mdia").body), "mdhd").body.readUInt32BE(12));
  }
  return scales;
}

export type Mp4Fragment = { readonly sequenceNumber: number; readonly samples: readonly Mp4Sample[] };

export function readFragments(bytes: Buffer): Mp4Fragment[] {
  const boxes = readBoxes(bytes);
  const fragments: Mp4Fragment[] = [];
  for (const [index, box] of boxes.entries()) {
    assert.ok(["styp", "moof", "mdat"].includes(box.type), `${box.type} in a segment`);
    if (box.type !== "moof") continue;
    const mdat = boxes[index + 1];
    assert.equal(mdat?.type, "mdat");
    const children = readBoxes(box.body);
    const samples: Mp4Sample[] = [];
    for (const traf of children.filter((child) => child.type === "traf")) samples.push(...readTraf(traf.body, bytes, box.start));
    const size = samples.reduce((sum, sample) => sum + sample.data.length, 0);
    assert.equal(size, mdat?.body.length, "the samples fill the mdat");
    fragments.push({ sequenceNumber: findBox(children, "mfhd").body.readUInt32BE(4), samples });
  }
  return fragments;
}

function readTraf(traf: Buffer, bytes: Buffer, moofStart: number): Mp4Sample[] {
  const boxes = readBoxes(traf);
  const tfhd = findBox(boxes, "tfhd").body;
  assert.equal(tfhd.readUInt32BE(0), 0x020000, "default-base-is-moof and nothing else");
  const track = tfhd.readUInt32BE(4);
  const tfdt = findBox(boxes, "tfdt").body;
  assert.equal(tfdt[0], 1, "64 bits");
  let dts = Number(tfdt.readBigUInt64BE(4));
  const trun = findBox(boxes, "trun").body;
  const flags = trun.readUIntBE(1, 3);
  assert.equal(flags & 0xff, 1, "data-offset, no first-sample-flags");
  const count = trun.readUInt32BE(4);
  let data = moofStart + trun.readInt32BE(8);
  let at = 12;
  const next = (flag: number): number | undefined => {
    if ((flags & flag) === 0) return undefined;
    at += 4;
    return trun.readInt32BE(at - 4);
  };
  const samples: Mp4Sample[] = [];
  for (let i = 0; i < count; i++) {
    const duration = next(0x100) ?? 0;
    const size = next(0x200) ?? 0;
    const sampleFlags = next(0x400) ?? 0x02000000;
    const composition = next(0x800) ?? 0;
    const isSync = (sampleFlags & 0x10000) === 0;
    samples.push({ track, dts, pts: dts + composition, duration, isSync, data: bytes.subarray(data, data + size) });
    dts += duration;
    data += size;
  }
  assert.equal(at, trun.length);
  return samples;
}
