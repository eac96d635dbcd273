// The HTTP side (EDGE): which addresses listen, and which routes each of them has.
//
// | listener    | pages | /rtc/v1/…          | /api/v1, /metrics                |
// | http_api    |       | yes                | everything                       |
// | http_server | yes   | yes                | versions and streams, read only  |   and /app/stream.flv, .m3u8
// | both on one | yes   | yes                | everything                       |
// Rooms' WebSocket is on http_server, and on signaling.standalone, which has nothing else.
//
// The HTTP server's port has what its own pages need, so that one open port is enough for a viewer; what tells about viewers or
// changes things stays on the API's port, which an operator may keep to himself.

import { performance } from "node:perf_hooks";

import fastify, { type FastifyInstance } from "fastify";

import type { Config, ListenAddress } from "../config/config.js";
import type { Clock } from "../hub/clock.js";
import { RateLimit, type RateLimitOptions } from "../hub/rate-limit.js";
import { addApi, apiIndex, sendApiError } from "./api.js";
import { apiGuard } from "./auth.js";
import { type CertificateSection, Certificates } from "./certificates.js";
import type { OtherProtocol } from "./first-bytes.js";
import { FlvService } from "./flv.js";
import { addFlv } from "./flv-routes.js";
import type { FlvVhost } from "./flv-target.js";
import { addHls } from "./hls-routes.js";
import { addLegacyRtc } from "./legacy-rtc.js";
import { formatAddress, HttpListener, type UpgradeHandler } from "./listener.js";
import { addPages } from "./pages.js";
import { sendProblem } from "./problem.js";
import { Rates } from "./rates.js";
import { type HttpLog, type HttpServices, SIGNALING_PATH } from "./services.js";
import { SystemMeter } from "./system-figures.js";
import { addWhipWhep, MAX_SDP } from "./whip-whep.js";

export type HttpOptions = Pick<Config, "httpApi" | "httpServer" | "maxConnections" | "dataDir"> & {
  /** `signaling.standalone`. Default: not served. */
  readonly signalingPort?: { readonly enabled: boolean; readonly listen: readonly ListenAddress[] };
  /** `rtc_server.whep_compat`. Default false. */
  readonly whepCompat?: boolean;
  readonly services: HttpServices;
  readonly clock: Clock;
  /** The vhost that serves a name, as configured now; undefined when there is none. */
  readonly vhost: (name: string) => FlvVhost | undefined;
  readonly log: HttpLog;
  /** Folder of the built-in pages. Default the package's own. */
  readonly players?: string;
  readonly rateLimit?: RateLimitOptions;
  /** Keys and certificates of HTTPS, which their owner closes. Default: own ones, read once. */
  readonly certificates?: Certificates;
  /** A protocol that shares addresses with HTTP: those of `listen` that HTTP listens at too. */
  readonly other?: (OtherProtocol & { readonly directive: string; readonly listen: readonly ListenAddress[] }) | undefined;
};

export type Role = "api" | "server" | "signaling";

export class HttpServer {
  readonly #options: HttpOptions;
  readonly #rateLimit: RateLimit;
  readonly #guard: ReturnType<typeof apiGuard>;
  readonly #flv: FlvService;
  readonly #rates: Rates;
  readonly #system = new SystemMeter();
  readonly #apps: FastifyInstance[] = [];
  readonly #certificates: Certificates;
  #listeners: HttpListener[] = [];

  constructor(options: HttpOptions) {
    this.#options = options;
    this.#rateLimit = new RateLimit(options.rateLimit);
    this.#guard = apiGuard({ auth: options.httpApi.auth, now: () => performance.now() });
    const { services, clock, log, vhost, httpApi, httpServer, dataDir } = options;
    const sections = { "http_api.https": httpApi.https, "http_server.https": httpServer.https, rtmps: { key: "", cert: "" } };
    this.#certificates = options.certificates ?? new Certificates({ sections, dataDir, log });
    this.#rates = new Rates(services.hub, clock);
    this.#flv = new FlvService({ hub: services.hub, clock, log, vhost });
  }

