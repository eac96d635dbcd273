// A viewer of HTTP-FLV and WebSocket-FLV by mpegts.js that stays near the live edge and keeps trying.

import { MediaClient, Progress, STALL } from "./media-client.js";
import { codecName } from "./media-parts.js";

/** Seconds behind the newest picture: what is aimed at, what is caught up by faster play, what is jumped over. */
const TARGET = 0.5;
const TOO_FAR = 0.9;
const JUMP = 1.5;
/** Speed while catching up; the ear hardly notices it. */
const FASTER = 1.1;

/** `player` is mpegts.js's own object. */
export class FlvClient extends MediaClient {
  #library;

  /**
   * @param {HTMLVideoElement} video shows the stream
   * @param {any} library mpegts.js, or undefined when it could not be loaded
   */
  constructor(video, library) {
    super(video, { pictureTimeout: 15_000 });
    this.#library = library;
  }

  obstacle() {
    if (this.#library === undefined) return { reason: "The player's script (mpegts.js) could not be loaded." };
    if (this.#library.isSupported()) return undefined;
    const reason = "It has no Media Source Extensions with H.264, which playing FLV needs. Watch by WebRTC instead.";
    return { title: "This browser cannot play FLV", reason };
  }

  /** @param {string} url http, https, ws or wss */
  open(url, end) {
    const { video } = this;
    const { Events } = this.#library;
    const player = this.#library.createPlayer({ type: "flv", isLive: true, cors: true, url }, CONFIG);
    player.on(Events.ERROR, (_type, kind, info) => end(outcomeOf(kind, info)));
    player.on(Events.LOADING_COMPLETE, () => end({ state: "lost", reason: "The stream has ended.", retryAfter: 1_000 }));
    const progress = new FlvProgress(video, player, this.#library);
    player.attachMediaElement(video);
    player.load();
    return { player, progress, stayLive: () => stayLive(video), figures: () => progress.figures() };
  }

  leave() {
    try {
      this.player?.destroy();
    } catch {
      // Destroyed in the middle of an append: it is gone all the same.
    }
    this.video.removeAttribute("src");
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

/** Follows what has come, too. */
class FlvProgress extends Progress {
  #media = {};
  #speed;

  constructor(video, player, library) {
    super(video);
    player.on(library.Events.MEDIA_INFO, (info) => {
      this.#media = info;
      this.hasAnswer = true;
    });
    player.on(library.Events.STATISTICS_INFO, ({ speed }) => {
      this.#speed = speed;
      if (speed > 0) this.hasAnswer = true;
    });
  }

  moved(stillFor) {
    if (this.hasMedia && stillFor > STALL) this.stalls++;
    this.hasMedia = true;
  }

  figures() {
    const { videoCodec, audioCodec, hasVideo, hasAudio } = this.#media;
    return {
      ...super.figures(),
      bitrate: this.#speed === undefined ? undefined : this.#speed * 8 * 1024, // told in KiB a second
      behind: behindLive(this.video),
      codecs:
        [hasVideo !== false && codecName(videoCodec), hasAudio !== false && codecName(audioCodec)].filter(Boolean).join(" + ") ||
        undefined,
    };
  }
}
