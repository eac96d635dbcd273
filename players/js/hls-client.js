// A viewer of HLS: by hls.js with low latency, or by the browser's own player where hls.js does not run. It keeps trying.

import { codecName, playAnyhow, whyRefused } from "./media-parts.js";
import { sleep } from "./timing.js";

/** Seconds over the delay aimed at: from which the viewer plays faster, until when, and from which it jumps (a page that slept). */
const TOO_FAR = 0.7;
const NEAR = 0.3;
const JUMP = 4;
/** Speed while catching up; the ear hardly notices it. */
const FASTER = 1.1;
/** Milliseconds without a picture's progress before it is called stalled. */
const STALL = 2_000;
/** Milliseconds for a first picture, once the gateway has answered. */
const PICTURE_TIMEOUT = 20_000;
/** Milliseconds between tries, growing. */
const BACKOFF = [500, 1_000, 2_000, 3_000, 5_000];
/** Milliseconds between looks at the player. */
const TICK = 250;
const MIME = "application/vnd.apple.mpegurl";

/**
 * States, events and fields are those of FlvClient; `player` is the hls.js object, or undefined with the browser's own player.
 */
export class HlsClient extends EventTarget {
  /** @type {import("./flv-client.js").State} */
  state = "stopped";
  /** What there is to say about the state: `{ url, reason?, status?, title? }`. */
  detail = {};
  /** When the state was entered, by performance.now(). */
  since = performance.now();
  player;
  /** The newest figures. */
  stats;
  /** Milliseconds from the start of the attempt to the first picture (or sound). @type {number | undefined} */
  joinTime;
  #video;
  #library;
  #stopping;

  /**
   * @param {HTMLVideoElement} video shows the stream
   * @param {any} library hls.js, or undefined when it could not be loaded
   */
  constructor(video, library) {
    super();
    this.#video = video;
    this.#library = library;
  }

  /** Plays that URL until `stop`; a stream that plays already is stopped first. @param {string} url */
  start(url) {
    this.stop();
    this.#stopping = new AbortController();
    this.#run(url, this.#stopping.signal);
  }

  stop() {
    this.#stopping?.abort();
    this.#stopping = undefined;
    this.#leave();
    this.#enter("stopped", {});
  }

  async #run(url, signal) {
    const isSupported = this.#library?.isSupported() === true;
    if (!isSupported && this.#video.canPlayType(MIME) === "") {
      const reason =
        this.#library === undefined
          ? "The player's script (hls.js) could not be loaded, and the browser has no player of its own for HLS."
          : "It has neither Media Source Extensions with H.264 nor a player of its own for HLS. Watch by WebRTC instead.";
      this.#enter("failed", { url, title: "This browser cannot play HLS", reason });
      return;
    }
    for (let failures = 0; !signal.aborted; ) {
      this.joinTime = undefined;
      if (this.state !== "waiting" && this.state !== "lost") this.#enter("asking", { url }); // those keep their words until there are news
      let outcome = await this.#attempt(url, signal, isSupported ? openByLibrary : openByBrowser);
      if (outcome.step === "asking" && !signal.aborted) outcome = (await whyRefused(url, signal)) ?? outcome;
      if (signal.aborted) return;
      this.#leave();
      failures = outcome.hadMedia ? 0 : failures + 1;
      this.#enter(outcome.state, { url, ...outcome });
      if (outcome.state === "failed") return;
      await sleep(outcome.retryAfter ?? BACKOFF[Math.min(failures, BACKOFF.length) - 1] ?? 500, signal);
    }
  }

  /** One attempt from beginning to end. @returns what state it leaves, and why */
  async #attempt(url, signal, open) {
    const video = this.#video;
    const began = performance.now();
    let ending;
    let wake = () => {};
    const end = (outcome) => {
      ending ??= outcome;
      wake();
    };
    const track = new Tracker(video);
    const session = open(video, url, end, track, this.#library);
    this.player = session.player;
    playAnyhow(video);

    let answeredAt;
    for (let ticks = 0; !signal.aborted && ending === undefined; ticks++) {
      await sleep(track.hasMedia ? TICK : TICK / 5, signal, (early) => {
        wake = early;
      });
      if (signal.aborted || ending !== undefined) break;
      track.tick();
      if (track.hasAnswer) answeredAt ??= performance.now();
      if (track.hasMedia) {
        this.joinTime ??= performance.now() - began;
        session.stayLive?.();
        this.#enter(track.stillFor() > STALL ? "stalled" : "playing", { url });
      } else if (track.hasAnswer) this.#enter("buffering", { url });
      if (ticks % (1000 / TICK) === 0) {
        this.stats = { ...track.figures(), ...session.figures() };
        this.dispatchEvent(new Event("stats"));
      }
      if (!track.hasMedia && answeredAt !== undefined && performance.now() - answeredAt > PICTURE_TIMEOUT) {
        end({ state: "lost", reason: "The gateway sends, but nothing that this browser can show." });
      }
    }
    track.close();
    return { hadMedia: track.hasMedia, ...(ending ?? { state: "stopped" }) };
  }

  #leave() {
    this.player?.destroy();
    this.player = undefined;
    const video = this.#video;
    video.onerror = null;
    video.onended = null;
    if (video.hasAttribute("src")) {
      video.removeAttribute("src");
      video.load();
    }
    video.playbackRate = 1;
  }

  #enter(state, detail) {
    if (state !== this.state) this.since = performance.now();
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("state"));
  }
}

