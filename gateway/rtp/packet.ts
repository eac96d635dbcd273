// The unit of the `packets` lane: one RTP packet without what differs per viewer (payload type, SSRC, offsets, extensions).

export type MediaKind = "audio" | "video";

/** What a receiver must know of a track before its first packet (RFC 8866 `rtpmap` and `fmtp`). */
export type RtpTrack = {
  readonly kind: MediaKind;
  /** Encoding name in lower case: `h264`, `opus`, `vp8`, … */
  readonly codec: string;
  readonly clockRate: number;
  /** Audio channels of the `rtpmap`; absent for video. */
  readonly channels?: number;
  /** Format parameters without the payload type, `packetization-mode=1;profile-level-id=42e01f`; empty when there are none. */
  readonly formatParameters: string;
};

/** One RTP packet, shared by all viewers of the stream and never changed after it was written to the lane. */
export class MediaPacket {
  readonly kind: MediaKind;
  /** Unwrapped, without gaps for the life of the lane's track (also over publisher restarts). Wrapped when written. */
  readonly sequenceNumber: number;
  /** Unwrapped RTP time on the lane's clock, in ticks of the track's clock rate. */
  readonly timestamp: number;
  /** Last packet of a picture; for audio the first of a talk spurt. */
  readonly marker: boolean;
  /** First packet of a random-access picture, its parameter sets included: a decoder can start here. */
  readonly startsKeyFrame: boolean;
  /** Belongs to a picture that no other picture refers to: may be left out while a new viewer catches up. */
  readonly isDiscardable: boolean;
  /** RTP payload, at most MAX_RTP_PAYLOAD bytes, shared. */
  readonly payload: Buffer;

  constructor(
    kind: MediaKind,
    sequenceNumber: number,
    timestamp: number,
    marker: boolean,
    startsKeyFrame: boolean,
    isDiscardable: boolean,
    payload: Buffer,
  ) {
    this.kind = kind;
    this.sequenceNumber = sequenceNumber;
    this.timestamp = timestamp;
    this.marker = marker;
    this.startsKeyFrame = startsKeyFrame;
    this.isDiscardable = isDiscardable;
    this.payload = payload;
  }
}

/**
 * Room for the payload in a datagram of 1,200 bytes: what every path carries without fragmentation, less the RTP header (12),
 * header extensions (up to 24), an RTX sequence number (2) and the longest SRTP tag (16).
 */
export const MAX_RTP_PAYLOAD = 1200 - 12 - 24 - 2 - 16;
