// UDP sockets of the gateway: one per local address beside the wildcard, so that an answer leaves from the address it was asked at.
//
// A socket bound to the wildcard answers from whatever address routing picks, and a browser that asked 127.0.0.1 drops that answer.
// On Linux the sockets are made and read natively: only so can several share a port without leaving it open to other processes, and
// what many peers send be taken by one system call. Elsewhere dgram makes them, one per address and no wildcard.

import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";

import {
  AF_INET,
  AF_INET6,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  type LibC,
  loadLibC,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEADDR,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from "./libc.js";
import { NativeUnavailable } from "./library.js";
import type { OnDatagram } from "./receive-queue.js";
import { NativeReceiver } from "./receiver.js";
import { parseSocketAddress } from "./socket-address.js";

/** `host` undefined: every address of this machine. Port 0: any free one, the same for all addresses. */
export type UdpListen = { readonly host: string | undefined; readonly port: number };

export type LocalSocket = {
  readonly address: string;
  readonly family: "IPv4" | "IPv6";
  readonly port: number;
  /** For sending natively; undefined where dgram made the socket. */
  readonly fd: number | undefined;
  /** Where dgram made it. */
  readonly socket: Socket | undefined;
};

export type UdpOptions = {
  readonly listen: readonly UdpListen[];
  /** Promises and next ticks that it starts may wait for the end of the turn. */
  readonly onDatagram: OnDatagram;
  /** Named in the message when a port is taken. Default `rtc_server.listen`. */
  readonly directive?: string;
  /** Which families of addresses `host: undefined` means. Default `all`. */
  readonly family?: "ipv4" | "ipv6" | "all";
  /** Bytes of the kernel's buffers asked for; the system may grant less. Default 8 MiB. */
  readonly bufferSize?: number;
  /** Leaves native sockets out. Default false. */
  readonly portable?: boolean;
};

export class UdpSockets {
  /** The index of a socket in here is the `socket` of an Endpoint. */
  readonly sockets: readonly LocalSocket[];
  readonly #close: () => Promise<void>;
  #isClosed = false;

  /** @param close closes all of them, called once */
  constructor(sockets: readonly LocalSocket[], close: () => Promise<void>) {
    this.sockets = sockets;
    this.#close = close;
  }

  /** The port of the first `listen`, with 0 resolved. */
  get port(): number {
    return this.sockets[0]?.port ?? 0;
  }

  /** Closes all sockets; resolves when their descriptors are gone. Whoever sends natively must have stopped before. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#close();
  }
}

/** @throws Error naming address, port and directive when a port is taken or an address is not this machine's */
export async function openUdpSockets(options: UdpOptions): Promise<UdpSockets> {
  try {
    const libc = options.portable ? undefined : tryLibC();
    return libc === undefined ? await openPortable(options) : openNative(libc, options);
  } catch (error) {
    const directive = options.directive ?? "rtc_server.listen";
    throw error instanceof BindError ? new Error(`${error.message}; set another port with ${directive}`) : error;
  }
}

function openNative(libc: LibC, options: UdpOptions): UdpSockets {
  const opened: Bound[] = [];
  const receiver = new NativeReceiver(libc, options.onDatagram);
  const close = (): void => {
    receiver.close();
    for (const { fd } of opened) libc.close(fd);
  };
  try {
    for (const plan of planBinds(options)) opened.push(...bindNative(libc, plan, options));
    for (const [index, { fd }] of opened.entries()) receiver.add(fd, index);
  } catch (error) {
    close();
    throw error;
  }
  return new UdpSockets(
    opened.map((bound) => ({ ...bound, socket: undefined })),
    async () => close(),
  );
}

async function openPortable(options: UdpOptions): Promise<UdpSockets> {
  const opened: { readonly local: LocalSocket; readonly socket: Socket }[] = [];
  try {
    for (const plan of planBinds(options)) opened.push(...(await bindPortable(plan)));
  } catch (error) {
    for (const { socket } of opened) socket.close();
    throw error;
  }
  for (const [index, { socket }] of opened.entries()) {
    socket.on("message", (datagram, from) =>
      options.onDatagram(datagram, { socket: index, address: from.address, port: from.port }, false),
    );
    socket.on("error", () => {}); // an ICMP error of some peer; sessions notice silence by themselves
  }
  return new UdpSockets(
    opened.map(({ local }) => local),
    async () => {
      await new Promise((resolve) => setImmediate(resolve)); // dgram sends a turn late, and the last words are the goodbyes
      await Promise.all(opened.map(({ socket }) => new Promise<void>((resolve) => socket.close(() => resolve()))));
    },
  );
}

/** What one `listen` comes to: wildcards or an address, all on one port. */
type BindPlan = {
  readonly hosts: readonly string[];
  readonly port: number;
  /** The machine may lack a family, or an address may go away: nobody has named it. */
  readonly isLenient: boolean;
  readonly bufferSize: number;
};

/**
 * `8000` and `[::]:8000` together, or `8000` and `127.0.0.1:8000`: what an earlier wildcard serves already is not bound again. Wildcards
 * come first, since they may not be bound while somebody holds an address of the port.
 */
function planBinds(options: UdpOptions): BindPlan[] {
  const taken = new Set<string>();
  const familyOf = (host: string): string => (host.includes(":") ? "IPv6" : "IPv4");
  const wide = options.listen.filter(({ host }) => host === undefined || WILDCARDS.has(host));
  const narrow = options.listen.filter((listen) => !wide.includes(listen));
  return [...wide, ...narrow].flatMap((listen) => {
    const { port } = listen;
    const hosts = wildcardsOf(listen, options).filter((host) => port === 0 || !taken.has(`${familyOf(host)} ${port}`));
    for (const host of hosts) if (WILDCARDS.has(host)) taken.add(`${familyOf(host)} ${port}`);
    if (hosts.length === 0) return [];
    return [{ hosts, port, isLenient: listen.host === undefined, bufferSize: options.bufferSize ?? DEFAULT_BUFFER }];
  });
}

type Bound = { readonly fd: number; readonly address: string; readonly family: "IPv4" | "IPv6"; readonly port: number };

class BindError extends Error {
  readonly code: string;

  constructor(code: string, address: string, port: number) {
    const where = address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
    const why = code === "EADDRINUSE" ? "is taken by another program" : `cannot be used (${code})`;
    super(`UDP port ${port}: ${where} ${why}`);
    this.code = code;
  }
}

/**
 * The order closes the door on others: the wildcard is bound without SO_REUSEADDR, which fails if anybody holds the port on any
 * address; then SO_REUSEADDR lets the specific addresses join; then it is taken off again, so that no later program can (Linux looks
 * at the flags of both sockets at the time of the second bind).
 */
function bindNative(libc: LibC, plan: BindPlan, options: UdpOptions): Bound[] {
  for (let attempt = 1; ; attempt++) {
    const bound: Bound[] = [];
    try {
      for (const host of plan.hosts) {
        try {
          bound.push(bindOne(libc, host, bound[0]?.port ?? plan.port, false, options));
        } catch (error) {
          const isMissing = error instanceof BindError && NO_FAMILY.has(error.code) && plan.isLenient;
          if (!isMissing) throw error; // a machine may have IPv6 switched off
        }
      }
      const first = bound[0];
      if (first === undefined) throw new BindError("EAFNOSUPPORT", plan.hosts[0] ?? "0.0.0.0", plan.port);
      if (bound.every(({ address }) => !WILDCARDS.has(address))) return bound;
      for (const { fd } of bound) setReuse(libc, fd, 1);
      const families = new Set(bound.map(({ family }) => family));
      for (const address of localAddresses(families)) {
        try {
          bound.push(bindOne(libc, address, first.port, true, options));
        } catch (error) {
          // An address that is going away, or not confirmed yet (IPv6): the wildcard serves it.
          if (!(error instanceof BindError) || error.code !== "EADDRNOTAVAIL") throw error;
        }
      }
      for (const { fd } of bound) setReuse(libc, fd, 0);
      return bound;
    } catch (error) {
      for (const { fd } of bound) libc.close(fd);
      const isUnlucky = plan.port === 0 && error instanceof BindError && error.code === "EADDRINUSE";
      if (!isUnlucky || attempt === MAX_ATTEMPTS) throw error; // port 0: free in one family, taken in the other
    }
  }
}

function bindOne(libc: LibC, address: string, port: number, reuse: boolean, options: UdpOptions): Bound {
  const target = parseSocketAddress(address, port);
  if (target === undefined) throw new TypeError(`rtc_server.listen: ${address} is no address`);
  const { family } = target;
  const fd = libc.socket(family === "IPv4" ? AF_INET : AF_INET6, SOCK_DGRAM + SOCK_NONBLOCK + SOCK_CLOEXEC, 0);
  if (fd < 0) throw new BindError(libc.errorName(), address, port);
  if (family === "IPv6") libc.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, word(1), 4);
  if (reuse) setReuse(libc, fd, 1);
  const size = word(options.bufferSize ?? DEFAULT_BUFFER);
  // With CAP_NET_ADMIN the buffers grow beyond net.core.[rw]mem_max; without it they become as big as that allows.
  if (libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, size, 4) !== 0) libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, size, 4);
  if (libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4) !== 0) libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, 4);
  const name = Buffer.from(target.words.buffer, target.words.byteOffset, target.length);
  if (libc.bind(fd, name, target.length) !== 0) {
    const error = new BindError(libc.errorName(), address, port);
    libc.close(fd);
    throw error;
  }
  const actual = Buffer.alloc(28);
  libc.getsockname(fd, actual, word(actual.length));
  return { fd, address, family, port: actual.readUInt16BE(2) };
}

