// The rooms (engine): who is in which room, and what the others are told. One `Connection` per socket; texts in, texts out.
//
// Who closes whom: a socket that closes takes its participant out of the room; a participant that is dead, floods or does not read has
// its link closed; the last one out frees the room.

import { RateLimit } from "../hub/rate-limit.js";
import { MessageBudget } from "./budget.js";
import {
  type Envelope,
  MAX_MESSAGE,
  parseEnvelope,
  parseRequest,
  RoomError,
  type RoomRequest,
  type TransactionId,
  writeError,
} from "./message.js";

/** The socket of a connection. Nothing here calls back in the same turn. */
export interface Link {
  /** @returns false when too much waits already: the text was not taken */
  send(text: string): boolean;
  ping(): void;
  /** The last word; nothing is sent after it. Codes: RFC 6455 section 7.4, and `CLOSE`. */
  close(code: number, reason: string): void;
}

/** Who opens a socket. */
export type Visitor = {
  /** Unguessable id of the connection. */
  readonly id: string;
  readonly address: string;
  /** Vhost of the room's streams: rooms of one name in two vhosts are two rooms. */
  readonly vhost: string;
};

export type RoomsOptions = {
  readonly maxRooms: number;
  /** Per room. */
  readonly maxParticipants: number;
  /** Unguessable texts, for taking over one's own name after an interruption. */
  readonly secret: () => string;
  /** Why somebody may not join, or undefined. */
  readonly refusal?: (visitor: Visitor, room: string) => string | undefined;
  readonly onEvent?: (event: RoomEvent) => void;
};

export type RoomEvent =
  | {
      readonly type: "join";
      readonly visitor: Visitor;
      readonly room: string;
      readonly display: string;
      readonly isResumed: boolean;
    }
  | {
      readonly type: "leave";
      readonly visitor: Visitor;
      readonly room: string;
      readonly display: string;
      readonly reason: string;
    }
  | {
      readonly type: "refused";
      readonly visitor: Visitor;
      readonly room: string;
      readonly code: string;
      readonly reason: string;
    };

/** A room as the API shows it; times in the engine's milliseconds. */
export type RoomState = {
  readonly vhost: string;
  readonly name: string;
  readonly since: number;
  /** In the order in which they came. */
  readonly participants: readonly {
    readonly display: string;
    readonly publishing: boolean;
    readonly since: number;
    readonly address: string;
  }[];
};

/** Close codes of our own. */
export const CLOSE = { dead: 4000, resumed: 4001, policy: 1008, tooLarge: 1009, slow: 1013, going: 1001 } as const;

/** Milliseconds between two pings: with two that may go unanswered, whose network has died is out of the room within 18 s. */
export const PING_INTERVAL = 6_000;
const UNANSWERED = 2;
/** Milliseconds until a socket must have joined a room. */
const JOIN_WITHIN = 30_000;
/** Joins of one address at once, and a second after that: a class behind one address comes together, a program that guesses names does not. */
const JOINS = { burst: 100, rate: 20 };

export class Rooms {
  readonly #options: RoomsOptions;
  readonly #rooms = new Map<string, Room>();
  readonly #connections = new Set<Connection>();
  readonly #joins = new RateLimit(JOINS);
  #nextPing: number | undefined;
  /** Since this was made. */
  readonly totals = { messages: 0, refused: 0, joins: 0 };

  constructor(options: RoomsOptions) {
    this.#options = options;
  }

  get socketCount(): number {
    return this.#connections.size;
  }

  get roomCount(): number {
    return this.#rooms.size;
  }

  open(now: number, visitor: Visitor, link: Link): Connection {
    const connection = new Connection(now, visitor, link, this);
    this.#connections.add(connection);
    this.#nextPing ??= now + PING_INTERVAL;
    return connection;
  }

