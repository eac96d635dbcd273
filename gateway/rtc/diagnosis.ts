// The doctor: how far a session came, where it stopped, and the likely cause in plain words. Pure: facts in, words out.
// The session notes what happens in a SessionTrace; `diagnose` is asked whenever somebody wants to know.

import { isLoopback, scopeOf } from "./address.js";
import type { Candidate } from "./sdp-answer.js";

/** The way of a session, in order. */
export const STEPS = [
  "offer", // read
  "codecs", // agreed on
  "candidates", // sent in the answer
  "stun", // the first check signed with our password
  "nominated", // the peer chose a path
  "dtls-started",
  "dtls-done",
  "fingerprint", // the peer's certificate is the one of its offer
  "media", // first packet sent to a viewer, or received from a publisher
  "report", // first report of the peer: receiver report of a viewer, sender report of a publisher
] as const;
export type Step = (typeof STEPS)[number];

/** Where a check came from and where it arrived, `198.51.100.1:4000` and `10.0.0.5:8000`; `to` is empty when unknown. */
export type Path = { readonly from: string; readonly to: string; readonly transport: "udp" | "tcp" };

/** What a session remembers of its way; small, since every session has one for life. */
export class SessionTrace {
  /** The first signed check, and the path that was chosen last. */
  heard: Path | undefined;
  chosen: Path | undefined;
  /** Checks by our user name that were not signed with our password, and those that claimed our role. */
  unsigned = 0;
  conflicts = 0;
  /** Why DTLS failed. */
  dtlsFailure: string | undefined;
  readonly began: number;
  readonly #at: number[] = [];

  /** @param now milliseconds of the engine's clock at which the offer came */
  constructor(now: number) {
    this.began = now;
  }

  /** Only the first time counts. */
  note(step: Step, now: number): void {
    this.#at[STEPS.indexOf(step)] ??= now;
  }

  /** @returns milliseconds of the engine's clock; undefined while it has not happened */
  at(step: Step): number | undefined {
    return this.#at[STEPS.indexOf(step)];
  }
}

export type SessionFacts = {
  readonly role: "viewer" | "publisher" | "check";
  /** The address that the offer came from; a proxy's when there is one. */
  readonly client: string;
  /** Agreed on, `h264 opus`. */
  readonly codecs: string;
  readonly candidates: readonly Candidate[];
  /** Ports that our own sockets have, for candidates that name another. */
  readonly ownPorts: { readonly udp: readonly number[]; readonly tcp: readonly number[] };
  /** Times when the media side saw its first packet and report. */
  readonly mediaAt: number | undefined;
  readonly reportAt: number | undefined;
  /** Authentic packets came last at this time. */
  readonly heardAt: number;
  /** Datagrams that were forged, replayed, or made no sense. */
  readonly discarded: number;
  /** Whether somebody publishes the stream; true for a publisher. */
  readonly isLive: boolean;
  /** Why the session ended; undefined while it runs. */
  readonly ended: string | undefined;
};

export type Verdict =
  | "ok"
  | "in-progress" // nothing is late yet
  | "check-ok"
  | "loopback-candidates"
  | "private-candidates"
  | "unreachable"
  | "wrong-credentials"
  | "role-conflict"
  | "not-nominated"
  | "no-handshake"
  | "handshake-stuck"
  | "fingerprint-mismatch"
  | "handshake-failed"
  | "not-live"
  | "nothing-to-send"
  | "nothing-received"
  | "packets-rejected"
  | "no-report"
  | "silent"
  | "ended";

export type Diagnosis = {
  /** A stable word. */
  readonly verdict: Verdict;
  /** The step that is missing; null when none is. */
  readonly stopped_at: Step | null;
  /** What is the matter, a sentence for anybody; and what to do about it, empty when nothing. */
  readonly cause: string;
  readonly advice: string;
  /** What may become a problem, known before anything has failed. */
  readonly warnings: readonly string[];
  /** In order. `ms` since the offer, null when it has not happened; `detail` says with what or whom. */
  readonly steps: readonly { readonly step: Step; readonly ms: number | null; readonly detail?: string }[];
  /** Why the session ended. */
  readonly ended?: string;
};

