// A WHIP publisher (RFC 9725) that keeps trying: it waits while somebody else publishes, and comes back after an interruption.

import { summariseSent } from "./media-stats.js";
import { SessionClient, stepOf } from "./session-client.js";
import { sleep } from "./timing.js";

/** Milliseconds to wait for host candidates: the gateway learns where we are from our packets, other servers may not. */
const GATHER_TIMEOUT = 300;
/** Milliseconds without a byte from the gateway (it reports every second or two) before the session is asked for. */
const SILENCE = 5_000;
/**
 * Bits per second a browser begins with, and no more than it may send. Left to itself Chromium begins a 720p camera at 320 × 180 and
 * is still at 480 × 270 after eight seconds; from 1.2 Mbit/s it takes as long to get from 960 × 540 to 720p; from 2 it sends 720p at once.
 */
const START_BITRATE = 2_000_000;

/**
 * @typedef {"stopped" | "asking" | "busy" | "connecting" | "securing" | "live" | "lost" | "failed"} State
 *
 * stopped: by the user, or not begun. asking: the offer is on its way. busy: somebody else publishes this stream, it is asked again.
 * connecting: ICE. securing: DTLS. live: what is captured goes to the gateway. lost: will try again. failed: will not.
 *
 * @typedef {object} Settings
 * @property {string} [codec] wanted video codec as in a MIME type, `H264`; empty: the browser's own order
 * @property {number} [maxBitrate] video bits per second
 * @property {RTCRtpEncodingParameters[]} [sendEncodings] of the video; several, with a `rid` each, are simulcast (RFC 8853). Default one,
 * with `maxBitrate`; with several each brings its own
 */
export class WhipClient extends SessionClient {
  /** What is published. @type {MediaStream} */
  stream = new MediaStream();
  /** @type {Settings} */
  settings = {};

  /** @param {import("./signaling.js").Signaling} [signaling] default: WHIP */
  constructor(signaling) {
    super(signaling);
    this.addEventListener("state", () => {
      if (this.state === "live") this.setMaxBitrate(this.settings.maxBitrate); // Firefox takes it only now
    });
  }

  /**
   * Publishes another camera, screen or microphone. Without a new session when there was a track of that kind before; else,
   * while publishing, with one.
   *
   * @param {MediaStream} stream
   */
  setStream(stream) {
    this.stream = stream;
    const senders = this.pc?.getSenders() ?? [];
    const tracks = stream.getTracks();
    const fits = tracks.length === senders.length && tracks.every(({ kind }) => senderOf(this.pc, kind) !== undefined);
    if (fits) for (const track of tracks) senderOf(this.pc, track.kind).replaceTrack(track);
    else if (this.pc !== undefined) this.restart();
  }

  /** Holds from now on, without a new session: the bit rate. A codec needs `restart()`. */
  async setMaxBitrate(maxBitrate) {
    this.settings = { ...this.settings, maxBitrate };
    const sender = senderOf(this.pc, "video");
    if (sender !== undefined) await limit(sender, maxBitrate);
  }

  async attempt(url, signal) {
    const began = performance.now();
    if (this.stream.getTracks().length === 0)
      return { state: "failed", reason: "There is neither a picture nor a sound to publish." };
    const pc = await this.#open();
    await pc.setLocalDescription(await pc.createOffer());
    await gather(pc, signal);
    if (signal.aborted) return { state: "stopped" };
    const { maxBitrate } = this.settings;
    const start = Math.min(START_BITRATE, maxBitrate ?? START_BITRATE);
    const outcome = await this.exchange(pc, url, signal, (sdp) => askForStartBitrate(sdp, start));
    return outcome === true ? await this.follow(pc, { url, signal, began }, COURSE) : outcome;
  }

