// RTP packets for tests, written apart from the gateway's own code.

export type RtpFields = {
  readonly sequenceNumber: number;
  readonly timestamp?: number;
  readonly ssrc?: number;
  readonly payloadType?: number;
  readonly marker?: boolean;
  readonly payload?: Buffer;
  /** One-byte header extensions, id and value. */
  readonly extensions?: readonly (readonly [number, Buffer])[];
  /** Bytes of padding, its count included. */
  readonly padding?: number;
};

/** RFC 3550 section 5.1; counters are wrapped here. */
export function rtpPacket(fields: RtpFields): Buffer {
  const { timestamp = 0, ssrc = 1, payloadType = 96, marker = false, payload = Buffer.from([1]), extensions = [] } = fields;
  const header = Buffer.alloc(12);
  header[0] = 0x80 | (extensions.length > 0 ? 0x10 : 0) | (fields.padding ? 0x20 : 0);
  header[1] = (marker ? 0x80 : 0) | payloadType;
  header.writeUInt16BE(fields.sequenceNumber & 0xffff, 2);
  header.writeUInt32BE(((timestamp % 2 ** 32) + 2 ** 32) % 2 ** 32, 4);
  header.writeUInt32BE(ssrc, 8);
  const parts: Buffer[] = [header];
  if (extensions.length > 0) {
    const elements = Buffer.concat(
      extensions.map(([id, value]) => Buffer.concat([Buffer.from([(id << 4) | (value.length - 1)]), value])),
    );
    const block = Buffer.alloc(4 + Math.ceil(elements.length / 4) * 4);
    block.writeUInt16BE(0xbede, 0);
    block.writeUInt16BE(block.length / 4 - 1, 2);
    elements.copy(block, 4);
    parts.push(block);
  }
  parts.push(payload);
  if (fields.padding) {
    const padding = Buffer.alloc(fields.padding);
    padding[fields.padding - 1] = fields.padding;
    parts.push(padding);
  }
  return Buffer.concat(parts);
}

/** Blocks and the packet's own (RFC 2198 section 3). */
export function redundantPayload(
  payloadType: number,
  before: readonly { readonly payload: Buffer; readonly offset: number; readonly payloadType?: number }[],
  primary: Buffer,
): Buffer {
  const headers = before.map((block) => {
    const header = Buffer.alloc(4);
    const type = block.payloadType ?? payloadType;
    header.writeUInt32BE((2 ** 31 + type * 2 ** 24 + block.offset * 2 ** 10 + block.payload.length) >>> 0);
    return header;
  });
  return Buffer.concat([...headers, Buffer.from([payloadType]), ...before.map((block) => block.payload), primary]);
}

/** The retransmission of a packet (RFC 4588 section 4). */
export function rtxPacket(
  original: Buffer,
  rtx: { readonly ssrc: number; readonly payloadType: number; readonly sequenceNumber: number },
): Buffer {
  const number = Buffer.from(original.subarray(2, 4));
  return rtpPacket({
    sequenceNumber: rtx.sequenceNumber,
    timestamp: original.readUInt32BE(4),
    ssrc: rtx.ssrc,
    payloadType: rtx.payloadType,
    marker: original.readUInt8(1) >= 0x80,
    payload: Buffer.concat([number, original.subarray(12)]),
  });
}
