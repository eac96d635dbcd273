// What a new connection of a shared port speaks, by its first bytes.

import type { Socket } from "node:net";

/** A protocol beside HTTP on one port, handed in by the gateway. */
export type OtherProtocol = {
  /** `more`: too few bytes to say. Says yes or no within a few dozen bytes. */
  readonly recognises: (head: Buffer) => "yes" | "no" | "more";
  /** Takes the connection over; nothing of it has been read. */
  readonly accept: (socket: Socket) => void;
};

export type Protocol = "tls" | "http" | "other";

export type Recognition = {
  readonly other: OtherProtocol | undefined;
  /** Whether HTTP without TLS, and TLS, are served here. */
  readonly isPlain: boolean;
  readonly hasTls: boolean;
  /** Milliseconds that a client may take; then the connection is cut. */
  readonly timeout: number;
};

/** Reads what it needs, puts it back and says what it is. A client that speaks nothing that is served here is cut. */
export function recognise(socket: Socket, wanted: Recognition, take: (protocol: Protocol) => void): void {
  const timer = setTimeout(() => socket.destroy(), wanted.timeout);
  let head: Buffer = Buffer.alloc(0);
  const stop = (): void => {
    clearTimeout(timer);
    socket.off("readable", onReadable).off("end", onEnd).off("close", stop).off("error", onError);
  };
  const onError = (): void => {}; // `close` follows
  const onEnd = (): void => void socket.destroy();
  const onReadable = (): void => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    const protocol = protocolOf(head, wanted);
    if (protocol === "more") return;
    stop();
    if (protocol === "none") {
      socket.destroy();
      return;
    }
    socket.unshift(head);
    take(protocol);
  };
  socket.on("readable", onReadable).on("end", onEnd).on("close", stop).on("error", onError);
}

function protocolOf(head: Buffer, { other, isPlain, hasTls }: Recognition): Protocol | "more" | "none" {
  // A TLS record of a handshake: type 22, version 3.x (RFC 8446 section 5.1).
  if (head[0] === TLS_HANDSHAKE) {
    if (head.length < 2) return "more";
    return hasTls && head[1] === TLS_MAJOR ? "tls" : "none";
  }
  const verdict = other?.recognises(head) ?? "no";
  if (verdict === "yes") return "other";
  if (verdict === "more") return "more";
  // Anything else is HTTP's: it knows how to answer what makes no sense. Blank lines may stand before a request.
  return isPlain ? "http" : "none";
}

const TLS_HANDSHAKE = 0x16;
const TLS_MAJOR = 3;