/** Low latency as the playlist offers it (PART-HOLD-BACK is the delay aimed at); without it, ordinary HLS. */
const CONFIG = {
  enableWorker: false, // a worker would be made of a text, which the pages' security policy forbids
  lowLatencyMode: true,
  maxLiveSyncPlaybackRate: 1, // no catching up by itself: it would speed up and slow down with every part
  liveDurationInfinity: true,
  backBufferLength: 10,
  maxBufferLength: 20,
  testBandwidth: false, // begin with the first level at once
  // the page asks again by itself and says why meanwhile
  manifestLoadPolicy: {
    default: { maxTimeToFirstByteMs: 25_000, maxLoadTimeMs: 25_000, timeoutRetry: null, errorRetry: null },
  },
};

function openByLibrary(video, url, end, track, library) {
  const { Events, ErrorTypes } = library;
  const hls = new library(CONFIG);
  let recoveries = 0;
  let details;
  let codecs;
  let bytes = 0;
  let countedAt = performance.now();
  hls.on(Events.MANIFEST_PARSED, () => {
    track.hasAnswer = true;
  });
  hls.on(Events.LEVEL_UPDATED, (_event, data) => {
    details = data.details;
  });
  hls.on(Events.BUFFER_CODECS, (_event, tracks) => {
    const { video, audio, audiovideo } = tracks;
    const names = [video, audio, audiovideo].flatMap((track) => (track?.codec ?? "").split(","));
    codecs = names.map(codecName).filter(Boolean).join(" + ") || undefined;
  });
  hls.on(Events.FRAG_LOADED, (_event, { payload }) => {
    bytes += payload?.byteLength ?? 0;
  });
  hls.on(Events.ERROR, (_event, { fatal, type, details: kind, response, error }) => {
    if (!fatal) return;
    if (type === ErrorTypes.MEDIA_ERROR && recoveries < 2) {
      recoveries++;
      hls.recoverMediaError();
      return;
    }
    end(outcomeOf(type, kind, response, error, library));
  });
  video.onended = () => end({ state: "lost", reason: "The stream has ended.", retryAfter: 1_000 });
  hls.loadSource(url);
  hls.attachMedia(video);

  return {
    player: hls,
    stayLive() {
      const position = hls.liveSyncPosition;
      const behind = hls.latency - (hls.targetLatency ?? Number.POSITIVE_INFINITY);
      if (video.paused || position === null) return;
      if (behind > JUMP) video.currentTime = position;
      else if (behind > TOO_FAR) video.playbackRate = FASTER;
      else if (behind < NEAR) video.playbackRate = 1;
    },
    figures() {
      const level = hls.levels?.[hls.currentLevel] ?? hls.levels?.[0];
      const now = performance.now();
      const bitrate = now > countedAt + 500 ? (bytes * 8000) / (now - countedAt) : undefined;
      bytes = 0;
      countedAt = now;
      const date = hls.playingDate;
      return {
        by: "hls.js",
        bitrate,
        behind: details?.live === true && track.hasMedia ? hls.latency : undefined,
        aimedAt: hls.targetLatency ?? undefined,
        byClock: date === null ? undefined : (Date.now() - date.getTime()) / 1000,
        partTarget: details?.partList ? details.partTarget : undefined,
        targetDuration: details?.targetduration,
        level: hls.currentLevel,
        levels: hls.levels?.length ?? 0,
        levelBitrate: level?.bitrate,
        codecs,
      };
    },
  };
}

