// Transcoders that make sound of the right length at the right time, as a child would, on a fake clock; what it sounds like is made up.

import { opusPacketDuration } from "../../gateway/media/durations.js";
import type {
  AacTranscoderOptions,
  AudioTranscoderOptions,
  Transcoder,
  TranscoderEvents,
  TranscoderFactory,
  VideoTranscoderOptions,
} from "../../transcoder/transcoder.js";
import type { FakeClock } from "./fake-clock.js";
import { OPUS_20MS } from "./pictures.js";

const AAC_FRAME = (1024 * 1_000_000) / 48_000; // microseconds
const OPUS_FRAME = 20_000;
const DELAYS = { audio: 22, aac: 60 }; // ms, as measured

export class EchoTranscoders implements TranscoderFactory {
  readonly audioRefusal = undefined;
  readonly aacRefusal = undefined;
  readonly videoRefusal = "there is none in this test";
  open = 0;
  readonly #clock: FakeClock;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  audio(_options: AudioTranscoderOptions, events: TranscoderEvents): Transcoder {
    return this.#make(events, () => AAC_FRAME, OPUS_FRAME, DELAYS.audio, OPUS_20MS);
  }

  aac(_options: AacTranscoderOptions, events: TranscoderEvents): Transcoder {
    return this.#make(events, (data) => opusPacketDuration(data) ?? 0, AAC_FRAME, DELAYS.aac, Buffer.from([0x21, 0x10]));
  }

  video(_options: VideoTranscoderOptions, _events: TranscoderEvents): Transcoder {
    throw new Error(this.videoRefusal);
  }

  #make(events: TranscoderEvents, lengthOf: (data: Buffer) => number, frame: number, delay: number, data: Buffer): Transcoder {
    let isOpen = true;
    let next: number | undefined;
    this.open++;
    return {
      write: (input, _dts, pts) => {
        next ??= pts;
        for (const end = pts + lengthOf(input); next + frame <= end + 1; next += frame) {
          const place = Math.round(next);
          this.#clock.after(delay, () => {
            if (isOpen) events.onFrame({ pts: place, isKey: true, data });
          });
        }
        return true;
      },
      close: () => {
        if (isOpen) this.open--;
        isOpen = false;
      },
    };
  }
}
