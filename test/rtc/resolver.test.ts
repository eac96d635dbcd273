import assert from "node:assert/strict";
import { test } from "node:test";

import { NameResolver } from "../../gateway/rtc/resolver.js";

test("asks once for a name, and again when what it knows is old", async () => {
  let now = 0;
  const asked: string[] = [];
  const resolver = new NameResolver({
    lookup: async (name) => {
      asked.push(name);
      if (name === "none.example") throw new Error("ENOTFOUND");
      return ["192.0.2.1", "192.0.2.1", "2001:db8::1"];
    },
    now: () => now,
  });
  const [first, same] = await Promise.all([resolver.resolve("a.example"), resolver.resolve("a.example")]);
  assert.deepEqual(first, ["192.0.2.1", "2001:db8::1"]);
  assert.deepEqual(same, first);
  assert.deepEqual(await resolver.resolve("none.example"), []);
  assert.deepEqual(await resolver.resolve("none.example"), []);
  assert.deepEqual(asked, ["a.example", "none.example"]);
  now = 31_000;
  await resolver.resolve("a.example");
  assert.equal(asked.length, 3);
});

test("a name server that says nothing holds no request up, and at most two threads", async () => {
  const asked: string[] = [];
  const resolver = new NameResolver({
    lookup: (name) => {
      asked.push(name);
      return new Promise(() => {});
    },
    now: () => 0,
    patience: 1,
  });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => resolver.resolve(`${index}.example`)));
  assert.deepEqual(answers, Array(20).fill([]));
  assert.equal(asked.length, 2);
});
