// What a packaged stream consists of (RFC 8216bis section 3): segments, their parts, and the runs of equal configuration they belong to.

import type { Packager, SegmentTracks } from "../media/packager.js";

/** Segments from one discontinuity to the next at most: one packager made them, and one initialization section goes before them. */
export type Run = {
  /** Counts the initialization sections of a stream. */
  readonly number: number;
  readonly tracks: SegmentTracks;
  readonly packager: Packager;
};

/** A Partial Segment. Its bytes are made once, shared by all who read them, and never changed. */
export type Part = {
  /** Counts the parts of a stream, over all its segments: the name of the next one is known before its segment is. */
  readonly number: number;
  readonly bytes: Buffer;
  /** Microseconds. */
  readonly duration: number;
  /** A player may begin with it: it holds a key frame, or there is no video. */
  readonly isIndependent: boolean;
};

export type SegmentKey = {
  /** Counts the keys of a stream. */
  readonly number: number;
  /** 16 bytes. */
  readonly bytes: Buffer;
};

/** A Media Segment, from its first part on. */
export class Segment {
  /** Media Sequence Number. */
  readonly sequenceNumber: number;
  /** Discontinuity Sequence Number. */
  readonly discontinuitySequence: number;
  /** An EXT-X-DISCONTINUITY stands before it. */
  readonly isDiscontinuity: boolean;
  readonly run: Run;
  /** Stream time in microseconds. */
  readonly start: number;
  readonly parts: Part[] = [];
  /** Microseconds, of the parts there are. */
  duration = 0;
  /** Bytes, of the parts there are. */
  size = 0;
  state: "open" | "complete" = "open";
  /** Its video, if it has some, begins with a key frame. */
  isIndependent = true;
  #hasPicture = false;
  /** What is sent instead of its parts, when it is encrypted. */
  encrypted: { readonly key: SegmentKey; readonly bytes: Buffer } | undefined;

  constructor(options: Pick<Segment, "sequenceNumber" | "discontinuitySequence" | "isDiscontinuity" | "run" | "start">) {
    this.sequenceNumber = options.sequenceNumber;
    this.discontinuitySequence = options.discontinuitySequence;
    this.isDiscontinuity = options.isDiscontinuity;
    this.run = options.run;
    this.start = options.start;
  }

  /** @param beginsWithKey of its pictures; undefined: it has none */
  add(part: Part, beginsWithKey: boolean | undefined): void {
    if (!this.#hasPicture && beginsWithKey === false) this.isIndependent = false;
    this.#hasPicture ||= beginsWithKey !== undefined;
    this.parts.push(part);
    this.duration += part.duration;
    this.size += part.bytes.length;
  }

  /** Stream time of its end so far, in microseconds. */
  get end(): number {
    return this.start + this.duration;
  }

  /** What a player that asks for it gets, in pieces that are not joined: joining them would be one copy more. */
  get body(): readonly Buffer[] {
    return this.encrypted === undefined ? this.parts.map(({ bytes }) => bytes) : [this.encrypted.bytes];
  }
}
