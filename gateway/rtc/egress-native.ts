// The egress on Linux: headers, encryption and datagrams all in one arena, sent by sendmmsg with segmentation.

import { loadLibC } from "../native/libc.js";
import type { Address } from "../native/library.js";
import { SendQueue, type SendQueueOptions } from "../native/send-queue.js";
import { parseSocketAddress, type SocketAddress } from "../native/socket-address.js";
import {
  CipherWorkspace,
  createRtpProtector,
  GcmRtcpProtector,
  MAX_TAG,
  RTCP_OVERHEAD,
  type RtpProtector,
} from "../native/srtp-cipher.js";
import { deriveSessionKeys } from "../native/srtp-keys.js";
import { PortableSrtpSender } from "../native/srtp-portable.js";
import { StagingArea } from "../native/staging-area.js";
import { type StreamPath, StreamPaths } from "../native/stream-path.js";
import { type Endpoint, FIRST_STREAM, type SrtpKeys } from "../native/types.js";
import type { UdpSockets } from "../native/udp.js";
import type { EgressPort, EgressStatistics, StreamingEgress } from "./egress.js";

export type NativeEgressOptions = SendQueueOptions;

/** Where a datagram is written: a UDP socket's queue, or the peer's own over TCP. */
type Queue = SendQueue | StreamPath;

export class NativeEgress implements StreamingEgress {
  readonly statistics: EgressStatistics = { datagrams: 0, bytes: 0, calls: 0, dropped: 0, failed: 0 };
  readonly streams = new StreamPaths(this.statistics);
  readonly staging = new StagingArea();
  readonly workspace = new CipherWorkspace();
  readonly #sockets: UdpSockets;
  readonly #options: NativeEgressOptions;
  /** By index of socket, made when first used: most sockets of a machine never send. */
  readonly #queues: (SendQueue | undefined)[] = [];
  readonly #ports = new Set<NativePort>();
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @throws NativeUnavailable; the sockets must be natively made, and outlive this object */
  constructor(sockets: UdpSockets, options: NativeEgressOptions = {}) {
    loadLibC();
    this.#sockets = sockets;
    this.#options = options;
  }

