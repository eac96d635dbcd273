// DTLS 1.2 with use_srtp by OpenSSL's own state machine, over datagrams handed in and out (RFC 6347, RFC 5764).
//
// Who owns what: the context owns the SSL_CTX, the certificate, its key and two C callbacks; a transport owns one SSL, which owns its
// two memory BIOs. A transport holds a reference on the SSL_CTX, so the callbacks live until the context is closed and the last
// transport is gone. OpenSSL only ever runs inside a call from here, on this thread, and never keeps an address of a Buffer.

import { type Certificate, createCertificate, fingerprintOf } from "./certificate.js";
import { FarewellReader } from "./dtls-farewell.js";
import { type Address, loadKoffi } from "./library.js";
import { loadOpenSsl, type OpenSsl, takeError } from "./openssl.js";
import type { DtlsContext, DtlsOptions, DtlsState, DtlsTransport, SrtpKeys, SrtpProfile } from "./types.js";

export type DtlsContextOptions = {
  /** ECDSA P-256, else RSA-2048. */
  readonly ecdsa: boolean;
  /** Milliseconds until a flight is sent again for the first time; doubles each time up to 3 s. Default 200. */
  readonly retransmit?: number;
};

/** @throws NativeUnavailable when this platform has no koffi or no OpenSSL 3 */
export function createDtlsContext(options: DtlsContextOptions): DtlsContext {
  return new OpenSslContext(loadOpenSsl(), options);
}

class OpenSslContext implements DtlsContext {
  readonly fingerprint: string;
  readonly openssl: OpenSsl;
  readonly timerCallback: bigint;
  readonly #verifyCallback: bigint;
  readonly #context: Address;
  readonly #certificate: Certificate;
  /** The transport whose SSL is running right now: the verify callback is told only of the certificate. */
  #running: OpenSslTransport | undefined;
  #transports = 0;
  #isClosed = false;

