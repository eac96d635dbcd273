// Seeded mutations of whole sessions, and arbitrary bytes for each parser: nothing but ProtocolError may come out, and memory and
// output stay bounded. Deterministic: a failure names its seed.

import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { parseAudioConfig } from "../../gateway/media/audio.js";
import { ProtocolError } from "../../gateway/media/errors.js";
import { parseAudioTag, parseVideoTag } from "../../gateway/media/flv.js";
import { FlvFrameReader } from "../../gateway/media/flv-frames.js";
import { describeAccessUnit, parseAvcConfig, splitAnnexB, toAnnexB, toFourByteLengths } from "../../gateway/media/h264.js";
import { parseSps } from "../../gateway/media/h264-sps.js";
import { AmfDate, AmfObject, type AmfValue } from "../../gateway/rtmp/amf.js";
import { readAmf0, writeAmf0 } from "../../gateway/rtmp/amf0.js";
import { readAmf3, writeAmf3 } from "../../gateway/rtmp/amf3.js";
import { type ChunkMessage, ChunkReader, ChunkWriter } from "../../gateway/rtmp/chunk.js";
import { mutate } from "../support/mutate.js";
import { RECORDED_SESSIONS } from "../support/recorded-sessions.js";
import { AVC_CONFIG, clientBytes, SPS, sampleTags } from "../support/rtmp-client.js";
import { SessionHarness } from "../support/rtmp-session.js";
import { seededRandom } from "../support/seeded.js";

const SEED = 20_260_101;
const RUNS = 400;

/** Runs it; a ProtocolError is an answer like any other. @returns false when there was one */
function tolerates(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (error instanceof ProtocolError) return false;
    throw error;
  }
}

const HANDSHAKE = 1 + 2 * 1536;
const SESSIONS = [
  RECORDED_SESSIONS.obs,
  RECORDED_SESSIONS.ffmpeg,
  clientBytes(sampleTags(), { end: true }),
  clientBytes(sampleTags(), { chunkSize: 4096 }),
  clientBytes(sampleTags().map((tag) => ({ ...tag, timestamp: (tag.timestamp + 0xffffff00) >>> 0 }))),
];

test("mutated sessions end in frames or in a protocol error, with bounded answers", () => {
  let refused = 0;
  let frames = 0;
  for (let run = 0; run < 800; run++) {
    const random = seededRandom(SEED + run);
    const bytes = mutate(SESSIONS[run % SESSIONS.length] as Buffer, random, HANDSHAKE);
    const harness = new SessionHarness();
    try {
      const ok = tolerates(() => {
        for (let at = 0; at < bytes.length; ) {
          const end = Math.min(bytes.length, at + 1 + Math.floor(random() * 3000));
          harness.receive(bytes.subarray(at, end));
          at = end;
        }
      });
      if (!ok) {
        refused += 1;
        harness.session.close("protocol error");
      }
      assert.ok(harness.sent.length < 200_000);
      assert.ok(harness.closed.length <= 1);
      frames += harness.frames.length;
      for (const frame of harness.frames) {
        assert.ok(Number.isSafeInteger(frame.dts) && Number.isSafeInteger(frame.pts));
        if (frame.codec === "h264" && !frame.isConfig) assert.ok(describeAccessUnit(frame.data).wellFormed);
        if (frame.codec === "h264" && frame.isConfig) assert.ok(parseAvcConfig(frame.data) !== undefined);
      }
    } catch (error) {
      throw new Error(`seed ${SEED + run}`, { cause: error });
    }
  }
  assert.ok(refused > 100, `only ${refused} of 800 were refused: the mutations miss`);
  assert.ok(frames > 10_000, `only ${frames} frames: the mutations hit too early`);
});

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const check = (property: fc.IProperty<never> | fc.IRawProperty<unknown>) =>
  fc.assert(property as fc.IRawProperty<unknown>, { seed: SEED, numRuns: RUNS });

