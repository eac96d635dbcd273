// The bridge from the frames lane to the packets lane: H.264 and sound for WebRTC viewers of an RTMP publisher.
// It hangs on its stream for the publisher's life and works only between `start` and `stop`.

import type { TranscoderFactory } from "../../transcoder/transcoder.js";
import type { Clock } from "../hub/clock.js";
import type { Converter, Stream } from "../hub/types.js";
import type { Frame, Sink } from "../media/frame.js";
import { spsOfConfig } from "../media/h264.js";
import { OPUS_CLOCK_RATE, VIDEO_CLOCK_RATE } from "../media/time.js";
import { AudioPath } from "./audio-path.js";
import { Notices } from "./notices.js";
import type { BframeMode, BridgeLog, WorkSlots } from "./types.js";
import { VideoPath, videoRefusal } from "./video-path.js";

export type RtmpToRtcOptions = {
  readonly stream: Stream;
  readonly clock: Clock;
  readonly transcoders: TranscoderFactory;
  /** Places for video transcoders, shared by all streams. */
  readonly slots: WorkSlots;
  readonly log: BridgeLog;
  /** What is done about B-frames. Default auto. */
  readonly bframe?: BframeMode;
  /** Bits per second of Opus. Default 64000. */
  readonly opusBitrate?: number;
  /** SEI of H.264 is passed on. Default true. */
  readonly keepAvcNaluSei?: boolean;
};

export class RtmpToRtc implements Converter {
  readonly #stream: Stream;
  readonly #video: VideoPath;
  readonly #audio: AudioPath;
  readonly #notices: Notices;
  readonly #sink: Sink<Frame>;
  #state: "stopped" | "running" | "closed" = "stopped";

  constructor(options: RtmpToRtcOptions) {
    const { stream, clock, transcoders, slots, log } = options;
    this.#stream = stream;
    const notices = new Notices(stream, log);
    this.#notices = notices;
    this.#video = new VideoPath({
      stream,
      clock,
      transcoders,
      slots,
      log,
      notices,
      bframe: options.bframe ?? "auto",
      keepSei: options.keepAvcNaluSei ?? true,
    });
    this.#audio = new AudioPath({ stream, clock, transcoders, log, notices, bitrate: options.opusBitrate ?? 64_000 });
    this.#sink = { write: (frame) => this.#write(frame), close: () => this.stop() };
    this.#announce();
  }

  start(): void {
    if (this.#state !== "stopped") return;
    this.#state = "running";
    this.#announce();
    const { frames } = this.#stream;
    this.#audio.start(frames.audioConfig);
    this.#video.start(frames.videoConfig, frames.backlog);
    frames.add(this.#sink);
  }

  stop(): void {
    if (this.#state !== "running") return;
    this.#state = "stopped";
    this.#stream.frames.remove(this.#sink);
    this.#video.stop();
    this.#audio.stop();
    this.#notices.clear();
  }

  close(_reason: string): void {
    this.stop();
    this.#state = "closed";
  }

  requestKeyFrame(_reason: string): void {
    // RTMP cannot ask its publisher for one, and a transcoder makes one every two seconds.
  }

  /** Brings the announced tracks up to date too: it is asked before each answer to a viewer. */
  refusal(): string | undefined {
    const codec = this.#videoCodec();
    if (codec !== undefined && codec !== "h264") return videoRefusal(codec);
    this.#announce();
    return undefined;
  }

  #write(frame: Frame): void {
    if (frame.kind === "video") {
      if (frame.codec !== "h264") this.#stream.packets.dismiss(videoRefusal(frame.codec));
      if (frame.isConfig) this.#announce();
      this.#video.write(frame);
    } else if (frame.kind === "audio") {
      this.#audio.write(frame);
    }
  }

  #videoCodec(): string | undefined {
    const { videoConfig, backlog } = this.#stream.frames;
    return videoConfig?.codec ?? backlog.find((frame) => frame.kind === "video")?.codec;
  }

  /** Both tracks, always: one that has not come yet may come later, and an answer cannot be changed then. */
  #announce(): void {
    const { packets, frames } = this.#stream;
    const sps = frames.videoConfig?.codec === "h264" ? spsOfConfig(frames.videoConfig.data) : undefined;
    const profileLevelId = sps === undefined ? CONSTRAINED_BASELINE_31 : hexBytes([sps.profile, sps.constraints, sps.level]);
    const formatParameters = `level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=${profileLevelId}`;
    packets.setTrack({ kind: "video", codec: "h264", clockRate: VIDEO_CLOCK_RATE, formatParameters });
    packets.setTrack({
      kind: "audio",
      codec: "opus",
      clockRate: OPUS_CLOCK_RATE,
      channels: 2,
      formatParameters: OPUS_PARAMETERS,
    });
  }
}

function hexBytes(bytes: readonly number[]): string {
  return Buffer.from(bytes).toString("hex");
}

const CONSTRAINED_BASELINE_31 = "42e01f"; // what every WebRTC endpoint takes (RFC 7742 section 6.2)
const OPUS_PARAMETERS = "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"; // RFC 7587 section 6.1