  constructor(openssl: OpenSsl, options: DtlsContextOptions) {
    this.openssl = openssl;
    this.#certificate = createCertificate(openssl, options.ecdsa);
    this.fingerprint = fingerprintOf(openssl, this.#certificate.certificate, "SHA256") ?? "";
    const koffi = loadKoffi();
    const verify = koffi.pointer(koffi.proto("int", ["uintptr_t", "uintptr_t"]));
    this.#verifyCallback = koffi.register((store: Address) => this.#verify(store), verify);
    const timer = koffi.pointer(koffi.proto("uint32_t", ["uintptr_t", "uint32_t"]));
    const first = (options.retransmit ?? DEFAULT_RETRANSMIT) * 1000;
    this.timerCallback = koffi.register(
      (_ssl: Address, last: number) => (last === 0 ? first : Math.min(last * 2, MAX_RETRANSMIT * 1000)),
      timer,
    );
    this.#context = openssl.SSL_CTX_new(openssl.DTLS_method());
    if (!this.#configure()) {
      const reason = takeError(openssl, "unknown reason");
      this.close();
      throw new Error(`cannot set up DTLS: ${reason}`);
    }
  }

  create(options: DtlsOptions): DtlsTransport {
    if (this.#isClosed) throw new TypeError("the DTLS context is closed");
    const ssl = this.openssl.SSL_new(this.#context);
    if (ssl === 0) throw new Error(`cannot make a DTLS association: ${takeError(this.openssl, "unknown reason")}`);
    this.#transports++;
    return new OpenSslTransport(this, ssl, options);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.openssl.SSL_CTX_free(this.#context);
    this.openssl.X509_free(this.#certificate.certificate);
    this.openssl.EVP_PKEY_free(this.#certificate.key);
    if (this.#transports === 0) this.#unregister();
  }

  /** Runs OpenSSL for one transport, with an empty error queue before and after: Node reads the same queue. */
  run(transport: OpenSslTransport, action: () => void): void {
    this.#running = transport;
    this.openssl.ERR_clear_error();
    try {
      action();
    } finally {
      this.openssl.ERR_clear_error();
      this.#running = undefined;
    }
  }

  release(): void {
    this.#transports--;
    if (this.#isClosed && this.#transports === 0) this.#unregister();
  }

  #unregister(): void {
    loadKoffi().unregister(this.#verifyCallback);
    loadKoffi().unregister(this.timerCallback);
  }

  #configure(): boolean {
    const openssl = this.openssl;
    const context = this.#context;
    if (context === 0) return false;
    openssl.SSL_CTX_set_options(context, SSL_OP_NO_QUERY_MTU + SSL_OP_NO_TICKET + SSL_OP_NO_RENEGOTIATION);
    // An association is never resumed (a resumed one would show no certificate), so nothing is kept for it.
    openssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, 0, null);
    openssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_READ_AHEAD, 1, null);
    openssl.SSL_CTX_set_verify(context, SSL_VERIFY_PEER + SSL_VERIFY_FAIL_IF_NO_PEER_CERT, 0);
    openssl.SSL_CTX_set_cert_verify_callback(context, this.#verifyCallback, 0);
    return (
      openssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, DTLS1_2_VERSION, null) === 1 &&
      openssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, DTLS1_2_VERSION, null) === 1 &&
      openssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0, Buffer.from(`${GROUPS}\0`)) === 1 &&
      openssl.SSL_CTX_set_cipher_list(context, CIPHERS) === 1 &&
      openssl.SSL_CTX_set_tlsext_use_srtp(context, PROFILES.map((profile) => profile.openssl).join(":")) === 0 &&
      openssl.SSL_CTX_use_certificate(context, this.#certificate.certificate) === 1 &&
      openssl.SSL_CTX_use_PrivateKey(context, this.#certificate.key) === 1
    );
  }

  /** Called by OpenSSL, once per handshake, with the peer's chain; 0 ends the handshake with an alert. Must not throw. */
  #verify(store: Address): number {
    const certificate = this.openssl.X509_STORE_CTX_get0_cert(store);
    if (this.#running?.acceptsCertificate(certificate)) return 1;
    this.openssl.X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
    return 0;
  }
}

class OpenSslTransport implements DtlsTransport {
  #state: DtlsState = "handshaking";
  #failure: string | undefined;
  #ssl: Address;
  #incoming: Address;
  #outgoing: Address;
  #isVerified = false;
  #keys: { readonly local: SrtpKeys; readonly remote: SrtpKeys } | undefined;
  /** Of a settled association: our goodbye, and how to read the peer's. */
  #farewell: readonly Buffer[] = [];
  #peerFarewell: FarewellReader | undefined;
  readonly #context: OpenSslContext;
  readonly #openssl: OpenSsl;
  readonly #options: DtlsOptions;

  constructor(context: OpenSslContext, ssl: Address, options: DtlsOptions) {
    const openssl = context.openssl;
    this.#context = context;
    this.#openssl = openssl;
    this.#options = options;
    this.#ssl = ssl;
    this.#incoming = openssl.BIO_new(openssl.BIO_s_mem());
    this.#outgoing = openssl.BIO_new(openssl.BIO_s_mem());
    openssl.SSL_set_bio(ssl, this.#incoming, this.#outgoing);
    openssl.SSL_ctrl(ssl, SSL_CTRL_SET_MTU, MTU, null);
    openssl.DTLS_set_timer_cb(ssl, context.timerCallback);
    if (options.role === "active") openssl.SSL_set_connect_state(ssl);
    else openssl.SSL_set_accept_state(ssl);
  }

  get state(): DtlsState {
    return this.#state;
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  start(): void {
    if (this.#options.role === "active" && this.#state === "handshaking") this.#step();
  }

  receive(datagram: Buffer): void {
    if (this.#peerFarewell?.isFarewell(datagram) && this.#state === "connected") this.#state = "closed";
    if (this.#ssl === 0 || (this.#state !== "handshaking" && this.#state !== "connected")) return;
    if (datagram.length < RECORD_HEADER || datagram.length > MAX_DATAGRAM) return;
    // One datagram per write and everything read before the next: so OpenSSL never sees two datagrams as one.
    this.#openssl.BIO_write(this.#incoming, datagram, datagram.length);
    this.#step();
  }

  onTimeout(): void {
    if (this.#ssl === 0 || this.#state !== "handshaking") return;
    this.#context.run(this, () => {
      if (this.#openssl.SSL_ctrl(this.#ssl, DTLS_CTRL_HANDLE_TIMEOUT, 0, null) < 0)
        this.#fail(takeError(this.#openssl, "the peer does not answer"));
    });
    this.#sendFlight();
  }

  timeout(): number | undefined {
    if (this.#ssl === 0 || this.#state !== "handshaking") return undefined;
    const time = Buffer.alloc(16); // struct timeval on 64-bit platforms: seconds, microseconds
    if (this.#openssl.SSL_ctrl(this.#ssl, DTLS_CTRL_GET_TIMEOUT, 0, time) !== 1) return undefined;
    return time.readInt32LE(0) * 1000 + Math.ceil(time.readInt32LE(8) / 1000); // little endian: the low half is enough
  }

  srtpKeys(): { readonly local: SrtpKeys; readonly remote: SrtpKeys } {
    if (this.#keys === undefined) throw new TypeError(`no SRTP keys: the DTLS association is ${this.#state}`);
    return this.#keys;
  }

  settle(): void {
    if (this.#ssl === 0 || this.#state !== "connected") return;
    this.#peerFarewell = this.#farewellReader();
    if (this.#peerFarewell !== undefined) this.#farewell = this.#free(); // made now, sent by close
  }

  close(): void {
    const flight = this.#ssl === 0 ? this.#farewell : this.#free();
    const isLate = this.#state === "closed" && this.#ssl === 0 && this.#peerFarewell !== undefined;
    if (this.#state !== "failed") this.#state = "closed";
    this.#farewell = [];
    this.#peerFarewell = undefined;
    this.#keys = undefined;
    if (!isLate) for (const datagram of flight) this.#options.send(datagram);
  }

  /** Gives OpenSSL's state back. @returns what is left to send, the goodbye of a connected association included */
  #free(): readonly Buffer[] {
    if (this.#state === "connected") {
      this.#context.run(this, () => {
        if (this.#openssl.SSL_alloc_buffers(this.#ssl) === 1) this.#openssl.SSL_shutdown(this.#ssl);
      });
    }
    const flight = this.#takeFlight();
    this.#openssl.SSL_free(this.#ssl);
    this.#ssl = 0;
    this.#context.release();
    return flight;
  }

  #farewellReader(): FarewellReader | undefined {
    const openssl = this.#openssl;
    const masterSecret = Buffer.alloc(48);
    const clientRandom = Buffer.alloc(32);
    const serverRandom = Buffer.alloc(32);
    const cipher = openssl.SSL_get_current_cipher(this.#ssl);
    const session = openssl.SSL_get_session(this.#ssl);
    if (cipher === 0 || session === 0) return undefined;
    if (openssl.SSL_SESSION_get_master_key(session, masterSecret, masterSecret.length) !== masterSecret.length) return undefined;
    openssl.SSL_get_client_random(this.#ssl, clientRandom, clientRandom.length);
    openssl.SSL_get_server_random(this.#ssl, serverRandom, serverRandom.length);
    const suite = openssl.SSL_CIPHER_get_protocol_id(cipher);
    const peer = this.#options.role === "active" ? "server" : "client";
    const reader = FarewellReader.create({ suite, masterSecret, clientRandom, serverRandom }, peer);
    masterSecret.fill(0);
    return reader;
  }

  /** Whether the peer's certificate is the one its description promised. Called from inside the handshake. */
  acceptsCertificate(certificate: Address): boolean {
    const { algorithm, value } = this.#options.peerFingerprint;
    const digest = DIGESTS.get(algorithm.toLowerCase());
    if (digest === undefined) {
      this.#fail(`the fingerprint's algorithm ${algorithm.slice(0, 32)} is not supported`);
      return false;
    }
    const actual = certificate === 0 ? undefined : fingerprintOf(this.#openssl, certificate, digest);
    this.#isVerified = actual !== undefined && actual === value.trim().toUpperCase();
    if (!this.#isVerified) {
      this.#fail(
        `the peer's certificate has the ${algorithm} fingerprint ${actual ?? "(none)"}, its description says ${value.slice(0, 200)}`,
      );
    }
    return this.#isVerified;
  }

  #step(): void {
    this.#context.run(this, () => {
      if (this.#state === "handshaking") this.#handshake();
      if (this.#state === "connected") this.#read();
    });
    this.#sendFlight();
  }

  #handshake(): void {
    const result = this.#openssl.SSL_do_handshake(this.#ssl);
    if (result === 1) {
      this.#finish();
      return;
    }
    const error = this.#openssl.SSL_get_error(this.#ssl, result);
    if (error === SSL_ERROR_WANT_READ || error === SSL_ERROR_WANT_WRITE) return;
    this.#fail(takeError(this.#openssl, error === SSL_ERROR_ZERO_RETURN ? "closed by the peer" : `SSL error ${error}`));
  }

  /** The handshake is complete: both Finished and the peer's signature were checked by OpenSSL, the fingerprint by us. */
  #finish(): void {
    if (!this.#isVerified) {
      this.#fail("the peer showed no certificate");
      return;
    }
    const keys = this.#exportKeys();
    if (keys === undefined) {
      this.#fail("no SRTP profile in common");
      return;
    }
    this.#keys = keys;
    this.#state = "connected";
  }

  /** RFC 5764 section 4.2: client key, server key, client salt, server salt. */
  #exportKeys(): { readonly local: SrtpKeys; readonly remote: SrtpKeys } | undefined {
    const selected = this.#openssl.SSL_get_selected_srtp_profile(this.#ssl);
    if (selected === 0) return undefined;
    // struct { const char *name; unsigned long id }
    const id: unknown = loadKoffi().decode(BigInt(selected), 8, "unsigned long");
    const profile = PROFILES.find((candidate) => candidate.id === id);
    if (profile === undefined) return undefined;
    const { keyLength, saltLength } = profile;
    const material = Buffer.alloc(2 * (keyLength + saltLength));
    const done = this.#openssl.SSL_export_keying_material(
      this.#ssl,
      material,
      material.length,
      EXPORTER_LABEL,
      EXPORTER_LABEL.length,
      null,
      0,
      0,
    );
    if (done !== 1) return undefined;
    const keysAt = (index: 0 | 1): SrtpKeys => ({
      profile: profile.name,
      key: material.subarray(index * keyLength, (index + 1) * keyLength),
      salt: material.subarray(2 * keyLength + index * saltLength, 2 * keyLength + (index + 1) * saltLength),
    });
    return this.#options.role === "active" ? { local: keysAt(0), remote: keysAt(1) } : { local: keysAt(1), remote: keysAt(0) };
  }

  /** After the handshake only alerts and repeated flights come; data (nobody negotiated any) is read and forgotten. */
  #read(): void {
    // Between datagrams a connected association holds no record buffers (33 KiB). OpenSSL would make the one to read into by itself,
    // but writes (an alert, a repeated Finished) without looking.
    if (this.#openssl.SSL_alloc_buffers(this.#ssl) !== 1) return;
    for (let records = 0; records < MAX_RECORDS; records++) {
      const result = this.#openssl.SSL_read(this.#ssl, SCRATCH, SCRATCH.length);
      if (result > 0) continue;
      const error = this.#openssl.SSL_get_error(this.#ssl, result);
      if (error === SSL_ERROR_ZERO_RETURN) this.#state = "closed";
      else if (error === SSL_ERROR_SSL) this.#fail(takeError(this.#openssl, "unknown error"));
      break;
    }
    this.#openssl.SSL_free_buffers(this.#ssl);
  }

  #fail(reason: string): void {
    if (this.#state === "failed") return; // the first reason is the cause, what OpenSSL says next is its consequence
    this.#state = "failed";
    this.#failure = reason;
    this.#keys = undefined;
  }

  #sendFlight(): void {
    for (const datagram of this.#takeFlight()) this.#options.send(datagram); // send may close this transport: nothing is touched after
  }

  /** Takes what OpenSSL wrote and cuts it into datagrams of at most MTU bytes, at the bounds of records. */
  #takeFlight(): Buffer[] {
    const pending = this.#openssl.BIO_ctrl(this.#outgoing, BIO_CTRL_PENDING, 0, null);
    if (pending <= 0) return [];
    const flight = Buffer.allocUnsafe(pending);
    this.#openssl.BIO_read(this.#outgoing, flight, pending);
    const datagrams: Buffer[] = [];
    let start = 0;
    let end = 0;
    while (end + RECORD_HEADER <= flight.length) {
      const next = end + RECORD_HEADER + flight.readUInt16BE(end + RECORD_HEADER - 2);
      if (next - start > MTU && end > start) {
        datagrams.push(flight.subarray(start, end));
        start = end;
      }
      end = next;
    }
    if (start < flight.length) datagrams.push(flight.subarray(start));
    return datagrams;
  }
}

// In order of preference; ids are those of RFC 5764 section 4.1.2 and RFC 7714 section 14.2.
const PROFILES: readonly {
  readonly name: SrtpProfile;
  readonly openssl: string;
  readonly id: number;
  readonly keyLength: number;
  readonly saltLength: number;
}[] = [
  { name: "AEAD_AES_128_GCM", openssl: "SRTP_AEAD_AES_128_GCM", id: 7, keyLength: 16, saltLength: 12 },
  { name: "AES128_CM_SHA1_80", openssl: "SRTP_AES128_CM_SHA1_80", id: 1, keyLength: 16, saltLength: 14 },
  { name: "AEAD_AES_256_GCM", openssl: "SRTP_AEAD_AES_256_GCM", id: 8, keyLength: 32, saltLength: 12 },
];

// RFC 8122 section 5 without md2 and md5, which nothing sends any more.
const DIGESTS: ReadonlyMap<string, string> = new Map([
  ["sha-1", "SHA1"],
  ["sha-224", "SHA224"],
  ["sha-256", "SHA256"],
  ["sha-384", "SHA384"],
  ["sha-512", "SHA512"],
]);

const EXPORTER_LABEL = "EXTRACTOR-dtls_srtp"; // RFC 5764 section 4.2
const CIPHERS =
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:" +
  "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA";
const GROUPS = "P-256:X25519:P-384"; // P-256 first: libdatachannel offers nothing else, and OpenSSL's is the fastest
const MTU = 1200;
const RECORD_HEADER = 13; // RFC 6347 section 4.1: type, version, epoch, sequence number, length
const MAX_DATAGRAM = 16_384; // a record's greatest length; on a network no datagram comes near it
const MAX_RECORDS = 64; // records read from one datagram after the handshake; the rest waits for the next one
const DEFAULT_RETRANSMIT = 200; // ms; RFC 6347 section 4.2.4.1 allows less than its 1 s where time matters
const MAX_RETRANSMIT = 3000;
const SCRATCH = Buffer.alloc(16_384); // receives data nobody reads

const DTLS1_2_VERSION = 0xfefd;
const SSL_CTRL_SET_MTU = 17; // this and the following from ssl.h
const SSL_CTRL_SET_READ_AHEAD = 41;
const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
const SSL_CTRL_SET_GROUPS_LIST = 92;
const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
const SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
const DTLS_CTRL_GET_TIMEOUT = 73;
const DTLS_CTRL_HANDLE_TIMEOUT = 74;
const SSL_OP_NO_QUERY_MTU = 0x1000;
const SSL_OP_NO_TICKET = 0x4000;
const SSL_OP_NO_RENEGOTIATION = 0x40000000;
const SSL_VERIFY_PEER = 1;
const SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;
const SSL_ERROR_SSL = 1;
const SSL_ERROR_WANT_READ = 2;
const SSL_ERROR_WANT_WRITE = 3;
const SSL_ERROR_ZERO_RETURN = 6;
const BIO_CTRL_PENDING = 10; // bio.h
const X509_V_ERR_CERT_REJECTED = 28; // x509_vfy.h
