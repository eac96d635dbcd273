// IP addresses as text and as bytes, without node:net so that engines can use them.

/** Bytes of an IPv4 (4) or IPv6 (16) address, an IPv4-mapped IPv6 address as IPv4; undefined when it is neither. */
export function addressBytes(address: string): Buffer | undefined {
  if (!address.includes(":")) return ipv4Bytes(address);
  const zone = address.indexOf("%");
  const bytes = ipv6Bytes(zone === -1 ? address : address.slice(0, zone));
  if (bytes === undefined) return undefined;
  return bytes.subarray(0, 12).equals(MAPPED_PREFIX) ? bytes.subarray(12) : bytes;
}

/** Text of 4 or 16 address bytes; IPv6 in full form without compression (RFC 4291 section 2.2, form 1). */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(bytes.readUInt16BE(at).toString(16));
  return groups.join(":");
}

/** True for 127.0.0.0/8 and ::1. */
export function isLoopback(address: string): boolean {
  const bytes = addressBytes(address);
  if (bytes === undefined) return false;
  return bytes.length === 4 ? bytes[0] === 127 : bytes.equals(LOOPBACK_V6);
}

/**
 * Who can reach an address: `loopback`, the machine itself; `private`, its network (RFC 1918, 6598, 3927, 4193, 4291); `public`, everybody,
 * as far as its form tells; `name` when it is no address.
 */
export function scopeOf(address: string): "loopback" | "private" | "public" | "name" {
  const bytes = addressBytes(address);
  if (bytes === undefined) return "name";
  if (isLoopback(address)) return "loopback";
  const [first = 0, second = 0] = bytes;
  const isPrivate =
    bytes.length === 4
      ? first === 10 ||
        (first === 172 && second >= 16 && second < 32) ||
        (first === 192 && second === 168) ||
        (first === 169 && second === 254) ||
        (first === 100 && second >= 64 && second < 128)
      : (first & 0xfe) === 0xfc || (first === 0xfe && (second & 0xc0) === 0x80);
  return isPrivate ? "private" : "public";
}

function ipv4Bytes(address: string): Buffer | undefined {
  const parts = address.split(".");
  if (parts.length !== 4) return undefined;
  const bytes = Buffer.alloc(4);
  for (let index = 0; index < 4; index++) {
    const part = parts[index] ?? "";
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bytes[index] = Number(part);
  }
  return bytes;
}

function ipv6Bytes(address: string): Buffer | undefined {
  const halves = address.split("::");
  if (halves.length > 2) return undefined;
  const head = groupBytes(halves[0] ?? "");
  const tail = groupBytes(halves[1] ?? "");
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  return Buffer.concat([head, Buffer.alloc(missing), tail]);
}

function groupBytes(text: string): Buffer | undefined {
  if (text === "") return Buffer.alloc(0);
  const bytes: number[] = [];
  const groups = text.split(":");
  for (let index = 0; index < groups.length; index++) {
    const group = groups[index] ?? "";
    if (group.includes(".")) {
      const tail = index === groups.length - 1 ? ipv4Bytes(group) : undefined;
      if (tail === undefined) return undefined;
      bytes.push(...tail);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
    if (bytes.length > 16) return undefined;
  }
  return Buffer.from(bytes);
}

const MAPPED_PREFIX = Buffer.from("00000000000000000000ffff", "hex"); // RFC 4291 section 2.5.5.2
const LOOPBACK_V6 = Buffer.from("00000000000000000000000000000001", "hex");
