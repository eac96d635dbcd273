// Judges flash and beep in what a native viewer received: decode it, map RTP time to NTP by the sender reports, compare.

import { spawn } from "node:child_process";
import { once } from "node:events";

import { isFlash, readTimeCode } from "../../scripts/test-picture.js";
import {
  type AccessUnit,
  checkSequence,
  depacketizeH264,
  opusDuration,
  type RecordedPacket,
  type SenderReport,
  toAnnexB,
  toOgg,
  Unwrapper,
} from "./rtp-reader.js";

export type Recording = {
  readonly video: readonly RecordedPacket[];
  readonly audio: readonly RecordedPacket[];
  readonly reports: readonly SenderReport[];
};

/** One decoded picture: when it is to be shown, and what stands in it. */
export type Picture = { readonly time: number; readonly frameNumber: number | undefined; readonly isFlash: boolean };

export type LipSync = {
  /** Beep minus flash in ms for each second that has both; above zero the sound is late. */
  readonly offsets: readonly { readonly atMs: number; readonly offsetMs: number }[];
  readonly meanMs: number;
  readonly worstMs: number;
  /** What a source whose reports are stamped by a busy process leaves to be judged. */
  readonly medianMs: number;
  /** Change of the offset over the time measured, in ms per minute. */
  readonly driftMsPerMinute: number;
  readonly flashes: number;
  readonly beeps: number;
};

const WIDTH = 160; // pictures are judged at this size: a time code square is 5 pixels
const HEIGHT = 90;
const PCM_RATE = 48_000;
/** How much of the window a beep fills when its level passes the threshold: found by judging files whose truth is known. */
const ONSET = 0.45;

/** Flash against beep on the wire. @throws Error when a track or its sender reports are missing */
export async function judgeLipSync(recording: Recording): Promise<LipSync> {
  const video = checkSequence(recording.video).ordered;
  const audio = checkSequence(recording.audio).ordered;
  const toVideoNtp = ntpMapper(recording.video, recording.reports, 90_000);
  const toAudioNtp = ntpMapper(recording.audio, recording.reports, 48_000);

  const units = fromFirstKey(depacketizeH264(video));
  const pictures = await decodePictures(units);
  const flashes = pictures.filter((picture, index) => picture.isFlash && index > 0 && !pictures[index - 1]?.isFlash);
  const flashTimes = flashes.map((picture) => toVideoNtp(picture.time));

  const beepTimes: number[] = [];
  for (const run of contiguousRuns(audio)) {
    const pcm = await decodeOpus(run.map((packet) => packet.payload));
    const start = run[0]?.time ?? 0;
    for (const sample of findBeeps(pcm, PCM_RATE)) beepTimes.push(toAudioNtp(start + sample));
  }
  return compare(flashTimes, beepTimes);
}

/** Flash against beep in a media file: the judge's own error, and what the source really holds. */
export async function judgeFile(path: string): Promise<LipSync> {
  const probe = await run(
    "ffprobe",
    ["-v", "error", "-select_streams", "v", "-show_entries", "frame=best_effort_timestamp_time", "-of", "csv=p=0", path],
    undefined,
  );
  const times = probe
    .toString()
    .split("\n")
    .map((line) => Number.parseFloat(line) * 1000)
    .filter((time) => !Number.isNaN(time));
  const luma = await run("ffmpeg", [...QUIET, "-i", path, ...GRAY], undefined);
  const pictures = splitPictures(luma, times);
  const flashTimes = pictures.filter((p, i) => p.isFlash && !pictures[i - 1]?.isFlash).map((p) => p.time);
  // aresample=async fills up to the first timestamp, so that sample 0 is time 0 of the file
  // and -copyts, since ffmpeg takes the start of a file that begins later off all times
  const fill = `aresample=${PCM_RATE}:async=1:first_pts=0`;
  const pcm = await run("ffmpeg", [...QUIET, "-copyts", "-i", path, "-af", fill, ...PCM], undefined);
  const beepTimes = findBeeps(toSamples(pcm), PCM_RATE).map((sample) => (sample / PCM_RATE) * 1000);
  return compare(flashTimes, beepTimes);
}

/** Decodes access units that start with a key frame; one picture per unit, with the unit's RTP time. */
export async function decodePictures(units: readonly AccessUnit[]): Promise<Picture[]> {
  const luma = await run("ffmpeg", [...QUIET, "-f", "h264", "-i", "pipe:0", ...GRAY], toAnnexB(units));
  return splitPictures(
    luma,
    units.map((unit) => unit.time),
  );
}

export async function decodeOpus(packets: readonly Buffer[]): Promise<Int16Array> {
  return toSamples(await run("ffmpeg", [...QUIET, "-f", "ogg", "-i", "pipe:0", ...PCM], toOgg(packets)));
}

/** Positions (in samples, with fraction) at which a beep sets in after at least 200 ms of quiet. */
export function findBeeps(pcm: Int16Array, rate: number): number[] {
  const window = Math.round(rate / 1000); // one period of the 1 kHz beep
  const energy = new Float64Array(pcm.length);
  let sum = 0;
  let peak = 0;
  for (let index = 0; index < pcm.length; index++) {
    sum += (pcm[index] ?? 0) ** 2 - (index >= window ? (pcm[index - window] ?? 0) ** 2 : 0);
    energy[index] = sum;
    peak = Math.max(peak, sum);
  }
  if (peak < window * 500 ** 2) return []; // nothing but hiss
  const found: number[] = [];
  let quietSince = 0; // the recording may begin inside a beep: what comes before the first quiet does not count
  let isQuiet = false;
  for (let index = 0; index < energy.length; index++) {
    const level = energy[index] ?? 0;
    if (level < peak * 0.02) {
      if (!isQuiet) quietSince = index;
      isQuiet = true;
    } else if (isQuiet) {
      isQuiet = false;
      if (index - quietSince < rate / 5) continue;
      const top = energy.subarray(index, index + rate / 25).reduce((most, value) => Math.max(most, value), 0); // beeps differ in level
      let onset = index;
      while ((energy[onset] ?? 0) < top * 0.4) onset++;
      found.push(onset - window * ONSET);
    }
  }
  return found;
}

