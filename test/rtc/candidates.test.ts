import assert from "node:assert/strict";
import { test } from "node:test";

import { parseConfig } from "../../gateway/config/read.js";
import { Refusal } from "../../gateway/media/errors.js";
import { addressBytes, addressText, isLoopback, scopeOf } from "../../gateway/rtc/address.js";
import {
  type CandidateSources,
  gatherCandidates,
  parseHostPort,
  parseRequested,
  withTransports,
} from "../../gateway/rtc/candidates.js";
import { type Candidate, candidateLines } from "../../gateway/rtc/sdp-answer.js";

const SOURCES: CandidateSources = {
  requested: [],
  configured: ["*"],
  detect: true,
  family: "ipv4",
  interfaces: ["127.0.0.1", "10.0.0.5", "::1", "2001:db8::5"],
  apiHosts: [],
  listen: [{ host: undefined, port: 8000 }],
  port: 8000,
};

const gather = (more: Partial<CandidateSources>): string[] =>
  gatherCandidates({ ...SOURCES, ...more }).map(({ address, port }) => `${address} ${port}`);
const listen = (text: string): CandidateSources["listen"] =>
  parseConfig(`rtc_server { listen ${text}; }`).config.rtcServer.listen;

const DETECTED = ["10.0.0.5 8000", "127.0.0.1 8000"];
const ROWS: readonly [what: string, sources: Partial<CandidateSources>, expected: readonly string[]][] = [
  ["detection: loopback last", {}, DETECTED],
  ["ip_family ipv6", { family: "ipv6" }, ["2001:db8::5 8000", "::1 8000"]],
  ["ip_family all", { family: "all" }, ["10.0.0.5 8000", "2001:db8::5 8000", "127.0.0.1 8000", "::1 8000"]],
  ["a configured address ends detection", { configured: ["203.0.113.9"] }, ["203.0.113.9 8000"]],
  [
    "several configured, a name among them",
    { configured: ["203.0.113.9", "gw.example"] },
    ["203.0.113.9 8000", "gw.example 8000"],
  ],
  ["configured IPv6 in brackets and bare", { configured: ["[2001:db8::1]", "2001:DB8::1"] }, ["2001:db8::1 8000"]],
  ["* beside an address detects too", { configured: ["203.0.113.9", "*"] }, ["203.0.113.9 8000", ...DETECTED]],
  ["0.0.0.0 means detect", { configured: ["0.0.0.0"] }, DETECTED],
  [":: means detect", { configured: ["::"] }, DETECTED],
  ["nothing means detect", { configured: [] }, DETECTED],
  ["detection off", { detect: false }, []],
  ["detection off, the API's host", { detect: false, apiHosts: ["203.0.113.2"] }, ["203.0.113.2 8000"]],
  ["the API's host comes after, without doubles", { apiHosts: ["10.0.0.5", "203.0.113.2"] }, [...DETECTED, "203.0.113.2 8000"]],
  ["the API's host, mapped into IPv6, is no second one", { apiHosts: ["::ffff:10.0.0.5"] }, DETECTED],
  [
    "the API's host after a configured one",
    { configured: ["203.0.113.9"], apiHosts: ["10.1.1.1"] },
    ["203.0.113.9 8000", "10.1.1.1 8000"],
  ],
  [
    "a resolved name, kept as a name too",
    { apiHosts: ["203.0.113.2", "gw.example"] },
    [...DETECTED, "203.0.113.2 8000", "gw.example 8000"],
  ],
  [
    "loopback of the API is left out",
    { configured: ["203.0.113.9"], apiHosts: ["127.0.0.1", "::1", "localhost", "a.localhost"] },
    ["203.0.113.9 8000"],
  ],
  ["loopback of the API when there is nothing else", { detect: false, apiHosts: ["127.0.0.1"] }, ["127.0.0.1 8000"]],
  ["localhost by name when there is nothing else", { detect: false, apiHosts: ["localhost"] }, ["localhost 8000"]],
  [
    "eip replaces everything",
    { requested: parseRequested(["198.51.100.1:9000", "name.example"]), configured: ["203.0.113.9"], apiHosts: ["10.1.1.1"] },
    ["198.51.100.1 9000", "name.example 8000"],
  ],
  [
    "eip twice the same",
    { requested: parseRequested(["198.51.100.1", "198.51.100.1:8000", "[::ffff:198.51.100.1]"]) },
    ["198.51.100.1 8000"],
  ],
  [
    "eip that only looks like a double",
    { requested: parseRequested(["198.51.100.1", "198.51.100.1:8001"]) },
    ["198.51.100.1 8000", "198.51.100.1 8001"],
  ],
  ["eip of IPv6", { requested: parseRequested(["[2001:db8::9]:9000", "2001:db8::8"]) }, ["2001:db8::9 9000", "2001:db8::8 8000"]],
  ["sockets on one address", { listen: listen("127.0.0.1:8000") }, ["127.0.0.1 8000"]],
  [
    "sockets on one address of a machine behind NAT",
    { listen: listen("10.0.0.5:8000"), configured: ["203.0.113.9"] },
    ["203.0.113.9 8000"],
  ],
  ["listen [::]:8000 alone", { listen: listen("[::]:8000"), family: "all" }, ["2001:db8::5 8000", "::1 8000"]],
  ["listen 0.0.0.0:8000 alone", { listen: listen("0.0.0.0:8000"), family: "all" }, DETECTED],
  ["listen 8000 [::]:8000, ip_family ipv4", { listen: listen("8000 [::]:8000") }, DETECTED],
  [
    "listen 8000 [::]:8000, ip_family all",
    { listen: listen("8000 [::]:8000"), family: "all" },
    ["10.0.0.5 8000", "2001:db8::5 8000", "127.0.0.1 8000", "::1 8000"],
  ],
  [
    "a port for each family",
    { listen: listen("0.0.0.0:8000 [::]:8001"), family: "all", apiHosts: ["2001:db8::9"] },
    ["10.0.0.5 8000", "2001:db8::5 8001", "127.0.0.1 8000", "::1 8001", "2001:db8::9 8001"],
  ],
  ["a port that the system chose", { listen: listen("0"), port: 40_000 }, ["10.0.0.5 40000", "127.0.0.1 40000"]],
];

