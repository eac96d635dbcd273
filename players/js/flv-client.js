// A viewer of HTTP-FLV and WebSocket-FLV by mpegts.js that stays near the live edge and keeps trying.

import { codecName, playAnyhow, whyRefused } from "./media-parts.js";
import { sleep } from "./timing.js";

/** Seconds behind the newest picture: what is aimed at, what is caught up by faster play, what is jumped over. */
const TARGET = 0.5;
const TOO_FAR = 0.9;
const JUMP = 1.5;
/** Speed while catching up; the ear hardly notices it. */
const FASTER = 1.1;
/** Milliseconds without a picture's progress before it is called stalled. */
const STALL = 2_000;
/** Milliseconds for a first picture, once the gateway has answered. */
const PICTURE_TIMEOUT = 15_000;
/** Milliseconds between tries, growing. */
const BACKOFF = [500, 1_000, 2_000, 3_000, 5_000];
/** Milliseconds between looks at the buffer. */
const TICK = 250;

/**
 * @typedef {"stopped" | "asking" | "waiting" | "buffering" | "playing" | "stalled" | "lost" | "failed"} State
 *
 * stopped: by the user, or not begun. asking: no answer yet. waiting: nobody publishes yet. buffering: answered, no picture yet.
 * playing. stalled: nothing comes any more. lost: will try again. failed: will not.
 *
 * Events: `state`, and `stats` once a second while something is open.
 */
export class FlvClient extends EventTarget {
  /** @type {State} */
  state = "stopped";
  /** What there is to say about the state: `{ url, reason?, status?, title? }`. */
  detail = {};
  /** When the state was entered, by performance.now(). */
  since = performance.now();
  /** mpegts.js's own object. */
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
   * @param {any} library mpegts.js, or undefined when it could not be loaded
   */
  constructor(video, library) {
    super();
    this.#video = video;
    this.#library = library;
  }

  /** Plays that URL (http, https, ws or wss) until `stop`; a stream that plays already is stopped first. @param {string} url */
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
    if (this.#library === undefined) {
      this.#enter("failed", { url, reason: "The player's script (mpegts.js) could not be loaded." });
      return;
    }
    if (!this.#library.isSupported()) {
      const reason = "It has no Media Source Extensions with H.264, which playing FLV needs. Watch by WebRTC instead.";
      this.#enter("failed", { url, title: "This browser cannot play FLV", reason });
      return;
    }
    for (let failures = 0; !signal.aborted; ) {
      this.joinTime = undefined;
      if (this.state !== "waiting" && this.state !== "lost") this.#enter("asking", { url }); // those keep their words until there are news
      let outcome = await this.#attempt(url, signal);
      if (outcome.step === "asking") outcome = (await whyRefused(url, signal)) ?? outcome;
      if (signal.aborted) return;
      this.#leave();
      failures = outcome.hadMedia ? 0 : failures + 1;
      this.#enter(outcome.state, { url, ...outcome });
      if (outcome.state === "failed") return;
      await sleep(outcome.retryAfter ?? BACKOFF[Math.min(failures, BACKOFF.length) - 1] ?? 500, signal);
    }
  }

  /** One request from beginning to end. @returns what state it leaves, and why */
  async #attempt(url, signal) {
    const video = this.#video;
    const { Events } = this.#library;
    const began = performance.now();
    const player = this.#library.createPlayer({ type: "flv", isLive: true, cors: true, url }, CONFIG);
    this.player = player;
    let ending;
    let wake = () => {};
    const end = (outcome) => {
      ending ??= outcome;
      wake();
    };
    player.on(Events.ERROR, (_type, kind, info) => end(outcomeOf(kind, info)));
    player.on(Events.LOADING_COMPLETE, () => end({ state: "lost", reason: "The stream has ended.", retryAfter: 1_000 }));
    const track = new Tracker(video, player, this.#library);
    player.attachMediaElement(video);
    player.load();
    playAnyhow(video);

    let answeredAt;
    for (let ticks = 0; !signal.aborted && ending === undefined; ticks++) {
      await sleep(TICK, signal, (early) => {
        wake = early;
      });
      if (signal.aborted || ending !== undefined) break;
      stayLive(video);
      track.tick();
      if (track.hasAnswer) answeredAt ??= performance.now();
      if (track.hasMedia) this.joinTime ??= performance.now() - began;
      if (track.hasMedia) this.#enter(track.stillFor() > STALL ? "stalled" : "playing", { url });
      else if (track.hasAnswer) this.#enter("buffering", { url });
      if (ticks % (1000 / TICK) === 0) {
        this.stats = track.figures();
        this.dispatchEvent(new Event("stats"));
      }
      if (!track.hasMedia && answeredAt !== undefined && performance.now() - answeredAt > PICTURE_TIMEOUT) {
        end({ state: "lost", reason: "The gateway sends, but nothing that this browser can show." });
      }
    }
    return { hadMedia: track.hasMedia, ...(ending ?? { state: "stopped" }) };
  }

  #leave() {
    try {
      this.player?.destroy();
    } catch {
      // Destroyed in the middle of an append: it is gone all the same.
    }
    this.player = undefined;
    this.#video.removeAttribute("src");
    this.#video.playbackRate = 1;
  }

  #enter(state, detail) {
    if (state !== this.state) this.since = performance.now();
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("state"));
  }
}

