// The hub: which streams exist, who publishes and plays them, and what happens when publishers go, come back or collide.

import { Refusal } from "../media/errors.js";
import type { Frame } from "../media/frame.js";
import type { Clock, TimerHandle } from "./clock.js";
import { displayName } from "./names.js";
import { LiveStream } from "./stream.js";
import { Timeline } from "./timeline.js";
import type {
  Client,
  Converter,
  Hub,
  HubEvent,
  HubTotals,
  PacketBatch,
  Peer,
  Play,
  PlayRequest,
  Publication,
  PublishRequest,
  Source,
  Stream,
  StreamName,
} from "./types.js";

/** Milliseconds of silence after which a publisher counts as gone although its connection stands. */
const STALE_SILENCE = 2_000;
/** Milliseconds that a newcomer waits to see whether the publisher in its place is alive; any frame in this time says so. */
const TAKEOVER_WATCH = 900;

/** Microseconds between the last frame of a publisher and the first of its successor when that one comes at once. */
const PUBLISHER_STEP = 20_000;

export type HubOptions = {
  readonly clock: Clock;
  /** Streams at one time, a bound against names made up by the thousand. Default 10000. */
  readonly maxStreams?: number;
  /** Settings of a vhost. */
  readonly vhost: (name: string) => HubVhost;
  /**
   * Asked before anyone is told yes. What it returns is called when the client is refused after that for another reason.
   *
   * @throws Refusal
   */
  readonly gate?: (action: "publish" | "play", request: PublishRequest | PlayRequest) => Promise<(() => void) | undefined>;
  /** Makes the converter for a stream whose publisher writes `lane`; undefined when that bridge is off. */
  readonly converter?: (stream: Stream, lane: "frames" | "packets") => Converter | undefined;
  readonly onEvent?: (event: HubEvent) => void;
  /** Whether a newcomer takes over at once whatever `takeover` says: the gateway's own child in the place of its predecessor. */
  readonly isSuccessor?: (request: PublishRequest) => boolean;
};

export type HubVhost = {
  /** The configured vhost that serves the name that was asked for. */
  readonly name: string;
  readonly gopCacheFrames: number;
  /** Milliseconds that viewers stay after their publisher left. */
  readonly grace: number;
  readonly takeover: "on" | "stale" | "off";
};

