// An RtmpSession with an owner that keeps what happens, for tests without sockets.

import type { Frame } from "../../gateway/media/frame.js";
import {
  type PlayWish,
  type RtmpRequest,
  RtmpSession,
  type RtmpSessionOptions,
  type RtmpSessionOwner,
} from "../../gateway/rtmp/session.js";
import { readServerBytes, statusCode } from "./rtmp-client.js";
import { seededBytes } from "./seeded.js";

export type Answer = "grant" | "refuse" | "later";

export const TIMEOUTS = { firstPacketTimeout: 20_000, normalTimeout: 5_000 };

export class SessionHarness implements RtmpSessionOwner {
  readonly session: RtmpSession;
  readonly frames: Frame[] = [];
  readonly problems: string[] = [];
  readonly requests: RtmpRequest[] = [];
  readonly unpublished: string[] = [];
  /** What the player wanted, one after another. */
  readonly wishes: PlayWish[] = [];
  readonly playsEnded: string[] = [];
  readonly closed: string[] = [];
  readonly #sent: Buffer[] = [];
  readonly #answer: Answer;
  now = 1000;

  constructor(answer: Answer = "grant", options: Partial<RtmpSessionOptions> = {}) {
    this.#answer = answer;
    this.session = new RtmpSession(this.now, this, { random: seededBytes(7), ...options });
  }

  /** Everything the session has sent. */
  get sent(): Buffer {
    return Buffer.concat(this.#sent);
  }

  get statusCodes(): (string | undefined)[] {
    return readServerBytes(this.sent)
      .filter((command) => command.name === "onStatus" || command.name === "_error")
      .map(statusCode);
  }

  receive(bytes: Buffer): void {
    this.session.receive(this.now, bytes);
  }

  advance(ms: number): void {
    this.now += ms;
    this.session.onTimeout(this.now);
  }

  send(bytes: Buffer): void {
    this.#sent.push(bytes);
  }

  onPublish(request: RtmpRequest): void {
    this.requests.push(request);
    if (this.#answer === "grant") this.session.grantPublish(this.now, TIMEOUTS);
    if (this.#answer === "refuse") this.session.refuse("NetStream.Publish.BadName", "taken");
  }

  onPlay(request: RtmpRequest): void {
    this.requests.push(request);
    if (this.#answer === "grant") this.session.grantPlay(this.now, () => this.wishes.push("all"));
    if (this.#answer === "refuse") this.session.refuse("NetStream.Play.Failed", "not here");
  }

  onPlayWish(wish: PlayWish): void {
    this.wishes.push(wish);
  }

  onPlayEnd(reason: string): void {
    this.playsEnded.push(reason);
  }

  onUnpublish(reason: string): void {
    this.unpublished.push(reason);
  }

  onFrame(frame: Frame): void {
    this.frames.push(frame);
  }

  onProblem(code: string): void {
    this.problems.push(code);
  }

  onClose(reason: string): void {
    this.closed.push(reason);
  }
}