/** What the library calls its ends, in our states. */
function outcomeOf(type, kind, response, error, { ErrorDetails, ErrorTypes }) {
  const status = response?.code > 0 ? response.code : undefined;
  if (kind === ErrorDetails.MANIFEST_LOAD_ERROR || kind === ErrorDetails.MANIFEST_LOAD_TIMEOUT) {
    if (status !== undefined) return { state: "lost", step: "asking", status, title: "The gateway refuses" };
    return { state: "lost", step: "asking", reason: "It cannot be reached." };
  }
  if (kind === ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR || kind === ErrorDetails.BUFFER_ADD_CODEC_ERROR) {
    return { state: "failed", title: "This browser cannot play the stream's codec", reason: error?.message ?? kind };
  }
  if (type === ErrorTypes.NETWORK_ERROR) return { state: "lost", reason: "The connection ended.", retryAfter: 500 };
  return { state: "lost", reason: `The player gave up (${kind}).` };
}

/** The browser's own player: it tells little. */
function openByBrowser(video, url, end, track) {
  const answered = () => {
    track.hasAnswer = true;
  };
  video.addEventListener("loadedmetadata", answered, { once: true });
  video.onerror = () => {
    const { code, message } = video.error ?? {};
    if (!track.hasAnswer) end({ state: "lost", step: "asking", reason: "It cannot be reached." });
    else end({ state: "lost", reason: `The browser's player gave up (${message || code}).` });
  };
  video.onended = () => end({ state: "lost", reason: "The stream has ended.", retryAfter: 1_000 });
  video.src = url;
  return {
    figures() {
      const { seekable, currentTime } = video;
      const start = video.getStartDate?.().getTime();
      return {
        by: "the browser's own player",
        behind: seekable.length > 0 ? seekable.end(seekable.length - 1) - currentTime : undefined,
        byClock: start > 0 ? (Date.now() - start) / 1000 - currentTime : undefined,
        levels: 0,
      };
    },
  };
}

/** Follows what the element shows. */
class Tracker {
  /** The gateway has answered; something has been shown. */
  hasAnswer = false;
  hasMedia = false;
  #video;
  #stalls = 0;
  #stalledFor = 0;
  #waitingSince;
  #movedAt = performance.now();
  #lastTime = 0;
  #before;
  #firstQuality;
  #closing = new AbortController();

  constructor(video) {
    this.#video = video;
    this.#firstQuality = video.getVideoPlaybackQuality?.();
    const { signal } = this.#closing;
    video.addEventListener("playing", () => this.#onPlaying(), { signal });
    video.addEventListener("waiting", () => this.#onWaiting(), { signal });
    video.addEventListener("timeupdate", () => this.tick(), { signal });
  }

  close() {
    this.#closing.abort();
  }

  tick() {
    const { currentTime, readyState, paused } = this.#video;
    const now = performance.now();
    if (currentTime === this.#lastTime) return;
    this.#lastTime = currentTime;
    this.#movedAt = now;
    if (readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && !paused) this.hasMedia = true; // the jump to the live edge moves time too
  }

  /** Milliseconds for which the picture has stood still. */
  stillFor() {
    return this.#video.paused ? 0 : performance.now() - this.#movedAt;
  }

  figures() {
    const video = this.#video;
    const quality = video.getVideoPlaybackQuality?.();
    const decoded = (quality?.totalVideoFrames ?? 0) - (this.#firstQuality?.totalVideoFrames ?? 0);
    const at = performance.now();
    const seconds = this.#before === undefined ? 0 : (at - this.#before.at) / 1000;
    const framesPerSecond = seconds > 0 ? Math.max(0, decoded - this.#before.decoded) / seconds : undefined;
    this.#before = { at, decoded };
    const { buffered, currentTime } = video;
    return {
      width: video.videoWidth,
      height: video.videoHeight,
      framesPerSecond,
      framesDecoded: decoded,
      framesDropped: (quality?.droppedVideoFrames ?? 0) - (this.#firstQuality?.droppedVideoFrames ?? 0),
      stalls: this.#stalls,
      stalledFor: this.#stalledFor / 1000,
      buffered: buffered.length > 0 ? Math.max(0, buffered.end(buffered.length - 1) - currentTime) : undefined,
      playbackRate: video.playbackRate,
    };
  }

  /** The element has run out of media while it played. */
  #onWaiting() {
    if (!this.hasMedia || this.#video.seeking) return;
    this.#stalls++;
    this.#waitingSince ??= performance.now();
  }

  #onPlaying() {
    if (this.#waitingSince !== undefined) this.#stalledFor += performance.now() - this.#waitingSince;
    this.#waitingSince = undefined;
  }
}
