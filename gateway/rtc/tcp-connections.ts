// EDGE: WebRTC over TCP (RFC 6544, passive side): takes connections, its own listeners' and those a shared port hands over, reads
// frames out of them, and ends those that never prove to belong to a session. Who closes whom: the network closes this; this closes
// listeners and connections; a connection that ends closes its path.

import { createServer, type Server, type Socket } from "node:net";
import type { StreamPath, StreamPaths } from "../native/stream-path.js";
import type { Endpoint } from "../native/types.js";
import { FRAME_HEADER, FrameReader, looksLikeIce, MAX_CHECK, MAX_FRAME } from "./tcp-framing.js";
import { StreamQuota } from "./tcp-quota.js";

export type TcpListen = { readonly host: string | undefined; readonly port: number };

export type TcpConnectionsOptions = {
  readonly paths: StreamPaths;
  readonly onDatagram: (datagram: Buffer, from: Endpoint) => void;
  /** A connection whose peer had proved itself is gone. */
  readonly onGone: (endpoint: Endpoint) => void;
  /** Milliseconds for a new connection's first valid check. Default 5000. */
  readonly proofTimeout?: number;
  /** Connections at one time. Default 10000. */
  readonly maxConnections?: number;
  /** Of one address, connections without a valid check at one time; over it the oldest goes. Default 128. */
  readonly maxUnproven?: number;
};

export class TcpConnections {
  readonly #options: TcpConnectionsOptions;
  readonly #servers: Server[] = [];
  readonly #connections = new Map<number, TcpConnection>();
  readonly #strangers: StreamQuota<TcpConnection>;
  #sweep: NodeJS.Timeout | undefined;
  #isClosed = false;
  readonly statistics = { accepted: 0, refused: 0 };

  constructor(options: TcpConnectionsOptions) {
    this.#options = options;
    this.#strangers = new StreamQuota(options.maxUnproven ?? 128);
  }

  /** @throws Error naming address, port and directive when a port is taken */
  async listen(addresses: readonly TcpListen[]): Promise<void> {
    for (const { host, port } of addresses) {
      const server = createServer({ noDelay: true }, (socket) => this.accept(socket));
      this.#servers.push(server);
      await new Promise<void>((resolve, reject) => {
        server.once("error", (error: NodeJS.ErrnoException) => {
          const why = error.code === "EADDRINUSE" ? "is taken by another program" : `cannot be used (${error.code})`;
          reject(new Error(`TCP port ${port}: ${host ?? "*"}:${port} ${why}; set another port with rtc_server.tcp.listen`));
        });
        server.listen({ port, ...(host !== undefined && { host }), ipv6Only: host === "::" }, resolve);
      });
      // No file descriptor left for one more: those who are connected stay.
      server.removeAllListeners("error").on("error", () => {});
    }
  }

  /** The port of the first listener, with 0 resolved; undefined: there is none. */
  get port(): number | undefined {
    const address = this.#servers[0]?.address();
    return typeof address === "object" && address !== null ? address.port : undefined;
  }

  get size(): number {
    return this.#connections.size;
  }

