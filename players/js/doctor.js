// Asks the gateway what is the matter when a connection takes long: it knows what came through, and what did not.

import { within } from "./timing.js";

/** Milliseconds of waiting after which the gateway is asked, and between questions. */
const ASK_AFTER = 2_500;
const ASK_AGAIN = 2_000;
/** States in which there is something to find out. */
const OPEN = new Set(["connecting", "securing", "buffering"]);

export class Doctor {
  #client;
  #onNews;
  /** What was asked, and answered, last. */
  #url;
  #findings;
  #askedAt = Number.NEGATIVE_INFINITY;
  #isAsking = false;

  /**
   * @param {import("./session-client.js").SessionClient} client
   * @param {() => void} onNews there are other words than before
   */
  constructor(client, onNews) {
    this.#client = client;
    this.#onNews = onNews;
  }

  /**
   * To be called now and then. @returns {{ verdict: string, cause: string, advice: string } | undefined} what is the matter, as far as
   * it is known
   */
  look() {
    const { state, since, diagnosis: url } = this.#client;
    if (url !== this.#url) {
      this.#url = url;
      this.#findings = undefined;
    }
    const now = performance.now();
    const isDue = now - since >= ASK_AFTER && now - this.#askedAt >= ASK_AGAIN && !this.#isAsking;
    if (url !== undefined && OPEN.has(state) && isDue) this.#ask(url, now);
    const { verdict } = this.#findings ?? {};
    return verdict === undefined || verdict === "ok" || verdict === "in-progress" ? undefined : this.#findings;
  }

  async #ask(url, now) {
    this.#askedAt = now;
    this.#isAsking = true;
    try {
      const findings = await within(2_000, new AbortController().signal, async (signal) => {
        const response = await fetch(url, { signal });
        return response.ok ? await response.json() : undefined;
      });
      if (url !== this.#url || typeof findings?.cause !== "string") return;
      this.#findings = findings;
      this.#onNews();
    } catch {
      // The page's own words will do.
    } finally {
      this.#isAsking = false;
    }
  }
}

/** @returns {string | undefined} the doctor's words for the person in front of this browser */
export function findingText(findings) {
  return findings && `${findings.cause} ${findings.advice ?? ""}`.replaceAll("this client", "this browser").trim();
}
