// EDGE: all WebRTC sessions of the gateway behind one UDP port. Opens the sockets, admits viewers, answers their offers, connects
// them to their streams, and flushes what is to be sent once per turn.
// Who closes whom: the gateway closes the server; the server closes its sessions, then egress and sockets, then the DTLS context.

import { randomBytes, randomInt } from "node:crypto";

import { type Config, vhostFor } from "../config/config.js";
import type { Clock } from "../hub/clock.js";
import type { Hub, PacketLane, Play, StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import type { DtlsContext, Endpoint } from "../native/types.js";
import { addressBytes } from "./address.js";
import { gatherCandidates } from "./candidates.js";
import type { EgressStatistics } from "./egress.js";
import { FanOut } from "./fan-out.js";
import type { RtcMachine, RtcNetwork } from "./network.js";
import { parseOffer } from "./sdp.js";
import { answerPlay, type Candidate, type IceCredentials, type PlayTracks } from "./sdp-answer.js";
import { RtcSession, type SessionOwner } from "./session.js";
import { SessionTable } from "./session-table.js";
import { Viewer } from "./viewer.js";

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
  /** Sessions at one time. Default 5000. */
  readonly maxSessions?: number;
};

/** An offer as it comes from HTTP; the fields are described where HTTP reads them. */
export type RtcOffer = {
  readonly name: StreamName;
  readonly sdp: string;
  /** The client's address without port. */
  readonly address: string;
  readonly parameters: string;
  /** Host of the API request, a candidate when `api_as_candidates` is on; empty when unknown. */
  readonly apiHost: string;
  /** `?eip=`: replaces every other candidate. */
  readonly candidates: readonly string[];
  readonly iceUsernameFragment?: string;
  readonly icePassword?: string;
  readonly videoCodec?: string;
  readonly audioCodec?: string;
  readonly pageUrl?: string;
  /** Play before publish: the viewer waits for the publisher. Default false. */
  readonly mayWait?: boolean;
};

export type RtcAnswer = { readonly id: string; readonly sdp: string };

/** What a session is connected to within the gateway: the stream it plays. */
type Attachment = { readonly play: Play; readonly fanOut: FanOut; readonly viewer: Viewer };