  open(keys: SrtpKeys, remote: Endpoint): EgressPort {
    if (this.#isClosed) throw new TypeError("the egress is closed");
    const port = new NativePort(this, keys, remote);
    this.#ports.add(port);
    return port;
  }

  stage(payload: Buffer, padding = 0): number {
    return this.staging.add(payload, padding);
  }

  sendPlain(datagram: Buffer, remote: Endpoint): void {
    const address = parseSocketAddress(remote.address, remote.port);
    const queue = this.queueOf(remote, address);
    if (queue === undefined || address === undefined) this.statistics.failed++;
    else this.sendBytes(datagram, queue, address);
  }

  flush(): void {
    this.staging.clear();
    if (!this.#isClosed) this.#sendQueued();
  }

  close(): void {
    if (this.#isClosed) return;
    this.flush();
    this.#isClosed = true;
    clearTimeout(this.#retry);
    for (const port of this.#ports) port.close();
    this.streams.close();
    this.#queues.length = 0;
    this.workspace.close();
  }

  /** Sends what the kernel takes, and comes back for the rest. */
  #sendQueued(): void {
    this.streams.flush();
    let isEmpty = true;
    for (const queue of this.#queues) if (queue !== undefined && !queue.flush()) isEmpty = false;
    if (isEmpty || this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#sendQueued();
    }, RETRY_DELAY);
  }

  /** @returns undefined when there is no such socket, or it is of the other family */
  queueOf(remote: Endpoint, address: SocketAddress | undefined): Queue | undefined {
    if (remote.socket >= FIRST_STREAM) return this.streams.get(remote.socket);
    const queue = this.#queues[remote.socket];
    const local = this.#sockets.sockets[remote.socket];
    if (this.#isClosed || local?.fd === undefined || local.family !== address?.family) return undefined;
    if (queue !== undefined) return queue;
    const made = new SendQueue(loadLibC(), local.fd, this.statistics, this.#options);
    this.#queues[remote.socket] = made;
    return made;
  }

  /** @returns bytes queued, 0 when dropped */
  sendBytes(datagram: Buffer, queue: Queue, address: SocketAddress): number {
    const offset = datagram.length > MAX_DATAGRAM ? -1 : queue.reserve(datagram.length);
    if (offset < 0) {
      this.statistics.dropped++;
      return 0;
    }
    queue.bytes.set(datagram, offset);
    queue.commit(datagram.length, address);
    return datagram.length;
  }

  forget(port: NativePort): void {
    this.#ports.delete(port);
  }
}

class NativePort implements EgressPort {
  readonly #egress: NativeEgress;
  readonly #statistics: EgressStatistics;
  readonly #staging: StagingArea;
  readonly #rtp: RtpProtector;
  readonly #rtcp: GcmRtcpProtector | PortableSrtpSender;
  readonly #tagLength: number;
  #queue: Queue | undefined;
  #address: SocketAddress | undefined;
  #isClosed = false;

  constructor(egress: NativeEgress, keys: SrtpKeys, remote: Endpoint) {
    this.#egress = egress;
    this.#statistics = egress.statistics;
    this.#staging = egress.staging;
    const session = deriveSessionKeys(keys);
    this.#rtp = createRtpProtector(egress.workspace, keys, { session });
    const isAead = keys.profile !== "AES128_CM_SHA1_80";
    this.#rtcp = isAead ? new GcmRtcpProtector(egress.workspace, keys, { session }) : new PortableSrtpSender(keys, session);
    this.#tagLength = this.#rtp.tagLength;
    this.setRemote(remote);
  }

  setRemote(remote: Endpoint): void {
    this.#address = parseSocketAddress(remote.address, remote.port);
    this.#queue = this.#egress.queueOf(remote, this.#address);
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
    const queue = this.#queue;
    const address = this.#address;
    const index = this.#staging.indexOf(staged);
    const extensionLength = extension === undefined ? 0 : extension.length;
    if (queue === undefined || address === undefined || index < 0 || this.#isClosed || !isExtensionLength(extensionLength)) {
      return this.#drop();
    }
    const headerLength = RTP_HEADER + extensionLength;
    let payload: Address = this.#staging.addressOf(index);
    let length = this.#staging.lengthOf(index);
    if (originalSequenceNumber >= 0) {
      payload = this.#staging.prefix(index, originalSequenceNumber);
      length += 2;
    }
    const offset = queue.reserve(headerLength + length + MAX_TAG);
    if (offset < 0) return this.#drop();

    const { view } = queue;
    //  0                   1                   2                   3
    //  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    // +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    // |V=2|P|X|  CC   |M|     PT      |       sequence number         |
    // |                           timestamp                           |
    // |           synchronization source (SSRC) identifier            |
    // +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    let first = 0x8000 | (firstWord & 0xff);
    if (extensionLength > 0) first |= 0x1000;
    if (this.#staging.isPadded(index)) first |= 0x2000;
    const low = sequenceNumber & 0xffff;
    view.setUint32(offset, (first << 16) | low);
    view.setUint32(offset + 4, timestamp);
    view.setUint32(offset + 8, ssrc);
    if (extension !== undefined) {
      for (let at = 0; at < extensionLength; at++) view.setUint8(offset + RTP_HEADER + at, extension[at] ?? 0);
    }
    const rolloverCounter = Math.floor(sequenceNumber / 0x1_0000) >>> 0;
    if (!this.#rtp.protect(queue.address + offset, headerLength, payload, length, ssrc, rolloverCounter, low))
      return this.#drop();
    const size = headerLength + length + this.#tagLength;
    queue.commit(size, address);
    return size;
  }

  get lag(): number {
    const queue = this.#queue;
    return queue === undefined || queue instanceof SendQueue ? 0 : queue.lag;
  }

  sendRtcp(packet: Buffer): number {
    const queue = this.#queue;
    const rtcp = this.#rtcp;
    if (queue === undefined || this.#address === undefined || this.#isClosed) return this.#drop();
    if (packet.length < 8 || packet.length > MAX_RTCP) return this.#drop();
    if (rtcp instanceof PortableSrtpSender) return this.#egress.sendBytes(rtcp.protectRtcp(packet), queue, this.#address);
    const size = packet.length + RTCP_OVERHEAD;
    const offset = queue.reserve(size);
    if (offset < 0) return this.#drop();
    queue.bytes.set(packet, offset);
    if (!rtcp.protect(queue.view, queue.address, offset, packet.length)) return this.#drop();
    queue.commit(size, this.#address);
    return size;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#rtp.close();
    if (this.#rtcp instanceof GcmRtcpProtector) this.#rtcp.close();
    this.#egress.forget(this);
  }

  #drop(): number {
    this.#statistics.dropped++;
    return 0;
  }
}

function isExtensionLength(length: number): boolean {
  return length <= MAX_EXTENSION && length % 4 === 0;
}

const RTP_HEADER = 12;
const MAX_EXTENSION = 64; // bytes; what browsers negotiate takes 24 at most
const MAX_RTCP = 1400;
const MAX_DATAGRAM = 1472; // Ethernet's room for UDP over IPv4
const RETRY_DELAY = 1; // ms; at a gigabit a second the kernel sends 125 KB meanwhile
