// A hub that grants or refuses as told and keeps what is published.

import type { Hub, Play, Publication, PublishRequest, Stream } from "../../gateway/hub/types.js";
import { Refusal } from "../../gateway/media/errors.js";
import type { Frame } from "../../gateway/media/frame.js";

export class FakePublication implements Publication {
  readonly request: PublishRequest;
  readonly frames: Frame[] = [];
  readonly ended: string[] = [];
  readonly #onChange: () => void;

  constructor(request: PublishRequest, onChange: () => void) {
    this.request = request;
    this.#onChange = onChange;
  }

  get stream(): Stream {
    throw new Error("the fake hub has no streams");
  }

  writeFrame(frame: Frame): void {
    this.frames.push(frame);
    this.#onChange();
  }

  writePackets(): void {
    throw new Error("this publisher writes frames");
  }

  end(reason: string): void {
    this.ended.push(reason);
    this.#onChange();
  }
}

export class FakeHub implements Hub {
  readonly publications: FakePublication[] = [];
  readonly totals = { clients: 0, refused: 0, sent: 0, received: 0 };
  /** What the next publish waits for before it is granted. */
  gate: Promise<void> = Promise.resolve();
  /** Set: every publish is refused with it. */
  refusal: Error | undefined;
  #waiting: (() => void)[] = [];

  async publish(request: PublishRequest): Promise<Publication> {
    await this.gate;
    if (this.refusal !== undefined) throw this.refusal;
    const publication = new FakePublication(request, () => this.#wake());
    this.publications.push(publication);
    this.#wake();
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

  /** Resolves when the condition holds; looked at after everything that is published or ends. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
