// The older JSON signaling that SRS and its tools speak: one POST with offer and `webrtc://` address, one answer.

import { parseObject, post } from "./signaling.js";
import { within } from "./timing.js";

/** SRS's numbers for what a client can act on. */
const BUSY = 1028;
const NOT_LIVE = 2048;

/**
 * @param {"publish" | "play"} action
 * @param {(url: string) => string} apiOf the API's base address, with a final slash, for a `webrtc://` address
 * @returns {import("./signaling.js").Signaling}
 */
export function legacySignaling(action, apiOf) {
  return {
    async offer(url, sdp, signal) {
      const base = apiOf(url);
      const api = new URL(`rtc/v1/${action}/`, base).href;
      const tid = Math.random().toString(16).slice(2, 9);
      const body = JSON.stringify({ api, tid, clientip: null, streamurl: url, sdp });
      const { response, body: text, outcome } = await post(api, "application/json", body, signal);
      if (response === undefined) return outcome;
      const answer = parseObject(text);
      if (response.ok && answer.code === 0 && typeof answer.sdp === "string") {
        const session = sessionUrl(action, base, answer.sessionid);
        return { sdp: answer.sdp, session, diagnosis: session && `${session}/doctor` };
      }
      return refusal(response.status, answer);
    },

    // This signaling ends nothing, but the gateway's sessions are all alike: WHIP's and WHEP's address works too.
    async isGone(session, signal) {
      if (session === undefined) return false;
      try {
        const response = await within(2_000, signal, (either) => fetch(session, { signal: either }));
        return response.status === 404 && (response.headers.get("Content-Type") ?? "").includes("problem+json");
      } catch {
        return !signal.aborted;
      }
    },

    discard(session) {
      if (session !== undefined) fetch(session, { method: "DELETE", keepalive: true }).catch(() => {});
    },
  };
}

function sessionUrl(action, base, id) {
  if (typeof id !== "string" || !/^[\w-]{8,}$/.test(id)) return undefined;
  return new URL(`rtc/v1/${action === "publish" ? "whip" : "whep"}/${id}`, base).href;
}

function refusal(httpStatus, { code, error }) {
  const status = code ?? httpStatus;
  const words = { status, title: "The gateway refuses", reason: error ?? `HTTP ${httpStatus}` };
  if (code === BUSY) return { ...words, state: "busy", title: "Somebody else is publishing this stream", retryAfter: 5_000 };
  if (code === NOT_LIVE) return { ...words, state: "waiting", title: "Nobody is publishing this stream", retryAfter: 2_000 };
  return { ...words, state: status === 429 || (status >= 500 && status < 600) ? "lost" : "failed", step: "asking" };
}