/** @param now milliseconds of the engine's clock */
export function diagnose(now: number, trace: SessionTrace, facts: SessionFacts): Diagnosis {
  const timeOf = (step: Step): number | undefined =>
    step === "media" ? facts.mediaAt : step === "report" ? facts.reportAt : trace.at(step);
  const steps = STEPS.filter((step) => facts.role !== "check" || CHECK_STEPS.has(step)).map((step) => {
    const at = timeOf(step);
    const detail = at === undefined ? undefined : detailOf(step, trace, facts);
    return { step, ms: at === undefined ? null : Math.round((at - trace.began) * 10) / 10, ...(detail && { detail }) };
  });
  const finding = find(now, trace, facts);
  const warning = scopeWarning(facts.candidates, facts.client);
  const { ended } = facts;
  return {
    verdict: finding.verdict,
    stopped_at: finding.stoppedAt ?? null,
    cause: finding.cause,
    advice: finding.advice ?? "",
    warnings: warning === undefined ? [] : [warning],
    steps,
    ...(ended !== undefined && { ended }),
  };
}

/**
 * What is to be said when nobody outside this machine, or its network, can reach what is announced.
 *
 * @param client undefined: nobody has come yet
 */
export function scopeWarning(candidates: readonly Candidate[], client: string | undefined): string | undefined {
  const scopes = new Set(candidates.map(({ address }) => scopeOf(address)));
  if (scopes.size === 0 || scopes.has("public") || scopes.has("name")) return undefined;
  const from = client === undefined ? undefined : scopeOf(client);
  if (from === "loopback" || (from === "private" && scopes.has("private"))) return undefined;
  const list = addressesOf(candidates);
  const reach = scopes.has("private") ? "in this gateway's own network" : "on this gateway's own machine";
  const who = client === undefined ? "" : `, and this client came from ${client}`;
  return `Only clients ${reach} can reach what is announced (${list})${who}.`;
}

type Finding = { verdict: Verdict; stoppedAt?: Step; cause: string; advice?: string };

function find(now: number, trace: SessionTrace, facts: SessionFacts): Finding {
  /** True when what is missing is not just under way. */
  const isLate = (since: number, patience = PATIENCE): boolean => now - since >= patience;
  const heardAt = trace.at("stun");
  if (heardAt === undefined) {
    if (trace.unsigned > 0) return wrongCredentials(trace);
    if (trace.conflicts > 0) return roleConflict();
    const sentAt = trace.at("candidates") ?? trace.began;
    return isLate(sentAt) ? notHeard(facts) : underWay("stun", "Waiting for this client's first packet.");
  }
  const path = pathText(trace.heard);
  if (facts.role === "check") return { verdict: "check-ok", cause: `Checks get through: one came ${path} and was answered.` };

  const nominatedAt = trace.at("nominated");
  if (nominatedAt === undefined) {
    if (trace.conflicts > 0) return roleConflict();
    if (!isLate(heardAt)) return underWay("nominated", `Checks come ${path}.`);
    return {
      verdict: "not-nominated",
      stoppedAt: "nominated",
      cause: `Checks come ${path} and are answered, but this client has chosen no path: the answers do not get back to it.`,
      advice:
        "Does a firewall let this gateway's answers out, and do they leave from the address that was asked? With Docker, publish the port " +
        "(-p) or use --network host.",
    };
  }
  const chosen = pathText(trace.chosen ?? trace.heard);
  const isHandshakeOver = trace.at("dtls-done") !== undefined;
  if (!isHandshakeOver && trace.dtlsFailure !== undefined) return handshakeFailed(trace.dtlsFailure);
  const startedAt = trace.at("dtls-started");
  if (startedAt === undefined) {
    if (!isLate(nominatedAt)) return underWay("dtls-started", `The path stands: ${chosen}.`);
    return {
      verdict: "no-handshake",
      stoppedAt: "dtls-started",
      cause: `Packets come ${chosen}, but this client has not begun the encrypted handshake (DTLS).`,
      advice: `Its first packets are bigger than checks: ${MTU_ADVICE}`,
    };
  }
  if (!isHandshakeOver) {
    if (!isLate(startedAt)) return underWay("dtls-done", `The handshake is under way ${chosen}.`);
    return {
      verdict: "handshake-stuck",
      stoppedAt: "dtls-done",
      cause: `The encrypted handshake (DTLS) began ${chosen} and did not end.`,
      advice: MTU_ADVICE,
    };
  }
  return mediaFinding(now, trace, facts, isLate);
}

