// A WHEP viewer (draft-ietf-wish-whep) that keeps trying: it waits for a publisher, and comes back after an interruption.

import { readSnapshot, summarise } from "./media-stats.js";

/** Milliseconds without an answer to a POST; from the answer to a connection; without a byte before the session is asked for. */
const ANSWER_TIMEOUT = 10_000;
const CONNECT_TIMEOUT = 15_000;
const SILENCE = 2_500;
/** Milliseconds between tries when the gateway does not say, growing. */
const BACKOFF = [500, 1_000, 2_000, 3_000, 5_000];

/**
 * @typedef {"stopped" | "asking" | "waiting" | "connecting" | "securing" | "buffering" | "playing" | "paused" | "lost" | "failed"} State
 *
 * stopped: by the user, or not begun. asking: the offer is on its way. waiting: nobody publishes yet. connecting: ICE.
 * securing: DTLS. buffering: connected, no picture or sound yet. playing. paused: nothing comes any more, the session still stands.
 * lost: will try again. failed: will not.
 *
 * Events: `state`, and `stats` once a second while a connection is there.
 */
export class WhepClient extends EventTarget {
  /** @type {State} */
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
  /** Milliseconds from the start of the attempt to the first picture (or sound). @type {number | undefined} */
  joinTime;
  #video;
  #stopping;

  /** @param {HTMLVideoElement} video shows the stream */
  constructor(video) {
    super();
    this.#video = video;
  }

  /** Plays that URL until `stop`; a stream that plays already is stopped first. @param {string} url */
  start(url) {
    this.stop();
    this.#stopping = new AbortController();
    this.#run(url, this.#stopping.signal);
  }

  /** Ends the session and tells the gateway, also while the page is going away. */
  stop() {
    this.#stopping?.abort();
    this.#stopping = undefined;
    this.#leave();
    this.#enter("stopped", {});
  }

  async #run(url, signal) {
    for (let failures = 0; !signal.aborted; ) {
      const outcome = await this.#attempt(url, signal).catch((error) => ({
        state: "failed",
        reason: String(error?.message ?? error),
      }));
      if (signal.aborted) return;
      this.#leave();
      failures = outcome.hadMedia ? 0 : failures + 1;
      const delay = outcome.retryAfter ?? BACKOFF[Math.min(failures, BACKOFF.length) - 1] ?? 0;
      this.#enter(outcome.state, { url, ...outcome, retryAt: performance.now() + delay });
      if (outcome.state === "failed") return;
      await sleep(delay, signal);
    }
  }

  /** One session from offer to end. @returns what state it leaves, and why */
  async #attempt(url, signal) {
    if (typeof RTCPeerConnection === "undefined") return { state: "failed", reason: "This browser has no WebRTC." };
    const began = performance.now();
    this.joinTime = undefined;
    if (this.state !== "waiting" && this.state !== "lost") this.#enter("asking", { url }); // those keep their words until there are news
    const pc = this.#open();
    const offer = await pc.createOffer();
    offer.sdp = askForStereo(offer.sdp);
    await pc.setLocalDescription(offer);

    // No waiting for candidates: the gateway learns where we are from the first packet we send.
    const answer = await post(url, pc.localDescription.sdp, signal);
    if (signal.aborted) return discard(answer.session);
    if (answer.sdp === undefined) return answer;
    this.session = answer.session;
    this.#enter("connecting", { url, candidates: candidatesOf(answer.sdp) });
    await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    return await this.#watch(pc, url, began, signal);
  }

  #open() {
    const pc = new RTCPeerConnection();
    this.pc = pc;
    const stream = new MediaStream();
    pc.addTransceiver("video", { direction: "recvonly" });
    pc.addTransceiver("audio", { direction: "recvonly" });
    pc.addEventListener("track", ({ track }) => {
      stream.addTrack(track);
      // Not before: an element with an empty stream keeps the page from being "loaded" while nobody publishes.
      if (this.#video.srcObject !== stream) this.#video.srcObject = stream;
      playAnyhow(this.#video);
    });
    return pc;
  }

  /** Follows a connection to its end. */
  async #watch(pc, url, began, signal) {
    let hadMedia = false;
    let before;
    let lastBytes = 0;
    let lastByteAt = performance.now();
    const connectBy = performance.now() + CONNECT_TIMEOUT;
    const { candidates } = this.detail;

    const played = () => {
      if (hadMedia || this.pc !== pc) return;
      hadMedia = true;
      this.joinTime = performance.now() - began;
      this.#enter("playing", { url });
    };
    this.#video.requestVideoFrameCallback?.(played);
    const wake = makeWaker(pc);
    try {
      for (;;) {
        await wake.sleep(1_000, signal);
        if (signal.aborted) return { state: "stopped" };
        const transport = pc.getReceivers()[0]?.transport;
        if (
          pc.connectionState === "failed" ||
          pc.connectionState === "closed" ||
          transport?.state === "closed" ||
          transport?.state === "failed"
        ) {
          const reason = hadMedia ? "The gateway ended the connection." : "The connection could not be made.";
          return { state: "lost", reason, hadMedia, candidates, step: stepOf(pc), retryAfter: hadMedia ? 300 : undefined };
        }
        if (pc.connectionState !== "connected" && performance.now() > connectBy && !hadMedia) {
          return { state: "lost", reason: "No connection came about.", candidates, step: stepOf(pc) };
        }
        if (!hadMedia) this.#enter(stepOf(pc), { url, candidates });

        const now = readSnapshot(await pc.getStats());
        if (this.pc !== pc) return { state: "stopped" };
        this.stats = summarise(now, before);
        if (before === undefined || now.at - before.at >= 900) before = now;
        this.dispatchEvent(new Event("stats"));
        if (now.video?.framesDecoded > 0 || (now.audio?.packetsReceived > 50 && !now.video?.framesReceived)) played();

        const bytes = (now.video?.bytesReceived ?? 0) + (now.audio?.bytesReceived ?? 0);
        if (bytes !== lastBytes) lastByteAt = performance.now();
        lastBytes = bytes;
        const isSilent = performance.now() - lastByteAt >= SILENCE;
        if (hadMedia) this.#enter(isSilent ? "paused" : "playing", { url });
        if (pc.connectionState === "connected" && !isSilent) continue;
        // Silence: a publisher that pauses, or a gateway that has forgotten us.
        if ((pc.connectionState === "connected" || hadMedia) && (await isGone(this.session, signal))) {
          return { state: "lost", reason: "The gateway no longer has this session.", hadMedia, retryAfter: 0 };
        }
      }
    } finally {
      wake.end();
    }
  }

  #leave() {
    this.pc?.close();
    this.pc = undefined;
    discard(this.session);
    this.session = undefined;
  }

  #enter(state, detail) {
    if (state !== this.state) this.since = performance.now();
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("state"));
  }
}

