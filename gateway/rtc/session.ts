// The engine of one WebRTC session: ICE-lite, DTLS, SRTP in and out, consent (RFC 8445, RFC 5763, RFC 5764, RFC 7675). It carries
// one media side and owns neither socket nor timer. Who closes whom: the server closes the session; the session says goodbye and
// closes its media side, its DTLS transport, its SRTP receiver and its egress port, in this order.

import {
  type DtlsContext,
  type DtlsTransport,
  type Endpoint,
  FIRST_STREAM,
  type SrtpKeys,
  type SrtpReceiver,
} from "../native/types.js";
import { type Diagnosis, diagnose, type Path, type SessionFacts, SessionTrace } from "./diagnosis.js";
import type { Egress, EgressPort } from "./egress.js";
import { IceLiteAgent } from "./ice.js";
import type { MediaSide } from "./media-side.js";
import type { IceCredentials, Negotiated } from "./sdp-answer.js";
import { isStun } from "./stun.js";

/** `new`: no check has come; `ice`: checks, no nominated pair; `dtls`: a pair, no keys; `connected`: media flows. */
export type SessionState = "new" | "ice" | "dtls" | "connected" | "closed";

export type SessionOptions = {
  readonly id: string;
  /** The address that the offer came from, for logs. */
  readonly peer: string;
  readonly ice: IceCredentials;
  readonly negotiated: Pick<Negotiated, "remote" | "fingerprint" | "dtlsRole">;
  readonly media: MediaSide;
  readonly dtls: DtlsContext;
  readonly egress: Egress;
  readonly createReceiver: (keys: SrtpKeys) => SrtpReceiver;
  /** The client chose our ICE credentials: responses to its checks carry its user name. Default false. */
  readonly echoesUsername?: boolean;
  /** Milliseconds without any authenticated packet after which the session ends. */
  readonly stunTimeout: number;
  readonly owner: SessionOwner;
  /** What was noted of it before it was made. Default: nothing. */
  readonly trace?: SessionTrace;
};

/** What a diagnosis needs of the server. */
export type OwnerFacts = Pick<SessionFacts, "role" | "codecs" | "candidates" | "ownPorts" | "isLive">;

/** Told what the server must act on; called from within `receive`, `onTimeout` and `close`. */
export interface SessionOwner {
  /** Datagrams from this address belong to the session: a signed check has come from it. */
  onAddress(session: RtcSession, endpoint: Endpoint): void;
  /** The address is one of too many and the session has forgotten it. */
  onAddressGone(session: RtcSession, endpoint: Endpoint): void;
  onConnected(session: RtcSession): void;
  /** `10.0.0.5:8000`: where what came from this endpoint arrived; empty when unknown. */
  localAddress(endpoint: Endpoint): string;
  /** Once. */
  onClosed(session: RtcSession, reason: string): void;
}

export class RtcSession {
  readonly id: string;
  readonly peer: string;
  readonly media: MediaSide;
  readonly ice: IceLiteAgent;
  /** How far it came, and when. */
  readonly trace: SessionTrace;
  readonly createdAt: number;
  state: SessionState = "new";
  /** Why it was closed. */
  reason = "";
  /** Datagrams that were forged, replayed, or made no sense. */
  discarded = 0;
  /** How often ICE was restarted. */
  iceGeneration = 0;
  /** Of ours, as the session table knows them. */
  localFragments: readonly string[];
  /** For the server's timer queue: when it will be woken, and its place there. */
  due = Number.POSITIVE_INFINITY;
  slot = -1;
  /** For the session table: something has come for it in this turn. */
  isTouched = false;

  readonly #options: SessionOptions;
  /** Made when the peer has shown itself: sessions that never connect then cost little. */
  #dtls: DtlsTransport | undefined;
  /** When an association is taken for settled by its peer's silence about it; Infinity before and after. */
  #settleDue = Number.POSITIVE_INFINITY;
  #receiver: SrtpReceiver | undefined;
  #port: EgressPort | undefined;
  #lastHeard: number;
  #consentDue: number;
  #dtlsDue = Number.POSITIVE_INFINITY;
  /** Where handshake flights go while no pair is nominated. */
  #lastFrom: Endpoint | undefined;

  constructor(now: number, options: SessionOptions) {
    this.id = options.id;
    this.peer = options.peer;
    this.media = options.media;
    this.createdAt = now;
    this.trace = options.trace ?? new SessionTrace(now);
    this.#options = options;
    this.#lastHeard = now;
    this.#consentDue = now + Math.min(options.stunTimeout, CONNECT_TIMEOUT);
    this.ice = new IceLiteAgent(options.ice, options.negotiated.remote.usernameFragment, options.echoesUsername);
    this.localFragments = this.ice.localFragments;
  }

