// Stand-ins for keys and sockets: an egress whose datagrams are plain RTP, a DTLS that takes one round trip, an SRTP that trusts.

import type {
  DtlsContext,
  DtlsOptions,
  DtlsState,
  DtlsTransport,
  Endpoint,
  SrtpKeys,
  SrtpReceiver,
} from "../../gateway/native/types.js";
import type { Egress, EgressPort, EgressStatistics } from "../../gateway/rtc/egress.js";

/** Delivers what was queued, at `flush`, to `onDatagram`. Packets are plain. */
export class FakeEgress implements Egress {
  readonly statistics: EgressStatistics = { datagrams: 0, bytes: 0, calls: 0, dropped: 0, failed: 0 };
  onDatagram: (datagram: Buffer, to: Endpoint) => void = () => {};
  /** Set: every sendRtp finds the queue full. */
  isFull = false;
  /** What every port says of how long its peer has taken nothing. */
  lag = 0;
  openPorts = 0;
  #payloads: Buffer[] = [];
  #queue: { datagram: Buffer; to: Endpoint }[] = [];

  open(_keys: SrtpKeys, remote: Endpoint): EgressPort {
    let to = remote;
    let isOpen = true;
    this.openPorts++;
    const lag = (): number => this.lag;
    return {
      get lag() {
        return lag();
      },
      setRemote: (endpoint) => {
        to = endpoint;
      },
      sendRtp: (staged, firstWord, sequenceNumber, timestamp, ssrc, extension, originalSequenceNumber) => {
        if (this.isFull || !isOpen) return 0;
        const payload = this.#payloads[staged];
        if (payload === undefined) throw new Error("a stage of an earlier turn is used");
        const header = Buffer.alloc(12);
        header[0] = extension === undefined ? 0x80 : 0x90;
        header[1] = firstWord;
        header.writeUInt16BE(sequenceNumber & 0xffff, 2);
        header.writeUInt32BE(timestamp >>> 0, 4);
        header.writeUInt32BE(ssrc, 8);
        const original = Buffer.alloc(originalSequenceNumber === -1 ? 0 : 2);
        if (originalSequenceNumber !== -1) original.writeUInt16BE(originalSequenceNumber);
        return this.#push(Buffer.concat([header, extension ?? Buffer.alloc(0), original, payload]), to);
      },
      sendRtcp: (packet) => (isOpen ? this.#push(Buffer.from(packet), to) : 0),
      close: () => {
        if (isOpen) this.openPorts--;
        isOpen = false;
      },
    };
  }

  stage(payload: Buffer): number {
    return this.#payloads.push(payload) - 1;
  }

  sendPlain(datagram: Buffer, remote: Endpoint): void {
    this.#push(Buffer.from(datagram), remote);
  }

  flush(): void {
    const queue = this.#queue;
    this.#queue = [];
    this.#payloads = [];
    this.statistics.calls++;
    for (const { datagram, to } of queue) this.onDatagram(datagram, to);
  }

  close(): void {
    this.#queue = [];
  }

  #push(datagram: Buffer, to: Endpoint): number {
    this.statistics.datagrams++;
    this.statistics.bytes += datagram.length;
    this.#queue.push({ datagram, to });
    return datagram.length;
  }
}

/** Datagrams of the fake handshake; the first byte is DTLS's (22 handshake, 21 alert). */
export const FAKE_HELLO = Buffer.from([22, 1]);
export const FAKE_FINISHED = Buffer.from([22, 2]);
export const FAKE_WRONG_CERTIFICATE = Buffer.from([22, 3]);
export const FAKE_CLOSE_NOTIFY = Buffer.from([21, 0]);

export class FakeDtls implements DtlsContext {
  readonly fingerprint = Array.from({ length: 32 }, () => "AB").join(":");
  /** Associations that are not closed. */
  open = 0;

  create(options: DtlsOptions): DtlsTransport {
    this.open++;
    return new FakeDtlsTransport(options, () => this.open--);
  }

  close(): void {}
}

class FakeDtlsTransport implements DtlsTransport {
  state: DtlsState = "handshaking";
  failure: string | undefined;
  readonly #options: DtlsOptions;
  readonly #onClose: () => void;
  #isFreed = false;

  constructor(options: DtlsOptions, onClose: () => void) {
    this.#options = options;
    this.#onClose = onClose;
  }

  start(): void {
    if (this.#options.role === "active") this.#options.send(FAKE_HELLO);
  }

  receive(datagram: Buffer): void {
    if (datagram.equals(FAKE_HELLO) && this.#options.role === "passive") {
      this.#options.send(FAKE_FINISHED);
      this.state = "connected";
    } else if (datagram.equals(FAKE_FINISHED) && this.#options.role === "active") {
      this.state = "connected";
    } else if (datagram.equals(FAKE_WRONG_CERTIFICATE)) {
      this.failure = "the certificate does not match the fingerprint";
      this.state = "failed";
    } else if (datagram.equals(FAKE_CLOSE_NOTIFY)) {
      this.state = "closed";
    }
  }

  onTimeout(): void {
    this.start();
  }

  timeout(): number | undefined {
    return this.state === "handshaking" && this.#options.role === "active" ? 100 : undefined;
  }

  srtpKeys(): { readonly local: SrtpKeys; readonly remote: SrtpKeys } {
    const keys: SrtpKeys = { profile: "AEAD_AES_128_GCM", key: Buffer.alloc(16), salt: Buffer.alloc(12) };
    return { local: keys, remote: keys };
  }

  settle(): void {}

  close(): void {
    if (this.#isFreed) return;
    this.#isFreed = true;
    if (this.state === "connected") this.#options.send(FAKE_CLOSE_NOTIFY);
    this.state = "closed";
    this.#onClose();
  }
}

/** Takes every packet once, byte for byte; a repeated one is a replay. */
export function createFakeReceiver(): SrtpReceiver {
  const seen = new Set<string>();
  const unprotect = (packet: Buffer): Buffer | undefined => {
    const key = packet.toString("latin1");
    if (seen.has(key)) return undefined;
    seen.add(key);
    return packet;
  };
  return { unprotectRtp: unprotect, unprotectRtcp: unprotect, close: () => seen.clear() };
}
