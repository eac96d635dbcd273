// The HTTP API (docs, "HTTP API"): an envelope `{code, server, service, pid, …}` around JSON that keeps SRS's names.

import { createHash } from "node:crypto";
import { availableParallelism, cpus, freemem, loadavg, totalmem, uptime } from "node:os";

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

import { DEFAULT_VHOST } from "../config/config.js";
import { shownId } from "../hub/names.js";
import type { Client, Stream, StreamName } from "../hub/types.js";
import { parseAudioConfig } from "../media/audio.js";
import type { Frame } from "../media/frame.js";
import { spsOfConfig } from "../media/h264.js";
import type { apiGuard } from "./auth.js";
import type { HttpServices } from "./services.js";
import { addPreflightHeaders } from "./whip-whep.js";

export type ApiOptions = {
  readonly services: HttpServices;
  readonly crossdomain: boolean;
  /** `public` leaves out what tells about viewers and machine: what the HTTP server's own port shows for the pages. */
  readonly scope: "all" | "public";
  /** Who may ask. */
  readonly guard: ReturnType<typeof apiGuard>;
};

export function addApi(app: FastifyInstance, options: ApiOptions): void {
  const { services, crossdomain } = options;
  const envelope = () => ({ code: 0, server: services.serverId, service: services.serviceId, pid: String(process.pid) });

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
  app.get("/api/v1/streams", async (request) => {
    const streams = page([...services.hub.streams()].filter(isShown), request);
    const viewers = countViewers(services);
    return { ...envelope(), streams: streams.map((stream) => describeStream(stream, viewers.get(stream) ?? 0)) };
  });
  app.get("/api/v1/streams/:id", async (request, reply) => {
    const { id } = request.params as { id: string };
    for (const stream of services.hub.streams()) {
      if (!isShown(stream) || streamId(stream.name) !== id) continue;
      return { ...envelope(), stream: describeStream(stream, countViewers(services).get(stream) ?? 0) };
    }
    return sendApiError(reply, 404, 2048, "no such stream");
  });
  if (options.scope === "public") return;

  app.get("/api/v1/summaries", async () => ({ ...envelope(), data: summarise(services.version) }));
  app.get("/api/v1/clients", async (request) => {
    const clients = page([...services.hub.clients()], request);
    return { ...envelope(), clients: clients.map((client) => describeClient(client, Date.now())) };
  });
}

export function sendApiError(reply: FastifyReply, status: number, code: number, error: string): FastifyReply {
  return reply.code(status).send({ code, error });
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

/** Ids are made from names and session ids: constant, and they give away no session (who knows a session's id may end it). */
function streamId({ vhost, app, stream }: StreamName): string {
  return `vid-${hash(`${vhost}\n${app}\n${stream}`)}`;
}
function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 10);
}

/** A stream that somebody only waits for is no stream yet. */
function isShown({ state }: Stream): boolean {
  return state === "live" || state === "grace";
}

function countViewers({ hub }: HttpServices): Map<Stream, number> {
  const viewers = new Map<Stream, number>();
  for (const { role, stream } of hub.clients()) if (role === "play") viewers.set(stream, (viewers.get(stream) ?? 0) + 1);
  return viewers;
}

function describeStream(stream: Stream, viewers: number): object {
  const { name, publisher, frames, packets } = stream;
  const active = stream.state === "live";
  // A bridge announces tracks that may never come: only what the publisher itself sends is shown.
  const [videoTrack, audioTrack] = stream.sourceLane === "packets" ? [packets.track("video"), packets.track("audio")] : [];
  const videoCodec = frames.videoConfig?.codec ?? videoTrack?.codec;
  const audioCodec = frames.audioConfig?.codec ?? audioTrack?.codec;
  return {
    id: streamId(name),
    name: name.stream,
    vhost: name.vhost,
    app: name.app,
    tcUrl: publisher?.tcUrl ?? `rtmp://${name.vhost}/${name.app}`,
    url: `/${name.app}/${name.stream}`,
    live_ms: Math.round(stream.since),
    clients: viewers + (active ? 1 : 0), // the publisher is one, as in SRS
    viewers,
    frames: stream.received.units,
    recv_bytes: stream.received.bytes,
    state: stream.state,
    publish: { active, ...(publisher !== undefined && { cid: shownId(publisher.id), protocol: publisher.protocol }) },
    video:
      videoCodec === undefined ? null : { codec: CODEC_NAMES[videoCodec] ?? videoCodec, ...describeVideo(frames.videoConfig) },
    audio:
      audioCodec === undefined
        ? null
        : { codec: CODEC_NAMES[audioCodec] ?? audioCodec, ...describeAudio(frames.audioConfig, audioTrack) },
    notes: Object.fromEntries(stream.notes),
  };
}

