// Seeded mutations of what players say to our server, and of what servers say to our client: nothing but ProtocolError may come out,
// and what is sent, wanted and told stays bounded. Deterministic: a failure names its seed.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../../gateway/media/errors.js";
import type { Frame } from "../../gateway/media/frame.js";
import { amfObject } from "../../gateway/rtmp/amf.js";
import { ChunkWriter } from "../../gateway/rtmp/chunk.js";
import { RtmpClientSession } from "../../gateway/rtmp/client-session.js";
import { HANDSHAKE_SIZE } from "../../gateway/rtmp/handshake.js";
import { mediaBytes } from "../../gateway/rtmp/media-message.js";
import { commandMessage } from "../../gateway/rtmp/message.js";
import { MEDIA_CHUNK_SIZE } from "../../gateway/rtmp/message-link.js";
import { parseRtmpUrl } from "../../gateway/rtmp/rtmp-url.js";
import { mutate } from "../support/mutate.js";
import { framesOfTags, sampleTags } from "../support/rtmp-client.js";
import { SessionHarness } from "../support/rtmp-session.js";
import { playerBytes } from "../support/rtmp-sink.js";
import { seededBytes, seededRandom } from "../support/seeded.js";

const SEED = 20_260_202;
const RUNS = 600;

/** Gives the bytes piece by piece. @returns false when a ProtocolError ended it */
function feed(bytes: Buffer, random: () => number, receive: (piece: Buffer) => void): boolean {
  try {
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, at + 1 + Math.floor(random() * 2000));
      receive(bytes.subarray(at, end));
      at = end;
    }
    return true;
  } catch (error) {
    if (error instanceof ProtocolError) return false;
    throw error;
  }
}

/** A player that pauses, seeks, chooses tracks, stops and plays again. */
function restlessPlayer(): Buffer {
  const writer = new ChunkWriter();
  const commands = [
    commandMessage(1, { name: "pause", transactionId: 0, values: [null, true, 0] }),
    commandMessage(1, { name: "pause", transactionId: 0, values: [null, false, 0] }),
    commandMessage(1, { name: "receiveAudio", transactionId: 0, values: [null, false] }),
    commandMessage(1, { name: "seek", transactionId: 0, values: [null, 1000] }),
    commandMessage(1, { name: "play2", transactionId: 0, values: [null, amfObject({ streamName: "x" })] }),
    commandMessage(1, { name: "closeStream", transactionId: 0, values: [null] }),
    commandMessage(1, { name: "play", transactionId: 0, values: [null, "other"] }),
    commandMessage(0, { name: "deleteStream", transactionId: 0, values: [null, 1] }),
  ];
  // A writer of its own starts again with whole headers: nothing refers to what playerBytes wrote.
  return Buffer.concat([playerBytes(), ...commands.map((command) => writer.write(command))]);
}

test("mutated players end in answers or in a protocol error", () => {
  const session = restlessPlayer();
  const handshake = 1 + 2 * HANDSHAKE_SIZE;
  let refused = 0;
  let wishes = 0;
  for (let run = 0; run < RUNS; run++) {
    const random = seededRandom(SEED + run);
    const harness = new SessionHarness(run % 5 === 0 ? "refuse" : "grant");
    try {
      const isFine = feed(mutate(session, random, handshake), random, (piece) => harness.receive(piece));
      if (!isFine) {
        refused += 1;
        harness.session.close("protocol error");
      }
      assert.ok(harness.sent.length < 50_000);
      assert.ok(harness.closed.length <= 1);
      assert.ok(harness.wishes.length < 20);
      wishes += harness.wishes.length;
    } catch (error) {
      throw new Error(`seed ${SEED + run}`, { cause: error });
    }
  }
  assert.ok(refused > 50, `only ${refused} of ${RUNS} were refused: the mutations miss`);
  assert.ok(wishes > RUNS / 2, `only ${wishes} wishes: the mutations hit too early`);
});

/** All that our server says to our client, media included. */
function serverBytes(): Buffer {
  const harness = new SessionHarness();
  const client = new RtmpClientSession(
    0,
    quietOwner((bytes) => harness.receive(bytes)),
    OPTIONS,
  );
  let seen = 0;
  for (let round = 0; round < 10; round++) {
    const said = Buffer.from(harness.sent.subarray(seen));
    seen += said.length;
    client.receive(0, said);
  }
  const media = framesOfTags(sampleTags()).map(
    (frame) => mediaBytes(frame, frame.dts / 1000, 1, MEDIA_CHUNK_SIZE) ?? Buffer.alloc(0),
  );
  return Buffer.concat([harness.sent, ...media]);
}

const OPTIONS = { action: "play", address: parseRtmpUrl("rtmp://h/live/livestream"), random: seededBytes(5) } as const;

function quietOwner(send: (bytes: Buffer) => void, onFrame: (frame: Frame) => void = () => {}, onClose: () => void = () => {}) {
  return { send, onFrame, onClose, onReady: () => {}, onProblem: () => {} };
}

test("mutated servers end in frames or in a protocol error", () => {
  const session = serverBytes();
  let refused = 0;
  let frames = 0;
  for (let run = 0; run < RUNS; run++) {
    const random = seededRandom(SEED + run);
    let sent = 0;
    let closed = 0;
    const owner = quietOwner(
      (bytes) => {
        sent += bytes.length;
      },
      ({ dts, pts }) => {
        frames += 1;
        assert.ok(Number.isSafeInteger(dts) && Number.isSafeInteger(pts));
      },
      () => {
        closed += 1;
      },
    );
    try {
      const client = new RtmpClientSession(0, owner, OPTIONS);
      const isFine = feed(mutate(session, random, 1 + 2 * HANDSHAKE_SIZE), random, (piece) => client.receive(0, piece));
      if (!isFine) refused += 1;
      client.close("over");
      assert.equal(closed, 1);
      assert.ok(sent < 50_000);
    } catch (error) {
      throw new Error(`seed ${SEED + run}`, { cause: error });
    }
  }
  assert.ok(refused > 50, `only ${refused} of ${RUNS} were refused: the mutations miss`);
  assert.ok(frames > 5 * RUNS, `only ${frames} frames: the mutations hit too early`);
});
