import assert from "node:assert/strict";
import { test } from "node:test";

import { Refusal } from "../../gateway/media/errors.js";
import { parseFragment, writeFragment } from "../../gateway/rtc/sdp-fragment.js";
import { seededBytes, seededRandom } from "../support/seeded.js";

const PASSWORD = "abcdefghijklmnopqrstuv";

const GOOD: readonly [what: string, text: string, usernameFragment: string, password: string, candidates: number][] = [
  [
    "candidates, some of no use",
    [
      "a=group:BUNDLE 0 1",
      "m=audio 9 UDP/TLS/RTP/SAVPF 111",
      "a=mid:0",
      "a=ice-ufrag:EsAw",
      `a=ice-pwd:${PASSWORD}`,
      "a=candidate:1 1 udp 2113937151 a1b2c3d4-0000-4000-8000-000000000000.local 51040 typ host generation 0",
      "a=candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
      "a=candidate:3 1 UDP 2113937151 2001:db8::1 51040 typ srflx raddr 192.0.2.9 rport 9",
      "a=end-of-candidates",
      "",
    ].join("\r\n"),
    "EsAw",
    PASSWORD,
    3,
  ],
  ["bare line feeds", `a=ice-ufrag:EsAw\na=ice-pwd:${PASSWORD}\n`, "EsAw", PASSWORD, 0],
  ["the end of candidates alone", "a=end-of-candidates\r\n", "", "", 0],
  ["an empty candidate, which ends them too", "a=candidate:\r\n", "", "", 1],
  ["credentials said again in each section", "a=ice-ufrag:EsAw\r\nm=audio 9 X 0\r\na=ice-ufrag:EsAw\r\n", "EsAw", "", 0],
];

for (const [what, text, usernameFragment, password, candidates] of GOOD) {
  test(`reads a fragment with ${what}`, () => {
    assert.deepEqual(parseFragment(text), { usernameFragment, password, candidates });
  });
}

const BAD: readonly [what: string, text: string][] = [
  ["nothing", ""],
  ["blank lines only", "\r\n\r\n"],
  ["JSON", '{"candidate":"x"}'],
  ["a whole SDP", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n"],
  ["a ufrag too short", "a=ice-ufrag:abc\r\n"],
  ["a password too short", "a=ice-pwd:short\r\n"],
  ["a colon in the ufrag", "a=ice-ufrag:ab:cd\r\n"],
  ["two ufrags", "a=ice-ufrag:abcd\r\na=ice-ufrag:efgh\r\n"],
  ["half a candidate", "a=candidate:1 1 udp 1 192.0.2.1\r\n"],
  ["a control character", "a=mid:\u0001\r\n"],
  ["a line without end", `a=${"x".repeat(3000)}\r\n`],
  ["too many lines", "a=x\r\n".repeat(2000)],
];

for (const [what, text] of BAD) {
  test(`refuses a fragment with ${what}`, () => {
    assert.throws(
      () => parseFragment(text),
      (error) => error instanceof Refusal && error.code === "bad-request" && error.message.length < 200,
    );
  });
}

test("what it writes it reads, and a browser finds what it needs", () => {
  const text = writeFragment({ usernameFragment: "abcd", password: PASSWORD }, { kind: "video", mids: ["video0", "audio1"] }, [
    { transport: "udp", address: "192.0.2.1", port: 8000 },
  ]);
  assert.deepEqual(parseFragment(text), { usernameFragment: "abcd", password: PASSWORD, candidates: 1 });
  assert.match(text, /a=group:BUNDLE video0 audio1\r\nm=video 9 UDP\/TLS\/RTP\/SAVPF 0\r\na=mid:video0\r\n/);
});

test("whatever comes, it is read or refused", () => {
  const random = seededRandom(5);
  const bytes = seededBytes(6);
  for (let i = 0; i < 3000; i++) {
    const good = GOOD[i % GOOD.length]?.[1] ?? "";
    const broken = Buffer.from(good, "latin1");
    for (let hits = 0; hits < 3 && broken.length > 0; hits++)
      broken[Math.floor(random() * broken.length)] = bytes(1)[0] as number;
    try {
      parseFragment(broken.toString("latin1"));
    } catch (error) {
      assert.ok(error instanceof Refusal);
    }
  }
});
