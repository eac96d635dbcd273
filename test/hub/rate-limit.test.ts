import assert from "node:assert/strict";
import { test } from "node:test";

import { RateLimit } from "../../gateway/hub/rate-limit.js";

test("lets a burst through, then the rate", () => {
  const limit = new RateLimit({ burst: 2, rate: 10 });
  assert.deepEqual(
    [0, 0, 0].map((now) => limit.take(now, "192.0.2.1")),
    [true, true, false],
  );
  assert.equal(limit.take(99, "192.0.2.1"), false);
  assert.equal(limit.take(200, "192.0.2.1"), true);
});

test("a clock that steps back gives nothing and breaks nothing", () => {
  const limit = new RateLimit({ burst: 1, rate: 1000 });
  assert.equal(limit.take(1000, "192.0.2.1"), true);
  assert.equal(limit.take(0, "192.0.2.1"), false);
});

test("remembers a bounded number of addresses", () => {
  const limit = new RateLimit({ burst: 1, rate: 0, maxAddresses: 3 });
  for (let host = 0; host < 100; host++) assert.equal(limit.take(0, `192.0.2.${host}`), true);
  assert.equal(limit.size, 3);
  assert.equal(limit.take(0, "192.0.2.99"), false);
});

test("one IPv6 network shares a bucket, this machine has none", () => {
  const limit = new RateLimit({ burst: 1, rate: 0 });
  assert.equal(limit.take(0, "2001:db8:1:2::1"), true);
  assert.equal(limit.take(0, "2001:db8:1:2:3:4:5:6"), false);
  assert.equal(limit.take(0, "2001:db8:1:3::1"), true);
  assert.equal(limit.take(0, "2001:db8::1"), true);
  assert.equal(limit.take(0, "2001:db8:0:0:1::"), false);
  for (const address of ["127.0.0.1", "127.9.9.9", "::1"]) for (let i = 0; i < 9; i++) assert.equal(limit.take(0, address), true);
});
