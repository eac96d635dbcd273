// Signaling over WebSocket (EDGE): `/sig/v1/rtc`, upgraded on whichever HTTP listener the request came to. RFC 6455.

import { randomBytes, randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

import { type RawData, WebSocket, WebSocketServer } from "ws";

import type { Clock, TimerHandle } from "../hub/clock.js";
import { closeReason } from "../hub/close-reason.js";
import { shownId } from "../hub/names.js";
import { RateLimit } from "../hub/rate-limit.js";
import { MAX_MESSAGE } from "./message.js";
import { CLOSE, type Connection, type Link, type RoomEvent, type RoomState, Rooms, type Visitor } from "./rooms.js";

export type SignalingOptions = {
  readonly clock: Clock;
  readonly log: SignalingLog;
  readonly maxRooms: number;
  /** Per room. */
  readonly maxParticipants: number;
  /** The configured vhost that serves a name; undefined when there is none. */
  readonly vhost: (name: string) => string | undefined;
  /** Why an address may not join rooms of a vhost, or undefined. */
  readonly refusal?: (vhost: string, address: string) => string | undefined;
  /** Bytes that may wait for one socket; one that lets more wait is closed. Default 1 MiB. */
  readonly maxWaiting?: number;
};

export interface SignalingLog {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export class SignalingServer {
  readonly #options: SignalingOptions;
  readonly #rooms: Rooms;
  readonly #opening = new RateLimit(OPENING);
  readonly #sockets = new Set<WebSocket>();
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: MAX_MESSAGE,
    perMessageDeflate: false, // small messages, and memory per socket
    WebSocket: PoliteWebSocket,
  });
  #timer: TimerHandle | undefined;
  #state: "open" | "closed" = "open";

  constructor(options: SignalingOptions) {
    this.#options = options;
    const { maxRooms, maxParticipants, refusal } = options;
    this.#rooms = new Rooms({
      maxRooms,
      maxParticipants,
      secret: () => randomBytes(16).toString("base64url"),
      ...(refusal !== undefined && { refusal: ({ vhost, address }: Visitor) => refusal(vhost, address) }),
      onEvent: (event) => this.#onEvent(event),
    });
  }

  /** Takes a WebSocket, or refuses its handshake. Never throws. */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    socket.on("error", () => {}); // told by "close" too
    const { clock, vhost: vhostOf } = this.#options;
    if (this.#state === "closed") {
      refuse(socket, 503, "Service Unavailable", "The gateway is shutting down.");
      return;
    }
    const address = (socket.remoteAddress ?? "").replace(/^::ffff:(?=\d+\.)/, "");
    if (!this.#opening.take(clock.now(), address)) {
      refuse(socket, 429, "Too Many Requests", "Too many connections from this address: wait a few seconds.");
      return;
    }
    const query = new URLSearchParams((request.url ?? "").split("?", 2)[1] ?? "");
    const vhost = vhostOf(query.get("vhost") ?? "");
    if (vhost === undefined) {
      refuse(socket, 404, "Not Found", "There is no such vhost.");
      return;
    }
    socket.setTimeout(0); // pings tell whether somebody is there
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) =>
      this.#open(webSocket, { id: randomUUID(), address, vhost }),
    );
  }

  /** Times in milliseconds since 1970. */
  rooms(): readonly RoomState[] {
    const { clock } = this.#options;
    const offset = clock.wallTime() - clock.now();
    return Array.from(this.#rooms.states(), (room) => ({
      ...room,
      since: Math.round(room.since + offset),
      participants: room.participants.map((one) => ({ ...one, since: Math.round(one.since + offset) })),
    }));
  }

  room(vhost: string, name: string): RoomState | undefined {
    return this.#rooms.find(vhost, name);
  }

  /** Sockets and rooms now, and what was counted since the start. */
  get figures(): { readonly sockets: number; readonly rooms: number; readonly messages: number; readonly refused: number } {
    const { messages, refused } = this.#rooms.totals;
    return { sockets: this.#rooms.socketCount, rooms: this.#rooms.roomCount, messages, refused };
  }

  /** Says goodbye to all; sockets that do not hear it are cut after a second. Idempotent. */
  async close(reason: string): Promise<void> {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#timer?.cancel();
    this.#rooms.close(reason);
    if (this.#sockets.size > 0) {
      const gone = Promise.all([...this.#sockets].map((one) => new Promise((resolve) => one.once("close", resolve))));
      await gone;
    }
    this.#webSockets.close();
  }

  #open(webSocket: WebSocket, visitor: Visitor): void {
    const { clock, maxWaiting = MAX_WAITING } = this.#options;
    this.#sockets.add(webSocket);
    const link: Link = {
      send: (text) => {
        if (webSocket.bufferedAmount > maxWaiting) return false;
        webSocket.send(text);
        return true;
      },
      ping: () => webSocket.ping(),
      close: (code, reason) => {
        webSocket.close(code, closeReason(reason));
        clock.after(GOODBYE, () => webSocket.terminate());
      },
    };
    const connection: Connection = this.#rooms.open(clock.now(), visitor, link);
    if (webSocket instanceof PoliteWebSocket) webSocket.onTooLarge = () => connection.tooLarge();
    webSocket.on("message", (data: RawData, isBinary: boolean) => this.#onMessage(connection, data, isBinary));
    webSocket.on("pong", () => connection.pong());
    webSocket.on("error", (error) => connection.closed(`socket: ${error.message}`));
    webSocket.on("close", (code) => {
      this.#sockets.delete(webSocket);
      connection.closed(code === NO_CLOSE_FRAME ? "the connection broke" : "the client closed the connection");
    });
    this.#arm();
  }

  #onMessage(connection: Connection, data: RawData, isBinary: boolean): void {
    const now = this.#options.clock.now();
    const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.isBuffer(data) ? data : Buffer.from(data);
    try {
      if (isBinary) connection.receiveBinary(now, bytes.length);
      else connection.receive(now, bytes.toString("utf8"));
    } catch (error) {
      this.#options.log.error({ err: error }, "a signaling message failed");
      connection.end(1011, "internal error");
    }
  }

  #arm(): void {
    const due = this.#rooms.nextTimeout();
    if (this.#timer !== undefined || due === undefined || this.#state === "closed") return;
    const { clock } = this.#options;
    this.#timer = clock.after(due - clock.now(), () => {
      this.#timer = undefined;
      this.#rooms.onTimeout(clock.now());
      this.#arm();
    });
  }

  #onEvent(event: RoomEvent): void {
    const { visitor, room } = event;
    const fields = { session: shownId(visitor.id), room, peer: visitor.address };
    const { log } = this.#options;
    switch (event.type) {
      case "join":
        log.info({ ...fields, display: event.display, ...(event.isResumed && { resumed: true }) }, "room join started");
        break;
      case "leave":
        log.info({ ...fields, display: event.display, reason: event.reason }, "room join ended");
        break;
      case "refused":
        log.info({ ...fields, code: event.code, reason: event.reason }, "room join refused");
        break;
    }
  }
}

/** ws closes at once when a message is too large; the client is told why before that. */
class PoliteWebSocket extends WebSocket {
  onTooLarge: (() => void) | undefined;

  override close(code?: number, data?: string | Buffer): void {
    if (code === CLOSE.tooLarge && this.onTooLarge !== undefined && this.readyState === WebSocket.OPEN) {
      const tell = this.onTooLarge;
      this.onTooLarge = undefined; // it closes itself
      tell();
      return;
    }
    super.close(code, data);
  }
}

function refuse(socket: Socket, status: number, title: string, detail: string): void {
  const retry = status === 404 ? "" : "Retry-After: 5\r\n";
  const length = Buffer.byteLength(detail);
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\n${retry}Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n${detail}`,
  );
}

/** Sockets of one address at once, and a second after that. */
const OPENING = { burst: 200, rate: 20 };
const MAX_WAITING = 1 << 20;
const GOODBYE = 1_000; // ms between the last word and the end of the socket
const NO_CLOSE_FRAME = 1006; // RFC 6455 section 7.4.1
