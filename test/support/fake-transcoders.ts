// Transcoders that run nowhere: a test sees what goes in and says what comes out.

import type {
  AacTranscoderOptions,
  AudioTranscoderOptions,
  Transcoder,
  TranscoderEvents,
  TranscoderFactory,
  VideoTranscoderOptions,
} from "../../transcoder/transcoder.js";

export type Written = { readonly data: Buffer; readonly dts: number; readonly pts: number; readonly isKey: boolean };

export class FakeTranscoder<Options> implements Transcoder {
  readonly options: Options;
  readonly written: Written[] = [];
  state: "open" | "ended" | "closed" = "open";
  /** What `write` answers. */
  takes = true;
  readonly #events: TranscoderEvents;

  constructor(options: Options, events: TranscoderEvents) {
    this.options = options;
    this.#events = events;
  }

  write(data: Buffer, dts: number, pts: number, isKey: boolean): boolean {
    this.written.push({ data, dts, pts, isKey });
    return this.takes;
  }

  close(): void {
    this.state = "closed";
  }

  emit(pts: number, data: Buffer, isKey = true): void {
    if (this.state === "open") this.#events.onFrame({ pts, isKey, data });
  }

  /** It dies. */
  end(reason: string): void {
    if (this.state !== "open") return;
    this.state = "ended";
    this.#events.onEnd(reason);
  }
}

export class FakeTranscoders implements TranscoderFactory {
  audioRefusal: string | undefined;
  aacRefusal: string | undefined;
  videoRefusal: string | undefined;
  readonly audios: FakeTranscoder<AudioTranscoderOptions>[] = [];
  readonly aacs: FakeTranscoder<AacTranscoderOptions>[] = [];
  readonly videos: FakeTranscoder<VideoTranscoderOptions>[] = [];

  get open(): number {
    return [...this.audios, ...this.aacs, ...this.videos].filter((transcoder) => transcoder.state === "open").length;
  }

  audio(options: AudioTranscoderOptions, events: TranscoderEvents): Transcoder {
    const transcoder = new FakeTranscoder(options, events);
    this.audios.push(transcoder);
    return transcoder;
  }

  aac(options: AacTranscoderOptions, events: TranscoderEvents): Transcoder {
    const transcoder = new FakeTranscoder(options, events);
    this.aacs.push(transcoder);
    return transcoder;
  }

  video(options: VideoTranscoderOptions, events: TranscoderEvents): Transcoder {
    const transcoder = new FakeTranscoder(options, events);
    this.videos.push(transcoder);
    return transcoder;
  }
}
