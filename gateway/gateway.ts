// Composition root and the library's entry: builds every part, hands each what it needs, and closes them in the right order.

import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";

import { type Logger, pino } from "pino";

import { FfmpegTranscoders } from "../transcoder/ffmpeg.js";
import { isAddressable, mixCommand, startMixer } from "../transcoder/room-mixer.js";
import { RtcToRtmp } from "./bridge/rtc-to-rtmp.js";
import { RtmpToRtc } from "./bridge/rtmp-to-rtc.js";
import { type BridgeLog, FixedWorkSlots, type WorkSlots } from "./bridge/types.js";
import { type AccessAction, isAllowed } from "./config/access.js";
import { type Config, DEFAULT_VHOST, type VhostConfig, vhostFor } from "./config/config.js";
import { loadConfig } from "./config/load.js";
import { HlsDisk } from "./hls/disk.js";
import { describeSegment } from "./hls/segment-event.js";
import { HlsService } from "./hls/service.js";
import { type CertificateSections, Certificates } from "./http/certificates.js";
import { Hooks } from "./http/hooks.js";
import { type HttpOptions, HttpServer, isHttpAddress } from "./http/server.js";
import type { HttpServices } from "./http/services.js";
import { type HubVhost, LiveHub } from "./hub/hub.js";
import { displayName, shownId } from "./hub/names.js";
import type { Converter, HubEvent, Peer, Stream, StreamName } from "./hub/types.js";
import { Refusal } from "./media/errors.js";
import { NativeUnavailable } from "./native/library.js";
import { RtcServer } from "./rtc/server.js";
import { systemMachine } from "./rtc/system-machine.js";
import { looksLikeIce } from "./rtc/tcp-framing.js";
import { RtmpServer } from "./rtmp/server.js";
import { RoomLives } from "./signaling/live.js";
import { SignalingServer } from "./signaling/server.js";
import { SystemClock } from "./system-clock.js";

export type { Config } from "./config/config.js";
export { ConfigError } from "./config/errors.js";
export { loadConfig } from "./config/load.js";
export { parseConfig } from "./config/read.js";
export type { Client, Peer, Stream, StreamName } from "./hub/types.js";

export type GatewayOptions = {
  /** From `loadConfig` (a file) or `parseConfig` (a text). Default: the packaged `conf/gateway.conf`, everything on. */
  readonly config?: Config;
  /** Default: pino on standard output at the configuration's `log_level`. */
  readonly log?: Logger;
};

/** A publisher or viewer as the events of a Gateway show it. */
export type ClientEvent = { readonly name: StreamName; readonly peer: Peer };

export type GatewayEvents = {
  publish: [event: ClientEvent];
  unpublish: [event: ClientEvent & { readonly reason: string }];
  play: [event: ClientEvent];
  stop: [event: ClientEvent & { readonly reason: string }];
};

/** Where a started gateway listens, with the ports that were asked for as 0. */
export type GatewayAddresses = {
  readonly rtmp: readonly { readonly host: string; readonly port: number }[];
  readonly http: readonly {
    readonly directive: string;
    readonly host: string;
    readonly port: number;
    readonly isSecure: boolean;
  }[];
  /** The UDP port of all WebRTC media; undefined when WebRTC does not run. */
  readonly rtcPort: number | undefined;
};

export class Gateway extends EventEmitter<GatewayEvents> {
  readonly #clock = new SystemClock();
  readonly #log: Logger;
  readonly #hub: LiveHub;
  readonly #hooks: Hooks;
  readonly #hls: HlsService;
  readonly #hlsDisk: HlsDisk;
  readonly #serverId = `vid-${randomBytes(4).toString("hex")}`;
  readonly #serviceId = randomBytes(4).toString("hex");
  #config: Config;
  readonly #certificates: Certificates;
  #state: "new" | "running" | "closed" = "new";
  #transcoders: FfmpegTranscoders | undefined;
  #slots: WorkSlots | undefined;
  #rtmp: RtmpServer | undefined;
  #rtc: RtcServer | undefined;
  #signaling: SignalingServer | undefined;
  #roomLives: RoomLives | undefined;
  #http: HttpServer | undefined;
  /** Why WebRTC is not to be had although it is configured; a sentence for people. */
  #rtcUnavailable: string | undefined;

