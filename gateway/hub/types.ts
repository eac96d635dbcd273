// The hub's types: how protocols meet. A publisher writes one lane of a stream, viewers read either; a converter may hang between.

import type { Frame, Sink } from "../media/frame.js";
import type { MediaKind, MediaPacket, RtpTrack } from "../rtp/packet.js";

export type StreamName = { readonly vhost: string; readonly app: string; readonly stream: string };

/** Who is at the other end, for logs, the API and hooks. */
export type Peer = {
  /** Unguessable id of the session. */
  readonly id: string;
  readonly protocol: "rtmp" | "rtc" | "flv" | "hls";
  /** Remote address without port. */
  readonly address: string;
  /** Query string of the URL, with its `?`, or empty. */
  readonly parameters: string;
  readonly tcUrl?: string;
  readonly pageUrl?: string;
};

/** The publisher's side as the stream sees it. */
export interface Source {
  /** Asks the encoder for a key frame (PLI for WebRTC; RTMP has no such thing and ignores it). */
  requestKeyFrame(reason: string): void;
  /** `on-request`: it is there a moment after it was asked for. Default `at-intervals`: whenever the encoder makes one. */
  readonly keyFrames?: "on-request" | "at-intervals";
  /** Ends the publisher's session: it has been kicked, replaced or the gateway ends. */
  close(reason: string): void;
  /** Something a publisher should be told, if its protocol can (`onStatus` of RTMP). */
  notify?(code: string, description: string): void;
}

/** What a publisher holds while it is live. All writes are ignored after `end`. */
export interface Publication {
  readonly stream: Stream;
  /**
   * For publishers of frames. `dts` and `pts` are the publisher's own time in microseconds, any zero point: the publication maps
   * them to the stream's clock, and re-anchors jumps.
   */
  writeFrame(frame: Frame): void;
  /**
   * For publishers of packets: packets of one picture or one audio frame, numbered by `stream.packets.nextSequenceNumber` and in RTP
   * time of the lane's time reference. Tracks are announced by `stream.packets.setTrack` before.
   */
  writePackets(batch: PacketBatch): void;
  /** The publisher has left; the stream waits out its grace time and then ends. Idempotent. */
  end(reason: string): void;
}

/** Makes one lane's items out of the other's while somebody wants them; the bridge. */
export interface Converter {
  /** The first viewer of the target lane has come. Must bring that lane's backlog up to date before it returns, as far as it can. */
  start(): void;
  /** The last viewer has been gone for a while. */
  stop(): void;
  /** A viewer of the target lane needs a key frame. */
  requestKeyFrame(reason: string): void;
  /** Why viewers of the target lane cannot be served (a codec that is not bridged), or undefined. */
  refusal(): string | undefined;
  close(reason: string): void;
}

/** The lane of encoded frames. */
export interface FrameLane {
  /** The latest configuration per kind, and metadata; new sinks get these first. */
  readonly videoConfig: Frame | undefined;
  readonly audioConfig: Frame | undefined;
  readonly metadata: Frame | undefined;
  /** Frames since the last key frame, that one first (audio in between); empty while there has been none or the cache is off. Bounded. */
  readonly backlog: readonly Frame[];
  readonly viewerCount: number;
  /** Somebody waits for each frame: there is a sink that is not patient. */
  readonly isAwaited: boolean;
  /** Adds a sink. It gets live frames only: what it wants of configuration and backlog it reads first, in the same turn. */
  add(sink: Sink<Frame>): void;
  remove(sink: Sink<Frame>): void;
  /** Closes all sinks: what their viewers were promised is not to be had any more. */
  dismiss(reason: string): void;
  /** For the publication and converters only. */
  write(frame: Frame): void;
}

/** Packets of one picture or one audio frame, written together so that they can be sent together. */
export type PacketBatch = readonly MediaPacket[];

/** Where a track stands in time: its RTP time `timestamp` (unwrapped) is at `wallTime` (milliseconds since 1970). */
export type TimeReference = { readonly timestamp: number; readonly wallTime: number };

/** The lane of RTP packets. */
export interface PacketLane {
  readonly viewerCount: number;
  /** Announced tracks. A bridged stream announces both from the start, so that a track may appear later. */
  track(kind: MediaKind): RtpTrack | undefined;
  /** Viewers that were promised another codec cannot be served any more: they are closed with the reason. */
  setTrack(track: RtpTrack): void;
  /** @param expects `promised`: a codec that was told to its viewers; `any`: it looks at the tracks itself. Default promised */
  add(sink: Sink<PacketBatch>, expects?: "promised" | "any"): void;
  remove(sink: Sink<PacketBatch>): void;
  /** As for frames, of sinks that expect what was promised. */
  dismiss(reason: string): void;
  /** For converters and WebRTC publishers only. */
  write(batch: PacketBatch): void;
  /** The packet with this (unwrapped) number, if the history still holds it. */
  find(kind: MediaKind, sequenceNumber: number): MediaPacket | undefined;
  /** Number of the first packet of the newest key frame that the history still holds with all that followed, or undefined. */
  readonly keyFrameStart: number | undefined;
  /** The first packet of the newest key frame, also when the history holds it no longer. */
  readonly keyFrameHead: MediaPacket | undefined;
  /** Number the next packet of that kind will have. */
  nextSequenceNumber(kind: MediaKind): number;
  /** Milliseconds since 1970 at which a track's RTP time was, is or will be: both tracks from one clock (for sender reports). */
  wallTimeOf(kind: MediaKind, timestamp: number): number;
  /** The reverse: RTP time (unwrapped, may have a fraction) at a wall-clock time. */
  timestampAt(kind: MediaKind, wallTime: number): number;
  /** For publishers of packets, whose RTP clock has a zero of its own: RTP time `timestamp` of that track is at `wallTime`. */
  setTimeReference(kind: MediaKind, reference: TimeReference): void;
  /** What a request leads to: a new viewer may wait for a fresh key frame, or starts with the one there is. */
  readonly keyFrames: "on-request" | "at-intervals";
  /** Asks whoever feeds this lane for a key frame; merged and rate limited. */
  requestKeyFrame(reason: string): void;
}

