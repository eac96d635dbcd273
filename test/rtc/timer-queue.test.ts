import assert from "node:assert/strict";
import { test } from "node:test";

import { type Due, TimerQueue } from "../../gateway/rtc/timer-queue.js";
import { seededRandom } from "../support/seeded.js";

test("gives the earliest first, whatever is set, moved and removed", () => {
  const random = seededRandom(42);
  const queue = new TimerQueue<Due>();
  const items: Due[] = Array.from({ length: 100 }, () => ({ due: Number.POSITIVE_INFINITY, slot: -1 }));
  for (let step = 0; step < 5_000; step++) {
    const item = items[Math.floor(random() * items.length)];
    assert.ok(item !== undefined);
    const choice = random();
    if (choice < 0.2) queue.remove(item);
    else if (choice < 0.3) queue.set(item, Number.POSITIVE_INFINITY);
    else queue.set(item, Math.floor(random() * 1000));
    const queued = items.filter((other) => other.slot !== -1);
    assert.equal(queue.size, queued.length);
    assert.equal(queue.first?.due ?? Number.POSITIVE_INFINITY, Math.min(...queued.map((other) => other.due)));
  }
  let last = Number.NEGATIVE_INFINITY;
  for (let first = queue.first; first !== undefined; first = queue.first) {
    assert.ok(first.due >= last);
    last = first.due;
    queue.remove(first);
  }
  assert.equal(queue.size, 0);
});