/** Every byte is given to the browser at once, and little is kept. */
const CONFIG = {
  enableWorker: false, // a worker would be made of a text, which the pages' security policy forbids
  enableStashBuffer: false,
  lazyLoad: false,
  deferLoadAfterSourceOpen: false,
  autoCleanupSourceBuffer: true,
  autoCleanupMaxBackwardDuration: 20,
  autoCleanupMinBackwardDuration: 10,
  fixAudioTimestampGap: true, // else sound moves up to where it was cut off when a publisher comes back, and the picture does not
};

/** What the library calls its ends, in our states. */
function outcomeOf(kind, info) {
  if (kind === "HttpStatusCodeInvalid")
    return { state: "lost", step: "asking", status: info?.code, title: "The gateway refuses" };
  if (kind === "Exception" || kind === "ConnectingTimeout")
    return { state: "lost", step: "asking", reason: "It cannot be reached." };
  if (kind === "UnrecoverableEarlyEof" || kind === "EarlyEof")
    return { state: "lost", reason: "The connection ended.", retryAfter: 500 };
  if (kind === "CodecUnsupported" || kind === "FormatUnsupported")
    return { state: "failed", title: "This browser cannot play the stream's codec", reason: String(info?.msg ?? info ?? kind) };
  return { state: "lost", reason: `The player gave up (${kind}).` };
}

/** Falls back to the live edge: by faster play when it is a little, by a jump when it is much. */
function stayLive(video) {
  const behind = behindLive(video);
  if (behind === undefined || video.paused) return;
  const { buffered } = video;
  const first = buffered.start(buffered.length - 1);
  if (video.currentTime < first || behind > JUMP) {
    video.currentTime = Math.max(first, buffered.end(buffered.length - 1) - TARGET);
    return;
  }
  if (behind > TOO_FAR) video.playbackRate = FASTER;
  else if (behind < TARGET) video.playbackRate = 1;
}

/** Seconds between what is shown and the newest that has come, or undefined. */
function behindLive({ buffered, currentTime }) {
  return buffered.length > 0 ? buffered.end(buffered.length - 1) - currentTime : undefined;
}

/** Follows what the element shows and what has come. */
class Tracker {
  /** Something has come; something has been shown. */
  hasAnswer = false;
  hasMedia = false;
  #video;
  #media = {};
  #stalls = 0;
  #movedAt = performance.now();
  #lastTime = 0;
  #before;
  #firstQuality;
  #speed;

  constructor(video, player, library) {
    this.#video = video;
    this.#firstQuality = video.getVideoPlaybackQuality?.();
    player.on(library.Events.MEDIA_INFO, (info) => {
      this.#media = info;
      this.hasAnswer = true;
    });
    player.on(library.Events.STATISTICS_INFO, ({ speed }) => {
      this.#speed = speed;
      if (speed > 0) this.hasAnswer = true;
    });
  }

  tick() {
    const { currentTime } = this.#video;
    const now = performance.now();
    if (currentTime === this.#lastTime) return;
    if (this.hasMedia && now - this.#movedAt > STALL) this.#stalls++;
    this.hasMedia = true;
    this.#lastTime = currentTime;
    this.#movedAt = now;
  }

  /** Milliseconds for which the picture has stood still. */
  stillFor() {
    return this.#video.paused ? 0 : performance.now() - this.#movedAt;
  }

  figures() {
    const quality = this.#video.getVideoPlaybackQuality?.();
    const decoded = (quality?.totalVideoFrames ?? 0) - (this.#firstQuality?.totalVideoFrames ?? 0);
    const at = performance.now();
    const seconds = this.#before === undefined ? 0 : (at - this.#before.at) / 1000;
    const framesPerSecond = seconds > 0 ? Math.max(0, decoded - this.#before.decoded) / seconds : undefined;
    this.#before = { at, decoded };
    const { videoCodec, audioCodec, hasVideo, hasAudio } = this.#media;
    return {
      width: this.#video.videoWidth,
      height: this.#video.videoHeight,
      framesPerSecond,
      bitrate: this.#speed === undefined ? undefined : this.#speed * 8 * 1024, // told in KiB a second
      behind: behindLive(this.#video),
      framesDecoded: decoded,
      framesDropped: (quality?.droppedVideoFrames ?? 0) - (this.#firstQuality?.droppedVideoFrames ?? 0),
      stalls: this.#stalls,
      playbackRate: this.#video.playbackRate,
      codecs:
        [hasVideo !== false && codecName(videoCodec), hasAudio !== false && codecName(audioCodec)].filter(Boolean).join(" + ") ||
        undefined,
    };
  }
}
