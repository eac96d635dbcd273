// What a session carries: a viewer's tracks, or a publisher's. The session owns the transport and hands plain packets over.

import type { EgressPort } from "./egress.js";

export interface MediaSide {
  /** The transport stands; called once. */
  start(now: number, port: EgressPort): void;
  /** A plain RTP packet from the peer; valid until the call returns. */
  rtp(now: number, packet: Buffer): void;
  /** A plain compound RTCP packet; valid until the call returns. */
  rtcp(now: number, compound: Buffer): void;
  onTimeout(now: number): void;
  /** Milliseconds on the engine's clock, Infinity for none. */
  nextTimeout(): number;
  /** The session ends: last packets may still be sent through the port. */
  close(now: number): void;
  statistics(): MediaStatistics;
  /** When the first packet of media was sent or received and the peer's first report came; undefined before. */
  readonly mediaAt: number | undefined;
  readonly reportAt: number | undefined;
}

export type MediaStatistics = {
  /** 0 while unknown. */
  readonly rtt_ms: number;
  /** Share of packets lost of late, 0 to 1. */
  readonly loss: number;
  readonly nacks: number;
  readonly plis: number;
  /** Bits per second on the wire over the last second or so. */
  readonly bitrate: number;
  readonly packets: number;
  readonly bytes: number;
  readonly resent: number;
  /** Packets that found the send queue full. */
  readonly dropped: number;
  /** Times that a viewer's path was too slow and it fell forward to another key frame. */
  readonly falls?: number;
  /** Pictures that were left out therefore, up to a key frame. */
  readonly thinned?: number;
  /** Bits per second that the viewer's path is estimated to carry; absent while nothing says that it is less than what is sent. */
  readonly path_bitrate?: number;
};

/** What a connectivity check carries. */
export const NO_MEDIA: MediaSide = {
  start() {},
  rtp() {},
  rtcp() {},
  onTimeout() {},
  nextTimeout: () => Number.POSITIVE_INFINITY,
  close() {},
  statistics: () => ({ rtt_ms: 0, loss: 0, nacks: 0, plis: 0, bitrate: 0, packets: 0, bytes: 0, resent: 0, dropped: 0 }),
  mediaAt: undefined,
  reportAt: undefined,
};
