// The query of WHIP and WHEP requests (docs, "WHIP and WHEP"): checked once, so that nothing behind it meets a hostile name.

import { DEFAULT_VHOST } from "../config/config.js";
import { checkName } from "../hub/names.js";
import type { StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";

export type OfferQuery = {
  readonly name: StreamName;
  readonly parameters: string;
  readonly candidates: readonly string[];
  readonly iceUsernameFragment?: string;
  readonly icePassword?: string;
  readonly videoCodec?: string;
  readonly audioCodec?: string;
};

/** Longest query string: more than any name and token needs, and hooks and logs carry it on. */
export const MAX_QUERY = 4096;
/** Candidates asked for by one request: each becomes a line in each m-section. */
const MAX_CANDIDATES = 8;

/**
 * @param query what follows the `?`
 * @throws Refusal `bad-request` naming the parameter
 */
export function parseOfferQuery(query: string): OfferQuery {
  if (query.length > MAX_QUERY) throw new Refusal("bad-request", `The query string is longer than ${MAX_QUERY} characters.`);
  const values = new URLSearchParams(query);
  const candidates = (values.get("eip") ?? values.get("candidate") ?? "").split(",").filter((candidate) => candidate !== "");
  if (candidates.length > MAX_CANDIDATES) throw new Refusal("bad-request", `eip: at most ${MAX_CANDIDATES} addresses.`);
  for (const candidate of candidates) {
    if (!CANDIDATE.test(candidate))
      throw new Refusal("bad-request", "eip: IP, IP:PORT, [v6]:PORT or a host name, joined by commas.");
  }
  const iceUsernameFragment = matching(values, ["ice-ufrag"], /^[A-Za-z0-9+/]{4,32}$/, "4 to 32 letters, digits, + or /");
  const icePassword = matching(values, ["ice-pwd"], /^[A-Za-z0-9+/]{22,32}$/, "22 to 32 letters, digits, + or /");
  const videoCodec = matching(values, ["vcodec", "codec"], CODEC, "a codec's name");
  const audioCodec = matching(values, ["acodec"], CODEC, "a codec's name");
  return {
    name: {
      vhost: nameOf(values, "vhost", DEFAULT_VHOST),
      app: nameOf(values, "app", "live"),
      stream: nameOf(values, "stream", "livestream"),
    },
    parameters: query === "" ? "" : `?${query}`,
    candidates,
    ...(iceUsernameFragment !== undefined && { iceUsernameFragment }),
    ...(icePassword !== undefined && { icePassword }),
    ...(videoCodec !== undefined && { videoCodec: videoCodec.toLowerCase() }),
    ...(audioCodec !== undefined && { audioCodec: audioCodec.toLowerCase() }),
  };
}

const CODEC = /^[A-Za-z0-9.-]{1,32}$/;
/**
 * An IPv4 address or name, perhaps with a port; or an IPv6 address, bare or in brackets with a port. Only its characters: whoever takes
 * the offer refuses what is neither an address nor a name.
 */
const CANDIDATE = /^(?:[A-Za-z0-9._-]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?|[0-9A-Fa-f:.]{2,45})$/;

function nameOf(values: URLSearchParams, key: string, fallback: string): string {
  const value = values.get(key);
  return value === null || value === "" ? fallback : checkName(key, value);
}

function matching(values: URLSearchParams, keys: readonly string[], pattern: RegExp, expected: string): string | undefined {
  for (const key of keys) {
    const value = values.get(key);
    if (value === null || value === "") continue;
    if (!pattern.test(value)) throw new Refusal("bad-request", `${key}: ${expected} expected.`);
    return value;
  }
  return undefined;
}
