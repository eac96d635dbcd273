import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { isFlash, parseTimeCode, readTimeCode, TestPicture, timeCodeCells } from "../../scripts/test-picture.js";

suite("test picture", () => {
  const picture = new TestPicture(320, 180, 25);

  test("its time code reads back, also when smaller and noisy", () => {
    for (const number of [0, 1, 24, 399, 12_345, 65_535]) {
      const luma = picture.paint(number).subarray(0, 320 * 180);
      assert.equal(readTimeCode(luma, 320), number);
      const half = Buffer.alloc(160 * 90);
      for (let y = 0; y < 90; y++) {
        for (let x = 0; x < 160; x++) half[y * 160 + x] = (luma[y * 2 * 320 + x * 2] ?? 0) + ((x * 7 + y * 13) % 19);
      }
      assert.equal(readTimeCode(half, 160), number);
    }
  });

  test("is lit for two pictures from each second on", () => {
    const lit = Array.from({ length: 53 }, (_, number) => number).filter((number) =>
      isFlash(picture.paint(number).subarray(0, 320 * 180), 320, 180),
    );
    assert.deepEqual(lit, [0, 1, 25, 26, 50, 51]);
  });

  test("a wrong square or a picture without a code is no frame number", () => {
    const levels = timeCodeCells(4711).map((bit): number => (bit === 1 ? 235 : 16));
    assert.equal(parseTimeCode(levels), 4711);
    levels.forEach((level, index) => {
      const damaged = [...levels];
      damaged[index] = 251 - level;
      assert.equal(parseTimeCode(damaged), undefined, `square ${index}`);
    });
    assert.equal(parseTimeCode(levels.map(() => 128)), undefined);
  });
});