test("arbitrary bytes for each parser", () => {
  const video = fc
    .tuple(fc.integer({ min: 0, max: 255 }), bytes(200))
    .map(([first, rest]) => Buffer.concat([Buffer.from([first]), rest]));
  check(
    fc.property(video, (body) => {
      tolerates(() => void parseVideoTag(body));
      tolerates(() => void parseAudioTag(body));
      tolerates(() => void readAmf0(body));
      tolerates(() => void readAmf3(body));
      tolerates(() => {
        const reader = new FlvFrameReader({ onFrame: () => {}, onProblem: () => {} });
        reader.video(0, Buffer.concat([Buffer.from([0x17, 0, 0, 0, 0]), AVC_CONFIG]));
        reader.video(0, body);
        reader.audio(0, body);
      });
      parseAudioConfig(body);
      parseAvcConfig(body);
      parseAvcConfig(Buffer.concat([Buffer.from([1]), body]));
      parseSps(Buffer.concat([SPS.subarray(0, 1 + (body.length % SPS.length)), body]));
      describeAccessUnit(body);
      splitAnnexB(body);
      toAnnexB(body);
      for (const size of [1, 2, 3]) toFourByteLengths(body, size);
    }),
  );
});

test("arbitrary bytes for the chunk reader, in arbitrary pieces", () => {
  check(
    fc.property(fc.array(bytes(300), { maxLength: 20 }), (pieces) => {
      const reader = new ChunkReader();
      tolerates(() => {
        for (const piece of pieces) {
          reader.push(piece);
          while (reader.read() !== undefined);
        }
      });
      assert.ok(reader.buffered <= 64 * 65_536);
    }),
  );
});

test("any messages written are read again, in any pieces", () => {
  const message: fc.Arbitrary<ChunkMessage> = fc.record(
    {
      chunkStreamId: fc.oneof(fc.integer({ min: 3, max: 8 }), fc.integer({ min: 3, max: 65_599 })),
      type: fc.constantFrom(8, 9, 18, 20),
      streamId: fc.constantFrom(0, 1, 0xffffffff),
      timestamp: fc.oneof(
        fc.integer({ min: 0, max: 5000 }),
        fc.integer({ min: 0xfffff0, max: 0x100000f }),
        fc.integer({ min: 0, max: 0xffffffff }),
      ),
      payload: bytes(700),
    },
    { noNullPrototype: true },
  );
  check(
    fc.property(
      fc.array(message, { maxLength: 30 }),
      fc.integer({ min: 1, max: 2000 }),
      fc.integer({ min: 1, max: 999 }),
      (messages, piece, chunkSize) => {
        const writer = new ChunkWriter();
        const size = Buffer.alloc(4);
        size.writeUInt32BE(chunkSize);
        const head = writer.write({ chunkStreamId: 2, type: 1, streamId: 0, timestamp: 0, payload: size });
        writer.chunkSize = chunkSize;
        const all = Buffer.concat([head, ...messages.map((m) => writer.write(m))]);
        const reader = new ChunkReader();
        const got: ChunkMessage[] = [];
        for (let at = 0; at < all.length; at += piece) {
          reader.push(all.subarray(at, at + piece));
          for (let next = reader.read(); next !== undefined; next = reader.read()) got.push(next);
        }
        assert.deepEqual(got.slice(1), messages);
      },
    ),
  );
});

test("any AMF value written is read again", () => {
  const { value } = fc.letrec<{ value: AmfValue }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4, depthSize: "small" },
      fc.constant(null),
      fc.constant(undefined),
      fc.boolean(),
      fc.double({ noNaN: true }),
      fc.integer(),
      fc.string(),
      fc.integer({ min: 0, max: 2 ** 40 }).map((time) => new AmfDate(time)),
      fc.array(tie("value"), { maxLength: 4 }),
      fc
        .tuple(
          fc.constantFrom("object" as const, "array" as const),
          fc.array(fc.tuple(fc.string({ minLength: 1 }), tie("value")), { maxLength: 4 }),
        )
        .filter(([form, entries]) => form === "object" || entries.length > 0) // AMF3 has one form for both empty arrays
        .map(([form, entries]) => new AmfObject(form, entries)),
    ),
  }));
  check(
    fc.property(value, (v) => {
      assert.deepEqual(readAmf0(writeAmf0([v])), [v]);
      assert.deepEqual(readAmf3(writeAmf3([v])), [v]);
    }),
  );
});