function describeClient({ peer, stream, role, since, statistics }: Client, now: number): object {
  const { name } = stream;
  return {
    id: shownId(peer.id),
    vhost: name.vhost,
    stream: streamId(name),
    ip: peer.address,
    pageUrl: peer.pageUrl ?? "",
    swfUrl: "",
    tcUrl: peer.tcUrl ?? "",
    url: `/${name.app}/${name.stream}`,
    name: name.stream,
    type: role === "publish" && peer.protocol === "rtmp" ? "fmle-publish" : `${peer.protocol}-${role}`,
    publish: role === "publish",
    alive: Math.max(0, now - since) / 1000,
    ...(peer.protocol === "rtc" && { rtc: statistics() }),
  };
}

/** As SRS writes them. */
const CODEC_NAMES: Readonly<Record<string, string>> = {
  h264: "H264",
  hevc: "HEVC",
  av1: "AV1",
  vp8: "VP8",
  vp9: "VP9",
  aac: "AAC",
  mp3: "MP3",
  opus: "Opus",
};

function describeVideo(config: Frame | undefined): object {
  const sps = config?.codec === "h264" ? spsOfConfig(config.data) : undefined;
  if (sps === undefined) return { profile: "", level: "", width: 0, height: 0 };
  const { profile, level, width, height } = sps;
  return { profile: AVC_PROFILES[profile] ?? String(profile), level: (level / 10).toFixed(1), width, height };
}

const AVC_PROFILES: Readonly<Record<number, string>> = {
  66: "Baseline",
  77: "Main",
  88: "Extended",
  100: "High",
  110: "High10",
  122: "High422",
};

type Track = ReturnType<Stream["packets"]["track"]>;

function describeAudio(config: Frame | undefined, track: Track): object {
  const aac = config?.codec === "aac" ? parseAudioConfig(config.data) : undefined;
  if (aac === undefined) return { sample_rate: track?.clockRate ?? 0, channel: track?.channels ?? 0, profile: "" };
  const profile = aac.hasParametricStereo
    ? "HEv2"
    : aac.extensionSampleRate !== undefined
      ? "HE"
      : aac.objectType === 2
        ? "LC"
        : "";
  return { sample_rate: aac.extensionSampleRate ?? aac.sampleRate, channel: aac.channels, profile };
}

/** CPU time is taken between two summaries, at least a second apart. */
let lastCpu = { at: process.hrtime.bigint(), usage: process.cpuUsage(), percent: 0 };

function summarise(version: string): object {
  const at = process.hrtime.bigint();
  const elapsed = Number(at - lastCpu.at) / 1000;
  if (elapsed > 1_000_000) {
    const usage = process.cpuUsage();
    const used = usage.user + usage.system - lastCpu.usage.user - lastCpu.usage.system;
    lastCpu = { at, usage, percent: used / elapsed };
  }
  const memory = process.memoryUsage.rss();
  const [load1 = 0, load5 = 0, load15 = 0] = loadavg();
  return {
    ok: true,
    now_ms: Date.now(),
    self: {
      version,
      pid: process.pid,
      ppid: process.ppid,
      argv: process.argv.slice(1).join(" "),
      cwd: process.cwd(),
      mem_kbyte: Math.round(memory / 1024),
      mem_percent: memory / totalmem(),
      cpu_percent: lastCpu.percent,
      srs_uptime: Math.round(process.uptime()),
    },
    system: {
      mem_ram_kbyte: Math.round(totalmem() / 1024),
      mem_ram_percent: 1 - freemem() / totalmem(),
      cpus: cpus().length,
      cpus_online: availableParallelism(),
      uptime: uptime(),
      load_1m: load1,
      load_5m: load5,
      load_15m: load15,
    },
  };
}

/** For people who open the API's root in a browser. */
export function apiIndex(services: HttpServices): object {
  return {
    code: 0,
    server: services.serverId,
    urls: { api: "/api/v1/", whip: "/rtc/v1/whip/", whep: "/rtc/v1/whep/" },
    vhost: DEFAULT_VHOST,
  };
}
