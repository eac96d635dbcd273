// A WebRTC publisher bridged to frames, on one fake clock; transcoders are handed in.

import { RtcToRtmp } from "../../gateway/bridge/rtc-to-rtmp.js";
import type { Frame } from "../../gateway/media/frame.js";
import type { TranscoderFactory } from "../../transcoder/transcoder.js";
import { Collector } from "./frames.js";
import { PublisherWorld, type PublisherWorldOptions } from "./publisher-world.js";

export class RtcBridgedStream {
  readonly world: PublisherWorld;
  readonly viewer = new Collector<Frame>();
  readonly log: string[];

  static async open(transcoders: TranscoderFactory, options: PublisherWorldOptions = {}): Promise<RtcBridgedStream> {
    const log: string[] = [];
    const line = (text: string): void => void log.push(text);
    const world = await PublisherWorld.open({
      ...options,
      converter: (stream, clock) => new RtcToRtmp({ stream, clock, transcoders, log: { debug: line, info: line, warn: line } }),
    });
    return new RtcBridgedStream(world, log);
  }

  private constructor(world: PublisherWorld, log: string[]) {
    this.world = world;
    this.log = log;
  }

  watch(): void {
    this.world.stream.frames.add(this.viewer);
  }

  leave(): void {
    this.world.stream.frames.remove(this.viewer);
  }

  frames(kind: "audio" | "video", what: "media" | "config" = "media"): Frame[] {
    return this.viewer.items.filter((frame) => frame.kind === kind && frame.isConfig === (what === "config"));
  }

  /** Numbers that the publisher gave its pictures, of those that came out. */
  pictures(): number[] {
    return this.frames("video").map((frame) => frame.data.readUInt32BE(6));
  }
}
