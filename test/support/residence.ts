// How long media stayed in the gateway: from the publisher's write to the datagram at a viewer on the same machine.

import { ntpMapper, type Recording } from "./judge.js";
import { checkSequence, depacketizeH264 } from "./rtp-reader.js";
import { type SentFrame, type TimedPublisher, tailOf } from "./timed-publisher.js";

export type Residence = {
  /** Last byte written → last packet of the picture received, in ms. */
  readonly video: readonly number[];
  /** AAC frame that holds a moment written → Opus packet that begins with that moment received, in ms. */
  readonly audio: readonly number[];
};

/** @param from only what was sent after this time counts: a viewer's start is not the steady state */
export function measureResidence(publisher: TimedPublisher, recording: Recording, from: number): Residence {
  const units = depacketizeH264(checkSequence(recording.video).ordered);
  const toVideoNtp = ntpMapper(recording.video, recording.reports, 90_000);
  const toAudioNtp = ntpMapper(recording.audio, recording.reports, 48_000);
  const video: number[] = [];
  const zeros: number[] = []; // NTP time of the publisher's time 0, as each picture tells it
  for (const unit of units) {
    const last = unit.nals.at(-1);
    const frame = last === undefined ? undefined : publisher.find(tailOf(last), unit.lastArrival);
    if (frame === undefined || frame.sentAt < from) continue;
    video.push(unit.lastArrival - frame.sentAt);
    zeros.push(toVideoNtp(unit.time) - frame.pts);
  }
  const zero = zeros.sort((a, b) => a - b)[zeros.length >> 1] ?? Number.NaN;
  const frames = publisher.sent.filter((frame) => frame.kind === "audio");
  const audio: number[] = [];
  for (const packet of checkSequence(recording.audio).ordered) {
    const holder = frameAt(frames, toAudioNtp(packet.time) - zero);
    if (holder !== undefined && holder.sentAt >= from) audio.push(packet.arrival - holder.sentAt);
  }
  return { video, audio };
}

/** The frame that holds a moment of the publisher's time. */
function frameAt(frames: readonly SentFrame[], moment: number): SentFrame | undefined {
  for (let index = frames.length - 2; index >= 0; index--) {
    const frame = frames[index];
    if (frame !== undefined && frame.pts <= moment + 0.5) return frame;
  }
  return undefined;
}
