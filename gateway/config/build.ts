// From what files and environment state to the typed configuration: every default filled in, and checked as a whole.

import type { AccessRule } from "./access.js";
import type { ApiAuthConfig, Config, HttpsConfig, ListenAddress, VhostConfig } from "./config.js";
import { DIRECTIVES, type DirectivePath, type ValueAt } from "./directives.js";
import type { ConfigProblem } from "./errors.js";

/** Where a value was given: `conf/x.conf:3`, or an environment name. */
export type Place = { readonly file: string | undefined; readonly line: number | undefined; readonly label: string };

export type Stated = Place & {
  readonly words: readonly string[];
  readonly value: unknown;
  /** When it was stated, for directives whose order among each other counts. */
  readonly order: number;
  /** What the same directive said before, where it may stand several times. */
  readonly before: Stated | undefined;
};

/** Values stated in one scope (the file's top, or one vhost), by path. */
export type Scope = Map<DirectivePath, Stated>;

export type Statements = {
  readonly file: string | undefined;
  readonly globals: Scope;
  readonly vhosts: ReadonlyMap<string, Scope>;
};

/**
 * The typed configuration of what was stated, with defaults filled in. Adds to `problems` what the directives say wrong together.
 */
export function buildConfig({ file, globals, vhosts }: Statements, problems: ConfigProblem[]): Config {
  const get = <P extends DirectivePath>(path: P): ValueAt<P> => valueIn(globals, path);
  const https = (path: "rtmps" | "http_api.https" | "http_server.https"): HttpsConfig => {
    const [key, cert] = [get(`${path}.key`), get(`${path}.cert`)];
    if ((key === "") !== (cert === "")) {
      const [given, missing] = key === "" ? (["cert", "key"] as const) : (["key", "cert"] as const);
      const stated = globals.get(`${path}.${given}`);
      const message = `${path}.${missing} is missing: key and certificate are given together`;
      problems.push({ file: stated?.file, line: stated?.line, message });
    }
    return { enabled: get(`${path}.enabled`), listen: get(`${path}.listen`), key, cert };
  };
  const config: Config = {
    file,
    listen: get("listen"),
    rtmps: https("rtmps"),
    maxConnections: get("max_connections"),
    ffmpeg: get("ffmpeg"),
    dataDir: get("data_dir"),
    logLevel: get("log_level"),
    logFormat: get("log_format"),
    httpApi: {
      enabled: get("http_api.enabled"),
      listen: get("http_api.listen"),
      crossdomain: get("http_api.crossdomain"),
      auth: buildAuth(globals, problems),
      https: https("http_api.https"),
    },
    httpServer: {
      enabled: get("http_server.enabled"),
      listen: get("http_server.listen"),
      dir: get("http_server.dir"),
      crossdomain: get("http_server.crossdomain"),
      https: https("http_server.https"),
    },
    signaling: {
      enabled: get("signaling.enabled"),
      maxRooms: get("signaling.max_rooms"),
      maxParticipants: get("signaling.max_participants"),
      standalone: { enabled: get("signaling.standalone.enabled"), listen: get("signaling.standalone.listen") },
    },
    transcode: { enabled: get("transcode.enabled"), maxChildren: get("transcode.max_children") },
    rtcServer: {
      enabled: get("rtc_server.enabled"),
      listen: get("rtc_server.listen"),
      protocol: get("rtc_server.protocol"),
      candidate: get("rtc_server.candidate"),
      useAutoDetectNetworkIp: get("rtc_server.use_auto_detect_network_ip"),
      ipFamily: get("rtc_server.ip_family"),
      apiAsCandidates: get("rtc_server.api_as_candidates"),
      resolveApiDomain: get("rtc_server.resolve_api_domain"),
      keepApiDomain: get("rtc_server.keep_api_domain"),
      ecdsa: get("rtc_server.ecdsa"),
      tcp: { enabled: get("rtc_server.tcp.enabled"), listen: get("rtc_server.tcp.listen") },
      whepCompat: get("rtc_server.whep_compat"),
    },
    vhosts: new Map([...vhosts].map(([name, scope]) => [name, buildVhost(name, scope)])),
  };
  checkPorts(config, globals, problems);
  return config;
}

