// EDGE: one client of the RTMP server. A socket and a timer around RtmpSession, the hub behind it, and the one catch.

import { randomBytes, randomUUID } from "node:crypto";
import type { Socket } from "node:net";

import type { Logger } from "pino";

import type { Clock, TimerHandle } from "../hub/clock.js";
import { displayName, shownId } from "../hub/names.js";
import type { Hub, Peer, Publication, Source, StreamName } from "../hub/types.js";
import { ProtocolError, Refusal, type RefusalCode } from "../media/errors.js";
import type { Frame } from "../media/frame.js";
import type { RtmpFanOuts } from "./fan-outs.js";
import { RtmpPlayer } from "./player.js";
import { RestingReader, readingSideOf } from "./resting-reader.js";
import { type PlayWish, type PublishTimeouts, type RtmpRequest, RtmpSession, type RtmpSessionOwner } from "./session.js";

/** A vhost as RTMP needs it: its canonical name (what names the stream in the hub) and its times. */
export type RtmpVhost = {
  readonly name: string;
  readonly publish: PublishTimeouts;
  /** queueLength: milliseconds a player may lag before it falls forward to a key frame. */
  readonly play: { readonly queueLength: number };
};

export type RtmpConnectionOptions = {
  readonly hub: Hub;
  readonly clock: Clock;
  readonly log: Logger;
  readonly fanOuts: RtmpFanOuts;
  /** The vhost that serves a name; undefined when there is none, and the client is refused. */
  readonly vhost: (name: string) => RtmpVhost | undefined;
  /** Milliseconds. */
  readonly handshakeTimeout: number;
  /** Milliseconds a client may be connected without publishing or playing. Default 30000. */
  readonly idleTimeout?: number;
  /** Why this client is not served; undefined when it is. */
  readonly rejection: string | undefined;
};

/** Socket, session, and a publication or a play while it has one. Socket closes → session → publication or play ends; never the other way. */
export class RtmpConnection implements RtmpSessionOwner, Source {
  readonly #socket: Socket;
  readonly #options: RtmpConnectionOptions;
  readonly #session: RtmpSession;
  /** Resolves when the socket is closed. */
  readonly closed: Promise<void>;
  readonly #id = randomUUID();
  readonly #address: string;
  readonly #scheme: "rtmp" | "rtmps";
  readonly #log: Logger;
  #timer: TimerHandle | undefined;
  #timerDue = Number.POSITIVE_INFINITY;
  #publication: Publication | undefined;
  #reader: RestingReader | undefined;
  #player: RtmpPlayer | undefined;
  /** What is published or played, for the log. */
  #stream = "";
  #startedAt = 0;
  #frameCount = 0;
  #byteCount = 0;
  #isGone = false;

