// What the native folder offers, as types: the rest of the code (rtc only) never sees an address in memory.

export type SrtpProfile = "AEAD_AES_128_GCM" | "AES128_CM_SHA1_80" | "AEAD_AES_256_GCM";

/** One direction's SRTP master key and salt, as DTLS exports them (RFC 5764 section 4.2). */
export type SrtpKeys = { readonly profile: SrtpProfile; readonly key: Buffer; readonly salt: Buffer };

/**
 * An address a datagram came from or goes to. `socket` is the index of the local socket in its UdpSockets, or from FIRST_STREAM on the
 * number of the TCP connection.
 */
export type Endpoint = { readonly socket: number; readonly address: string; readonly port: number };

/** From here on the `socket` of an Endpoint is a TCP connection: lower ones are UDP sockets. */
export const FIRST_STREAM = 256;

export type DtlsState = "handshaking" | "connected" | "failed" | "closed";

/** One DTLS 1.2 association over datagrams, OpenSSL's own state machine; no socket and no timer of its own. */
export interface DtlsTransport {
  readonly state: DtlsState;
  /** Set when `state` is failed: OpenSSL's reason, or the fingerprint that did not match. */
  readonly failure: string | undefined;
  /** Starts the handshake in the active role (sends the ClientHello); does nothing in the passive one. */
  start(): void;
  /** Takes one datagram of records. Flights go out through the `send` given at creation. */
  receive(datagram: Buffer): void;
  /** Retransmits the last flight if its time has come; harmless when early. */
  onTimeout(): void;
  /** Milliseconds until `onTimeout` is due, or undefined when nothing is outstanding. */
  timeout(): number | undefined;
  /** Available when connected: the keys to send with and the keys the peer sends with. */
  srtpKeys(): { readonly local: SrtpKeys; readonly remote: SrtpKeys };
  /**
   * The peer has proved to be done with the handshake, by an authentic packet: gives back what only a repeated flight would need.
   * `close` still says goodbye, and the peer's goodbye is still understood.
   */
  settle(): void;
  /** Sends close_notify and frees everything; idempotent. */
  close(): void;
}

export type DtlsOptions = {
  /** `passive` waits for the ClientHello (DTLS server), `active` sends it (RFC 5763 section 5). */
  readonly role: "passive" | "active";
  /** The peer's certificate must hash to this: `sha-256` and colon-separated hex as in the offer (RFC 8122 section 5). */
  readonly peerFingerprint: { readonly algorithm: string; readonly value: string };
  /** Gets each datagram to send; called from within start, receive, onTimeout and close. The buffer is the callee's to keep. */
  readonly send: (datagram: Buffer) => void;
};

/** One certificate for the process, and the associations made with it. */
export interface DtlsContext {
  /** SHA-256 of the certificate as it stands in an answer: `AB:CD:…`. */
  readonly fingerprint: string;
  create(options: DtlsOptions): DtlsTransport;
  close(): void;
}

/** Checks and decrypts what one peer sends: authentication, rollover counter and replay window (RFC 3711, RFC 7714). */
export interface SrtpReceiver {
  /** @returns the plain RTP packet (a view that is valid until the next call of any receiver), or undefined when it is forged, replayed or too short. */
  unprotectRtp(packet: Buffer): Buffer | undefined;
  /** @returns the plain compound RTCP packet (a view that is valid until the next call of any receiver), or undefined likewise. */
  unprotectRtcp(packet: Buffer): Buffer | undefined;
  close(): void;
}