/** What is allowed and hardly meant. */
export function findContradictions(config: Config): string[] {
  const vhosts = [...config.vhosts.values()].filter((vhost) => vhost.enabled && vhost.rtc.enabled);
  const found: string[] = [];
  for (const { name, security } of config.vhosts.values()) {
    const { enabled, rules } = security;
    if (!enabled && rules.length > 0) found.push(`vhost ${name}: security has rules and is not enabled: they do not hold`);
    for (const action of enabled ? (["publish", "play"] as const) : []) {
      if (rules.some((rule) => rule.action === action && rule.effect === "allow")) continue;
      found.push(`vhost ${name}: security is enabled and allows nobody to ${action}`);
    }
  }
  if (vhosts.length > 0 && !config.rtcServer.enabled) {
    found.push(
      `vhost ${vhosts[0]?.name}: rtc is enabled and rtc_server is not: nothing is served over WebRTC; add rtc_server { enabled on; }`,
    );
  }
  if (config.rtcServer.enabled && vhosts.length === 0) {
    found.push("rtc_server is enabled and no vhost has rtc { enabled on; }: every WebRTC request will be refused");
  }
  const { enabled, protocol, tcp } = config.rtcServer;
  if (enabled && tcp.enabled && protocol === "udp") {
    found.push("rtc_server.tcp is enabled and rtc_server.protocol is udp: no client is told of it; protocol all offers both");
  }
  if (enabled && !tcp.enabled && protocol !== "udp") {
    found.push(`rtc_server.protocol is ${protocol} and rtc_server.tcp is not enabled: media goes over UDP only`);
  }
  const { signaling } = config;
  if (signaling.enabled && !config.httpServer.enabled && !signaling.standalone.enabled) {
    found.push(
      "signaling is enabled and http_server is not: nobody can reach it; enable one of http_server and signaling.standalone",
    );
  }
  if (signaling.standalone.enabled && !signaling.enabled) {
    found.push("signaling.standalone is enabled and signaling is not: it is not served");
  }
  if (config.rtcServer.enabled && !config.httpApi.enabled) {
    found.push("rtc_server is enabled and http_api is not: no client can ask for a WebRTC session");
  }
  return found;
}

function buildVhost(name: string, scope: Scope): VhostConfig {
  const get = <P extends DirectivePath>(path: P): ValueAt<P> => valueIn(scope, path);
  const urlsOf = (path: HookPath): readonly string[] => (scope.get(path)?.value as ValueAt<HookPath> | undefined) ?? [];
  return {
    name,
    enabled: get("vhost.enabled"),
    rtc: {
      enabled: get("vhost.rtc.enabled"),
      nack: get("vhost.rtc.nack"),
      twcc: get("vhost.rtc.twcc"),
      stunTimeout: get("vhost.rtc.stun_timeout"),
      dtlsRole: get("vhost.rtc.dtls_role"),
      rtmpToRtc: get("vhost.rtc.rtmp_to_rtc"),
      rtcToRtmp: get("vhost.rtc.rtc_to_rtmp"),
      bframe: get("vhost.rtc.bframe"),
      token: get("vhost.rtc.token"),
      opusBitrate: get("vhost.rtc.opus_bitrate"),
      aacBitrate: get("vhost.rtc.aac_bitrate"),
      pliForRtmp: get("vhost.rtc.pli_for_rtmp"),
      keepAvcNaluSei: get("vhost.rtc.keep_avc_nalu_sei"),
    },
    play: {
      gopCache: get("vhost.play.gop_cache"),
      gopCacheMaxFrames: get("vhost.play.gop_cache_max_frames"),
      queueLength: get("vhost.play.queue_length"),
    },
    publish: {
      firstPacketTimeout: get("vhost.publish.firstpkt_timeout"),
      normalTimeout: get("vhost.publish.normal_timeout"),
      grace: get("vhost.publish.grace"),
      takeover: get("vhost.publish.takeover"),
    },
    security: { enabled: get("vhost.security.enabled"), rules: rulesIn(scope) },
    httpHooks: {
      enabled: get("vhost.http_hooks.enabled"),
      on_publish: urlsOf("vhost.http_hooks.on_publish"),
      on_unpublish: urlsOf("vhost.http_hooks.on_unpublish"),
      on_play: urlsOf("vhost.http_hooks.on_play"),
      on_stop: urlsOf("vhost.http_hooks.on_stop"),
      on_hls: urlsOf("vhost.http_hooks.on_hls"),
    },
    hls: {
      enabled: get("vhost.hls.enabled"),
      fragment: get("vhost.hls.hls_fragment"),
      window: get("vhost.hls.hls_window"),
      lowLatency: get("vhost.hls.hls_low_latency"),
      part: get("vhost.hls.hls_part"),
      format: get("vhost.hls.hls_format"),
      path: get("vhost.hls.hls_path"),
      cleanup: get("vhost.hls.hls_cleanup"),
      dispose: get("vhost.hls.hls_dispose"),
      keys: get("vhost.hls.hls_keys"),
      fragmentsPerKey: get("vhost.hls.hls_fragments_per_key"),
      onDemand: get("vhost.hls.on_demand"),
    },
    httpRemux: { enabled: get("vhost.http_remux.enabled"), mount: get("vhost.http_remux.mount") },
  };
}

