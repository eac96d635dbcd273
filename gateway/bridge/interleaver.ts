// Puts two tracks into one order of decoding times, as RTMP and FLV want it, although sound comes later than its picture: it has been
// through a transcoder. What leaves never steps back.

import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Frame } from "../media/frame.js";

type Waiting = { readonly frame: Frame; readonly since: number };

export class Interleaver {
  readonly #clock: Clock;
  readonly #write: (frame: Frame) => void;
  readonly #video: Waiting[] = [];
  readonly #audio: Waiting[] = [];
  #isAudioExpected = false;
  #isVideoExpected = false;
  #lastDts = Number.NEGATIVE_INFINITY;
  #audioPatience = FIRST_AUDIO_PATIENCE;
  #timer: TimerHandle | undefined;
  #timerDue = Number.POSITIVE_INFINITY;
  /** Audio frames that came too late to be sent in order. */
  dropped = 0;

  constructor(clock: Clock, write: (frame: Frame) => void) {
    this.#clock = clock;
    this.#write = write;
  }

  /** Decoding time of what was sent last. */
  get lastDts(): number {
    return this.#lastDts;
  }

  /** Whether a track is under way, so that the other one waits for it. */
  expect(kind: "audio" | "video", expected: boolean): void {
    if (kind === "audio") this.#isAudioExpected = expected;
    else this.#isVideoExpected = expected;
    this.#flush();
  }

  /** Takes a frame; those of one track come in order of their decoding times. */
  push(frame: Frame): void {
    const queue = frame.kind === "video" ? this.#video : this.#audio;
    queue.push({ frame, since: this.#clock.now() });
    this.#flush();
  }

  /** Throws away what waits. What is sent after this is still in order with what was sent before. */
  clear(): void {
    this.#video.length = 0;
    this.#audio.length = 0;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerDue = Number.POSITIVE_INFINITY;
    this.#audioPatience = FIRST_AUDIO_PATIENCE;
  }

  #flush(): void {
    for (;;) {
      const video = this.#video[0];
      const audio = this.#audio[0];
      if (video !== undefined && audio !== undefined) {
        this.#send(video.frame.dts <= audio.frame.dts ? this.#video : this.#audio);
      } else if (video !== undefined && this.#mayPass(video, this.#isAudioExpected, this.#audioPatience)) {
        this.#send(this.#video);
      } else if (audio !== undefined && this.#mayPass(audio, this.#isVideoExpected, VIDEO_PATIENCE)) {
        this.#send(this.#audio);
      } else {
        return;
      }
    }
  }

  #mayPass(waiting: Waiting, isOtherExpected: boolean, patience: number): boolean {
    const due = waiting.since + patience;
    if (!isOtherExpected || waiting.frame.dts <= this.#lastDts || this.#clock.now() >= due) return true;
    this.#wakeAt(due);
    return false;
  }

  #send(queue: Waiting[]): void {
    const frame = (queue.shift() as Waiting).frame;
    if (frame.dts >= this.#lastDts) {
      this.#lastDts = frame.dts;
      this.#write(frame);
    } else if (frame.kind === "video") {
      // A picture cannot be left out. It is decoded a little later, and never shown before that.
      this.#write({ ...frame, dts: this.#lastDts, pts: Math.max(frame.pts, this.#lastDts) });
    } else {
      // Sound has its exact places: what has missed its own is left out, and the next is waited for longer.
      this.dropped += 1;
      this.#audioPatience = Math.min(MAX_AUDIO_PATIENCE, this.#audioPatience + AUDIO_PATIENCE_STEP);
    }
  }

  #wakeAt(due: number): void {
    if (this.#timer !== undefined && this.#timerDue <= due) return;
    this.#timer?.cancel();
    this.#timerDue = due;
    this.#timer = this.#clock.after(due - this.#clock.now(), () => {
      this.#timer = undefined;
      this.#timerDue = Number.POSITIVE_INFINITY;
      this.#flush();
    });
  }
}

const FIRST_AUDIO_PATIENCE = 300; // ms that a picture waits for its sound; a transcoder needs 60 to 80, and twice that to start
const MAX_AUDIO_PATIENCE = 800; // ms
const AUDIO_PATIENCE_STEP = 20; // ms per frame that came too late
const VIDEO_PATIENCE = 200; // ms that sound waits for its picture: three frames at 15 a second
