// From the frames lane to segments and parts (RFC 8216bis sections 3 and 6.2.1). Segments begin with a key frame; parts, of about a fifth
// of a second, need not. Everything is cut when the frame that comes next is there: then the last one's duration is known.

import type { Frame } from "../media/frame.js";
import { canCarry, createPackager, type Packager, type SegmentFormat, type SegmentTracks } from "../media/packager.js";
import { type Part, type Run, Segment } from "./segment.js";

/** Whether a publisher sends a kind of media, as far as can be known before it comes. */
export type Expectation = "yes" | "no" | "unknown";

export type SegmenterOptions = {
  readonly format: SegmentFormat;
  /** Microseconds after which the next key frame begins a new segment. */
  readonly fragment: number;
  /** Microseconds of a part, about; 0: a segment has one part. */
  readonly part: number;
  /** Media Sequence Number and Discontinuity Sequence Number of the first segment. Default 0. */
  readonly firstSequenceNumber?: number;
  readonly firstDiscontinuitySequence?: number;
  /** Asked while a track has not shown itself yet: a run waits for one that will come. */
  readonly expects: (kind: "audio" | "video") => Expectation;
  readonly output: SegmenterOutput;
  /** Makes the bytes. Default `createPackager`. */
  readonly createPackager?: (format: SegmentFormat, tracks: SegmentTracks) => Packager;
};

/** What is told as it happens. */
export interface SegmenterOutput {
  /** A part has been added to its segment, which stays open. */
  onPart(segment: Segment, part: Part): void;
  /** A segment is complete; its last part was not told by itself. */
  onSegment(segment: Segment): void;
  /** A key frame would end the segment now; told again each second until one comes. */
  onDue(): void;
  /** A track is left out, or nothing can be packaged at all; undefined: all is well (again). */
  onTrouble(reason: string | undefined): void;
}

type Kind = "audio" | "video";
type TrackConfig = { readonly codec: Frame["codec"]; readonly configuration: Buffer };

