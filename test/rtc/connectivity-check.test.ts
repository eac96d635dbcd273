// The guide's connectivity check: a bare offer by HTTP, one UDP packet, and 64 bytes that come back.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Refusal } from "../../gateway/media/errors.js";
import { writeBindingRequest } from "../../gateway/rtc/stun.js";
import { BARE_OFFER, CHECK_PASSWORD, CHECK_REQUEST, CHECK_USER, checkResponse } from "../support/bare-check.js";
import { FAKE_HELLO } from "../support/rtc-fakes.js";
import { NAME, RtcWorld } from "../support/rtc-world.js";

const FROM = { socket: 0, address: "198.51.100.1", port: 40_000 };
const CREDENTIALS = { iceUsernameFragment: CHECK_USER, icePassword: CHECK_PASSWORD };

async function checkedWorld(action: "play" | "publish" = "publish") {
  const world = new RtcWorld();
  await world.start();
  const received: Buffer[] = [];
  world.routes.set(`${FROM.address}:${FROM.port}`, (datagram) => void received.push(datagram));
  const ask = () => world.rtc[action]({ ...world.offer(), sdp: BARE_OFFER, ...CREDENTIALS });
  const { id, sdp } = await ask();
  const send = (datagram: Buffer): Buffer[] => {
    received.length = 0;
    world.receive(Buffer.from(datagram), FROM);
    world.clock.advance(1);
    return [...received];
  };
  return { world, id, sdp, send, ask };
}

for (const action of ["play", "publish"] as const) {
  test(`${action}: the guide's offer is answered with the credentials asked for, and its packet with 64 bytes`, async () => {
    const { world, sdp, send } = await checkedWorld(action);
    assert.match(sdp, /a=ice-ufrag:6pk11386\r\na=ice-pwd:l91z529147ri9163933p51c4\r\n/);
    assert.match(sdp, /a=candidate:0 1 udp 2130706431 192\.0\.2\.7 8000 typ host generation 0\r\n/);
    assert.match(sdp, action === "play" ? /a=sendonly/ : /a=recvonly/);
    const [response, ...others] = send(CHECK_REQUEST);
    assert.deepEqual(others, []);
    assert.equal(response?.toString("hex"), checkResponse(FROM.address, FROM.port).toString("hex"));
    assert.equal(response?.readUInt16BE(2), 64);
    assert.equal(world.hub.find(NAME), undefined, "no stream hears of it");
  });
}

test("the check can do ICE and nothing else, and ends by itself", async () => {
  const { world, id, send } = await checkedWorld();
  const nominate = writeBindingRequest({
    transactionId: Buffer.alloc(12, 1),
    username: `${CHECK_USER}:J8X7`,
    password: CHECK_PASSWORD,
    priority: 1,
    role: "controlling",
    tieBreaker: 1n,
    useCandidate: true,
  });
  assert.equal(send(nominate).length, 1);
  assert.deepEqual(send(FAKE_HELLO), [], "no handshake");
  assert.deepEqual(send(Buffer.concat([Buffer.from([0x80, 111]), Buffer.alloc(30)])), [], "no media");
  assert.equal(world.dtls.open, 0);
  world.clock.advance(29_000);
  assert.equal(world.rtc.sessionCount, 1);
  world.clock.advance(2_000);
  assert.equal(world.rtc.sessionCount, 0);
  assert.equal(world.rtc.closeSession(id, "again"), false);
  assert.deepEqual(send(CHECK_REQUEST), []);
});

test("the same check again takes the first one's place; with another password it may not", async () => {
  const { world, id, ask, send } = await checkedWorld();
  const again = await ask();
  assert.notEqual(again.id, id);
  assert.equal(world.rtc.sessionCount, 1);
  assert.equal(send(CHECK_REQUEST).length, 1);
  const stranger = { ...world.offer(), sdp: BARE_OFFER, iceUsernameFragment: CHECK_USER, icePassword: "x".repeat(22) };
  await assert.rejects(world.rtc.publish(stranger), (error) => error instanceof Refusal && error.code === "bad-request");
  assert.equal(send(CHECK_REQUEST).length, 1);
});

test("a packet signed with another password, or for nobody, gets no answer", async () => {
  const { send } = await checkedWorld();
  const forged = Buffer.from(CHECK_REQUEST);
  forged[70] = (forged[70] ?? 0) ^ 1;
  assert.deepEqual(send(forged), []);
  assert.equal(send(CHECK_REQUEST).length, 1);
});

test("without credentials in the query, or with one of them, a bare offer is refused as before", async () => {
  const world = new RtcWorld();
  await world.start();
  for (const more of [{}, { iceUsernameFragment: CHECK_USER }, { icePassword: CHECK_PASSWORD }]) {
    const offer = { ...world.offer(), sdp: BARE_OFFER, ...more };
    await assert.rejects(world.rtc.publish(offer), (error) => error instanceof Refusal);
  }
  assert.equal(world.rtc.sessionCount, 0);
});

test("a hundred checks at one time, and no more", async () => {
  const world = new RtcWorld();
  await world.start();
  const ask = (index: number) =>
    world.rtc.publish({ ...world.offer(), sdp: BARE_OFFER, iceUsernameFragment: `user${index}`, icePassword: CHECK_PASSWORD });
  for (let index = 0; index < 100; index++) await ask(index);
  await assert.rejects(ask(100), (error) => error instanceof Refusal && error.code === "overloaded");
  world.clock.advance(31_000);
  await ask(100);
});
