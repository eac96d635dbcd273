// Viewers over HLS. There is no connection to count, so a viewer is who keeps asking: by the id that its media playlist's address carries, or
// by connection, address and program where a file is asked for. The hub is asked once per viewer.

import type { Clock, TimerHandle } from "../hub/clock.js";
import { displayName, shownId } from "../hub/names.js";
import type { Hub, Peer, Play, StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";

/** Who asks. */
export type Asker = {
  /** Remote address without port. */
  readonly address: string;
  /** User-Agent. */
  readonly agent: string;
  readonly pageUrl: string | undefined;
  /** The connection, by identity. */
  readonly connection: object;
};

export type SessionsOptions = {
  readonly hub: Pick<Hub, "find" | "play">;
  readonly clock: Clock;
  readonly log: SessionLog;
  /** Makes an id that nobody can guess, of letters and digits. */
  readonly newId: () => string;
};

export interface SessionLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Milliseconds without a request after which a viewer has left, at least. */
export const MIN_IDLE = 8_000;
/** Milliseconds that are remembered of one who was sent away. */
const KICKED = 30_000;
/** Viewers at one time: asking costs a client nothing, so that there must be a bound. */
const MAX_SESSIONS = 20_000;
const SWEEP = 1_000; // ms

export class Session {
  readonly id: string;
  readonly name: StreamName;
  /** Of the media playlist's address; undefined: one who is known by address and program alone. */
  readonly context: string | undefined;
  /** asking: the hub has not answered; ended: the stream did; kicked: may not come back for a while. */
  state: "asking" | "open" | "ended" | "kicked" | "refused" | "left" = "asking";
  refusal: Refusal | undefined;
  play: Play | undefined;
  bytes = 0;
  requests = 0;
  /** Requests that wait for an answer. */
  held = 0;
  lastSeen: number;
  closedAt = 0;
  /** Milliseconds between two requests after which it has left: a plain player asks once in a target duration. */
  patience = MIN_IDLE;
  readonly startedAt: number;
  readonly clientKey: string;
  waiting: ((refusal: Refusal | undefined) => void)[] = [];

  constructor(id: string, name: StreamName, context: string | undefined, clientKey: string, now: number) {
    this.id = id;
    this.name = name;
    this.context = context;
    this.clientKey = clientKey;
    this.startedAt = now;
    this.lastSeen = now;
  }

  /** Calls back when the hub has answered: in this call, if it has. */
  whenGranted(callback: (refusal: Refusal | undefined) => void): void {
    if (this.state === "asking") this.waiting.push(callback);
    else if (this.state === "kicked") callback(new Refusal("forbidden", "This session was ended by the gateway's operator."));
    else callback(this.refusal);
  }
}

export class Sessions {
  readonly #options: SessionsOptions;
  /** By stream and id. */
  readonly #byContext = new Map<string, Session>();
  /** By stream, address and program: the latest. */
  readonly #byClient = new Map<string, Session>();
  readonly #byConnection = new WeakMap<object, Session>();
  readonly #all = new Set<Session>();
  #timer: TimerHandle | undefined;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#all.size;
  }

  /** Viewers who are let in. */
  countOf(name: StreamName): number {
    const prefix = keyOf(name);
    let count = 0;
    for (const session of this.#all) if (session.state === "open" && keyOf(session.name) === prefix) count++;
    return count;
  }

  /** The viewer of this id, or a new one. @throws Refusal `overloaded` */
  byContext(name: StreamName, context: string, asker: Asker, parameters: string): Session {
    const known = this.#byContext.get(keyOf(name, context));
    const session = known ?? this.#open(name, context, asker, parameters);
    this.#touch(session);
    this.#byConnection.set(asker.connection, session);
    this.#byClient.set(session.clientKey, session);
    return session;
  }

  /**
   * The viewer who asks for a file of this stream, or a new one.
   *
   * @param isEnded the file is of a stream that has ended: those who watched it may have the rest
   * @throws Refusal `overloaded`
   */
  byAsker(name: StreamName, asker: Asker, parameters: string, isEnded: boolean): Session {
    const isKnown = (session: Session | undefined): session is Session => {
      if (session === undefined || !isSame(session.name, name)) return false;
      const { state } = session;
      return state === "asking" || state === "open" || state === "kicked" || (state === "ended" && isEnded);
    };
    const ofConnection = this.#byConnection.get(asker.connection);
    const ofClient = this.#byClient.get(keyOf(name, asker.address, asker.agent));
    const known = [ofConnection, ofClient].find(isKnown);
    const session = known ?? this.#open(name, undefined, asker, parameters);
    this.#touch(session);
    return session;
  }

  /** The stream has ended: its viewers may still fetch what there is, until `forget`. */
  end(name: StreamName, reason: string): void {
    for (const session of this.#all) if (isSame(session.name, name)) this.#close(session, "ended", reason);
  }

  /** What is left of a stream's viewers. */
  forget(name: StreamName): void {
    for (const session of this.#all) if (isSame(session.name, name) && session.state === "ended") this.#remove(session);
  }

  close(reason: string): void {
    for (const session of this.#all) {
      this.#close(session, "left", reason);
      this.#remove(session);
    }
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #touch(session: Session): void {
    session.requests++;
    session.lastSeen = this.#options.clock.now();
  }

  #open(name: StreamName, context: string | undefined, asker: Asker, parameters: string): Session {
    if (this.#all.size >= MAX_SESSIONS) throw new Refusal("overloaded", `this gateway has ${MAX_SESSIONS} HLS viewers already`);
    const { hub, clock, newId } = this.#options;
    const clientKey = keyOf(name, asker.address, asker.agent);
    const session = new Session(newId(), name, context, clientKey, clock.now());
    this.#all.add(session);
    if (context !== undefined) this.#byContext.set(keyOf(name, context), session);
    this.#byClient.set(clientKey, session);
    this.#watch();
    const peer: Peer = {
      id: session.id,
      protocol: "hls",
      address: asker.address,
      parameters,
      ...(asker.pageUrl !== undefined && { pageUrl: asker.pageUrl }),
    };
    hub
      .play({
        name,
        peer,
        lane: "frames",
        mayWait: hub.find(name)?.state === "grace",
        close: (reason) => this.#close(session, "kicked", reason),
        statistics: () => ({ bytes: session.bytes, requests: session.requests, held: session.held }),
      })
      .then(
        (play) => this.#granted(session, play, peer),
        (error: unknown) => this.#refused(session, error, peer),
      );
    return session;
  }

  #granted(session: Session, play: Play, peer: Peer): void {
    if (session.state !== "asking") {
      play.end("the viewer left before it was granted");
      return;
    }
    session.play = play;
    session.state = "open";
    this.#options.log.info(this.#fields(session, peer), "hls play started");
    settle(session, undefined);
  }

  #refused(session: Session, error: unknown, peer: Peer): void {
    const refusal =
      error instanceof Refusal ? error : new Refusal("unavailable", error instanceof Error ? error.message : String(error));
    if (refusal.code !== "not-live") {
      this.#options.log.info({ ...this.#fields(session, peer), code: refusal.code, reason: refusal.message }, "hls play refused");
    }
    if (session.state === "asking") session.state = "refused";
    session.refusal = refusal;
    this.#remove(session); // who asks again is asked about again
    settle(session, refusal);
  }

  #close(session: Session, state: "ended" | "kicked" | "left", reason: string): void {
    if (session.state === "asking") {
      session.state = state;
      settle(session, new Refusal("not-live", reason));
      return;
    }
    if (session.state !== "open") return;
    session.state = state;
    session.closedAt = this.#options.clock.now();
    const { play } = session;
    session.play = undefined;
    if (play === undefined) return;
    const seconds = Math.round(session.closedAt - session.startedAt) / 1000;
    this.#options.log.info(
      {
        session: shownId(session.id),
        stream: displayName(session.name),
        reason,
        seconds,
        bytes: session.bytes,
        requests: session.requests,
      },
      "hls play ended",
    );
    play.end(reason);
  }

  #remove(session: Session): void {
    this.#all.delete(session);
    if (session.context !== undefined) this.#byContext.delete(keyOf(session.name, session.context));
    if (this.#byClient.get(session.clientKey) === session) this.#byClient.delete(session.clientKey);
  }

  #watch(): void {
    if (this.#timer !== undefined) return;
    this.#timer = this.#options.clock.after(SWEEP, () => {
      this.#timer = undefined;
      this.#sweep(this.#options.clock.now());
      if (this.#all.size > 0) this.#watch();
    });
  }

  #sweep(now: number): void {
    for (const session of this.#all) {
      if (session.state === "open" && session.held === 0 && now - session.lastSeen > session.patience) {
        this.#close(session, "left", "the player stopped asking");
        this.#remove(session);
      } else if (session.state === "kicked" && now - session.closedAt > KICKED) {
        this.#remove(session);
      }
    }
  }

  #fields(session: Session, peer: Peer): object {
    return { session: shownId(session.id), stream: displayName(session.name), peer: peer.address };
  }
}

function settle(session: Session, refusal: Refusal | undefined): void {
  for (const callback of session.waiting.splice(0)) callback(refusal);
}

function isSame(a: StreamName, b: StreamName): boolean {
  return a.stream === b.stream && a.app === b.app && a.vhost === b.vhost;
}

/** Names hold no control character, so that nothing can be mistaken for something else. */
export function keyOf({ vhost, app, stream }: StreamName, ...more: readonly string[]): string {
  return [vhost, app, stream, ...more].join("\n");
}
