// One live stream: two lanes, the publisher that writes one of them, the converter that makes the other, and a grace time between
// publishers. Who closes whom: the hub closes the stream; the stream closes its converter and its lanes' sinks.

import type { Frame } from "../media/frame.js";
import type { Clock, TimerHandle } from "./clock.js";
import { LiveFrameLane } from "./frame-lane.js";
import { LivePacketLane } from "./packet-lane.js";
import type { Converter, PacketBatch, Peer, Source, Stream, StreamName } from "./types.js";

/** Milliseconds a converter goes on after its last viewer has left: a page that reloads finds it running. */
const CONVERTER_LINGER = 5_000;

export type StreamOptions = {
  readonly name: StreamName;
  readonly clock: Clock;
  /** Frames of the cached group of pictures, 0 for none. */
  readonly gopCacheFrames: number;
};

export class LiveStream implements Stream {
  readonly name: StreamName;
  readonly frames: LiveFrameLane;
  readonly packets: LivePacketLane;
  readonly notes = new Map<string, string>();
  readonly since: number;
  readonly received = { units: 0, bytes: 0 };
  sentBefore = 0;
  state: "idle" | "live" | "grace" | "ended" = "idle";
  sourceLane: "frames" | "packets" | undefined;
  publisher: Peer | undefined;
  /** The latest presentation time so far; a next publisher starts behind it. */
  floor = 0;
  readonly #clock: Clock;
  readonly #origin: number;
  readonly #epoch: number;
  #source: Source | undefined;
  #converter: Converter | undefined;
  #converterState: "stopped" | "running" = "stopped";
  #linger: TimerHandle | undefined;

  constructor(options: StreamOptions) {
    this.name = options.name;
    this.#clock = options.clock;
    this.#origin = options.clock.now();
    this.#epoch = options.clock.wallTime();
    this.since = this.#epoch;
    this.frames = new LiveFrameLane(options.gopCacheFrames, () => this.#onDemand("frames"));
    this.packets = new LivePacketLane({
      epoch: this.#epoch,
      now: () => this.#clock.now(),
      onDemand: () => this.#onDemand("packets"),
      askForKeyFrame: (reason) => this.#askForKeyFrame(reason),
      keyFrames: () => (this.sourceLane === "packets" ? (this.#source?.keyFrames ?? "at-intervals") : "at-intervals"),
    });
  }

  now(): number {
    return Math.round((this.#clock.now() - this.#origin) * 1000);
  }

  wallTimeOf(streamTime: number): number {
    return this.#epoch + streamTime / 1000;
  }

  get converter(): Converter | undefined {
    return this.#converter;
  }

  setConverter(converter: Converter | undefined): void {
    if (converter === this.#converter) return;
    const old = this.#converter;
    this.#linger?.cancel();
    this.#converter = converter;
    this.#converterState = "stopped";
    old?.close("replaced");
    this.#onDemand(this.sourceLane === "frames" ? "packets" : "frames");
  }

  /** A publisher takes the stream; viewers that wait or waited through the grace time go on. */
  attach(peer: Peer, source: Source, lane: "frames" | "packets"): void {
    this.publisher = peer;
    this.#source = source;
    this.sourceLane = lane;
    this.state = "live";
    this.frames.reset();
    this.packets.restart();
  }

  /** The publisher has left. */
  detach(): void {
    this.publisher = undefined;
    this.#source = undefined;
    this.state = "grace";
  }

  /** Takes in a frame whose times are on this stream's clock. */
  receive(frame: Frame): void {
    this.received.units++;
    this.received.bytes += frame.data.length;
    this.floor = Math.max(this.floor, frame.pts);
    this.frames.write(frame);
  }

  /** Takes in packets of a publisher of packets. */
  receivePackets(batch: PacketBatch): void {
    this.received.units++;
    for (let i = 0; i < batch.length; i++) this.received.bytes += batch[i]?.payload.length ?? 0;
    this.packets.write(batch);
  }

  closeSource(reason: string): void {
    this.#source?.close(reason);
  }

  notifyPublisher(code: string, description: string): void {
    this.#source?.notify?.(code, description);
  }

  close(reason: string): void {
    if (this.state === "ended") return;
    this.state = "ended";
    this.#linger?.cancel();
    const converter = this.#converter;
    this.#converter = undefined;
    converter?.close(reason);
    this.frames.close(reason);
    this.packets.close(reason);
  }

  #onDemand(lane: "frames" | "packets"): void {
    if (this.#converter === undefined || lane === this.sourceLane || this.state === "ended") return;
    const wanted = this[lane].viewerCount > 0;
    if (wanted) {
      this.#linger?.cancel();
      this.#linger = undefined;
      if (this.#converterState === "running") return;
      this.#converterState = "running";
      this.#converter.start();
    } else if (this.#converterState === "running" && this.#linger === undefined) {
      this.#linger = this.#clock.after(CONVERTER_LINGER, () => this.#stopConverter(lane));
    }
  }

  #stopConverter(lane: "frames" | "packets"): void {
    this.#linger = undefined;
    this.#converterState = "stopped";
    this.#converter?.stop();
    this[lane].reset();
  }

  #askForKeyFrame(reason: string): void {
    if (this.sourceLane === "packets") this.#source?.requestKeyFrame(reason);
    else this.#converter?.requestKeyFrame(reason);
  }
}