function mediaFinding(
  now: number,
  trace: SessionTrace,
  facts: SessionFacts,
  isLate: (since: number, patience?: number) => boolean,
): Finding {
  const { mediaAt, reportAt, role, ended } = facts;
  const doneAt = trace.at("dtls-done") ?? trace.began;
  const chosen = pathText(trace.chosen ?? trace.heard);
  if (mediaAt === undefined) {
    if (!isLate(doneAt)) return underWay("media", `Connected ${chosen}.`);
    if (role === "viewer") {
      return facts.isLive
        ? {
            verdict: "nothing-to-send",
            stoppedAt: "media",
            cause: `Connected ${chosen}, but the publisher sends nothing that could be shown.`,
            advice: "It may have paused, or has not sent a key frame yet.",
          }
        : { verdict: "not-live", stoppedAt: "media", cause: `Connected ${chosen}; nobody publishes this stream yet.` };
    }
    if (facts.discarded >= REJECTED) {
      return {
        verdict: "packets-rejected",
        stoppedAt: "media",
        cause: `Connected ${chosen}, but what comes cannot be decrypted: ${facts.discarded} packets were thrown away.`,
        advice: "The client uses other keys than it agreed on: most likely a fault of its WebRTC library.",
      };
    }
    return {
      verdict: "nothing-received",
      stoppedAt: "media",
      cause: `Connected ${chosen}, but this client sends neither picture nor sound.`,
      advice: "Is its camera or screen really on, and not muted or paused?",
    };
  }
  if (ended !== undefined) return { verdict: "ended", cause: `It worked, and has ended: ${ended}.` };
  if (now - facts.heardAt >= SILENCE) {
    return {
      verdict: "silent",
      cause: `It worked, but for ${Math.round((now - facts.heardAt) / 1000)} s nothing has come from this client.`,
      advice: "Its network is gone or has changed, or it was closed without a word.",
    };
  }
  if (role === "viewer" && reportAt === undefined && isLate(mediaAt, REPORT_PATIENCE)) {
    return {
      verdict: "no-report",
      stoppedAt: "report",
      cause: `Media is sent ${chosen.replace("from", "to")}, but this client reports nothing received.`,
      advice:
        "Packets of media are bigger than all before: something on the way may drop them, or its bandwidth is far too small.",
    };
  }
  return { verdict: "ok", cause: `Connected ${chosen}; ${role === "viewer" ? "media is being sent" : "media comes in"}.` };
}

function underWay(stoppedAt: Step, cause: string): Finding {
  return { verdict: "in-progress", stoppedAt, cause };
}

function notHeard(facts: SessionFacts): Finding {
  const { candidates, client, ownPorts } = facts;
  const list = addressesOf(candidates);
  const name =
    "Name an address of this gateway that the client can reach: rtc_server { candidate ADDRESS; } (CANDIDATE in a container), or ?eip=ADDRESS.";
  const scopes = new Set(candidates.map(({ address }) => scopeOf(address)));
  const isPublicOrNamed = scopes.has("public") || scopes.has("name");
  if (!isPublicOrNamed && !scopes.has("private") && !isLoopback(client)) {
    return {
      verdict: "loopback-candidates",
      stoppedAt: "stun",
      cause: `The server never heard from this client: it announced only ${list}, which for a client at ${client} is the client's own machine.`,
      advice: name,
    };
  }
  if (!isPublicOrNamed && scopeOf(client) === "public") {
    return {
      verdict: "private-candidates",
      stoppedAt: "stun",
      cause: `The server never heard from this client: it announced only ${list}, which nobody outside its own network can reach, and this client came from ${client}.`,
      advice: name,
    };
  }
  const ports = (transport: "udp" | "tcp"): number[] => [
    ...new Set(candidates.filter((one) => one.transport === transport).map(({ port }) => port)),
  ];
  const udp = ports("udp");
  const tcp = ports("tcp");
  const open = [...udp.map((port) => `UDP ${port}`), ...tcp.map((port) => `TCP ${port}`)].join(" and ");
  const advice = [
    `Is that address this gateway's, seen from where the client is, and is ${open} open there and in every firewall between?`,
  ];
  for (const [transport, announced, own] of [
    ["UDP", udp, ownPorts.udp],
    ["TCP", tcp, ownPorts.tcp],
  ] as const) {
    const other = announced.find((port) => !own.includes(port));
    if (other !== undefined && own.length > 0)
      advice.push(`${transport} ${other} must be forwarded to the gateway's own ${transport} ${own[0]}.`);
  }
  if (candidates.length > 0 && !isPublicOrNamed) advice.push(`Behind NAT or in a container it is not: ${name}`);
  if (udp.length > 0 && tcp.length === 0) {
    advice.push("Where UDP is blocked altogether, offer TCP too: rtc_server { protocol all; tcp { enabled on; } }.");
  }
  return {
    verdict: "unreachable",
    stoppedAt: "stun",
    cause: `The server never heard from this client on ${list}.`,
    advice: advice.join(" "),
  };
}