async function bindPortable(plan: BindPlan): Promise<{ local: LocalSocket; socket: Socket }[]> {
  const addresses: string[] = [];
  for (const host of plan.hosts) {
    if (WILDCARDS.has(host)) addresses.push(...localAddresses(new Set([host === "::" ? "IPv6" : "IPv4"])));
    else addresses.push(host);
  }
  const opened: { local: LocalSocket; socket: Socket }[] = [];
  let port = plan.port;
  for (const address of addresses) {
    const family = address.includes(":") ? "IPv6" : "IPv4";
    const socket = createSocket({ type: family === "IPv4" ? "udp4" : "udp6", ipv6Only: family === "IPv6" });
    try {
      const listening = once(socket, "listening");
      socket.bind({ address, port, exclusive: true });
      await listening;
    } catch (error) {
      socket.close();
      const code = error instanceof Error && "code" in error ? String(error.code) : "EINVAL";
      if (code === "EADDRNOTAVAIL" && plan.isLenient) continue;
      for (const { socket: other } of opened) other.close();
      throw new BindError(code, address, port);
    }
    port = socket.address().port;
    growBuffers(socket, plan.bufferSize);
    opened.push({ local: { address, family, port, fd: undefined, socket }, socket });
  }
  return opened;
}

function growBuffers(socket: Socket, size: number): void {
  try {
    socket.setSendBufferSize(size);
    socket.setRecvBufferSize(size);
  } catch {
    // the system's own size it is
  }
}