export interface Stream {
  readonly name: StreamName;
  readonly state: "idle" | "live" | "grace" | "ended";
  /** Which lane the publisher writes; undefined while idle. */
  readonly sourceLane: "frames" | "packets" | undefined;
  readonly publisher: Peer | undefined;
  readonly frames: FrameLane;
  readonly packets: PacketLane;
  /** Milliseconds since 1970 at which the stream went live first. */
  readonly since: number;
  /** Media frames (or packets, of a publisher of packets) and their bytes since then. */
  readonly received: { readonly units: number; readonly bytes: number };
  /** Bytes of media that viewers got who have left since; those of the present ones are with the hub's clients. */
  readonly sentBefore: number;
  /** Stream time of now in integer microseconds: the clock that frames' dts and pts are on. */
  now(): number;
  /** Milliseconds since 1970 of a stream time. */
  wallTimeOf(streamTime: number): number;
  /** Hangs a converter between the lanes; its target is the lane the publisher does not write. */
  setConverter(converter: Converter): void;
  /** Text that operators and the API see: state of the bridge and its reason, by topic. */
  readonly notes: Map<string, string>;
  /** Tells the publisher, where its protocol can carry it. */
  notifyPublisher(code: string, description: string): void;
}

/** What the hub tells its owner, for logs, hooks and the library's events. */
export type HubEvent =
  | { readonly type: "publish"; readonly stream: Stream; readonly peer: Peer; readonly lane: "frames" | "packets" }
  | { readonly type: "unpublish"; readonly stream: Stream; readonly peer: Peer; readonly reason: string }
  | { readonly type: "play"; readonly stream: Stream; readonly peer: Peer }
  | { readonly type: "stop"; readonly stream: Stream; readonly peer: Peer; readonly reason: string }
  | { readonly type: "timestamp-jump"; readonly stream: Stream; readonly peer: Peer }
  | { readonly type: "end"; readonly stream: Stream };

/** Someone connected to a stream, for the API. */
export type Client = {
  readonly peer: Peer;
  readonly stream: Stream;
  readonly role: "publish" | "play";
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Bytes of media so far: received from a publisher, sent to a viewer. */
  bytes(): number;
  close(reason: string): void;
  /** Figures of the session, shown as they are. */
  statistics(): Readonly<Record<string, unknown>>;
};

/** Since the hub was made, those who have left included. */
export type HubTotals = {
  /** Publishers and viewers that were let in. */
  readonly clients: number;
  /** Requests that were not granted, for whatever reason. */
  readonly refused: number;
  /** Bytes of media. */
  readonly sent: number;
  readonly received: number;
};

export type PublishRequest = {
  readonly name: StreamName;
  readonly peer: Peer;
  readonly source: Source;
  /** The lane the publisher will write. */
  readonly lane: "frames" | "packets";
  readonly statistics?: () => Readonly<Record<string, unknown>>;
};

export type PlayRequest = {
  readonly name: StreamName;
  readonly peer: Peer;
  /** The lane the viewer will read. */
  readonly lane: "frames" | "packets";
  /** True: a stream that nobody publishes yet is granted too, and media starts when the publisher comes. Default false. */
  readonly mayWait?: boolean;
  /** Ends the viewer's session when it is kicked. */
  readonly close?: (reason: string) => void;
  /** Figures of the session; `bytes` are those of media sent so far. */
  readonly statistics?: () => Readonly<Record<string, unknown>>;
};

/** A granted viewer, from the grant to `end`; the viewer adds its own sink to the lane when it is ready to receive. */
export interface Play {
  readonly stream: Stream;
  /** The viewer has left; counted, logged and told to the hooks exactly once. Idempotent. */
  end(reason: string): void;
}

export interface Hub {
  /** Asks the gates, then gives the stream to this publisher. @throws Refusal `busy`, `forbidden`, `overloaded` */
  publish(request: PublishRequest): Promise<Publication>;
  /** @throws Refusal `not-live`, `forbidden`, `unsupported` (the converter's reason), `unavailable` */
  play(request: PlayRequest): Promise<Play>;
  find(name: StreamName): Stream | undefined;
  streams(): Iterable<Stream>;
  clients(): Iterable<Client>;
  readonly totals: HubTotals;
}
