// EDGE: a connection to another RTMP server, to push to it or to pull from it. A socket and a timer around RtmpClientSession.

import { randomBytes } from "node:crypto";
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

import type { Clock, TimerHandle } from "../hub/clock.js";
import { ProtocolError } from "../media/errors.js";
import type { Frame } from "../media/frame.js";
import { type RtmpClientOwner, RtmpClientSession } from "./client-session.js";
import { parseRtmpUrl } from "./rtmp-url.js";

export type RtmpClientOptions = {
  /** `rtmp[s]://host[:port]/app/stream[?query]`. */
  readonly url: string;
  readonly action: "publish" | "play";
  readonly clock: Clock;
  /** A publisher may write, a player will get frames. */
  readonly onReady?: () => void;
  /** Of a play; times are the server's, in microseconds. */
  readonly onFrame?: (frame: Frame) => void;
  /** What the server sends is wrong in a way that can be lived with. */
  readonly onProblem?: (code: string, description: string) => void;
  /** It is over, or was never to be had; called once. */
  readonly onClose: (reason: string) => void;
  /** Milliseconds from the start to the server's yes. Default 10000. */
  readonly answerTimeout?: number;
  /** Milliseconds without media after which a play is given up. Default 30000. */
  readonly mediaTimeout?: number;
  /** Certificates to trust instead of the system's, PEM. */
  readonly ca?: string | Buffer;
};

export class RtmpClient implements RtmpClientOwner {
  readonly #options: RtmpClientOptions;
  readonly #socket: Socket;
  #session: RtmpClientSession | undefined;
  #timer: TimerHandle | undefined;
  #timerDue = Number.POSITIVE_INFINITY;
  #state: "open" | "ending" | "closed" = "open";
  /** A publisher's queue was full: frames are left out until the next key frame. */
  #isBehind = false;
  #hasVideo = false;
  #dropped = 0;

  /** Connects at once. @throws TypeError when the URL makes no sense */
  constructor(options: RtmpClientOptions) {
    this.#options = options;
    const address = parseRtmpUrl(options.url);
    const { host, port } = address;
    const isSecure = address.scheme === "rtmps";
    const trusted = options.ca === undefined ? {} : { ca: options.ca };
    const named = isIP(host) === 0 ? { servername: host } : {}; // TLS knows names only
    const socket = isSecure ? connectTls({ host, port, ...named, ...trusted }) : connect({ host, port });
    this.#socket = socket;
    socket.setNoDelay(true);
    const { action, clock, answerTimeout, mediaTimeout } = options;
    this.#arm(clock.now() + (answerTimeout ?? CONNECT_TIMEOUT), () => this.#gone("the server did not answer"));
    socket.once(isSecure ? "secureConnect" : "connect", () =>
      this.#guard(() => {
        this.#timerDue = Number.POSITIVE_INFINITY;
        this.#session = new RtmpClientSession(clock.now(), this, {
          action,
          address,
          random: randomBytes,
          ...(answerTimeout !== undefined && { answerTimeout }),
          ...(mediaTimeout !== undefined && { mediaTimeout }),
        });
      }),
    );
    socket.on("data", (bytes) => this.#guard(() => this.#session?.receive(clock.now(), bytes)));
    socket.on("end", () => this.#gone("the server closed the connection"));
    socket.on("error", (error) => this.#gone(error.message));
    socket.on("close", () => this.#gone("the connection broke"));
  }

  /** Frames of a publisher that were left out because the server did not take them in time. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Publishes a frame: configurations first, times with any zero point. Does nothing before `onReady` and after the end. */
  writeFrame(frame: Frame): void {
    if (this.#state !== "open") return;
    const isMedia = !frame.isConfig && frame.kind !== "data";
    if (frame.kind === "video") this.#hasVideo = true;
    if (isMedia && !this.#hasRoomFor(frame)) this.#dropped += 1;
    else this.#guard(() => this.#session?.write(frame));
  }

  /** Says goodbye. Idempotent. */
  close(reason = "closed"): void {
    if (this.#session === undefined) this.#gone(reason);
    else this.#guard(() => this.#session?.close(reason));
  }

  // RtmpClientOwner: what the session wants.

  send(bytes: Buffer): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  onReady(): void {
    this.#options.onReady?.();
  }

  onFrame(frame: Frame): void {
    this.#options.onFrame?.(frame);
  }

  onProblem(code: string, description: string): void {
    this.#options.onProblem?.(code, description);
  }

  onClose(reason: string): void {
    if (this.#state !== "open") return;
    this.#state = "ending";
    this.#socket.resume();
    this.#socket.end();
    this.#arm(this.#options.clock.now() + GOODBYE, () => this.#socket.destroy());
    this.#options.onClose(reason);
  }

  /** A queue that was full stays shut until a key frame finds room; without video, until any frame does. */
  #hasRoomFor(frame: Frame): boolean {
    if (this.#socket.writableLength > MAX_UNSENT) this.#isBehind = true;
    else if (this.#isBehind && (frame.kind === "video" ? frame.isKey : !this.#hasVideo)) this.#isBehind = false;
    return !this.#isBehind;
  }

  /** The one catch: whatever the server sends ends this connection at most. */
  #guard(work: () => void): void {
    this.#socket.cork();
    try {
      work();
    } catch (error) {
      const internal = error instanceof ProtocolError ? "" : "internal error: ";
      this.#session?.close(internal + (error instanceof Error ? error.message : String(error)));
    } finally {
      this.#socket.uncork();
    }
    this.#armSession();
  }

  /** The connection is of no use any more. */
  #gone(reason: string): void {
    if (this.#state === "closed") return;
    if (this.#state === "open") this.#session?.close(reason);
    const wasOpen = this.#state === "open"; // there was no session yet that could have told
    this.#state = "closed";
    this.#timer?.cancel();
    this.#socket.destroy();
    if (wasOpen) this.#options.onClose(reason);
  }

  /** One timer that is moved only when it would fire too late; when too early it is armed again. */
  #armSession(): void {
    const session = this.#session;
    if (session === undefined || this.#state !== "open" || session.nextTimeout() >= this.#timerDue) return;
    this.#arm(session.nextTimeout(), () => this.#guard(() => session.onTimeout(this.#options.clock.now())));
  }

  #arm(due: number, callback: () => void): void {
    this.#timer?.cancel();
    this.#timerDue = due;
    this.#timer = this.#options.clock.after(due - this.#options.clock.now(), () => {
      this.#timerDue = Number.POSITIVE_INFINITY;
      callback();
    });
  }
}

const CONNECT_TIMEOUT = 10_000;
const GOODBYE = 1_000; // ms between the last word and the end of the socket
const MAX_UNSENT = 4 << 20; // bytes that may wait in the socket of a publisher
