// The audio half of the bridge from packets to frames: Opus through a transcoder to AAC, in steps of exactly 1,024 samples whatever
// the network and the publisher's pauses do. Silence that is not sent (DTX, a muted track) is made here.

import type { TranscodedFrame, Transcoder, TranscoderFactory } from "../../transcoder/transcoder.js";
import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Stream } from "../hub/types.js";
import { writeAudioConfig } from "../media/audio.js";
import { opusPacketDuration } from "../media/durations.js";
import type { Frame } from "../media/frame.js";
import { MICROSECONDS, OPUS_CLOCK_RATE, rescale } from "../media/time.js";
import type { MediaPacket } from "../rtp/packet.js";
import { Backoff } from "./backoff.js";
import { SampleClock } from "./sample-clock.js";
import type { BridgeLog } from "./types.js";

export type AacPathOptions = {
  readonly stream: Stream;
  readonly clock: Clock;
  readonly transcoders: TranscoderFactory;
  readonly log: BridgeLog;
  /** Bits per second of AAC. */
  readonly bitrate: number;
  /** Gets the configuration, then frames in order. */
  readonly onFrame: (frame: Frame) => void;
  /** Sound is under way, or none can be expected for now. */
  readonly onState: (state: "flowing" | "silent") => void;
};

export class AacPath {
  readonly #options: AacPathOptions;
  readonly #backoff: Backoff;
  #state: "stopped" | "running" = "stopped";
  #transcoder: Transcoder | undefined;
  #sampleClock = new SampleClock();
  #retry: TimerHandle | undefined;
  #silenceTimer: TimerHandle | undefined;
  #isConfigSent = false;
  #isRefusalTold = false;
  #isLagging = false;
  /** RTP time after the last packet, undefined before the first. */
  #next: number | undefined;
  #lastArrival = 0;
  /** RTP time after the last packet that came, when it came. */
  #nextAtArrival = 0;
  /** Milliseconds of sound in the last packet: the next one is due that much later. */
  #packetLength = 0;
  /** First byte of the last packet: what its decoder is concealed with. */
  #toc = SILENCE_TOC;
  /** Stream time of the first place of the AAC frames' grid, and the place of the next frame on it. */
  #gridStart: number | undefined;
  #gridPlace = 0;