function tryLibC(): LibC | undefined {
  try {
    return loadLibC();
  } catch (error) {
    if (error instanceof NativeUnavailable) return undefined;
    throw error;
  }
}

function wildcardsOf(listen: UdpListen, options: UdpOptions): readonly string[] {
  if (listen.host !== undefined) return [listen.host];
  if (options.family === "ipv4") return ["0.0.0.0"];
  return options.family === "ipv6" ? ["::"] : ["0.0.0.0", "::"];
}

/** This machine's addresses, link-local ones left out: those need a zone, and no candidate carries one. */
function localAddresses(families: ReadonlySet<string>): readonly string[] {
  const addresses = new Set<string>();
  for (const entries of Object.values(networkInterfaces())) {
    for (const { family, address } of entries ?? []) {
      if (families.has(family) && !address.toLowerCase().startsWith("fe80:")) addresses.add(address);
    }
  }
  return [...addresses].slice(0, MAX_ADDRESSES);
}

function setReuse(libc: LibC, fd: number, value: 0 | 1): void {
  libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, word(value), 4);
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

const WILDCARDS: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);
const NO_FAMILY: ReadonlySet<string> = new Set(["EAFNOSUPPORT", "EADDRNOTAVAIL"]);
const MAX_ATTEMPTS = 16;
const MAX_ADDRESSES = 64; // sockets; a machine with more addresses serves the rest by the wildcard
const DEFAULT_BUFFER = 8 * 1024 * 1024; // a key frame of 40 KB for 200 viewers