/** Units from the first complete key frame on. */
export function fromFirstKey(units: readonly AccessUnit[]): AccessUnit[] {
  const first = units.findIndex((unit) => unit.isKey && unit.isComplete);
  return first < 0 ? [] : units.slice(first);
}

/** Maps a track's unwrapped RTP time to milliseconds since 1970, by the sender report nearest to it. */
export function ntpMapper(
  packets: readonly RecordedPacket[],
  reports: readonly SenderReport[],
  clockRate: number,
): (time: number) => number {
  const first = packets[0];
  if (first === undefined) throw new Error("no packets on this track");
  const unwrapper = new Unwrapper(32);
  unwrapper.next(first.timestamp);
  const own = reports
    .filter((report) => report.ssrc === first.ssrc)
    .map((report) => ({ ntpMs: report.ntpMs, time: unwrapper.next(report.rtpTime) }));
  if (own.length === 0) throw new Error(`no sender report for SSRC ${first.ssrc}`);
  return (time) => {
    const nearest = own.reduce((best, report) => (Math.abs(report.time - time) < Math.abs(best.time - time) ? report : best));
    return nearest.ntpMs + ((time - nearest.time) / clockRate) * 1000;
  };
}

/** Least squares: the slope of y over x. */
export function slope(points: readonly { readonly x: number; readonly y: number }[]): number {
  if (points.length < 2) return 0;
  const meanX = points.reduce((sum, point) => sum + point.x, 0) / points.length;
  const meanY = points.reduce((sum, point) => sum + point.y, 0) / points.length;
  let over = 0;
  let under = 0;
  for (const { x, y } of points) {
    over += (x - meanX) * (y - meanY);
    under += (x - meanX) ** 2;
  }
  return under === 0 ? 0 : over / under;
}

function compare(flashTimes: readonly number[], beepTimes: readonly number[]): LipSync {
  const offsets: { atMs: number; offsetMs: number }[] = [];
  for (const flash of flashTimes) {
    const beep = beepTimes.reduce<number | undefined>(
      (best, time) => (best === undefined || Math.abs(time - flash) < Math.abs(best - flash) ? time : best),
      undefined,
    );
    if (beep !== undefined && Math.abs(beep - flash) < 500) offsets.push({ atMs: flash, offsetMs: beep - flash });
  }
  const values = offsets.map((entry) => entry.offsetMs);
  return {
    offsets,
    meanMs: values.reduce((sum, value) => sum + value, 0) / values.length,
    medianMs: [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN,
    worstMs: values.reduce((worst, value) => (Math.abs(value) > Math.abs(worst) ? value : worst), 0),
    driftMsPerMinute: slope(offsets.map((entry) => ({ x: entry.atMs / 60_000, y: entry.offsetMs }))),
    flashes: flashTimes.length,
    beeps: beepTimes.length,
  };
}

/** Splits audio where packets are missing or the timestamps leave a gap. */
function contiguousRuns<T extends { readonly time: number; readonly payload: Buffer }>(packets: readonly T[]): T[][] {
  const runs: T[][] = [];
  let expected = Number.NaN;
  for (const packet of packets) {
    if (packet.time !== expected) runs.push([]);
    runs.at(-1)?.push(packet);
    expected = packet.time + opusDuration(packet.payload);
  }
  return runs;
}

function splitPictures(luma: Buffer, times: readonly number[]): Picture[] {
  const size = WIDTH * HEIGHT;
  if (luma.length !== size * times.length)
    throw new Error(`decoded ${luma.length / size} pictures out of ${times.length} access units`);
  return times.map((time, index) => {
    const picture = luma.subarray(index * size, (index + 1) * size);
    return { time, frameNumber: readTimeCode(picture, WIDTH), isFlash: isFlash(picture, WIDTH, HEIGHT) };
  });
}

function toSamples(pcm: Buffer): Int16Array {
  return Int16Array.from({ length: pcm.length >> 1 }, (_, index) => pcm.readInt16LE(index * 2));
}

const QUIET = ["-hide_banner", "-loglevel", "error", "-nostdin"];
const GRAY = [
  "-map",
  "0:v",
  "-vsync",
  "passthrough",
  "-vf",
  `scale=${WIDTH}:${HEIGHT}:flags=area`,
  "-pix_fmt",
  "gray",
  "-f",
  "rawvideo",
  "-",
];
const PCM = ["-map", "0:a", "-ac", "1", "-ar", `${PCM_RATE}`, "-f", "s16le", "-"];

/** Runs a program to its end. @throws Error with its words when it fails */
async function run(program: string, args: readonly string[], input: Buffer | undefined): Promise<Buffer> {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
  const output: Buffer[] = [];
  let words = "";
  child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => {
    words += chunk.toString();
  });
  child.stdin.on("error", () => {}); // the exit code tells
  child.stdin.end(input);
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${program} failed with ${code}: ${words}`);
  return Buffer.concat(output);
}
