// One listening address of the HTTP side: limits on slow and many clients, and an end that comes within seconds. It serves HTTP, HTTPS,
// or both, and may share the port with another protocol that the gateway hands in: a connection's first bytes decide.
//
// TCP listener -> (first bytes) -> TLS -> HTTP server. Sockets go from one to the next by Node's own `connection` event.

import {
  createServer as createHttpServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import {
  constants,
  createServer as createHttp2Server,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from "node:tls";

import type { ListenAddress } from "../config/config.js";
import type { Credentials } from "./certificates.js";
import { type OtherProtocol, type Protocol, recognise } from "./first-bytes.js";

export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

export type UpgradeHandler = (request: IncomingMessage, socket: Socket, head: Buffer) => void;

export type ListenerOptions = {
  /** Directive the address comes from, for messages: `http_api.listen`. */
  readonly directive: string;
  readonly address: ListenAddress;
  readonly handler: RequestHandler;
  /** For WebSockets; undefined: they are answered as plain requests are. */
  readonly upgrade?: UpgradeHandler | undefined;
  /** Whether HTTP is served without TLS. */
  readonly isPlain: boolean;
  /** For HTTPS; undefined: none. */
  readonly credentials: Credentials | undefined;
  /** What else is served on this port, which gets those connections for good. */
  readonly other?: OtherProtocol | undefined;
  /** Connections over this are answered 503 and closed. Shared by all listeners through `connections`. */
  readonly maxConnections: number;
  readonly connections: ConnectionCount;
  /** Bodies larger than this are not asked for when a client waits for `100 Continue`. */
  readonly maxExpectedBody: number;
};

export type ConnectionCount = { open: number };

/** Milliseconds for a request's headers, for a whole request, between two requests, and without any byte moving. */
const HEADERS_TIMEOUT = 10_000;
const REQUEST_TIMEOUT = 20_000;
const KEEP_ALIVE_TIMEOUT = 10_000;
const IDLE_TIMEOUT = 60_000;
/** Milliseconds between looks at who is over the first two; Node's own is half a minute. */
const CHECK_INTERVAL = 2_000;
/** Bytes of headers: long queries and tokens fit. */
const MAX_HEADERS = 16 << 10;
/** Requests at once, and MB of what Node holds for one client, over HTTP/2. */
const MAX_STREAMS = 100;
const MAX_SESSION_MEMORY = 8;
/** Milliseconds for the bytes that tell protocols apart. */
const FIRST_BYTES_TIMEOUT = 5_000;
/** Connections of another protocol on the same port: they have limits of their own. */
const OTHERS = 20_000;
/** Connections above the limit that still get an answer before the door is shut. */
const REFUSED_AT_ONCE = 64;
/** Milliseconds that requests in flight get when the listener closes. */
const CLOSE_GRACE = 1_000;

export class HttpListener {
  readonly directive: string;
  readonly address: AddressInfo;
  readonly isSecure: boolean;
  readonly #front: Server;
  readonly #http: HttpServer;
  readonly #tls: TlsServer | undefined;
  readonly #sockets = new Set<Socket>();

  /** @throws Error naming port and directive when the address cannot be had */
  static async open(options: ListenerOptions): Promise<HttpListener> {
    const { address, directive, other, credentials, maxConnections } = options;
    const http = openHttp(options);
    const tls = credentials === undefined ? undefined : openTls(credentials, http, options);
    const front = createServer({ allowHalfOpen: true, noDelay: true });
    front.maxConnections = maxConnections + REFUSED_AT_ONCE + (other === undefined ? 0 : OTHERS);
    await new Promise<void>((resolve, reject) => {
      front.once("error", (error: NodeJS.ErrnoException) =>
        reject(new Error(`${directive}: ${listenProblem(error, address)}`, { cause: error })),
      );
      front.listen(
        { port: address.port, ...(address.host !== undefined && { host: address.host }), ipv6Only: address.host === "::" },
        resolve,
      );
    });
    // After this a failing accept (no file descriptors left) must not end the process; Node goes on accepting.
    front.removeAllListeners("error").on("error", () => {});
    http.emit("listening"); // it gets its connections from `front`, and begins to look for slow ones only now
    return new HttpListener(options, front, http, tls);
  }

  private constructor(options: ListenerOptions, front: Server, http: HttpServer, tls: TlsServer | undefined) {
    const address = front.address();
    if (address === null || typeof address === "string") throw new Error(`${options.directive}: no TCP address`);
    this.directive = options.directive;
    this.address = address;
    this.isSecure = !options.isPlain;
    this.#front = front;
    this.#http = http;
    this.#tls = tls;
    front.on("connection", (socket: Socket) => this.#accept(socket, options));
  }

  /** For connections from now on; those that are open keep theirs. */
  setCredentials({ key, cert }: Credentials): void {
    this.#tls?.setSecureContext({ key, cert });
  }

  #accept(socket: Socket, options: ListenerOptions): void {
    const forget = this.#track(socket, options);
    const { other, isPlain } = options;
    const tls = this.#tls;
    const take = (protocol: Protocol): void => {
      if (protocol === "other" && other !== undefined) {
        forget();
        socket.allowHalfOpen = false;
        other.accept(socket);
      } else if (protocol === "tls" && tls !== undefined) {
        socket.allowHalfOpen = false;
        tls.emit("connection", socket);
      } else {
        this.#http.emit("connection", socket);
      }
    };
    if (other === undefined && tls === undefined) take("http");
    else if (other === undefined && !isPlain) take("tls");
    else recognise(socket, { other, isPlain, hasTls: tls !== undefined, timeout: FIRST_BYTES_TIMEOUT }, take);
  }

  /** @returns what takes it off the count again: another protocol's from now on */
  #track(socket: Socket, { connections, maxConnections }: ListenerOptions): () => void {
    connections.open++;
    markExcess(socket, { connections, maxConnections });
    this.#sockets.add(socket);
    const forget = (): void => {
      if (this.#sockets.delete(socket)) connections.open--;
    };
    socket.once("close", forget);
    return forget;
  }

  /** Takes no more connections, lets requests in flight end within a second, then cuts. Idempotent. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#front.close(() => resolve()));
    this.#http.close(() => {}); // which never listened itself: this only stops its looking for slow connections
    this.#http.closeIdleConnections();
    const cut = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, CLOSE_GRACE);
    await closed;
    clearTimeout(cut);
  }
}

export function formatAddress({ host, port }: { host?: string | undefined; port: number }): string {
  return host === undefined ? String(port) : host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Sockets whose first request is refused, because too many were open when they came. */
const excess = new WeakSet<Socket>();

function openHttp(options: ListenerOptions): HttpServer {
  const server = createHttpServer({
    headersTimeout: HEADERS_TIMEOUT,
    requestTimeout: REQUEST_TIMEOUT,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT,
    connectionsCheckingInterval: CHECK_INTERVAL,
    maxHeaderSize: MAX_HEADERS,
  });
  server.setTimeout(IDLE_TIMEOUT);
  server.on("request", (request, response) => serve(request, response, options));
  const { upgrade } = options;
  if (upgrade !== undefined) {
    server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
      if (isExcess(socket, options))
        socket.end(`HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\r\n`);
      else if (request.headers.upgrade?.toLowerCase() === "websocket") upgrade(request, socket, head);
      else withoutUpgrade(server, request, socket, head);
    });
  }
  server.on("checkContinue", (request, response) => {
    if (!(Number(request.headers["content-length"]) > options.maxExpectedBody)) response.writeContinue();
    serve(request, response, options);
  });
  return server;
}

function openTls({ key, cert }: Credentials, http: HttpServer, options: ListenerOptions): TlsServer {
  const http2 = openHttp2(options);
  const server = createTlsServer({ key, cert, handshakeTimeout: HEADERS_TIMEOUT, ALPNProtocols: ["h2", "http/1.1"] });
  server.on("secureConnection", (socket: TLSSocket) => {
    markExcess(socket, options); // with TLS a request's socket is another object than the connection's
    if (socket.alpnProtocol !== "h2") http.emit("connection", socket);
    else if (isExcess(socket, options)) socket.destroy();
    else http2.emit("connection", socket);
  });
  server.on("tlsClientError", (_error, socket) => socket.destroy()); // Node leaves it open after a timeout
  return server;
}

/** HTTP/2 over TLS (RFC 9113); clients that want a WebSocket make another connection for it and ask for HTTP/1.1 there. */
function openHttp2(options: ListenerOptions): Http2Server {
  const server = createHttp2Server({ settings: { maxConcurrentStreams: MAX_STREAMS }, maxSessionMemory: MAX_SESSION_MEMORY });
  server.setTimeout(IDLE_TIMEOUT);
  server.on("sessionError", () => {}); // a client that makes no sense: its session is over
  server.on("request", (request: Http2ServerRequest, response: Http2ServerResponse) => {
    request.on("error", () => {});
    response.on("error", () => {});
    if (!request.complete) {
      const late = setTimeout(() => request.stream.close(constants.NGHTTP2_CANCEL), REQUEST_TIMEOUT);
      request.once("end", () => clearTimeout(late)).once("close", () => clearTimeout(late));
    }
    request.headers.host ??= request.authority;
    // Node gives these the methods of HTTP/1.1's; what writes to the connection itself asks for the version before.
    options.handler(request as unknown as IncomingMessage, response as unknown as ServerResponse);
  });
  return server;
}

/** Some clients offer HTTP/2 in each request (`Upgrade: h2c`); Node hands those over half read. They are read once more without it. */
function withoutUpgrade(server: HttpServer, request: IncomingMessage, socket: Socket, head: Buffer): void {
  const lines = [`${request.method} ${request.url} HTTP/${request.httpVersion}`];
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i] ?? "";
    if (!/^(?:upgrade|connection|http2-settings)$/i.test(name)) lines.push(`${name}: ${request.rawHeaders[i + 1]}`);
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), head]));
  server.emit("connection", socket);
}

