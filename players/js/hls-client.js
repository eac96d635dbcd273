// A viewer of HLS: by hls.js with low latency, or by the browser's own player where hls.js does not run. It keeps trying.

import { MediaClient, Progress } from "./media-client.js";
import { codecName } from "./media-parts.js";

/** Seconds over the delay aimed at: from which the viewer plays faster, until when, and from which it jumps (a page that slept). */
const TOO_FAR = 0.7;
const NEAR = 0.3;
const JUMP = 4;
/** Speed while catching up; the ear hardly notices it. */
const FASTER = 1.1;
const MIME = "application/vnd.apple.mpegurl";

/** `player` is the hls.js object, or undefined with the browser's own player. */
export class HlsClient extends MediaClient {
  #library;

  /**
   * @param {HTMLVideoElement} video shows the stream
   * @param {any} library hls.js, or undefined when it could not be loaded
   */
  constructor(video, library) {
    super(video, { pictureTimeout: 20_000, firstTick: 50 });
    this.#library = library;
  }

  get #hasLibrary() {
    return this.#library?.isSupported() === true;
  }

  obstacle() {
    if (this.#hasLibrary || this.video.canPlayType(MIME) !== "") return undefined;
    const reason =
      this.#library === undefined
        ? "The player's script (hls.js) could not be loaded, and the browser has no player of its own for HLS."
        : "It has neither Media Source Extensions with H.264 nor a player of its own for HLS. Watch by WebRTC instead.";
    return { title: "This browser cannot play HLS", reason };
  }

  open(url, end) {
    return this.#hasLibrary ? openByLibrary(this.video, url, end, this.#library) : openByBrowser(this.video, url, end);
  }

  leave() {
    const { player, video } = this;
    player?.destroy();
    video.onerror = null;
    video.onended = null;
    if (!video.hasAttribute("src")) return;
    video.removeAttribute("src");
    video.load();
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

function openByLibrary(video, url, end, library) {
  const progress = new HlsProgress(video);
  const { Events, ErrorTypes } = library;
  const hls = new library(CONFIG);
  let recoveries = 0;
  let details;
  let codecs;
  let bytes = 0;
  let countedAt = performance.now();
  hls.on(Events.MANIFEST_PARSED, () => {
    progress.hasAnswer = true;
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
    progress,
    close: () => progress.close(),
    stayLive() {
      if (!progress.hasMedia) return; // hls.js finds the place to begin by itself
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
        ...progress.figures(),
        by: "hls.js",
        bitrate,
        behind: details?.live === true && progress.hasMedia ? hls.latency : undefined,
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
function openByBrowser(video, url, end) {
  const progress = new HlsProgress(video);
  const answered = () => {
    progress.hasAnswer = true;
  };
  video.addEventListener("loadedmetadata", answered, { once: true });
  video.onerror = () => {
    const { code, message } = video.error ?? {};
    if (!progress.hasAnswer) end({ state: "lost", step: "asking", reason: "It cannot be reached." });
    else end({ state: "lost", reason: `The browser's player gave up (${message || code}).` });
  };
  video.onended = () => end({ state: "lost", reason: "The stream has ended.", retryAfter: 1_000 });
  video.src = url;
  return {
    player: undefined,
    progress,
    close: () => progress.close(),
    figures() {
      const { seekable, currentTime } = video;
      const start = video.getStartDate?.().getTime();
      return {
        ...progress.figures(),
        by: "the browser's own player",
        behind: seekable.length > 0 ? seekable.end(seekable.length - 1) - currentTime : undefined,
        byClock: start > 0 ? (Date.now() - start) / 1000 - currentTime : undefined,
        levels: 0,
      };
    },
  };
}

/** Follows how often and how long the element waited, too. */
class HlsProgress extends Progress {
  #stalledFor = 0;
  #waitingSince;
  #closing = new AbortController();

  constructor(video) {
    super(video);
    const { signal } = this.#closing;
    video.addEventListener("playing", () => this.#onPlaying(), { signal });
    video.addEventListener("waiting", () => this.#onWaiting(), { signal });
    video.addEventListener("timeupdate", () => this.tick(), { signal });
  }

  close() {
    this.#closing.abort();
  }

  moved() {
    const { readyState, paused } = this.video;
    if (readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && !paused) this.hasMedia = true; // the jump to the live edge moves time too
  }

  figures() {
    const { buffered, currentTime } = this.video;
    return {
      ...super.figures(),
      stalledFor: this.#stalledFor / 1000,
      buffered: buffered.length > 0 ? Math.max(0, buffered.end(buffered.length - 1) - currentTime) : undefined,
    };
  }

  /** The element has run out of media while it played. */
  #onWaiting() {
    if (!this.hasMedia || this.video.seeking) return;
    this.stalls++;
    this.#waitingSince ??= performance.now();
  }

  #onPlaying() {
    if (this.#waitingSince !== undefined) this.#stalledFor += performance.now() - this.#waitingSince;
    this.#waitingSince = undefined;
  }
}