  /** Opens every configured address, or none. @throws Error naming port and directive */
  async start(): Promise<void> {
    const { maxConnections, log } = this.#options;
    const connections = { open: 0 };
    this.#rates.start();
    try {
      const doors = planDoors(this.#options);
      const apps = new Map<string, FastifyInstance>();
      for (const { directive, address, roles, isPlain, section, other } of doors) {
        const key = [...roles].sort().join("+");
        const app = apps.get(key) ?? (await this.app(roles));
        apps.set(key, app);
        const handler = app.routing.bind(app);
        let listener: HttpListener | undefined;
        const credentials =
          section === undefined ? undefined : await this.#certificates.get(section, (pair) => listener?.setCredentials(pair));
        listener = await HttpListener.open({
          directive,
          address,
          handler,
          upgrade: this.#upgradeFor(roles),
          isPlain,
          credentials,
          other,
          maxConnections,
          connections,
          maxExpectedBody: MAX_SDP,
        });
        this.#listeners.push(listener);
        const { address: host, port } = listener.address;
        log.info(
          { address: formatAddress({ host, port }), for: other === undefined ? key : `${key}+webrtc`, secure: listener.isSecure },
          "http listens",
        );
      }
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** WebSockets: signaling at its own path, FLV at every other. */
  #upgradeFor(roles: ReadonlySet<Role>): UpgradeHandler | undefined {
    const { rooms } = this.#options.services;
    const flv = roles.has("server") ? this.#flv : undefined;
    if (flv === undefined && !roles.has("signaling")) return undefined;
    return (request, socket, head) => {
      if (rooms !== undefined && isSignaling(request.url)) rooms.upgrade(request, socket, head);
      else if (flv !== undefined) void flv.upgrade(request, socket, head);
      else socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
  }

  /** Where it listens, with the ports that were asked for as 0. */
  get addresses(): { directive: string; host: string; port: number; isSecure: boolean }[] {
    return this.#listeners.map(({ directive, address, isSecure }) => ({
      directive,
      host: address.address,
      port: address.port,
      isSecure,
    }));
  }

  /** Viewers over HTTP-FLV and WebSocket-FLV. */
  get flvViewers(): number {
    return this.#flv.viewerCount;
  }

