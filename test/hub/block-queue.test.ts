import assert from "node:assert/strict";
import { test } from "node:test";

import { type BlockOutput, BlockQueue, type BlockQueueOptions } from "../../gateway/hub/block-queue.js";
import type { Block } from "../../gateway/hub/frame-fan-out.js";

/** A viewer's connection that has room for so many writes. */
class Output implements BlockOutput {
  readonly written: string[] = [];
  givenUp: string | undefined;
  room = Number.POSITIVE_INFINITY;

  write(bytes: Buffer): boolean {
    this.written.push(bytes.toString("latin1", 0, 12).trimEnd());
    this.room -= 1;
    return this.room > 0;
  }

  giveUp(reason: string): void {
    this.givenUp = reason;
  }
}

function setUp(options: Partial<BlockQueueOptions> = {}) {
  const output = new Output();
  const time = { now: 5000 };
  const queue = new BlockQueue(output, {
    now: () => time.now,
    preamble: (timestamp) => Buffer.from(`preamble@${timestamp}`),
    ...options,
  });
  return { output, queue, time };
}

function block(timestamp: number, options: { isEntry?: boolean; size?: number } = {}): Block {
  const bytes = Buffer.alloc(options.size ?? 12, " ");
  bytes.write(`${options.isEntry === true ? "key" : "block"}@${timestamp}`);
  return { bytes, timestamp, frames: 2, isEntry: options.isEntry ?? false };
}

test("a viewer begins with the preamble and the group", () => {
  const { output, queue } = setUp();
  queue.open([block(0, { isEntry: true }), block(50)]);
  queue.write(block(100));
  assert.deepEqual(output.written, ["preamble@0", "key@0", "block@50", "block@100"]);
});

test("without a group it begins at the next entry, and what it did not wait for is not lost", () => {
  const { output, queue } = setUp();
  queue.open([]);
  queue.write(block(50));
  queue.write(block(100, { isEntry: true }));
  assert.deepEqual(output.written, ["preamble@100", "key@100"]);
  assert.equal(queue.dropped, 0);
});

test("blocks wait while there is no room, and go in order", () => {
  const { output, queue } = setUp();
  output.room = 2;
  queue.open([block(0, { isEntry: true }), block(50)]);
  queue.write(block(100));
  assert.deepEqual(output.written, ["preamble@0", "key@0"]);
  assert.equal(queue.bytes, 24);
  output.room = 10;
  queue.drained();
  assert.deepEqual(output.written, ["preamble@0", "key@0", "block@50", "block@100"]);
  assert.equal(queue.bytes, 0);
});

const MIB = 1 << 20;

test("a viewer over the bound loses what waits and goes on at the next key frame once it reads", () => {
  const { output, queue } = setUp();
  output.room = 2;
  queue.open([block(0, { isEntry: true })]);
  for (let i = 1; i <= 4; i++) queue.write(block(i * 50, { size: MIB }));
  assert.equal(queue.falls, 0);
  queue.write(block(250, { size: MIB }));
  assert.deepEqual([queue.falls, queue.bytes, queue.dropped], [1, 0, 10]);
  queue.write(block(300));
  queue.write(block(350, { isEntry: true })); // still no room
  assert.equal(queue.bytes, 0);
  assert.equal(queue.dropped, 14);
  output.room = 10;
  queue.drained();
  queue.write(block(400));
  queue.write(block(450, { isEntry: true }));
  assert.deepEqual(output.written, ["preamble@0", "key@0", "preamble@450", "key@450"]);
});

test("what a viewer begins with may be longer than the bound, once", () => {
  const { output, queue } = setUp();
  output.room = 1;
  const group = Array.from({ length: 10 }, (_, i) => block(i * 50, { isEntry: i === 0, size: MIB }));
  queue.open(group);
  queue.write(block(600));
  assert.equal(queue.falls, 0);
  for (let i = 0; i < 4; i++) queue.write(block(650 + i * 50, { size: MIB }));
  assert.equal(queue.falls, 1);
  assert.equal(output.written.length, 1);
});

test("a block that has waited too long makes the viewer fall, however small it is", () => {
  const { output, queue, time } = setUp({ maxWait: 1000 });
  output.room = 2;
  queue.open([block(0, { isEntry: true })]);
  queue.write(block(50));
  time.now += 1000;
  queue.write(block(1050));
  assert.equal(queue.falls, 0);
  time.now += 1;
  queue.write(block(1100));
  assert.equal(queue.falls, 1);
});

test("a viewer that takes nothing for long is given up; one that takes a little is not", () => {
  const { output, queue, time } = setUp({ maxStall: 10_000, maxWait: 2000 });
  output.room = 2;
  queue.open([block(0, { isEntry: true })]);
  for (let i = 0; i < 10; i++) {
    time.now += 9000;
    queue.write(block(time.now, { isEntry: true }));
    output.room = 1;
    queue.drained();
  }
  assert.equal(output.givenUp, undefined);
  time.now += 9000;
  queue.write(block(time.now, { isEntry: true }));
  for (let i = 0; i < 10; i++) {
    time.now += 2000;
    queue.write(block(time.now));
  }
  assert.equal(output.givenUp, "nothing was taken for 10 s");
});

test("begun again it does not go back in time", () => {
  const { output, queue } = setUp();
  const group = [block(0, { isEntry: true }), block(50)];
  queue.open(group);
  queue.open([]);
  queue.write(block(100));
  queue.open([...group, block(100)]);
  queue.write(block(150));
  queue.write(block(200, { isEntry: true }));
  assert.deepEqual(output.written, ["preamble@0", "key@0", "block@50", "preamble@200", "key@200"]);
  queue.open([block(200, { isEntry: true })]);
  queue.open([block(250, { isEntry: true })]);
  assert.deepEqual(output.written.slice(5), ["preamble@250", "key@250"]);
});

test("closed, it writes nothing", () => {
  const { output, queue } = setUp();
  output.room = 1;
  queue.open([block(0, { isEntry: true })]);
  queue.close();
  queue.drained();
  queue.write(block(50, { isEntry: true }));
  queue.open([block(100, { isEntry: true })]);
  assert.deepEqual(output.written, ["preamble@0"]);
  assert.equal(queue.bytes, 0);
});