  *states(): Iterable<RoomState> {
    for (const room of this.#rooms.values()) yield stateOf(room);
  }

  find(vhost: string, name: string): RoomState | undefined {
    const room = this.#rooms.get(keyOf(vhost, name));
    return room === undefined ? undefined : stateOf(room);
  }

  /** When `onTimeout` is wanted; undefined while nobody is there. */
  nextTimeout(): number | undefined {
    return this.#nextPing;
  }

  /** Pings, and parts with those who did not answer. Harmless when it comes late or for nothing. */
  onTimeout(now: number): void {
    if (this.#nextPing === undefined || now < this.#nextPing) return;
    for (const connection of [...this.#connections]) {
      if (connection.unanswered >= UNANSWERED) {
        connection.end(CLOSE.dead, `${UNANSWERED} pings were not answered`);
      } else if (connection.participant === undefined && now - connection.idleSince > JOIN_WITHIN) {
        connection.end(CLOSE.policy, "no room was joined");
      } else {
        connection.unanswered++;
        connection.link.ping();
      }
    }
    this.#nextPing = this.#connections.size === 0 ? undefined : now + PING_INTERVAL;
  }

  close(reason: string): void {
    for (const connection of [...this.#connections]) connection.end(CLOSE.going, reason, "silently");
    this.#nextPing = undefined;
  }

  /** For connections only. */
  forget(connection: Connection): void {
    this.#connections.delete(connection);
  }

  /** For connections only. @throws RoomError */
  request(now: number, connection: Connection, tid: TransactionId, request: RoomRequest): void {
    if (request.action === "join") {
      try {
        this.#join(now, connection, tid, request);
      } catch (error) {
        if (error instanceof RoomError) {
          this.#emit({
            type: "refused",
            visitor: connection.visitor,
            room: request.room,
            code: error.code,
            reason: error.message,
          });
        }
        throw error;
      }
      return;
    }
    const { participant } = connection;
    if (participant === undefined) throw new RoomError("not-joined", "Join a room first.");
    const { room } = participant;
    if ((request.room ?? room.name) !== room.name || (request.display ?? participant.display) !== participant.display) {
      throw new RoomError("forbidden", `You are ${participant.display} in ${room.name}, and speak for nobody else.`);
    }
    switch (request.action) {
      case "publish":
        participant.publishing = true;
        connection.answer(tid, "null");
        this.#tell(participant, "publish");
        return;
      case "control":
        connection.answer(tid, "null");
        this.#tell(participant, "control", request.call, request.data);
        return;
      case "leave":
        connection.answer(tid, "null");
        connection.idleSince = now;
        this.leave(connection, "left");
        return;
    }
  }

  /** For connections only. */
  leave(connection: Connection, reason: string, how: "told" | "silently" = "told"): void {
    const { participant } = connection;
    if (participant === undefined) return;
    connection.participant = undefined;
    const { room, display } = participant;
    room.participants.delete(display);
    if (room.participants.size === 0) this.#rooms.delete(keyOf(room.vhost, room.name));
    this.#emit({ type: "leave", visitor: connection.visitor, room: room.name, display, reason });
    if (how === "told") this.#tell(participant, "leave");
  }

  #join(now: number, connection: Connection, tid: TransactionId, request: RoomRequest & { action: "join" }): void {
    const { visitor } = connection;
    const { room: name, display, resume } = request;
    if (!this.#joins.take(now, visitor.address)) {
      throw new RoomError("too-many-joins", "Too many joins from this address: wait a few seconds.");
    }
    const present = connection.participant;
    if (present !== undefined) {
      throw new RoomError("joined-already", `This connection is ${present.display} in ${present.room.name}: leave first.`);
    }
    const refusal = this.#options.refusal?.(visitor, name);
    if (refusal !== undefined) throw new RoomError("forbidden", refusal);

    const key = keyOf(visitor.vhost, name);
    const known = this.#rooms.get(key);
    const holder = known?.participants.get(display);
    if (holder !== undefined && known !== undefined) {
      if (resume !== holder.secret)
        throw new RoomError("taken", `Somebody called ${display} is in this room: choose another name.`);
      this.#resume(holder, connection);
    } else {
      const { maxRooms, maxParticipants, secret } = this.#options;
      if (known === undefined && this.#rooms.size >= maxRooms) {
        throw new RoomError("too-many-rooms", `This gateway has its maximum of ${maxRooms} rooms.`);
      }
      if (known !== undefined && known.participants.size >= maxParticipants) {
        throw new RoomError("room-full", `This room has its maximum of ${maxParticipants} participants.`);
      }
      const room = known ?? { vhost: visitor.vhost, name, since: now, participants: new Map<string, Participant>() };
      this.#rooms.set(key, room);
      const participant = { room, display, publishing: false, since: now, secret: secret(), connection };
      room.participants.set(display, participant);
      connection.participant = participant;
    }
    const { participant } = connection;
    if (participant === undefined) return;
    this.totals.joins++;
    const { room } = participant;
    const answer = {
      action: "join",
      room: name,
      self: shown(participant),
      participants: shownAll(room),
      resume: participant.secret,
    };
    connection.answer(tid, JSON.stringify(answer));
    this.#emit({ type: "join", visitor, room: name, display, isResumed: holder !== undefined });
    if (holder === undefined) this.#tell(participant, "join");
  }

  /** The same participant on another socket: nobody else sees a thing. */
  #resume(participant: Participant, connection: Connection): void {
    const before = participant.connection;
    before.participant = undefined;
    before.end(CLOSE.resumed, "resumed on another connection");
    participant.connection = connection;
    connection.participant = participant;
  }

  /** Pushes to everybody else in the peer's room. The text is made once; only `self` differs. */
  #tell(peer: Participant, event: "join" | "publish" | "control" | "leave", param = "", data?: unknown): void {
    const { room } = peer;
    const head = JSON.stringify({
      msg: { action: "notify", event, param, data, room: room.name, peer: shown(peer), participants: shownAll(room) },
    }).slice(0, -2);
    const slow: Connection[] = [];
    for (const participant of room.participants.values()) {
      if (participant === peer) continue;
      if (!participant.connection.send(`${head},"self":${JSON.stringify(shown(participant))}}}`))
        slow.push(participant.connection);
    }
    for (const connection of slow) connection.end(CLOSE.slow, "it reads too slowly");
  }

