// A WHEP viewer (draft-ietf-wish-whep) that keeps trying: it waits for a publisher, and comes back after an interruption.

import { summarise } from "./media-stats.js";
import { SessionClient, stepOf } from "./session-client.js";

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
    if (outcome !== true) return outcome;
    return await this.follow(pc, { url, signal, began }, COURSE, (begin) => this.#video.requestVideoFrameCallback?.(begin));
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
}

/** @type {import("./session-client.js").Course} */
const COURSE = {
  live: "playing",
  silent: "paused",
  silence: SILENCE,
  step: viewStep,
  hasMedia: ({ video, audio }) => video?.framesDecoded > 0 || (audio?.packetsReceived > 50 && !video?.framesReceived),
  bytes: ({ video, audio }) => (video?.bytesReceived ?? 0) + (audio?.bytesReceived ?? 0),
  summarise,
};

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
