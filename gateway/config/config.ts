// The typed configuration: what a parsed file, environment and defaults become. Names follow the directives.

import type { AccessRule } from "./access.js";

export type ListenAddress = { readonly host: string | undefined; readonly port: number }; // host undefined: every address

export type HttpsConfig = {
  readonly enabled: boolean;
  readonly listen: readonly ListenAddress[];
  /** PEM files by absolute path; given when enabled. */
  readonly key: string;
  readonly cert: string;
};

/** Either is empty when it is not offered; one of them is given when enabled. */
export type ApiAuthConfig = {
  readonly enabled: boolean;
  /** HTTP Basic. */
  readonly username: string;
  readonly password: string;
  /** Bearer. */
  readonly token: string;
};

export type BframeMode = "auto" | "drop" | "transcode" | "keep";

/** Directives of a `vhost { rtc { … } }`. */
export type VhostRtcConfig = {
  readonly enabled: boolean;
  readonly nack: boolean;
  readonly twcc: boolean;
  /** Milliseconds without any packet after which a session ends. */
  readonly stunTimeout: number;
  readonly dtlsRole: "passive" | "active";
  readonly rtmpToRtc: boolean;
  readonly rtcToRtmp: boolean;
  readonly bframe: BframeMode;
  /** What publishers and viewers must show; empty: nothing. */
  readonly token: string;
  /** Bits per second. */
  readonly opusBitrate: number;
  /** Bits per second. */
  readonly aacBitrate: number;
  /** Milliseconds between key-frame requests to a WebRTC publisher while the bridge to RTMP runs. */
  readonly pliForRtmp: number;
  readonly keepAvcNaluSei: boolean;
};

export type VhostConfig = {
  readonly name: string;
  readonly enabled: boolean;
  readonly rtc: VhostRtcConfig;
  readonly play: {
    readonly gopCache: boolean;
    readonly gopCacheMaxFrames: number;
    /** Milliseconds of media a slow viewer may lag before it falls forward to a key frame. */
    readonly queueLength: number;
  };
  readonly publish: {
    /** Milliseconds a publisher may take for its first media packet. */
    readonly firstPacketTimeout: number;
    /** Milliseconds a publisher may stay silent after that. */
    readonly normalTimeout: number;
    /** Milliseconds that viewers stay connected after the publisher left. */
    readonly grace: number;
    readonly takeover: "on" | "stale" | "off";
  };
  /** Who may publish and play, by address; the first rule that matches decides, and without one nobody may. */
  readonly security: { readonly enabled: boolean; readonly rules: readonly AccessRule[] };
  /** URLs that are asked (publish, play) and told (unpublish, stop); names as in the file. */
  readonly httpHooks: {
    readonly enabled: boolean;
    readonly on_publish: readonly string[];
    readonly on_unpublish: readonly string[];
    readonly on_play: readonly string[];
    readonly on_stop: readonly string[];
    readonly on_hls: readonly string[];
  };
  /** Times in milliseconds. */
  readonly hls: {
    readonly enabled: boolean;
    readonly fragment: number;
    readonly window: number;
    readonly lowLatency: boolean;
    readonly part: number;
    readonly format: "ts" | "fmp4";
    /** Folder that is written to besides, absolute; empty: none. */
    readonly path: string;
    readonly cleanup: boolean;
    /** 0: files stay. */
    readonly dispose: number;
    readonly keys: boolean;
    readonly fragmentsPerKey: number;
    readonly onDemand: "auto" | "on" | "off";
  };
  readonly httpRemux: {
    readonly enabled: boolean;
    /** Path of HTTP-FLV with `[vhost]`, `[app]`, `[stream]` in it. */
    readonly mount: string;
  };
};

export type Config = {
  /** File the configuration came from, undefined for environment or code only. */
  readonly file: string | undefined;
  /** `listen`: RTMP. */
  readonly listen: readonly ListenAddress[];
  readonly rtmps: HttpsConfig;
  readonly maxConnections: number;
  /** Path or name of ffmpeg; empty: the first on PATH, then the packaged one. */
  readonly ffmpeg: string;
  /** Folder for what the gateway keeps, absolute. */
  readonly dataDir: string;
  /** Each includes those after it. */
  readonly logLevel: "trace" | "debug" | "info" | "warn" | "error";
  /** Lines for people or JSON for programs, on standard error. */
  readonly logFormat: "text" | "json";
  readonly httpApi: {
    readonly enabled: boolean;
    readonly listen: readonly ListenAddress[];
    readonly crossdomain: boolean;
    readonly auth: ApiAuthConfig;
    readonly https: HttpsConfig;
  };
  readonly httpServer: {
    readonly enabled: boolean;
    readonly listen: readonly ListenAddress[];
    /** Folder of static files of the operator's own, served beside the built-in pages; empty: none. */
    readonly dir: string;
    readonly crossdomain: boolean;
    readonly https: HttpsConfig;
  };
  readonly signaling: {
    readonly enabled: boolean;
    readonly maxRooms: number;
    /** Per room. */
    readonly maxParticipants: number;
    /** On a port of its own beside the HTTP server's. */
    readonly standalone: { readonly enabled: boolean; readonly listen: readonly ListenAddress[] };
  };
  /** Mixing of rooms. */
  readonly transcode: { readonly enabled: boolean; readonly maxChildren: number };
  readonly rtcServer: {
    readonly enabled: boolean;
    readonly listen: readonly ListenAddress[];
    readonly protocol: "udp" | "tcp" | "all";
    /** `*`: detect. */
    readonly candidate: readonly string[];
    readonly useAutoDetectNetworkIp: boolean;
    readonly ipFamily: "ipv4" | "ipv6" | "all";
    readonly apiAsCandidates: boolean;
    readonly resolveApiDomain: boolean;
    readonly keepApiDomain: boolean;
    /** ECDSA P-256 certificate, else RSA-2048. */
    readonly ecdsa: boolean;
    readonly tcp: { readonly enabled: boolean; readonly listen: readonly ListenAddress[] };
    /** Old habits of WHIP and WHEP test suites: 404 for a stream that is not live, 405 for GET. */
    readonly whepCompat: boolean;
  };
  /** By name; `__defaultVhost__` is always there and serves every name that is not. */
  readonly vhosts: ReadonlyMap<string, VhostConfig>;
};

export const DEFAULT_VHOST = "__defaultVhost__";

/** The vhost that serves a name: its own, or the default one. */
export function vhostFor(config: Config, name: string): VhostConfig {
  const vhost = config.vhosts.get(name) ?? config.vhosts.get(DEFAULT_VHOST);
  if (vhost === undefined) throw new TypeError(`config: vhosts must hold ${DEFAULT_VHOST}`);
  return vhost;
}
