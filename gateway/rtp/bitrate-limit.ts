// What a sender without transport-wide feedback is told it may send (REMB, draft-alvestrand-rmcat-remb-03): up while nothing is lost,
// down to what really arrives when much is. No model of the path: senders with one use transport-cc.

export class BitrateLimit {
  /** Bits per second. */
  bitrate = FIRST;

  /**
   * Once per report interval.
   *
   * @param lossShare 0 to 1, over that interval
   * @param received bits per second over that interval
   */
  update(lossShare: number, received: number): void {
    if (lossShare > HIGH_LOSS) this.bitrate = Math.max(MINIMUM, Math.min(this.bitrate, received) * (1 - lossShare / 2));
    else if (lossShare < LOW_LOSS) this.bitrate = Math.min(MAXIMUM, this.bitrate * GROWTH);
  }
}

const FIRST = 2_500_000;
const MINIMUM = 150_000;
const MAXIMUM = 20_000_000;
const HIGH_LOSS = 0.1;
const LOW_LOSS = 0.02;
const GROWTH = 1.08;
