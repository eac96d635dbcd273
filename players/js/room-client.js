// A room: who is in it, what I send to it (WHIP), and a viewer (WHEP) for everybody who sends. Comes back by itself after an interruption.

import { RoomSocket, SignalingRefusal } from "./room-socket.js";
import { ThinWatch } from "./thinning.js";
import { WhepClient } from "./whep-client.js";
import { WhipClient } from "./whip-client.js";

/** Milliseconds between tries to join when the gateway's no may become a yes. */
const REJOIN = 2_000;
/** Milliseconds between what is told to the others unasked; the answer proves that the connection lives. */
const TELL_INTERVAL = 10_000;
/** Milliseconds between two tellings at least: figures change often. */
const TELL_PAUSE = 1_500;

/**
 * @typedef {object} Told what a participant's page tells the others
 * @property {boolean} [audio] its microphone is heard
 * @property {boolean} [video] its camera or screen is seen
 * @property {boolean} [screen] the picture is a screen
 * @property {number} [fps] pictures a second that it sends
 *
 * @typedef {object} RoomOptions
 * @property {string} signaling URL of the WebSocket
 * @property {(kind: "whip" | "whep", room: string, display: string) => string} stream URL of a participant's stream
 * @property {(participant: Participant) => HTMLVideoElement} showIn the element that shows somebody who has come
 */

/** Somebody else in the room. */
export class Participant {
  /** What their page told last. @type {Told} */
  told = {};
  publishing = false;
  /** @type {WhepClient | undefined} */
  viewer;
  /** @type {HTMLVideoElement} */
  video;
  /** Whether fewer pictures arrive than are sent, and where they are lost. @type {ThinWatch} */
  thinning = new ThinWatch();

  /** @param {string} display */
  constructor(display) {
    this.display = display;
  }
}

/**
 * Events: `state`; `enter` and `leave` (`detail`: the Participant); `change` (`detail`: a Participant whose `told`, viewer's state or
 * figures are new); `control` (`detail`: `{ from, call, data }`, what another page sent by `control()`).
 *
 * States: left; joining; joined; lost (signaling is gone: media goes on, it is tried again); refused (`detail.reason`; not tried again).
 */
export class RoomClient extends EventTarget {
  /** @type {"left" | "joining" | "joined" | "lost" | "refused"} */
  state = "left";
  /** @type {{ reason?: string, code?: string, retryAt?: number }} */
  detail = {};
  /** Since when, by performance.now(). */
  since = performance.now();
  room = "";
  display = "";
  /** The others, by name, in the order in which they came. @type {Map<string, Participant>} */
  participants = new Map();
  /** What we send; its `settings` hold for the next session. */
  publisher = new WhipClient();

  /** @type {RoomOptions} */
  #options;
  /** @type {RoomSocket | undefined} */
  #socket;
  #hasJoined = false;
  /** What gives us our name back while the gateway still takes our old connection for alive. @type {string | undefined} */
  #resume;
  #timer;
  /** @type {Told} */
  #told = {};
  #toldAt = Number.NEGATIVE_INFINITY;
  #tellTimer;

