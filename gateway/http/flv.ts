// HTTP-FLV and WebSocket-FLV: `GET /app/stream.flv`, and the same address over a WebSocket. The body has no length and no chunks: what
// goes to the socket is the same for every viewer of a stream. Adobe FLV specification 10.1 annex E, Enhanced RTMP v2, RFC 6455.

import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerResponse, ServerHttp2Stream } from "node:http2";
import { Socket } from "node:net";

import { type WebSocket, WebSocketServer } from "ws";

import type { Clock } from "../hub/clock.js";
import { closeReason } from "../hub/close-reason.js";
import { displayName, shownId } from "../hub/names.js";
import type { Hub, Peer } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import { FlvFanOuts, type Framing } from "./flv-fan-outs.js";
import { type FlvTarget, type FlvVhost, parseFlvUrl } from "./flv-target.js";
import { FlvViewer } from "./flv-viewer.js";
import { type Problem, problemOf } from "./problem.js";
import type { HttpLog } from "./services.js";
import { addressOf, hostOf } from "./whip-whep.js";

export type FlvOptions = {
  readonly hub: Pick<Hub, "find" | "play">;
  readonly clock: Clock;
  readonly log: HttpLog;
  /** The vhost that serves a name; undefined when there is none. */
  readonly vhost: (name: string) => FlvVhost | undefined;
};

export class FlvService {
  readonly #options: FlvOptions;
  readonly #fanOuts: FlvFanOuts;
  readonly #viewers = new Set<Session>();
  /** Sockets that a stream is played to. */
  readonly #taken = new WeakSet<object>();
  // Compression would cost each viewer what is done once for all. Players say next to nothing: pings, and the closing handshake.
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: 4096,
    perMessageDeflate: false,
  });

  constructor(options: FlvOptions) {
    this.#options = options;
    this.#fanOuts = new FlvFanOuts(options.clock);
  }

  get viewerCount(): number {
    return this.#viewers.size;
  }

  /** The stream an address means, or undefined. @throws Refusal `bad-request` */
  target(request: IncomingMessage): FlvTarget | undefined {
    return parseFlvUrl(request.url ?? "", hostOf(request.headers.host ?? ""), this.#options.vhost);
  }

  /** Answers HEAD: whether there is something to play. @throws Refusal `not-live` */
  requireLive({ name }: FlvTarget): void {
    const state = this.#options.hub.find(name)?.state;
    if (state !== "live" && state !== "grace") {
      throw new Refusal("not-live", `nobody publishes ${displayName(name)} at the moment`);
    }
  }

  /** Plays to a GET; the answer's head is written when the hub has granted it. @throws Refusal before anything is written */
  async serve(target: FlvTarget, request: IncomingMessage, response: ServerResponse, headers: FlvHeaders): Promise<void> {
    if (request.httpVersionMajor === 2) return await this.#serveStream(target, request, response, headers);
    const { socket } = request;
    // What is pipelined behind a body without end can never be answered, and would be written into it.
    if (this.#taken.has(socket)) throw new Refusal("bad-request", "This connection plays a stream already.");
    this.#taken.add(socket);
    await this.#play(target, request, {
      socket,
      framing: "http",
      open: () => {
        for (const [name, value] of Object.entries({ ...headers, ...FLV_HEADERS, Connection: "close" })) {
          response.setHeader(name, value);
        }
        response.removeHeader("Transfer-Encoding"); // ends with the connection
        response.writeHead(200).flushHeaders();
      },
      close: () => socket.end(),
    });
  }

  /** HTTP/2: the body goes through the request's own stream, and the connection is others' too. */
  async #serveStream(target: FlvTarget, request: IncomingMessage, response: ServerResponse, headers: FlvHeaders): Promise<void> {
    const { stream } = response as unknown as Http2ServerResponse;
    await this.#play(target, request, {
      socket: stream,
      framing: "http",
      open: () => void response.writeHead(200, { ...headers, ...FLV_HEADERS }).flushHeaders(),
      close: () => stream.end(),
    });
  }

  /** Takes a WebSocket to `/app/stream.flv`, or refuses its handshake. Never throws. */
  async upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    socket.on("error", () => {}); // told by "close" too
    try {
      const target = this.target(request);
      if (target === undefined) throw new Refusal("not-found", "There is nothing at this address.");
      let webSocket: WebSocket | undefined;
      await this.#play(target, request, {
        socket,
        framing: "websocket",
        open: () => {
          this.#webSockets.handleUpgrade(request, socket, head, (opened) => {
            webSocket = opened;
            opened.on("error", () => {}); // a message that makes no sense: ws closes with the right code
          });
        },
        close: (reason) => {
          if (webSocket === undefined) socket.destroy();
          else webSocket.close(1000, closeReason(reason));
        },
      });
    } catch (error) {
      refuseUpgrade(socket, this.#problemOf(error));
    }
  }

  /** What is answered for an error of `target`, `requireLive` or `serve`. */
  #problemOf(error: unknown): Problem {
    if (!(error instanceof Refusal)) this.#options.log.error({ err: error }, "an FLV request failed");
    return flvProblem(error);
  }

  async #play(target: FlvTarget, request: IncomingMessage, transport: Transport): Promise<void> {
    const { hub, clock, log } = this.#options;
    const { name, vhost, selection, parameters } = target;
    const { socket, framing } = transport;
    const pageUrl = request.headers.referer ?? request.headers.origin;
    const peer: Peer = {
      id: randomUUID(),
      protocol: "flv",
      address: addressOf(request.socket),
      parameters,
      ...(pageUrl !== undefined && { pageUrl: pageUrl.slice(0, 1024) }),
    };
    const viewer = new FlvViewer({
      output: socket,
      clock,
      fanOuts: this.#fanOuts,
      selection,
      framing,
      maxWait: vhost.play.queueLength,
      onEnd: (reason, how) => session.close(reason, how),
    });
    const fields = {
      session: shownId(peer.id),
      stream: displayName(name),
      peer: peer.address,
      ...(framing !== "http" && { over: "websocket" }),
    };
    const session = new Session(viewer, transport, {
      onClosed: (reason) => {
        this.#viewers.delete(session);
        log.info({ ...fields, reason, ...session.figures(clock.now()) }, "flv play ended");
      },
      startedAt: clock.now(),
      after: (ms, callback) => void clock.after(ms, callback),
    });
    const play = await hub
      .play({
        name,
        peer,
        lane: "frames",
        mayWait: hub.find(name)?.state === "grace", // a publisher that may be back in a moment is waited for
        close: (reason) => session.close(reason, "ended"),
        statistics: () => viewer.statistics(),
      })
      .catch((error: unknown) => {
        this.#taken.delete(socket);
        if (error instanceof Refusal && error.code !== "not-live") {
          log.info({ ...fields, code: error.code, reason: error.message }, "flv play refused");
        }
        throw error;
      });
    if (session.isClosed || socket.destroyed || !socket.writable) {
      play.end("the client left before it was granted");
      return;
    }
    this.#viewers.add(session);
    log.info({ ...fields, ...(selection !== "all" && { only: selection }) }, "flv play started");
    transport.open();
    session.listen();
    viewer.start(play);
  }
}

