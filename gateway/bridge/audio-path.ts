// The audio half of the bridge from frames to packets: AAC and MP3 through a transcoder, Opus as it is.

import type { AudioTranscoderOptions, TranscodedFrame, Transcoder, TranscoderFactory } from "../../transcoder/transcoder.js";
import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Stream } from "../hub/types.js";
import { parseAudioConfig } from "../media/audio.js";
import { mp3FrameDuration, opusPacketDuration } from "../media/durations.js";
import type { Frame } from "../media/frame.js";
import { MICROSECONDS, OPUS_CLOCK_RATE, rescale } from "../media/time.js";
import { MediaPacket } from "../rtp/packet.js";
import { Backoff } from "./backoff.js";
import type { Notices } from "./notices.js";
import { SampleClock } from "./sample-clock.js";
import type { BridgeLog } from "./types.js";

export type AudioPathOptions = {
  readonly stream: Stream;
  readonly clock: Clock;
  readonly transcoders: TranscoderFactory;
  readonly log: BridgeLog;
  readonly notices: Notices;
  /** Bits per second of Opus. */
  readonly bitrate: number;
};

export class AudioPath {
  readonly #options: AudioPathOptions;
  readonly #backoff: Backoff;
  #state: "stopped" | "running" = "stopped";
  #config: Frame | undefined;
  /** Microseconds of sound in one frame of the current configuration; for codecs whose frames say it themselves, unused. */
  #frameDuration = 0;
  #transcoder: Transcoder | undefined;
  /** Of the transcoder, or of Opus that passes. */
  #sampleClock = new SampleClock();
  #retry: TimerHandle | undefined;
  /** RTP time after the last packet; undefined after a start. */
  #nextTimestamp: number | undefined;
  #lastTimestamp = Number.NEGATIVE_INFINITY;
  #isLagging = false;
  /** Stream time of the last frame given to the transcoder. */
  #newest = 0;

