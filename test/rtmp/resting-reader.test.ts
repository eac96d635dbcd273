import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";

import { RestingReader, readingSideOf } from "../../gateway/rtmp/resting-reader.js";
import { FakeClock } from "../support/fake-clock.js";

function set() {
  const clock = new FakeClock();
  const calls: string[] = [];
  let watched = false;
  const side = { stop: () => void calls.push("stop"), start: () => void calls.push("start") };
  const reader = new RestingReader(side, clock, () => watched);
  const watch = (now: boolean): void => {
    watched = now;
  };
  return { clock, calls, reader, watch };
}

test("reads everything at once in the first seconds, then seven times a second", () => {
  const { clock, calls, reader } = set();
  for (let ms = 0; ms < 2_900; ms += 100) {
    reader.read(31_250); // 2.5 Mbit/s
    clock.advance(100);
  }
  assert.deepEqual(calls, []);
  clock.advance(200);
  reader.read(62_500);
  assert.deepEqual(calls, ["stop"]);
  clock.advance(149);
  assert.deepEqual(calls, ["stop"]);
  clock.advance(1);
  assert.deepEqual(calls, ["stop", "start"]);
});

test("does not rest while somebody watches", () => {
  const { clock, calls, reader, watch } = set();
  clock.advance(5_000);
  watch(true);
  reader.read(1_000);
  assert.deepEqual(calls, []);
  watch(false);
  reader.read(1_000);
  assert.deepEqual(calls, ["stop"]);
});

test("rests shorter the more comes, and not at all for a very fast publisher", () => {
  const { clock, calls, reader, watch } = set();
  clock.advance(5_000);
  watch(true);
  for (let piece = 0; piece < 125; piece++) reader.read(50_000); // 10 Mbit/s: 48 KiB are there in 39.3 ms
  watch(false);
  reader.read(1);
  clock.advance(39);
  assert.deepEqual(calls, ["stop"]);
  clock.advance(1);
  assert.deepEqual(calls, ["stop", "start"]);
  watch(true);
  for (let piece = 0; piece < 25; piece++) reader.read(50_000);
  watch(false);
  reader.read(1); // 250 Mbit/s
  assert.deepEqual(calls, ["stop", "start"]);
});

test("does not rest before all that has come is read", () => {
  const { clock, calls, reader } = set();
  clock.advance(5_000);
  reader.read(64 * 1024);
  assert.deepEqual(calls, []);
  reader.read(100);
  assert.deepEqual(calls, ["stop"]);
});

test("leaves no timer behind and the socket reading", () => {
  const { clock, calls, reader } = set();
  clock.advance(5_000);
  reader.read(100);
  reader.stop();
  assert.equal(clock.pending, 0);
  assert.deepEqual(calls, ["stop", "start"]);
});

test("a rest ends with everything that came meanwhile, however small the pieces were", async (context) => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  const client = connect(address.port, "127.0.0.1");
  const [socket] = (await once(server, "connection")) as [Socket];
  context.after(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  const clock = new FakeClock();
  const reader = new RestingReader(readingSideOf(socket), clock, () => false);
  clock.advance(5_000);
  let received = 0;
  const sizes: number[] = [];
  socket.on("data", (bytes) => {
    received += bytes.length;
    sizes.push(bytes.length);
    reader.read(bytes.length);
    socket.emit("taken");
  });
  client.write("a");
  while (received < 1) await once(socket, "taken");
  assert.equal(clock.pending, 1, "it rests");
  for (let piece = 0; piece < 50; piece++) await new Promise((written) => client.write("0123456789", written));
  assert.equal(received, 1);
  while (received < 501) {
    const taken = once(socket, "taken");
    clock.advance(150);
    await taken;
  }
  assert.ok(sizes.length <= 6, `readings of ${sizes} bytes`); // the kernel may still be handing some over
  reader.stop();
});
