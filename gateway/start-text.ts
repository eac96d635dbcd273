// What the command prints for people: where to push and watch once it runs, and why it could not start.

import { networkInterfaces } from "node:os";

import { type Config, DEFAULT_VHOST, type ListenAddress, vhostFor } from "./config/config.js";

export type StartFacts = {
  readonly version: string;
  /** Where the gateway listens, with ports that were asked for as 0. */
  readonly addresses: {
    readonly rtmp: readonly ListenAddress[];
    readonly http: readonly (ListenAddress & { readonly directive: string })[];
    /** Undefined when WebRTC does not run. */
    readonly rtcPort: number | undefined;
  };
  readonly ffmpeg: { readonly path: string; readonly version: string } | undefined;
  /** What is missing on this machine, as sentences. */
  readonly shortcomings: readonly string[];
  /** This is a clone of the repository, which has `npm run demo`, not an installed package. */
  readonly hasDemo: boolean;
};

/** The block printed once the gateway runs. */
export function describeStarted(config: Config, { version, addresses, ffmpeg, shortcomings, hasDemo }: StartFacts): string {
  const opened = (directive: string, configured: readonly ListenAddress[]): readonly ListenAddress[] => {
    const found = addresses.http.filter((address) => address.directive === directive);
    return found.length > 0 ? found : configured;
  };
  const rtmp = urlOf("rtmp", addresses.rtmp.length > 0 ? addresses.rtmp : config.listen);
  const pages = urlOf("http", opened("http_server.listen", config.httpServer.listen));
  const api = urlOf("http", opened("http_api.listen", config.httpApi.listen));
  const playsRtc = addresses.rtcPort !== undefined && config.httpApi.enabled;

  const lines: [string, string][] = [
    ["push to", `${rtmp}/live/livestream`],
    ["in OBS", `server ${rtmp}/live   stream key livestream`],
  ];
  if (config.httpServer.enabled) lines.push(["watch at", playsRtc ? `${pages}/players/whep.html?autostart=true` : `${pages}/`]);
  const { httpRemux, hls } = vhostFor(config, DEFAULT_VHOST);
  if (config.httpServer.enabled && httpRemux.enabled && httpRemux.mount === "[vhost]/[app]/[stream].flv") {
    lines.push(["HTTP-FLV", `${pages}/live/livestream.flv`]);
  }
  if (config.httpServer.enabled && hls.enabled) lines.push(["HLS", `${pages}/live/livestream.m3u8`]);
  if (playsRtc) {
    lines.push(["WHEP", `${api}/rtc/v1/whep/?app=live&stream=livestream`]);
    const { protocol, tcp } = config.rtcServer;
    const udp = protocol === "tcp" && tcp.enabled ? "" : `UDP port ${addresses.rtcPort}`;
    const streams = protocol === "udp" || !tcp.enabled ? "" : `TCP port ${tcp.listen.map(({ port }) => port).join(", ")}`;
    lines.push(["media", `${[udp, streams].filter((text) => text !== "").join(" and ")}${describeCandidates(config)}`]);
  }
  if (config.rtmps.enabled) lines.push(["RTMPS", `${urlOf("rtmps", config.rtmps.listen)}/live/livestream`]);
  for (const [name, { enabled, listen, cert }, path] of [
    ["HTTPS", config.httpServer.https, "http_server.https.listen"],
    ["HTTPS API", config.httpApi.https, "http_api.https.listen"],
  ] as const) {
    if (enabled)
      lines.push([name, `${urlOf("https", opened(path, listen))}/${cert === "" ? "   (self-signed: browsers ask once)" : ""}`]);
  }
  const address = lanAddress();
  if (address !== undefined && isEverywhere(config.listen)) lines.push(["from afar", `${address} instead of localhost`]);
  if (ffmpeg !== undefined) lines.push(["ffmpeg", `${ffmpeg.path} (${ffmpeg.version})`]);
  for (const shortcoming of shortcomings) lines.push(["missing", shortcoming]);
  lines.push(["settings", config.file ?? "environment only"]);

  const width = Math.max(...lines.map(([name]) => name.length));
  const table = lines.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`).join("\n");
  return `Sluice ${version} is running. Ctrl-C ends it${hasDemo ? '; "npm run demo" pushes a test picture' : ""}.\n\n${table}\n`;
}

/** Where viewers are told to send media: the usual reason for a player that stays black. */
function describeCandidates({ rtcServer }: Config): string {
  const { candidate, listen, useAutoDetectNetworkIp } = rtcServer;
  if (!candidate.includes("*")) return `; viewers are sent to ${candidate.join(", ")}`;
  const address = isEverywhere(listen) && useAutoDetectNetworkIp ? lanAddress() : undefined;
  return address === undefined ? "" : `; viewers are sent to ${address}; where they know another address: CANDIDATE=…`;
}

/** Why the gateway could not start, with the directive to change. */
export function describeStartFailure(error: unknown, config: Config): string {
  const { code, port, address, syscall, message } = error as Partial<
    Record<"code" | "address" | "syscall" | "message", string>
  > & {
    port?: number;
  };
  const directive = port === undefined ? undefined : directiveOfPort(config, port, syscall === "bind" ? "udp" : "tcp");
  if (directive !== undefined && port !== undefined) {
    const where = `port ${port} (${directive.path}, ${directive.what})`;
    const other = `or choose another: SRS_${directive.path.toUpperCase().replaceAll(".", "_")}=${port === 65535 ? 1024 : port + 1}`;
    if (code === "EADDRINUSE")
      return `cannot start: ${where} is taken by another program, perhaps another Sluice; end that one, ${other}`;
    if (code === "EACCES") return `cannot start: ${where} needs more rights (ports under 1024 do), ${other}`;
    if (code === "EADDRNOTAVAIL") return `cannot start: ${where}: this machine has no address ${address}; see ${directive.path}`;
  }
  // Errors of the language are bugs of ours, and their stack is what helps.
  const isBug = error instanceof TypeError || error instanceof ReferenceError || error instanceof RangeError;
  const text = isBug ? error.stack : (message ?? String(error));
  const isTaken = /\btaken\b/.test(text ?? "") && !/another port/.test(text ?? "");
  return `cannot start: ${text}${isTaken ? ", perhaps another Sluice; end that one, or choose another port, as in SRS_LISTEN=1936 npm start" : ""}`;
}

function directiveOfPort(config: Config, port: number, transport: "udp" | "tcp"): { path: string; what: string } | undefined {
  const listeners: readonly (readonly [string, string, "udp" | "tcp", readonly ListenAddress[]])[] = [
    ["listen", "RTMP", "tcp", config.listen],
    ["rtmps.listen", "RTMPS", "tcp", config.rtmps.listen],
    ["http_api.listen", "HTTP API", "tcp", config.httpApi.listen],
    ["http_api.https.listen", "HTTPS API", "tcp", config.httpApi.https.listen],
    ["http_server.listen", "HTTP server", "tcp", config.httpServer.listen],
    ["http_server.https.listen", "HTTPS server", "tcp", config.httpServer.https.listen],
    ["rtc_server.listen", "WebRTC media, UDP", "udp", config.rtcServer.listen],
    ["rtc_server.tcp.listen", "WebRTC media, TCP", "tcp", config.rtcServer.tcp.listen],
  ];
  const candidates = listeners.filter(([, , , listen]) => listen.some((address) => address.port === port));
  const [path, what] = candidates.find(([, , kind]) => kind === transport) ?? candidates[0] ?? [];
  return path === undefined || what === undefined ? undefined : { path, what };
}

function urlOf(scheme: keyof typeof USUAL_PORTS, listen: readonly ListenAddress[]): string {
  const { host = "localhost", port = 0 } = listen[0] ?? {};
  const name = isEverywhere(listen) ? "localhost" : host.includes(":") ? `[${host}]` : host;
  return `${scheme}://${name}${port === USUAL_PORTS[scheme] ? "" : `:${port}`}`;
}

const USUAL_PORTS = { http: 80, https: 443, rtmp: 1935, rtmps: 443 } as const;

function isEverywhere(listen: readonly ListenAddress[]): boolean {
  return listen.some(({ host }) => host === undefined || host === "0.0.0.0" || host === "::");
}

/** The first IPv4 address that other machines may know this one by. */
function lanAddress(): string | undefined {
  for (const addresses of Object.values(networkInterfaces())) {
    const found = addresses?.find(({ family, internal }) => family === "IPv4" && !internal);
    if (found !== undefined) return found.address;
  }
  return undefined;
}
