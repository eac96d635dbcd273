// What operator, API and publisher are told about a bridged stream, each once.

import type { Stream } from "../hub/types.js";
import { type BridgeLog, NOTICE_CODE } from "./types.js";

export class Notices {
  readonly #stream: Stream;
  readonly #log: BridgeLog;
  #publisher: string | undefined;
  /** What this publisher and the log have been told. */
  readonly #told = new Set<string>();

  constructor(stream: Stream, log: BridgeLog) {
    this.#stream = stream;
    this.#log = log;
  }

  /** State for the API, replaced by the next of its topic. */
  note(topic: "video" | "audio", text: string): void {
    this.#stream.notes.set(topic, text);
  }

  /** A state that has a reason somebody must know: noted, and told to the log and the publisher once per publisher. */
  tell(topic: "video" | "audio", level: "info" | "warn", text: string): void {
    if (this.#stream.notes.get(topic) === text) return;
    this.note(topic, text);
    const publisher = this.#stream.publisher?.id;
    if (publisher !== this.#publisher || this.#told.size >= MAX_TOLD) {
      this.#publisher = publisher;
      this.#told.clear();
    }
    if (this.#told.has(text)) return;
    this.#told.add(text);
    this.#log[level](`${topic}: ${text}`);
    this.#stream.notifyPublisher(NOTICE_CODE, `for WebRTC viewers: ${topic}: ${text}`);
  }

  /** Nothing is done any more, so there is no state to show. */
  clear(): void {
    this.#stream.notes.delete("video");
    this.#stream.notes.delete("audio");
  }
}

const MAX_TOLD = 32; // a publisher that changes its codecs all the time
