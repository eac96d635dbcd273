import assert from "node:assert/strict";
import { test } from "node:test";

import { IceLiteAgent } from "../../gateway/rtc/ice.js";
import { parseStun, writeBindingRequest, writeBindingResponse } from "../../gateway/rtc/stun.js";

const LOCAL = { usernameFragment: "server", password: "serverpasswordserverpass" };
const A = { socket: 0, address: "192.0.2.1", port: 1000 };
const B = { socket: 0, address: "192.0.2.2", port: 2000 };

function check(more: Partial<Parameters<typeof writeBindingRequest>[0]> = {}): Buffer {
  return writeBindingRequest({
    transactionId: Buffer.alloc(12, 7),
    username: "server:client",
    password: LOCAL.password,
    priority: 100,
    role: "controlling",
    tieBreaker: 1n,
    useCandidate: false,
    ...more,
  });
}

test("answers a signed check with the address it came from, and learns it", () => {
  const agent = new IceLiteAgent(LOCAL, "client");
  assert.equal(agent.receive(0, check(), A), "answered");
  const response = agent.response === undefined ? undefined : parseStun(agent.response);
  assert.deepEqual(response?.mappedAddress, { address: "192.0.2.1", port: 1000 });
  assert.ok(agent.knows(A) && !agent.knows(B));
  assert.equal(agent.selected, undefined);
});

test("USE-CANDIDATE selects, and a later one of the same priority moves", () => {
  const agent = new IceLiteAgent(LOCAL, "client");
  assert.equal(agent.receive(0, check({ useCandidate: true }), A), "selected");
  assert.equal(agent.receive(10, check({ useCandidate: true }), A), "answered");
  assert.equal(agent.receive(20, check({ useCandidate: true }), B), "selected");
  assert.deepEqual(agent.selected, B);
});

test("a worse pair is taken only when the better one has gone silent", () => {
  const agent = new IceLiteAgent(LOCAL, "client");
  agent.receive(0, check({ useCandidate: true, priority: 200 }), A);
  assert.equal(agent.receive(100, check({ useCandidate: true, priority: 100 }), B), "answered");
  assert.deepEqual(agent.selected, A);
  assert.equal(agent.receive(4_000, check({ useCandidate: true, priority: 100 }), B), "selected");
});

test("ignores what is not a check signed with our password", () => {
  const agent = new IceLiteAgent(LOCAL, "client");
  const cases = [
    check({ password: "wrongpasswordwrongpasswo" }),
    check({ username: "server:other" }),
    check({ username: "client:server" }),
    check({ username: "server" }),
    writeBindingResponse(Buffer.alloc(12), "192.0.2.1", 1, LOCAL.password),
    Buffer.from("000100002112a442000000000000000000000000", "hex"),
    Buffer.alloc(0),
  ];
  for (const datagram of cases) {
    assert.equal(agent.receive(0, datagram, A), "ignored");
    assert.equal(agent.response, undefined);
  }
  assert.ok(!agent.knows(A));
  assert.equal(agent.statistics.ignored, cases.length);
});

test("after a restart both credentials work until the new ones are used", () => {
  const agent = new IceLiteAgent(LOCAL, "client");
  agent.receive(0, check({ useCandidate: true }), A);
  const next = { usernameFragment: "fresh", password: "freshpasswordfreshpasswo" };
  agent.restart(next, "newclient");
  assert.equal(agent.receive(1, check(), A), "answered");
  assert.deepEqual(agent.selected, A, "media goes on");
  const fresh = check({ username: "fresh:newclient", password: next.password, useCandidate: true });
  assert.equal(agent.receive(2, fresh, B), "selected");
  assert.equal(agent.receive(3, check(), A), "ignored");
});

test("remembers a bounded number of addresses", () => {
  const agent = new IceLiteAgent(LOCAL, "client");
  for (let port = 1; port <= 1_000; port++) agent.receive(port / 1000, check(), { ...A, port });
  assert.equal(agent.addresses.length, 16);
});

test("follows a peer whose router gave it a new port, once the old one is silent", () => {
  const agent = new IceLiteAgent(LOCAL, "client");
  agent.receive(0, check({ useCandidate: true }), A);
  agent.heard(1_500, A);
  agent.heard(2_000, B); // says nothing of A
  assert.equal(agent.receive(2_500, check(), B), "answered");
  assert.deepEqual(agent.selected, A);
  assert.equal(agent.receive(5_000, check(), B), "selected");
  assert.deepEqual(agent.selected, B);
});

test("when the selected address has ended, the next check from any other selects that, chosen or not", () => {
  const agent = new IceLiteAgent(LOCAL, "client");
  const tcp = { socket: 300, address: "192.0.2.1", port: 1000 };
  assert.equal(agent.receive(0, check({ useCandidate: true, priority: 200 }), tcp), "selected");
  agent.drop(B); // never heard of
  assert.equal(agent.receive(10, check({ priority: 100 }), A), "answered");
  agent.drop(tcp);
  assert.ok(!agent.knows(tcp) && agent.knows(A));
  assert.equal(agent.receive(20, check({ priority: 100 }), A), "selected");
  assert.deepEqual(agent.selected, A);
});
