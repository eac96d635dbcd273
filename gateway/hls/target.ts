// What an address of HLS means: `/app/stream.m3u8` and the files that its playlists name.

import { DEFAULT_VHOST } from "../config/config.js";
import { checkName } from "../hub/names.js";
import type { StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import { type FileName, parseFileName } from "./names.js";

/** A vhost as HLS needs it. */
export type TargetVhost = { readonly name: string; readonly hls: { readonly enabled: boolean } };

export type HlsTarget =
  | {
      readonly kind: "playlist";
      readonly name: StreamName;
      /** The viewer's id in the query of the media playlist; undefined: the multivariant playlist is meant. */
      readonly context: string | undefined;
      readonly directives: DeliveryDirectives;
      /** The query without what HLS put into it, with its `?`, or empty. */
      readonly parameters: string;
    }
  | { readonly kind: "file"; readonly app: string; readonly file: FileName; readonly parameters: string };

/** Delivery directives, RFC 8216bis section 6.2.5. */
export type DeliveryDirectives = {
  readonly sequenceNumber: number | undefined;
  readonly part: number | undefined;
  readonly skip: boolean;
};

/**
 * @param path of the request, as it came
 * @param query without `?`
 * @param host name of the Host header, without port
 * @param vhostOf the vhost that serves a name; undefined when there is none
 * @returns undefined when it is no address of HLS
 * @throws Refusal `bad-request`
 */
export function parseTarget(
  path: string,
  query: string,
  host: string,
  vhostOf: (name: string) => TargetVhost | undefined,
): HlsTarget | undefined {
  const slash = path.lastIndexOf("/");
  if (slash < 2 || !ENDING.test(path)) return undefined;
  const isPlaylist = path.endsWith(PLAYLIST);
  const last = path.slice(slash + 1);
  const file = isPlaylist ? undefined : parseFileName(decoded(last));
  if (!isPlaylist && file === undefined) return undefined;
  const values = new URLSearchParams(query);
  if (file === undefined && vhostOf(vhostName(values, host))?.hls.enabled !== true) return undefined;
  if (query.length > MAX_QUERY) throw new Refusal("bad-request", `The query string is longer than ${MAX_QUERY} characters.`);
  const app = checkName("app", decoded(path.slice(1, slash)));
  const parameters = ownParameters(query);
  if (file !== undefined) return { kind: "file", app, file, parameters };
  const stream = checkName("stream", decoded(last.slice(0, -PLAYLIST.length)));
  if (stream === "") throw new Refusal("bad-request", "stream: a name is missing before .m3u8.");
  const vhost = vhostOf(vhostName(values, host))?.name ?? DEFAULT_VHOST;
  const context = values.get(CONTEXT);
  if (context !== null && !/^[\w-]{1,64}$/.test(context))
    throw new Refusal("bad-request", `${CONTEXT}: 1 to 64 letters expected.`);
  return {
    kind: "playlist",
    name: { vhost, app, stream },
    context: context ?? undefined,
    directives: parseDirectives(values),
    parameters,
  };
}

function vhostName(values: URLSearchParams, host: string): string {
  const asked = values.get("vhost");
  return asked !== null && asked !== "" ? asked : host === "" ? DEFAULT_VHOST : host;
}

/** @throws Refusal `bad-request` */
function parseDirectives(values: URLSearchParams): DeliveryDirectives {
  const number = (name: string): number | undefined => {
    const value = values.get(name);
    if (value === null) return undefined;
    if (!/^\d{1,15}$/.test(value)) throw new Refusal("bad-request", `${name}: a whole number expected.`);
    return Number(value);
  };
  const sequenceNumber = number("_HLS_msn");
  const part = number("_HLS_part");
  if (part !== undefined && sequenceNumber === undefined) throw new Refusal("bad-request", "_HLS_part: not without _HLS_msn.");
  const skip = values.get("_HLS_skip");
  if (skip !== null && skip !== "YES" && skip !== "v2") throw new Refusal("bad-request", "_HLS_skip: YES or v2 expected.");
  return { sequenceNumber, part, skip: skip !== null };
}

/** The query as the viewer gave it, for hooks and for the addresses in playlists. */
function ownParameters(query: string): string {
  const own = query.split("&").filter((pair) => pair !== "" && !/^(?:_HLS_\w+|hls_ctx)(?:=|$)/.test(pair));
  return own.length === 0 ? "" : `?${own.join("&")}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Refusal("bad-request", "The path is not percent-encoded UTF-8.");
  }
}

export const CONTEXT = "hls_ctx";
const PLAYLIST = ".m3u8";
const ENDING = /\.(?:m3u8|m4s|ts|mp4|key)$/;
const MAX_QUERY = 4096;