/** Browsers let a page play sound only after a click; muted they always let it. */
function playAnyhow(video) {
  video.play()?.catch((error) => {
    if (error.name !== "NotAllowedError" || video.muted) return;
    video.muted = true;
    video.play()?.catch(() => {});
  });
}

/** @returns {State} how far a connection has come */
function stepOf(pc) {
  if (pc.connectionState === "connected") return "buffering";
  const ice = pc.iceConnectionState;
  return ice === "connected" || ice === "completed" ? "securing" : "connecting";
}

/** Sends the offer. @returns `{ sdp, session }`, or the outcome of the attempt */
async function post(url, sdp, signal) {
  let response;
  let body;
  try {
    response = await within(ANSWER_TIMEOUT, signal, async (either) => {
      const answered = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/sdp" },
        body: sdp,
        signal: either,
      });
      body = await answered.text();
      return answered;
    });
  } catch (error) {
    return {
      state: "lost",
      step: "asking",
      reason: error.name === "TimeoutError" ? "It did not answer in time." : "It cannot be reached.",
    };
  }
  if (response.status === 201) {
    const location = response.headers.get("Location");
    return { sdp: body, session: location === null ? undefined : new URL(location, response.url).href };
  }
  const problem = parseProblem(body);
  const { status } = response;
  const seconds = Number(response.headers.get("Retry-After"));
  const outcome = {
    status,
    title: problem.title ?? response.statusText,
    reason: problem.detail,
    ...(seconds > 0 && { retryAfter: seconds * 1000 }),
  };
  const isNotLive = status === 409 || problem.type === "urn:sluice:problem:not-live";
  if (isNotLive) return { state: "waiting", retryAfter: 2_000, ...outcome };
  return { state: status === 429 || status >= 500 ? "lost" : "failed", step: "asking", ...outcome };
}

function parseProblem(body) {
  try {
    return Object(JSON.parse(body));
  } catch {
    return {};
  }
}

/** @returns {Promise<boolean>} whether the gateway says that it has no such session, or is not there at all */
async function isGone(session, signal) {
  if (session === undefined) return false;
  try {
    const { status } = await within(2_000, signal, (either) => fetch(session, { signal: either }));
    return status === 404;
  } catch {
    return !signal.aborted;
  }
}

/** Ends a session at the gateway; outlives the page. */
function discard(session) {
  if (session !== undefined) fetch(session, { method: "DELETE", keepalive: true }).catch(() => {});
  return { state: "stopped" };
}

/** Browsers decode Opus to mono unless the offer asks for two channels (RFC 7587 section 6.1). */
export function askForStereo(sdp) {
  const payloadType = /^a=rtpmap:(\d+) opus\/48000\/2/im.exec(sdp)?.[1];
  if (payloadType === undefined) return sdp;
  return sdp.replace(new RegExp(`^(a=fmtp:${payloadType} (?!.*stereo=)[^\\r\\n]*)`, "m"), "$1;stereo=1");
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
  const transport = pc.getReceivers()[0]?.transport;
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

/** Resolves after `ms`, or when the signal aborts, or when what `onReady` was given is called. */
function sleep(ms, signal, onReady) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    onReady?.(end);
  });
}

/** Runs a request that ends with the signal, or with a TimeoutError. (AbortSignal.any is too young for some browsers.) */
async function within(ms, signal, request) {
  const either = new AbortController();
  const onAbort = () => either.abort(signal.reason);
  const timer = setTimeout(() => either.abort(new DOMException("no answer", "TimeoutError")), ms);
  signal.addEventListener("abort", onAbort);
  try {
    return await request(either.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
