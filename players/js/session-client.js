// What a viewer and a publisher by WebRTC share: a session that is made again and again until somebody stops it.

import { readSnapshot } from "./media-stats.js";
import { httpSignaling } from "./signaling.js";
import { sleep } from "./timing.js";

/** Milliseconds from the answer to a connection. */
const CONNECT_TIMEOUT = 15_000;
/** Milliseconds that the browser may miss answers to its checks: after a change of networks a new session is quicker than its patience. */
const DISCONNECTED_TIMEOUT = 3_000;
/** Milliseconds between tries when the gateway does not say, growing. */
const BACKOFF = [500, 1_000, 2_000, 3_000, 5_000];

/**
 * Events: `state`, and `stats` once a second while a connection is there.
 *
 * Heirs have a method `attempt(url, signal)`.
 *
 * @typedef {import("./media-stats.js").Snapshot} Snapshot
 *
 * @typedef {object} Course what a viewer and a publisher see differently in the course of a session
 * @property {string} live the state while media flows
 * @property {string} silent the state while nothing comes, and the session still stands
 * @property {number} silence milliseconds without a byte from the gateway until it is asked whether it still has the session
 * @property {(pc: RTCPeerConnection) => string} step the state until media flows
 * @property {(now: Snapshot, pc: RTCPeerConnection) => boolean} hasMedia whether it flows now
 * @property {(now: Snapshot) => number} bytes those received
 * @property {(now: Snapshot, before: Snapshot | undefined) => object} summarise
 */
export class SessionClient extends EventTarget {
  state = "stopped";
  /** What there is to say about the state: `{ url, reason?, status?, title?, candidates?, retryAt? }`. */
  detail = {};
  /** When the state was entered, by performance.now(). */
  since = performance.now();
  /** @type {RTCPeerConnection | undefined} */
  pc;
  /** URL of the session at the gateway. @type {string | undefined} */
  session;
  /** The newest figures. */
  stats;
  /** Milliseconds from the start of the attempt to media that flows. @type {number | undefined} */
  joinTime;
  /** @type {import("./signaling.js").Signaling} */
  signaling;
  /** Where the gateway tells what it knows of this session's connection, when it does. @type {string | undefined} */
  diagnosis;
  #stopping;
  /** The network is back, perhaps another one: whatever stood over the old one is dead, and the browser takes its time to see that. */
  #onNetwork = () => this.restart();

  constructor(signaling = httpSignaling) {
    super();
    this.signaling = signaling;
  }

  /**
   * One session from offer to end.
   *
   * @param {string} _url @param {AbortSignal} _signal
   * @returns {Promise<any>} the state it leaves, and why
   */
  async attempt(_url, _signal) {
    return { state: "failed", reason: "nothing to do" };
  }

  /** Keeps a session with that URL until `stop`; one that runs already is stopped first. @param {string} url */
  start(url) {
    this.stop();
    this.#stopping = new AbortController();
    globalThis.addEventListener?.("online", this.#onNetwork);
    this.#run(url, this.#stopping.signal);
  }

  /** A new session for the same URL, if there is one. */
  restart() {
    const { url } = this.detail;
    if (this.state !== "stopped" && url !== undefined) this.start(url);
  }

  /** Ends the session and tells the gateway, also while the page is going away. */
  stop() {
    this.#stopping?.abort();
    this.#stopping = undefined;
    globalThis.removeEventListener?.("online", this.#onNetwork);
    this.#leave();
    this.enter("stopped", {});
  }

  async #run(url, signal) {
    for (let failures = 0; !signal.aborted; ) {
      const outcome = await this.#try(url, signal);
      if (signal.aborted) return;
      this.#leave();
      failures = outcome.hadMedia ? 0 : failures + 1;
      const delay = outcome.retryAfter ?? BACKOFF[Math.min(failures, BACKOFF.length) - 1] ?? 0;
      this.enter(outcome.state, { url, ...outcome, retryAt: performance.now() + delay });
      if (outcome.state === "failed") return;
      await sleep(delay, signal);
    }
  }

  async #try(url, signal) {
    if (typeof RTCPeerConnection === "undefined") return { state: "failed", reason: "This browser has no WebRTC." };
    this.joinTime = undefined;
    // Waiting states keep their words until there are news.
    if (!["waiting", "busy", "lost"].includes(this.state)) this.enter("asking", { url });
    try {
      return await this.attempt(url, signal);
    } catch (error) {
      return { state: "failed", reason: String(error?.message ?? error) };
    }
  }

  /** Sends the local description. @returns true when the answer is in place, else the outcome of the attempt */
  async exchange(pc, url, signal, change = (sdp) => sdp) {
    const answer = await this.signaling.offer(url, pc.localDescription.sdp, signal);
    if (signal.aborted) {
      this.signaling.discard(answer.session);
      return { state: "stopped" };
    }
    if (answer.sdp === undefined) return answer;
    this.session = answer.session;
    this.diagnosis = answer.diagnosis;
    this.enter("connecting", { url, candidates: candidatesOf(answer.sdp) });
    await pc.setRemoteDescription({ type: "answer", sdp: change(answer.sdp) });
    return true;
  }