export class RtcServer implements SessionOwner {
  readonly #options: RtcServerOptions;
  readonly #clock: Clock;
  #config: Config;
  readonly #dtls: DtlsContext;
  #network: RtcNetwork | undefined;
  readonly #table: SessionTable;
  /** By session id. */
  readonly #attachments = new Map<string, Attachment>();
  readonly #fanOuts = new Map<PacketLane, FanOut>();
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
      onDatagram: (datagram, from) => this.#table.receive(datagram, from),
    });
  }

  /** The UDP port in use. */
  get port(): number {
    return this.#network?.port ?? 0;
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

  hasSession(id: string): boolean {
    return this.#table.get(id) !== undefined;
  }

  /** @returns false when there is no such session */
  closeSession(id: string, reason: string): boolean {
    const session = this.#table.get(id);
    session?.close(this.#clock.now(), reason);
    return session !== undefined;
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
  async play(offer: RtcOffer): Promise<RtcAnswer> {
    const network = this.#admit(offer.name);
    const parsed = parseOffer(offer.sdp);
    const ice = this.#credentials(offer);
    const id = randomBytes(18).toString("base64url");
    const candidates = await this.#candidates(offer, network);

    this.#pending++;
    let play: Play;
    let session: RtcSession | undefined;
    try {
      play = await this.#options.hub.play({
        name: offer.name,
        peer: {
          id,
          protocol: "rtc",
          address: offer.address,
          parameters: offer.parameters,
          ...(offer.pageUrl !== undefined && { pageUrl: offer.pageUrl }),
        },
        lane: "packets",
        mayWait: offer.mayWait ?? false,
        close: (reason) => session?.close(this.#clock.now(), reason),
        statistics: () => session?.statistics() ?? {},
      });
    } finally {
      this.#pending--;
    }
    let fanOut: FanOut | undefined;
    try {
      if (this.#isClosed) throw new Refusal("overloaded", "the gateway is shutting down");
      if (this.#table.hasFragment(ice.usernameFragment)) throw new Refusal("bad-request", "this ice-ufrag is in use");
      fanOut = this.#fanOutFor(play.stream.packets, network);
      const { rtc } = vhostFor(this.#config, offer.name.vhost);
      const used = new Set<number>();
      const negotiated = answerPlay(parsed, tracksOf(play.stream.packets), {
        ice,
        fingerprint: this.#dtls.fingerprint,
        dtlsRole: rtc.dtlsRole,
        candidates,
        sessionId: String(randomInt(2 ** 47)),
        cname: this.#cname,
        streamId: STREAM_ID,
        nack: rtc.nack,
        twcc: rtc.twcc,
        newSsrc: () => newSsrc(used),
      });
      const viewer = new Viewer({
        audio: negotiated.audio,
        video: negotiated.video,
        lane: play.stream.packets,
        egress: network.egress,
        cname: this.#cname,
        random: random32,
        wallTimeAt: (now) => this.#clock.wallTime() - this.#clock.now() + now,
      });
      session = new RtcSession(this.#clock.now(), {
        id,
        ice,
        // Without the tracks and the answer's text, which nobody needs any more.
        negotiated: { remote: negotiated.remote, fingerprint: negotiated.fingerprint, dtlsRole: negotiated.dtlsRole },
        media: viewer,
        dtls: this.#dtls,
        egress: network.egress,
        createReceiver: (keys) => this.#options.machine.createReceiver(keys),
        stunTimeout: rtc.stunTimeout,
        owner: this,
      });
      this.#attachments.set(id, { play, fanOut, viewer });
      this.#table.add(session);
      const { app, stream } = offer.name;
      this.#options.log.info({ id, stream: `${app}/${stream}`, address: offer.address }, "WebRTC viewer admitted");
      return { id, sdp: negotiated.answer };
    } catch (error) {
      if (fanOut !== undefined) this.#release(fanOut);
      play.end(error instanceof Error ? error.message : String(error));
      throw error;
    }
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
  }

  onAddressGone(session: RtcSession, endpoint: Endpoint): void {
    this.#table.forgetAddress(session, endpoint);
  }

  onConnected(session: RtcSession): void {
    const attachment = this.#attachments.get(session.id);
    attachment?.fanOut.add(attachment.viewer);
    const ms = Math.round(this.#clock.now() - session.createdAt);
    this.#options.log.debug({ id: session.id, ms }, "WebRTC session connected");
  }

  onClosed(session: RtcSession, reason: string): void {
    this.#table.remove(session);
    const attachment = this.#attachments.get(session.id);
    this.#attachments.delete(session.id);
    attachment?.fanOut.remove(attachment.viewer);
    if (attachment !== undefined) this.#release(attachment.fanOut);
    attachment?.play.end(reason);
    this.#flushSoon();
    this.#options.log.info({ id: session.id, reason, ...session.statistics() }, "WebRTC viewer left");
  }

  #flushSoon(): void {
    if (this.#flushIsDue) return;
    this.#flushIsDue = true;
    (this.#options.defer ?? setImmediate)(this.#flush);
  }

  readonly #flush = (): void => {
    this.#flushIsDue = false;
    this.#network?.egress.flush();
  };

  // --- Admission

  #admit(name: StreamName): RtcNetwork {
    const network = this.#network;
    if (network === undefined || this.#isClosed) throw new Refusal("unavailable", "WebRTC is not running");
    if (!vhostFor(this.#config, name.vhost).rtc.enabled) throw new Refusal("unavailable", "WebRTC is switched off (rtc.enabled)");
    const limit = this.#options.maxSessions ?? 5_000;
    if (this.#table.size + this.#pending >= limit) throw new Refusal("overloaded", `all ${limit} WebRTC sessions are taken`);
    return network;
  }

  #credentials(offer: RtcOffer): IceCredentials {
    const usernameFragment = offer.iceUsernameFragment ?? randomBytes(6).toString("base64");
    const password = offer.icePassword ?? randomBytes(24).toString("base64");
    if (!/^[A-Za-z0-9+/]{4,32}$/.test(usernameFragment))
      throw new Refusal("bad-request", "ice-ufrag: 4 to 32 letters, digits, + or /");
    if (!/^[A-Za-z0-9+/]{22,32}$/.test(password)) throw new Refusal("bad-request", "ice-pwd: 22 to 32 letters, digits, + or /");
    if (this.#table.hasFragment(usernameFragment)) throw new Refusal("bad-request", "this ice-ufrag is in use");
    return { usernameFragment, password };
  }

  async #candidates(offer: RtcOffer, network: RtcNetwork): Promise<Candidate[]> {
    const { rtcServer } = this.#config;
    const apiHosts: string[] = [];
    if (rtcServer.apiAsCandidates && offer.candidates.length === 0 && offer.apiHost !== "") {
      if (addressBytes(offer.apiHost) !== undefined) {
        apiHosts.push(offer.apiHost);
      } else {
        if (rtcServer.resolveApiDomain) apiHosts.push(...(await this.#options.machine.resolve(offer.apiHost)));
        if (rtcServer.keepApiDomain) apiHosts.push(offer.apiHost);
      }
    }
    const hosts = rtcServer.listen.map((listen) => listen.host);
    const candidates = gatherCandidates({
      requested: offer.candidates,
      configured: rtcServer.candidate,
      detect: rtcServer.useAutoDetectNetworkIp,
      family: rtcServer.ipFamily,
      interfaces: this.#options.machine.interfaceAddresses(),
      apiHosts,
      port: network.port,
      boundTo: hosts.every((host) => host !== undefined) ? hosts.filter((host) => host !== undefined) : [],
    });
    if (candidates.length === 0)
      throw new Refusal("unavailable", "no address to reach this gateway at is known (rtc_server.candidate)");
    return candidates;
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
      if (this.#attachments.get(session.id)?.fanOut === fanOut) session.close(now, reason);
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

function random32(): number {
  return randomInt(2 ** 32);
}

function newSsrc(used: Set<number>): number {
  for (;;) {
    const ssrc = random32();
    if (ssrc === 0 || used.has(ssrc)) continue;
    used.add(ssrc);
    return ssrc;
  }
}

const STREAM_ID = "sluice";
