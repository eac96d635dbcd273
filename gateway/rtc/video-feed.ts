// How a viewer's video gets on: with the group of pictures under way at first, faster than real time and paced, then live; and what
// happens when the viewer loses the picture (docs/architecture.md, "Joining").

import type { PacketLane } from "../hub/types.js";
import { CatchUp } from "../rtp/catch-up.js";
import type { MediaPacket } from "../rtp/packet.js";
import { CATCH_UP_DELAY, type Outgoing, type OutgoingTrack } from "./outgoing.js";

/**
 * `waiting` for a key frame, `catching-up` with the group under way, `live`; `lagging`: more came than the viewer's path took, and it
 * goes on with a key frame newer than what it got, once what waits has gone. Over TCP that is known, over UDP it is estimated.
 */
export type VideoFeedState = "new" | "waiting" | "catching-up" | "live" | "lagging";

export class VideoFeed {
  state: VideoFeedState = "new";
  /** Times the viewer said that it had lost the picture. */
  picturesLost = 0;
  /** Times that the viewer fell forward to another key frame, because it was too slow. */
  falls = 0;
  /** Pictures that it did not get therefore. */
  picturesThinned = 0;
  readonly #lane: PacketLane;
  readonly #outgoing: Outgoing;
  readonly #track: OutgoingTrack;
  #catchUp: CatchUp | undefined;
  /** Number of the first packet that no catch-up has sent. */
  #liveFrom = 0;
  /** RTP time of the last live packet: another one begins a picture. */
  #liveTimestamp = Number.NaN;
  /** Number of the first packet that a lagging viewer did not get. */
  #fellAt = 0;
  /** Bytes that may be sent now, and bytes per ms. */
  #credit = 0;
  #rate = 0;
  #burstDue = Number.POSITIVE_INFINITY;
  #slowedAt = Number.NEGATIVE_INFINITY;
  #startedAt = Number.NEGATIVE_INFINITY;
  #doneAt = Number.NEGATIVE_INFINITY;
  #lastKeyFrame = Number.NEGATIVE_INFINITY;
  /** When a key frame is asked for again, or a viewer without picture gets the group once more. */
  #keyFrameDue = Number.POSITIVE_INFINITY;

  constructor(lane: PacketLane, outgoing: Outgoing, track: OutgoingTrack) {
    this.#lane = lane;
    this.#outgoing = outgoing;
    this.#track = track;
  }