type HookPath = `vhost.http_hooks.on_${"publish" | "unpublish" | "play" | "stop" | "hls"}`;

/** Allow and deny as they stood in the file. */
function rulesIn(scope: Scope): readonly AccessRule[] {
  const stated: { order: number; rules: readonly AccessRule[] }[] = [];
  for (const path of ["vhost.security.deny", "vhost.security.allow"] as const) {
    for (let at = scope.get(path); at !== undefined; at = at.before) {
      stated.push({ order: at.order, rules: at.value as ValueAt<typeof path> });
    }
  }
  return stated.sort((a, b) => a.order - b.order).flatMap(({ rules }) => rules);
}

function buildAuth(globals: Scope, problems: ConfigProblem[]): ApiAuthConfig {
  const get = <P extends DirectivePath>(path: P): ValueAt<P> => valueIn(globals, path);
  const auth = {
    enabled: get("http_api.auth.enabled"),
    username: get("http_api.auth.username"),
    password: get("http_api.auth.password"),
    token: get("http_api.auth.token"),
  };
  if (!auth.enabled) return auth;
  const { file, line } = globals.get("http_api.auth.enabled") ?? {};
  const report = (message: string): void => void problems.push({ file, line, message: `http_api.auth.enabled on: ${message}` });
  if (auth.username === "" && auth.password === "" && auth.token === "") {
    report("nobody could get in: give username and password, or token, or both");
  } else if ((auth.username === "") !== (auth.password === "")) {
    report(`${auth.username === "" ? "username" : "password"} is missing: name and password are given together`);
  }
  return auth;
}

/** The stated value of a path, or its default; both were made by the same row's parser, which is what the cast says. */
function valueIn<P extends DirectivePath>(scope: Scope, path: P): ValueAt<P> {
  const stated = scope.get(path);
  if (stated !== undefined) return stated.value as ValueAt<P>;
  const directive: (typeof DIRECTIVES)[P] = DIRECTIVES[path];
  return directive.value.parse(splitDefault(directive.default)) as ValueAt<P>;
}

function splitDefault(written: string | undefined): string[] {
  if (written === undefined) return [];
  return written === "" ? [""] : written.split(/\s+/);
}

/** The listeners that cannot share a port. (API, HTTP server and WebRTC over TCP can.) */
function checkPorts(config: Config, globals: Scope, problems: ConfigProblem[]): void {
  const http = [
    { path: "http_api.listen", on: config.httpApi.enabled, listen: config.httpApi.listen },
    {
      path: "http_api.https.listen",
      on: config.httpApi.enabled && config.httpApi.https.enabled,
      listen: config.httpApi.https.listen,
    },
    { path: "http_server.listen", on: config.httpServer.enabled, listen: config.httpServer.listen },
    {
      path: "http_server.https.listen",
      on: config.httpServer.enabled && config.httpServer.https.enabled,
      listen: config.httpServer.https.listen,
    },
    {
      path: "signaling.standalone.listen",
      on: config.signaling.enabled && config.signaling.standalone.enabled,
      listen: config.signaling.standalone.listen,
    },
  ] as const;
  const rtmp = [
    { path: "listen", on: true, listen: config.listen },
    { path: "rtmps.listen", on: config.rtmps.enabled, listen: config.rtmps.listen },
  ] as const;
  const pairs = [...http.map((other) => [rtmp[0], other] as const), ...http.map((other) => [rtmp[1], other] as const), rtmp];
  for (const [a, b] of pairs) {
    if (!a.on || !b.on) continue;
    const shared = a.listen.find((one) => b.listen.some((other) => overlap(one, other)));
    if (shared === undefined) continue;
    const stated = globals.get(b.path) ?? globals.get(a.path);
    const message = `port ${shared.port} is wanted by both ${a.path} and ${b.path}; give one of them another port`;
    problems.push({ file: stated?.file, line: stated?.line, message });
  }
}

/** Two listeners that cannot both be opened. A wildcard of either family may take the other's too. */
function overlap(a: ListenAddress, b: ListenAddress): boolean {
  const isWildcard = ({ host }: ListenAddress): boolean => host === undefined || host === "0.0.0.0" || host === "::";
  return a.port === b.port && a.port !== 0 && (isWildcard(a) || isWildcard(b) || a.host === b.host);
}