for (const [what, sources, expected] of ROWS) test(`candidates: ${what}`, () => assert.deepEqual(gather(sources), expected));

test("never more than sixteen", () => {
  const interfaces = Array.from({ length: 40 }, (_, index) => `10.0.0.${index + 1}`);
  assert.equal(gather({ interfaces }).length, 16);
});

test("lines: the first has foundation 0 and the highest priority, later ones fall by one, TCP stays below UDP", () => {
  const udp = (address: string): Candidate => ({ transport: "udp", address, port: 8000 });
  assert.deepEqual(
    candidateLines([udp("203.0.113.9"), udp("2001:db8::1"), { transport: "tcp", address: "203.0.113.9", port: 8000 }]),
    [
      "a=candidate:0 1 udp 2130706431 203.0.113.9 8000 typ host generation 0",
      "a=candidate:1 1 udp 2130706430 2001:db8::1 8000 typ host generation 0",
      "a=candidate:2 1 tcp 1694498813 203.0.113.9 8000 typ host tcptype passive generation 0",
    ],
  );
});

test("reads addresses and names with and without a port, and nothing else", () => {
  const cases: readonly (readonly [string, string | undefined, number | undefined])[] = [
    ["192.0.2.1", "192.0.2.1", undefined],
    ["192.0.2.1:80", "192.0.2.1", 80],
    ["[2001:db8::1]:80", "2001:db8::1", 80],
    ["[2001:DB8::1]", "2001:db8::1", undefined],
    ["2001:db8::1", "2001:db8::1", undefined],
    ["::ffff:192.0.2.1", "192.0.2.1", undefined],
    ["a.example:65535", "a.example", 65535],
    ["my_host", "my_host", undefined],
    ["a.example.", "a.example.", undefined],
  ];
  for (const [text, address, port] of cases) {
    const parsed = parseHostPort(text);
    assert.equal(parsed?.address, address, text);
    assert.equal(parsed?.port, port, text);
  }
});

const NONSENSE = [
  "a.example:65536",
  "a.example:0",
  "192.0.2.1:",
  "192.0.2.1:99999",
  "192.0.2.256",
  "1.2.3",
  "1.2.3.4.5",
  "0x7f.1",
  "12345",
  "a b",
  "a\r\na=x",
  "a\n",
  "<b>",
  "[a.example]:1",
  "[192.0.2.1]:1",
  "fe80::1%eth0",
  "[::1",
  "::1]:8000",
  "-a.example",
  "a..example",
  ".",
  "",
  "203.0.113.9 9 typ host\r\na=candidate:9 1 udp 1 192.0.2.66 1 typ host",
  "v=0",
  "x".repeat(300),
  `${"x".repeat(64)}.example`,
  "0.0.0.0",
  "[::]:8000",
  "0:0::0",
  "*",
];
for (const text of NONSENSE) {
  test(`eip: ${JSON.stringify(text.slice(0, 40))} is a bad request`, () => {
    assert.throws(
      () => parseRequested([text]),
      (error) => error instanceof Refusal && error.code === "bad-request",
    );
    assert.throws(() => parseRequested(["192.0.2.1", text]), Refusal);
  });
}

test("who can reach an address", () => {
  const cases = {
    loopback: ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"],
    private: [
      "10.1.2.3",
      "172.16.0.1",
      "172.31.9.9",
      "192.168.1.1",
      "169.254.1.1",
      "100.64.0.1",
      "fd00::1",
      "fe80::1",
      "fc12::1",
    ],
    public: ["203.0.113.9", "172.32.0.1", "172.15.0.1", "100.128.0.1", "8.8.8.8", "2001:db8::1", "fec0::1"],
    name: ["gw.example", ""],
  };
  for (const [scope, addresses] of Object.entries(cases))
    for (const address of addresses) assert.equal(scopeOf(address), scope, address);
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

test("TCP candidates follow the UDP ones, at the port of the listener that serves the address", () => {
  const udp = [
    { transport: "udp" as const, address: "192.0.2.1", port: 8000 },
    { transport: "udp" as const, address: "2001:db8::1", port: 8000 },
    { transport: "udp" as const, address: "203.0.113.7", port: 41_000 },
  ];
  const listen = [
    { host: "0.0.0.0", port: 443 },
    { host: "::", port: 444 },
  ];
  const transports = {
    family: "all" as const,
    udp: { listen: [{ host: undefined, port: 8000 }], port: 8000 },
    tcp: { listen, port: 443 },
  };
  const tcp = [
    { transport: "tcp" as const, address: "192.0.2.1", port: 443 },
    { transport: "tcp" as const, address: "2001:db8::1", port: 444 },
    { transport: "tcp" as const, address: "203.0.113.7", port: 41_000 }, // a port of its own: the same for both
  ];
  assert.deepEqual(withTransports(udp, { ...transports, protocol: "udp" }), udp);
  assert.deepEqual(withTransports(udp, { ...transports, protocol: "tcp" }), tcp);
  assert.deepEqual(withTransports(udp, { ...transports, protocol: "all" }), [...udp, ...tcp]);
  assert.deepEqual(withTransports(udp, { ...transports, protocol: "all", tcp: undefined }), udp);
});
