// A packet of one source as its receiver gives it on: in order, its counters endless, retransmissions restored.

export class ReceivedPacket {
  /** Unwrapped, in the source's numbering; a missing number is a packet that was lost for good. */
  readonly sequenceNumber: number;
  /** Unwrapped RTP time in the source's clock. */
  readonly timestamp: number;
  readonly marker: boolean;
  /** The receiver's own copy, without padding; empty when the packet held nothing else. */
  readonly payload: Buffer;
  /** Milliseconds on the caller's monotonic clock. */
  readonly arrival: number;
  /** `repaired`: it came by a retransmission, so its arrival says nothing about the sender's clock. */
  readonly path: "direct" | "repaired";

  constructor(
    sequenceNumber: number,
    timestamp: number,
    marker: boolean,
    payload: Buffer,
    arrival: number,
    path: "direct" | "repaired",
  ) {
    this.sequenceNumber = sequenceNumber;
    this.timestamp = timestamp;
    this.marker = marker;
    this.payload = payload;
    this.arrival = arrival;
    this.path = path;
  }
}
