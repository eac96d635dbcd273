// The socket calls of Linux's C library, and the layout of what they take (LP64, little endian: x64, arm64, riscv64, loong64).

import { endianness } from "node:os";

import { type Address, bindFirst, loadKoffi, NativeUnavailable } from "./library.js";

export type LibC = {
  // int socket(int domain, int type, int protocol): a descriptor, owned by the caller, close
  socket(domain: number, type: number, protocol: number): number;
  // int bind(int fd, const struct sockaddr *addr, socklen_t len)
  bind(fd: number, address: Buffer, length: number): number;
  // int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
  getsockname(fd: number, address: Buffer, length: Buffer): number;
  // int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number;
  // int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
  getsockopt(fd: number, level: number, name: number, value: Buffer, length: Buffer): number;
  // int close(int fd)
  close(fd: number): number;
  // int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags): messages sent, -1 when the first one failed
  sendmmsg(fd: number, messages: Address, count: number, flags: number): number;
  // int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout): messages filled in, -1
  // when there was none. Writes to what `messages` points to, during the call only
  recvmmsg(fd: number, messages: Address, count: number, flags: number, timeout: Address): number;
  /**
   * Calls back in each turn of the event loop in which the descriptor can be read (libuv's uv_poll, by koffi). The callback runs
   * outside of Node's own scope: promises and next ticks wait for the next callback of Node's, and it must not throw. Its first
   * argument is a status, below 0 when polling has stopped for an error. The watch holds the callback; after `close` nothing of it
   * may be called again, and the descriptor may be closed.
   */
  watch(fd: number, callback: (status: unknown) => void): Watch;
  // ssize_t send(int fd, const void *bytes, size_t length, int flags): bytes taken, -1 for none
  send(fd: number, bytes: Address, length: number, flags: number): number;
  /** `errno` after a call that failed, as its name (`EAGAIN`), or its number as text. */
  errorName(): string;
};

export type Watch = { start(callback: (status: unknown) => void): void; stop(): void; close(): void };

let loaded: LibC | NativeUnavailable | undefined;

/** @throws NativeUnavailable on anything but 64-bit little-endian Linux */
export function loadLibC(): LibC {
  loaded ??= load();
  if (loaded instanceof NativeUnavailable) throw loaded;
  return loaded;
}

function load(): LibC | NativeUnavailable {
  if (process.platform !== "linux" || endianness() !== "LE" || !ARCHITECTURES.has(process.arch)) {
    return new NativeUnavailable("libc", `batched sending is not made for ${process.platform}-${process.arch}`);
  }
  try {
    const bound = bindFirst([null, "libc.so.6"], DECLARATIONS);
    if ("reasons" in bound) return new NativeUnavailable("libc", `no C library found (${bound.reasons.join("; ")})`);
    const koffi = loadKoffi();
    const names = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number, name]));
    names.set(koffi.os.errno["EAGAIN"] ?? -1, "EAGAIN"); // EWOULDBLOCK has the same number
    names.set(koffi.os.errno["EOPNOTSUPP"] ?? -1, "EOPNOTSUPP"); // and ENOTSUP
    const errorName = (): string => names.get(koffi.errno()) ?? String(koffi.errno());
    if (typeof koffi.node?.poll !== "function") return new NativeUnavailable("koffi", "this koffi cannot watch sockets");
    const watch = (fd: number, callback: (status: unknown) => void): Watch => koffi.node.poll(fd, { readable: true }, callback);
    return { ...bound.functions, errorName, watch } as unknown as LibC;
  } catch (error) {
    if (error instanceof NativeUnavailable) return error;
    throw error;
  }
}

const ARCHITECTURES: ReadonlySet<string> = new Set(["x64", "arm64", "riscv64", "loong64"]);

const DECLARATIONS = [
  "int socket(int domain, int type, int protocol)",
  "int bind(int fd, void *addr, unsigned int len)",
  "int getsockname(int fd, void *addr, void *len)",
  "int setsockopt(int fd, int level, int name, void *value, unsigned int len)",
  "int getsockopt(int fd, int level, int name, void *value, void *len)",
  "int close(int fd)",
  "int sendmmsg(int fd, uintptr_t messages, unsigned int count, int flags)",
  "int recvmmsg(int fd, uintptr_t messages, unsigned int count, int flags, uintptr_t timeout)",
  "int64_t send(int fd, uintptr_t bytes, size_t length, int flags)",
];

// Linux's numbers, the same on all of the architectures above (mips, sparc and parisc differ).
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM = 2;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const IPPROTO_IPV6 = 41;
export const IPV6_V6ONLY = 26;
export const IPPROTO_TCP = 6;
export const TCP_NOTSENT_LOWAT = 25;
export const SOL_UDP = 17;
export const UDP_SEGMENT = 103;

// struct mmsghdr { struct msghdr { void *name; socklen_t namelen; struct iovec *iov; size_t iovlen; void *control;
// size_t controllen; int flags; } header; unsigned int len; }
export const MMSGHDR_SIZE = 64;
export const MMSGHDR_NAME = 0;
export const MMSGHDR_NAME_LENGTH = 8;
export const MMSGHDR_IOV = 16;
export const MMSGHDR_IOV_LENGTH = 24;
export const MMSGHDR_CONTROL = 32;
export const MMSGHDR_CONTROL_LENGTH = 40;
export const MMSGHDR_FLAGS = 48;
export const MMSGHDR_LENGTH = 56;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const IOV_SIZE = 16; // struct iovec { void *base; size_t len; }

// struct cmsghdr { size_t len; int level; int type; } and a uint16_t behind it
export const CMSG_LENGTH = 18; // CMSG_LEN(2)
export const CMSG_SPACE = 24; // CMSG_SPACE(2)
