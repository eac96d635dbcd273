// A hub that grants or refuses as told and keeps what is published.

import { EventEmitter, once } from "node:events";

import type { Hub, Play, Publication, PublishRequest, Stream } from "../../gateway/hub/types.js";
import { Refusal } from "../../gateway/media/errors.js";
import type { Frame } from "../../gateway/media/frame.js";

export class FakePublication implements Publication {
  readonly request: PublishRequest;
  readonly frames: Frame[] = [];
  readonly ended: string[] = [];
  readonly #events: EventEmitter;

  constructor(request: PublishRequest, events: EventEmitter) {
    this.request = request;
    this.#events = events;
  }

  get stream(): Stream {
    throw new Error("the fake hub has no streams");
  }

  writeFrame(frame: Frame): void {
    this.frames.push(frame);
    this.#events.emit("frame");
  }

  writePackets(): void {
    throw new Error("this publisher writes frames");
  }

  end(reason: string): void {
    this.ended.push(reason);
    this.#events.emit("end");
  }
}

export class FakeHub implements Hub {
  readonly publications: FakePublication[] = [];
  /** What the next publish waits for before it is granted. */
  gate: Promise<void> = Promise.resolve();
  /** Set: every publish is refused with it. */
  refusal: Error | undefined;
  readonly #events = new EventEmitter();

  async publish(request: PublishRequest): Promise<Publication> {
    await this.gate;
    if (this.refusal !== undefined) throw this.refusal;
    const publication = new FakePublication(request, this.#events);
    this.publications.push(publication);
    this.#events.emit("publish");
    return publication;
  }

  async play(): Promise<Play> {
    throw new Refusal("unavailable", "the fake hub plays nothing");
  }

  find(): undefined {
    return undefined;
  }

  streams(): Iterable<Stream> {
    return [];
  }

  clients(): Iterable<never> {
    return [];
  }

  /** Resolves when the condition holds; looked at after each event of the hub. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await Promise.race([once(this.#events, "frame"), once(this.#events, "end"), once(this.#events, "publish")]);
    }
  }
}
