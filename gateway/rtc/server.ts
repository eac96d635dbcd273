// EDGE: all WebRTC sessions of the gateway behind one UDP port. Opens the sockets, admits viewers and publishers, answers their
// offers, connects them to their streams, and flushes what is to be sent once per turn.
// Who closes whom: the gateway closes the server; the server closes its sessions, then egress and sockets, then the DTLS context.

import { randomBytes, randomInt } from "node:crypto";
import type { Socket } from "node:net";

import type { Config, ListenAddress } from "../config/config.js";
import type { Clock } from "../hub/clock.js";
import { displayName, shownId } from "../hub/names.js";
import type { Hub, PacketLane, Play, Publication, Source, StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import type { DtlsContext, Endpoint } from "../native/types.js";
import {
  Admission,
  type Admitted,
  checkToken,
  checkVhost,
  chooseCredentials,
  isSameToken,
  type RtcOffer,
  standingCandidates,
} from "./admission.js";
import type { Transports } from "./candidates.js";
import { addressesOf, type Diagnosis, scopeWarning } from "./diagnosis.js";
import { DiagnosisArchive } from "./diagnosis-archive.js";
import type { EgressStatistics } from "./egress.js";
import { FanOut } from "./fan-out.js";
import { type MediaSide, NO_MEDIA } from "./media-side.js";
import type { RtcMachine, RtcNetwork } from "./network.js";
import { Publisher } from "./publisher.js";
import {
  answerCheck,
  answerPlay,
  answerPublish,
  type Candidate,
  type IceCredentials,
  type Negotiated,
  type NegotiatedTrack,
  ownText,
  type PlayTracks,
  publishCodecs,
} from "./sdp-answer.js";
import { parseFragment, writeFragment } from "./sdp-fragment.js";
import { RtcSession, type SessionOwner } from "./session.js";
import { SessionTable } from "./session-table.js";
import { Viewer } from "./viewer.js";

export type { RtcOffer } from "./admission.js";

/** Where log lines go; a pino logger is one. */
export interface RtcLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export type RtcServerOptions = {
  readonly config: Config;
  readonly hub: Hub;
  readonly clock: Clock;
  readonly log: RtcLog;
  readonly machine: RtcMachine;
  /** Runs the callback at the end of the present turn of the event loop. Default setImmediate. */
  readonly defer?: (callback: () => void) => void;
  /** Of `rtc_server.tcp.listen` those to listen at; at the others connections come by `acceptStream`. Default all. */
  readonly tcpListen?: Config["rtcServer"]["tcp"]["listen"];
  /** Sessions at one time. Default 5000. */
  readonly maxSessions?: number;
};

export type RtcAnswer = { readonly id: string; readonly sdp: string };

/** What a session is connected to within the gateway: the stream it plays or publishes. */
type Role =
  | { readonly role: "viewer"; readonly play: Play; readonly fanOut: FanOut; readonly viewer: Viewer }
  | { readonly role: "publisher"; readonly publication: Publication }
  | { readonly role: "check" };
type Attachment = Role & {
  readonly name: StreamName;
  /** Agreed on, `h264 opus`. */
  readonly codecs: string;
  readonly bearer: string | undefined;
  /** What an ICE restart is answered with. */
  readonly bundle: Negotiated["bundle"];
  readonly candidates: readonly Candidate[];
};

export class RtcServer implements SessionOwner {
  readonly #options: RtcServerOptions;
  readonly #clock: Clock;
  #config: Config;
  readonly #dtls: DtlsContext;
  #network: RtcNetwork | undefined;
  readonly #table: SessionTable;
  readonly #admission: Admission;
  /** By session id. */
  readonly #attachments = new Map<string, Attachment>();
  readonly #fanOuts = new Map<PacketLane, FanOut>();
  readonly #archive = new DiagnosisArchive();
  readonly #cname = randomBytes(9).toString("base64url");
  #flushIsDue = false;
  /** Offers between admission and answer. */
  #pending = 0;
  #isClosed = false;

  constructor(options: RtcServerOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#config = options.config;
    this.#dtls = options.machine.createDtls(options.config.rtcServer.ecdsa);
    this.#table = new SessionTable(options.clock, () => this.#flushSoon());
    this.#admission = new Admission({
      clock: options.clock,
      machine: options.machine,
      table: this.#table,
      fingerprint: this.#dtls.fingerprint,
      cname: this.#cname,
    });
  }

  /** Takes another configuration into use for the sessions to come: vhosts and candidates; sockets and certificate stay. */
  configure(config: Config): void {
    this.#config = config;
  }

  /** Opens the media sockets. @throws Error naming address, port and directive when a port is taken */
  async start(): Promise<void> {
    const { rtcServer } = this.#config;
    this.#network = await this.#options.machine.openNetwork({
      listen: rtcServer.listen,
      family: rtcServer.ipFamily,
      onDatagram: (datagram, from, more) => this.#table.receive(datagram, from, more),
      ...(rtcServer.tcp.enabled && {
        tcp: {
          listen: this.#options.tcpListen ?? rtcServer.tcp.listen,
          onGone: (endpoint: Endpoint) => this.#table.endAddress(endpoint),
        },
      }),
    });
    this.#options.log.info(
      {
        address: rtcServer.listen.map(({ host }) => `${host ?? "*"}:${this.port}`).join(" "),
        ...(this.tcpPort !== undefined && { tcp: this.tcpPort }),
      },
      "webrtc listens",
    );
    this.#noteCandidates();
  }

  /** Says who can reach what will be announced: most failures of WebRTC are an address that the client cannot reach. */
  #noteCandidates(): void {
    const candidates = standingCandidates(this.#config, this.#options.machine, this.port);
    const fields = { candidates: addressesOf(candidates) };
    const warning = scopeWarning(candidates, undefined);
    if (warning === undefined) this.#options.log.info(fields, "webrtc announces");
    else
      this.#options.log.warn(fields, `${warning} For others set rtc_server.candidate to the address they reach this gateway at.`);
  }

  /** The UDP port in use. */
  get port(): number {
    return this.#network?.port ?? 0;
  }

  /** The TCP port in use; undefined: none. */
  get tcpPort(): number | undefined {
    const tcp = this.#network?.tcp;
    return tcp === undefined ? undefined : (tcp.port ?? this.#config.rtcServer.tcp.listen[0]?.port);
  }

  /** Takes a connection from a port that WebRTC shares with another protocol. */
  acceptStream(socket: Socket): void {
    const tcp = this.#network?.tcp;
    if (tcp === undefined) socket.destroy();
    else tcp.accept(socket);
  }

  get sessionCount(): number {
    return this.#table.size;
  }

  sessions(): Iterable<RtcSession> {
    return this.#table;
  }

  session(id: string): RtcSession | undefined {
    return this.#table.get(id);
  }

  /** @returns false when there is no such session */
  closeSession(id: string, reason: string): boolean {
    const session = this.#table.get(id);
    session?.close(this.#clock.now(), reason);
    return session !== undefined;
  }

  /** How far a session came and what is the matter with it, also for a while after its end; undefined when there is no such session. */
  diagnosis(id: string): Diagnosis | undefined {
    const session = this.#table.get(id);
    const attachment = this.#attachments.get(id);
    if (session === undefined || attachment === undefined) return this.#archive.find(this.#clock.now(), id);
    return this.#diagnose(session, attachment);
  }

  #diagnose(session: RtcSession, attachment: Attachment): Diagnosis {
    const { role, codecs, candidates } = attachment;
    const isLive = attachment.role !== "viewer" || attachment.play.stream.state === "live";
    const { listen, tcp } = this.#config.rtcServer;
    const portsOf = (addresses: readonly ListenAddress[], first: number): number[] =>
      addresses.map(({ port }) => (port === 0 ? first : port));
    const ownPorts = {
      udp: portsOf(listen, this.port),
      tcp: this.tcpPort === undefined ? [] : [this.tcpPort, ...portsOf(tcp.listen, this.tcpPort)],
    };
    return session.diagnose(this.#clock.now(), { role, codecs, candidates, isLive, ownPorts });
  }

  #statisticsOf(session: RtcSession): Readonly<Record<string, unknown>> {
    return { ...session.statistics(), doctor: this.diagnosis(session.id) };
  }

  /** Whether whoever shows this bearer token, or none, may change and end the session. True when there is no such session. */
  isAuthorized(id: string, bearer: string | undefined): boolean {
    const wanted = this.#attachments.get(id)?.bearer;
    return wanted === undefined || (bearer !== undefined && isSameToken(bearer, wanted));
  }

  /** How often a session's ICE was restarted; undefined when there is no such session. */
  iceGeneration(id: string): number | undefined {
    return this.#table.get(id)?.iceGeneration;
  }

  /**
   * Takes a fragment of SDP (RFC 8840). Candidates in it are not needed: an ICE-lite agent learns its peer's addresses from checks.
   *
   * @param intent `restart`: new credentials are expected, and a repeated request is answered as the first one was
   * @returns the fragment that answers an ICE restart; undefined when there was none
   * @throws Refusal `bad-request`, and nothing has changed; `not-found`
   */
  updateIce(id: string, text: string, intent: "candidates" | "restart"): string | undefined {
    const { usernameFragment, password } = parseFragment(text);
    const session = this.#table.get(id);
    const attachment = this.#attachments.get(id);
    if (session === undefined || attachment === undefined) throw new Refusal("not-found", "there is no such session");
    if (usernameFragment === "" || usernameFragment === session.ice.remoteFragment) {
      if (intent === "candidates" || session.iceGeneration === 0) return undefined;
    } else if (password !== "") {
      session.restartIce(
        chooseCredentials({}, (fragment) => this.#table.hasFragment(fragment)),
        ownText(usernameFragment),
      );
      this.#table.updateFragments(session);
      this.#options.log.debug({ session: shownId(id) }, "webrtc ICE restarted");
    } else {
      if (intent === "restart") throw new Refusal("bad-request", "SDP fragment: an ICE restart needs ice-ufrag and ice-pwd");
      return undefined; // candidates of another generation
    }
    return writeFragment(session.ice.local, attachment.bundle, attachment.candidates);
  }

  /** Figures of all sessions together. */
  get statistics(): {
    readonly sessions: number;
    readonly strayDatagrams: number;
    readonly egress: EgressStatistics | undefined;
  } {
    const { size, strayDatagrams } = this.#table;
    return { sessions: size, strayDatagrams, egress: this.#network?.egress.statistics };
  }

  /** WHEP. @throws Refusal with a reason that is shown to the viewer */
  play(offer: RtcOffer): Promise<RtcAnswer> {
    return this.#noteRefusal("play", offer, this.#play(offer));
  }

  /** WHIP. @throws Refusal with a reason that is shown to the publisher */
  publish(offer: RtcOffer): Promise<RtcAnswer> {
    return this.#noteRefusal("publish", offer, this.#publish(offer));
  }

  async #play(offer: RtcOffer): Promise<RtcAnswer> {
    const network = this.#runningNetwork();
    const admitted = await this.#admit(offer, network);
    if (admitted.purpose === "check") return this.#openCheck(admitted, network, "sendonly");
    const { id, peer } = admitted;
    let session: RtcSession | undefined;
    const play = await this.#pend(
      this.#options.hub.play({
        name: offer.name,
        peer,
        lane: "packets",
        mayWait: offer.mayWait ?? false,
        close: (reason) => session?.close(this.#clock.now(), reason),
        statistics: () => (session === undefined ? {} : this.#statisticsOf(session)),
      }),
    );
    let fanOut: FanOut | undefined;
    try {
      this.#checkStillFree(admitted.answer.ice);
      const lane = play.stream.packets;
      fanOut = this.#fanOutFor(lane, network);
      const negotiated = answerPlay(admitted.offer, tracksOf(lane), admitted.answer);
      const viewer = new Viewer({
        audio: negotiated.audio,
        video: negotiated.video,
        lane,
        isBridged: play.stream.sourceLane === "frames",
        egress: network.egress,
        cname: this.#cname,
        random: random32,
        wallTimeAt: (now) => this.#clock.wallTime() - this.#clock.now() + now,
      });
      session = this.#open(admitted, network, negotiated, viewer, { role: "viewer", play, fanOut, viewer });
      return { id, sdp: negotiated.answer };
    } catch (error) {
      if (fanOut !== undefined) this.#release(fanOut);
      play.end(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  async #publish(offer: RtcOffer): Promise<RtcAnswer> {
    const network = this.#runningNetwork();
    const admitted = await this.#admit(offer, network);
    if (admitted.purpose === "check") return this.#openCheck(admitted, network, "recvonly");
    const { id, peer } = admitted;
    // Before the hub is asked: an offer that cannot be answered must not push another publisher out.
    const negotiated = answerPublish(admitted.offer, publishCodecs(offer.videoCodec, offer.audioCodec), admitted.answer);
    let session: RtcSession | undefined;
    let publisher: Publisher | undefined;
    const source: Source = {
      requestKeyFrame: () => {
        if (session === undefined) return;
        publisher?.requestKeyFrame(this.#clock.now());
        this.#table.touch(session);
      },
      close: (reason) => session?.close(this.#clock.now(), reason),
      keyFrames: canAskForKeyFrames(negotiated.video) ? "on-request" : "at-intervals",
    };
    const publication = await this.#pend(
      this.#options.hub.publish({
        name: offer.name,
        peer,
        lane: "packets",
        source,
        statistics: () => (session === undefined ? {} : this.#statisticsOf(session)),
      }),
    );
    try {
      this.#checkStillFree(admitted.answer.ice);
      const { audio, video } = negotiated;
      publisher = new Publisher({ audio, video, publication, cname: this.#cname, random: random32 });
      session = this.#open(admitted, network, negotiated, publisher, { role: "publisher", publication });
      return { id, sdp: negotiated.answer };
    } catch (error) {
      publication.end(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  /** A session that the stream never hears of: whoever made it can prove that checks reach the media sockets, and no more. */
  #openCheck(admitted: Admitted, network: RtcNetwork, direction: "sendonly" | "recvonly"): RtcAnswer {
    const checks = [...this.#attachments.values()].filter(({ role }) => role === "check").length;
    if (checks >= MAX_CHECKS) throw new Refusal("overloaded", `${checks} connectivity checks are under way`);
    const negotiated = answerCheck(admitted.offer, direction, admitted.answer);
    this.#open(admitted, network, negotiated, NO_MEDIA, { role: "check" });
    return { id: admitted.id, sdp: negotiated.answer };
  }

  /** Ends every session with a goodbye, then the sockets. Nothing new is let in. */
  async close(reason: string): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const now = this.#clock.now();
    for (const session of [...this.#table]) session.close(now, reason);
    this.#table.close();
    this.#network?.egress.flush();
    this.#network?.egress.close();
    await this.#network?.close();
    this.#network = undefined;
    this.#dtls.close();
  }

  // --- SessionOwner

  onAddress(session: RtcSession, endpoint: Endpoint): void {
    this.#table.learnAddress(session, endpoint);
    this.#network?.tcp?.confirm(endpoint.socket);
  }

  onAddressGone(session: RtcSession, endpoint: Endpoint): void {
    this.#table.forgetAddress(session, endpoint);
    this.#network?.tcp?.release(endpoint.socket);
  }

  localAddress(endpoint: Endpoint): string {
    return this.#network?.localAddress?.(endpoint) ?? "";
  }

  onConnected(session: RtcSession): void {
    const attachment = this.#attachments.get(session.id);
    if (attachment?.role === "viewer") attachment.fanOut.add(attachment.viewer);
    const ms = Math.round(this.#clock.now() - session.createdAt);
    this.#options.log.debug({ session: shownId(session.id), ms }, "webrtc session connected");
  }

  onClosed(session: RtcSession, reason: string): void {
    this.#table.remove(session);
    const attachment = this.#attachments.get(session.id);
    this.#attachments.delete(session.id);
    this.#flushSoon();
    for (const { socket } of session.ice.addresses) this.#network?.tcp?.release(socket); // after the flush
    if (attachment === undefined) return;
    const diagnosis = this.#diagnose(session, attachment);
    this.#archive.add(this.#clock.now(), session.id, diagnosis);
    if (attachment.role === "viewer") {
      attachment.fanOut.remove(attachment.viewer);
      this.#release(attachment.fanOut);
      attachment.play.end(reason);
    } else if (attachment.role === "publisher") {
      attachment.publication.end(reason);
    }
    const fields = { session: shownId(session.id), stream: displayName(attachment.name), peer: session.peer, reason };
    const seconds = Math.round(this.#clock.now() - session.createdAt) / 1000;
    const message = `webrtc ${ACTIONS[attachment.role]} ended`;
    // Somebody waited for it in vain: that is for the operator.
    const isInVain = session.trace.at("dtls-done") === undefined && attachment.role !== "check" && diagnosis.cause !== "";
    if (isInVain && diagnosis.verdict !== "in-progress" && (seconds >= IN_VAIN || session.trace.dtlsFailure !== undefined)) {
      const { verdict, cause, advice } = diagnosis;
      this.#options.log.warn({ ...fields, seconds, verdict, cause, advice }, message);
    } else this.#options.log.info({ ...fields, seconds, ...session.media.statistics() }, message);
  }

  #flushSoon(): void {
    if (this.#flushIsDue) return;
    this.#flushIsDue = true;
    (this.#options.defer ?? setImmediate)(this.#flush);
  }

  readonly #flush = (): void => {
    this.#flushIsDue = false;
    for (const fanOut of this.#fanOuts.values()) fanOut.drain();
    this.#network?.egress.flush();
  };

  // --- Admission

  /** What was refused here HTTP only passes on: this is where it is logged. */
  #noteRefusal(action: "play" | "publish", { name, address }: RtcOffer, answer: Promise<RtcAnswer>): Promise<RtcAnswer> {
    answer.catch((error: unknown) => {
      if (!(error instanceof Refusal)) return;
      const fields = { stream: displayName(name), peer: address, code: error.code, reason: error.message };
      // Players ask again and again until somebody publishes.
      this.#options.log[error.code === "not-live" ? "debug" : "info"](fields, `webrtc ${action} refused`);
    });
    return answer;
  }

  /** @throws Refusal `unavailable` */
  #runningNetwork(): RtcNetwork {
    const network = this.#network;
    if (network === undefined || this.#isClosed) throw new Refusal("unavailable", "WebRTC is not running");
    return network;
  }

  async #admit(offer: RtcOffer, network: RtcNetwork): Promise<Admitted> {
    checkVhost(this.#config, offer.name);
    checkToken(this.#config, offer);
    const limit = this.#options.maxSessions ?? 5_000;
    if (this.#table.size + this.#pending >= limit) throw new Refusal("overloaded", `all ${limit} WebRTC sessions are taken`);
    return await this.#admission.admit(offer, this.#config, this.#transports(network));
  }

  #transports({ port }: RtcNetwork): Transports {
    const { protocol, ipFamily: family, listen, tcp } = this.#config.rtcServer;
    const { tcpPort } = this;
    const streams = tcpPort === undefined ? undefined : { listen: tcp.listen, port: tcpPort };
    return { protocol, family, udp: { listen, port }, tcp: streams };
  }

  /** Counts an offer among the sessions while the hub and its gates think about it. */
  async #pend<T>(grant: Promise<T>): Promise<T> {
    this.#pending++;
    try {
      return await grant;
    } finally {
      this.#pending--;
    }
  }

  #checkStillFree(ice: IceCredentials): void {
    if (this.#isClosed) throw new Refusal("overloaded", "the gateway is shutting down");
    if (this.#table.hasFragment(ice.usernameFragment)) throw new Refusal("bad-request", "this ice-ufrag is in use");
  }

  #open(admitted: Admitted, network: RtcNetwork, negotiated: Negotiated, media: MediaSide, role: Role): RtcSession {
    const { id, name, peer, answer, echoesUsername, stunTimeout, trace } = admitted;
    const now = this.#clock.now();
    trace.note("codecs", now);
    trace.note("candidates", now);
    const { remote, fingerprint, dtlsRole, bundle } = negotiated;
    const session = new RtcSession(now, {
      id,
      peer: peer.address,
      ice: answer.ice,
      negotiated: { remote, fingerprint, dtlsRole }, // without tracks and text, which nobody needs any more
      media,
      dtls: this.#dtls,
      egress: network.egress,
      createReceiver: (keys) => this.#options.machine.createReceiver(keys),
      echoesUsername,
      stunTimeout,
      trace,
      owner: this,
    });
    const codecs = [negotiated.video?.codec, negotiated.audio?.codec].filter((codec) => codec !== undefined).join(" ");
    this.#attachments.set(id, { ...role, name, codecs, bundle, candidates: answer.candidates, bearer: admitted.bearer });
    this.#table.add(session);
    const fields = { session: shownId(id), stream: displayName(name), peer: peer.address };
    this.#options.log.info(fields, `webrtc ${ACTIONS[role.role]} started`);
    return session;
  }

  #fanOutFor(lane: PacketLane, network: RtcNetwork): FanOut {
    let fanOut = this.#fanOuts.get(lane);
    if (fanOut === undefined) {
      fanOut = new FanOut({
        lane,
        egress: network.egress,
        now: () => this.#clock.now(),
        onWritten: () => this.#flushSoon(),
        onEnded: (ended, reason) => this.#endFanOut(ended, reason),
      });
      this.#fanOuts.set(lane, fanOut);
    }
    fanOut.acquire();
    return fanOut;
  }

  #release(fanOut: FanOut): void {
    if (fanOut.release()) this.#fanOuts.delete(fanOut.lane);
  }

  #endFanOut(fanOut: FanOut, reason: string): void {
    const now = this.#clock.now();
    for (const session of [...this.#table]) {
      const attachment = this.#attachments.get(session.id);
      if (attachment?.role === "viewer" && attachment.fanOut === fanOut) session.close(now, reason);
    }
  }
}

/** A stream whose tracks nobody has announced yet is taken for what every gateway stream can be bridged to. */
function tracksOf(lane: PacketLane): PlayTracks {
  const video = lane.track("video");
  const audio = lane.track("audio");
  if (video !== undefined || audio !== undefined) return { video, audio };
  return {
    video: { kind: "video", codec: "h264", clockRate: 90_000, formatParameters: "packetization-mode=1;profile-level-id=42e01f" },
    audio: { kind: "audio", codec: "opus", clockRate: 48_000, channels: 2, formatParameters: "" },
  };
}

function canAskForKeyFrames(video: NegotiatedTrack | undefined): boolean {
  return video !== undefined && (video.feedback.pli || video.feedback.fir);
}

function random32(): number {
  return randomInt(2 ** 32);
}

const ACTIONS = { viewer: "play", publisher: "publish", check: "check" } as const;
const IN_VAIN = 3; // s; who leaves sooner has changed his mind
const MAX_CHECKS = 100; // each lives for half a minute at most
