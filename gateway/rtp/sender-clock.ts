// When a publisher's RTP times were, on our clock. Media starts from arrival and clock rate; sender reports then put the tracks into
// their true relation (RFC 3550 section 6.4.1), and reports that cannot be true are left aside.

import type { MediaKind } from "./packet.js";

/** One for all tracks of a publisher, whose sender reports share one NTP clock. Times are milliseconds, with fractions. */
export class SenderClock {
  readonly #audio = new TrackClock();
  readonly #video = new TrackClock();
  /** Our clock minus the publisher's NTP clock, once sender reports of both tracks agree. */
  #ntpOffset: number | undefined;
  /** Reports that could not be true. */
  ignored = 0;

  /** Our time of a track's RTP time zero; undefined before its first packet. */
  offset(kind: MediaKind): number | undefined {
    return this.#of(kind).offset;
  }

  /**
   * A packet came directly, not as a retransmission.
   *
   * @param mediaTime its RTP time in ms: ticks divided by the clock rate
   * @returns true when the track's offset has changed
   */
  arrived(kind: MediaKind, mediaTime: number, now: number): boolean {
    const track = this.#of(kind);
    const isWindowOver = track.arrived(mediaTime, now);
    if (!isWindowOver || this.#ntpOffset !== undefined) return track.takeChanged();
    track.slew(track.earliest, MAX_DRIFT_STEP); // without reports the two crystals are kept together by arrival
    return track.takeChanged();
  }

  /**
   * A sender report came.
   *
   * @param ntpTime its NTP time in ms, any epoch
   * @param mediaTime its RTP time in ms
   * @returns `refined` when offsets of tracks may have changed
   */
  reported(kind: MediaKind, ntpTime: number, mediaTime: number, now: number): "refined" | "noted" | "ignored" {
    const track = this.#of(kind);
    if (ntpTime === 0 || track.offset === undefined || Math.abs(mediaTime + track.earliest - now) > MAX_ERROR) {
      this.ignored += 1;
      return "ignored"; // no clock, no media yet, or an RTP time that is not near what arrives
    }
    const verdict = track.reported(ntpTime - mediaTime);
    if (verdict === "ignored") {
      this.ignored += 1;
      return "ignored";
    }
    if (verdict === "restarted") this.#ntpOffset = undefined; // the publisher's NTP clock was set
    return this.#relate(kind) ? "refined" : "noted";
  }

  /** The track's source has begun a new RTP time: what was known of it is void. */
  restart(kind: MediaKind): void {
    this.#of(kind).restart();
  }

  #relate(reporter: MediaKind): boolean {
    const { ntp: audioNtp } = this.#audio;
    const { ntp: videoNtp } = this.#video;
    if (audioNtp === undefined || videoNtp === undefined) return false;
    const seenByAudio = this.#audio.earliest - audioNtp;
    const seenByVideo = this.#video.earliest - videoNtp;
    if (Math.abs(seenByAudio - seenByVideo) > MAX_ERROR) {
      this.ignored += 1;
      return false; // one of the two lies; arrival is the better guess
    }
    if (this.#ntpOffset === undefined) {
      // Sound stays where it is, because its samples must go on without a step; the picture moves to it.
      this.#ntpOffset = (this.#audio.offset as number) - audioNtp;
      this.#video.offset = videoNtp + this.#ntpOffset;
      this.#video.markChanged();
      return true;
    }
    const earliest = Math.min(seenByAudio, seenByVideo);
    this.#ntpOffset += clamp((earliest - this.#ntpOffset) / 16, MAX_DRIFT_STEP);
    const track = this.#of(reporter);
    const target = (track.ntp as number) + this.#ntpOffset;
    if (!track.isRelated) track.offset = target;
    else track.slew(target, MAX_REPORT_STEP);
    track.isRelated = true;
    track.markChanged();
    return true;
  }

  /** Whether this track's offset has changed since the last call. */
  takeChanged(kind: MediaKind): boolean {
    return this.#of(kind).takeChanged();
  }

  #of(kind: MediaKind): TrackClock {
    return kind === "audio" ? this.#audio : this.#video;
  }
}

class TrackClock {
  /** Added to an RTP time it gives our time. */
  offset: number | undefined;
  /** The publisher's NTP time at RTP time zero, smoothed; undefined before the first report. */
  ntp: number | undefined;
  /** False until the offset has been put into its relation with the other track. */
  isRelated = true;
  #isChanged = false;
  #windowStart = 0;
  #minimum = Number.POSITIVE_INFINITY;
  #previousMinimum = Number.POSITIVE_INFINITY;
  #oddNtp = 0;
  #oddReports = 0;

  /** Least difference of arrival and RTP time of late: packets that were not held up on their way. */
  get earliest(): number {
    return Math.min(this.#minimum, this.#previousMinimum);
  }

  /** @returns true once per window */
  arrived(mediaTime: number, now: number): boolean {
    const difference = now - mediaTime;
    if (this.offset === undefined) {
      this.offset = difference;
      this.#isChanged = true;
      this.#windowStart = now;
    }
    if (now - this.#windowStart < WINDOW) {
      if (difference < this.#minimum) this.#minimum = difference;
      return false;
    }
    this.#windowStart = now;
    this.#previousMinimum = this.#minimum;
    this.#minimum = difference;
    return true;
  }

  reported(ntp: number): "taken" | "restarted" | "ignored" {
    if (this.ntp === undefined || Math.abs(ntp - this.ntp) <= MAX_ERROR) {
      this.ntp = this.ntp === undefined ? ntp : this.ntp + (ntp - this.ntp) / 4;
      this.#oddReports = 0;
      return "taken";
    }
    // A report that is off by itself is an error; several that agree are a clock that was set.
    this.#oddReports = Math.abs(ntp - this.#oddNtp) <= MAX_ERROR ? this.#oddReports + 1 : 1;
    this.#oddNtp = ntp;
    if (this.#oddReports < REPORTS_THAT_CONVINCE) return "ignored";
    this.ntp = ntp;
    this.#oddReports = 0;
    return "restarted";
  }

  slew(target: number, limit: number): void {
    if (this.offset === undefined) return;
    const step = clamp(target - this.offset, limit);
    if (step === 0) return;
    this.offset += step;
    this.#isChanged = true;
  }

  restart(): void {
    this.offset = undefined;
    this.ntp = undefined;
    this.isRelated = false;
    this.#minimum = Number.POSITIVE_INFINITY;
    this.#previousMinimum = Number.POSITIVE_INFINITY;
    this.#oddReports = 0;
  }

  markChanged(): void {
    this.#isChanged = true;
  }

  takeChanged(): boolean {
    const changed = this.#isChanged;
    this.#isChanged = false;
    return changed;
  }
}

function clamp(value: number, limit: number): number {
  return Math.max(-limit, Math.min(limit, value));
}

const MAX_ERROR = 1_000; // ms between a report and what arrives: a second is no refinement
const WINDOW = 5_000; // ms over which the earliest arrival is kept, twice
const MAX_DRIFT_STEP = 1; // ms per report or window: 200 ppm and more
const MAX_REPORT_STEP = 5; // ms per report: browsers' reports about sound scatter by that
const REPORTS_THAT_CONVINCE = 3;