function markExcess(
  socket: Socket,
  { connections, maxConnections }: Pick<ListenerOptions, "connections" | "maxConnections">,
): void {
  if (connections.open > maxConnections) excess.add(socket);
}

function isExcess(socket: Socket, { connections, maxConnections }: ListenerOptions): boolean {
  return connections.open > maxConnections && excess.has(socket);
}

function serve(request: IncomingMessage, response: ServerResponse, options: ListenerOptions): void {
  const { handler, maxConnections } = options;
  if (!isExcess(request.socket, options)) {
    handler(request, response);
    return;
  }
  const detail = `The gateway has its maximum of ${maxConnections} HTTP connections (max_connections).`;
  const body = JSON.stringify({
    type: "urn:sluice:problem:overloaded",
    title: "The gateway is at its limit",
    status: 503,
    detail,
  });
  response.writeHead(503, { "Content-Type": "application/problem+json", "Retry-After": "5", Connection: "close" }).end(body);
}

function listenProblem(error: NodeJS.ErrnoException, address: ListenAddress): string {
  const where = formatAddress(address);
  if (error.code === "EADDRINUSE")
    return `port ${address.port} is taken (${where}): end the other program or configure another port`;
  if (error.code === "EACCES") return `port ${address.port} needs more rights (${where})`;
  if (error.code === "EADDRNOTAVAIL") return `${where} is no address of this machine`;
  return `cannot listen on ${where}: ${error.message}`;
}
