// A WHEP viewer (draft-ietf-wish-whep) that keeps trying: it waits for a publisher, and comes back after an interruption.

import { readSnapshot, summarise } from "./media-stats.js";
import { CONNECT_TIMEOUT, hasEnded, makeWaker, SessionClient, stepOf } from "./session-client.js";

/** Milliseconds without a byte before the session is asked for. */
const SILENCE = 2_500;

/**
 * @typedef {"stopped" | "asking" | "waiting" | "connecting" | "securing" | "buffering" | "playing" | "paused" | "lost" | "failed"} State
 *
 * stopped: by the user, or not begun. asking: the offer is on its way. waiting: nobody publishes yet. connecting: ICE.
 * securing: DTLS. buffering: connected, no picture or sound yet. playing. paused: nothing comes any more, the session still stands.
 * lost: will try again. failed: will not.
 */
export class WhepClient extends SessionClient {
  #video;

  /**
   * @param {HTMLVideoElement} video shows the stream
   * @param {import("./signaling.js").Signaling} [signaling] default: WHEP
   */
  constructor(video, signaling) {
    super(signaling);
    this.#video = video;
  }

  async attempt(url, signal) {
    const began = performance.now();
    const pc = this.#open();
    const offer = await pc.createOffer();
    offer.sdp = askForStereo(offer.sdp);
    await pc.setLocalDescription(offer);
    // No waiting for candidates: the gateway learns where we are from the first packet we send.
    const outcome = await this.exchange(pc, url, signal);
    return outcome === true ? await this.#watch(pc, url, began, signal) : outcome;
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
      this.enter("playing", { url });
    };
    this.#video.requestVideoFrameCallback?.(played);
    const wake = makeWaker(pc);
    try {
      for (;;) {
        await wake.sleep(1_000, signal);
        if (signal.aborted) return { state: "stopped" };
        if (hasEnded(pc)) {
          const reason = hadMedia ? "The gateway ended the connection." : "The connection could not be made.";
          return { state: "lost", reason, hadMedia, candidates, step: viewStep(pc), retryAfter: hadMedia ? 300 : undefined };
        }
        if (pc.connectionState !== "connected" && performance.now() > connectBy && !hadMedia) {
          return { state: "lost", reason: "No connection came about.", candidates, step: viewStep(pc) };
        }
        if (!hadMedia) this.enter(viewStep(pc), { url, candidates });

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
        if (hadMedia) this.enter(isSilent ? "paused" : "playing", { url });
        if (pc.connectionState === "connected" && !isSilent) continue;
        // Silence: a publisher that pauses, or a gateway that has forgotten us.
        if ((pc.connectionState === "connected" || hadMedia) && (await this.signaling.isGone(this.session, signal))) {
          return { state: "lost", reason: "The gateway no longer has this session.", hadMedia, retryAfter: 0 };
        }
      }
    } finally {
      wake.end();
    }
  }
}

/** @returns {State} how far a connection has come */
function viewStep(pc) {
  const step = stepOf(pc);
  return step === "connected" ? "buffering" : step;
}

/** Browsers let a page play sound only after a click; muted they always let it. */
function playAnyhow(video) {
  video.play()?.catch((error) => {
    if (error.name !== "NotAllowedError" || video.muted) return;
    video.muted = true;
    video.play()?.catch(() => {});
  });
}

/** Browsers decode Opus to mono unless the offer asks for two channels (RFC 7587 section 6.1). */
export function askForStereo(sdp) {
  const payloadType = /^a=rtpmap:(\d+) opus\/48000\/2/im.exec(sdp)?.[1];
  if (payloadType === undefined) return sdp;
  return sdp.replace(new RegExp(`^(a=fmtp:${payloadType} (?!.*stereo=)[^\\r\\n]*)`, "m"), "$1;stereo=1");
}
