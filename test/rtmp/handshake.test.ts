import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../../gateway/media/errors.js";
import { answerHandshake, checkVersion, finishHandshake, HANDSHAKE_SIZE, startHandshake } from "../../gateway/rtmp/handshake.js";
import { seededBytes } from "../support/seeded.js";

test("the simple handshake echoes both ways", () => {
  const c0c1 = startHandshake(seededBytes(1));
  const { kind, answer } = answerHandshake(c0c1, seededBytes(2));
  assert.equal(kind, "simple");
  assert.equal(answer.length, 1 + 2 * HANDSHAKE_SIZE);
  assert.equal(answer[0], 3);
  assert.deepEqual(answer.subarray(1 + HANDSHAKE_SIZE), c0c1.subarray(1));
  assert.deepEqual(finishHandshake(c0c1, answer, seededBytes(3)), answer.subarray(1, 1 + HANDSHAKE_SIZE));
});

for (const scheme of [0, 1] as const) {
  test(`the digest handshake, scheme ${scheme}, is signed by both sides, wherever the digest lies`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = seededBytes(seed * 100 + scheme);
      const c0c1 = startHandshake(random, scheme);
      const { kind, answer } = answerHandshake(c0c1, random);
      assert.equal(kind, "complex", `seed ${seed}`);
      const c2 = finishHandshake(c0c1, answer, random, scheme);
      assert.notDeepEqual(c2, answer.subarray(1, 1 + HANDSHAKE_SIZE));
      // a signature that does not fit is noticed
      const forged = Buffer.from(answer);
      forged[forged.length - 1] = (forged[forged.length - 1] as number) ^ 1;
      assert.throws(
        () => finishHandshake(c0c1, forged, random, scheme),
        (error) => error instanceof ProtocolError && error.code === "handshake-digest",
      );
    }
  });
}

test("a client that states a version but has no digest is answered simply", () => {
  const c0c1 = startHandshake(seededBytes(1));
  c0c1.writeUInt32BE(0x09007c02, 5);
  const { kind, answer } = answerHandshake(c0c1, seededBytes(2));
  assert.equal(kind, "simple");
  assert.deepEqual(answer.subarray(1 + HANDSHAKE_SIZE), c0c1.subarray(1));
});

test("other protocols are named in the error", () => {
  const cases: readonly [Buffer, RegExp][] = [
    [Buffer.from("GET / HTTP/1.1\r\n"), /HTTP/],
    [Buffer.from([0x16, 3, 1]), /TLS/],
    [Buffer.from([6]), /RTMPE/],
    [Buffer.from([0]), /version byte 0/],
  ];
  for (const [bytes, text] of cases) assert.throws(() => checkVersion(bytes), text);
  assert.doesNotThrow(() => checkVersion(Buffer.from([3])));
});
