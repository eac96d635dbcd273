// Which stream an address of HTTP-FLV means: `/app/stream.flv`, by the vhost's `http_remux { mount }`.

import { DEFAULT_VHOST } from "../config/config.js";
import type { Selection } from "../hub/frame-fan-out.js";
import { checkName } from "../hub/names.js";
import type { StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import { MAX_QUERY } from "./offer-query.js";

/** What HTTP-FLV needs of a vhost. */
export type FlvVhost = {
  /** The configured vhost that serves the name. */
  readonly name: string;
  readonly httpRemux: { readonly enabled: boolean; readonly mount: string };
  /** queueLength: milliseconds a player may lag before it falls forward to a key frame. */
  readonly play: { readonly queueLength: number };
};

export type FlvTarget = {
  readonly name: StreamName;
  readonly vhost: FlvVhost;
  readonly selection: Selection;
  /** Query string with its `?`, or empty; for hooks. */
  readonly parameters: string;
};

/**
 * The stream that a URL is mounted at, or undefined when it is no address of HTTP-FLV. The vhost is `?vhost=`, else the host's name
 * when a vhost has it.
 *
 * @param url path and query of the request
 * @param host name of the Host header, without port
 * @param vhostOf the vhost that serves a name; undefined when there is none
 * @throws Refusal `bad-request`
 */
export function parseFlvUrl(url: string, host: string, vhostOf: (name: string) => FlvVhost | undefined): FlvTarget | undefined {
  const at = url.indexOf("?");
  const path = at < 0 ? url : url.slice(0, at);
  const query = at < 0 ? "" : url.slice(at + 1);
  if (!path.includes(".")) return undefined;
  const values = new URLSearchParams(query);
  const asked = values.get("vhost");
  const vhost = vhostOf(asked !== null && asked !== "" ? asked : host === "" ? DEFAULT_VHOST : host);
  if (vhost === undefined || !vhost.httpRemux.enabled) return undefined;
  const found = mountPattern(vhost.httpRemux.mount).exec(path)?.groups;
  if (found === undefined) return undefined;
  if (query.length > MAX_QUERY) throw new Refusal("bad-request", `The query string is longer than ${MAX_QUERY} characters.`);
  const name = {
    vhost: vhost.name,
    app: checkName("app", decoded(found["app"] ?? "live")),
    stream: checkName("stream", decoded(found["stream"] ?? "")),
  };
  return { name, vhost, selection: parseSelection(values.get("only")), parameters: query === "" ? "" : `?${query}` };
}

/** `[vhost]/[app]/[stream].flv` as a pattern over paths. The vhost stands for the host and is no part of the path. */
function mountPattern(mount: string): RegExp {
  const known = patterns.get(mount);
  if (known !== undefined) return known;
  const path = mount.replace(/^\/?\[vhost\]/, "").replace(/^\/?/, "/");
  const source = path
    .split(/(\[app\]|\[stream\])/)
    .map((part) => {
      if (part === "[app]") return "(?<app>[^?]+?)"; // may hold a slash, as in rtmp://host/a/b/stream
      return part === "[stream]" ? "(?<stream>[^/?]+)" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    })
    .join("");
  const pattern = new RegExp(`^${source}$`);
  patterns.set(mount, pattern); // as many as vhosts have different mounts
  return pattern;
}

const patterns = new Map<string, RegExp>();

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Refusal("bad-request", "The path is not percent-encoded UTF-8.");
  }
}

function parseSelection(only: string | null): Selection {
  if (only === null || only === "") return "all";
  if (only === "audio" || only === "video") return only;
  throw new Refusal("bad-request", "only: audio or video expected.");
}
