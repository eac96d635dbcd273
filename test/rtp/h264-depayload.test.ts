import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { parseAvcConfig } from "../../gateway/media/h264.js";
import { type DepayloadedUnit, H264Depayloader } from "../../gateway/rtp/h264-depayload.js";
import { H264Packetizer } from "../../gateway/rtp/h264-payload.js";
import { BASELINE_PPS, BASELINE_SPS, HIGH_PPS, LARGE_HIGH_SPS } from "../support/pictures.js";
import { seededBytes, seededRandom } from "../support/seeded.js";

class Harness {
  readonly units: DepayloadedUnit[] = [];
  readonly damage: string[] = [];
  readonly depayloader = new H264Depayloader({
    onUnit: (unit) => void this.units.push(unit),
    onDamage: (reason) => void this.damage.push(reason),
  });
  #number = 65_530;
  #timestamp = 4_294_960_000;

  /** One packet of the picture under way. */
  push(payload: Buffer | string, marker = false): void {
    const bytes = typeof payload === "string" ? Buffer.from(payload.replaceAll(" ", ""), "hex") : payload;
    this.depayloader.push(this.#number++, this.#timestamp, marker, bytes);
  }

  /** The packets of one whole picture; the last has the marker. */
  picture(...payloads: (Buffer | string)[]): void {
    payloads.forEach((payload, index) => {
      this.push(payload, index === payloads.length - 1);
    });
    this.next();
  }

  next(): void {
    this.#timestamp += 3000;
  }

  lose(): void {
    this.#number++;
  }

  key(): void {
    this.picture(stapA(BASELINE_SPS, BASELINE_PPS), IDR);
  }

  get hex(): string[] {
    return this.units.map((unit) => unit.data.toString("hex"));
  }
}

const IDR = "65 8884";
const SLICE = "41 9a01";

function stapA(...units: Buffer[]): Buffer {
  return Buffer.concat([
    Buffer.from([0x78]),
    ...units.flatMap((unit) => [Buffer.from([unit.length >> 8, unit.length & 0xff]), unit]),
  ]);
}

function hexOf(...units: string[]): string {
  return units.map((unit) => (unit.length / 2).toString(16).padStart(8, "0") + unit).join("");
}

test("puts pictures together from single units, STAP-A and FU-A, and tells the configuration once", () => {
  const harness = new Harness();
  harness.picture(stapA(BASELINE_SPS, BASELINE_PPS), "7c 85 aabb", "7c 05 cc", "7c 45 dd");
  harness.picture(SLICE, "41 00ff");
  harness.picture(stapA(Buffer.from("0605", "hex"), Buffer.from("419a02", "hex")));
  harness.key();
  assert.deepEqual(harness.hex, [hexOf("65aabbccdd"), hexOf("419a01", "4100ff"), hexOf("0605", "419a02"), hexOf("658884")]);
  assert.deepEqual(
    harness.units.map((unit) => unit.isKey),
    [true, false, false, true],
  );
  assert.deepEqual(
    harness.units.map((unit) => unit.config !== undefined),
    [true, false, false, false],
  );
  const config = parseAvcConfig(harness.units[0]?.config ?? Buffer.alloc(0));
  assert.deepEqual(config?.sps, [BASELINE_SPS]);
  assert.deepEqual(config?.pps, [BASELINE_PPS]);
  assert.deepEqual(harness.damage, []);
});

test("a new resolution is a new configuration, with the picture that needs it, and without the old sets", () => {
  const harness = new Harness();
  harness.key();
  harness.picture(SLICE);
  harness.picture(stapA(LARGE_HIGH_SPS, HIGH_PPS), IDR);
  const config = harness.units[2]?.config;
  assert.ok(config !== undefined);
  assert.deepEqual(parseAvcConfig(config)?.sps, [LARGE_HIGH_SPS]);
  assert.deepEqual(parseAvcConfig(config)?.pps, [HIGH_PPS]);
});

test("nothing comes before the first key frame; a key frame without parameter sets is asked for again", () => {
  const harness = new Harness();
  harness.picture(SLICE);
  harness.picture(IDR);
  assert.deepEqual(harness.units, []);
  assert.deepEqual(harness.damage, ["a key frame without parameter sets"]);
  harness.key();
  assert.equal(harness.units.length, 1);
});

test("parameter sets from the session description serve too", () => {
  const harness = new Harness();
  const sets = `${BASELINE_SPS.toString("base64")},${BASELINE_PPS.toString("base64")}`;
  harness.depayloader.setFormatParameters(`packetization-mode=1;sprop-parameter-sets=${sets};profile-level-id=42c00c`);
  harness.picture(IDR);
  assert.equal(harness.units.length, 1);
  assert.ok(harness.units[0]?.config !== undefined);
  harness.depayloader.setFormatParameters("sprop-parameter-sets=,!!,AAAA");
  harness.depayloader.setFormatParameters("");
});

test("parameter sets that come with a marker or a time of their own belong to the next picture", () => {
  const harness = new Harness();
  harness.picture(BASELINE_SPS);
  harness.picture(BASELINE_PPS);
  harness.picture("06 0511");
  harness.picture(IDR);
  assert.deepEqual(harness.hex, [hexOf("060511", "658884")]);
});

test("without markers the time ends a picture", () => {
  const harness = new Harness();
  harness.push(stapA(BASELINE_SPS, BASELINE_PPS));
  harness.push(IDR);
  harness.next();
  harness.push(SLICE);
  harness.push("41 02");
  harness.next();
  harness.push(SLICE);
  assert.deepEqual(harness.hex, [hexOf("658884"), hexOf("419a01", "4102")]);
});

test("delimiters, filler and ends of sequence are left out", () => {
  const harness = new Harness();
  harness.picture("09 f0", BASELINE_SPS, BASELINE_PPS, IDR, "0c ffff80", "0a", "0b");
  assert.deepEqual(harness.hex, [hexOf("658884")]);
});

test("a loss drops everything up to the next key frame, and asks for it", () => {
  const harness = new Harness();
  harness.key();
  harness.push("7c 81 aa");
  harness.lose();
  harness.push("7c 41 cc", true);
  harness.next();
  harness.picture(SLICE);
  assert.equal(harness.units.length, 1);
  assert.deepEqual(harness.damage, ["packets are missing"]);
  assert.equal(harness.depayloader.state, "waiting");
  harness.key();
  assert.equal(harness.units.length, 2);
  assert.equal(harness.units[1]?.config, undefined, "the configuration is the one already told");
});

test("a loss right before a key frame costs nothing of it", () => {
  const harness = new Harness();
  harness.key();
  harness.lose();
  harness.key();
  assert.equal(harness.units.length, 2);
});

test("another source: its pictures wait for its key frame, and the configuration is told again", () => {
  const harness = new Harness();
  harness.key();
  harness.push("7c 81 aa");
  harness.depayloader.reset();
  harness.picture(SLICE);
  harness.key();
  assert.equal(harness.units.length, 2);
  assert.ok(harness.units[1]?.config !== undefined);
});

const BROKEN: readonly (readonly [string, readonly string[]])[] = [
  ["an empty payload", [""]],
  ["a forbidden bit", ["c1 9a"]],
  ["FU-A of one byte", ["7c"]],
  ["FU-A without payload", ["7c 81"]],
  ["FU-A that starts and ends at once", ["7c c1 aa"]],
  ["FU-A that never started", ["7c 01 aa", "7c 41 bb"]],
  ["FU-A that never ends", ["7c 81 aa"]],
  ["FU-A that starts twice", ["7c 81 aa", "7c 81 bb", "7c 41 cc"]],
  ["FU-A that changes its type", ["7c 81 aa", "7c 45 bb"]],
  ["FU-A of type 0", ["7c 80 aa", "7c 40 bb"]],
  ["FU-A of a STAP-A", ["7c 98 aa", "7c 58 bb"]],
  ["FU-A interrupted by a single unit", ["7c 81 aa", "41 9a", "7c 41 bb"]],
  ["FU-A interrupted by a STAP-A", ["7c 81 aa", "78 0002 419a", "7c 41 bb"]],
  ["STAP-A without units", ["78"]],
  ["STAP-A with an empty unit", ["78 0000"]],
  ["STAP-A with a length past its end", ["78 0009 41"]],
  ["STAP-A with half a length", ["78 0002 419a 00"]],
  ["STAP-A in a STAP-A", ["78 0003 780001"]],
  ["STAP-B", ["79 0000 0002 419a"]],
  ["MTAP16", ["7a 0000 0002 00 0000 419a"]],
  ["FU-B", ["7d 81 0000 aa"]],
  ["type 0", ["60 aa"]],
  ["type 30", ["7e aa"]],
  ["an SPS that makes no sense", ["67", "41 9a"]],
  ["a PPS that makes no sense", ["68", "41 9a"]],
];

for (const [name, payloads] of BROKEN) {
  test(`${name} costs the picture, and nothing comes before the next key frame`, () => {
    const harness = new Harness();
    harness.key();
    harness.picture(...payloads);
    harness.picture(SLICE);
    assert.equal(harness.units.length, 1);
    assert.ok(harness.damage.length >= 1);
    harness.key();
    assert.equal(harness.units.length, 2);
  });
}

test("a picture larger than any is not gathered for ever", () => {
  const harness = new Harness();
  harness.key();
  harness.push("7c 81 aa");
  const part = Buffer.concat([Buffer.from([0x7c, 0x01]), Buffer.alloc(60_000)]);
  for (let i = 0; i < 200; i++) harness.push(part);
  assert.ok(harness.damage.length > 0);
  harness.next();
  harness.key();
  assert.equal(harness.units.length, 2);
});

test("what the packetiser made comes out as it went in, for any sizes", () => {
  const bytes = seededBytes(3);
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.integer({ min: 2, max: 4000 }), { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 6 }),
      (pictures) => {
        const harness = new Harness();
        const packetizer = new H264Packetizer();
        harness.key();
        const expected: string[] = [];
        let number = 70_000;
        harness.depayloader.reset();
        pictures.forEach((sizes, index) => {
          const type = index === 0 ? 0x65 : 0x41;
          const units = sizes.map((size) => Buffer.concat([Buffer.from([type, 0x88]), bytes(size)]));
          const data = Buffer.concat(units.flatMap((unit) => [Buffer.from([0, 0, unit.length >> 8, unit.length & 0xff]), unit]));
          expected.push(data.toString("hex"));
          for (const packet of packetizer.packetize(data, index === 0, index * 3000, number)) {
            harness.depayloader.push(packet.sequenceNumber, packet.timestamp, packet.marker, packet.payload);
            number = packet.sequenceNumber + 1;
          }
        });
        assert.deepEqual(harness.hex.slice(1), expected);
      },
    ),
    { numRuns: 30 },
  );
});

test("nonsense of every shape is survived, and a key frame after it comes out", () => {
  const random = seededRandom(5);
  const bytes = seededBytes(6);
  const harness = new Harness();
  const types = [0x78, 0x7c, 0x7c, 0x7c, 0x41, 0x65, 0x67, 0x68, 0x06];
  for (let i = 0; i < 20_000; i++) {
    const payload = bytes(Math.floor(random() * 12));
    if (payload.length > 0 && random() < 0.8) payload[0] = types[Math.floor(random() * types.length)] as number;
    if (random() < 0.05) harness.lose();
    harness.push(payload, random() < 0.3);
    if (random() < 0.3) harness.next();
  }
  harness.next();
  const before = harness.units.length;
  harness.key();
  assert.equal(harness.units.length, before + 1);
});
