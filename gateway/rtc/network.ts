// What the RTC server needs of the machine, handed in so that tests can run without sockets and keys.

import type { Socket } from "node:net";

import type { DtlsContext, Endpoint, SrtpKeys, SrtpReceiver } from "../native/types.js";
import type { Egress } from "./egress.js";

export type NetworkOptions = {
  readonly listen: readonly { readonly host: string | undefined; readonly port: number }[];
  readonly family: "ipv4" | "ipv6" | "all";
  /**
   * @param datagram valid until the call returns
   * @param more another one follows at once: what is done once per turn can wait for it. Default false
   */
  readonly onDatagram: (datagram: Buffer, from: Endpoint, more?: boolean) => void;
  /** Serve TCP too: where to listen, which may be nowhere when all connections come by `accept`. */
  readonly tcp?: {
    readonly listen: readonly { readonly host: string | undefined; readonly port: number }[];
    /** A connection that `confirm` was called for is gone. */
    readonly onGone: (endpoint: Endpoint) => void;
  };
};

/** Connections of peers; an Endpoint's `socket` is such a connection's number. */
export interface RtcStreams {
  /** The first listener's port; undefined when there is none. */
  readonly port: number | undefined;
  /** Takes a connected socket from a port that is shared. */
  accept(socket: Socket): void;
  /** A signed check has come over it: it may stay. Does nothing for a UDP socket. */
  confirm(number: number): void;
  /** The session has no more use for it. Does nothing for a UDP socket. */
  release(number: number): void;
}

/** The media sockets and what sends through them. */
export interface RtcNetwork {
  /** The first socket's port. */
  readonly port: number;
  readonly egress: Egress;
  /** Undefined when no TCP was asked for. */
  readonly tcp?: RtcStreams | undefined;
  /** `10.0.0.5:8000`: where a datagram from there arrived; empty when unknown. */
  localAddress?(endpoint: Endpoint): string;
  close(): Promise<void>;
}

export interface RtcMachine {
  /** @throws Error naming address, port and directive when a port is taken */
  openNetwork(options: NetworkOptions): Promise<RtcNetwork>;
  /** @throws Error when this machine has no usable OpenSSL */
  createDtls(ecdsa: boolean): DtlsContext;
  createReceiver(keys: SrtpKeys): SrtpReceiver;
  /** Addresses of the interfaces that are up, without zone. */
  interfaceAddresses(): readonly string[];
  /** Addresses of a host name; empty when it has none. */
  resolve(name: string): Promise<readonly string[]>;
}