  constructor(socket: Socket, scheme: "rtmp" | "rtmps", options: RtmpConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#address = (socket.remoteAddress ?? "").replace(/^::ffff:/, "");
    this.#log = options.log.child({ session: shownId(this.#id) });
    this.#scheme = scheme;
    this.#session = new RtmpSession(options.clock.now(), this, {
      random: randomBytes,
      handshakeTimeout: options.handshakeTimeout,
      ...(options.idleTimeout === undefined ? {} : { idleTimeout: options.idleTimeout }),
      ...(options.rejection === undefined ? {} : { rejection: options.rejection }),
    });
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE); // a paused player sends and gets nothing
    socket.on("data", (bytes) =>
      this.#guard(() => {
        this.#session.receive(options.clock.now(), bytes);
        this.#reader?.read(bytes.length);
      }),
    );
    socket.on("drain", () => this.#player?.drained());
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
    if (this.#player === undefined && this.#socket.writableLength > MAX_UNSENT)
      this.#gone("the client does not read what it is sent");
  }

  onPublish(request: RtmpRequest): void {
    const vhost = this.#vhostOf(request, "NetStream.Publish.Denied");
    if (vhost === undefined) return;
    const name = this.#nameOf(request, vhost);
    this.#socket.pause(); // what comes before the answer stays in the kernel
    this.#options.hub.publish({ name, peer: this.#peer(request), source: this, lane: "frames" }).then(
      (publication) => this.#guard(() => this.#onPublishGranted(publication, vhost, request)),
      (error: unknown) => this.#guard(() => this.#onRefused(error, "publish", PUBLISH_REFUSALS, "NetStream.Publish.Denied")),
    );
  }

  onPlay(request: RtmpRequest): void {
    const { hub, clock, fanOuts } = this.#options;
    const vhost = this.#vhostOf(request, "NetStream.Play.StreamNotFound");
    if (vhost === undefined) return;
    const name = this.#nameOf(request, vhost);
    // Nobody publishes: say so, players and relays ask again. A publisher that may be back in a moment is waited for.
    const mayWait = hub.find(name)?.state === "grace";
    const player = new RtmpPlayer({
      socket: this.#socket,
      clock,
      fanOuts,
      streamId: request.streamId,
      maxWait: vhost.play.queueLength,
      onEnd: (reason) => this.#guard(() => this.#session.endPlay(reason)),
      onGiveUp: (reason) => this.#gone(reason),
    });
    const close = (reason: string): void => this.close(reason);
    const statistics = () => player.statistics();
    this.#socket.pause();
    hub.play({ name, peer: this.#peer(request), lane: "frames", mayWait, close, statistics }).then(
      (play) =>
        this.#guard(() => {
          if (this.#isGone || this.#session.state !== "deciding") {
            play.end("the client left before it was granted");
            return;
          }
          this.#player = player;
          this.#startedAt = clock.now();
          this.#log.info({ ...this.#fields(), agent: request.agent }, `${this.#scheme} play started`);
          this.#socket.resume();
          this.#session.grantPlay(clock.now(), () => player.start(play));
        }),
      (error: unknown) => this.#guard(() => this.#onRefused(error, "play", PLAY_REFUSALS, "NetStream.Play.Failed")),
    );
  }

  onPlayWish(wish: PlayWish): void {
    this.#player?.select(wish);
  }

  onPlayEnd(reason: string): void {
    this.#endPlay(reason);
    this.#armTimer();
  }

  onFrame(frame: Frame): void {
    this.#frameCount += 1;
    this.#byteCount += frame.data.length;
    this.#publication?.writeFrame(frame);
  }

  onProblem(code: string, description: string): void {
    this.#log.warn({ ...this.#fields(), code, reason: description }, `${this.#scheme} publisher sends something odd`);
    this.#session.notify("NetStream.Publish.Warning", description);
  }

  onUnpublish(reason: string): void {
    this.#endPublication(reason);
    this.#armTimer();
  }

  onClose(reason: string): void {
    this.#endPublication(reason);
    this.#endPlay(reason);
    this.#log.debug({ ...this.#fields(), reason }, `${this.#scheme} session closed`);
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

  #vhostOf(request: RtmpRequest, refusal: string): RtmpVhost | undefined {
    const vhost = this.#options.vhost(request.vhost);
    if (vhost === undefined) this.#session.refuse(refusal, `no vhost ${request.vhost}`);
    return vhost;
  }

  #nameOf({ app, stream }: RtmpRequest, vhost: RtmpVhost): StreamName {
    const name = { vhost: vhost.name, app, stream };
    this.#stream = displayName(name);
    return name;
  }

  #onPublishGranted(publication: Publication, vhost: RtmpVhost, request: RtmpRequest): void {
    if (this.#isGone || this.#session.state !== "deciding") {
      publication.end("the client left before it was granted");
      return;
    }
    this.#publication = publication;
    const isWatched = (): boolean => publication.stream.frames.isAwaited;
    this.#reader = new RestingReader(readingSideOf(this.#socket), this.#options.clock, isWatched);
    this.#startedAt = this.#options.clock.now();
    this.#frameCount = 0;
    this.#byteCount = 0;
    this.#log.info({ ...this.#fields(), agent: request.agent }, `${this.#scheme} publish started`);
    this.#socket.resume();
    this.#session.grantPublish(this.#options.clock.now(), vhost.publish);
  }

  #onRefused(error: unknown, action: "publish" | "play", codes: RefusalCodes, otherwise: string): void {
    if (!(error instanceof Refusal)) {
      this.#log.error({ ...this.#fields(), err: error }, `${this.#scheme} ${action} failed`);
      this.#session.refuse(action === "publish" ? "NetStream.Publish.Failed" : "NetStream.Play.Failed", "internal error");
      return;
    }
    const level = error.code === "not-live" ? "debug" : "info"; // players ask again and again until somebody publishes
    this.#log[level]({ ...this.#fields(), code: error.code, reason: error.message }, `${this.#scheme} ${action} refused`);
    this.#session.refuse(codes[error.code] ?? otherwise, error.message);
  }

  #endPublication(reason: string): void {
    const publication = this.#publication;
    if (publication === undefined) return;
    this.#publication = undefined;
    this.#reader?.stop();
    this.#reader = undefined;
    const seconds = Math.round(this.#options.clock.now() - this.#startedAt) / 1000;
    const figures = { seconds, frames: this.#frameCount, bytes: this.#byteCount };
    this.#log.info({ ...this.#fields(), reason, ...figures }, `${this.#scheme} publish ended`);
    publication.end(reason);
  }

  #endPlay(reason: string): void {
    const player = this.#player;
    if (player === undefined) return;
    this.#player = undefined;
    const seconds = Math.round(this.#options.clock.now() - this.#startedAt) / 1000;
    this.#log.info({ ...this.#fields(), reason, seconds, ...player.statistics() }, `${this.#scheme} play ended`);
    player.end(reason);
  }

  /** What every log line of this session says. */
  #fields(): { readonly stream?: string; readonly peer: string } {
    return { ...(this.#stream !== "" && { stream: this.#stream }), peer: this.#address };
  }

  /** The one catch: whatever goes wrong in a session ends that session, with one line. */
  #guard(work: () => void): void {
    this.#socket.cork();
    try {
      work();
    } catch (error) {
      if (error instanceof ProtocolError) {
        this.#log.warn({ ...this.#fields(), code: error.code, reason: error.message }, `${this.#scheme} protocol error`);
      } else {
        this.#log.error({ ...this.#fields(), err: error }, `${this.#scheme} session failed`);
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

type RefusalCodes = Readonly<Partial<Record<RefusalCode, string>>>;

const PUBLISH_REFUSALS: RefusalCodes = {
  busy: "NetStream.Publish.BadName",
  forbidden: "NetStream.Publish.BadName", // what encoders know as "wrong key"
  unauthorized: "NetStream.Publish.BadName",
  "bad-request": "NetStream.Publish.BadName",
};
const PLAY_REFUSALS: RefusalCodes = {
  "not-live": "NetStream.Play.StreamNotFound",
  "not-found": "NetStream.Play.StreamNotFound",
};

const MAX_UNSENT = 1 << 20; // bytes waiting in a socket without a player: commands are a few hundred bytes
const GOODBYE = 1_000; // ms between the last word and the end of the socket
const KEEP_ALIVE = 30_000; // ms without traffic until the kernel asks whether the peer is there
