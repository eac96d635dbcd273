// The egress where packets cannot be sent natively: node:crypto and dgram behind the same interface.

import { isIP } from "node:net";

import { PortableSrtpSender } from "../native/srtp-portable.js";
import { StreamPaths } from "../native/stream-path.js";
import { type Endpoint, FIRST_STREAM, type SrtpKeys } from "../native/types.js";
import type { UdpSockets } from "../native/udp.js";
import type { EgressPort, EgressStatistics, StreamingEgress } from "./egress.js";

export type PortableEgressOptions = {
  /** Bytes that may wait in the system's send queue. Default 8 MiB. */
  readonly bytes?: number;
};

type Staged = { readonly payload: Buffer; readonly isPadded: boolean };

export class PortableEgress implements StreamingEgress {
  readonly statistics: EgressStatistics = { datagrams: 0, bytes: 0, calls: 0, dropped: 0, failed: 0 };
  readonly streams = new StreamPaths(this.statistics, true);
  readonly #sockets: UdpSockets;
  readonly #maxBytes: number;
  #staged: Staged[] = [];
  #base = 0;
  #queue: { readonly datagram: Buffer; readonly remote: Endpoint }[] = [];
  /** Bytes queued here or handed to the system and not yet sent. */
  #waiting = 0;
  #isClosed = false;

  /** The sockets must outlive this object. */
  constructor(sockets: UdpSockets, options: PortableEgressOptions = {}) {
    this.#sockets = sockets;
    this.#maxBytes = options.bytes ?? 8 * 1024 * 1024;
  }

  open(keys: SrtpKeys, remote: Endpoint): EgressPort {
    if (this.#isClosed) throw new TypeError("the egress is closed");
    return new PortablePort(this, keys, remote);
  }

  stage(payload: Buffer, padding = 0): number {
    if (payload.length > MAX_PAYLOAD || !(padding >= 0 && padding <= 255) || this.#staged.length === MAX_STAGED) return -1;
    const copy = Buffer.alloc(payload.length + padding);
    payload.copy(copy);
    if (padding > 0) copy[copy.length - 1] = padding;
    return this.#base + this.#staged.push({ payload: copy, isPadded: padding > 0 }) - 1;
  }

  staged(staged: number): Staged | undefined {
    return this.#staged[staged - this.#base];
  }

  sendPlain(datagram: Buffer, remote: Endpoint): void {
    this.send(Buffer.from(datagram), remote);
  }

  /** @returns bytes queued, 0 when dropped */
  send(datagram: Buffer, remote: Endpoint): number {
    if (remote.socket >= FIRST_STREAM) return this.#sendStream(datagram, remote.socket);
    if (this.#isClosed || datagram.length > MAX_DATAGRAM || this.#waiting + datagram.length > this.#maxBytes) {
      this.statistics.dropped++;
      return 0;
    }
    this.#queue.push({ datagram, remote });
    this.#waiting += datagram.length;
    return datagram.length;
  }

  #sendStream(datagram: Buffer, number: number): number {
    const path = this.streams.get(number);
    const offset = path === undefined || datagram.length > MAX_DATAGRAM ? -1 : path.reserve(datagram.length);
    if (path === undefined || offset < 0) {
      this.statistics.dropped++;
      return 0;
    }
    path.bytes.set(datagram, offset);
    path.commit(datagram.length);
    return datagram.length;
  }

  flush(): void {
    this.streams.flush();
    this.#base += this.#staged.length;
    this.#staged = [];
    const queue = this.#queue;
    this.#queue = [];
    for (const { datagram, remote } of queue) {
      const local = this.#sockets.sockets[remote.socket];
      const family = isIP(remote.address) === 6 ? "IPv6" : "IPv4";
      if (
        local?.socket === undefined ||
        local.family !== family ||
        isIP(remote.address) === 0 ||
        !(remote.port >= 1 && remote.port <= 0xffff)
      ) {
        this.#finish(datagram.length, false);
        continue;
      }
      this.statistics.calls++;
      try {
        local.socket.send(datagram, remote.port, remote.address, (error) => this.#finish(datagram.length, error === null));
      } catch {
        this.#finish(datagram.length, false); // the socket is closed
      }
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.flush();
    this.#isClosed = true;
    this.streams.close();
  }

  #finish(length: number, isSent: boolean): void {
    this.#waiting -= length;
    if (!isSent) {
      this.statistics.failed++;
      return;
    }
    this.statistics.datagrams++;
    this.statistics.bytes += length;
  }
}

class PortablePort implements EgressPort {
  readonly #egress: PortableEgress;
  readonly #sender: PortableSrtpSender;
  #remote: Endpoint;
  #isClosed = false;

  constructor(egress: PortableEgress, keys: SrtpKeys, remote: Endpoint) {
    this.#egress = egress;
    this.#sender = new PortableSrtpSender(keys);
    this.#remote = remote;
  }

  setRemote(remote: Endpoint): void {
    this.#remote = remote;
  }

  sendRtp(
    staged: number,
    firstWord: number,
    sequenceNumber: number,
    timestamp: number,
    ssrc: number,
    extension: Buffer | undefined,
    originalSequenceNumber: number,
  ): number {
    const item = this.#egress.staged(staged);
    const extensionLength = extension?.length ?? 0;
    if (item === undefined || this.#isClosed || extensionLength > MAX_EXTENSION || extensionLength % 4 !== 0) return this.#drop();
    const header = Buffer.alloc(RTP_HEADER + extensionLength);
    header[0] = 0x80 | (item.isPadded ? 0x20 : 0) | (extensionLength > 0 ? 0x10 : 0);
    header[1] = firstWord & 0xff;
    header.writeUInt16BE(sequenceNumber & 0xffff, 2);
    header.writeUInt32BE(timestamp >>> 0, 4);
    header.writeUInt32BE(ssrc >>> 0, 8);
    extension?.copy(header, RTP_HEADER);
    let { payload } = item;
    if (originalSequenceNumber >= 0) {
      const prefix = Buffer.alloc(2);
      prefix.writeUInt16BE(originalSequenceNumber & 0xffff);
      payload = Buffer.concat([prefix, payload]);
    }
    const rolloverCounter = Math.floor(sequenceNumber / 0x1_0000) >>> 0;
    return this.#egress.send(this.#sender.protectRtp(header, payload, rolloverCounter), this.#remote);
  }

  get lag(): number {
    return this.#egress.streams.get(this.#remote.socket)?.lag ?? 0;
  }

  sendRtcp(packet: Buffer): number {
    if (this.#isClosed || packet.length < 8 || packet.length > MAX_RTCP) return this.#drop();
    return this.#egress.send(this.#sender.protectRtcp(packet), this.#remote);
  }

  close(): void {
    this.#isClosed = true;
  }

  #drop(): number {
    this.#egress.statistics.dropped++;
    return 0;
  }
}

// The same bounds as those of the native egress.
const RTP_HEADER = 12;
const MAX_STAGED = 16_384;
const MAX_PAYLOAD = 1400;
const MAX_EXTENSION = 64;
const MAX_RTCP = 1400;
const MAX_DATAGRAM = 1472;
