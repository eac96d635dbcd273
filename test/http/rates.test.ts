import assert from "node:assert/strict";
import { test } from "node:test";

import { Rates } from "../../gateway/http/rates.js";
import type { Client, Stream } from "../../gateway/hub/types.js";
import { FakeClock } from "../support/fake-clock.js";
import { peer } from "../support/frames.js";

function setUp() {
  const clock = new FakeClock();
  const stream = {} as Stream;
  const bytes = { publish: 0, play: 0 };
  const clients = (["publish", "play"] as const).map(
    (role): Client => ({
      peer: peer(),
      stream,
      role,
      since: clock.wallTime(),
      bytes: () => bytes[role],
      close: () => {},
      statistics: () => ({}),
    }),
  );
  const rates = new Rates({ clients: () => clients }, clock);
  const [publisher, viewer] = clients as [Client, Client];
  return { clock, rates, bytes, stream, publisher, viewer };
}

test("a rate from the first second on, over half a minute at most", () => {
  const { clock, rates, bytes, publisher, viewer, stream } = setUp();
  rates.start();
  assert.deepEqual(rates.ofClient(publisher), { recv_30s: 0, send_30s: 0 });
  const run = (seconds: number, kbps: number): void => {
    for (let i = 0; i < seconds; i++) {
      bytes.publish += kbps * 125;
      bytes.play += kbps * 250;
      clock.advance(1000);
    }
  };
  run(2, 800);
  assert.deepEqual(rates.ofClient(publisher), { recv_30s: 800, send_30s: 0 });
  run(58, 800);
  run(40, 400); // nothing of the faster time is in the last half minute
  assert.deepEqual(rates.ofClient(publisher), { recv_30s: 400, send_30s: 0 });
  assert.deepEqual(rates.ofClient(viewer), { recv_30s: 0, send_30s: 800 });
  assert.deepEqual(rates.ofStreams().get(stream), { recv_30s: 400, send_30s: 800 });
  rates.stop();
  rates.stop();
  assert.equal(clock.pending, 0);
});
