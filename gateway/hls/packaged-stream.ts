// One stream being packaged: reads the frames lane, keeps the window of segments, writes playlists when they are asked for, and wakes
// those who wait for a part that is not there yet.

import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Stream } from "../hub/types.js";
import { describeAudio, describeVideo } from "../media/codec-strings.js";
import type { Frame, Sink } from "../media/frame.js";
import { announcesTrack } from "../media/metadata.js";
import type { SegmentFormat } from "../media/packager.js";
import { encrypt, KeyRing } from "./encryption.js";
import { type FileKind, fileName } from "./names.js";
import { type LowLatency, type MediaPlaylist, writeMasterPlaylist, writeMediaPlaylist } from "./playlist.js";
import type { Part, Segment } from "./segment.js";
import { type Expectation, Segmenter, type SegmenterOutput } from "./segmenter.js";
import { SegmentWindow } from "./window.js";

/** `hls { … }` of a vhost; times in milliseconds. */
export type HlsSettings = {
  readonly fragment: number;
  readonly window: number;
  readonly part: number;
  readonly lowLatency: boolean;
  readonly format: SegmentFormat;
  readonly keys: boolean;
  readonly fragmentsPerKey: number;
};

export type PackagedStreamOptions = {
  readonly stream: Stream;
  readonly clock: Clock;
  readonly settings: HlsSettings;
  /** Goes into the name of each file. */
  readonly token: string;
  /** Makes 16 bytes that nobody can guess. */
  readonly makeKey: () => Buffer;
  /** Where the numbers go on, when a stream of this name was packaged before. */
  readonly after?: SequenceNumbers | undefined;
  /** A segment is complete and in the playlist. */
  readonly onSegment?: (segment: Segment) => void;
  /** A segment can no longer be had. */
  readonly onRemove?: (segment: Segment) => void;
  /** The lane has ended: what there is can still be had until `dispose`. */
  readonly onEnd?: (reason: string) => void;
};

/** The last numbers that were given away. */
export type SequenceNumbers = { readonly sequence: number; readonly discontinuity: number };

/** A playlist as it is sent; the same object while nothing has changed. */
export type Playlist = {
  readonly text: string;
  /** Strong, without quotes. */
  readonly entityTag: string;
};

/** What became of waiting. `late`: it took too long. */
export type WaitOutcome = "done" | "ended" | "late";

type Waiter = { readonly isDone: () => boolean; readonly answer: (outcome: WaitOutcome) => void; readonly deadline: number };

/** Milliseconds for which a viewer counts as present after it asked for a playlist: longer than any waits in between. */
const ATTENTION = 30_000;

