// EDGE: the RTMP and RTMPS listeners; what they accept becomes an RtmpConnection.

import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, Server as TlsServer } from "node:tls";

import type { Logger } from "pino";

import type { Clock } from "../hub/clock.js";
import type { Hub } from "../hub/types.js";
import { RtmpConnection, type RtmpVhost } from "./connection.js";
import { RtmpFanOuts } from "./fan-outs.js";

export type RtmpListen = { readonly host: string | undefined; readonly port: number };

export type RtmpServerOptions = {
  /** Where plain RTMP listens; port 0 takes a free one. */
  readonly listen: readonly RtmpListen[];
  /** RTMPS: PEM texts, and where it listens. Default none. */
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer; readonly listen: readonly RtmpListen[] };
  readonly hub: Hub;
  readonly clock: Clock;
  readonly log: Logger;
  /** Connections over this are told so and closed. Default 1000. */
  readonly maxConnections?: number;
  /** The vhost that serves a name; undefined when there is none, and the client is refused. */
  readonly vhost: (name: string) => RtmpVhost | undefined;
  /** Milliseconds for the handshake, TLS and RTMP each. Default 10000. */
  readonly handshakeTimeout?: number;
  /** Milliseconds a client may be connected without publishing or playing. Default 30000. */
  readonly idleTimeout?: number;
};

const DEFAULT_MAX_CONNECTIONS = 1000;
const HANDSHAKE_TIMEOUT = 10_000;

export class RtmpServer {
  readonly #options: RtmpServerOptions;
  readonly #servers: Server[] = [];
  readonly #connections = new Set<RtmpConnection>();
  readonly #fanOuts: RtmpFanOuts;
  /** Every TCP connection, also those that are not RTMP's yet because TLS is under way. */
  readonly #sockets = new Set<Socket>();

  constructor(options: RtmpServerOptions) {
    this.#options = options;
    this.#fanOuts = new RtmpFanOuts(options.clock);
  }

  /** Listens everywhere, or nowhere. @throws Error naming port and directive when an address cannot be had */
  async start(): Promise<void> {
    const { listen, tls } = this.#options;
    try {
      for (const address of listen) {
        await this.#listen(createServer(this.#onSocket("rtmp")), address, "listen");
      }
      if (tls === undefined) return;
      const options = { key: tls.key, cert: tls.cert, handshakeTimeout: this.#options.handshakeTimeout ?? HANDSHAKE_TIMEOUT };
      for (const address of tls.listen) {
        const server = createTlsServer(options, this.#onSocket("rtmps"));
        server.on("tlsClientError", (error, socket) => {
          this.#options.log.debug({ reason: error.message }, "rtmps handshake failed");
          socket.destroy(); // Node leaves it open after a timeout
        });
        await this.#listen(server, address, "rtmps listen");
      }
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Where it listens, with the ports that port 0 became. RTMP first, then RTMPS. */
  get addresses(): { readonly host: string; readonly port: number }[] {
    const addresses: { host: string; port: number }[] = [];
    for (const server of this.#servers) {
      const address = server.address();
      if (address !== null && typeof address === "object") addresses.push({ host: address.address, port: address.port });
    }
    return addresses;
  }

  /** The certificate for connections from now on; those that are open keep theirs. */
  setCredentials({ key, cert }: { readonly key: string | Buffer; readonly cert: string | Buffer }): void {
    for (const server of this.#servers) if (server instanceof TlsServer) server.setSecureContext({ key, cert });
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Says goodbye to every client and stops listening. Resolves when all sockets are closed, 1 s later at most. */
  async close(reason = "the server closes"): Promise<void> {
    const servers = this.#servers.splice(0);
    const closed = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    const connections = [...this.#connections];
    for (const connection of connections) connection.close(reason);
    await Promise.all(connections.map((connection) => connection.closed));
    for (const socket of this.#sockets) socket.destroy(); // those whose TLS handshake is under way
    await Promise.all(closed);
  }

  #onSocket(scheme: "rtmp" | "rtmps"): (socket: Socket) => void {
    return (socket) => {
      const limit = this.#options.maxConnections ?? DEFAULT_MAX_CONNECTIONS;
      if (this.#connections.size >= limit * 2) {
        socket.destroy(); // even the answer costs too much now
        return;
      }
      const rejection = this.#connections.size >= limit ? `the server is full: ${limit} connections` : undefined;
      const connection = new RtmpConnection(socket, scheme, {
        ...this.#options,
        fanOuts: this.#fanOuts,
        handshakeTimeout: this.#options.handshakeTimeout ?? HANDSHAKE_TIMEOUT,
        rejection,
      });
      this.#connections.add(connection);
      void connection.closed.then(() => this.#connections.delete(connection));
    };
  }

  #listen(server: Server, address: RtmpListen, directive: string): Promise<void> {
    this.#servers.push(server);
    server.maxConnections = (this.#options.maxConnections ?? DEFAULT_MAX_CONNECTIONS) * 2; // TLS handshakes under way count here
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    return new Promise((resolve, reject) => {
      server.once("error", (error: NodeJS.ErrnoException) => {
        this.#servers.splice(this.#servers.indexOf(server), 1);
        reject(new Error(listenFailure(error, address, directive)));
      });
      server.listen({ port: address.port, host: address.host }, () => {
        server.removeAllListeners("error");
        server.on("error", (error) => this.#options.log.error({ err: error }, "rtmp listener"));
        this.#options.log.info(
          { address: describeAddress(server.address()) },
          `${directive === "listen" ? "rtmp" : "rtmps"} listens`,
        );
        resolve();
      });
    });
  }
}

function describeAddress(address: ReturnType<Server["address"]>): string {
  if (address === null || typeof address === "string") return address ?? "";
  return address.family === "IPv6" ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`;
}

function listenFailure(error: NodeJS.ErrnoException, address: RtmpListen, directive: string): string {
  const where = `${address.host ?? "*"}:${address.port}`;
  if (error.code === "EADDRINUSE") return `${directive} ${where}: the port is taken by another program`;
  if (error.code === "EACCES") return `${directive} ${where}: this port needs more rights`;
  if (error.code === "EADDRNOTAVAIL") return `${directive} ${where}: this machine has no such address`;
  return `${directive} ${where}: ${error.message}`;
}
