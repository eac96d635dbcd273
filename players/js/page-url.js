// From a page's query string to the URL it talks to. Pure: no window, so that it can be tested anywhere.

/** Parameters that say where the gateway is; every other one is passed on to the stream URL. */
const OWN = new Set(["server", "vhost", "port", "app", "stream", "schema", "autostart", "api", "path"]);

/**
 * The WHEP or WHIP URL a page's query asks for.
 *
 * Without `server`, `port` and `api` the page talks to where it came from: the HTTP server's port has the endpoints too.
 * With `server` alone the API's default port is taken, 1985 for http and 1990 for https.
 *
 * @param {"whep" | "whip"} kind
 * @param {{ protocol: string, host: string, hostname: string, search: string, pathname: string }} location the page's own address
 * @returns {string}
 */
export function endpointUrl(kind, location) {
  const query = new URLSearchParams(location.search);
  const value = (key) => query.get(key) || undefined;
  const isWeb = location.protocol === "http:" || location.protocol === "https:";
  const schema = (value("schema") ?? (isWeb ? location.protocol : "http")).replace(/:$/, "");
  const port = value("api") ?? value("port");
  const path =
    value("path") ??
    (value("server") === undefined && port === undefined && isWeb ? pathBeside(kind, location.pathname) : `/rtc/v1/${kind}/`);

  let host = isWeb ? location.host : "127.0.0.1:1985";
  if (value("server") !== undefined || port !== undefined || !isWeb) {
    const name = value("server") ?? (location.hostname || "127.0.0.1");
    host = `${bracketed(name)}:${port ?? (schema === "https" ? "1990" : "1985")}`;
  }

  const parameters = new URLSearchParams();
  parameters.set("app", value("app") ?? "live");
  parameters.set("stream", value("stream") ?? "livestream");
  if (value("vhost") !== undefined) parameters.set("vhost", query.get("vhost"));
  for (const [key, text] of query) if (!OWN.has(key)) parameters.append(key, text);
  return `${schema}://${host}${path.startsWith("/") ? path : `/${path}`}?${parameters}`;
}

/**
 * The URL of an HTTP-FLV or WebSocket-FLV stream (or a playlist) that a page's query asks for: `stream=x.flv`; without an ending, `.flv`.
 *
 * Without `server` and `port` it is taken from where the page came from; with `server` alone from the HTTP server's default port, 8080,
 * or 8088 for https.
 */
export function mediaUrl(location) {
  const query = new URLSearchParams(location.search);
  const value = (key) => query.get(key) || undefined;
  const isWeb = location.protocol === "http:" || location.protocol === "https:";
  const schema = (value("schema") ?? (isWeb ? location.protocol : "http")).replace(/:$/, "");
  let host = isWeb ? location.host : "127.0.0.1:8080";
  if (value("server") !== undefined || value("port") !== undefined || !isWeb) {
    const secure = schema === "https" || schema === "wss";
    host = `${bracketed(value("server") ?? (location.hostname || "127.0.0.1"))}:${value("port") ?? (secure ? "8088" : "8080")}`;
  }
  const isBeside = isWeb && value("server") === undefined && value("port") === undefined;
  const base = value("path") ?? (isBeside ? prefixOf(location.pathname) : "");
  const name = value("stream") ?? "livestream";
  const file = /\.\w{2,4}$/.test(name) ? name : `${name}.flv`;
  const path = [value("app") ?? "live", file]
    .flatMap((part) => part.split("/"))
    .map(encodeURIComponent)
    .join("/");
  const parameters = new URLSearchParams();
  if (value("vhost") !== undefined) parameters.set("vhost", query.get("vhost"));
  for (const [key, text] of query) if (!OWN.has(key)) parameters.append(key, text);
  const rest = parameters.toString();
  return `${schema}://${host}${base.replace(/\/$/, "")}/${path}${rest && `?${rest}`}`;
}

/**
 * The `webrtc://host/app/stream` address of the older signaling that a page's query asks for. It names a port only when the query does:
 * the API's.
 */
export function legacyUrl(location) {
  const query = new URLSearchParams(location.search);
  const value = (key) => query.get(key) || undefined;
  const port = value("api") ?? value("port");
  const host = `${bracketed(value("server") ?? (location.hostname || "127.0.0.1"))}${port === undefined ? "" : `:${port}`}`;
  const path = [value("app") ?? "live", value("stream") ?? "livestream"]
    .flatMap((part) => part.split("/"))
    .map(encodeURIComponent);
  const parameters = new URLSearchParams();
  if (value("vhost") !== undefined) parameters.set("vhost", query.get("vhost"));
  for (const [key, text] of query) if (!OWN.has(key)) parameters.append(key, text);
  const rest = parameters.toString();
  return `webrtc://${host}/${path.join("/")}${rest && `?${rest}`}`;
}

/** Base address, with a final slash, of the API that a `webrtc://` address is played and published by. */
export function legacyApi(url, location) {
  const query = new URLSearchParams(location.search);
  const isWeb = location.protocol === "http:" || location.protocol === "https:";
  const schema = (query.get("schema") || (isWeb ? location.protocol : "http")).replace(/:$/, "");
  const { hostname } = new URL(url.replace(/^webrtc:/, "http:"));
  const explicit = /^webrtc:\/\/(?:\[[^\]]*\]|[^/:?#]*):(\d+)/.exec(url)?.[1] ?? "";
  if (isWeb && explicit === "" && hostname === location.hostname) {
    return `${location.protocol}//${location.host}${prefixOf(location.pathname)}/`;
  }
  return `${schema}://${hostname}:${explicit || (schema === "https" ? "1990" : "1985")}/`;
}

/**
 * Which stream an address of any of the pages means.
 *
 * @returns {{ app: string, stream: string, vhost?: string } | undefined} undefined: no address
 */
export function streamOf(address, base) {
  let url;
  try {
    url = new URL(address, base);
  } catch {
    return undefined;
  }
  const vhost = url.searchParams.get("vhost") ?? undefined;
  const isPath = url.protocol === "webrtc:" || /\.\w{2,4}$/.test(url.pathname);
  if (!isPath) {
    const value = (key, fallback) => url.searchParams.get(key) || fallback;
    return { app: value("app", "live"), stream: value("stream", "livestream"), ...(vhost !== undefined && { vhost }) };
  }
  const parts = url.pathname
    .replace(/\.(flv|m3u8)$/, "")
    .split("/")
    .filter(Boolean)
    .map(decoded);
  const stream = parts.pop() ?? "livestream";
  return { app: parts.join("/") || "live", stream, ...(vhost !== undefined && { vhost }) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function bracketed(name) {
  return name.includes(":") && !name.startsWith("[") ? `[${name}]` : name;
}

function pathBeside(kind, pathname) {
  return `${prefixOf(pathname)}/rtc/v1/${kind}/`;
}

/** Pages live in `players/` or `demos/` beside `rtc/`: also when a proxy has put all of it under a path of its own. */
function prefixOf(pathname) {
  return /^(.*)\/(?:players|demos)\//.exec(pathname)?.[1] ?? "";
}

/** @returns {boolean} whether the page shall begin by itself */
export function wantsAutostart(search) {
  return /^(true|on|1)$/.test(new URLSearchParams(search).get("autostart") ?? "");
}
