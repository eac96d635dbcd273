// What a bridge is given besides its stream.

/** What is done about B-frames: `auto` re-encodes where there is room and leaves them out elsewhere. */
export type BframeMode = "auto" | "drop" | "transcode" | "keep";

/** `code` of what publishers are told about their stream. */
export const NOTICE_CODE = "NetStream.Publish.Notice";

/** Lines for the operator; the gateway adds the stream's name. */
export type BridgeLog = {
  readonly debug: (line: string) => void;
  readonly info: (line: string) => void;
  readonly warn: (line: string) => void;
};

/** Places for work that costs a good part of a core, shared by all streams. */
export interface WorkSlots {
  /** @returns a function that gives the place back (idempotent), or undefined when there is no room */
  acquire(): (() => void) | undefined;
}

/** A fixed number of places. */
export class FixedWorkSlots implements WorkSlots {
  readonly #max: number;
  #used = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get used(): number {
    return this.#used;
  }

  acquire(): (() => void) | undefined {
    if (this.#used >= this.#max) return undefined;
    this.#used += 1;
    let held = true;
    return () => {
      if (held) this.#used -= 1;
      held = false;
    };
  }
}
