import assert from "node:assert/strict";
import { test } from "node:test";

import {
  type Diagnosis,
  diagnose,
  type SessionFacts,
  SessionTrace,
  STEPS,
  type Step,
  scopeWarning,
  type Verdict,
} from "../../gateway/rtc/diagnosis.js";
import { DiagnosisArchive } from "../../gateway/rtc/diagnosis-archive.js";
import type { Candidate } from "../../gateway/rtc/sdp-answer.js";

const at = (address: string, port = 8000, transport: "udp" | "tcp" = "udp"): Candidate => ({ transport, address, port });
const BEGAN = 1_000;
const FACTS: SessionFacts = {
  role: "viewer",
  client: "198.51.100.1",
  codecs: "h264 opus",
  candidates: [at("203.0.113.7")],
  ownPorts: { udp: [8000], tcp: [] },
  mediaAt: undefined,
  reportAt: undefined,
  heardAt: BEGAN,
  discarded: 0,
  isLive: true,
  ended: undefined,
};
const PATH = { from: "198.51.100.1:4000", to: "10.0.0.5:8000", transport: "udp" } as const;

/** A session that has come through all steps up to one, one every 10 ms, and is asked about `age` ms after the offer. */
function stuckAfter(
  last: Step,
  age: number,
  facts: Partial<SessionFacts> = {},
  seen: Partial<Pick<SessionTrace, "unsigned" | "conflicts" | "dtlsFailure">> = {},
): Diagnosis {
  const trace = new SessionTrace(BEGAN);
  const passed = STEPS.slice(0, STEPS.indexOf(last) + 1);
  for (const [index, step] of passed.entries()) trace.note(step, BEGAN + index * 10);
  if (passed.includes("stun")) trace.heard = PATH;
  if (passed.includes("nominated")) trace.chosen = PATH;
  Object.assign(trace, seen);
  const mediaAt = passed.includes("media") ? BEGAN + 80 : undefined;
  const reportAt = passed.includes("report") ? BEGAN + 90 : undefined;
  return diagnose(BEGAN + age, trace, { ...FACTS, mediaAt, reportAt, heardAt: BEGAN + age, ...facts });
}