  /**
   * Follows a connection to its end.
   *
   * @param {RTCPeerConnection} pc
   * @param {{ url: string, signal: AbortSignal, began: number }} attempt `began` by performance.now()
   * @param {Course} course
   * @param {(begin: () => void) => void} [onStart] gets what may be called once media flows
   */
  async follow(pc, { url, signal, began }, course, onStart) {
    let hadMedia = false;
    let before;
    let lastBytes = 0;
    let lastByteAt = performance.now();
    let connectedAt;
    const connectBy = performance.now() + CONNECT_TIMEOUT;
    const { candidates } = this.detail;
    const begin = () => {
      if (hadMedia || this.pc !== pc) return;
      hadMedia = true;
      this.joinTime = performance.now() - began;
      lastByteAt = performance.now();
      this.enter(course.live, { url });
    };
    onStart?.(begin);
    const wake = makeWaker(pc);
    try {
      for (;;) {
        await wake.sleep(1_000, signal);
        if (signal.aborted) return { state: "stopped" };
        if (hasEnded(pc)) {
          const reason = hadMedia ? "The gateway ended the connection." : "The connection could not be made.";
          const retryAfter = hadMedia ? 300 : undefined;
          return { state: "lost", reason, hadMedia, candidates, step: stepOf(pc), retryAfter };
        }
        const isConnected = pc.connectionState === "connected";
        if (isConnected) connectedAt = performance.now();
        if (!hadMedia && !isConnected && performance.now() > connectBy) {
          return { state: "lost", reason: "No connection came about.", candidates, step: stepOf(pc) };
        }
        if (!hadMedia) this.enter(course.step(pc), { url, candidates });

        const now = readSnapshot(await pc.getStats());
        if (this.pc !== pc) return { state: "stopped" };
        this.stats = course.summarise(now, before);
        if (before === undefined || now.at - before.at >= 900) before = now;
        this.dispatchEvent(new Event("stats"));
        if (course.hasMedia(now, pc)) begin();

        const bytes = course.bytes(now);
        if (bytes !== lastBytes) lastByteAt = performance.now();
        lastBytes = bytes;
        const isSilent = performance.now() - lastByteAt >= course.silence;
        if (hadMedia) this.enter(isSilent ? course.silent : course.live, { url });
        if (pc.connectionState === "connected" && !isSilent) continue; // asked anew: it may have come about meanwhile
        // Silence: a publisher that pauses, a gateway that has forgotten us, or another network.
        if ((isConnected || hadMedia) && (await this.signaling.isGone(this.session, signal))) {
          return { state: "lost", reason: "The gateway no longer has this session.", hadMedia, retryAfter: 0 };
        }
        if (connectedAt !== undefined && performance.now() - connectedAt > DISCONNECTED_TIMEOUT + 1_000) {
          return { state: "lost", reason: "No packet came back any more.", hadMedia, retryAfter: 0 };
        }
      }
    } finally {
      wake.end();
    }
  }

  /** Changes the state and tells the page. */
  enter(state, detail) {
    if (state !== this.state) this.since = performance.now();
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("state"));
  }

  #leave() {
    this.pc?.close();
    this.pc = undefined;
    this.signaling.discard(this.session);
    this.session = undefined;
  }
}

/** @returns {"connecting" | "securing" | "connected"} how far a connection has come */
export function stepOf(pc) {
  if (pc.connectionState === "connected") return "connected";
  const ice = pc.iceConnectionState;
  return ice === "connected" || ice === "completed" ? "securing" : "connecting";
}

/** @returns {boolean} whether a connection will never carry anything again */
function hasEnded(pc) {
  const states = [pc.connectionState, transportOf(pc)?.state];
  return states.includes("failed") || states.includes("closed");
}

function transportOf(pc) {
  return pc.getTransceivers().find(({ mid }) => mid !== null)?.receiver.transport ?? undefined;
}

/** Addresses in an answer, `192.0.2.1:8000 udp` each once. */
export function candidatesOf(sdp) {
  const found = sdp.matchAll(/^a=candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+)/gm);
  return [
    ...new Set(
      [...found].map(
        ([, protocol, address, port]) => `${address.includes(":") ? `[${address}]` : address}:${port} ${protocol.toLowerCase()}`,
      ),
    ),
  ];
}

/** Sleeps that a change of the connection's state cuts short. */
function makeWaker(pc) {
  let wake = () => {};
  const onChange = () => wake();
  const transport = transportOf(pc);
  for (const name of ["connectionstatechange", "iceconnectionstatechange"]) pc.addEventListener(name, onChange);
  transport?.addEventListener("statechange", onChange);
  return {
    sleep: (ms, signal) =>
      sleep(ms, signal, (early) => {
        wake = early;
      }),
    end: () => {
      for (const name of ["connectionstatechange", "iceconnectionstatechange"]) pc.removeEventListener(name, onChange);
      transport?.removeEventListener("statechange", onChange);
    },
  };
}