  constructor(options: AacPathOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock);
  }

  /** Does nothing when it is started already. */
  start(): void {
    if (this.#state === "running") return;
    this.#state = "running";
    this.#isRefusalTold = false;
    this.#gridStart = undefined;
    this.#gridPlace = 0;
    this.#backoff.reset();
    this.reset();
  }

  stop(): void {
    this.#state = "stopped";
    this.#endTranscoder();
    this.#silenceTimer?.cancel();
    this.#silenceTimer = undefined;
  }

  /** Another publisher follows: viewers are told the configuration anew. The transcoder goes on. */
  reset(): void {
    this.#next = undefined;
    this.#isConfigSent = false;
  }

  /** Takes the packets of the track in order. */
  write(packet: MediaPacket): void {
    if (this.#state !== "running") return;
    const duration = opusPacketDuration(packet.payload);
    if (duration === undefined) return; // the next packet's time tells that something is missing
    if (!this.#ensureTranscoder()) return;
    const { clock } = this.#options;
    const gap = this.#next === undefined ? Number.POSITIVE_INFINITY : packet.timestamp - this.#next;
    this.#lastArrival = clock.now();
    this.#packetLength = duration / 1000;
    if (gap < -TOLERANCE && gap > -MAX_BRIDGED) {
      this.#nextAtArrival = Math.max(this.#nextAtArrival, packet.timestamp + samplesOf(duration));
      return; // its time has been filled already
    }
    if (gap > TOLERANCE && gap <= MAX_BRIDGED) this.#bridge(gap);
    this.#toc = packet.payload[0] as number;
    this.#feed(packet.payload, packet.timestamp, duration);
    this.#nextAtArrival = packet.timestamp + samplesOf(duration);
    this.#next = this.#nextAtArrival;
    if (this.#silenceTimer === undefined) this.#armSilence(this.#packetLength + SILENCE_AFTER);
  }

  #feed(data: Buffer, timestamp: number, duration: number): void {
    const { stream, log } = this.#options;
    const streamTime = (stream.packets.wallTimeOf("audio", timestamp) - stream.wallTimeOf(0)) * 1000 - OPUS_DELAY;
    const place = this.#sampleClock.push(streamTime, duration);
    if (place > RUN_LIMIT) {
      this.#endTranscoder(); // its clock is at its end; the next packet opens another
      return;
    }
    const taken = this.#transcoder?.write(data, place, place, true) ?? true;
    if (!taken && !this.#isLagging) log.warn("audio: the transcoder lags behind, packets are dropped");
    this.#isLagging = !taken;
  }

  /** Fills a hole of so many samples before the packet in hand: short ones by concealment, long ones by silence. */
  #bridge(samples: number): void {
    const frame = opusPacketDuration(Buffer.from([this.#toc & 0xfc])) ?? 0;
    let left = samples;
    if (samples <= MAX_CONCEALED && frame > 0) {
      // One byte that names a mode and holds no frame: the decoder conceals (RFC 6716 section 3.2.1, RFC 7587 section 3.1.3).
      for (; left >= samplesOf(frame); left -= samplesOf(frame)) this.#fill(Buffer.from([this.#toc & 0xfc]), frame);
    }
    for (const silence of SILENCES) {
      for (; left >= samplesOf(silence.duration); left -= samplesOf(silence.duration))
        this.#fill(silence.packet, silence.duration);
    }
  }

  #fill(packet: Buffer, duration: number): void {
    if (this.#next === undefined) return;
    this.#feed(packet, this.#next, duration);
    this.#next += samplesOf(duration);
  }

  #armSilence(delay: number): void {
    this.#silenceTimer = this.#options.clock.after(delay, () => this.#onSilenceTimer());
  }

  /** Nothing comes: the decoder's time goes on with silence, a little behind the time at which packets would have come. */
  #onSilenceTimer(): void {
    this.#silenceTimer = undefined;
    if (this.#next === undefined || this.#transcoder === undefined) return;
    const { clock, stream } = this.#options;
    const waited = clock.now() - this.#lastArrival - this.#packetLength;
    if (waited < SILENCE_AFTER) {
      this.#armSilence(SILENCE_AFTER - waited);
      return;
    }
    if (stream.state !== "live") return; // the publisher has left; its next packet goes on
    const until = this.#nextAtArrival + rescale(waited - SILENCE_LAG, 1000, OPUS_CLOCK_RATE);
    while (this.#next + samplesOf(SILENCE.duration) <= until) this.#fill(SILENCE.packet, SILENCE.duration);
    this.#armSilence(SILENCE_STEP);
  }

  #ensureTranscoder(): boolean {
    const { transcoders, bitrate, log, stream } = this.#options;
    if (this.#transcoder !== undefined) {
      this.#sendConfig();
      return true;
    }
    if (this.#retry !== undefined) return false;
    if (transcoders.aacRefusal !== undefined) {
      if (!this.#isRefusalTold) log.warn(`audio: opus is left out: ${transcoders.aacRefusal}`);
      this.#isRefusalTold = true;
      stream.notes.set("audio", `opus is left out: ${transcoders.aacRefusal}`);
      return false;
    }
    const sampleClock = new SampleClock();
    this.#sampleClock = sampleClock;
    this.#next = undefined;
    const transcoder = transcoders.aac(
      { bitrate },
      {
        onFrame: (out) => {
          if (transcoder === this.#transcoder) this.#send(out, sampleClock);
        },
        onEnd: (reason) => {
          if (transcoder === this.#transcoder) this.#onTranscoderEnd(reason);
        },
      },
    );
    this.#transcoder = transcoder;
    this.#backoff.onStart();
    log.debug("audio: opus to aac");
    stream.notes.set("audio", "opus to aac");
    this.#sendConfig();
    this.#options.onState("flowing");
    return true;
  }

  #onTranscoderEnd(reason: string): void {
    const { log, clock, stream } = this.#options;
    this.#transcoder = undefined;
    const delay = this.#backoff.next();
    log.warn(`audio: the transcoder ended (${reason}); the stream goes on without audio, next try in ${delay} ms`);
    stream.notes.set("audio", `without audio: the transcoder ended (${reason})`);
    this.#retry = clock.after(delay, () => {
      this.#retry = undefined; // the next packet opens another
    });
    this.#options.onState("silent");
  }

  #endTranscoder(): void {
    this.#retry?.cancel();
    this.#retry = undefined;
    const transcoder = this.#transcoder;
    this.#transcoder = undefined;
    transcoder?.close();
    if (transcoder !== undefined) this.#options.onState("silent");
  }

  #sendConfig(): void {
    if (this.#isConfigSent) return;
    this.#isConfigSent = true;
    const time = Math.max(0, this.#options.stream.now());
    this.#options.onFrame({ kind: "audio", codec: "aac", dts: time, pts: time, isKey: true, isConfig: true, data: AAC_CONFIG });
  }

  /** Puts a frame on the grid: the next place, or a later one after a hole. A frame that is too many is left out. */
  #send(frame: TranscodedFrame, sampleClock: SampleClock): void {
    const streamTime = sampleClock.streamTimeOf(frame.pts);
    this.#gridStart ??= streamTime;
    const deviation = streamTime - this.#timeOfPlace(this.#gridPlace);
    if (deviation < -MAX_DEVIATION) return;
    if (deviation > MAX_DEVIATION)
      this.#gridPlace += Math.round((deviation * OPUS_CLOCK_RATE) / (SAMPLES_PER_FRAME * MICROSECONDS));
    const time = this.#timeOfPlace(this.#gridPlace);
    this.#gridPlace += 1;
    if (time < 0) return; // the encoder's lead-in of a stream that has only just begun
    this.#options.onFrame({ kind: "audio", codec: "aac", dts: time, pts: time, isKey: true, isConfig: false, data: frame.data });
  }

  #timeOfPlace(place: number): number {
    return (this.#gridStart ?? 0) + rescale(place * SAMPLES_PER_FRAME, OPUS_CLOCK_RATE, MICROSECONDS);
  }
}

function samplesOf(microseconds: number): number {
  return rescale(microseconds, MICROSECONDS, OPUS_CLOCK_RATE);
}

/**
 * Microseconds that sound comes out of an Opus decoder late: the encoder's look-ahead, which a file says as its pre-skip and RTP does
 * not say at all. 312 samples for every mode but the rare one of restricted low delay.
 */
const OPUS_DELAY = 6_500;
const SAMPLES_PER_FRAME = 1024;
const AAC_CONFIG = writeAudioConfig({ objectType: 2, sampleRate: OPUS_CLOCK_RATE, channelConfiguration: 2 });
const MAX_DEVIATION = 32_000; // microseconds: one and a half frames; less is the resampler following the publisher's clock
const TOLERANCE = 120; // samples: 2.5 ms, the shortest Opus frame
const MAX_BRIDGED = OPUS_CLOCK_RATE; // samples: one second; what is longer is a jump of the clock
const MAX_CONCEALED = 5_760; // samples: 120 ms, the longest Opus packet
const SILENCE_AFTER = 80; // ms that a packet is overdue
const SILENCE_LAG = 40; // ms that silence stays behind, so that sound which begins again is not cut
const SILENCE_STEP = 20; // ms
const RUN_LIMIT = 2_000_000_000_000; // microseconds, 23 days, as in the other direction

/** Stereo CELT frames whose first bit says that they are silent (RFC 6716 section 4.3), longest first. */
const SILENCES = [20_000, 10_000, 5_000, 2_500].map((duration, index) => ({
  duration,
  packet: Buffer.from([((31 - index) << 3) | 4, 0xff, 0xfe]), // configurations 31 … 28, stereo, one frame
}));
const SILENCE = SILENCES[0] as (typeof SILENCES)[number];
const SILENCE_TOC = SILENCE.packet[0] as number;
