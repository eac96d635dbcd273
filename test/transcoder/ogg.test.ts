import assert from "node:assert/strict";
import { test } from "node:test";

import { oggOpusHeaders, oggPage } from "../../transcoder/ogg.js";
import { runFfmpeg } from "../support/clip.js";

test("a page: its fields, its lacing, its checksum", () => {
  const page = oggPage(Buffer.alloc(300, 1), 2 ** 32 + 960, 7, 0);
  assert.equal(page.toString("latin1", 0, 4), "OggS");
  assert.equal(page.readBigUInt64LE(6), 2n ** 32n + 960n);
  assert.equal(page.readUInt32LE(18), 7);
  assert.deepEqual([...page.subarray(26, 29)], [2, 255, 45]);
  assert.equal(page.length, 29 + 300);
  // RFC 3533 section 6, bit by bit.
  const zeroed = Buffer.from(page);
  zeroed.fill(0, 22, 26);
  let crc = 0;
  for (const byte of zeroed) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  }
  assert.equal(page.readUInt32LE(22), crc >>> 0);
});

test("lacing ends with a segment shorter than 255, also when the packet is a multiple of it", () => {
  assert.deepEqual([...oggPage(Buffer.alloc(255), 0, 0, 0).subarray(26, 29)], [2, 255, 0]);
  assert.deepEqual([...oggPage(Buffer.alloc(0), 0, 0, 0).subarray(26, 28)], [1, 0]);
  assert.throws(() => oggPage(Buffer.alloc(65_025), 0, 0, 0), TypeError);
});

test("ffmpeg reads it without complaint, each packet at its time", async () => {
  const silence = Buffer.from([0xfc, 0xff, 0xfe]);
  const pages = Array.from({ length: 50 }, (_, index) => oggPage(silence, (index + 1) * 960, index + 2, 0));
  const file = Buffer.concat([oggOpusHeaders(2), ...pages]);
  const pcm = await runFfmpeg(["-xerror", "-f", "ogg", "-i", "pipe:0", "-ac", "2", "-f", "s16le", "pipe:1"], file);
  assert.equal(pcm.length, 50 * 960 * 4);
});
