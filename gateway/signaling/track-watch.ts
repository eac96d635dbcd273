// Which tracks of a stream really flow: a mix that waited for a picture that does not come would stand still.

import type { Clock } from "../hub/clock.js";
import type { PacketBatch, Stream } from "../hub/types.js";
import type { Frame, Sink } from "../media/frame.js";

/** What of a stream can be mixed, or why nothing. */
export type MixableTracks = { readonly hasVideo: boolean; readonly hasAudio: boolean; readonly reason: string | undefined };

/** By what the publisher announced. @param isBridged whether WebRTC publishers of its vhost can be watched over RTMP */
export function mixableTracks(stream: Stream | undefined, isBridged: boolean): MixableTracks {
  const none = (reason: string): MixableTracks => ({ hasVideo: false, hasAudio: false, reason });
  if (stream?.state !== "live") return none("publishes nothing");
  if (stream.sourceLane === "packets") {
    if (!isBridged) return none("publishes over WebRTC, and rtc_to_rtmp is off");
    const [video, audio] = [stream.packets.track("video"), stream.packets.track("audio")];
    if (video !== undefined && video.codec !== "h264") return none(`sends ${video.codec}: only h264 is mixed`);
    if (video === undefined && audio !== undefined && audio.codec !== "opus")
      return none(`sends ${audio.codec}: only opus is mixed`);
    return { hasVideo: video !== undefined, hasAudio: audio?.codec === "opus", reason: undefined };
  }
  const { videoConfig, audioConfig } = stream.frames;
  const hasVideo = videoConfig?.codec === "h264";
  const hasAudio = audioConfig?.codec === "aac" || stream.frames.backlog.some(({ codec }) => codec === "mp3");
  if (hasVideo || hasAudio) return { hasVideo, hasAudio, reason: undefined };
  return none(
    videoConfig === undefined && audioConfig === undefined ? "has sent nothing yet" : "sends nothing that can be mixed",
  );
}

export class TrackWatch {
  readonly stream: Stream;
  /** Microseconds from the stream's own time to the clock's. */
  readonly offset: number;
  readonly #clock: Clock;
  readonly #lane: "frames" | "packets";
  readonly #frames: Sink<Frame>;
  readonly #packets: Sink<PacketBatch>;
  readonly #seen = { video: Number.NEGATIVE_INFINITY, audio: Number.NEGATIVE_INFINITY };
  #isOpen = true;

  constructor(stream: Stream, clock: Clock) {
    this.stream = stream;
    this.offset = Math.round(clock.now() * 1000) - stream.now();
    this.#clock = clock;
    const close = (): void => {
      this.#isOpen = false;
    };
    this.#frames = {
      write: ({ kind, isConfig }) => {
        if (this.#lane === "frames" && !isConfig && kind !== "data") this.#seen[kind] = clock.now();
      },
      close,
    };
    this.#packets = {
      write: (batch) => {
        const [first] = batch;
        if (first !== undefined) this.#seen[first.kind] = clock.now();
      },
      close,
    };
    this.#lane = stream.sourceLane === "packets" ? "packets" : "frames";
    // A WebRTC publisher's bridge is set going too: a child that came before its first sound would find no track of it.
    if (this.#lane === "packets") stream.packets.add(this.#packets);
    stream.frames.add(this.#frames);
  }

  /** Still tells of this stream as it is published now. */
  isOf(stream: Stream): boolean {
    return this.#isOpen && this.stream === stream && stream.sourceLane === this.#lane;
  }

  /** Whether something of that kind came within the last `ms`. */
  flows(kind: "video" | "audio", ms: number): boolean {
    const { videoConfig, audioConfig } = this.stream.frames;
    const isBridged = this.#lane === "frames" || (kind === "video" ? videoConfig : audioConfig) !== undefined;
    return isBridged && this.#clock.now() - this.#seen[kind] < ms;
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (this.#lane === "packets") this.stream.packets.remove(this.#packets);
    this.stream.frames.remove(this.#frames);
  }
}