  constructor(options: AudioPathOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock);
  }

  /** @param config the configuration known so far */
  start(config: Frame | undefined): void {
    this.#state = "running";
    this.#nextTimestamp = undefined;
    this.#backoff.reset();
    if (config !== undefined) this.write(config);
  }

  /** Ends the transcoder and forgets everything but where its RTP time stood. */
  stop(): void {
    this.#state = "stopped";
    this.#endTranscoder();
    this.#config = undefined;
  }

  write(frame: Frame): void {
    if (this.#state !== "running") return;
    if (frame.isConfig) this.#configure(frame);
    else if (frame.codec === "opus") this.#pass(frame);
    else if (frame.codec === "aac" || frame.codec === "mp3") this.#transcode(frame, frame.codec);
    else this.#refuse(frame.codec);
  }

  #configure(frame: Frame): void {
    if (this.#config?.codec === frame.codec && this.#config.data.equals(frame.data)) return; // a publisher that came back the same
    this.#endTranscoder();
    this.#backoff.reset();
    this.#config = frame;
    this.#sampleClock = new SampleClock();
    if (frame.codec !== "aac") return;
    const config = parseAudioConfig(frame.data);
    if (config === undefined) {
      this.#config = undefined;
      this.#refuse("aac with a configuration that makes no sense");
      return;
    }
    this.#frameDuration = (config.samplesPerFrame * MICROSECONDS) / config.sampleRate;
    this.#openTranscoder("aac");
  }

  #transcode(frame: Frame, codec: "aac" | "mp3"): void {
    if (codec !== this.#config?.codec) {
      if (codec === "aac") return; // nothing can be made of it before its configuration has come
      this.#configure({ ...frame, isConfig: true, data: EMPTY });
    }
    if (this.#transcoder === undefined) this.#openTranscoder(codec);
    const duration = codec === "mp3" ? mp3FrameDuration(frame.data) : this.#frameDuration;
    if (this.#transcoder === undefined || duration === undefined) return;
    const place = this.#sampleClock.push(frame.pts, duration);
    if (place > RUN_LIMIT) {
      this.#endTranscoder(); // its clock is at its end; the next frame opens another
      return;
    }
    this.#newest = frame.pts;
    const taken = this.#transcoder.write(frame.data, place, place, true);
    if (!taken && !this.#isLagging) this.#options.log.warn("audio: the transcoder lags behind, frames are dropped");
    this.#isLagging = !taken;
  }

  #openTranscoder(codec: "aac" | "mp3"): void {
    const { transcoders, bitrate, log } = this.#options;
    if (this.#retry !== undefined) return;
    if (transcoders.audioRefusal !== undefined) {
      this.#refuse(codec, transcoders.audioRefusal);
      return;
    }
    const options: AudioTranscoderOptions = { codec, config: this.#config?.data ?? EMPTY, bitrate };
    const sampleClock = new SampleClock();
    this.#sampleClock = sampleClock;
    let from: number | undefined;
    const transcoder = transcoders.audio(options, {
      onFrame: (out: TranscodedFrame) => {
        if (transcoder !== this.#transcoder) return;
        const streamTime = sampleClock.streamTimeOf(out.pts);
        // What piled up while the child started would leave as one burst; receivers take that for jitter, and play late for long.
        from ??= streamTime + Math.max(0, Math.min(this.#newest, this.#options.stream.now()) - streamTime - START_LAG);
        if (streamTime >= from) this.#send(out.data, streamTime);
      },
      onEnd: (reason) => {
        if (transcoder === this.#transcoder) this.#onTranscoderEnd(reason);
      },
    });
    this.#transcoder = transcoder;
    this.#backoff.onStart();
    log.debug(`audio: ${codec} to opus`);
    this.#options.notices.note("audio", `${codec} to opus`);
  }

  #onTranscoderEnd(reason: string): void {
    const { log, clock, notices } = this.#options;
    this.#transcoder = undefined;
    const delay = this.#backoff.next();
    log.warn(`audio: the transcoder ended (${reason}); the stream goes on without audio, next try in ${delay} ms`);
    notices.note("audio", `without audio: the transcoder ended (${reason})`);
    this.#retry = clock.after(delay, () => {
      this.#retry = undefined; // the next frame opens another
    });
  }

  #endTranscoder(): void {
    this.#retry?.cancel();
    this.#retry = undefined;
    const transcoder = this.#transcoder;
    this.#transcoder = undefined;
    transcoder?.close();
    this.#sampleClock = new SampleClock();
  }

  #pass(frame: Frame): void {
    const duration = opusPacketDuration(frame.data);
    if (duration === undefined) return;
    if (this.#config?.codec !== "opus") {
      this.#endTranscoder();
      this.#config = { ...frame, isConfig: true, data: EMPTY };
      this.#options.notices.note("audio", "opus as it is");
    }
    const place = this.#sampleClock.push(frame.pts, duration);
    this.#send(frame.data, this.#sampleClock.streamTimeOf(place));
  }

  #send(packet: Buffer, streamTime: number): void {
    const { packets } = this.#options.stream;
    const duration = opusPacketDuration(packet);
    if (duration === undefined || packet.length > MAX_OPUS_PACKET) return;
    let timestamp = rescale(streamTime, MICROSECONDS, OPUS_CLOCK_RATE);
    const next = this.#nextTimestamp;
    const continues = next !== undefined && Math.abs(timestamp - next) <= SMALL_STEP;
    if (continues) timestamp = next;
    if (timestamp <= this.#lastTimestamp) return; // sound for a time that has been heard: the publisher's clock went back
    this.#lastTimestamp = timestamp;
    this.#nextTimestamp = timestamp + rescale(duration, MICROSECONDS, OPUS_CLOCK_RATE);
    const number = packets.nextSequenceNumber("audio");
    packets.write([new MediaPacket("audio", number, timestamp, !continues, false, false, packet)]);
  }

  #refuse(what: string, reason = "it is not bridged to WebRTC"): void {
    this.#options.notices.tell("audio", "warn", `${what} is left out: ${reason}`);
  }
}

const EMPTY: Buffer = Buffer.alloc(0);
const RUN_LIMIT = 2_000_000_000_000; // microseconds, 23 days: a transcoder counts milliseconds in 31 bits
const START_LAG = 70_000; // microseconds; publishers send two or three frames at once, and the encoder holds one back
const SMALL_STEP = 48; // ticks, 1 ms: receivers like packets without a gap better than a millisecond of truth
const MAX_OPUS_PACKET = 1_100; // bytes: must fit one datagram; 320 kbit/s in 20 ms are 800
