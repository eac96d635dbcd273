// How an offer gets to the gateway and an answer back: WHIP and WHEP (RFC 9725, draft-ietf-wish-whep) by plain HTTP.

import { within } from "./timing.js";

/** Milliseconds without an answer to an offer. */
const ANSWER_TIMEOUT = 10_000;

/**
 * @typedef {object} Signaling
 * @property {(url: string, sdp: string, signal: AbortSignal) => Promise<Answer | Outcome>} offer never rejects
 * @property {(session: string | undefined, signal: AbortSignal) => Promise<boolean>} isGone whether the gateway has forgotten the session
 * @property {(session: string | undefined) => void} discard ends a session at the gateway; outlives the page
 *
 * @typedef {{ sdp: string, session?: string, diagnosis?: string }} Answer `session` is the URL of the session, `diagnosis` where the gateway
 * tells what it knows of its connection
 * @typedef {{ sdp?: undefined, session?: undefined, diagnosis?: undefined, step?: string, state: "waiting" | "busy" | "lost" | "failed", status?: number, title?: string, reason?: string, retryAfter?: number }} Outcome
 * what became of an offer that was not accepted; `retryAfter` in milliseconds. `failed` is not tried again.
 */

/** @type {Signaling} */
export const httpSignaling = {
  async offer(url, sdp, signal) {
    const { response, body, outcome } = await post(url, "application/sdp", sdp, signal);
    if (response === undefined) return outcome;
    if (response.status === 201) {
      const location = response.headers.get("Location");
      const [, diagnosis] = /<([^>]*)>\s*;[^,]*rel="?urn:sluice:doctor"?/.exec(response.headers.get("Link") ?? "") ?? [];
      return {
        sdp: body,
        session: location === null ? undefined : new URL(location, response.url).href,
        diagnosis: diagnosis === undefined ? undefined : new URL(diagnosis, response.url).href,
      };
    }
    const problem = parseObject(body);
    const { status } = response;
    const seconds = Number(response.headers.get("Retry-After"));
    const refused = {
      status,
      title: problem.title ?? response.statusText,
      reason: problem.detail,
      ...(seconds > 0 && { retryAfter: seconds * 1000 }),
    };
    if (problem.type === "urn:sluice:problem:busy") return { state: "busy", retryAfter: 5_000, ...refused };
    const isNotLive = status === 409 || problem.type === "urn:sluice:problem:not-live";
    if (isNotLive) return { state: "waiting", retryAfter: 2_000, ...refused };
    return { state: status === 429 || status >= 500 ? "lost" : "failed", step: "asking", ...refused };
  },

  async isGone(session, signal) {
    if (session === undefined) return false;
    try {
      const { status } = await within(2_000, signal, (either) => fetch(session, { signal: either }));
      return status === 404;
    } catch {
      return !signal.aborted;
    }
  },

  discard(session) {
    if (session !== undefined) fetch(session, { method: "DELETE", keepalive: true }).catch(() => {});
  },
};

/** @returns `{ response, body }`, or `{ outcome }` when nobody answered */
export async function post(url, type, content, signal) {
  try {
    return await within(ANSWER_TIMEOUT, signal, async (either) => {
      const response = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": type },
        body: content,
        signal: either,
      });
      return { response, body: await response.text() };
    });
  } catch (error) {
    const reason = error.name === "TimeoutError" ? "It did not answer in time." : "It cannot be reached.";
    return { outcome: { state: "lost", step: "asking", reason } };
  }
}

export function parseObject(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