  /** Takes a connected socket, of which nothing has been read, or what was read has been put back. */
  accept(socket: Socket): void {
    socket.on("error", () => {}); // `close` follows
    const { remoteAddress, remotePort } = socket;
    const isFull = this.#connections.size >= (this.#options.maxConnections ?? MAX_CONNECTIONS);
    if (this.#isClosed || isFull || remoteAddress === undefined || remotePort === undefined) {
      this.statistics.refused++;
      socket.destroy();
      return;
    }
    this.statistics.accepted++;
    socket.setNoDelay(true);
    const path = this.#options.paths.open(socket);
    const endpoint = { socket: path.number, address: plainAddress(remoteAddress), port: remotePort };
    const connection = new TcpConnection(socket, path, endpoint, this.#options.onDatagram);
    this.#connections.set(path.number, connection);
    this.#strangers.add(connection.endpoint.address, connection)?.destroy();
    socket.once("close", () => {
      this.#connections.delete(path.number);
      this.#strangers.remove(connection.endpoint.address, connection);
      connection.closed();
      if (connection.state !== "new") this.#options.onGone(endpoint);
      if (this.#connections.size === 0) this.#stopSweeping();
    });
    this.#sweep ??= setInterval(() => this.#sweepNow(), SWEEP_INTERVAL).unref();
  }

  /** `10.0.0.5:8000`: our side of a connection; empty when there is none. */
  localAddress(number: number): string {
    return this.#connections.get(number)?.localAddress ?? "";
  }

  /** A signed check has come over the connection. */
  confirm(number: number): void {
    const connection = this.#connections.get(number);
    if (connection === undefined || connection.state !== "new") return;
    connection.state = "proven";
    this.#strangers.remove(connection.endpoint.address, connection);
  }

  /** The session has no more use for the connection: it ends once its last words, queued now, have left. */
  release(number: number): void {
    const connection = this.#connections.get(number);
    if (connection !== undefined) setImmediate(() => connection.end());
  }

  /** Whoever is still connected is cut; last words must have been flushed. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const connection of this.#connections.values()) connection.end();
    const cut = setTimeout(() => {
      for (const connection of this.#connections.values()) connection.destroy();
    }, CLOSE_GRACE);
    await Promise.all(closed);
    clearTimeout(cut);
    for (const connection of this.#connections.values()) connection.destroy();
    this.#stopSweeping();
  }

  #stopSweeping(): void {
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }

  #sweepNow(): void {
    const now = performance.now();
    const proofTimeout = this.#options.proofTimeout ?? PROOF_TIMEOUT;
    for (const connection of this.#connections.values()) {
      const { state } = connection;
      const silence = now - connection.heardAt;
      const isOverdue =
        (state === "new" && now - connection.openedAt >= proofTimeout) ||
        (state === "ending" && silence >= CLOSE_GRACE) ||
        (state === "proven" && (silence >= SILENCE || connection.lag >= STALL));
      if (isOverdue) connection.destroy();
    }
  }
}

class TcpConnection {
  readonly endpoint: Endpoint;
  readonly openedAt = performance.now();
  /** When the peer last sent anything. */
  heardAt = this.openedAt;
  /** `new`: no signed check has come over it; `ending`: our side has said its last words. */
  state: "new" | "proven" | "ending" = "new";
  readonly #socket: Socket;
  readonly #path: StreamPath;
  readonly #reader: FrameReader;
  #hasBegun = false;

  constructor(socket: Socket, path: StreamPath, endpoint: Endpoint, onDatagram: (datagram: Buffer, from: Endpoint) => void) {
    this.endpoint = endpoint;
    this.#socket = socket;
    this.#path = path;
    const maxLength = (): number => (this.state === "new" ? MAX_CHECK : MAX_FRAME);
    this.#reader = new FrameReader((frame) => {
      if (!this.#begins(frame)) this.destroy();
      else onDatagram(frame, endpoint);
    }, maxLength);
    socket.on("data", (chunk: Buffer) => {
      this.heardAt = performance.now();
      if (!this.#reader.read(chunk)) this.destroy();
    });
    socket.on("end", () => this.end());
  }

  get localAddress(): string {
    const { localAddress = "", localPort = 0 } = this.#socket;
    const address = plainAddress(localAddress);
    return address.includes(":") ? `[${address}]:${localPort}` : `${address}:${localPort}`;
  }

  get lag(): number {
    return this.#path.lag;
  }

  end(): void {
    if (this.state === "ending" || this.#socket.destroyed) return;
    this.heardAt = performance.now();
    this.state = "ending";
    this.#reader.end();
    this.#socket.end();
  }

  destroy(): void {
    this.closed();
    this.#socket.destroy();
  }

  /** The socket is gone, or as good as. */
  closed(): void {
    this.#reader.end();
    this.#path.close();
  }

  /** Whoever does not begin with a check is no ICE agent. */
  #begins(frame: Buffer): boolean {
    if (this.#hasBegun) return true;
    const head = Buffer.alloc(FRAME_HEADER + Math.min(frame.length, MAX_CHECK));
    head.writeUInt16BE(Math.min(frame.length, 0xffff));
    frame.copy(head, FRAME_HEADER);
    this.#hasBegun = looksLikeIce(head) === "yes";
    return this.#hasBegun;
  }
}

/** A listener of both families sees IPv4 addresses as IPv6 ones (RFC 4291 section 2.5.5.2). */
function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}

const MAX_CONNECTIONS = 10_000; // two for each session that there may be
const PROOF_TIMEOUT = 5_000; // ms; an agent sends its first check with the connection
const SWEEP_INTERVAL = 1_000; // ms
const SILENCE = 60_000; // ms; an agent checks a pair it uses every few seconds, one in reserve every 25 s (Chromium)
const STALL = 10_000; // ms in which a peer takes nothing
const CLOSE_GRACE = 500; // ms for last words
