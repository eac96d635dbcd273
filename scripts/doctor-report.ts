// The doctor's findings as a table and a verdict. Pure.

import type { Walk, WalkStep } from "./doctor-walk.js";

/** The table and the verdict, in lines; `isWell` is what the exit code says. */
export function report(url: string, walks: readonly Walk[]): { readonly lines: readonly string[]; readonly isWell: boolean } {
  const lines = [`${url}`, ""];
  for (const { transport, steps } of walks) {
    lines.push(transport.toUpperCase(), ...steps.map(stepLine), "");
  }
  const isWell = walks.some(({ outcome }) => outcome === "media" || outcome === "path");
  lines.push(...verdict(walks));
  return { lines, isWell };
}

function stepLine({ what, state, ms, detail = "" }: WalkStep): string {
  const time = ms === undefined ? "" : `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  return `  ${MARKS[state]}  ${what.padEnd(34)} ${time.padStart(8)}  ${detail}`.trimEnd();
}

function verdict(walks: readonly Walk[]): string[] {
  const failedBefore = walks.find(
    ({ steps }) => steps.every(({ state }) => state !== "ok") && steps.some(({ state }) => state === "failed"),
  );
  if (failedBefore !== undefined && walks.every(({ outcome }) => outcome === "failed")) {
    const step = failedBefore.steps.find(({ state }) => state === "failed");
    return [`Verdict: the gateway gives no answer to work with: ${step?.detail ?? ""}`];
  }
  const lines = walks.map(verdictOf);
  for (const { transport, outcome, gateway } of walks) {
    if (outcome !== "failed" || gateway === undefined) continue;
    lines.push(`The gateway says of ${transport.toUpperCase()}: ${gateway.cause} ${gateway.advice}`.trimEnd());
  }
  return lines;
}

function verdictOf({ transport, outcome, steps }: Walk): string {
  const name = transport.toUpperCase();
  if (outcome === "media") return `Verdict: ${name} works, media comes.`;
  if (outcome === "path") return `Verdict: ${name} gets through; media was not asked for.`;
  if (outcome === "failed") return `Verdict: ${name} fails at: ${steps.find(isBlocking(steps))?.what ?? "an unknown step"}.`;
  return transport === "tcp"
    ? "Verdict: TCP is not offered: rtc_server { protocol all; tcp { enabled on; } } helps whose network blocks UDP."
    : "Verdict: UDP is not offered.";
}

/** The failed step that nothing got past: of several candidates one may rightly fail. */
function isBlocking(steps: readonly WalkStep[]): (step: WalkStep) => boolean {
  const isStun = ({ what }: WalkStep): boolean => what.startsWith("STUN");
  const hasPath = steps.some((step) => isStun(step) && step.state === "ok");
  return (step) => step.state === "failed" && !(hasPath && isStun(step));
}

const MARKS = { ok: "ok  ", failed: "FAIL", skipped: "--  " } as const;
