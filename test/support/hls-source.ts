// A publisher for tests of HLS, in made-up time: a hub with the HLS service on it, pictures and sound at their pace.

import { HlsService, type HlsServiceOptions, type HlsVhost } from "../../gateway/hls/service.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import type { HubEvent, PlayRequest, Publication, PublishRequest } from "../../gateway/hub/types.js";
import type { Frame } from "../../gateway/media/frame.js";
import { writeAvcConfig } from "../../gateway/media/h264.js";
import { FakeClock } from "./fake-clock.js";
import { peer, RecordingSource } from "./frames.js";
import { AAC_CONFIG, AVC_CONFIG } from "./rtmp-client.js";

/** Two sizes of picture. */
export const VIDEO_CONFIGS = {
  first: AVC_CONFIG,
  second: writeAvcConfig(
    [Buffer.from("6742c01fd9005005bb016a02020280000003008000001e078c18cb", "hex")],
    [Buffer.from("68ce3c80", "hex")],
  ),
} as const;

export function configFrame(kind: "audio" | "video", data: Buffer = kind === "video" ? VIDEO_CONFIGS.first : AAC_CONFIG): Frame {
  return { kind, codec: kind === "video" ? "h264" : "aac", dts: 0, pts: 0, isKey: true, isConfig: true, data };
}

/** An access unit of one slice, `size` bytes. */
export function pictureFrame(dts: number, isKey: boolean, size = 400): Frame {
  const data = Buffer.alloc(size, 0x55);
  data.writeUInt32BE(size - 4);
  data[4] = isKey ? 0x65 : 0x41;
  return { kind: "video", codec: "h264", dts, pts: dts, isKey, isConfig: false, data };
}

export function soundFrame(dts: number): Frame {
  return { kind: "audio", codec: "aac", dts, pts: dts, isKey: true, isConfig: false, data: Buffer.alloc(60, 0x21) };
}

export const HLS_SETTINGS: HlsVhost["hls"] = {
  enabled: true,
  onDemand: "auto",
  path: "",
  fragment: 2_000,
  window: 30_000,
  part: 200,
  lowLatency: true,
  format: "fmp4",
  keys: false,
  fragmentsPerKey: 5,
};

export type HlsWorldOptions = {
  readonly settings?: Partial<HlsVhost["hls"]>;
  readonly grace?: number;
  readonly gate?: (action: "publish" | "play", request: PublishRequest | PlayRequest) => Promise<undefined>;
  readonly listener?: HlsServiceOptions["listener"];
};

export class HlsWorld {
  readonly clock = new FakeClock();
  readonly log: string[] = [];
  readonly events: HubEvent[] = [];
  readonly hub: LiveHub;
  readonly service: HlsService;
  #random = 0;

  constructor({ settings = {}, grace = 10_000, gate, listener }: HlsWorldOptions = {}) {
    const hls = { ...HLS_SETTINGS, ...settings };
    const note = (fields: object, message: string): void => void this.log.push(`${message} ${JSON.stringify(fields)}`);
    this.hub = new LiveHub({
      clock: this.clock,
      vhost: () => ({ name: "__defaultVhost__", gopCacheFrames: 2500, grace, takeover: "on" }),
      ...(gate !== undefined && { gate }),
      onEvent: (event) => {
        this.events.push(event);
        this.service.onEvent(event);
      },
    });
    this.service = new HlsService({
      hub: this.hub,
      clock: this.clock,
      log: { info: note, warn: note },
      vhost: (name) => (name === "off.example" ? undefined : { name: "__defaultVhost__", hls }),
      randomBytes: (size) => {
        const bytes = Buffer.alloc(size);
        bytes.writeUInt32BE(++this.#random, 0);
        return bytes;
      },
      ...(listener !== undefined && { listener }),
    });
  }

  async publish(options: PublisherOptions = {}): Promise<TestPublisher> {
    const publication = await this.hub.publish({
      name: { vhost: "__defaultVhost__", app: "live", stream: "livestream" },
      peer: peer(),
      source: new RecordingSource(),
      lane: "frames",
    });
    return new TestPublisher(this.clock, publication, options);
  }
}

export type PublisherOptions = {
  readonly video?: Buffer | undefined;
  readonly hasAudio?: boolean;
  /** Milliseconds between pictures, and pictures between key frames. Default 40 and 50. */
  readonly frameMs?: number;
  readonly gop?: number;
  /** Milliseconds by which this publisher's clock is off. Default 0. */
  readonly offset?: number;
  readonly size?: number;
};

/** Pushes frames as a real one does: stamps in whole milliseconds, both tracks from one clock. */
export class TestPublisher {
  readonly publication: Publication;
  readonly #clock: FakeClock;
  readonly #frameMs: number;
  #gop: number;
  #offset: number;
  readonly #size: number;
  readonly #hasVideo: boolean;
  readonly #hasAudio: boolean;
  readonly #startedAt: number;
  #pictures = 0;
  #sounds = 0;
  #sinceKey = 0;

  constructor(clock: FakeClock, publication: Publication, options: PublisherOptions) {
    this.#clock = clock;
    this.publication = publication;
    this.#frameMs = options.frameMs ?? 40;
    this.#gop = options.gop ?? 50;
    this.#offset = options.offset ?? 0;
    this.#size = options.size ?? 400;
    this.#hasVideo = !("video" in options) || options.video !== undefined;
    this.#hasAudio = options.hasAudio ?? true;
    this.#startedAt = clock.now();
    if (this.#hasVideo) publication.writeFrame(configFrame("video", options.video ?? VIDEO_CONFIGS.first));
    if (this.#hasAudio) publication.writeFrame(configFrame("audio"));
  }

  /** Publishes for so many milliseconds. @param each called after every frame */
  run(ms: number, each?: () => void): void {
    const end = this.#clock.now() + ms;
    for (;;) {
      const picture = this.#hasVideo ? this.#startedAt + this.#pictures * this.#frameMs : Number.POSITIVE_INFINITY;
      const sound = this.#hasAudio ? this.#startedAt + (this.#sounds * 1024_000) / 48_000 : Number.POSITIVE_INFINITY;
      const next = Math.min(picture, sound);
      if (next > end) break;
      this.#clock.advance(Math.max(0, next - this.#clock.now()));
      const stamp = Math.round(next - this.#startedAt + this.#offset) * 1000;
      if (picture <= sound) {
        const isKey = this.#sinceKey === 0;
        this.#sinceKey = this.#sinceKey + 1 >= this.#gop ? 0 : this.#sinceKey + 1;
        this.#pictures++;
        this.publication.writeFrame(pictureFrame(stamp, isKey, isKey ? 4 * this.#size : this.#size));
      } else {
        this.#sounds++;
        this.publication.writeFrame(soundFrame(stamp));
      }
      each?.();
    }
    this.#clock.advance(Math.max(0, end - this.#clock.now()));
  }

  /** Its clock jumps. */
  jump(ms: number): void {
    this.#offset += ms;
  }

  /** No more key frames, or other distances between them, from here on. */
  set gop(pictures: number) {
    this.#gop = pictures;
  }

  /** Another size of picture: the next one is a key frame. */
  reconfigure(config: Buffer): void {
    this.publication.writeFrame(configFrame("video", config));
    this.#sinceKey = 0;
  }
}
