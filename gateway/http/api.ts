// The HTTP API (docs/http.md, "The API"): an envelope `{code, server, service, pid, …}` around JSON that keeps SRS's names.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

import { DEFAULT_VHOST } from "../config/config.js";
import { shownId } from "../hub/names.js";
import type { Client, Stream } from "../hub/types.js";
import type { apiGuard } from "./auth.js";
import { describeClient, describeStream, describeVhost, isShown, streamId, vhostId } from "./descriptions.js";
import { addMetrics } from "./metrics.js";
import type { Rates } from "./rates.js";
import { addRoomLiveState, addRoomsApi } from "./rooms-api.js";
import type { HttpServices } from "./services.js";
import type { SystemMeter } from "./system-figures.js";
import { addPreflightHeaders } from "./whip-whep.js";

export type ApiOptions = {
  readonly services: HttpServices;
  readonly rates: Rates;
  readonly system: SystemMeter;
  readonly crossdomain: boolean;
  /** `public` leaves out what tells about viewers and machine: what the HTTP server's own port shows for the pages. */
  readonly scope: "all" | "public";
  /** Who may ask. */
  readonly guard: ReturnType<typeof apiGuard>;
};

/** Numbers of SRS's own list. */
const NO_SUCH_VHOST = 2014;
const NO_SUCH_STREAM = 2048;
const NO_SUCH_CLIENT = 2049;

export function addApi(app: FastifyInstance, options: ApiOptions): void {
  const { services, rates, crossdomain } = options;
  const { hub } = services;
  const envelope = () => envelopeOf(services);

  app.addHook("onRequest", async (_request, reply) => {
    reply.header("Cache-Control", "no-store");
    if (crossdomain) reply.header("Access-Control-Allow-Origin", "*");
  });
  app.addHook("onRequest", options.guard);
  app.options("/api/v1/*", async (request, reply) => {
    if (crossdomain) addPreflightHeaders(request, reply, "GET, POST, DELETE, OPTIONS");
    return reply.code(204).send();
  });

  app.get("/api/v1/versions", async () => {
    const [major = 0, minor = 0, revision = 0] = services.version.split(/[.-]/, 3).map((part) => Number.parseInt(part, 10) || 0);
    const data = { major, minor, revision, version: services.version };
    return { ...envelope(), data, ...(services.rtmpPort !== undefined && { rtmp_port: services.rtmpPort }) };
  });
  const describeStreams = (streams: readonly Stream[]): object[] => {
    const clients = clientsByStream(hub.clients());
    const kbps = rates.ofStreams();
    return streams.map((stream) => describeStream(stream, clients.get(stream) ?? [], kbps.get(stream)));
  };
  app.get("/api/v1/streams", async (request) => {
    const streams = page([...hub.streams()].filter(isShown), request);
    return { ...envelope(), streams: describeStreams(streams) };
  });
  app.get("/api/v1/streams/:id", async (request, reply) => {
    const stream = [...hub.streams()].find((one) => isShown(one) && streamId(one.name) === idOf(request));
    if (stream === undefined) return sendApiError(reply, 404, NO_SUCH_STREAM, "no such stream");
    return { ...envelope(), stream: describeStreams([stream])[0] };
  });
  const roomsOptions = { services, envelope, sendError: sendApiError, page };
  addRoomLiveState(app, roomsOptions);
  if (options.scope === "public") return;

  addMetrics(app, services, options.system);
  app.get("/api/v1/summaries", async () => ({ ...envelope(), data: summarise(options) }));
  app.get("/api/v1/clients", async (request) => {
    const clients = page([...hub.clients()], request);
    return { ...envelope(), clients: clients.map((client) => describeClient(client, Date.now(), rates.ofClient(client))) };
  });
  const findClient = (request: FastifyRequest): Client | undefined =>
    [...hub.clients()].find(({ peer }) => shownId(peer.id) === idOf(request));
  app.get("/api/v1/clients/:id", async (request, reply) => {
    const client = findClient(request);
    if (client === undefined) return sendApiError(reply, 404, NO_SUCH_CLIENT, "no such client");
    return { ...envelope(), client: describeClient(client, Date.now(), rates.ofClient(client)) };
  });
  app.delete("/api/v1/clients/:id", async (request, reply) => {
    const client = findClient(request);
    if (client === undefined) return sendApiError(reply, 404, NO_SUCH_CLIENT, "no such client");
    client.close("kicked by the API");
    return envelope();
  });
  addRoomsApi(app, roomsOptions);
  const describeVhosts = (): object[] => {
    const kbps = rates.ofStreams();
    return services.vhosts().map((vhost) => describeVhost(vhost, [...hub.streams()], [...hub.clients()], kbps));
  };
  app.get("/api/v1/vhosts", async () => ({ ...envelope(), vhosts: describeVhosts() }));
  app.get("/api/v1/vhosts/:id", async (request, reply) => {
    const id = idOf(request);
    const at = services.vhosts().findIndex(({ name }) => vhostId(name) === id || name === id);
    if (at < 0) return sendApiError(reply, 404, NO_SUCH_VHOST, "no such vhost");
    return { ...envelope(), vhost: describeVhosts()[at] };
  });
}

export function sendApiError(reply: FastifyReply, status: number, code: number, error: string): FastifyReply {
  return reply.code(status).send({ code, error });
}

/** What every answer of the API holds. */
export function envelopeOf({ serverId, serviceId }: HttpServices): object {
  return { code: 0, server: serverId, service: serviceId, pid: String(process.pid) };
}

/** `?start=&count=`, 0 and 10 when absent as in SRS; never more than 1000. */
function page<T>(items: readonly T[], request: FastifyRequest): T[] {
  const query = request.query as Record<string, string | string[] | undefined>;
  const number = (key: string, fallback: number) => {
    const value = Number(query[key] ?? fallback);
    return Number.isInteger(value) && value >= 0 ? value : fallback;
  };
  const start = number("start", 0);
  return items.slice(start, start + Math.min(number("count", 10), 1000));
}

function idOf(request: FastifyRequest): string {
  return (request.params as { id: string }).id;
}

function clientsByStream(clients: Iterable<Client>): Map<Stream, Client[]> {
  const found = new Map<Stream, Client[]>();
  for (const client of clients) {
    const list = found.get(client.stream);
    if (list === undefined) found.set(client.stream, [client]);
    else list.push(client);
  }
  return found;
}

function summarise({ services, system }: ApiOptions): object {
  const figures = system.read();
  const { sent, received } = services.hub.totals;
  return {
    ok: true,
    now_ms: Date.now(),
    self: {
      version: services.version,
      pid: process.pid,
      ppid: process.ppid,
      argv: process.argv.slice(1).join(" "),
      cwd: process.cwd(),
      ...figures.self,
    },
    system: {
      ...figures.system,
      srs_sample_time: figures.system.net_sample_time,
      srs_recv_bytes: received,
      srs_send_bytes: sent,
      conn_srs: [...services.hub.clients()].length,
    },
  };
}

/** For people who open the API's root in a browser. */
export function apiIndex(services: HttpServices): object {
  return {
    code: 0,
    server: services.serverId,
    urls: { api: "/api/v1/", whip: "/rtc/v1/whip/", whep: "/rtc/v1/whep/", metrics: "/metrics" },
    vhost: DEFAULT_VHOST,
  };
}
