import assert from "node:assert/strict";
import { test } from "node:test";

import { LogThrottle } from "../gateway/log-throttle.js";

test("a thousand lines a second of one peer become a burst and then a few, and the rest is counted once", () => {
  const throttle = new LogThrottle({ burst: 100, rate: 2 });
  let written = 0;
  for (let ms = 0; ms < 10_000; ms++) if (throttle.take(ms, "rtmp publish refused", "192.0.2.1")) written++;
  assert.equal(written, 119);
  assert.deepEqual(throttle.drain(), [{ like: "rtmp publish refused", count: 9_881, peers: 1, peer: "192.0.2.1" }]);
  assert.deepEqual(throttle.drain(), []);
});

test("other peers and other messages are written meanwhile, within a bound of all peers together", () => {
  const throttle = new LogThrottle({ burst: 1, rate: 0, totalBurst: 3, totalRate: 0 });
  assert.equal(throttle.take(0, "a", "192.0.2.1"), true);
  assert.equal(throttle.take(0, "a", "192.0.2.1"), false);
  assert.equal(throttle.take(0, "a", "192.0.2.2"), true);
  assert.equal(throttle.take(0, "b", "192.0.2.1"), true);
  assert.equal(throttle.take(0, "a", "192.0.2.3"), true);
  assert.equal(throttle.take(0, "a", "192.0.2.4"), false);
  assert.deepEqual(throttle.drain(), [{ like: "a", count: 2, peers: 2 }]);
});

test("a peer that calms down is heard again", () => {
  const throttle = new LogThrottle({ burst: 2, rate: 1 });
  assert.deepEqual(
    [0, 0, 0, 999, 1000, 60_000, 60_000, 60_000].map((now) => throttle.take(now, "a", "192.0.2.1")),
    [true, true, false, false, true, true, true, false],
  );
});

test("addresses without end do not fill the memory, and a clock that steps back breaks nothing", () => {
  const throttle = new LogThrottle({ burst: 1, rate: 0, totalBurst: 5, totalRate: 0, maxBuckets: 10 });
  let written = 0;
  for (let host = 0; host < 10_000; host++) if (throttle.take(-host, "a", `2001:db8::${host.toString(16)}`)) written++;
  assert.equal(written, 5);
  assert.deepEqual(throttle.drain(), [{ like: "a", count: 9_995, peers: 1000 }]);
});
