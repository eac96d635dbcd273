// EDGE: the RTMP and RTMPS listeners. Sockets and timers around RtmpSession, the hub behind it, and the one catch.

import { randomBytes, randomUUID } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";

import type { Logger } from "pino";

import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Hub, Peer, Publication, Source } from "../hub/types.js";
import { ProtocolError, Refusal, type RefusalCode } from "../media/errors.js";
import type { Frame } from "../media/frame.js";
import { type PublishTimeouts, type RtmpRequest, RtmpSession, type RtmpSessionOwner } from "./session.js";

export type RtmpListen = { readonly host: string | undefined; readonly port: number };

/** A vhost as publishing needs it: its canonical name (what names the stream in the hub) and its timeouts. */
export type RtmpVhost = { readonly name: string; readonly publish: PublishTimeouts };

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
  /** Milliseconds a client may be connected without publishing. Default 30000. */
  readonly idleTimeout?: number;
};

const DEFAULT_MAX_CONNECTIONS = 1000;
const HANDSHAKE_TIMEOUT = 10_000;
const MAX_UNSENT = 1 << 20; // bytes waiting in a publisher's socket: it is sent a few hundred bytes a second
const GOODBYE = 1_000; // ms between the last word and the end of the socket

export class RtmpServer {
  readonly #options: RtmpServerOptions;
  readonly #servers: Server[] = [];
  readonly #connections = new Set<RtmpConnection>();
  /** Every TCP connection, also those that are not RTMP's yet because TLS is under way. */
  readonly #sockets = new Set<Socket>();

  constructor(options: RtmpServerOptions) {
    this.#options = options;
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
      const connection = new RtmpConnection(socket, scheme, this.#options, rejection);
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
        this.#options.log.info({ directive, address: server.address() }, "rtmp listens");
        resolve();
      });
    });
  }
}

function listenFailure(error: NodeJS.ErrnoException, address: RtmpListen, directive: string): string {
  const where = `${address.host ?? "*"}:${address.port}`;
  if (error.code === "EADDRINUSE") return `${directive} ${where}: the port is taken by another program`;
  if (error.code === "EACCES") return `${directive} ${where}: this port needs more rights`;
  if (error.code === "EADDRNOTAVAIL") return `${directive} ${where}: this machine has no such address`;
  return `${directive} ${where}: ${error.message}`;
}

/** One client: socket, session, and its publication while it has one. Socket closes → session → publication ends; never the other way. */
class RtmpConnection implements RtmpSessionOwner, Source {
  readonly #socket: Socket;
  readonly #options: RtmpServerOptions;
  readonly #session: RtmpSession;
  /** Resolves when the socket is closed. */
  readonly closed: Promise<void>;
  readonly #id = randomUUID();
  readonly #address: string;
  readonly #log: Logger;
  #timer: TimerHandle | undefined;
  #timerDue = Number.POSITIVE_INFINITY;
  #publication: Publication | undefined;
  #publishing = "";
  #startedAt = 0;
  #frameCount = 0;
  #byteCount = 0;
  #isGone = false;

