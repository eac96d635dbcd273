// Which addresses stand in an answer, and in which order (docs/architecture.md, "Candidates"). Pure: what the machine's interfaces
// and names are is handed in.

import { addressBytes, isLoopback } from "./address.js";
import type { Candidate } from "./sdp-answer.js";

export type CandidateSources = {
  /** `?eip=`: replaces everything else. */
  readonly requested: readonly string[];
  /** The directive `candidate`; `*` and the like mean: detect. */
  readonly configured: readonly string[];
  readonly detect: boolean;
  readonly family: "ipv4" | "ipv6" | "all";
  /** Addresses of the machine's interfaces. */
  readonly interfaces: readonly string[];
  /** The API request's host and what it resolves to, in the order wanted; empty when `api_as_candidates` is off. */
  readonly apiHosts: readonly string[];
  /** Port of the media sockets. */
  readonly port: number;
  /** Addresses the sockets are bound to when not to every address: others cannot be reached. Empty: all. */
  readonly boundTo: readonly string[];
};

/** In order of preference, without doubles. */
export function gatherCandidates(sources: CandidateSources): Candidate[] {
  const candidates: Candidate[] = [];
  const add = (address: string, port: number): void => {
    const same = (other: Candidate): boolean => other.address === address && other.port === port;
    if (!candidates.some(same) && candidates.length < MAX_CANDIDATES) candidates.push({ transport: "udp", address, port });
  };
  if (sources.requested.length > 0) {
    for (const text of sources.requested) {
      const host = parseHostPort(text);
      if (host !== undefined) add(host.address, host.port ?? sources.port);
    }
    if (candidates.length > 0) return candidates;
  }
  const wildcard = sources.configured.length === 0 || sources.configured.some((address) => WILDCARDS.has(address));
  for (const text of sources.configured) {
    const host = WILDCARDS.has(text) ? undefined : parseHostPort(text);
    if (host !== undefined) add(host.address, host.port ?? sources.port);
  }
  if (wildcard && sources.detect) {
    const usable = sources.interfaces.filter(
      (address) => isOfFamily(address, sources.family) && isBound(address, sources.boundTo),
    );
    for (const address of usable) if (!isLoopback(address)) add(address, sources.port);
    for (const address of usable) if (isLoopback(address)) add(address, sources.port);
  }
  for (const host of sources.apiHosts) {
    // Loopback names are left out unless nothing else is there.
    if ((isLoopback(host) || host === "localhost") && candidates.length > 0) continue;
    if (HOST.test(host)) add(host, sources.port);
  }
  return candidates;
}

/**
 * The candidates of an answer by the directive `protocol`: UDP ones first. One with a port of its own has it over TCP too.
 *
 * @param udpPort the media sockets' own
 * @param tcpPort undefined: nothing is served over TCP
 */
export function withTransports(
  udp: readonly Candidate[],
  protocol: "udp" | "tcp" | "all",
  udpPort: number,
  tcpPort: number | undefined,
): Candidate[] {
  if (protocol === "udp" || tcpPort === undefined) return [...udp];
  const tcp = udp.map(({ address, port }) => ({ transport: "tcp" as const, address, port: port === udpPort ? tcpPort : port }));
  return protocol === "tcp" ? tcp : [...udp, ...tcp];
}

/** `IP`, `IP:PORT`, `[v6]`, `[v6]:PORT`, `v6`, `name`, `name:PORT`; undefined when it is none of them. */
export function parseHostPort(text: string): { readonly address: string; readonly port: number | undefined } | undefined {
  if (addressBytes(text) !== undefined) return { address: text, port: undefined };
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const address = match[1] ?? match[2] ?? "";
  const port = match[3] === undefined ? undefined : Number(match[3]);
  if (port !== undefined && (port < 1 || port > 65535)) return undefined;
  if (match[1] !== undefined && addressBytes(address)?.length !== 16) return undefined;
  return HOST.test(address) || addressBytes(address) !== undefined ? { address, port } : undefined;
}

function isOfFamily(address: string, family: "ipv4" | "ipv6" | "all"): boolean {
  if (family === "all") return true;
  return (addressBytes(address)?.length === 4) === (family === "ipv4");
}

function isBound(address: string, boundTo: readonly string[]): boolean {
  return boundTo.length === 0 || boundTo.includes(address);
}

const MAX_CANDIDATES = 16;
const WILDCARDS: ReadonlySet<string> = new Set(["*", "0.0.0.0", "::", ""]);
const HOST = /^(?:[0-9a-fA-F:.]{2,45}|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)$/;
