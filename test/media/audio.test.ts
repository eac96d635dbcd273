import assert from "node:assert/strict";
import { test } from "node:test";

import { type AudioConfig, parseAudioConfig, writeAdtsHeader, writeAudioConfig } from "../../gateway/media/audio.js";

const PLAIN = { extensionSampleRate: undefined, hasParametricStereo: false, samplesPerFrame: 1024 };
const CASES: readonly { name: string; hex: string; config: AudioConfig }[] = [
  {
    name: "AAC-LC 44.1 kHz stereo",
    hex: "1210",
    config: { ...PLAIN, objectType: 2, sampleRate: 44_100, channels: 2, channelConfiguration: 2 },
  },
  {
    name: "AAC-LC 48 kHz stereo",
    hex: "1190",
    config: { ...PLAIN, objectType: 2, sampleRate: 48_000, channels: 2, channelConfiguration: 2 },
  },
  {
    name: "AAC-LC 48 kHz, 7.1",
    hex: "11b8",
    config: { ...PLAIN, objectType: 2, sampleRate: 48_000, channels: 8, channelConfiguration: 7 },
  },
  {
    name: "a rate by escape value",
    // 00010 1111 000000001100001101010000 (50000) 0001 000
    hex: "178061a808",
    config: { ...PLAIN, objectType: 2, sampleRate: 50_000, channels: 1, channelConfiguration: 1 },
  },
];

for (const { name, hex, config } of CASES) {
  test(`reads and writes ${name}`, () => {
    assert.deepEqual(parseAudioConfig(Buffer.from(hex, "hex")), config);
    assert.equal(writeAudioConfig(config).toString("hex"), hex);
  });
}

const toBytes = (bits: string) => Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
const bitString = (...fields: string[]) => `${fields.join("")}0000000`;

test("explicit SBR names the core's and the output's rate", () => {
  // AOT 5, index 6 (24 kHz), channels 2, extension index 3 (48 kHz), AOT 2, GASpecificConfig 000
  const config = parseAudioConfig(Buffer.from("2b118800", "hex"));
  assert.equal(config?.objectType, 2);
  assert.equal(config?.sampleRate, 24_000);
  assert.equal(config?.extensionSampleRate, 48_000);
  assert.equal(config?.channels, 2);
});

test("SBR and parametric stereo signalled behind the config are found", () => {
  // AAC-LC 24 kHz mono, sync 0x2b7, AOT 5, flag, 48 kHz, sync 0x548, flag
  const bits = bitString("00010", "0110", "0001", "000", "01010110111", "00101", "1", "0011", "10101001000", "1");
  const bytes = toBytes(bits);
  const config = parseAudioConfig(bytes);
  assert.equal(config?.sampleRate, 24_000);
  assert.equal(config?.extensionSampleRate, 48_000);
  assert.equal(config?.hasParametricStereo, true);
});

test("channels come from a program config element when the configuration is 0", () => {
  // AAC-LC 48 kHz, channelConfiguration 0, GASpecificConfig 000, PCE: tag 0, object 1, rate 3, 1 front (pair), 0 side, 0 back, 1 lfe, …
  const bits = bitString(
    "00010",
    "0011",
    "0000",
    "000",
    "0000",
    "01",
    "0011",
    "0001",
    "0000",
    "0000",
    "01",
    "000",
    "0000",
    "000",
    "1",
    "0000",
  );
  const bytes = toBytes(bits);
  assert.equal(parseAudioConfig(bytes)?.channels, 3);
});

test("a config that makes no sense is not one", () => {
  for (const hex of ["", "12", "0000", "16f8", "178000000800"])
    assert.equal(parseAudioConfig(Buffer.from(hex, "hex")), undefined, hex);
});

test("an ADTS header says rate, channels and length", () => {
  const config = parseAudioConfig(Buffer.from("1210", "hex")) as AudioConfig;
  const out = Buffer.alloc(8);
  assert.equal(writeAdtsHeader(out, 1, config, 371), 8);
  assert.equal(out.subarray(1).toString("hex"), "fff150802f5ffc"); // as ffmpeg writes it for 44.1 kHz stereo, 378 bytes in all
  assert.throws(() => writeAdtsHeader(out, 0, { ...config, sampleRate: 50_000 }, 10), TypeError);
  assert.throws(() => writeAdtsHeader(out, 0, config, 8185), TypeError);
});