type Row = readonly [verdict: Verdict, stoppedAt: Step | null, diagnosis: Diagnosis, cause: RegExp, advice?: RegExp];
const ROWS: readonly Row[] = [
  ["in-progress", "stun", stuckAfter("candidates", 500), /first packet/],
  [
    "unreachable",
    "stun",
    stuckAfter("candidates", 3_000),
    /never heard from this client on UDP 8000 at 203\.0\.113\.7\./,
    /UDP 8000 open.*tcp \{ enabled on/,
  ],
  [
    "unreachable",
    "stun",
    stuckAfter("candidates", 3_000, {
      candidates: [at("203.0.113.7"), at("203.0.113.7", 443, "tcp")],
      ownPorts: { udp: [8000], tcp: [8000] },
    }),
    /UDP 8000 at 203\.0\.113\.7 and TCP 443 at 203\.0\.113\.7/,
    /TCP 443 must be forwarded to the gateway's own TCP 8000/,
  ],
  [
    "unreachable",
    "stun",
    stuckAfter("candidates", 3_000, { candidates: [at("203.0.113.7", 9000)] }),
    /UDP 9000/,
    /UDP 9000 must be forwarded to the gateway's own UDP 8000/,
  ],
  [
    "unreachable",
    "stun",
    stuckAfter("candidates", 3_000, { candidates: [at("172.17.0.2")], client: "172.17.0.1" }),
    /172\.17\.0\.2/,
    /NAT or in a container.*candidate/,
  ],
  ["unreachable", "stun", stuckAfter("candidates", 3_000, { candidates: [at("gw.example")] }), /gw\.example/],
  [
    "unreachable",
    "stun",
    stuckAfter("candidates", 3_000, { candidates: [at("127.0.0.1")], client: "127.0.0.1" }),
    /127\.0\.0\.1/,
  ],
  [
    "private-candidates",
    "stun",
    stuckAfter("candidates", 3_000, { candidates: [at("10.0.0.5"), at("127.0.0.1")] }),
    /10\.0\.0\.5, 127\.0\.0\.1.*from 198\.51\.100\.1/,
    /candidate ADDRESS/,
  ],
  [
    "private-candidates",
    "stun",
    stuckAfter("candidates", 3_000, { candidates: [at("fd00::5")], client: "2001:db8::1" }),
    /fd00::5/,
  ],
  [
    "loopback-candidates",
    "stun",
    stuckAfter("candidates", 3_000, { candidates: [at("127.0.0.1")], client: "192.168.1.9" }),
    /client's own machine/,
    /candidate ADDRESS/,
  ],
  ["loopback-candidates", "stun", stuckAfter("candidates", 3_000, { candidates: [at("::1")] }), /client's own machine/],
  ["wrong-credentials", "stun", stuckAfter("candidates", 500, {}, { unsigned: 3 }), /3 checks.*not signed/],
  ["role-conflict", "nominated", stuckAfter("candidates", 500, {}, { conflicts: 1 }), /ICE-CONTROLLED/],
  ["role-conflict", "nominated", stuckAfter("stun", 500, {}, { conflicts: 1 }), /ICE-CONTROLLED/],
  ["in-progress", "nominated", stuckAfter("stun", 500), /Checks come from 198\.51\.100\.1:4000 over UDP to 10\.0\.0\.5:8000/],
  ["not-nominated", "nominated", stuckAfter("stun", 3_000), /do not get back/, /address that was asked/],
  ["in-progress", "dtls-started", stuckAfter("nominated", 500), /path stands/],
  ["no-handshake", "dtls-started", stuckAfter("nominated", 3_000), /has not begun/, /MTU/],
  ["in-progress", "dtls-done", stuckAfter("dtls-started", 500), /under way/],
  ["handshake-stuck", "dtls-done", stuckAfter("dtls-started", 3_000), /did not end/, /MTU/],
  [
    "fingerprint-mismatch",
    "fingerprint",
    stuckAfter(
      "dtls-started",
      100,
      {},
      { dtlsFailure: "the peer's certificate has the sha-256 fingerprint AA, its description says BB" },
    ),
    /not the one its offer names/,
  ],
  [
    "handshake-failed",
    "dtls-done",
    stuckAfter("dtls-started", 100, {}, { dtlsFailure: "no shared cipher" }),
    /no shared cipher/,
    /ecdsa off/,
  ],
  ["in-progress", "media", stuckAfter("fingerprint", 500), /Connected/],
  ["nothing-to-send", "media", stuckAfter("fingerprint", 3_000), /publisher sends nothing/],
  ["not-live", "media", stuckAfter("fingerprint", 3_000, { isLive: false }), /nobody publishes/],
  ["nothing-received", "media", stuckAfter("fingerprint", 3_000, { role: "publisher" }), /neither picture nor sound/, /muted/],
  ["packets-rejected", "media", stuckAfter("fingerprint", 3_000, { role: "publisher", discarded: 500 }), /500 packets/],
  ["ok", null, stuckAfter("media", 3_000), /media is being sent/],
  ["no-report", "report", stuckAfter("media", 8_000), /Media is sent to 198\.51\.100\.1:4000 over UDP/],
  ["ok", null, stuckAfter("media", 60_000, { role: "publisher" }), /media comes in/],
  ["ok", null, stuckAfter("report", 60_000), /Connected from 198\.51\.100\.1:4000/],
  ["silent", null, stuckAfter("report", 60_000, { heardAt: BEGAN + 40_000 }), /for 20 s nothing has come/],
  ["ended", null, stuckAfter("report", 60_000, { ended: "the client deleted it" }), /has ended: the client deleted it/],
  ["check-ok", null, stuckAfter("stun", 60_000, { role: "check" }), /one came from 198\.51\.100\.1:4000 over UDP/],
  ["unreachable", "stun", stuckAfter("candidates", 60_000, { role: "check" }), /never heard/],
];

for (const [index, [verdict, stoppedAt, diagnosis, cause, advice]] of ROWS.entries()) {
  test(`row ${index}: ${verdict}`, () => {
    assert.equal(diagnosis.verdict, verdict, JSON.stringify(diagnosis));
    assert.equal(diagnosis.stopped_at, stoppedAt);
    assert.match(diagnosis.cause, cause);
    if (advice !== undefined) assert.match(diagnosis.advice, advice);
    assert.doesNotMatch(`${diagnosis.cause} ${diagnosis.advice}`, /undefined|NaN|\[object| {2}/);
    assert.match(diagnosis.cause, /\.$/);
  });
}

test("every verdict has a row", () => {
  assert.equal(new Set(ROWS.map(([verdict]) => verdict)).size, 20);
});

test("steps stand in order with their times since the offer, and what they were done with", () => {
  const { steps } = stuckAfter("nominated", 500);
  assert.deepEqual(steps.slice(0, 6), [
    { step: "offer", ms: 0 },
    { step: "codecs", ms: 10, detail: "h264 opus" },
    { step: "candidates", ms: 20, detail: "UDP 8000 at 203.0.113.7" },
    { step: "stun", ms: 30, detail: "from 198.51.100.1:4000 over UDP to 10.0.0.5:8000" },
    { step: "nominated", ms: 40, detail: "from 198.51.100.1:4000 over UDP to 10.0.0.5:8000" },
    { step: "dtls-started", ms: null },
  ]);
  assert.deepEqual(
    stuckAfter("nominated", 500, { role: "check" }).steps.map(({ step }) => step),
    STEPS.slice(0, 5),
  );
});

test("a step that happens again keeps its first time", () => {
  const trace = new SessionTrace(0);
  trace.note("stun", 5);
  trace.note("stun", 9);
  assert.equal(trace.at("stun"), 5);
  assert.equal(trace.at("offer"), undefined);
});

test("warns when only some can reach what is announced", () => {
  assert.match(scopeWarning([at("127.0.0.1")], undefined) ?? "", /own machine/);
  assert.match(
    scopeWarning([at("10.0.0.5"), at("127.0.0.1")], undefined) ?? "",
    /own network.*UDP 8000 at 10\.0\.0\.5, 127\.0\.0\.1/,
  );
  assert.match(scopeWarning([at("10.0.0.5")], "198.51.100.1") ?? "", /came from 198\.51\.100\.1/);
  assert.match(scopeWarning([at("127.0.0.1")], "192.168.1.2") ?? "", /own machine/);
  assert.equal(scopeWarning([at("10.0.0.5")], "192.168.1.2"), undefined);
  assert.equal(scopeWarning([at("127.0.0.1")], "127.0.0.1"), undefined);
  assert.equal(scopeWarning([at("10.0.0.5"), at("203.0.113.7")], "198.51.100.1"), undefined);
  assert.equal(scopeWarning([at("gw.example")], undefined), undefined);
  assert.equal(scopeWarning([], undefined), undefined);
  assert.equal(stuckAfter("candidates", 100, { candidates: [at("10.0.0.5")] }).warnings.length, 1);
});

test("the archive keeps what has ended for two minutes, and two hundred at most", () => {
  const archive = new DiagnosisArchive();
  const diagnosis = stuckAfter("report", 60_000);
  archive.add(0, "first", diagnosis);
  assert.equal(archive.find(119_000, "first"), diagnosis);
  assert.equal(archive.find(121_000, "first"), undefined);
  for (let index = 0; index < 300; index++) archive.add(1_000, `s${index}`, diagnosis);
  assert.equal(archive.find(1_000, "first"), undefined);
  assert.equal(archive.find(1_000, "s99"), undefined);
  assert.equal(archive.find(1_000, "s100"), diagnosis);
  assert.equal(archive.find(1_000, "s299"), diagnosis);
});