  constructor(options: GatewayOptions = {}) {
    super();
    this.#config = options.config ?? loadConfig({ file: PACKAGED_CONFIG, environment: {} }).config;
    this.#log = options.log ?? pino({ level: this.#config.logLevel });
    const { dataDir } = this.#config;
    this.#certificates = new Certificates({ sections: sectionsOf(this.#config), dataDir, log: this.#log });
    this.#hooks = new Hooks({
      vhost: (name) => vhostFor(this.#config, name),
      clock: this.#clock,
      log: this.#log,
      serverId: this.#serverId,
      serviceId: this.#serviceId,
    });
    this.#hub = new LiveHub({
      clock: this.#clock,
      maxStreams: this.#config.maxConnections,
      vhost: (name) => hubVhost(vhostFor(this.#config, name)),
      gate: async (action, request) => {
        this.#checkAccess(action, request);
        return await this.#hooks.ask(action, request);
      },
      converter: (stream, lane) => this.#converterFor(stream, lane),
      onEvent: (event) => this.#onHubEvent(event),
      isSuccessor: (request) => this.#roomLives?.isSuccessor(request) === true,
    });
    this.#hlsDisk = new HlsDisk({
      settings: (name) => this.#servedVhost(name)?.hls,
      clock: this.#clock,
      log: this.#log,
      onSegment: (packaged, segment, file) => {
        const { name, publisher } = packaged.stream;
        this.#hooks.onSegment(name, publisher, () => describeSegment(packaged, segment, file, process.cwd()));
      },
    });
    this.#hls = new HlsService({
      hub: this.#hub,
      clock: this.#clock,
      log: this.#log,
      vhost: (name) => this.#servedVhost(name),
      randomBytes,
      listener: this.#hlsDisk,
    });
  }

  /** Opens everything that is configured, or nothing. @throws Error naming port and directive when an address cannot be had */
  async start(): Promise<void> {
    if (this.#state !== "new") throw new TypeError("a Gateway starts once; make a new one");
    this.#state = "running";
    try {
      await this.#open();
    } catch (error) {
      await this.close("it could not start");
      throw error;
    }
  }

  get addresses(): GatewayAddresses {
    return {
      rtmp: this.#rtmp?.addresses ?? [],
      http: this.#http?.addresses ?? [],
      rtcPort: this.#rtc?.port,
    };
  }

  /** What is missing on this machine, as sentences for people; empty when all is there. */
  get shortcomings(): readonly string[] {
    const { audioRefusal, videoRefusal } = this.#transcoders ?? {};
    return [this.#rtcUnavailable, audioRefusal, videoRefusal].filter((text) => text !== undefined);
  }

  /** The ffmpeg in use, as path and version, or undefined. */
  get ffmpeg(): { readonly path: string; readonly version: string } | undefined {
    return this.#transcoders?.ffmpeg;
  }

  /** What is live now. */
  get streams(): readonly Stream[] {
    return [...this.#hub.streams()];
  }

  /**
   * Takes a new configuration into use: vhosts at once, for what starts from now on. Listeners stay as they are.
   *
   * @returns the directives whose change needs a restart
   */
  reload(config: Config): readonly string[] {
    const fixed = [
      "listen",
      "rtmps",
      "httpApi",
      "httpServer",
      "signaling",
      "rtcServer",
      "ffmpeg",
      "maxConnections",
      "dataDir",
    ] as const;
    const [before, after] = [withoutCertificates(this.#config), withoutCertificates(config)];
    const changed = fixed.filter((name) => !isDeepStrictEqual(after[name], before[name]));
    this.#config = config;
    void this.#certificates.reload(sectionsOf(config));
    this.#rtc?.configure(config);
    this.#log.level = config.logLevel;
    return changed;
  }

  /** Lets nobody in any more, says goodbye to all who are there, and frees everything. Idempotent; takes about a second. */
  async close(reason = "the gateway is shutting down"): Promise<void> {
    if (this.#state === "closed") return;
    this.#state = "closed";
    const mixed = this.#roomLives?.close(reason);
    this.#hub.close(reason);
    this.#hls.close();
    // Signaling says goodbye before the listeners stop: its sockets are theirs.
    await Promise.all([this.#rtmp?.close(reason), this.#signaling?.close(reason), this.#http?.close(), this.#rtc?.close(reason)]);
    this.#certificates.close();
    await Promise.all([mixed, this.#transcoders?.close()]);
    await this.#hlsDisk.close();
    await this.#hooks.close();
  }

  async #open(): Promise<void> {
    const { httpApi, httpServer, rtcServer, signaling } = this.#config;
    const log = this.#log;
    this.#transcoders = await FfmpegTranscoders.create({
      path: this.#config.ffmpeg,
      log: (line) => log.debug({ line }, "ffmpeg"),
    });
    this.#slots = new FixedWorkSlots(Math.max(1, availableParallelism() - 1));
    if (rtcServer.enabled) await this.#openRtc();
    this.#rtmp = await this.#openRtmp();
    if (signaling.enabled) {
      this.#signaling = this.#makeSignaling();
      this.#roomLives = this.#makeRoomLives(this.#signaling);
    }
    if (httpApi.enabled || httpServer.enabled || (signaling.enabled && signaling.standalone.enabled)) {
      const { whepCompat } = rtcServer;
      const rtc = this.#rtc;
      this.#http = new HttpServer({
        ...this.#config,
        whepCompat,
        log,
        clock: this.#clock,
        services: this.#httpServices(),
        signalingPort: signaling.standalone,
        certificates: this.#certificates,
        ...(rtc !== undefined && rtcServer.tcp.enabled && { other: webRtcOn(rtc, rtcServer.tcp.listen) }),
        vhost: (name) => this.#servedVhost(name),
      });
      await this.#http.start();
    }
    for (const text of this.shortcomings) log.warn(text);
  }

  async #openRtmp(): Promise<RtmpServer> {
    const { listen, rtmps, maxConnections } = this.#config;
    let server: RtmpServer | undefined;
    const tls = rtmps.enabled
      ? { ...(await this.#certificates.get("rtmps", (pair) => server?.setCredentials(pair))), listen: rtmps.listen }
      : undefined;
    server = new RtmpServer({
      listen,
      ...(tls !== undefined && { tls }),
      hub: this.#hub,
      clock: this.#clock,
      log: this.#log,
      maxConnections,
      vhost: (name) => this.#servedVhost(name),
    });
    await server.start();
    return server;
  }

  #servedVhost(name: string): VhostConfig | undefined {
    const vhost = vhostFor(this.#config, name);
    return vhost.enabled ? vhost : undefined;
  }

  /** WebRTC needs OpenSSL by address; without it the rest of the gateway still runs. */
  async #openRtc(): Promise<void> {
    try {
      const server = new RtcServer({
        config: this.#config,
        hub: this.#hub,
        clock: this.#clock,
        log: this.#log,
        machine: systemMachine,
        tcpListen: this.#config.rtcServer.tcp.listen.filter((address) => !isHttpAddress(address, this.#config)),
      });
      await server.start();
      this.#rtc = server;
    } catch (error) {
      if (!(error instanceof NativeUnavailable)) throw error;
      this.#rtcUnavailable = `WebRTC cannot run here: ${error.message}`;
    }
  }

  #httpServices(): HttpServices {
    const unavailable = this.#rtcUnavailable;
    const rtmpPort = this.#rtmp?.addresses[0]?.port;
    return {
      rtc: this.#rtc,
      ...(this.#signaling !== undefined && { rooms: this.#signaling }),
      ...(this.#roomLives !== undefined && { roomLives: this.#roomLives }),
      ...(unavailable !== undefined && { rtcUnavailable: unavailable }),
      hls: this.#hls,
      hub: this.#hub,
      vhosts: () => [...this.#config.vhosts.values()],
      version: VERSION,
      ...(rtmpPort !== undefined && { rtmpPort }),
      serverId: this.#serverId,
      serviceId: this.#serviceId,
    };
  }

  #makeSignaling(): SignalingServer {
    const { maxRooms, maxParticipants } = this.#config.signaling;
    return new SignalingServer({
      clock: this.#clock,
      log: this.#log,
      maxRooms,
      maxParticipants,
      vhost: (name) => this.#servedVhost(name)?.name,
      refusal: (vhost, address) => {
        const { security } = vhostFor(this.#config, vhost);
        if (!security.enabled || isAllowed(security.rules, "play", address)) return undefined;
        return `joining is not allowed from ${address}`;
      },
    });
  }

  #makeRoomLives(signaling: SignalingServer): RoomLives {
    const log = this.#log;
    const { ffmpeg, videoRefusal } = this.#transcoders ?? {};
    const refusal = ffmpeg === undefined ? (videoRefusal ?? "there is no ffmpeg") : ffmpeg.libx264 ? undefined : videoRefusal;
    const { host, port = 1935 } = this.#rtmp?.addresses[0] ?? {};
    const isWildcard = host === undefined || host === "0.0.0.0" || host === "::";
    return new RoomLives({
      clock: this.#clock,
      hub: this.#hub,
      mixers: {
        refusal,
        start: (plan, onEnd) => {
          if (ffmpeg === undefined) throw new Error(refusal);
          return startMixer(ffmpeg, plan, onEnd, (line) => log.debug({ line, room: plan.room }, "ffmpeg"));
        },
        command: (plan) => mixCommand(plan, ffmpeg),
        isAddressable,
      },
      settings: () => this.#config.transcode,
      server: { host: isWildcard ? "127.0.0.1" : host, port },
      participants: (vhost, room) => signaling.room(vhost, room)?.participants.map(({ display }) => display),
      isBridged: (vhost) => {
        const { rtc } = vhostFor(this.#config, vhost);
        return rtc.enabled && rtc.rtcToRtmp;
      },
      secret: () => randomBytes(16).toString("hex"),
      log,
      vhostOf: (name) => vhostFor(this.#config, name).name,
      defaultVhost: DEFAULT_VHOST,
    });
  }

  /** `security`. @throws Refusal */
  #checkAccess(action: AccessAction, { name, peer }: { readonly name: StreamName; readonly peer: Peer }): void {
    const { security } = vhostFor(this.#config, name.vhost);
    if (!security.enabled || isAllowed(security.rules, action, peer.address)) return;
    throw new Refusal("forbidden", `${action === "play" ? "playing" : "publishing"} is not allowed from ${peer.address}`);
  }

  #converterFor(stream: Stream, lane: "frames" | "packets"): Converter | undefined {
    const { rtc } = vhostFor(this.#config, stream.name.vhost);
    const [transcoders, slots] = [this.#transcoders, this.#slots];
    if (!rtc.enabled || transcoders === undefined || slots === undefined) return undefined;
    const shared = { stream, clock: this.#clock, transcoders, log: this.#streamLog(stream.name) };
    if (lane === "packets") {
      if (!rtc.rtcToRtmp) return undefined;
      return new RtcToRtmp({ ...shared, aacBitrate: rtc.aacBitrate, keyFrameInterval: rtc.pliForRtmp });
    }
    if (!rtc.rtmpToRtc) return undefined;
    const { bframe, opusBitrate, keepAvcNaluSei } = rtc;
    return new RtmpToRtc({ ...shared, slots, bframe, opusBitrate, keepAvcNaluSei });
  }

  #streamLog(name: StreamName): BridgeLog {
    const log = this.#log.child({ stream: displayName(name) });
    return { debug: (line) => log.debug(line), info: (line) => log.info(line), warn: (line) => log.warn(line) };
  }

  /** Sessions log their own opening and closing; the hub's events that no session sees are logged here. */
  #onHubEvent(event: HubEvent): void {
    this.#hooks.onEvent(event);
    this.#hls.onEvent(event);
    const { name } = event.stream;
    if (event.type === "timestamp-jump") {
      this.#log.warn(
        { session: shownId(event.peer.id), stream: displayName(name), peer: event.peer.address },
        "bridged a jump of the publisher's clock",
      );
    } else if (event.type === "publish" || event.type === "play") {
      if (event.type === "publish") this.#roomLives?.onPublish({ name, peer: event.peer });
      this.emit(event.type, { name, peer: event.peer });
    } else if (event.type !== "end") {
      this.emit(event.type, { name, peer: event.peer, reason: event.reason });
    }
  }
}

function sectionsOf({ httpApi, httpServer, rtmps }: Config): CertificateSections {
  return { "http_api.https": httpApi.https, "http_server.https": httpServer.https, rtmps };
}

/** Key and certificate can be exchanged while the gateway runs; what else changes of a listener waits for a restart. */
function withoutCertificates(config: Config): Config {
  const none = { key: "", cert: "" };
  const { httpApi, httpServer, rtmps } = config;
  return {
    ...config,
    rtmps: { ...rtmps, ...none },
    httpApi: { ...httpApi, https: { ...httpApi.https, ...none } },
    httpServer: { ...httpServer, https: { ...httpServer.https, ...none } },
  };
}

/** WebRTC over TCP on ports that HTTP has too. */
function webRtcOn(rtc: RtcServer, listen: Config["rtcServer"]["tcp"]["listen"]): HttpOptions["other"] {
  return {
    directive: "rtc_server.tcp.listen",
    listen,
    recognises: looksLikeIce,
    accept: (socket) => rtc.acceptStream(socket),
  };
}

function hubVhost({ name, play, publish }: VhostConfig): HubVhost {
  return {
    name,
    gopCacheFrames: play.gopCache ? play.gopCacheMaxFrames : 0,
    grace: publish.grace,
    takeover: publish.takeover,
  };
}

const PACKAGE = new URL("../../", import.meta.url); // this file runs as dist/gateway/gateway.js
const PACKAGED_CONFIG = fileURLToPath(new URL("conf/gateway.conf", PACKAGE));

/** Of this package. */
export const VERSION: string = (JSON.parse(readFileSync(new URL("package.json", PACKAGE), "utf8")) as { version: string })
  .version;