export class Segmenter {
  readonly #options: SegmenterOptions;
  readonly #maxSegment: number;
  readonly #configs: { video: TrackConfig | undefined; audio: TrackConfig | undefined } = { video: undefined, audio: undefined };
  #run: Run | undefined;
  #runs = 0;
  /** The configurations are others than the run's: the next key frame begins another run. */
  #isOutdated = false;
  #needsKey = true;
  /** Frames of a run that has not begun: it waits for its tracks. */
  #collected: Frame[] = [];
  #segment: Segment | undefined;
  /** Frames that are in no part yet, as they came. */
  #pending: Frame[] = [];
  #pendingBytes = 0;
  #partStart = 0;
  #nextSequenceNumber: number;
  #discontinuitySequence: number;
  #nextPart = 0;
  #isFirstSegment = true;
  #isDiscontinuity = false;
  #partTarget: number | undefined;
  #lastVideo: Frame | undefined;
  #lastLead: Frame | undefined;
  /** Microseconds from picture to picture, or from sound to sound where there is no picture; smoothed. */
  #interval = 0;
  #trouble: string | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(options: SegmenterOptions) {
    this.#options = options;
    this.#maxSegment = Math.max(MAX_SEGMENT, 2 * options.fragment);
    this.#nextSequenceNumber = options.firstSequenceNumber ?? 0;
    this.#discontinuitySequence = options.firstDiscontinuitySequence ?? 0;
  }

  /** The segment that is being made, if it has parts. */
  get openSegment(): Segment | undefined {
    return this.#segment !== undefined && this.#segment.parts.length > 0 ? this.#segment : undefined;
  }

  /** Number the next part will have, whatever segment it belongs to. */
  get nextPart(): number {
    return this.#nextPart;
  }

  /** Sequence number of the segment that the next part belongs to, or of the one after it. */
  get nextSequenceNumber(): number {
    return this.#segment?.sequenceNumber ?? this.#nextSequenceNumber;
  }

  get discontinuitySequence(): number {
    return this.#discontinuitySequence;
  }

  /** PART-TARGET in microseconds; undefined while no part has been made. */
  get partTarget(): number | undefined {
    return this.#partTarget;
  }

  /** Pictures per second as they come, or undefined. */
  get frameRate(): number | undefined {
    return this.#run?.tracks.video === undefined || this.#interval === 0 ? undefined : 1_000_000 / this.#interval;
  }

  write(frame: Frame): void {
    if (frame.kind === "data") return;
    if (frame.isConfig) this.#configure(frame, frame.kind);
    else if (this.#run === undefined) this.#collect(frame);
    else this.#take(frame, this.#run);
  }

  /** The publisher has left or was replaced: what there is becomes a segment, and what comes next has its own configuration. */
  restart(): void {
    this.finish();
    this.#run = undefined;
    this.#configs.video = undefined;
    this.#configs.audio = undefined;
    this.#collected = [];
    this.#setTrouble(undefined);
  }

  /** Ends the part and the segment that are being made. */
  finish(): void {
    if (this.#segment === undefined) return;
    const last = this.#pending.reduce((end, frame) => Math.max(end, frame.dts + this.#durationOf(frame)), this.#partStart);
    this.#closeSegment(last, undefined, undefined);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#needsKey = true;
  }

  #configure(frame: Frame, kind: Kind): void {
    const { format } = this.#options;
    const known = this.#configs[kind];
    if (!canCarry(format, frame.codec)) {
      this.#setTrouble(
        `${frame.codec} is left out: HLS of this gateway cannot carry it in ${format === "ts" ? "MPEG-TS" : "fMP4"}`,
      );
      this.#configs[kind] = undefined;
    } else {
      this.#configs[kind] = { codec: frame.codec, configuration: frame.data };
    }
    const config = this.#configs[kind];
    const isSame = config?.codec === known?.codec && config?.configuration.equals(known?.configuration ?? NOTHING) !== false;
    if (this.#run === undefined) {
      if (kind === "video") this.#collected = []; // sound alone, or frames that need another configuration
      return;
    }
    if (isSame) return;
    this.#isOutdated = true;
    const hasVideo = this.#run.tracks.video !== undefined;
    if (kind === "video" && hasVideo) {
      this.finish(); // what follows cannot be decoded with the run's configuration
    } else if (kind === "audio" && !hasVideo) {
      this.finish();
      this.#run = undefined;
    }
  }

  /** Before a run: waits until each track that will come has shown itself, or for a while. */
  #collect(frame: Frame): void {
    const { video, audio } = this.#configs;
    const config = frame.kind === "video" ? video : audio;
    if (config === undefined) return;
    const isEntry = video === undefined || (frame.kind === "video" && frame.isKey);
    if (this.#collected.length === 0 && !isEntry) return;
    this.#collected.push(frame);
    const missing =
      video === undefined ? this.#options.expects("video") : audio === undefined ? this.#options.expects("audio") : "no";
    const waited = frame.dts - (this.#collected[0]?.dts ?? frame.dts);
    const patience = missing === "no" ? 0 : missing === "yes" ? PATIENCE_ANNOUNCED : PATIENCE;
    if (waited < patience && this.#collected.length < MAX_COLLECTED) return;
    const frames = this.#collected;
    this.#collected = [];
    if (!this.#begin()) return;
    for (const collected of frames) if (this.#run !== undefined) this.#take(collected, this.#run);
  }

  /** A run of the configurations there are. @returns false when nothing can be made of them */
  #begin(): boolean {
    const { video, audio } = this.#configs;
    const tracks = { ...(video !== undefined && { video }), ...(audio !== undefined && { audio }) } as SegmentTracks;
    this.#isOutdated = false;
    this.#needsKey = video !== undefined;
    try {
      const packager = (this.#options.createPackager ?? createPackager)(this.#options.format, tracks);
      this.#run = { number: this.#runs++, tracks, packager };
    } catch (error) {
      this.#run = undefined;
      this.#setTrouble(error instanceof Error ? error.message : String(error));
      this.#configs.video = undefined;
      this.#configs.audio = undefined;
      return false;
    }
    this.#isDiscontinuity = !this.#isFirstSegment;
    this.#interval = 0;
    this.#lastVideo = undefined;
    this.#lastLead = undefined;
    return true;
  }

  #take(frame: Frame, run: Run): void {
    if (frame.kind === "video") {
      if (run.tracks.video === undefined) {
        if (!this.#isOutdated || !frame.isKey) return; // there was none when the run began
      } else if (this.#needsKey && !frame.isKey) {
        return;
      }
      if (this.#isOutdated && frame.isKey) {
        this.#closeSegment(frame.dts, undefined, frame.dts);
        this.#pending = [];
        this.#pendingBytes = 0;
        if (!this.#begin()) return;
      }
      this.#needsKey = false;
      this.#takeLead(frame);
      this.#lastVideo = frame;
    } else if (run.tracks.audio !== undefined && !this.#isOtherSound(run)) {
      if (run.tracks.video === undefined) this.#takeLead(frame);
      else if (!this.#needsKey) this.#takeSound(frame);
    }
  }

  /** Sound of a configuration that the next run will have. */
  #isOtherSound(run: Run): boolean {
    return this.#isOutdated && this.#configs.audio?.configuration !== run.tracks.audio?.configuration;
  }

  /** A frame of the track that decides where is cut. */
  #takeLead(frame: Frame): void {
    this.#measure(frame);
    if (this.#segment === undefined) {
      this.#open(frame.dts);
    } else {
      const age = frame.dts - this.#segment.start;
      const isDue = frame.isKey && age >= this.#options.fragment * EARLY;
      if (isDue || age >= this.#maxSegment || this.#segment.size + this.#pendingBytes >= MAX_SEGMENT_BYTES) {
        this.#splitLongPart(frame.dts);
        this.#open(this.#closeSegment(frame.dts, undefined, frame.dts));
      } else {
        this.#cutPart(frame.dts);
        if (age >= this.#options.fragment * EARLY && frame.dts - this.#askedAt >= ASK_INTERVAL) {
          this.#askedAt = frame.dts;
          this.#options.output.onDue();
        }
      }
    }
    this.#push(frame);
  }

  /** Sound beside pictures. Where the pictures have stopped, it is the sound that moves time on. */
  #takeSound(frame: Frame): void {
    const segment = this.#segment;
    if (segment === undefined) return;
    const silence = frame.dts - (this.#lastVideo?.dts ?? segment.start);
    if (silence > VIDEO_SILENCE && frame.dts - segment.start >= this.#options.fragment) {
      this.#open(this.#closeSegment(frame.dts - STALL, this.#heldPicture(), undefined));
    }
    while (this.#partTarget !== undefined && this.#options.part > 0 && frame.dts - this.#partStart >= this.#partTarget + STALL) {
      const before = this.#nextPart;
      this.#closePart(this.#partStart + this.#partTarget, this.#heldPicture(), undefined);
      if (this.#nextPart === before) break;
    }
    this.#push(frame);
  }

  #push(frame: Frame): void {
    this.#pending.push(frame);
    this.#pendingBytes += frame.data.length;
  }

  /** The newest picture when it is in no part yet: how long it lasts is not known. */
  #heldPicture(): Frame | undefined {
    return this.#lastVideo !== undefined && this.#pending.includes(this.#lastVideo) ? this.#lastVideo : undefined;
  }

  #measure(frame: Frame): void {
    const step = frame.dts - (this.#lastLead?.dts ?? frame.dts);
    this.#lastLead = frame;
    if (step <= 0) return;
    if (this.#interval === 0) this.#interval = step;
    else this.#interval += (Math.min(step, 2 * this.#interval) - this.#interval) / 8;
  }

  #open(start: number): void {
    const run = this.#run as Run;
    if (this.#isDiscontinuity) this.#discontinuitySequence++;
    this.#segment = new Segment({
      sequenceNumber: this.#nextSequenceNumber++,
      discontinuitySequence: this.#discontinuitySequence,
      isDiscontinuity: this.#isDiscontinuity,
      run,
      start,
    });
    this.#isDiscontinuity = false;
    this.#isFirstSegment = false;
    this.#partStart = start;
  }

  /** Ends the part when the frame that comes at `dts` would make it too long. */
  #cutPart(dts: number): void {
    if (this.#options.part === 0) return;
    this.#splitLongPart(dts);
    const length = dts - this.#partStart;
    if (this.#partTarget === undefined) {
      // The first one chooses: so many frames as come nearest to what is configured, and room for stamps in whole milliseconds.
      if (length + this.#interval / 2 < this.#options.part) return;
      const frames = Math.max(1, Math.round(this.#options.part / this.#interval));
      const wanted = Math.max(this.#options.part, frames * this.#interval);
      this.#partTarget = Math.ceil((wanted + STAMP_SLACK) / 1000) * 1000;
      this.#splitLongPart(dts);
      if (dts - this.#partStart < wanted / 2) return; // what came late is in the next one
    } else if (length + this.#interval <= this.#partTarget) {
      return;
    }
    this.#closePart(dts, undefined, dts);
  }

  /** When frames came late the part ends before the last one instead: it must not be longer than PART-TARGET. */
  #splitLongPart(dts: number): void {
    const target = this.#partTarget;
    if (target === undefined || dts - this.#partStart <= target) return;
    const last = this.#lastLeadPending();
    if (last !== undefined && last.dts > this.#partStart) this.#closePart(last.dts, last, last.dts);
  }

  #lastLeadPending(): Frame | undefined {
    const kind = this.#run?.tracks.video === undefined ? "audio" : "video";
    return this.#pending.findLast((frame) => frame.kind === kind);
  }

  /**
   * @param held not in this part although it would be by its time
   * @param videoEnd when the picture comes that follows the part, if that is known
   */
  #closePart(end: number, held: Frame | undefined, videoEnd: number | undefined): void {
    const segment = this.#segment;
    if (segment === undefined) return;
    const part = this.#makePart(segment, end, held, videoEnd);
    if (part !== undefined) this.#options.output.onPart(segment, part);
  }

  /** @returns where the next segment begins */
  #closeSegment(end: number, held: Frame | undefined, videoEnd: number | undefined): number {
    const segment = this.#segment;
    if (segment === undefined) return end;
    // Pictures that lag behind sound: time has gone on already, and what waits must still be in this segment.
    const last = this.#pending.length > 0 ? Math.max(end, this.#partStart + MIN_PART) : Math.max(end, this.#partStart);
    this.#makePart(segment, last, held, videoEnd);
    this.#segment = undefined;
    if (segment.parts.length === 0) {
      // Nothing was in it: its number is free again, and a discontinuity is the next one's.
      this.#nextSequenceNumber--;
      if (segment.isDiscontinuity) this.#discontinuitySequence--;
      this.#isDiscontinuity = segment.isDiscontinuity;
      this.#isFirstSegment = segment.sequenceNumber === (this.#options.firstSequenceNumber ?? 0);
      return last;
    }
    segment.state = "complete";
    this.#options.output.onSegment(segment);
    return last;
  }

  #makePart(segment: Segment, end: number, held: Frame | undefined, videoEnd: number | undefined): Part | undefined {
    const frames: Frame[] = [];
    const rest: Frame[] = [];
    for (const frame of this.#pending) (frame.dts < end && frame !== held ? frames : rest).push(frame);
    if (frames.length === 0 || end <= this.#partStart) return undefined;
    const { packager, tracks } = segment.run;
    const bytes = packager.write(frames, { startsSegment: segment.parts.length === 0, videoEnd: held?.dts ?? videoEnd });
    this.#pending = rest;
    this.#pendingBytes = rest.reduce((sum, { data }) => sum + data.length, 0);
    if (bytes.length === 0) return undefined;
    const duration = end - this.#partStart;
    const part: Part = {
      number: this.#nextPart++,
      bytes,
      duration,
      isIndependent: tracks.video === undefined || frames.some((frame) => frame.kind === "video" && frame.isKey),
    };
    segment.add(part, frames.find((frame) => frame.kind === "video")?.isKey);
    this.#partStart = end;
    if (this.#options.part > 0) {
      this.#partTarget = Math.max(this.#partTarget ?? this.#options.part, Math.ceil(duration / 1000) * 1000);
    }
    return part;
  }

  #durationOf(frame: Frame): number {
    if (frame.kind === "video" || this.#run?.tracks.video === undefined) return this.#interval || DEFAULT_STEP;
    return DEFAULT_STEP;
  }

  #setTrouble(reason: string | undefined): void {
    if (reason === this.#trouble) return;
    this.#trouble = reason;
    this.#options.output.onTrouble(reason);
  }
}

const NOTHING = Buffer.alloc(0);
/** A key frame this near before the end of `fragment` ends the segment: publishers' stamps are whole milliseconds. */
const EARLY = 0.97;
/** Microseconds without a key frame after which a segment is cut all the same; the next one does not begin with one then. */
const MAX_SEGMENT = 20_000_000;
/** 20 s at 25 Mbit/s. */
const MAX_SEGMENT_BYTES = 64 * 1024 * 1024;
/** Microseconds of media that a run waits for a track that was announced, and for one of which nobody has said anything. */
const PATIENCE_ANNOUNCED = 3_000_000;
const PATIENCE = 1_000_000;
/** Frames meanwhile: 3 s of 120 pictures and 47 sounds a second. */
const MAX_COLLECTED = 600;
/** Microseconds that sound may be ahead of pictures before these count as late: encoders interleave within that. */
const STALL = 300_000;
/** Microseconds without a picture after which segments no longer wait for one. */
const VIDEO_SILENCE = 2_000_000;
const ASK_INTERVAL = 1_000_000; // microseconds
/** Microseconds of a part that holds what is left over. */
const MIN_PART = 1_000;
const STAMP_SLACK = 4_000; // microseconds
const DEFAULT_STEP = 20_000; // microseconds: about one frame of sound