/** Headers that the caller has for every answer (CORS). */
export type FlvHeaders = Readonly<Record<string, string>>;

export const FLV_HEADERS: FlvHeaders = {
  "Content-Type": "video/x-flv",
  "Cache-Control": "no-store",
  "X-Content-Type-Options": "nosniff",
  "X-Accel-Buffering": "no", // nginx as a proxy would gather
};

/** The refusal as HTTP tells it: a stream that is not live is not found, as FLV players know it. */
export function flvProblem(error: unknown): Problem {
  if (!(error instanceof Refusal)) return problemOf("internal", "The gateway's log says what.");
  return problemOf(error.code, error.message, error.code === "not-live" ? 404 : undefined);
}

type Transport = {
  readonly socket: Socket | ServerHttp2Stream;
  readonly framing: Framing;
  /** The hub has said yes. */
  readonly open: () => void;
  /** Ends it in the transport's own way. */
  readonly close: (reason: string) => void;
};

type SessionOptions = {
  /** Once. */
  readonly onClosed: (reason: string) => void;
  readonly startedAt: number;
  readonly after: (ms: number, callback: () => void) => void;
};

/** Socket and viewer. The socket closes → the viewer ends; the stream ends or the hub kicks → the viewer ends, the socket is closed. */
class Session {
  readonly #viewer: FlvViewer;
  readonly #transport: Transport;
  readonly #options: SessionOptions;
  #isClosed = false;

  constructor(viewer: FlvViewer, transport: Transport, options: SessionOptions) {
    this.#viewer = viewer;
    this.#transport = transport;
    this.#options = options;
  }

  listen(): void {
    const { socket } = this.#transport;
    socket.setTimeout(0); // a stream may be silent for long
    if (socket instanceof Socket) {
      socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE);
      socket.on("end", () => this.close("the client closed the connection", "ended")); // a stream's end is only the request's
    }
    socket.on("drain", () => this.#viewer.drained());
    socket.on("error", (error: Error) => this.close(`socket: ${error.message}`, "gave-up"));
    socket.on("close", () => this.close("the connection broke", "gave-up"));
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  close(reason: string, how: "ended" | "gave-up"): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { socket, close } = this.#transport;
    this.#viewer.end(reason);
    if (how === "gave-up") {
      socket.destroy();
    } else {
      close(reason);
      if (!socket.destroyed) this.#options.after(GOODBYE, () => socket.destroy());
    }
    this.#options.onClosed(reason);
  }

  figures(now: number): object {
    const { bytes, falls, dropped } = this.#viewer.statistics();
    return { seconds: Math.round(now - this.#options.startedAt) / 1000, bytes, falls, dropped };
  }
}

function refuseUpgrade(socket: Socket, { status, title, headers, body }: Problem): void {
  const lines = Object.entries({ ...headers, Connection: "close", "Content-Length": String(Buffer.byteLength(body)) });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.end(`HTTP/1.1 ${status} ${title}\r\n${head}\r\n${body}`);
}

const KEEP_ALIVE = 30_000; // ms without traffic until the kernel asks whether the peer is there
const GOODBYE = 1_000; // ms between the last word and the end of the socket