  #emit(event: RoomEvent): void {
    this.#options.onEvent?.(event);
  }
}

type Room = {
  readonly vhost: string;
  readonly name: string;
  readonly since: number;
  readonly participants: Map<string, Participant>;
};

type Participant = {
  readonly room: Room;
  readonly display: string;
  publishing: boolean;
  readonly since: number;
  readonly secret: string;
  connection: Connection;
};

/** One socket. Its edge calls what begins with a verb of the network: receive, receiveBinary, pong, closed. */
export class Connection {
  readonly visitor: Visitor;
  readonly link: Link;
  participant: Participant | undefined;
  /** Pings since the last sign of life. */
  unanswered = 0;
  /** When it opened, or left its room. */
  idleSince: number;
  readonly #rooms: Rooms;
  readonly #budget: MessageBudget;
  #state: "open" | "closed" = "open";

  constructor(now: number, visitor: Visitor, link: Link, rooms: Rooms) {
    this.visitor = visitor;
    this.link = link;
    this.idleSince = now;
    this.#rooms = rooms;
    this.#budget = new MessageBudget(now);
  }

  receive(now: number, text: string): void {
    const verdict = this.#count(now, Buffer.byteLength(text));
    if (verdict === undefined) return;
    let envelope: Envelope = NO_REQUEST;
    try {
      envelope = parseEnvelope(text);
      if (verdict === "refused") throw new RoomError("too-many-messages", "Too many messages: this one was not followed.");
      const request = parseRequest(envelope);
      if (envelope.tid !== undefined) this.#rooms.request(now, this, envelope.tid, request);
    } catch (error) {
      if (!(error instanceof RoomError)) throw error;
      this.#refuse(error, envelope);
    }
  }

  receiveBinary(now: number, bytes: number): void {
    if (this.#count(now, bytes) === undefined) return;
    this.#refuse(new RoomError("binary", "Messages are JSON texts; binary ones are not taken."), NO_REQUEST);
  }

  /** A message that is too large to be read at all. */
  tooLarge(): void {
    this.#rooms.totals.messages++;
    this.#refuse(TOO_LARGE, NO_REQUEST);
    this.end(CLOSE.tooLarge, `a message has more than ${MAX_MESSAGE} bytes`);
  }

  pong(): void {
    this.unanswered = 0;
  }

  /** The socket is gone. */
  closed(reason: string): void {
    this.#part(reason);
  }

  /** Closes the link and leaves. Idempotent. */
  end(code: number, reason: string, how: "told" | "silently" = "told"): void {
    if (this.#state === "closed") return;
    this.link.close(code, reason);
    this.#part(reason, how);
  }

  send(text: string): boolean {
    return this.#state === "closed" || this.link.send(text);
  }

  /** @param msg JSON */
  answer(tid: TransactionId, msg: string): void {
    if (!this.send(`{"tid":${JSON.stringify(tid)},"msg":${msg}}`)) this.end(CLOSE.slow, "it reads too slowly");
  }

  /** @returns undefined when the connection is closed, perhaps by this message */
  #count(now: number, bytes: number): "granted" | "refused" | undefined {
    if (this.#state === "closed") return undefined;
    if (bytes > MAX_MESSAGE) {
      this.tooLarge();
      return undefined;
    }
    this.#rooms.totals.messages++;
    this.unanswered = 0;
    const verdict = this.#budget.take(now, bytes);
    if (verdict !== "flood") return verdict;
    this.end(CLOSE.policy, "too many messages");
    return undefined;
  }

  #refuse(error: RoomError, request: Envelope): void {
    this.#rooms.totals.refused++;
    if (!this.send(writeError(error, request))) this.end(CLOSE.slow, "it reads too slowly");
  }

  #part(reason: string, how: "told" | "silently" = "told"): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#rooms.forget(this);
    this.#rooms.leave(this, reason, how);
  }
}

const NO_REQUEST: Envelope = { tid: undefined, action: undefined, fields: {} };
const TOO_LARGE = new RoomError("too-large", `The message has more than ${MAX_MESSAGE} bytes.`);

function keyOf(vhost: string, room: string): string {
  return JSON.stringify([vhost, room]);
}

function shown({ display, publishing }: Participant): { display: string; publishing: boolean } {
  return { display, publishing };
}

function shownAll(room: Room): object[] {
  return Array.from(room.participants.values(), shown);
}

function stateOf({ vhost, name, since, participants }: Room): RoomState {
  return {
    vhost,
    name,
    since,
    participants: Array.from(participants.values(), ({ display, publishing, since, connection }) => ({
      display,
      publishing,
      since,
      address: connection.visitor.address,
    })),
  };
}
