// A stream in a hub of its own with an RTMP-like publisher and the bridge to WebRTC, on a fake clock.

import { RtmpToRtc, type RtmpToRtcOptions } from "../../gateway/bridge/rtmp-to-rtc.js";
import { FixedWorkSlots, type WorkSlots } from "../../gateway/bridge/types.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import type { PacketBatch, Publication, Stream } from "../../gateway/hub/types.js";
import type { Frame } from "../../gateway/media/frame.js";
import type { MediaKind, MediaPacket } from "../../gateway/rtp/packet.js";
import type { TranscoderFactory } from "../../transcoder/transcoder.js";
import { FakeClock } from "./fake-clock.js";
import { Collector, peer, RecordingSource } from "./frames.js";

const NAME = { vhost: "__defaultVhost__", app: "live", stream: "livestream" };

export type BridgedStreamOptions = Partial<Pick<RtmpToRtcOptions, "bframe" | "keepAvcNaluSei" | "opusBitrate">> & {
  readonly transcoders: TranscoderFactory;
  readonly slots?: WorkSlots;
  readonly gopCacheFrames?: number;
};

export class BridgedStream {
  readonly clock = new FakeClock();
  readonly log: string[] = [];
  readonly hub: LiveHub;
  readonly viewer = new Collector<PacketBatch>();
  readonly #options: BridgedStreamOptions;
  source = new RecordingSource();
  #publication: Publication | undefined;
  #firstDts: number | undefined;
  #publishedAt = 0;

  static async open(options: BridgedStreamOptions): Promise<BridgedStream> {
    const bridged = new BridgedStream(options);
    await bridged.publish();
    return bridged;
  }

  private constructor(options: BridgedStreamOptions) {
    this.#options = options;
    this.hub = new LiveHub({
      clock: this.clock,
      vhost: (name) => ({ name, gopCacheFrames: options.gopCacheFrames ?? 2_500, grace: 10_000, takeover: "on" }),
      converter: (stream) => this.#bridge(stream),
    });
  }

  get stream(): Stream {
    const stream = this.hub.find(NAME);
    if (stream === undefined) throw new Error("the stream is gone");
    return stream;
  }

  /** A publisher comes, first or again. */
  async publish(): Promise<void> {
    this.source = new RecordingSource();
    this.#publication = await this.hub.publish({ name: NAME, peer: peer(), source: this.source, lane: "frames" });
    this.#firstDts = undefined;
  }

  unpublish(): void {
    this.#publication?.end("left");
  }

  /** Writes a frame at the time it says, moving the clock there. */
  write(frame: Frame): void {
    if (this.#firstDts === undefined) {
      this.#firstDts = frame.dts;
      this.#publishedAt = this.clock.now();
    }
    const due = this.#publishedAt + (frame.dts - this.#firstDts) / 1000;
    if (due > this.clock.now()) this.clock.advance(due - this.clock.now());
    this.#publication?.writeFrame(frame);
  }

  /** A viewer comes. @returns what the bridge made of the cached frames at that; the viewer keeps only what comes live */
  watch(): MediaPacket[] {
    this.stream.packets.add(this.viewer);
    return this.viewer.items.splice(0).flat();
  }

  leave(): void {
    this.stream.packets.remove(this.viewer);
  }

  packets(kind: MediaKind): MediaPacket[] {
    return this.viewer.items.flat().filter((packet) => packet.kind === kind);
  }

  close(): void {
    this.hub.close("the test is over");
  }

  #bridge(stream: Stream): RtmpToRtc {
    const line = (level: string) => (text: string) => void this.log.push(`${level} ${text}`);
    const log = { debug: line("debug"), info: line("info"), warn: line("warn") };
    const { slots = new FixedWorkSlots(1), ...options } = this.#options;
    return new RtmpToRtc({ ...options, stream, clock: this.clock, slots, log });
  }
}
