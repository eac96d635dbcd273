// Playlists (RFC 8216bis): a multivariant one with one variant, and its media playlist, which serves players that know partial segments and
// those that do not.

import type { SegmentFormat } from "../media/packager.js";
import { initializationVector } from "./encryption.js";
import type { FileKind } from "./names.js";
import type { Segment } from "./segment.js";

export type MediaPlaylist = {
  readonly format: SegmentFormat;
  /** Complete segments; at least one. */
  readonly segments: readonly Segment[];
  /** The segment that is being made, when it has parts. */
  readonly open: Segment | undefined;
  /** Seconds. */
  readonly targetDuration: number;
  /** Undefined: partial segments are not listed, and requests are not held. */
  readonly lowLatency: LowLatency | undefined;
  /** Nothing follows. */
  readonly isEnded: boolean;
  /** Milliseconds since 1970 of a stream time in microseconds. */
  readonly wallTimeOf: (streamTime: number) => number;
  readonly uri: (kind: FileKind, number: number) => string;
};

export type LowLatency = {
  /** PART-TARGET, microseconds. */
  readonly partTarget: number;
  /** Number of the next part. */
  readonly nextPart: number;
  /** Seconds that a player may leave out of an update, counted from the end; undefined: it may not. */
  readonly canSkipUntil: number | undefined;
};

/** A media playlist; with `skip` a delta update (section 4.4.5.2), where there is something to skip. */
export function writeMediaPlaylist(playlist: MediaPlaylist, skip = false): string {
  const { segments, open, lowLatency, targetDuration, isEnded, uri } = playlist;
  const first = segments[0] ?? open;
  const lines = ["#EXTM3U", `#EXT-X-VERSION:${lowLatency !== undefined ? 9 : playlist.format === "fmp4" ? 6 : 3}`];
  lines.push(`#EXT-X-TARGETDURATION:${targetDuration}`);
  if (lowLatency !== undefined) {
    const target = lowLatency.partTarget / 1_000_000;
    const until = lowLatency.canSkipUntil === undefined ? "" : `,CAN-SKIP-UNTIL=${lowLatency.canSkipUntil.toFixed(1)}`;
    lines.push(`#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=${partHoldBack(target).toFixed(3)}${until}`);
    lines.push(`#EXT-X-PART-INF:PART-TARGET=${target.toFixed(3)}`);
  }
  lines.push(`#EXT-X-MEDIA-SEQUENCE:${first?.sequenceNumber ?? 0}`);
  // The tag before the first segment is still there, and counts.
  const discontinuity = first === undefined ? 0 : first.discontinuitySequence - (first.isDiscontinuity ? 1 : 0);
  if (discontinuity > 0) lines.push(`#EXT-X-DISCONTINUITY-SEQUENCE:${discontinuity}`);
  if (segments.every(({ isIndependent }) => isIndependent) && open?.isIndependent !== false) {
    lines.push("#EXT-X-INDEPENDENT-SEGMENTS");
  }
  const skipped = skip ? countSkipped(playlist) : 0;
  if (skipped > 0) lines.push(`#EXT-X-SKIP:SKIPPED-SEGMENTS=${skipped}`);
  const withParts = lowLatency === undefined ? Number.POSITIVE_INFINITY : segments.length - SEGMENTS_WITH_PARTS;
  const told = { run: -1, isEncrypted: false };
  for (let i = skipped; i < segments.length; i++) {
    const segment = segments[i] as Segment;
    writeHead(lines, segment, playlist, told);
    if (i >= withParts) writeParts(lines, segment, uri);
    lines.push(`#EXTINF:${seconds(segment.duration)},`, uri("segment", segment.sequenceNumber));
  }
  if (lowLatency !== undefined && !isEnded) {
    if (open !== undefined) {
      writeHead(lines, open, playlist, told);
      writeParts(lines, open, uri);
    }
    lines.push(`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="${uri("part", lowLatency.nextPart)}"`);
  }
  if (isEnded) lines.push("#EXT-X-ENDLIST");
  lines.push("");
  return lines.join("\n");
}

/** Seconds that a low-latency player stays behind: three parts at least, and never so near that a late packet empties it. */
function partHoldBack(partTarget: number): number {
  return Math.max(MIN_HOLD_BACK, 3 * partTarget);
}

/** Segments that end before the skip boundary. */
function countSkipped({ segments, open, lowLatency }: MediaPlaylist): number {
  if (lowLatency?.canSkipUntil === undefined) return 0;
  // By durations: between two publishers time passes that no segment has.
  let left = open?.duration ?? 0;
  let count = segments.length;
  while (count > 0 && left < lowLatency.canSkipUntil * 1_000_000) left += (segments[--count] as Segment).duration;
  return count;
}

type Told = { run: number; isEncrypted: boolean };

