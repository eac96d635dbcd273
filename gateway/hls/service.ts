// HLS as the rest of the gateway sees it: which streams are packaged and when, and what is answered to a request. It knows no sockets;
// http/hls-routes.ts says it in HTTP.

import type { Clock, TimerHandle } from "../hub/clock.js";
import { displayName } from "../hub/names.js";
import type { Hub, HubEvent, Stream, StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import { fileName } from "./names.js";
import { type HlsSettings, PackagedStream, type SequenceNumbers } from "./packaged-stream.js";
import type { Segment } from "./segment.js";
import { type Asker, keyOf, MIN_IDLE, type Session, type SessionLog, Sessions } from "./sessions.js";
import { CONTEXT, type HlsTarget, parseTarget } from "./target.js";

/** A vhost as HLS needs it. */
export type HlsVhost = {
  /** The configured vhost that serves the name. */
  readonly name: string;
  readonly hls: HlsSettings & {
    readonly enabled: boolean;
    readonly onDemand: "auto" | "on" | "off";
    /** Folder that segments are written to besides; empty: none. */
    readonly path: string;
  };
};

export type HlsServiceOptions = {
  readonly hub: Pick<Hub, "find" | "play">;
  readonly clock: Clock;
  readonly log: SessionLog;
  /** The vhost that serves a name; undefined when there is none. */
  readonly vhost: (name: string) => HlsVhost | undefined;
  /** So many bytes that nobody can guess. */
  readonly randomBytes: (size: number) => Buffer;
  /** Told of what happens to files, for disk and hooks. */
  readonly listener?: HlsListener;
};

export interface HlsListener {
  onSegment(packaged: PackagedStream, segment: Segment): void;
  onRemove(packaged: PackagedStream, segment: Segment): void;
  /** Nothing comes any more. */
  onEnd(packaged: PackagedStream): void;
}

/** A GET, or a HEAD, of an address of HLS. */
export type HlsRequest = Asker & {
  /** HEAD: makes no viewer and waits for nothing. */
  readonly isHead: boolean;
};

export type HlsAnswer =
  | {
      readonly kind: "playlist";
      readonly text: string;
      /** Strong, without quotes; undefined: the answer is one viewer's own. */
      readonly entityTag: string | undefined;
      /** It was asked for by a delivery directive: the address means this version. */
      readonly isDirected: boolean;
    }
  | {
      readonly kind: "media";
      /** Pieces that follow one another; shared, never changed. */
      readonly body: readonly Buffer[];
      readonly contentType: string;
      readonly entityTag: string;
      /** A key: not to be kept by anybody in between. */
      readonly isSecret: boolean;
    };

export type Respond = (answer: HlsAnswer | Refusal) => void;

/** Milliseconds that a new stream's first playlist is waited for, and at most a part of a live one. */
const READY_TIMEOUT = 20_000;
const MIN_HOLD = 5_000;
/** Milliseconds that an ended stream can still be fetched, at least: players have not shown its end yet. */
const ENDED_LINGER = 20_000;
/** Milliseconds that packaging on demand goes on after its last viewer. */
const ON_DEMAND_LINGER = 30_000;
/** Held requests of all streams; connections bound them too. */
const MAX_HELD = 50_000;
/** Ended streams whose numbers go on when they come back. */
const MAX_REMEMBERED = 1_000;

export class HlsService {
  readonly #options: HlsServiceOptions;
  readonly #sessions: Sessions;
  readonly #live = new Map<string, PackagedStream>();
  readonly #ended = new Map<string, PackagedStream>();
  readonly #byToken = new Map<string, PackagedStream>();
  readonly #numbers = new Map<string, SequenceNumbers>();
  readonly #timers = new Map<PackagedStream, TimerHandle>();
  #held = 0;
  #isClosed = false;

  constructor(options: HlsServiceOptions) {
    this.#options = options;
    const { hub, clock, log } = options;
    this.#sessions = new Sessions({ hub, clock, log, newId: () => options.randomBytes(12).toString("hex") });
  }

  /** Viewers. */
  get viewerCount(): number {
    return this.#sessions.count;
  }

  /** What is being packaged. */
  get streams(): readonly PackagedStream[] {
    return [...this.#live.values()];
  }

  /** From the hub. */
  onEvent(event: HubEvent): void {
    const { stream } = event;
    const packaged = this.#live.get(keyOf(stream.name));
    if (event.type === "publish") {
      const settings = this.#settings(stream.name);
      if (packaged !== undefined) packaged.restart();
      else if (settings !== undefined && !isOnDemand(settings, stream)) this.#package(stream);
    } else if (event.type === "unpublish") {
      packaged?.pause();
    }
  }

  /** @returns undefined when it is no address of HLS. @throws Refusal `bad-request` */
  target(path: string, query: string, host: string): HlsTarget | undefined {
    return parseTarget(path, query, host, this.#options.vhost);
  }

  /**
   * Answers once, now or later.
   *
   * @returns a function that tells that nobody waits any more
   * @throws Refusal when it is certain at once that there is nothing
   */
  answer(target: HlsTarget, request: HlsRequest, respond: Respond): () => void {
    if (this.#isClosed) throw new Refusal("overloaded", "the gateway is shutting down");
    if (target.kind === "file") return this.#answerFile(target, request, respond);
    if (target.context === undefined) return this.#answerMaster(target, request, respond);
    return this.#answerMedia(target, target.context, request, respond);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#sessions.close("the gateway is shutting down");
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    for (const packaged of this.#byToken.values()) packaged.dispose();
    this.#byToken.clear();
    this.#live.clear();
    this.#ended.clear();
  }

  // Requests.

  #answerMaster(target: PlaylistTarget, request: HlsRequest, respond: Respond): () => void {
    const { name, parameters } = target;
    this.#requirePlayable(name);
    if (request.isHead) {
      respond({ kind: "playlist", text: "", entityTag: undefined, isDirected: false });
      return NOTHING;
    }
    const context = this.#options.randomBytes(8).toString("hex");
    const session = this.#sessions.byContext(name, context, request, parameters);
    const uri = `${encodeURIComponent(name.stream)}.m3u8${parameters === "" ? "?" : `${parameters}&`}${CONTEXT}=${context}`;
    return this.#whenReady(session, respond, (packaged) => {
      const text = packaged.masterPlaylist(uri);
      session.bytes += text.length;
      respond({ kind: "playlist", text, entityTag: undefined, isDirected: false });
    });
  }

  #answerMedia(target: PlaylistTarget, context: string, request: HlsRequest, respond: Respond): () => void {
    const { name, parameters, directives } = target;
    if (!this.#ended.has(keyOf(name))) this.#requirePlayable(name);
    if (request.isHead) {
      respond({ kind: "playlist", text: "", entityTag: undefined, isDirected: false });
      return NOTHING;
    }
    const session = this.#sessions.byContext(name, context, request, parameters);
    const { sequenceNumber, part, skip } = directives;
    return this.#whenReady(session, respond, (packaged, hold) => {
      const isDirected = sequenceNumber !== undefined;
      session.patience = Math.max(MIN_IDLE, 3000 * packaged.window.targetDuration);
      const give = (): void => {
        const { text, entityTag } = packaged.mediaPlaylist(skip);
        session.bytes += text.length;
        respond({ kind: "playlist", text, entityTag, isDirected });
      };
      if (sequenceNumber === undefined || packaged.state === "ended") {
        give();
        return;
      }
      const held = packaged.holds(sequenceNumber, part);
      if (held === "yes") {
        give();
      } else if (held === "absurd") {
        respond(new Refusal("bad-request", "_HLS_msn, _HLS_part: further ahead than anybody needs to ask."));
      } else {
        // Section 6.2.5.2: an answer that is not there after three target durations does not come.
        const timeout = Math.max(MIN_HOLD, 3000 * packaged.window.targetDuration);
        hold(packaged, () => packaged.holds(sequenceNumber, part) === "yes", timeout, give);
      }
    });
  }

  #answerFile(target: FileTarget, request: HlsRequest, respond: Respond): () => void {
    const { app, file, parameters } = target;
    const packaged = this.#byToken.get(file.token);
    const name = packaged?.stream.name;
    if (packaged === undefined || name?.stream !== file.stream || name.app !== app) {
      throw new Refusal("not-found", "There is no such file, or not any more.");
    }
    const wanted = `${file.kind} ${file.number}`;
    const find = (): HlsAnswer | undefined => this.#file(packaged, target);
    const isNext = file.kind === "part" && packaged.isLowLatency && file.number === packaged.nextPart;
    if (find() === undefined && !(isNext && packaged.state === "running")) {
      throw new Refusal("not-found", `There is no ${wanted}, or not any more.`);
    }
    if (request.isHead) {
      respond(find() ?? new Refusal("not-found", `There is no ${wanted} yet.`));
      return NOTHING;
    }
    const session = this.#sessions.byAsker(name, request, parameters, packaged.state === "ended");
    return this.#whenGranted(session, respond, (hold) => {
      const give = (): void => {
        const answer = find();
        if (answer?.kind === "media") session.bytes += answer.body.reduce((sum, { length }) => sum + length, 0);
        respond(answer ?? new Refusal("not-found", `There is no ${wanted}, or not any more.`));
      };
      if (find() !== undefined) give();
      else hold(packaged, () => packaged.part(file.number) !== undefined, MIN_HOLD, give);
    });
  }

  #file(packaged: PackagedStream, { file }: FileTarget): HlsAnswer | undefined {
    const { kind, number, token } = file;
    const entityTag = fileName("", token, kind, number, packaged.settings.format).slice(1);
    const media = (body: readonly Buffer[], contentType: string, isSecret = false): HlsAnswer => {
      return { kind: "media", body, contentType, entityTag, isSecret };
    };
    const { window } = packaged;
    if (kind === "segment") {
      const segment = window.segment(number);
      return segment === undefined ? undefined : media(segment.body, segment.run.packager.contentType);
    }
    if (kind === "part") {
      const part = packaged.part(number);
      return part === undefined ? undefined : media([part.bytes], packaged.contentType);
    }
    if (kind === "initialization") {
      const initialization = packaged.initialization(number);
      return initialization === undefined ? undefined : media([initialization.bytes], initialization.contentType);
    }
    const key = window.key(number);
    return key === undefined ? undefined : media([key.bytes], "application/octet-stream", true);
  }

  /** @throws Refusal `not-live`, `unavailable` before anything is made for it */
  #requirePlayable(name: StreamName): void {
    const state = this.#options.hub.find(name)?.state;
    if (state !== "live" && state !== "grace") {
      throw new Refusal("not-live", `nobody publishes ${displayName(name)} at the moment`);
    }
  }

  /** When the hub has let the viewer in. */
  #whenGranted(session: Session, respond: Respond, then: (hold: Hold) => void): () => void {
    const waiting = { isCancelled: false, forget: NOTHING };
    const hold: Hold = (packaged, isDone, timeout, give) => {
      if (this.#held >= MAX_HELD) {
        respond(new Refusal("overloaded", "too many requests wait for media"));
        return;
      }
      this.#held++;
      session.held++;
      let isOver = false;
      const over = (): boolean => {
        if (isOver) return false;
        isOver = true;
        this.#held--;
        session.held--;
        return true;
      };
      const forget = packaged.wait(isDone, timeout, (outcome) => {
        if (!over()) return;
        session.lastSeen = this.#options.clock.now();
        if (outcome === "late")
          respond(new Refusal("overloaded", packaged.trouble ?? "the publisher sends nothing at the moment"));
        else give();
      });
      waiting.forget = () => {
        if (over()) forget();
      };
    };
    session.whenGranted((refusal) => {
      if (waiting.isCancelled) return;
      if (refusal !== undefined) respond(refusal);
      else then(hold);
    });
    return () => {
      waiting.isCancelled = true;
      waiting.forget();
    };
  }

  /** When there is a playlist, too. */
  #whenReady(session: Session, respond: Respond, then: (packaged: PackagedStream, hold: Hold) => void): () => void {
    return this.#whenGranted(session, respond, (hold) => {
      const packaged = this.#packagedFor(session);
      if (packaged === undefined) {
        respond(new Refusal("not-live", `nobody publishes ${displayName(session.name)} at the moment`));
      } else if (packaged.isReady) {
        then(packaged, hold);
      } else {
        hold(
          packaged,
          () => packaged.isReady,
          READY_TIMEOUT,
          () => {
            if (packaged.isReady) then(packaged, hold);
            else respond(new Refusal("not-live", packaged.trouble ?? "the stream ended before there was something to play"));
          },
        );
      }
    });
  }

  // Streams.

  /** What a viewer watches: one whose stream has ended sees the end of it. */
  #packagedFor(session: Session): PackagedStream | undefined {
    const key = keyOf(session.name);
    if (session.state === "ended") return this.#ended.get(key);
    const known = this.#live.get(key);
    if (known !== undefined) return known;
    const stream = this.#options.hub.find(session.name);
    return stream === undefined || stream.state === "ended" ? undefined : this.#package(stream);
  }

  #settings(name: StreamName): HlsVhost["hls"] | undefined {
    const hls = this.#options.vhost(name.vhost)?.hls;
    return hls?.enabled === true ? hls : undefined;
  }

  #package(stream: Stream): PackagedStream | undefined {
    const settings = this.#settings(stream.name);
    if (settings === undefined || this.#isClosed) return undefined;
    const { clock, randomBytes, listener } = this.#options;
    const key = keyOf(stream.name);
    const packaged: PackagedStream = new PackagedStream({
      stream,
      clock,
      settings,
      token: this.#newToken(),
      makeKey: () => randomBytes(16),
      after: this.#numbers.get(key),
      onSegment: (segment) => listener?.onSegment(packaged, segment),
      onRemove: (segment) => listener?.onRemove(packaged, segment),
      onEnd: (reason) => this.#onEnd(packaged, reason),
    });
    this.#live.set(key, packaged);
    this.#byToken.set(packaged.token, packaged);
    packaged.start();
    if (isOnDemand(settings, stream)) this.#watchDemand(packaged);
    return packaged;
  }

  #newToken(): string {
    for (;;) {
      const token = this.#options.randomBytes(4).toString("hex");
      if (!this.#byToken.has(token)) return token;
    }
  }

  #onEnd(packaged: PackagedStream, reason: string): void {
    const { name } = packaged.stream;
    const key = keyOf(name);
    this.#remember(key, packaged.numbers);
    this.#timers.get(packaged)?.cancel();
    this.#live.delete(key);
    const before = this.#ended.get(key);
    if (before !== undefined) this.#dispose(before);
    this.#ended.set(key, packaged);
    this.#options.listener?.onEnd(packaged);
    this.#sessions.end(name, reason);
    const linger = Math.max(ENDED_LINGER, 5000 * packaged.window.targetDuration);
    this.#timers.set(
      packaged,
      this.#options.clock.after(linger, () => this.#dispose(packaged)),
    );
  }

  #dispose(packaged: PackagedStream): void {
    this.#timers.get(packaged)?.cancel();
    this.#timers.delete(packaged);
    const { name } = packaged.stream;
    const key = keyOf(name);
    this.#byToken.delete(packaged.token);
    if (this.#ended.get(key) === packaged) {
      this.#ended.delete(key);
      this.#sessions.forget(name);
    }
    if (this.#live.get(key) === packaged) this.#live.delete(key);
    packaged.dispose();
  }

  /** Packaging that somebody asked for ends when nobody does any more. */
  #watchDemand(packaged: PackagedStream): void {
    this.#timers.set(
      packaged,
      this.#options.clock.after(ON_DEMAND_LINGER, () => {
        if (packaged.state !== "running") return;
        if (this.#sessions.countOf(packaged.stream.name) > 0 || packaged.waiting > 0) {
          this.#watchDemand(packaged);
          return;
        }
        this.#remember(keyOf(packaged.stream.name), packaged.numbers);
        this.#options.listener?.onEnd(packaged);
        this.#dispose(packaged);
      }),
    );
  }

  #remember(key: string, numbers: SequenceNumbers): void {
    this.#numbers.delete(key); // to the end of the map's order
    this.#numbers.set(key, numbers);
    for (const oldest of this.#numbers.keys()) {
      if (this.#numbers.size <= MAX_REMEMBERED) break;
      this.#numbers.delete(oldest);
    }
  }
}

function isOnDemand({ onDemand, path }: HlsVhost["hls"], stream: Stream): boolean {
  return onDemand === "on" || (onDemand === "auto" && path === "" && stream.sourceLane === "packets");
}

type PlaylistTarget = Extract<HlsTarget, { kind: "playlist" }>;
type FileTarget = Extract<HlsTarget, { kind: "file" }>;
type Hold = (packaged: PackagedStream, isDone: () => boolean, timeout: number, give: () => void) => void;

const NOTHING = (): void => {};