export class PackagedStream implements Sink<Frame>, SegmenterOutput {
  readonly stream: Stream;
  readonly token: string;
  readonly settings: HlsSettings;
  readonly window: SegmentWindow;
  readonly #options: PackagedStreamOptions;
  readonly #clock: Clock;
  readonly #segmenter: Segmenter;
  readonly #keys: KeyRing | undefined;
  /** In the order in which they came. */
  #waiters = new Set<Waiter>();
  #timer: TimerHandle | undefined;
  #state: "new" | "running" | "ended" | "disposed" = "new";
  #version = 0;
  #full: Playlist | undefined;
  #delta: Playlist | undefined;
  #trouble: string | undefined;
  /** When a playlist was last asked for. */
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(options: PackagedStreamOptions) {
    const { stream, clock, settings, token, after } = options;
    this.#options = options;
    this.stream = stream;
    this.token = token;
    this.settings = settings;
    this.#clock = clock;
    const fragment = settings.fragment * 1000;
    this.window = new SegmentWindow({
      window: settings.window * 1000,
      fragment,
      onRemove: (segment) => options.onRemove?.(segment),
    });
    this.#segmenter = new Segmenter({
      format: settings.format,
      fragment,
      part: this.isLowLatency ? settings.part * 1000 : 0,
      ...(after !== undefined && {
        firstSequenceNumber: after.sequence + 1,
        firstDiscontinuitySequence: after.discontinuity + 1,
      }),
      expects: (kind) => expectation(stream, kind),
      output: this,
    });
    this.#keys = settings.keys ? new KeyRing(settings.fragmentsPerKey, options.makeKey) : undefined;
  }

  /** Segments are encrypted as a whole, so there is nothing to give away before they are complete. */
  get isLowLatency(): boolean {
    return this.settings.lowLatency && !this.settings.keys;
  }

  get state(): "new" | "running" | "ended" | "disposed" {
    return this.#state;
  }

  /** Why nothing can be packaged, or what is left out. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** There is a playlist: a segment is complete, so that every player has something to begin with. */
  get isReady(): boolean {
    return this.window.listed.length > 0;
  }

  get numbers(): SequenceNumbers {
    return { sequence: this.#segmenter.nextSequenceNumber, discontinuity: this.#segmenter.discontinuitySequence };
  }

  /** Held requests. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** Begins to read the stream, with the group of pictures it has kept. */
  start(): void {
    if (this.#state !== "new") return;
    this.#state = "running";
    const { frames } = this.stream;
    const known = frames.videoConfig ?? frames.audioConfig ?? frames.backlog[0];
    if (known !== undefined) this.#readBacklog();
    frames.add(this); // a converter that starts now writes to those who are there
  }

  #readBacklog(): void {
    const { videoConfig, audioConfig, backlog } = this.stream.frames;
    for (const config of [videoConfig, audioConfig]) if (config !== undefined) this.#segmenter.write(config);
    for (const frame of backlog) this.#segmenter.write(frame);
  }

  write(frame: Frame): void {
    this.#segmenter.write(frame);
  }

  /** Nobody has asked for a playlist for a while: a part may be made a little late. */
  get isPatient(): boolean {
    return this.#clock.now() - this.#askedAt > ATTENTION;
  }

  /** The lane has ended. */
  close(reason: string): void {
    if (this.#state === "ended" || this.#state === "disposed") return;
    this.#state = "ended";
    this.#segmenter.finish();
    this.#changed();
    this.#settleAll("ended");
    this.#options.onEnd?.(reason);
  }

  /** Another publisher, or the same one again: its first segment is a discontinuity. */
  restart(): void {
    if (this.#state === "running") this.#segmenter.restart();
  }

  /** The publisher has left and may come back: what there is becomes a segment. */
  pause(): void {
    if (this.#state === "running") this.#segmenter.finish();
  }

  /** Leaves the stream and forgets everything. Idempotent. */
  dispose(): void {
    if (this.#state === "disposed") return;
    if (this.#state === "running") this.stream.frames.remove(this);
    this.#state = "disposed";
    this.#settleAll("ended");
    this.window.clear();
    this.stream.notes.delete(NOTE);
  }

  // What the segmenter tells.

  onPart(): void {
    this.#changed();
  }

  onSegment(segment: Segment): void {
    if (this.#keys !== undefined) {
      const key = this.#keys.next();
      segment.encrypted = { key, bytes: encrypt(segment, key) };
    }
    this.window.add(segment);
    this.#options.onSegment?.(segment);
    this.#changed();
  }

  /** A browser makes a key frame only when it is asked. */
  onDue(): void {
    if (this.stream.sourceLane === "packets") this.stream.packets.requestKeyFrame("an HLS segment is due");
  }

  onTrouble(reason: string | undefined): void {
    this.#trouble = reason;
    if (reason === undefined) this.stream.notes.delete(NOTE);
    else this.stream.notes.set(NOTE, reason);
  }

  // What is asked for.

  /** @param uri of the media playlist */
  masterPlaylist(uri: string): string {
    this.#askedAt = this.#clock.now();
    const run = (this.#segmenter.openSegment ?? this.window.listed.at(-1))?.run;
    const video = run?.tracks.video === undefined ? undefined : describeVideo(run.tracks.video);
    const audio = run?.tracks.audio === undefined ? undefined : describeAudio(run.tracks.audio);
    return writeMasterPlaylist({
      uri,
      bandwidth: this.window.bandwidth,
      codecs: [video?.codec, audio?.codec].filter((codec) => codec !== undefined),
      width: video?.width,
      height: video?.height,
      frameRate: video === undefined ? undefined : (this.#segmenter.frameRate ?? video.frameRate),
      isIndependent: this.window.listed.every(({ isIndependent }) => isIndependent),
    });
  }

  /** Made once per change, for all who ask. */
  mediaPlaylist(skip: boolean): Playlist {
    this.#askedAt = this.#clock.now();
    const known = skip ? this.#delta : this.#full;
    if (known !== undefined) return known;
    const text = writeMediaPlaylist(
      this.#describe(this.isLowLatency ? this.#segmenter.openSegment : undefined, this.#lowLatency()),
      skip,
    );
    const playlist = { text, entityTag: `${this.token}-${this.#version}${skip ? "d" : ""}` };
    if (skip) this.#delta = playlist;
    else this.#full = playlist;
    return playlist;
  }

  /** Complete segments alone, for those who read files. */
  plainPlaylist(): string {
    return writeMediaPlaylist(this.#describe(undefined, undefined));
  }

  #describe(open: Segment | undefined, lowLatency: LowLatency | undefined): MediaPlaylist {
    const { window, stream } = this;
    return {
      format: this.settings.format,
      segments: window.listed,
      open,
      targetDuration: Math.max(window.targetDuration, Math.round((open?.duration ?? 0) / 1_000_000)),
      lowLatency,
      isEnded: this.#state === "ended",
      wallTimeOf: (time) => stream.wallTimeOf(time),
      uri: (kind, number) => this.#uri(kind, number),
    };
  }

  #lowLatency(): LowLatency | undefined {
    if (!this.isLowLatency) return undefined;
    const { targetDuration } = this.window;
    const until = CAN_SKIP_UNTIL * targetDuration;
    return {
      partTarget: this.#segmenter.partTarget ?? this.settings.part * 1000,
      nextPart: this.#segmenter.nextPart,
      canSkipUntil: this.settings.window >= until * 1000 ? until : undefined,
    };
  }

  part(number: number): Part | undefined {
    if (!this.isLowLatency) return undefined;
    const open = this.#segmenter.openSegment?.parts.find((part) => part.number === number);
    return open ?? this.window.part(number);
  }

  get nextPart(): number {
    return this.#segmenter.nextPart;
  }

  /** Of what is being made. */
  get contentType(): string {
    const run = (this.#segmenter.openSegment ?? this.window.listed.at(-1))?.run;
    return run?.packager.contentType ?? "application/octet-stream";
  }

  /** The initialization section of a run. */
  initialization(number: number): { readonly bytes: Buffer; readonly contentType: string } | undefined {
    const open = this.#segmenter.openSegment?.run;
    const run = open?.number === number ? open : this.window.run(number);
    const bytes = run?.packager.initialization;
    return run === undefined || bytes === undefined ? undefined : { bytes, contentType: run.packager.contentType };
  }

  /**
   * Whether the playlist holds the segment, or the part of it: RFC 8216bis section 6.2.5.2. A part past the end of its segment is the
   * first one of the next.
   *
   * @param part undefined: the whole segment
   * @returns `absurd` when it is further ahead than anybody needs to ask
   */
  holds(sequenceNumber: number, part: number | undefined): "yes" | "not-yet" | "absurd" {
    const open = this.isLowLatency ? this.#segmenter.openSegment : undefined;
    const last = this.window.listed.at(-1)?.sequenceNumber ?? this.#segmenter.nextSequenceNumber - 1;
    if (sequenceNumber < last) return "yes";
    if (sequenceNumber === last) {
      const count = this.window.segment(last)?.parts.length ?? 0;
      return part === undefined || part < count ? "yes" : this.holds(last + 1, 0);
    }
    if (sequenceNumber > last + MAX_AHEAD_SEGMENTS) return "absurd";
    const present = open?.sequenceNumber === sequenceNumber ? open.parts.length : 0;
    if (part !== undefined && part < present) return "yes";
    return part !== undefined && part > present + this.#maxAheadParts() ? "absurd" : "not-yet";
  }

  /** Calls back in the turn in which it comes true, or when it cannot any more. @returns a function that forgets it */
  wait(isDone: () => boolean, timeout: number, answer: (outcome: WaitOutcome) => void): () => void {
    if (this.#state === "ended" || this.#state === "disposed") {
      answer("ended");
      return () => {};
    }
    const waiter: Waiter = { isDone, answer, deadline: this.#clock.now() + timeout };
    this.#waiters.add(waiter);
    this.#watch();
    return () => void this.#waiters.delete(waiter);
  }

  /** Advance Part Limit of section 6.2.5.2. */
  #maxAheadParts(): number {
    const target = this.#segmenter.partTarget ?? this.settings.part * 1000;
    return target < 1_000_000 ? Math.ceil(3_000_000 / target) : 3;
  }

  #uri(kind: FileKind, number: number): string {
    return encodeURIComponent(fileName(this.stream.name.stream, this.token, kind, number, this.settings.format));
  }

  #changed(): void {
    this.#version++;
    this.#full = undefined;
    this.#delta = undefined;
    for (const waiter of this.#waiters) {
      if (!waiter.isDone()) continue;
      this.#waiters.delete(waiter);
      waiter.answer("done");
    }
  }

  #settleAll(outcome: WaitOutcome): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const waiter of waiters) waiter.answer(waiter.isDone() ? "done" : outcome);
  }

  /** One timer for all who wait. */
  #watch(): void {
    if (this.#timer !== undefined) return;
    this.#timer = this.#clock.after(WATCH_INTERVAL, () => {
      this.#timer = undefined;
      const now = this.#clock.now();
      for (const waiter of this.#waiters) {
        if (waiter.deadline > now) continue;
        this.#waiters.delete(waiter);
        waiter.answer("late");
      }
      if (this.#waiters.size > 0) this.#watch();
    });
  }
}

/** Whether the publisher sends it, as far as can be told before it comes. */
function expectation(stream: Stream, kind: "audio" | "video"): Expectation {
  const { sourceLane, frames, packets } = stream;
  if (sourceLane === "packets") {
    const codec = packets.track(kind)?.codec;
    return codec === (kind === "video" ? "h264" : "opus") ? "yes" : "no"; // what the bridge makes frames of
  }
  if (frames.metadata === undefined) return "unknown";
  return announcesTrack(frames.metadata.data, kind) ? "yes" : "no";
}

const NOTE = "hls";
const CAN_SKIP_UNTIL = 6; // target durations: the least that section 4.4.3.8 allows
const MAX_AHEAD_SEGMENTS = 2; // section 6.2.5.2
const WATCH_INTERVAL = 500; // ms