function writeHead(lines: string[], segment: Segment, { format, wallTimeOf, uri }: MediaPlaylist, told: Told): void {
  if (segment.isDiscontinuity) lines.push("#EXT-X-DISCONTINUITY");
  if (format === "fmp4" && told.run !== segment.run.number) {
    told.run = segment.run.number;
    if (told.isEncrypted) lines.push("#EXT-X-KEY:METHOD=NONE"); // a key would hold for the initialization section too
    lines.push(`#EXT-X-MAP:URI="${uri("initialization", segment.run.number)}"`);
  }
  const key = segment.encrypted?.key;
  if (key !== undefined) {
    told.isEncrypted = true;
    lines.push(`#EXT-X-KEY:METHOD=AES-128,URI="${uri("key", key.number)}",IV=0x${initializationVector(segment).toString("hex")}`);
  }
  lines.push(`#EXT-X-PROGRAM-DATE-TIME:${isoTime(wallTimeOf(segment.start))}`);
}

function writeParts(lines: string[], { parts }: Segment, uri: MediaPlaylist["uri"]): void {
  for (const { duration, number, isIndependent } of parts) {
    lines.push(
      `#EXT-X-PART:DURATION=${seconds(duration)},URI="${uri("part", number)}"${isIndependent ? ",INDEPENDENT=YES" : ""}`,
    );
  }
}

/** What the multivariant playlist says of the stream. */
export type Variant = {
  readonly uri: string;
  /** Bits per second. */
  readonly bandwidth: { readonly peak: number; readonly average: number };
  /** As RFC 6381 has them. */
  readonly codecs: readonly string[];
  readonly width: number | undefined;
  readonly height: number | undefined;
  readonly frameRate: number | undefined;
  readonly isIndependent: boolean;
};

/** A multivariant playlist (section 4.4.6.2). */
export function writeMasterPlaylist(variant: Variant): string {
  const { bandwidth, codecs, width, height, frameRate } = variant;
  const attributes = [`BANDWIDTH=${Math.max(1, bandwidth.peak)}`, `AVERAGE-BANDWIDTH=${Math.max(1, bandwidth.average)}`];
  if (codecs.length > 0) attributes.push(`CODECS="${codecs.join(",")}"`);
  if (width !== undefined && height !== undefined) attributes.push(`RESOLUTION=${width}x${height}`);
  if (frameRate !== undefined) attributes.push(`FRAME-RATE=${usualRate(frameRate).toFixed(3)}`);
  const lines = ["#EXTM3U", "#EXT-X-VERSION:6", ...(variant.isIndependent ? ["#EXT-X-INDEPENDENT-SEGMENTS"] : [])];
  return [...lines, `#EXT-X-STREAM-INF:${attributes.join(",")}`, variant.uri, ""].join("\n");
}

/** What was measured on stamps in whole milliseconds, as the rate that was meant. */
function usualRate(measured: number): number {
  const near = USUAL_RATES.find((rate) => Math.abs(measured - rate) / rate < 0.004);
  return near ?? Math.round(measured * 10) / 10;
}

const USUAL_RATES = [10, 12, 12.5, 15, 20, 24, 25, 29.97, 30, 48, 50, 59.94, 60, 90, 100, 120];

function seconds(microseconds: number): string {
  return (microseconds / 1_000_000).toFixed(6);
}

/** ISO 8601 with milliseconds, of milliseconds since 1970 (the calendar's arithmetic: engines have no Date). */
export function isoTime(wallTime: number): string {
  const ms = Math.round(wallTime);
  const days = Math.floor(ms / 86_400_000);
  const rest = ms - days * 86_400_000;
  // Days since 0000-03-01, in eras of 400 years.
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const leaps = Math.floor(dayOfEra / 1_460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leaps) / 365);
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const month = Math.floor((5 * dayOfYear + 2) / 153); // 0 is March
  const day = dayOfYear - Math.floor((153 * month + 2) / 5) + 1;
  const year = yearOfEra + era * 400 + (month >= 10 ? 1 : 0);
  const two = (value: number): string => String(value).padStart(2, "0");
  const date = `${String(year).padStart(4, "0")}-${two(month >= 10 ? month - 9 : month + 3)}-${two(day)}`;
  const [hour, minute] = [Math.floor(rest / 3_600_000), Math.floor(rest / 60_000) % 60];
  const milliseconds = String(rest % 1000).padStart(3, "0");
  return `${date}T${two(hour)}:${two(minute)}:${two(Math.floor(rest / 1000) % 60)}.${milliseconds}Z`;
}

/** Complete segments whose parts are still listed: a player that holds back a second needs no more. */
const SEGMENTS_WITH_PARTS = 2;
/** Seconds: five parts of the default length. */
const MIN_HOLD_BACK = 1;
