// What was the matter with sessions that have ended, for a page or a tool that asks a moment later.

import type { Diagnosis } from "./diagnosis.js";

export class DiagnosisArchive {
  readonly #entries = new Map<string, { readonly diagnosis: Diagnosis; readonly until: number }>();

  /** @param now milliseconds of the engine's clock */
  add(now: number, sessionId: string, diagnosis: Diagnosis): void {
    for (const [id, { until }] of this.#entries) {
      if (until > now && this.#entries.size < MAX_ENTRIES) break; // the oldest come first
      this.#entries.delete(id);
    }
    this.#entries.set(sessionId, { diagnosis, until: now + KEPT });
  }

  find(now: number, sessionId: string): Diagnosis | undefined {
    const entry = this.#entries.get(sessionId);
    return entry !== undefined && entry.until > now ? entry.diagnosis : undefined;
  }
}

const KEPT = 120_000; // ms
const MAX_ENTRIES = 200; // of about 2 KiB