function wrongCredentials({ unsigned }: SessionTrace): Finding {
  return {
    verdict: "wrong-credentials",
    stoppedAt: "stun",
    cause: `${unsigned === 1 ? "A check" : `${unsigned} checks`} for this session came, but not signed with its password.`,
    advice:
      "The client uses the answer to another offer, or something between has changed ice-ufrag or ice-pwd of offer or answer.",
  };
}

function roleConflict(): Finding {
  return {
    verdict: "role-conflict",
    stoppedAt: "nominated",
    cause:
      "This client leaves the choice of the path to the server (ICE-CONTROLLED) and goes on doing so when it is told not to.",
    advice: "The server is ICE-lite, so the client must control (RFC 8445 section 6.1.1): a fault of its WebRTC library.",
  };
}

function handshakeFailed(reason: string): Finding {
  if (/fingerprint/i.test(reason)) {
    return {
      verdict: "fingerprint-mismatch",
      stoppedAt: "fingerprint",
      cause: "The client's certificate is not the one its offer names, so it may be somebody else: the server hung up.",
      advice: "Something between has changed the offer, or the client sent one offer and connected with another.",
    };
  }
  return {
    verdict: "handshake-failed",
    stoppedAt: "dtls-done",
    cause: `The encrypted handshake (DTLS) failed: ${reason}.`,
    advice: "For clients too old for ECDSA: rtc_server { ecdsa off; }.",
  };
}

function detailOf(step: Step, trace: SessionTrace, { codecs, candidates }: SessionFacts): string | undefined {
  switch (step) {
    case "codecs":
      return codecs;
    case "candidates":
      return addressesOf(candidates);
    case "stun":
      return pathText(trace.heard);
    case "nominated":
      return pathText(trace.chosen);
    default:
      return undefined;
  }
}

/** `UDP 8000 at 203.0.113.7, 10.0.0.5 and TCP 443 at 203.0.113.7`. */
export function addressesOf(candidates: readonly Candidate[]): string {
  const groups = new Map<string, string[]>();
  for (const { transport, address, port } of candidates) {
    const key = `${transport.toUpperCase()} ${port}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [address]);
    else group.push(address);
  }
  return [...groups].map(([key, addresses]) => `${key} at ${addresses.join(", ")}`).join(" and ") || "no address";
}

/** `from 198.51.100.1:4000 over UDP to 10.0.0.5:8000`. */
function pathText(path: Path | undefined): string {
  if (path === undefined) return "";
  return `from ${path.from} over ${path.transport.toUpperCase()}${path.to === "" ? "" : ` to ${path.to}`}`;
}

const CHECK_STEPS: ReadonlySet<Step> = new Set(["offer", "codecs", "candidates", "stun", "nominated"]);
const MTU_ADVICE =
  "something on the way drops large packets (the MTU of a VPN or tunnel, a firewall that drops fragments or what it does not know).";
const PATIENCE = 2_000; // ms; a browser begins its checks at once and repeats them several times a second
const REPORT_PATIENCE = 6_000; // ms; receivers report at least every 5 s (RFC 3550 section 6.2)
const SILENCE = 8_000; // ms; a peer that is there checks its path every few seconds (RFC 7675 section 5.1)
const REJECTED = 20; // packets; a few come out of order around the handshake
