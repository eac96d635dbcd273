// Which addresses stand in an answer, and in which order (docs/architecture.md, "Candidates"). Pure: what the machine's interfaces
// and names are is handed in.

import type { ListenAddress } from "../config/config.js";
import { Refusal } from "../media/errors.js";
import { addressBytes, addressText, isLoopback } from "./address.js";
import type { Candidate } from "./sdp-answer.js";

export type CandidateSources = {
  /** `?eip=`: replaces everything else. */
  readonly requested: readonly HostPort[];
  /** The directive `candidate`; `*` and the like mean: detect. */
  readonly configured: readonly string[];
  readonly detect: boolean;
  readonly family: AddressFamily;
  /** Addresses of the machine's interfaces. */
  readonly interfaces: readonly string[];
  /** The API request's host and what it resolves to, in the order wanted; empty when `api_as_candidates` is off. */
  readonly apiHosts: readonly string[];
  /** Where the media sockets are: addresses that none of them serves are not offered on their own account. */
  readonly listen: readonly ListenAddress[];
  /** The first media socket's port, for a `listen` of port 0. */
  readonly port: number;
};

export type AddressFamily = "ipv4" | "ipv6" | "all";
/** `address` may be a name; without a port the media sockets' own is meant. */
export type HostPort = { readonly address: string; readonly port: number | undefined };

/** In order of preference, without doubles. */
export function gatherCandidates(sources: CandidateSources): Candidate[] {
  const { requested, configured, family, listen } = sources;
  const candidates: Candidate[] = [];
  const add = ({ address, port }: HostPort): void => {
    const candidate: Candidate = { transport: "udp", address, port: port ?? portFor(address, sources) };
    const isSame = (other: Candidate): boolean => other.port === candidate.port && sameHost(other.address, address);
    if (!candidates.some(isSame) && candidates.length < MAX_CANDIDATES) candidates.push(candidate);
  };
  for (const host of requested) add(host);
  if (requested.length > 0) return candidates;

  for (const text of configured) {
    const host = WILDCARDS.has(text) ? undefined : parseHostPort(text);
    if (host !== undefined) add(host);
  }
  const isWildcard = configured.length === 0 || configured.some((address) => WILDCARDS.has(address));
  if (isWildcard && sources.detect) {
    const usable = sources.interfaces.filter(
      (address) => isOfFamily(address, family) && listen.some((socket) => serves(socket, address, family)),
    );
    for (const address of usable) if (!isLoopback(address)) add({ address, port: undefined });
    for (const address of usable) if (isLoopback(address)) add({ address, port: undefined });
  }
  for (const text of sources.apiHosts) {
    const host = parseHostPort(text);
    if (host === undefined || host.port !== undefined) continue;
    // Loopback names are left out unless nothing else is there.
    if (isLoopbackHost(host.address) && candidates.length > 0) continue;
    add(host);
  }
  return candidates;
}

export type Transports = {
  readonly protocol: "udp" | "tcp" | "all";
  readonly family: AddressFamily;
  /** Where UDP and TCP are served, and the port of the first with 0 resolved. */
  readonly udp: { readonly listen: readonly ListenAddress[]; readonly port: number };
  /** Undefined: not at all. */
  readonly tcp: { readonly listen: readonly ListenAddress[]; readonly port: number } | undefined;
};

/** The candidates of an answer by the directive `protocol`: UDP ones first. One that was given a port of its own has it over TCP too. */
export function withTransports(candidates: readonly Candidate[], { protocol, family, udp, tcp }: Transports): Candidate[] {
  if (protocol === "udp" || tcp === undefined) return [...candidates];
  const streams = candidates.map(({ address, port }) => {
    const isOurs = port === udp.port || udp.listen.some((listen) => listen.port === port);
    return { transport: "tcp" as const, address, port: isOurs ? portFor(address, { ...tcp, family }) : port };
  });
  return protocol === "tcp" ? streams : [...candidates, ...streams];
}

/** `?eip=`. @throws Refusal `bad-request` for what is neither an address that can be reached nor a name */
export function parseRequested(texts: readonly string[]): HostPort[] {
  return texts.map((text) => {
    const host = parseHostPort(text);
    if (host === undefined || addressBytes(host.address)?.every((byte) => byte === 0)) {
      throw new Refusal("bad-request", "eip: IP, IP:PORT, [v6]:PORT or a host name is expected, several joined by commas");
    }
    return host;
  });
}

/** True when a socket of that `listen` gets what is sent to the address. @param family what a `listen` without host means */
export function serves({ host }: ListenAddress, address: string, family: AddressFamily): boolean {
  if (host === undefined) return isOfFamily(address, family);
  if (host === "0.0.0.0") return isOfFamily(address, "ipv4");
  if (host === "::") return isOfFamily(address, "ipv6"); // the sockets of one family take nothing of the other
  return sameHost(host, address);
}

/** True when some socket is of the address's family. */
export function servesFamily(listen: readonly ListenAddress[], address: string, family: AddressFamily): boolean {
  const own = address.includes(":") ? "ipv6" : "ipv4";
  return listen.some(({ host }) => (host === undefined ? isOfFamily(address, family) : isOfFamily(host, own)));
}

/** The port of the first socket that serves the address; names are served by any. */
function portFor(address: string, { listen, family, port }: Pick<CandidateSources, "listen" | "family" | "port">): number {
  const socket =
    listen.find((one) => serves(one, address, family)) ?? listen.find((one) => servesFamily([one], address, family)) ?? listen[0];
  return socket === undefined || socket.port === 0 ? port : socket.port;
}

/** `IP`, `IP:PORT`, `[v6]`, `[v6]:PORT`, `v6`, `name`, `name:PORT`; undefined when it is none of them. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([^:[\]]{1,253}))(?::(\d{1,5}))?$/.exec(text);
  const bare = match === null ? text : (match[1] ?? match[2] ?? "");
  const port = match?.[3] === undefined ? undefined : Number(match[3]);
  if (port !== undefined && (port < 1 || port > 65535)) return undefined;
  const bytes = bare.includes("%") ? undefined : addressBytes(bare);
  if (bytes !== undefined) {
    if (match?.[1] !== undefined && !bare.includes(":")) return undefined;
    return { address: bytes.length === 4 ? addressText(bytes) : bare.toLowerCase(), port }; // IPv4-mapped ones as IPv4
  }
  if (match?.[2] === undefined || !HOST_NAME.test(bare) || NUMERIC.test(bare)) return undefined;
  return { address: bare, port };
}

function isOfFamily(address: string, family: AddressFamily): boolean {
  const size = addressBytes(address)?.length;
  return family === "all" ? size !== undefined : size === (family === "ipv4" ? 4 : 16);
}

function sameHost(a: string, b: string): boolean {
  if (a === b) return true;
  const bytes = addressBytes(a);
  const others = addressBytes(b);
  if (bytes === undefined || others === undefined) return a.toLowerCase() === b.toLowerCase();
  return bytes.equals(others);
}

function isLoopbackHost(host: string): boolean {
  return isLoopback(host) || /^(?:.+\.)?localhost\.?$/i.test(host); // RFC 6761 section 6.3
}

const MAX_CANDIDATES = 16;
const WILDCARDS: ReadonlySet<string> = new Set(["*", "0.0.0.0", "::", ""]);
/** RFC 1123 section 2.1, with the underscore that some networks' names have. */
const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*\.?$/;
/** What looks like an address and is none: no top-level domain is a number (RFC 3696 section 2). */
const NUMERIC = /(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/i;
