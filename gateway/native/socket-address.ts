// struct sockaddr_in and sockaddr_in6 from and to text.

import { isIPv4, isIPv6 } from "node:net";
import { networkInterfaces } from "node:os";

import { AF_INET, AF_INET6 } from "./libc.js";

/** A socket address as the kernel takes it; `words` are copied into each message header. */
export type SocketAddress = {
  readonly family: "IPv4" | "IPv6";
  /** 28 bytes; an IPv4 address fills the first 16. */
  readonly words: Int32Array;
  /** 16 or 28. */
  readonly length: number;
};

/** @returns undefined when the text is no address, or the port none */
export function parseSocketAddress(address: string, port: number): SocketAddress | undefined {
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) return undefined;
  const bytes = Buffer.alloc(SOCKADDR_IN6_SIZE);
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, SOCKADDR_IN6_SIZE / 4);
  bytes.writeUInt16BE(port, 2);
  if (isIPv4(address)) {
    // struct sockaddr_in { sa_family_t family; in_port_t port; struct in_addr addr; char zero[8]; }
    bytes.writeUInt16LE(AF_INET, 0);
    writeIPv4(bytes, 4, address);
    return { family: "IPv4", words, length: SOCKADDR_IN_SIZE };
  }
  if (!isIPv6(address)) return undefined;
  // struct sockaddr_in6 { sa_family_t family; in_port_t port; uint32_t flowinfo; struct in6_addr addr; uint32_t scope_id; }
  bytes.writeUInt16LE(AF_INET6, 0);
  const [plain = "", zone] = address.split("%");
  writeIPv6(bytes, 8, plain);
  if (zone !== undefined) bytes.writeUInt32LE(scopeOf(zone), 24);
  return { family: "IPv6", words, length: SOCKADDR_IN6_SIZE };
}

/**
 * The address in a struct sockaddr_in or sockaddr_in6, as Node writes it: IPv6 compressed (RFC 5952), with a zone when it has a scope.
 *
 * @param offset where it begins
 */
export function socketAddressText(bytes: Buffer, offset: number): string {
  if (bytes.readUInt16LE(offset) === AF_INET) return bytes.subarray(offset + 4, offset + 8).join(".");
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(offset + 8 + index * 2));
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (isMapped) return `::ffff:${bytes.subarray(offset + 20, offset + 24).join(".")}`;
  const text = compress(groups);
  const scope = bytes.readUInt32LE(offset + 24);
  return scope === 0 ? text : `${text}%${zoneOf(scope)}`;
}

/** The longest run of two or more zero groups, the first of equal ones, becomes `::` (RFC 5952 section 4.2). */
function compress(groups: readonly number[]): string {
  let best = { start: 0, length: 1 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
  if (best.length === 1) return text(groups);
  return `${text(groups.slice(0, best.start))}::${text(groups.slice(best.start + best.length))}`;
}

function zoneOf(scope: number): string {
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    if (entries?.some((entry) => entry.family === "IPv6" && entry.scopeid === scope)) return name;
  }
  return String(scope);
}

function writeIPv4(out: Buffer, offset: number, address: string): void {
  for (const [index, part] of address.split(".").entries()) out[offset + index] = Number(part);
}

function writeIPv6(out: Buffer, offset: number, address: string): void {
  const dotted = /(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address); // ::ffff:1.2.3.4
  const text = dotted ? `${dotted[1]}${hexPair(dotted[2], dotted[3])}:${hexPair(dotted[4], dotted[5])}` : address;
  const [head = "", tail] = text.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  for (const [index, group] of before.entries()) out.writeUInt16BE(Number.parseInt(group, 16), offset + index * 2);
  for (const [index, group] of after.entries())
    out.writeUInt16BE(Number.parseInt(group, 16), offset + (8 - after.length + index) * 2);
}

function hexPair(high: string | undefined, low: string | undefined): string {
  return (Number(high) * 256 + Number(low)).toString(16);
}

/** A zone is an interface's number or its name (RFC 4007 section 11.2). */
function scopeOf(zone: string): number {
  if (/^\d{1,9}$/.test(zone)) return Number(zone);
  return networkInterfaces()[zone]?.find((entry) => entry.family === "IPv6")?.scopeid ?? 0;
}

export const SOCKADDR_IN_SIZE = 16;
export const SOCKADDR_IN6_SIZE = 28;