  /** Ends within about a second, also with connections kept open. Idempotent. */
  async close(): Promise<void> {
    this.#rates.stop();
    if (this.#options.certificates === undefined) this.#certificates.close();
    const listeners = this.#listeners;
    this.#listeners = [];
    await Promise.all(listeners.map((listener) => listener.close()));
    await Promise.all(this.#apps.splice(0).map((app) => app.close()));
  }

  /** The routes of a listener without the listener: for tests by `inject`. */
  async app(roles: ReadonlySet<Role>): Promise<FastifyInstance> {
    const { services, httpApi, httpServer, log } = this.#options;
    const crossdomain = roles.has("api") ? httpApi.crossdomain : httpServer.crossdomain;
    const app = fastify({
      logger: false,
      routerOptions: { ignoreTrailingSlash: true, maxParamLength: 256 },
    });
    this.#apps.push(app);
    const flv = this.#flv;
    const whyNoStream = roles.has("server")
      ? addFlv(app, { flv, crossdomain, hasFiles: httpServer.dir !== "", log })
      : () => undefined;
    if (roles.has("server") && services.hls !== undefined) {
      addHls(app, { hls: services.hls, crossdomain, hasFiles: httpServer.dir !== "", log });
    }
    app.setNotFoundHandler((request, reply) => {
      if (request.url.startsWith("/api/"))
        return sendApiError(reply, 404, 404, `no such endpoint: ${request.method} ${request.url.split("?", 1)[0]}`);
      return sendProblem(reply, "not-found", whyNoStream(request) ?? "There is nothing at this address.");
    });
    app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
      const status = error.statusCode ?? 500;
      if (status >= 500)
        log.error({ err: error, method: request.method, url: request.url.split("?", 1)[0] }, "an HTTP request failed");
      return sendApiError(reply, status, status, status >= 500 ? "internal error, see the log" : error.message);
    });
    if (services.rooms !== undefined && (roles.has("server") || roles.has("signaling"))) {
      app.get(SIGNALING_PATH, async (_request, reply) =>
        sendApiError(reply.header("Upgrade", "websocket"), 426, 426, "signaling is a WebSocket: ws://…/sig/v1/rtc"),
      );
    }
    if (!roles.has("api") && !roles.has("server")) {
      await app.ready();
      return app;
    }
    const rtcOptions = {
      rtc: services.rtc,
      unavailable: services.rtcUnavailable ?? "WebRTC is switched off here (rtc_server.enabled).",
      compat: this.#options.whepCompat ?? false,
      crossdomain,
      rateLimit: this.#rateLimit,
      now: () => performance.now(),
      log,
    };
    await app.register(async (scope) => addWhipWhep(scope, rtcOptions));
    await app.register(async (scope) => addLegacyRtc(scope, { ...rtcOptions, services }));
    if (httpApi.enabled) {
      const scope = roles.has("api") ? "all" : "public";
      const api = { services, rates: this.#rates, system: this.#system, crossdomain, scope, guard: this.#guard } as const;
      await app.register(async (routes) => addApi(routes, api));
    }
    if (roles.has("server")) {
      const { players } = this.#options;
      await app.register(async (scope) =>
        addPages(scope, { dir: httpServer.dir, crossdomain, ...(players !== undefined && { players }) }),
      );
    } else {
      app.get("/", async () => apiIndex(services));
    }
    await app.ready();
    return app;
  }
}

type Door = {
  readonly directive: string;
  readonly address: ListenAddress;
  readonly roles: Set<Role>;
  isPlain: boolean;
  /** Whose certificate HTTPS has here; undefined: no HTTPS. */
  section: CertificateSection | undefined;
  other: OtherProtocol | undefined;
};

/** One door per address: where several are given the same one, it serves them all, plain and over TLS as each was asked for. */
function planDoors({ httpApi, httpServer, signalingPort, services, other }: HttpOptions): Door[] {
  const doors: Door[] = [];
  const doorFor = (directive: string, address: ListenAddress): Door | undefined => {
    const same =
      address.port === 0 ? undefined : doors.find((door) => door.address.port === address.port && overlap(door.address, address));
    if (same !== undefined && same.address.host !== address.host) {
      const both = `${formatAddress(same.address)} of ${same.directive}`;
      throw new Error(
        `${directive}: port ${address.port} (${formatAddress(address)}) overlaps ${both}: give both the same address, or different ports`,
      );
    }
    return same;
  };
  const add = (role: Role, directive: string, listen: readonly ListenAddress[], section?: CertificateSection) => {
    for (const address of listen) {
      let door = doorFor(directive, address);
      if (door === undefined) {
        door = { directive, address, roles: new Set(), isPlain: false, section: undefined, other: undefined };
        doors.push(door);
      }
      door.roles.add(role);
      if (section === undefined) door.isPlain = true;
      else door.section ??= section;
    }
  };
  if (httpApi.enabled) {
    add("api", "http_api.listen", httpApi.listen);
    if (httpApi.https.enabled) add("api", "http_api.https.listen", httpApi.https.listen, "http_api.https");
  }
  if (httpServer.enabled) {
    add("server", "http_server.listen", httpServer.listen);
    if (httpServer.https.enabled) add("server", "http_server.https.listen", httpServer.https.listen, "http_server.https");
  }
  if (signalingPort?.enabled === true && services.rooms !== undefined) {
    add("signaling", "signaling.standalone.listen", signalingPort.listen);
  }
  for (const address of other?.listen ?? []) {
    const door = doorFor(other?.directive ?? "", address);
    if (door !== undefined) door.other = other;
  }
  return doors;
}

/** Whether HTTP listens at this address too, so that another protocol there has to come in by its door. */
export function isHttpAddress(address: ListenAddress, { httpApi, httpServer }: Pick<Config, "httpApi" | "httpServer">): boolean {
  const listen = [httpApi, httpServer].flatMap(({ enabled, listen: plain, https }) => {
    if (!enabled) return [];
    return https.enabled ? [...plain, ...https.listen] : plain;
  });
  return listen.some(({ host, port }) => port !== 0 && port === address.port && host === address.host);
}

function isSignaling(url = ""): boolean {
  const path = url.split("?", 1)[0];
  return path === SIGNALING_PATH || path === `${SIGNALING_PATH}/`;
}

/** Two listening addresses of one port that cannot both be had. */
function overlap(a: ListenAddress, b: ListenAddress): boolean {
  if (a.host === b.host || a.host === undefined || b.host === undefined) return true;
  const isV6 = (host: string) => host.includes(":");
  if (isV6(a.host) !== isV6(b.host)) return false; // `[::]` is opened for IPv6 only
  return [a.host, b.host].some((host) => host === "::" || host === "0.0.0.0");
}
