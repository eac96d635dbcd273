// A viewer of one media URL by a library or by the browser's own player: it keeps trying, and says how it gets on. What FlvClient and
// HlsClient share.

import { playAnyhow, whyRefused } from "./media-parts.js";
import { sleep } from "./timing.js";

/** Milliseconds without a picture's progress before it is called stalled. */
export const STALL = 2_000;
/** Milliseconds between tries, growing. */
const BACKOFF = [500, 1_000, 2_000, 3_000, 5_000];
/** Milliseconds between looks at the player. */
const TICK = 250;

/**
 * @typedef {"stopped" | "asking" | "waiting" | "buffering" | "playing" | "stalled" | "lost" | "failed"} State
 *
 * stopped: by the user, or not begun. asking: no answer yet. waiting: nobody publishes yet. buffering: answered, no picture yet.
 * playing. stalled: nothing comes any more. lost: will try again. failed: will not.
 *
 * @typedef {object} MediaSession one request from beginning to end
 * @property {any} player the library's object, or undefined with the browser's own player
 * @property {Progress} progress
 * @property {() => void} [stayLive] called at each look
 * @property {() => object} figures
 * @property {() => void} [close]
 *
 * Events: `state`, and `stats` once a second while something is open.
 */
export class MediaClient extends EventTarget {
  /** @type {State} */
  state = "stopped";
  /** What there is to say about the state: `{ url, reason?, status?, title? }`. */
  detail = {};
  /** When the state was entered, by performance.now(). */
  since = performance.now();
  /** The library's own object, or undefined with the browser's own player. */
  player;
  /** The newest figures. */
  stats;
  /** Milliseconds from the start of the attempt to the first picture (or sound). @type {number | undefined} */
  joinTime;
  video;
  #pictureTimeout;
  #firstTick;
  #stopping;

  /**
   * @param {HTMLVideoElement} video shows the stream
   * @param {object} options
   * @param {number} options.pictureTimeout milliseconds for a first picture, once the gateway has answered
   * @param {number} [options.firstTick] milliseconds between looks until there is one. Default as later
   */
  constructor(video, { pictureTimeout, firstTick = TICK }) {
    super();
    this.video = video;
    this.#pictureTimeout = pictureTimeout;
    this.#firstTick = firstTick;
  }

  /**
   * Why this browser cannot play it at all, `{ reason, title? }`.
   *
   * @returns {object | undefined}
   */
  obstacle() {
    return undefined;
  }

  /**
   * Begins to play.
   *
   * @param {string} _url
   * @param {(outcome: object) => void} _end tells how it ended: `{ state, step?, reason?, status?, title?, retryAfter? }`
   * @returns {MediaSession}
   */
  open(_url, _end) {
    throw new TypeError("not made to be used by itself");
  }

  /** Lets go of what `open` took. */
  leave() {}

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
    const obstacle = this.obstacle();
    if (obstacle !== undefined) {
      this.#enter("failed", { url, ...obstacle });
      return;
    }
    for (let failures = 0; !signal.aborted; ) {
      this.joinTime = undefined;
      if (this.state !== "waiting" && this.state !== "lost") this.#enter("asking", { url }); // those keep their words until there are news
      let outcome = await this.#attempt(url, signal);
      if (outcome.step === "asking" && !signal.aborted) outcome = (await whyRefused(url, signal)) ?? outcome;
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
    const began = performance.now();
    let ending;
    let wake = () => {};
    const end = (outcome) => {
      ending ??= outcome;
      wake();
    };
    const session = this.open(url, end);
    const { progress } = session;
    this.player = session.player;
    playAnyhow(this.video);

    let answeredAt;
    for (let ticks = 0; !signal.aborted && ending === undefined; ticks++) {
      await sleep(progress.hasMedia ? TICK : this.#firstTick, signal, (early) => {
        wake = early;
      });
      if (signal.aborted || ending !== undefined) break;
      progress.tick();
      session.stayLive?.();
      if (progress.hasAnswer) answeredAt ??= performance.now();
      if (progress.hasMedia) {
        this.joinTime ??= performance.now() - began;
        this.#enter(progress.stillFor() > STALL ? "stalled" : "playing", { url });
      } else if (progress.hasAnswer) this.#enter("buffering", { url });
      if (ticks % (1000 / TICK) === 0) {
        this.stats = session.figures();
        this.dispatchEvent(new Event("stats"));
      }
      if (!progress.hasMedia && answeredAt !== undefined && performance.now() - answeredAt > this.#pictureTimeout) {
        end({ state: "lost", reason: "The gateway sends, but nothing that this browser can show." });
      }
    }
    session.close?.();
    return { hadMedia: progress.hasMedia, ...(ending ?? { state: "stopped" }) };
  }

  #leave() {
    this.leave();
    this.player = undefined;
    this.video.playbackRate = 1;
  }

  #enter(state, detail) {
    if (state !== this.state) this.since = performance.now();
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("state"));
  }
}

/** Follows what the element shows. */
export class Progress {
  /** The gateway has answered; something has been shown. */
  hasAnswer = false;
  hasMedia = false;
  stalls = 0;
  video;
  #movedAt = performance.now();
  #lastTime = 0;
  #before;
  #firstQuality;

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.video = video;
    this.#firstQuality = video.getVideoPlaybackQuality?.();
  }

  tick() {
    const { currentTime } = this.video;
    if (currentTime === this.#lastTime) return;
    const stillFor = performance.now() - this.#movedAt;
    this.#lastTime = currentTime;
    this.#movedAt += stillFor;
    this.moved(stillFor);
  }

  /** The element's time has moved. @param {number} _stillFor milliseconds that it had stood still */
  moved(_stillFor) {
    this.hasMedia = true;
  }

  /** Milliseconds for which the picture has stood still. */
  stillFor() {
    return this.video.paused ? 0 : performance.now() - this.#movedAt;
  }

  figures() {
    const { video } = this;
    const quality = video.getVideoPlaybackQuality?.();
    const decoded = (quality?.totalVideoFrames ?? 0) - (this.#firstQuality?.totalVideoFrames ?? 0);
    const at = performance.now();
    const seconds = this.#before === undefined ? 0 : (at - this.#before.at) / 1000;
    const framesPerSecond = seconds > 0 ? Math.max(0, decoded - this.#before.decoded) / seconds : undefined;
    this.#before = { at, decoded };
    return {
      width: video.videoWidth,
      height: video.videoHeight,
      framesPerSecond,
      framesDecoded: decoded,
      framesDropped: (quality?.droppedVideoFrames ?? 0) - (this.#firstQuality?.droppedVideoFrames ?? 0),
      stalls: this.stalls,
      playbackRate: video.playbackRate,
    };
  }
}
