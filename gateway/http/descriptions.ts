// How the API shows streams, clients and vhosts: SRS's names, and some of our own beside them.

import { createHash } from "node:crypto";

import { shownId } from "../hub/names.js";
import type { Client, Stream, StreamName } from "../hub/types.js";
import { parseAudioConfig } from "../media/audio.js";
import type { Frame } from "../media/frame.js";
import { spsOfConfig } from "../media/h264.js";
import { parseSps, type Sps } from "../media/h264-sps.js";
import type { Kbps } from "./rates.js";
import type { ApiVhost } from "./services.js";

/** Ids are made from names and session ids: constant, and they give away no session (who knows a session's id may end it). */
export function streamId({ vhost, app, stream }: StreamName): string {
  return `vid-${hash(`${vhost}\n${app}\n${stream}`)}`;
}
export function roomId({ vhost, name }: { readonly vhost: string; readonly name: string }): string {
  return `vid-${hash(`${vhost}\nroom ${name}`)}`;
}
export function vhostId(name: string): string {
  return `vid-${hash(name)}`;
}
function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 10);
}

/** A stream that somebody only waits for is no stream yet. */
export function isShown({ state }: Stream): boolean {
  return state === "live" || state === "grace";
}

/** @param clients those of this stream, the publisher too */
export function describeStream(stream: Stream, clients: readonly Client[], kbps: Kbps = NOTHING): object {
  const { name, publisher, frames, packets } = stream;
  const active = stream.state === "live";
  const viewers = clients.filter(({ role }) => role === "play");
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
    clients: clients.length, // the publisher is one, as in SRS
    viewers: viewers.length,
    viewers_by_protocol: countByProtocol(viewers),
    frames: stream.received.units,
    send_bytes: viewers.reduce((sum, viewer) => sum + viewer.bytes(), stream.sentBefore),
    recv_bytes: stream.received.bytes,
    kbps,
    state: stream.state,
    publish: { active, ...(publisher !== undefined && { cid: shownId(publisher.id), protocol: publisher.protocol }) },
    video: videoCodec === undefined ? null : { codec: CODEC_NAMES[videoCodec] ?? videoCodec, ...describeVideo(stream) },
    audio:
      audioCodec === undefined
        ? null
        : { codec: CODEC_NAMES[audioCodec] ?? audioCodec, ...describeAudio(frames.audioConfig, audioTrack) },
    notes: Object.fromEntries(stream.notes),
  };
}

export function describeClient(client: Client, now: number, kbps: Kbps): object {
  const { peer, stream, role, since } = client;
  const { name } = stream;
  const isPublisher = role === "publish";
  const bytes = client.bytes();
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
    type: isPublisher && peer.protocol === "rtmp" ? "fmle-publish" : `${peer.protocol}-${role}`,
    publish: isPublisher,
    alive: Math.max(0, now - since) / 1000,
    send_bytes: isPublisher ? 0 : bytes,
    recv_bytes: isPublisher ? bytes : 0,
    kbps,
    ...(peer.protocol === "rtc" || peer.protocol === "hls"
      ? { [peer.protocol]: client.statistics() }
      : !isPublisher && { queue: client.statistics() }),
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

function describeVideo(stream: Stream): object {
  const config = stream.frames.videoConfig;
  const sps = config?.codec === "h264" ? spsOfConfig(config.data) : spsOfPackets(stream);
  if (sps === undefined) return { profile: "", level: "", width: 0, height: 0 };
  const { profile, level, width, height } = sps;
  return { profile: AVC_PROFILES[profile] ?? String(profile), level: (level / 10).toFixed(1), width, height };
}

/** From the newest key frame of a publisher of packets: its first one is or holds the SPS (RFC 6184 sections 5.6 and 5.7.1). */
function spsOfPackets({ sourceLane, packets }: Stream): Sps | undefined {
  if (sourceLane !== "packets" || packets.track("video")?.codec !== "h264") return undefined;
  const payload = packets.keyFrameHead?.payload;
  const type = (payload?.[0] ?? 0) & 0x1f;
  if (payload === undefined || type !== STAP_A) return payload === undefined ? undefined : parseSps(payload);
  for (let at = 1; at + 3 <= payload.length; ) {
    const size = payload.readUInt16BE(at);
    const sps = parseSps(payload.subarray(at + 2, at + 2 + size));
    if (sps !== undefined) return sps;
    at += 2 + size;
  }
  return undefined;
}

const STAP_A = 24;

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

export function describeVhost(
  { name, enabled, hls }: ApiVhost,
  streams: readonly Stream[],
  clients: readonly Client[],
  rates: ReadonlyMap<Stream, Kbps>,
): object {
  const own = streams.filter((stream) => stream.name.vhost === name && isShown(stream));
  const present = clients.filter(({ stream }) => stream.name.vhost === name);
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const sentNow = present.map((client) => (client.role === "play" ? client.bytes() : 0));
  return {
    id: vhostId(name),
    name,
    enabled,
    clients: present.length,
    streams: own.length,
    send_bytes: sum(sentNow) + sum(own.map((stream) => stream.sentBefore)),
    recv_bytes: sum(own.map((stream) => stream.received.bytes)),
    kbps: {
      recv_30s: sum(own.map((stream) => rates.get(stream)?.recv_30s ?? 0)),
      send_30s: sum(own.map((stream) => rates.get(stream)?.send_30s ?? 0)),
    },
    hls: hls?.enabled === true ? { enabled: true, fragment: hls.fragment / 1000 } : { enabled: false },
  };
}

function countByProtocol(viewers: readonly Client[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { peer } of viewers) counts[peer.protocol] = (counts[peer.protocol] ?? 0) + 1;
  return counts;
}

const NOTHING: Kbps = { recv_30s: 0, send_30s: 0 };
