// Sending for many viewers at once: SRTP and one batched system call per turn (docs/architecture.md, "Egress").
// It knows keys, rollover counters and addresses, and neither sessions nor streams.

import type { StreamPaths } from "../native/stream-path.js";
import type { Endpoint, SrtpKeys } from "../native/types.js";

/** Where one viewer's packets go. Made when its DTLS handshake is done, closed with its session. */
export interface EgressPort {
  /** The peer's address; follows the peer when it moves. */
  setRemote(remote: Endpoint): void;
  /**
   * Writes the RTP header, encrypts the staged payload behind it and queues the datagram. Nothing leaves before `flush`.
   * Datagrams of one port queued one after the other leave as one system message when all but the last are of one size and the last
   * is not longer: so call this viewer by viewer, not packet by packet.
   *
   * @param staged what `Egress.stage` gave for the payload
   * @param firstWord bits 8–15 of the header: marker << 7 | payload type
   * @param sequenceNumber unwrapped; the low 16 bits are written, the rest is the rollover counter (RFC 3711 section 3.3.1).
   *        May go back for a retransmission in the same SSRC, which must then have the same extension too: under AES-GCM two different
   *        packets with one sequence number give the authentication key away (RFC 7714 section 8.1).
   * @param timestamp the low 32 bits are written
   * @param extension the whole header-extension block with its 4-byte RFC 8285 header, a multiple of 4 bytes and at most 64, or undefined; copied at once
   * @param originalSequenceNumber for RTX (RFC 4588 section 4): written before the payload; -1 for none
   * @returns the datagram's bytes on the wire, 0 when it was dropped because the send queue is full
   */
  sendRtp(
    staged: number,
    firstWord: number,
    sequenceNumber: number,
    timestamp: number,
    ssrc: number,
    extension: Buffer | undefined,
    originalSequenceNumber: number,
  ): number;
  /** Encrypts a compound RTCP packet and queues it. @returns bytes on the wire, 0 when dropped */
  sendRtcp(packet: Buffer): number;
  /** Over TCP: milliseconds that the oldest of what the peer has not taken has waited. 0 over UDP. */
  readonly lag: number;
  close(): void;
}

export interface Egress {
  open(keys: SrtpKeys, remote: Endpoint): EgressPort;
  /**
   * Copies a shared payload into the arena once, for any number of sendRtp calls.
   *
   * @param padding bytes of RTP padding to send behind it, so that packets of one frame have one size and leave as one message.
   *        The same for every sending of a packet: a retransmission under the same sequence number must not differ. Default 0.
   * @returns what sendRtp takes until the next `flush`; -1 (which sendRtp drops) when there is no room
   */
  stage(payload: Buffer, padding?: number): number;
  /** Sends a datagram as it is (STUN, DTLS); queued with the others in order. */
  sendPlain(datagram: Buffer, remote: Endpoint): void;
  /** Sends everything queued. What the kernel does not take waits, within a bound, for the next flush. */
  flush(): void;
  readonly statistics: EgressStatistics;
  close(): void;
}

/** An egress that also sends over TCP: datagrams to an Endpoint whose `socket` is the number of one of these paths. */
export interface StreamingEgress extends Egress {
  readonly streams: StreamPaths;
}

export type EgressStatistics = {
  datagrams: number;
  bytes: number;
  /** System calls made. */
  calls: number;
  /** Datagrams thrown away because the queue was full. */
  dropped: number;
  /** Datagrams the kernel refused for good (unreachable and the like). */
  failed: number;
};