  constructor(socket: Socket, scheme: string, options: RtmpServerOptions, rejection: string | undefined) {
    this.#socket = socket;
    this.#options = options;
    this.#address = (socket.remoteAddress ?? "").replace(/^::ffff:/, "");
    this.#log = options.log.child({ session: this.#id.slice(0, 8), peer: `${scheme} ${this.#address}:${socket.remotePort}` });
    this.#session = new RtmpSession(options.clock.now(), this, {
      random: randomBytes,
      handshakeTimeout: options.handshakeTimeout ?? HANDSHAKE_TIMEOUT,
      ...(options.idleTimeout === undefined ? {} : { idleTimeout: options.idleTimeout }),
      ...(rejection === undefined ? {} : { rejection }),
    });
    socket.setNoDelay(true);
    socket.on("data", (bytes) => this.#guard(() => this.#session.receive(options.clock.now(), bytes)));
    socket.on("end", () => this.#gone("the client closed the connection"));
    socket.on("error", (error) => this.#gone(`socket: ${error.message}`));
    this.closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#onSocketClosed();
        resolve();
      });
    });
    this.#armTimer();
  }

  // Source: what the hub tells the publisher.

  requestKeyFrame(): void {} // RTMP has no word for it

  close(reason: string): void {
    this.#guard(() => this.#session.close(reason));
  }

  notify(code: string, description: string): void {
    this.#guard(() => this.#session.notify(code, description));
  }

  // RtmpSessionOwner: what the session wants.

  send(bytes: Buffer): void {
    if (this.#isGone || !this.#socket.writable) return;
    this.#socket.write(bytes);
    if (this.#socket.writableLength > MAX_UNSENT) this.#gone("the client does not read what it is sent");
  }

  onPublish(request: RtmpRequest): void {
    const vhost = this.#options.vhost(request.vhost);
    if (vhost === undefined) {
      this.#session.refuse("NetStream.Publish.Denied", `no vhost ${request.vhost}`);
      return;
    }
    const { app, stream } = request;
    const name = { vhost: vhost.name, app, stream };
    this.#publishing = `${vhost.name}/${app}/${stream}`;
    this.#socket.pause(); // what comes before the answer stays in the kernel
    this.#options.hub.publish({ name, peer: this.#peer(request), source: this, lane: "frames" }).then(
      (publication) => this.#guard(() => this.#onGranted(publication, vhost, request)),
      (error: unknown) => this.#guard(() => this.#onRefused(error)),
    );
  }

  onPlay(request: RtmpRequest): void {
    this.#log.info({ stream: `${request.app}/${request.stream}` }, "rtmp play refused: not offered yet");
    this.#session.refuse("NetStream.Play.Failed", "playing over RTMP is not offered by this version");
  }

  onFrame(frame: Frame): void {
    this.#frameCount += 1;
    this.#byteCount += frame.data.length;
    this.#publication?.writeFrame(frame);
  }

  onProblem(code: string, description: string): void {
    this.#log.warn({ stream: this.#publishing, code }, description);
    this.#session.notify("NetStream.Publish.Warning", description);
  }

  onUnpublish(reason: string): void {
    this.#endPublication(reason);
    this.#armTimer();
  }

  onClose(reason: string): void {
    this.#endPublication(reason);
    this.#log.debug({ reason }, "rtmp session closed");
    if (this.#isGone) return;
    this.#socket.resume(); // or its end would never be seen
    this.#socket.end();
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(GOODBYE, () => this.#socket.destroy());
  }

  #peer(request: RtmpRequest): Peer {
    const { tcUrl, pageUrl, parameters } = request;
    const base = { id: this.#id, protocol: "rtmp" as const, address: this.#address, parameters, tcUrl };
    return pageUrl === undefined ? base : { ...base, pageUrl };
  }

  #onGranted(publication: Publication, vhost: RtmpVhost, request: RtmpRequest): void {
    if (this.#isGone || this.#session.state !== "deciding") {
      publication.end("the client left before it was granted");
      return;
    }
    this.#publication = publication;
    this.#startedAt = this.#options.clock.now();
    this.#frameCount = 0;
    this.#byteCount = 0;
    this.#log.info({ stream: this.#publishing, agent: request.agent }, "rtmp publish started");
    this.#socket.resume();
    this.#session.grantPublish(this.#options.clock.now(), vhost.publish);
  }

  #onRefused(error: unknown): void {
    if (!(error instanceof Refusal)) {
      this.#log.error({ err: error, stream: this.#publishing }, "rtmp publish failed");
      this.#session.refuse("NetStream.Publish.Failed", "internal error");
      return;
    }
    this.#log.info({ stream: this.#publishing, code: error.code, reason: error.message }, "rtmp publish refused");
    this.#session.refuse(STATUS_OF_REFUSAL[error.code] ?? "NetStream.Publish.Denied", error.message);
  }

  #endPublication(reason: string): void {
    const publication = this.#publication;
    if (publication === undefined) return;
    this.#publication = undefined;
    const seconds = Math.round(this.#options.clock.now() - this.#startedAt) / 1000;
    const figures = { seconds, frames: this.#frameCount, bytes: this.#byteCount };
    this.#log.info({ stream: this.#publishing, reason, ...figures }, "rtmp publish ended");
    publication.end(reason);
  }

  /** The one catch: whatever goes wrong in a session ends that session, with one line. */
  #guard(work: () => void): void {
    this.#socket.cork();
    try {
      work();
    } catch (error) {
      if (error instanceof ProtocolError) {
        this.#log.warn({ code: error.code, stream: this.#publishing }, `rtmp protocol error: ${error.message}`);
      } else {
        this.#log.error({ err: error, stream: this.#publishing }, "rtmp session failed");
      }
      this.#session.close(error instanceof ProtocolError ? error.message : "internal error");
    } finally {
      this.#socket.uncork();
    }
    this.#armTimer();
  }

  /** The peer is gone, or is thrown out without a word. */
  #gone(reason: string): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#session.close(reason);
    this.#socket.destroy();
  }

  #onSocketClosed(): void {
    this.#gone("the connection broke");
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** One timer that is moved only when it would fire too late; when too early it is armed again. */
  #armTimer(): void {
    if (this.#isGone || this.#session.state === "closed") return;
    const due = this.#session.nextTimeout();
    if (due >= this.#timerDue && this.#timer !== undefined) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerDue = due;
    if (due === Number.POSITIVE_INFINITY) return;
    this.#timer = this.#options.clock.after(due - this.#options.clock.now(), () => {
      this.#timer = undefined;
      this.#timerDue = Number.POSITIVE_INFINITY;
      this.#guard(() => this.#session.onTimeout(this.#options.clock.now()));
    });
  }
}

const STATUS_OF_REFUSAL: Readonly<Partial<Record<RefusalCode, string>>> = {
  busy: "NetStream.Publish.BadName",
  forbidden: "NetStream.Publish.BadName", // what encoders know as "wrong key"
  unauthorized: "NetStream.Publish.BadName",
  "bad-request": "NetStream.Publish.BadName",
};