  /** Takes a datagram that the server knows to be for this session: by its STUN user name, or by its address. */
  receive(now: number, datagram: Buffer, from: Endpoint): void {
    if (this.state === "closed" || datagram.length === 0) return;
    const first = datagram[0] as number; // RFC 7983 section 7 tells protocols apart by the first byte
    if (first >= 128 && first <= 191) this.#receiveSrtp(now, datagram, from);
    else if (first >= 20 && first <= 63) this.#receiveDtls(now, datagram, from);
    else if (isStun(datagram)) this.#receiveStun(now, datagram, from);
    else this.discarded++;
  }

  /** The TCP connection that this address stood for has ended; the peer may come back over another one, or by UDP. */
  addressEnded(endpoint: Endpoint): void {
    if (this.state === "closed") return;
    this.ice.drop(endpoint);
    this.#options.owner.onAddressGone(this, endpoint);
  }

  /** Does what is due; harmless when nothing is. */
  onTimeout(now: number): void {
    if (this.state === "closed") return;
    if (now >= this.#dtlsDue) {
      this.#dtls?.onTimeout();
      this.#afterDtls(now);
      if (this.isClosed()) return;
    }
    if (now >= this.#settleDue) this.#settle();
    if (now >= this.#consentDue) {
      if (this.#checkConsent(now)) return;
    }
    this.media.onTimeout(now);
  }

  /** Milliseconds on the engine's clock; late or extra calls of `onTimeout` do no harm. */
  nextTimeout(): number {
    if (this.state === "closed") return Number.POSITIVE_INFINITY;
    return Math.min(this.#consentDue, this.#dtlsDue, this.#settleDue, this.media.nextTimeout());
  }

  /** New ICE credentials on both sides (RFC 8445 section 9); media goes on over the pair in use. */
  restartIce(local: IceCredentials, remoteFragment: string): void {
    this.ice.restart(local, remoteFragment);
    this.iceGeneration++;
  }

  /** Says goodbye (RTCP BYE, DTLS close_notify) and frees everything; idempotent. */
  close(now: number, reason: string): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.reason = reason;
    this.media.close(now);
    this.#dtls?.close();
    this.#receiver?.close();
    this.#port?.close();
    this.#receiver = undefined;
    this.#port = undefined;
    this.#options.owner.onClosed(this, reason);
  }

  isClosed(): boolean {
    return this.state === "closed";
  }

  /** True when nothing authentic has come for so long that its addresses may be another session's by now. */
  isSilent(now: number): boolean {
    return this.state === "closed" || now - this.#lastHeard >= SILENCE;
  }

  /** True for a connectivity check, which has ICE and nothing else. */
  get isCheck(): boolean {
    return this.#options.negotiated.fingerprint === undefined;
  }

  /** Figures for the API. */
  statistics(): Readonly<Record<string, unknown>> {
    const { selected } = this.ice;
    return {
      ...this.media.statistics(),
      candidate: selected === undefined ? "" : `${selected.address}:${selected.port}`,
      transport: selected === undefined ? "" : selected.socket < FIRST_STREAM ? "udp" : "tcp",
      ice_state:
        this.state === "closed" ? "closed" : selected !== undefined ? "connected" : this.state === "new" ? "new" : "checking",
      dtls_state: this.#dtls?.state ?? "new",
      state: this.state,
      reason: this.reason,
    };
  }

  /** How far it came, where it stopped and why. */
  diagnose(now: number, facts: OwnerFacts): Diagnosis {
    const { mediaAt, reportAt } = this.media;
    return diagnose(now, this.trace, {
      ...facts,
      client: this.peer,
      mediaAt,
      reportAt,
      heardAt: this.#lastHeard,
      discarded: this.discarded,
      ended: this.state === "closed" ? this.reason : undefined,
    });
  }

  #receiveStun(now: number, datagram: Buffer, from: Endpoint): void {
    const { ice } = this;
    const verdict = ice.receive(now, datagram, from);
    if (verdict === "ignored") {
      this.discarded++;
      this.trace.unsigned++;
      return;
    }
    if (ice.response !== undefined) this.#options.egress.sendPlain(ice.response, from);
    if (verdict === "refused") {
      this.trace.conflicts++;
      return;
    }
    this.#lastHeard = now;
    this.#lastFrom = from;
    if (this.trace.heard === undefined) {
      this.trace.heard = this.#pathOf(from);
      this.trace.note("stun", now);
    }
    if (ice.forgotten !== undefined) this.#options.owner.onAddressGone(this, ice.forgotten);
    if (ice.knows(from)) this.#options.owner.onAddress(this, from);
    if (this.#dtls === undefined && !this.isCheck && !this.#openDtls(now)) return;
    if (this.state === "new") this.state = "ice";
    if (verdict !== "selected") return;
    this.trace.chosen = this.#pathOf(from);
    this.trace.note("nominated", now);
    this.#port?.setRemote(from);
    if (this.state !== "ice") return;
    this.state = "dtls";
    if (this.#options.negotiated.dtlsRole === "active") {
      this.#dtls?.start();
      this.trace.note("dtls-started", now);
      this.#afterDtls(now);
    }
    this.#connectMedia(now);
  }

  #pathOf(from: Endpoint): Path {
    const host = from.address.includes(":") ? `[${from.address}]` : from.address;
    const transport = from.socket < FIRST_STREAM ? "udp" : "tcp";
    return { from: `${host}:${from.port}`, to: this.#options.owner.localAddress(from), transport };
  }

  /** @returns false when the session has ended: OpenSSL has no room for one more association */
  #openDtls(now: number): boolean {
    const { dtls, egress, negotiated } = this.#options;
    const { dtlsRole, fingerprint } = negotiated;
    if (fingerprint === undefined) return true;
    try {
      this.#dtls = dtls.create({
        role: dtlsRole,
        peerFingerprint: fingerprint,
        send: (datagram) => {
          const to = this.ice.selected ?? this.#lastFrom;
          if (to !== undefined) egress.sendPlain(datagram, to);
        },
      });
      return true;
    } catch (error) {
      this.close(now, `DTLS cannot be set up: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  }

  #receiveDtls(now: number, datagram: Buffer, from: Endpoint): void {
    const dtls = this.#dtls;
    if (dtls === undefined || !this.ice.knows(from)) {
      this.discarded++; // the handshake only ever runs with an address that has proved to know our password
      return;
    }
    if (dtls.state === "handshaking") this.#lastFrom = from;
    this.trace.note("dtls-started", now);
    dtls.receive(datagram);
    if (this.#settleDue !== Number.POSITIVE_INFINITY) this.#settleDue = now + SETTLE_TIME;
    this.#afterDtls(now);
  }

  #settle(): void {
    if (this.#settleDue === Number.POSITIVE_INFINITY) return;
    this.#settleDue = Number.POSITIVE_INFINITY;
    this.#dtls?.settle();
  }

  #afterDtls(now: number): void {
    const dtls = this.#dtls;
    switch (dtls?.state) {
      case "failed":
        this.trace.dtlsFailure = dtls?.failure ?? "unknown reason";
        this.close(now, `DTLS failed: ${dtls?.failure ?? "unknown reason"}`);
        return;
      case "closed":
        this.close(now, "the peer has closed the connection");
        return;
      default: {
        const wait = dtls?.timeout();
        this.#dtlsDue = wait === undefined ? Number.POSITIVE_INFINITY : now + Math.max(1, wait);
        this.#connectMedia(now);
      }
    }
  }

  /** Media starts when there are keys and a nominated pair. */
  #connectMedia(now: number): void {
    const remote = this.ice.selected;
    const dtls = this.#dtls;
    if (this.state !== "dtls" || dtls?.state !== "connected" || remote === undefined) return;
    this.trace.note("dtls-done", now);
    this.trace.note("fingerprint", now); // it is not done without
    const keys = dtls.srtpKeys();
    this.#receiver = this.#options.createReceiver(keys.remote);
    this.#port = this.#options.egress.open(keys.local, remote);
    this.state = "connected";
    this.#settleDue = now + SETTLE_TIME;
    this.#lastHeard = now;
    this.media.start(now, this.#port);
    this.#options.owner.onConnected(this);
  }

  #receiveSrtp(now: number, datagram: Buffer, from: Endpoint): void {
    const receiver = this.#receiver;
    if (receiver === undefined || datagram.length < 12) {
      this.discarded++;
      return;
    }
    const type = datagram[1] as number;
    const isRtcp = type >= 192 && type <= 223; // RFC 5761 section 4
    const plain = isRtcp ? receiver.unprotectRtcp(datagram) : receiver.unprotectRtp(datagram);
    if (plain === undefined) {
      this.discarded++;
      return;
    }
    this.#lastHeard = now;
    this.ice.heard(now, from);
    this.#settle(); // it has keys, so it needs no flight of ours again
    if (isRtcp) this.media.rtcp(now, plain);
    else this.media.rtp(now, plain);
  }

  /** @returns true when the session has ended */
  #checkConsent(now: number): boolean {
    const { stunTimeout } = this.#options;
    if (this.state !== "connected") {
      const limit = this.createdAt + Math.min(stunTimeout, CONNECT_TIMEOUT);
      if (now >= limit) {
        const reasons = {
          new: "nobody came: no ICE check arrived",
          ice: "no pair was nominated",
          dtls: "the DTLS handshake did not end",
        };
        const isOver = this.isCheck && this.state !== "new";
        this.close(now, isOver ? "the connectivity check is over" : reasons[this.state as "new" | "ice" | "dtls"]);
        return true;
      }
      this.#consentDue = limit;
      return false;
    }
    if (now - this.#lastHeard >= stunTimeout) {
      this.close(now, `nothing was heard for ${Math.round((now - this.#lastHeard) / 1000)} s`);
      return true;
    }
    this.#consentDue = this.#lastHeard + stunTimeout;
    return false;
  }
}

const SILENCE = 5_000; // ms; a peer that is there reports every second and checks every few
const SETTLE_TIME = 10_000; // ms without a repeated flight; a peer that misses our last one repeats its own at least every 3 s
const CONNECT_TIMEOUT = 30_000; // ms from the answer to media; RFC 9725 section 4.1 leaves it to the server