export class LiveHub implements Hub {
  readonly #options: HubOptions;
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();
  readonly #clients = new Set<Client>();
  /** Of clients that have left, but for `clients` and `refused`. */
  readonly #totals = { clients: 0, refused: 0, sent: 0, received: 0 };
  #closed = false;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#clock = options.clock;
  }

  find(name: StreamName): Stream | undefined {
    return this.#entries.get(this.#keyOf(name))?.stream;
  }

  *streams(): Iterable<Stream> {
    for (const entry of this.#entries.values()) yield entry.stream;
  }

  clients(): Iterable<Client> {
    return this.#clients.values();
  }

  get totals(): HubTotals {
    const totals = { ...this.#totals };
    for (const client of this.#clients) totals[client.role === "play" ? "sent" : "received"] += client.bytes();
    return totals;
  }

  async publish(request: PublishRequest): Promise<Publication> {
    return await this.#admit("publish", request, () => this.#publish(request));
  }

  async play(request: PlayRequest): Promise<Play> {
    return await this.#admit("play", request, () => this.#play(request));
  }

  async #admit<T>(action: "publish" | "play", request: PublishRequest | PlayRequest, grant: () => T | Promise<T>): Promise<T> {
    let revoke: (() => void) | undefined;
    try {
      this.#refuseWhenClosed();
      if (action === "play") this.#refuseUnlessPlayable(request as PlayRequest);
      revoke = await this.#options.gate?.(action, request);
      this.#refuseWhenClosed();
      const granted = await grant();
      this.#totals.clients++;
      return granted;
    } catch (error) {
      this.#totals.refused++;
      revoke?.();
      throw error;
    }
  }

  async #publish(request: PublishRequest): Promise<Publication> {
    const holder = this.#entries.get(this.#keyOf(request.name))?.publication;
    if (holder !== undefined) await this.#takeOver(holder, request);
    this.#refuseWhenClosed();
    const winner = this.#entries.get(this.#keyOf(request.name))?.publication;
    if (winner !== undefined) throw busy(winner); // another newcomer waited for the same one, and was first

    const entry = this.#entryFor(request.name);
    entry.grace?.cancel();
    entry.grace = undefined;
    const { stream } = entry;
    stream.attach(request.peer, request.source, request.lane);
    const publication = new LivePublication(this, entry, request, this.#clock);
    entry.publication = publication;
    this.#clients.add(publication.client);
    this.#emit({ type: "publish", stream, peer: request.peer, lane: request.lane });
    if (entry.convertedLane !== request.lane) {
      entry.convertedLane = request.lane;
      stream.setConverter(this.#options.converter?.(stream, request.lane));
    }
    return publication;
  }

  #play(request: PlayRequest): Play {
    this.#refuseUnlessPlayable(request);
    const entry = this.#entryFor(request.name);
    const { stream } = entry;
    let open = true;
    const end = (reason: string): void => {
      if (!open) return;
      open = false;
      entry.plays--;
      this.#clients.delete(client);
      const bytes = client.bytes();
      this.#totals.sent += bytes;
      stream.sentBefore += bytes;
      this.#emit({ type: "stop", stream, peer: request.peer, reason });
      if (stream.state === "idle" && entry.plays === 0) this.#endStream(entry, "nobody is left");
    };
    const client: Client = {
      peer: request.peer,
      stream,
      role: "play",
      since: this.#clock.wallTime(),
      bytes: () => Number(request.statistics?.()["bytes"] ?? 0),
      close: (reason) => (request.close === undefined ? end(reason) : request.close(reason)),
      statistics: () => request.statistics?.() ?? {},
    };
    entry.plays++;
    this.#clients.add(client);
    this.#emit({ type: "play", stream, peer: request.peer });
    return { stream, end };
  }

  /** Ends every stream; publishers and viewers are told the reason. Nothing new is let in. */
  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const entry of [...this.#entries.values()]) {
      entry.stream.closeSource(reason);
      entry.publication?.end(reason);
      this.#endStream(entry, reason);
    }
  }

  /** For publications only. */
  release(entry: Entry, publication: LivePublication, reason: string): void {
    this.#clients.delete(publication.client);
    this.#totals.received += publication.client.bytes();
    if (entry.publication !== publication) return;
    entry.publication = undefined;
    const { stream } = entry;
    stream.detach();
    this.#emit({ type: "unpublish", stream, peer: publication.client.peer, reason });
    const { grace } = this.#options.vhost(stream.name.vhost);
    if (this.#closed || grace === 0) this.#endStream(entry, reason);
    else entry.grace = this.#clock.after(grace, () => this.#endStream(entry, "the publisher left and did not come back"));
  }

  /** For publications only. */
  emitJump(entry: Entry, peer: Peer): void {
    this.#emit({ type: "timestamp-jump", stream: entry.stream, peer });
  }

  /** Returns when the stream is free. @throws Refusal busy */
  async #takeOver(holder: LivePublication, request: PublishRequest): Promise<void> {
    const { takeover } = this.#options.vhost(request.name.vhost);
    const mode = this.#options.isSuccessor?.(request) === true ? "on" : takeover;
    if (mode === "stale" && holder.silence() < STALE_SILENCE) {
      const seen = holder.units;
      await new Promise<void>((resolve) => void this.#clock.after(TAKEOVER_WATCH, resolve));
      const current = this.#entries.get(this.#keyOf(request.name))?.publication;
      if (current === undefined) return;
      if (current !== holder || holder.units !== seen || holder.silence() < TAKEOVER_WATCH) throw busy(current);
    } else if (mode === "off") {
      throw busy(holder);
    }
    holder.source.close(`replaced by a new publisher from ${request.peer.address}`);
    holder.end("replaced by a new publisher");
  }

  #entryFor(name: StreamName): Entry {
    const key = this.#keyOf(name);
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const limit = this.#options.maxStreams ?? 10_000;
    if (this.#entries.size >= limit) throw new Refusal("overloaded", `this gateway holds ${limit} streams already`);
    const vhost = this.#options.vhost(name.vhost);
    const stream = new LiveStream({
      name: { ...name, vhost: vhost.name },
      clock: this.#clock,
      gopCacheFrames: vhost.gopCacheFrames,
    });
    const entry: Entry = { key, stream, publication: undefined, grace: undefined, plays: 0, convertedLane: undefined };
    this.#entries.set(key, entry);
    return entry;
  }

  #endStream(entry: Entry, reason: string): void {
    if (!this.#entries.delete(entry.key)) return;
    entry.grace?.cancel();
    entry.stream.close(reason);
    this.#emit({ type: "end", stream: entry.stream });
  }

  #keyOf(name: StreamName): string {
    return JSON.stringify([this.#options.vhost(name.vhost).name, name.app, name.stream]);
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw new Refusal("overloaded", "the gateway is shutting down");
  }

  #refuseUnlessPlayable(request: PlayRequest): void {
    const stream = this.#entries.get(this.#keyOf(request.name))?.stream;
    if (stream?.state !== "live") {
      if (request.mayWait === true) return;
      throw new Refusal("not-live", `nobody publishes ${displayName(request.name)} at the moment`);
    }
    if (stream.sourceLane === request.lane) return;
    if (stream.converter === undefined) {
      throw new Refusal("unavailable", `the bridge that ${request.peer.protocol} viewers of this stream need is switched off`);
    }
    const reason = stream.converter.refusal();
    if (reason !== undefined) throw new Refusal("unsupported", reason);
  }

  #emit(event: HubEvent): void {
    this.#options.onEvent?.(event);
  }
}