  /** @param {RoomOptions} options */
  constructor(options) {
    super();
    this.#options = options;
    this.publisher.addEventListener("state", () => this.#onPublisher());
    this.publisher.addEventListener("stats", () => {
      const fps = this.publisher.stats?.framesPerSecond;
      if (fps !== undefined) this.#notice(Math.round(fps));
    });
  }

  /** Everybody: me and the others. */
  get size() {
    return this.participants.size + 1;
  }

  /** Joins, and stays until `leave()`. @param {string} room @param {string} display the name the others see */
  join(room, display) {
    this.leave();
    this.room = room;
    this.display = display;
    this.#enter("joining");
    const socket = new RoomSocket(this.#options.signaling);
    this.#socket = socket;
    socket.addEventListener("open", () => this.#join());
    socket.addEventListener("lost", (/** @type {any} */ { detail }) => this.#onLost(detail.reason, detail.retryAt));
    socket.addEventListener("notify", (/** @type {any} */ { detail }) => this.#onNotify(detail));
    socket.open();
  }

  /** Ends all sessions; works also while the page is going away. */
  leave() {
    clearTimeout(this.#timer);
    clearTimeout(this.#tellTimer);
    this.#tellTimer = undefined;
    this.#socket?.close();
    this.#socket = undefined;
    this.#hasJoined = false;
    this.#resume = undefined;
    this.publisher.stop();
    for (const participant of [...this.participants.values()]) this.#remove(participant);
    if (this.state !== "left") this.#enter("left");
  }

  /**
   * Sends another camera, microphone or screen from now on; an empty stream: nothing.
   *
   * @param {MediaStream} stream
   */
  setStream(stream) {
    if (stream.getTracks().length === 0) {
      this.publisher.stop();
      this.publisher.stream = stream;
      return;
    }
    this.publisher.setStream(stream);
    if (this.#hasJoined && this.publisher.state === "stopped") this.#publish();
  }

  /** Tells the others, and everybody who comes later, about what is sent. @param {Told} told */
  tell(told) {
    this.#told = { ...this.#told, ...told };
    this.#tellNow();
  }

  /** Sends something to all other pages in the room: their `control` event. */
  async control(call, data) {
    await this.#socket?.request({ ...this.#me("control"), call, data });
  }

  #me(action) {
    return { action, room: this.room, display: this.display };
  }

  async #join() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    try {
      const answer = await socket.request({ ...this.#me("join"), resume: this.#resume });
      if (this.#socket !== socket) return;
      const isFirst = !this.#hasJoined;
      this.#hasJoined = true;
      this.#resume = answer?.resume;
      this.#sync(answer?.participants ?? []);
      this.#enter("joined");
      if (isFirst && this.publisher.stream.getTracks().length > 0) this.#publish();
      else if (this.publisher.state === "live") this.#announce();
      this.#tellNow();
    } catch (error) {
      if (this.#socket !== socket || !(error instanceof SignalingRefusal)) return; // the socket tells what is lost
      if (error.code === "too-many-joins" || (error.code === "taken" && this.#hasJoined)) {
        this.#onLost(error.message, performance.now() + REJOIN);
        this.#timer = setTimeout(() => socket.isOpen && this.#join(), REJOIN);
        return;
      }
      this.leave();
      this.#enter("refused", { reason: error.message, code: error.code });
    }
  }

  #publish() {
    this.publisher.start(this.#options.stream("whip", this.room, this.display));
  }

  #onPublisher() {
    if (this.publisher.state === "live") this.#announce();
    this.dispatchEvent(new Event("publisher"));
  }

  /** Tells the room that our stream is there. */
  #announce() {
    if (this.#hasJoined) this.#socket?.request(this.#me("publish")).catch(() => {});
  }

  #onLost(reason, retryAt) {
    this.#enter(this.#hasJoined ? "lost" : "joining", { reason, retryAt });
  }

  #onNotify(message) {
    const { event, peer, param, data, participants } = message;
    if (Array.isArray(participants)) this.#sync(participants);
    const participant = this.participants.get(peer?.display);
    if (event === "control" && param === "media" && participant !== undefined) {
      participant.told = readTold(data);
      this.#changed(participant);
    } else if (event === "control") {
      this.dispatchEvent(new CustomEvent("control", { detail: { from: peer?.display, call: param, data } }));
    } else if (event === "join") this.#tellNow();
  }

  /** Makes the others what the gateway says they are. */
  #sync(list) {
    const now = new Map();
    for (const { display, publishing } of list) {
      if (typeof display === "string" && display !== this.display) now.set(display, publishing === true);
    }
    for (const participant of [...this.participants.values()]) if (!now.has(participant.display)) this.#remove(participant);
    for (const [display, publishing] of now) {
      const participant = this.participants.get(display) ?? this.#add(display);
      if (participant.publishing === publishing) continue;
      participant.publishing = publishing;
      if (publishing) this.#view(participant);
      this.#changed(participant);
    }
  }

  #add(display) {
    const participant = new Participant(display);
    this.participants.set(display, participant);
    participant.video = this.#options.showIn(participant);
    this.dispatchEvent(new CustomEvent("enter", { detail: participant }));
    return participant;
  }

  #view(participant) {
    const viewer = participant.viewer ?? new WhepClient(participant.video);
    if (participant.viewer === undefined) {
      participant.viewer = viewer;
      viewer.addEventListener("state", () => this.#changed(participant));
      viewer.addEventListener("stats", () => {
        const { framesReceivedPerSecond, framesPerSecond } = viewer.stats;
        participant.thinning.note(framesReceivedPerSecond, framesPerSecond, participant.told.fps);
        this.#changed(participant);
      });
    }
    const url = this.#options.stream("whep", this.room, participant.display);
    if (viewer.state === "stopped" || viewer.state === "failed" || viewer.state === "waiting") viewer.start(url);
  }

  #remove(participant) {
    participant.viewer?.stop();
    this.participants.delete(participant.display);
    this.dispatchEvent(new CustomEvent("leave", { detail: participant }));
  }

  #changed(participant) {
    if (this.participants.get(participant.display) !== participant) return;
    this.dispatchEvent(new CustomEvent("change", { detail: participant }));
  }

  /** A figure that others may want: told soon when it has changed by a fifth, else now and then. */
  #notice(fps) {
    const told = this.#told.fps ?? 0;
    const isNews = Math.abs(fps - told) > 0.2 * Math.max(fps, told);
    if (!isNews && performance.now() - this.#toldAt < TELL_INTERVAL) return;
    this.#told.fps = fps;
    this.#tellNow();
  }

  #tellNow() {
    if (this.#tellTimer !== undefined || this.state !== "joined") return;
    const wait = Math.max(0, this.#toldAt + TELL_PAUSE - performance.now());
    this.#tellTimer = setTimeout(() => {
      this.#tellTimer = undefined;
      this.#toldAt = performance.now();
      this.control("media", this.#told).catch(() => {});
    }, wait);
  }

  #enter(state, detail = {}) {
    if (state !== this.state) this.since = performance.now();
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("state"));
  }
}

/** What another page tells is only believed in its shape. @returns {Told} */
function readTold(data) {
  const { audio, video, screen, fps } = Object(data);
  return {
    audio: audio !== false,
    video: video !== false,
    screen: screen === true,
    ...(typeof fps === "number" && fps >= 0 && fps < 1000 && { fps }),
  };
}