  async #open() {
    const pc = new RTCPeerConnection();
    this.pc = pc;
    for (const track of this.stream.getTracks()) {
      const { sendEncodings } = this.settings;
      const layers = track.kind === "video" && sendEncodings !== undefined && { sendEncodings };
      const transceiver = pc.addTransceiver(track, { direction: "sendonly", streams: [this.stream], ...layers });
      if (track.kind === "video") {
        preferCodec(transceiver, this.settings.codec);
        await limit(transceiver.sender, this.settings.maxBitrate);
      }
    }
    return pc;
  }
}

/** @type {import("./session-client.js").Course} */
const COURSE = {
  live: "live",
  silent: "live", // reports come every second or two: without them the connection is about to end
  silence: SILENCE,
  step: publishStep,
  hasMedia: (_now, pc) => pc.connectionState === "connected",
  bytes: (now) => now.pair?.bytesReceived ?? 0,
  summarise: summariseSent,
};

/** @returns {State} how far a connection has come */
function publishStep(pc) {
  return stepOf(pc) === "connecting" ? "connecting" : "securing";
}

/** @returns {string[]} names of video codecs this browser can send, in its own order: `H264`, `VP8` */
export function sendableCodecs() {
  const { codecs = [] } = globalThis.RTCRtpSender?.getCapabilities?.("video") ?? {};
  return [...new Set(codecs.map(nameOf))].filter((name) => !HELPERS.test(name));
}

/** Not codecs of pictures, but of what is sent again or beside them. */
const HELPERS = /^(rtx|red|ulpfec|flexfec-?\d*)$/i;

function nameOf({ mimeType }) {
  return mimeType.split("/")[1];
}

/** Offers that codec alone; H.264 in the mode that splits pictures into packets first. An unknown name leaves the browser's own order. */
function preferCodec(transceiver, codec = "") {
  const all = globalThis.RTCRtpSender?.getCapabilities?.("video")?.codecs ?? [];
  const wanted = all.filter((each) => nameOf(each).toLowerCase() === codec.toLowerCase());
  if (wanted.length === 0) return;
  const rank = ({ sdpFmtpLine = "" }) => (/packetization-mode=1/.test(sdpFmtpLine) ? 0 : 1);
  wanted.sort((a, b) => rank(a) - rank(b));
  transceiver.setCodecPreferences?.([...wanted, ...all.filter((each) => HELPERS.test(nameOf(each)))]);
}

async function limit(sender, maxBitrate) {
  const parameters = sender.getParameters();
  const [encoding, another] = parameters.encodings ?? [];
  // None: Firefox before the first negotiation, its own limit holds. Several: each has its own.
  if (encoding === undefined || another !== undefined) return;
  if (maxBitrate > 0) encoding.maxBitrate = maxBitrate;
  else delete encoding.maxBitrate;
  await sender.setParameters(parameters).catch(() => {}); // a browser that cannot limit sends what it likes
}

function senderOf(pc, kind) {
  return pc
    ?.getTransceivers()
    .map(({ sender }) => sender)
    .find(({ track }) => track?.kind === kind);
}

async function gather(pc, signal) {
  if (pc.iceGatheringState === "complete") return;
  await sleep(GATHER_TIMEOUT, signal, (ready) => {
    pc.addEventListener("icegatheringstatechange", () => pc.iceGatheringState === "complete" && ready());
  });
}

/** Only Chromium and its kin read this parameter; others pass it over. */
export function askForStartBitrate(sdp, bitsPerSecond) {
  const sections = sdp.split(/^(?=m=)/m);
  const kbits = Math.round(bitsPerSecond / 1000);
  return sections
    .map((section) => {
      const payloadType = /^m=video \d+ \S+ (\d+)/.exec(section)?.[1];
      if (payloadType === undefined) return section;
      const wish = `x-google-start-bitrate=${kbits}`;
      const line = new RegExp(`^(a=fmtp:${payloadType} [^\\r\\n]*)`, "m");
      if (line.test(section)) return section.replace(line, `$1;${wish}`);
      return section.replace(
        new RegExp(`^(a=rtpmap:${payloadType} [^\\r\\n]*\\r?\\n)`, "m"),
        `$1a=fmtp:${payloadType} ${wish}\r\n`,
      );
    })
    .join("");
}
