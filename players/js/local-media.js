// What I send to a room: camera and microphone, a screen in the camera's place, and what of it is muted.

import { capture, release } from "./capture.js";

/**
 * Events: `stream` (another stream to send and show), `muted`, `remark` (`text`: something for people, or undefined).
 */
export class LocalMedia extends EventTarget {
  /** What is sent; without tracks: nothing. */
  stream = new MediaStream();
  /** @type {Record<"audio" | "video", boolean>} */
  muted = { audio: false, video: false };
  #camera = new MediaStream();
  /** @type {MediaStream | undefined} */
  #screen;
  #turn = 0;

  get isScreen() {
    return this.#screen !== undefined;
  }

  has(kind) {
    return this.stream.getTracks().some((track) => track.kind === kind);
  }

  /** Whether it is sent and not muted. */
  isOn(kind) {
    return this.has(kind) && !this.muted[kind];
  }

  /**
   * Opens camera and microphone in place of those that were open. What was open goes on when this fails.
   *
   * @param {import("./capture.js").Wish} wish
   * @throws {import("./capture.js").CaptureError}
   */
  async open(wish) {
    const turn = ++this.#turn;
    const { stream, missing } = await capture({ ...wish, source: "camera" });
    if (turn !== this.#turn) {
      release(stream);
      return;
    }
    const old = this.#camera;
    this.#camera = stream;
    for (const track of stream.getTracks()) {
      track.addEventListener("ended", () => {
        if (!this.#camera.getTracks().includes(track)) return;
        this.#remark(`The ${track.kind === "video" ? "camera" : "microphone"} is gone. Choose another one, and it goes on.`);
      });
    }
    this.#remark(missing && `No ${missing} was found: it goes without.`);
    this.#compose();
    release(old);
  }

  /** Shows a screen, a window or a tab in the camera's place. @throws {import("./capture.js").CaptureError} */
  async share(wish) {
    const turn = ++this.#turn;
    const { stream } = await capture({ ...wish, source: "screen", microphone: "none" });
    for (const track of stream.getAudioTracks()) track.stop(); // the voice goes on instead
    if (turn !== this.#turn) {
      release(stream);
      return;
    }
    release(this.#screen);
    this.#screen = stream;
    for (const track of stream.getVideoTracks()) {
      track.addEventListener("ended", () => this.#screen === stream && this.unshare());
    }
    this.muted.video = false;
    this.#compose();
  }

  unshare() {
    release(this.#screen);
    this.#screen = undefined;
    this.#compose();
  }

  /** @param {"audio" | "video"} kind */
  mute(kind, isMuted = !this.muted[kind]) {
    this.muted = { ...this.muted, [kind]: isMuted };
    for (const track of this.stream.getTracks()) if (track.kind === kind) track.enabled = !isMuted;
    this.dispatchEvent(new Event("muted"));
  }

  close() {
    this.#turn++;
    release(this.#camera);
    release(this.#screen);
    this.#camera = new MediaStream();
    this.#screen = undefined;
    this.#compose();
  }

  #compose() {
    const pictures = (this.#screen ?? this.#camera).getVideoTracks();
    this.stream = new MediaStream([...pictures, ...this.#camera.getAudioTracks()]);
    for (const track of this.stream.getTracks()) track.enabled = !this.muted[track.kind];
    this.dispatchEvent(new Event("stream"));
    this.dispatchEvent(new Event("muted"));
  }

  #remark(text) {
    this.dispatchEvent(Object.assign(new Event("remark"), { text }));
  }
}
