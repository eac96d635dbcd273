import assert from "node:assert/strict";
import { test } from "node:test";

import { addressBytes, addressText, isLoopback } from "../../gateway/rtc/address.js";
import { type CandidateSources, gatherCandidates, parseHostPort } from "../../gateway/rtc/candidates.js";

const SOURCES: CandidateSources = {
  requested: [],
  configured: ["*"],
  detect: true,
  family: "ipv4",
  interfaces: ["127.0.0.1", "10.0.0.5", "::1", "2001:db8::5"],
  apiHosts: [],
  port: 8000,
  boundTo: [],
};

const gather = (more: Partial<CandidateSources>): string[] =>
  gatherCandidates({ ...SOURCES, ...more }).map(({ address, port }) => `${address} ${port}`);

test("follows the order of the sources", () => {
  assert.deepEqual(gather({}), ["10.0.0.5 8000", "127.0.0.1 8000"]);
  assert.deepEqual(gather({ family: "ipv6" }), ["2001:db8::5 8000", "::1 8000"]);
  assert.deepEqual(gather({ family: "all" }), ["10.0.0.5 8000", "2001:db8::5 8000", "127.0.0.1 8000", "::1 8000"]);
  assert.deepEqual(gather({ configured: ["203.0.113.9"] }), ["203.0.113.9 8000"]);
  assert.deepEqual(gather({ configured: ["203.0.113.9", "*"] }), ["203.0.113.9 8000", "10.0.0.5 8000", "127.0.0.1 8000"]);
  assert.deepEqual(gather({ configured: ["203.0.113.9"], apiHosts: ["203.0.113.9", "10.1.1.1", "127.0.0.1"] }), [
    "203.0.113.9 8000",
    "10.1.1.1 8000",
  ]);
  assert.deepEqual(gather({ detect: false, apiHosts: ["127.0.0.1"] }), ["127.0.0.1 8000"]);
  assert.deepEqual(
    gather({ requested: ["198.51.100.1:9000", "name.example"], configured: ["203.0.113.9"], apiHosts: ["10.1.1.1"] }),
    ["198.51.100.1 9000", "name.example 8000"],
  );
  assert.deepEqual(gather({ boundTo: ["127.0.0.1"] }), ["127.0.0.1 8000"]);
  assert.deepEqual(gather({ configured: [] }), ["10.0.0.5 8000", "127.0.0.1 8000"]);
});

test("reads addresses and names with and without a port, and nothing else", () => {
  const cases: readonly (readonly [string, string | undefined, number | undefined])[] = [
    ["192.0.2.1", "192.0.2.1", undefined],
    ["192.0.2.1:80", "192.0.2.1", 80],
    ["[2001:db8::1]:80", "2001:db8::1", 80],
    ["[2001:db8::1]", "2001:db8::1", undefined],
    ["2001:db8::1", "2001:db8::1", undefined],
    ["a.example:65535", "a.example", 65535],
    ["a.example:65536", undefined, undefined],
    ["a.example:0", undefined, undefined],
    ["a b", undefined, undefined],
    ["a\r\na=x", undefined, undefined],
    ["<b>", undefined, undefined],
    ["[a.example]:1", undefined, undefined],
    ["", undefined, undefined],
  ];
  for (const [text, address, port] of cases) {
    const parsed = parseHostPort(text);
    assert.equal(parsed?.address, address, text);
    assert.equal(parsed?.port, port, text);
  }
});

test("addresses as bytes", () => {
  for (const bad of [
    "1.2.3",
    "1.2.3.256",
    "1.2.3.04",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7:8:9",
    "g::1",
    "1.2.3.4:5",
    "::1.2.3.4.5",
    "1:2:3:4:5:6:7",
    "",
  ]) {
    assert.equal(addressBytes(bad), undefined, bad);
  }
  for (const [text, full] of [
    ["::", "0:0:0:0:0:0:0:0"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["64:ff9b::192.0.2.1", "64:ff9b:0:0:0:0:c000:201"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
  ] as const) {
    const bytes = addressBytes(text);
    assert.ok(bytes !== undefined);
    assert.equal(addressText(bytes), full);
  }
  assert.ok(isLoopback("127.9.9.9") && isLoopback("::1") && isLoopback("::ffff:127.0.0.1") && !isLoopback("10.0.0.1"));
});