  start(now: number): void {
    const start = this.#lane.keyFrameStart;
    if (start === undefined) this.#wait(now, "a viewer has joined", KEY_FRAME_RETRY);
    // A browser makes a key frame only when it is asked: the group may be minutes long, and a new one is there sooner.
    else if (this.#isLong(start)) this.#wait(now, "a viewer has joined", FRESH_KEY_FRAME_PATIENCE);
    else this.#beginCatchUp(now, start);
  }

  /** A live packet; the lane's history holds it already, and a catch-up that ended in this turn may have sent it. */
  write(now: number, packet: MediaPacket, staged: number): void {
    if (packet.sequenceNumber < this.#liveFrom) return;
    if (packet.startsKeyFrame) {
      this.#lastKeyFrame = now;
      if (this.state === "waiting" || (this.state === "lagging" && this.#hasRoom(now))) this.#goLive();
    }
    if (packet.timestamp !== this.#liveTimestamp) {
      this.#liveTimestamp = packet.timestamp;
      if (this.state === "live" && this.#isFull(now)) this.#fall(now, packet.sequenceNumber);
      if (this.state === "lagging") this.picturesThinned++;
    }
    if (this.state !== "live") return;
    if (packet.startsKeyFrame) this.#outgoing.videoFrom = packet.sequenceNumber;
    this.#outgoing.send(now, this.#track, packet, staged, 0, this.#outgoing.lastingDelay);
  }

  /** The viewer cannot decode what it has. A source that can make a key frame is asked; else the group is sent once more. */
  pictureLost(now: number): void {
    this.picturesLost++;
    if (this.state !== "live" || now - this.#doneAt < PICTURE_LOSS_GRACE) return;
    this.#lane.requestKeyFrame("a viewer has lost the picture");
    if (this.#keyFrameDue === Number.POSITIVE_INFINITY) this.#keyFrameDue = now + this.#patience;
  }

  /** The viewer misses packets: while catching up the burst may be more than the path takes. */
  packetsLost(now: number): void {
    if (this.state !== "catching-up" || now - this.#slowedAt < SLOWDOWN_INTERVAL) return;
    this.#slowedAt = now;
    this.#rate = Math.max(MIN_RATE / 2, this.#rate * 0.7);
  }

  /** The path takes less than it is sent: what is sent live is judged picture by picture, a burst goes on at the path's pace. */
  pathFull(): void {
    const { capacity } = this.#outgoing.budget;
    if (this.state === "catching-up" && capacity !== undefined) this.#rate = Math.min(this.#rate, capacity / 8000);
  }

  onTimeout(now: number): void {
    if (now >= this.#burstDue) this.#nextBurst(now);
    if (now >= this.#keyFrameDue) this.#keyFrameOverdue(now);
  }

  nextTimeout(): number {
    return Math.min(this.#burstDue, this.#keyFrameDue);
  }

  #wait(now: number, reason: string, patience: number): void {
    this.state = "waiting"; // never from the middle of a group
    this.#lane.requestKeyFrame(reason);
    this.#keyFrameDue = now + patience;
  }

  /** Milliseconds that a source has to answer a request before the group is sent once more. */
  get #patience(): number {
    return this.#lane.keyFrames === "on-request" ? FRESH_KEY_FRAME_PATIENCE : KEY_FRAME_PATIENCE;
  }

  /** Whether a fresh key frame is the better start. */
  #isLong(start: number): boolean {
    if (this.#lane.keyFrames !== "on-request") return false;
    const first = this.#lane.find("video", start);
    const last = this.#lane.find("video", this.#lane.nextSequenceNumber("video") - 1);
    return first === undefined || last === undefined || last.timestamp - first.timestamp > LONG_GROUP;
  }

  #isFull(now: number): boolean {
    return this.#outgoing.lag > MAX_LAG || this.#outgoing.budget.wait(now) > MAX_WAIT;
  }

  #hasRoom(now: number): boolean {
    return this.#outgoing.lag < RESUME_LAG && this.#outgoing.budget.wait(now) < RESUME_WAIT;
  }

  #fall(now: number, sequenceNumber: number): void {
    this.state = "lagging";
    this.falls++;
    this.#fellAt = sequenceNumber;
    this.#keyFrameDue = now + LAG_CHECK;
  }

  /** Whether the viewer has taken what waited; then it gets a group that has begun meanwhile, or a key frame is asked for. */
  #checkLag(now: number): void {
    this.#keyFrameDue = now + LAG_CHECK;
    if (!this.#hasRoom(now)) return;
    const start = this.#lane.keyFrameStart;
    const isNarrow = this.#outgoing.budget.capacity !== undefined;
    const age = now - this.#lastKeyFrame;
    if (start !== undefined && start >= this.#fellAt && (!isNarrow || age < FRESH)) {
      this.#beginCatchUp(now, start);
    } else if (!isNarrow || age >= NARROW_INTERVAL) {
      // Made on request it costs every viewer of the stream: for one on a narrow path only once in a while.
      this.#lane.requestKeyFrame("a viewer fell behind");
      this.#keyFrameDue = now + KEY_FRAME_RETRY;
    }
  }

  #goLive(): void {
    this.state = "live";
    this.#keyFrameDue = Number.POSITIVE_INFINITY;
  }

  #keyFrameOverdue(now: number): void {
    this.#keyFrameDue = Number.POSITIVE_INFINITY;
    if (this.state === "lagging") {
      this.#checkLag(now);
      return;
    }
    const start = this.#lane.keyFrameStart;
    if (this.state === "waiting") {
      if (start === undefined) this.#wait(now, "a viewer has joined", KEY_FRAME_RETRY);
      else this.#beginCatchUp(now, start); // it was asked for a fresh one in vain
      return;
    }
    if (this.state !== "live" || now - this.#lastKeyFrame <= this.#patience) return;
    if (start === undefined) this.#wait(now, "a viewer has lost the picture", KEY_FRAME_RETRY);
    else if (now - this.#startedAt >= CATCH_UP_INTERVAL) this.#beginCatchUp(now, start);
    else this.#keyFrameDue = this.#startedAt + CATCH_UP_INTERVAL;
  }

  #beginCatchUp(now: number, start: number): void {
    const catchUp = new CatchUp(this.#lane, start, this.#track.sender.lastTimestamp);
    this.#outgoing.videoFrom = start;
    this.#catchUp = catchUp;
    this.state = "catching-up";
    this.#keyFrameDue = Number.POSITIVE_INFINITY;
    this.#startedAt = now;
    this.#lastKeyFrame = now;
    this.#track.introduceAgain();
    this.#rate = Math.max(MIN_RATE, Math.min(MAX_RATE, catchUp.totalBytes / CATCH_UP_TIME));
    this.#credit = Math.max(MIN_FIRST_BURST, Math.min(MAX_FIRST_BURST, catchUp.keyFrameBytes));
    this.#pump(now, catchUp);
  }

  #nextBurst(now: number): void {
    const catchUp = this.#catchUp;
    if (catchUp === undefined) return;
    const elapsed = Math.min(now - this.#burstDue + BURST_INTERVAL, MAX_BURST_INTERVAL);
    this.#credit = Math.min(0, this.#credit) + elapsed * this.#rate;
    this.#pump(now, catchUp);
  }

  #pump(now: number, catchUp: CatchUp): void {
    const { egress } = this.#outgoing;
    if (this.#outgoing.lag > CATCH_UP_LAG) this.#credit = 0; // over TCP the burst would only wait here
    while (this.#credit > 0) {
      const packet = catchUp.next();
      if (packet === undefined) break;
      let staged = egress.stage(packet.payload);
      if (staged === -1) {
        egress.flush(); // many viewers have joined in this turn
        staged = egress.stage(packet.payload);
      }
      const size = this.#outgoing.send(now, this.#track, packet, staged, catchUp.timestampDelta, CATCH_UP_DELAY);
      if (size === 0) {
        this.#credit = 0; // the send queue is full: a NACK will bring this one back
        this.#rate = Math.max(MIN_RATE, this.#rate / 2);
      }
      this.#credit -= packet.payload.length;
    }
    if (catchUp.state === "running") {
      this.#burstDue = now + BURST_INTERVAL;
      if (catchUp.pictures > 1 && this.#outgoing.budget.wait(now) > MAX_WAIT) {
        this.#catchUp = undefined; // on a narrow path only the key frame of a group is worth its time
        this.#burstDue = Number.POSITIVE_INFINITY;
        this.#fall(now, this.#lane.nextSequenceNumber("video"));
      }
      return;
    }
    this.#catchUp = undefined;
    this.#burstDue = Number.POSITIVE_INFINITY;
    if (catchUp.state === "live") {
      this.#liveFrom = this.#lane.nextSequenceNumber("video");
      this.#goLive();
      this.#doneAt = now;
    } else {
      this.start(now);
    }
  }
}

const BURST_INTERVAL = 5; // ms
const MAX_BURST_INTERVAL = 20; // ms of credit at most, after a late wake-up
const CATCH_UP_TIME = 250; // ms in which a group should be through
const MIN_RATE = 2_500; // bytes per ms: 20 Mbit/s
const MAX_RATE = 12_500; // 100 Mbit/s
const SLOWDOWN_INTERVAL = 20; // ms
const MIN_FIRST_BURST = 16_000; // bytes
const MAX_FIRST_BURST = 80_000; // what a default receive buffer of 208 KiB takes at once, overhead included
const CATCH_UP_INTERVAL = 3_000; // ms between two catch-ups of one viewer
const PICTURE_LOSS_GRACE = 500; // ms after a catch-up in which a PLI speaks of the time before
const KEY_FRAME_PATIENCE = 300; // ms for a source that makes key frames at intervals: one may be on its way
const FRESH_KEY_FRAME_PATIENCE = 1_000; // ms for one that makes them on request, the request being repeated meanwhile
const MAX_LAG = 1_000; // ms of what a viewer over TCP has not taken; more is not live any more
const RESUME_LAG = 100; // ms
const CATCH_UP_LAG = 50; // ms
const LAG_CHECK = 100; // ms
const MAX_WAIT = 300; // ms that a picture may wait on a path over UDP, as it is estimated
const RESUME_WAIT = 80; // ms
const FRESH = 500; // ms of age at which a group is still worth beginning on a narrow path
const NARROW_INTERVAL = 3_000; // ms between key frames on request for one viewer on a narrow path
const LONG_GROUP = 1.5 * 90_000; // ticks: a group that is shorter is sent before a request would be answered
const KEY_FRAME_RETRY = 1_000; // ms