type Entry = {
  readonly key: string;
  readonly stream: LiveStream;
  publication: LivePublication | undefined;
  grace: TimerHandle | undefined;
  plays: number;
  /** The lane the present converter reads. */
  convertedLane: "frames" | "packets" | undefined;
};

class LivePublication implements Publication {
  readonly client: Client;
  readonly source: Source;
  readonly stream: LiveStream;
  /** Frames or batches written so far. */
  units = 0;
  #bytes = 0;
  readonly #hub: LiveHub;
  readonly #entry: Entry;
  readonly #clock: Clock;
  readonly #timeline: Timeline;
  #lastActivity: number;
  #ended = false;
  #jumps = 0;

  constructor(hub: LiveHub, entry: Entry, request: PublishRequest, clock: Clock) {
    this.#hub = hub;
    this.#entry = entry;
    this.#clock = clock;
    this.stream = entry.stream;
    this.source = request.source;
    this.#timeline = new Timeline(entry.stream.floor === 0 ? 0 : entry.stream.floor + PUBLISHER_STEP);
    this.#lastActivity = clock.now();
    this.client = {
      peer: request.peer,
      stream: entry.stream,
      role: "publish",
      since: clock.wallTime(),
      bytes: () => this.#bytes,
      close: (reason) => request.source.close(reason),
      statistics: () => request.statistics?.() ?? {},
    };
  }

  /** Milliseconds since the last sign of life. */
  silence(): number {
    return this.#clock.now() - this.#lastActivity;
  }

  writeFrame(frame: Frame): void {
    if (this.#ended) return;
    this.units++;
    this.#lastActivity = this.#clock.now();
    const { stream } = this;
    const arrival = stream.now();
    if (frame.isConfig || frame.kind === "data") {
      stream.frames.write({ ...frame, dts: arrival, pts: arrival });
      return;
    }
    this.#bytes += frame.data.length;
    const dts = this.#timeline.map(frame.kind, frame.dts, arrival);
    stream.receive({ ...frame, dts, pts: Timeline.presentation(dts, frame.dts, frame.pts) });
    if (this.#timeline.jumps !== this.#jumps) {
      this.#jumps = this.#timeline.jumps;
      this.#hub.emitJump(this.#entry, this.client.peer);
    }
  }

  writePackets(batch: PacketBatch): void {
    if (this.#ended) return;
    this.units++;
    for (let i = 0; i < batch.length; i++) this.#bytes += batch[i]?.payload.length ?? 0;
    this.#lastActivity = this.#clock.now();
    this.stream.receivePackets(batch);
  }

  end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#hub.release(this.#entry, this, reason);
  }
}

function busy(holder: LivePublication): Refusal {
  const { peer } = holder.client;
  return new Refusal("busy", `the stream is being published already, by ${peer.protocol} from ${peer.address}`);
}
