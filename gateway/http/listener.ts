// One listening address of the HTTP side: limits on slow and many clients, and an end that comes within seconds.

import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { createSecureContext } from "node:tls";

import type { HttpsConfig, ListenAddress } from "../config/config.js";
import { keptSelfSigned } from "./self-signed.js";
import type { HttpLog } from "./services.js";

export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void;

export type UpgradeHandler = (request: IncomingMessage, socket: Socket, head: Buffer) => void;

export type ListenerOptions = {
  /** Directive the address comes from, for messages: `http_api.listen`. */
  readonly directive: string;
  readonly address: ListenAddress;
  readonly handler: RequestHandler;
  /** For WebSockets; undefined: they are answered as plain requests are. */
  readonly upgrade?: UpgradeHandler | undefined;
  /** PEM texts; undefined: plain HTTP. */
  readonly credentials: Credentials | undefined;
  /** Connections over this are answered 503 and closed. Shared by all listeners through `connections`. */
  readonly maxConnections: number;
  readonly connections: ConnectionCount;
  /** Bodies larger than this are not asked for when a client waits for `100 Continue`. */
  readonly maxExpectedBody: number;
};

export type Credentials = { readonly key: string; readonly cert: string };
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
/** Connections above the limit that still get an answer before the door is shut. */
const REFUSED_AT_ONCE = 64;
/** Milliseconds that requests in flight get when the listener closes. */
const CLOSE_GRACE = 1_000;

export class HttpListener {
  readonly directive: string;
  readonly address: AddressInfo;
  readonly isSecure: boolean;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** @throws Error naming port and directive when the address cannot be had */
  static async open(options: ListenerOptions): Promise<HttpListener> {
    const { address, directive, credentials } = options;
    const limits = {
      headersTimeout: HEADERS_TIMEOUT,
      requestTimeout: REQUEST_TIMEOUT,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT,
      connectionsCheckingInterval: CHECK_INTERVAL,
      maxHeaderSize: MAX_HEADERS,
    };
    const server =
      credentials === undefined
        ? createServer(limits)
        : createSecureServer({ ...limits, key: credentials.key, cert: credentials.cert, handshakeTimeout: HEADERS_TIMEOUT });
    server.setTimeout(IDLE_TIMEOUT);
    server.maxConnections = options.maxConnections + REFUSED_AT_ONCE;
    const sockets = new Set<Socket>();
    server.on("connection", (socket: Socket) => track(socket, sockets, options));
    // With TLS a request's socket is another object than the connection's.
    server.on("secureConnection", (socket: Socket) => markExcess(socket, options));
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
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error: NodeJS.ErrnoException) =>
        reject(new Error(`${directive}: ${listenProblem(error, address)}`, { cause: error })),
      );
      server.listen(
        { port: address.port, ...(address.host !== undefined && { host: address.host }), ipv6Only: address.host === "::" },
        resolve,
      );
    });
    // After this a failing accept (no file descriptors left) must not end the process; Node goes on accepting.
    server.removeAllListeners("error").on("error", () => {});
    return new HttpListener(directive, server, sockets, credentials !== undefined);
  }

  private constructor(directive: string, server: Server, sockets: Set<Socket>, isSecure: boolean) {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error(`${directive}: no TCP address`);
    this.directive = directive;
    this.address = address;
    this.isSecure = isSecure;
    this.#server = server;
    this.#sockets = sockets;
  }

  /** Takes no more connections, lets requests in flight end within a second, then cuts. Idempotent. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const cut = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, CLOSE_GRACE);
    await closed;
    clearTimeout(cut);
  }
}

/**
 * Key and certificate of an `https` section. When neither is configured, a self-signed pair is made and kept in `dataDir`.
 *
 * @throws Error naming the directive and the file
 */
export async function readCredentials(
  directive: string,
  { key, cert }: HttpsConfig,
  dataDir: string,
  log: Pick<HttpLog, "info" | "warn">,
): Promise<Credentials> {
  if (key === "" && cert === "") {
    const { file, ...pair } = await keptSelfSigned(dataDir, Date.now());
    const told = `${directive} has no certificate configured: a self-signed one is used`;
    if (file !== undefined) log.info({ certificate: file }, told);
    else log.warn({ data_dir: dataDir }, `${told}, another one after each start: the folder cannot be written`);
    return pair;
  }
  const read = async (name: string, file: string): Promise<string> => {
    if (file === "") throw new Error(`${directive}.${name}: a PEM file is needed beside the other one`);
    return await readFile(file, "utf8").catch((error: Error) => {
      throw new Error(`${directive}.${name}: ${error.message}`, { cause: error });
    });
  };
  const credentials = { key: await read("key", key), cert: await read("cert", cert) };
  try {
    createSecureContext(credentials);
  } catch (error) {
    throw new Error(
      `${directive}: key ${key} and certificate ${cert} do not go together or are no PEM: ${(error as Error).message}`,
      { cause: error },
    );
  }
  return credentials;
}

export function formatAddress({ host, port }: { host?: string | undefined; port: number }): string {
  return host === undefined ? String(port) : host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Sockets whose first request is refused, because too many were open when they came. */
const excess = new WeakSet<Socket>();

function track(socket: Socket, sockets: Set<Socket>, { connections, maxConnections }: ListenerOptions): void {
  if (sockets.has(socket)) return; // read once more, see withoutUpgrade
  connections.open++;
  markExcess(socket, { connections, maxConnections });
  sockets.add(socket);
  socket.once("close", () => {
    connections.open--;
    sockets.delete(socket);
  });
}

/** Some clients offer HTTP/2 in each request (`Upgrade: h2c`); Node hands those over half read. They are read once more without it. */
function withoutUpgrade(server: Server, request: IncomingMessage, socket: Socket, head: Buffer): void {
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
