import assert from "node:assert/strict";
import { test } from "node:test";

import { SenderClock } from "../../gateway/rtp/sender-clock.js";
import { seededRandom } from "../support/seeded.js";

const NTP = 3_900_000_000_000; // the publisher's clock, nowhere near ours

/** A publisher whose sound needs 10 ms and pictures 70 ms to the wire, with jitter; media times of the two have different zeros. */
class Simulation {
  readonly clock = new SenderClock();
  now = 1_000_000;
  readonly #random = seededRandom(17);
  /** Ours minus capture time. */
  audioDelay = 10;
  videoDelay = 70;
  ntpShift = 0;
  /** Sound card against the publisher's system clock, in ppm. */
  audioDrift = 0;

  audioTime(now = this.now): number {
    return (now - 1_000_000) * (1 + this.audioDrift / 1e6) + 5_000;
  }

  videoTime(now = this.now): number {
    return now - 1_000_000 + 777_000;
  }

  run(ms: number, report: boolean): void {
    for (const end = this.now + ms; this.now < end; this.now += 20) {
      const jitter = this.#random() * 8;
      this.clock.arrived("audio", this.audioTime(this.now - this.audioDelay), this.now + jitter);
      if (this.now % 40 === 0) this.clock.arrived("video", this.videoTime(this.now - this.videoDelay), this.now + jitter);
      if (report && this.now % 1000 === 0) this.report();
    }
  }

  report(): void {
    const ntp = NTP + this.now + this.ntpShift;
    this.clock.reported("audio", ntp, this.audioTime(), this.now);
    this.clock.reported("video", ntp, this.videoTime(), this.now);
  }

  /** Our time of the same moment by sound minus by picture: 0 is lip sync. */
  get skew(): number {
    const audio = this.audioTime() + (this.clock.offset("audio") ?? 0);
    return audio - (this.videoTime() + (this.clock.offset("video") ?? 0));
  }
}

test("arrival first, then reports: the tracks are within 2 ms of each other", () => {
  const simulation = new Simulation();
  simulation.run(1000, false);
  assert.ok(Math.abs(simulation.skew + 60) < 10, `before: ${simulation.skew}`);
  const sound = simulation.clock.offset("audio") ?? 0;
  simulation.run(3000, true);
  assert.ok(Math.abs(simulation.skew) < 2, `after: ${simulation.skew}`);
  assert.ok(Math.abs((simulation.clock.offset("audio") ?? 0) - sound) < 8, "the sound stays where it was");
});

test("a sound card that drifts is followed for an hour", () => {
  const simulation = new Simulation();
  simulation.audioDrift = 80;
  simulation.run(3_600_000, true);
  assert.ok(Math.abs(simulation.skew) < 3, `${simulation.skew}`);
  const error =
    simulation.audioTime(simulation.now - simulation.audioDelay) + (simulation.clock.offset("audio") ?? 0) - simulation.now;
  assert.ok(Math.abs(error) < 80, `against arrival: ${error}`);
});

test("without reports drift is followed by arrival", () => {
  const simulation = new Simulation();
  simulation.audioDrift = 80;
  simulation.run(1_800_000, false);
  const error =
    simulation.audioTime(simulation.now - simulation.audioDelay) + (simulation.clock.offset("audio") ?? 0) - simulation.now;
  assert.ok(Math.abs(error) < 15, `${error}`);
});

test("one absurd report is ignored; a clock that was set is believed after three, without a step in the sound", () => {
  const simulation = new Simulation();
  simulation.run(3000, true);
  const before = [simulation.clock.offset("audio"), simulation.clock.offset("video")];
  assert.equal(simulation.clock.reported("audio", NTP + 5e9, simulation.audioTime(), simulation.now), "ignored");
  assert.equal(
    simulation.clock.reported("video", NTP + simulation.now, simulation.videoTime() + 3000, simulation.now),
    "ignored",
  );
  assert.equal(simulation.clock.reported("video", 0, simulation.videoTime(), simulation.now), "ignored");
  assert.deepEqual([simulation.clock.offset("audio"), simulation.clock.offset("video")], before);
  simulation.ntpShift = 7_200_000;
  simulation.run(8000, true);
  assert.ok(Math.abs(simulation.skew) < 3, `${simulation.skew}`);
  assert.ok(Math.abs((simulation.clock.offset("audio") ?? 0) - (before[0] ?? 0)) < 15);
});

test("tracks whose reports contradict each other are left to arrival", () => {
  const simulation = new Simulation();
  for (let second = 0; second < 20; second++) {
    simulation.run(1000, false);
    simulation.clock.reported("audio", NTP + simulation.now, simulation.audioTime(), simulation.now);
    simulation.clock.reported("video", NTP + simulation.now + 40_000, simulation.videoTime(), simulation.now);
  }
  assert.ok(Math.abs(simulation.skew + 60) < 12, `${simulation.skew}`);
});

test("a track that begins a new RTP time is related again by its next report", () => {
  const simulation = new Simulation();
  simulation.run(3000, true);
  simulation.clock.restart("video");
  assert.equal(simulation.clock.offset("video"), undefined);
  simulation.run(4000, true);
  assert.ok(Math.abs(simulation.skew) < 3, `${simulation.skew}`);
});
