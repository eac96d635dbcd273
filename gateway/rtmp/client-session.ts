// A connection to another RTMP server, as an engine: publishes to it or plays from it. RTMP 1.0 sections 5 to 7; what encoders and
// relays say besides (releaseStream, FCPublish, FCUnpublish, Set Buffer Length).

import { ProtocolError } from "../media/errors.js";
import type { FrameReceiver } from "../media/flv-frames.js";
import type { Frame } from "../media/frame.js";
import { AmfObject, type AmfValue, amfObject } from "./amf.js";
import { writeAmf0 } from "./amf0.js";
import { type ChunkLimits, DEFAULT_CHUNK_LIMITS } from "./chunk.js";
import { checkVersion, finishHandshake, HANDSHAKE_SIZE, type RandomBytes, startHandshake } from "./handshake.js";
import { mediaMessage } from "./media-message.js";
import { MediaReader } from "./media-reader.js";
import { type Command, type RtmpMessage, USER_CONTROL, userControlMessage } from "./message.js";
import { MEDIA_CHUNK_SIZE, MessageLink, STRANGER_LIMITS } from "./message-link.js";
import type { RtmpAddress } from "./rtmp-url.js";

/** Who holds the session: a socket, or a test. Frames come only from a play. */
export interface RtmpClientOwner extends FrameReceiver {
  send(bytes: Buffer): void;
  /** The server has agreed: a publisher may write, a player will get frames. */
  onReady(): void;
  /** The session has ended, by whatever reason: send what is queued, then close. Called once. */
  onClose(reason: string): void;
}

export type RtmpClientSessionOptions = {
  readonly action: "publish" | "play";
  readonly address: RtmpAddress;
  readonly random: RandomBytes;
  /** Milliseconds from the start to the server's yes. Default 10000. */
  readonly answerTimeout?: number;
  /** Milliseconds without media after which a play is given up; longer than a publisher's pause. Default 30000. */
  readonly mediaTimeout?: number;
  /** While playing. Default DEFAULT_CHUNK_LIMITS. */
  readonly playLimits?: Partial<ChunkLimits>;
};

type State = "handshake" | "connecting" | "creating" | "asking" | "ready" | "closed";

export class RtmpClientSession {
  readonly #owner: RtmpClientOwner;
  readonly #options: RtmpClientSessionOptions;
  readonly #link: MessageLink;
  readonly #c0c1: Buffer;
  #state: State = "handshake";
  #pending: Buffer[] = [];
  #pendingLength = 0;
  #streamId = 0;
  #media: MediaReader | undefined;
  /** Time of the first frame that was written, ms: what is published starts at 0. */
  #origin: number | undefined;
  #last = 0;
  #deadline: number;
  #deadlineReason = "the server did not answer";

  /** Sends the first bytes at once: the connection must stand. */
  constructor(now: number, owner: RtmpClientOwner, options: RtmpClientSessionOptions) {
    this.#owner = owner;
    this.#options = options;
    this.#link = new MessageLink((bytes) => owner.send(bytes), STRANGER_LIMITS);
    this.#deadline = now + (options.answerTimeout ?? ANSWER_TIMEOUT);
    this.#c0c1 = startHandshake(options.random);
    owner.send(this.#c0c1);
  }

  get state(): State {
    return this.#state;
  }

  /** Takes bytes from the server; they must not change afterwards. @throws ProtocolError */
  receive(now: number, bytes: Buffer): void {
    if (this.#state === "closed" || bytes.length === 0) return;
    this.#link.count(bytes.length);
    if (this.#state === "handshake") this.#receiveHandshake(bytes);
    else this.#link.push(bytes);
    // The state is asked again after each message: any of them may end the session.
    while (this.state !== "closed" && this.state !== "handshake") {
      const message = this.#link.read();
      if (message === undefined) break;
      this.#handle(now, message);
    }
    if (this.state !== "closed") this.#link.acknowledge();
  }

  /**
   * Publishes a frame; its times may have any zero point. Does nothing before `onReady`.
   *
   * @returns false when RTMP cannot carry it
   */
  write(frame: Frame): boolean {
    if (this.#state !== "ready" || this.#options.action !== "publish") return true;
    const isMedia = !frame.isConfig && frame.kind !== "data";
    const time = Math.round(frame.dts / 1000);
    if (isMedia) {
      this.#origin ??= time;
      this.#last = Math.max(this.#last, time - this.#origin); // servers take a step back for a broken clock
    }
    const message = mediaMessage(frame, this.#last, this.#streamId);
    if (message === undefined) return false;
    if (frame.kind === "data") this.#link.write({ ...message, payload: Buffer.concat([SET_DATA_FRAME, message.payload]) });
    else this.#link.write(message);
    return true;
  }

  /** Says goodbye and ends. Idempotent. */
  close(reason: string): void {
    if (this.#state === "closed") return;
    if (this.#state === "ready" || this.#state === "asking") {
      const { stream } = this.#options.address;
      if (this.#options.action === "publish") this.#call("FCUnpublish", FC_UNPUBLISH, [null, stream]);
      this.#call("deleteStream", 0, [null, this.#streamId]);
    }
    this.#end(reason);
  }

  nextTimeout(): number {
    return this.#deadline;
  }

  onTimeout(now: number): void {
    if (now >= this.#deadline) this.close(this.#deadlineReason);
  }

  #receiveHandshake(bytes: Buffer): void {
    if (this.#pendingLength === 0) checkVersion(bytes);
    this.#pending.push(bytes);
    this.#pendingLength += bytes.length;
    if (this.#pendingLength < ANSWER_SIZE) return;
    const all = this.#pending.length === 1 ? bytes : Buffer.concat(this.#pending);
    this.#pending = [];
    this.#owner.send(finishHandshake(this.#c0c1, all.subarray(0, ANSWER_SIZE), this.#options.random));
    this.#state = "connecting";
    this.#connect();
    this.#link.push(all.subarray(ANSWER_SIZE));
  }

  #connect(): void {
    const { action, address } = this.#options;
    const { app, tcUrl } = address;
    const base = { app, type: "nonprivate", flashVer: "FMLE/3.0 (compatible; Sluice)", tcUrl };
    // What servers look for in players: an empty list of codecs makes some of them send nothing.
    const player = { fpad: false, capabilities: 15, audioCodecs: 4071, videoCodecs: 252, videoFunction: 1 };
    if (action === "publish") this.#link.setChunkSize(MEDIA_CHUNK_SIZE);
    this.#call("connect", CONNECT, [amfObject(action === "publish" ? base : { ...base, ...player })]);
  }

  #handle(now: number, message: RtmpMessage): void {
    switch (message.kind) {
      case "command":
        this.#onCommand(now, message.command);
        return;
      case "user-control":
        if (message.event === USER_CONTROL.STREAM_EOF && this.#state === "ready") this.#end("the stream ended");
        return;
      default:
        if (this.#options.action !== "play" || this.#streamId === 0) return;
        if (this.#state === "asking") this.#becomeReady(now); // some servers send media without a word
        if (message.kind !== "data") this.#armMedia(now);
        this.#media?.read(message);
    }
  }

  #onCommand(now: number, { name, transactionId, values }: Command): void {
    switch (name) {
      case "_result":
        if (transactionId === CONNECT && this.#state === "connecting") this.#createStream();
        else if (transactionId === CREATE_STREAM && this.#state === "creating") this.#ask(values[1]);
        return;
      case "_error":
        // releaseStream and FCPublish are courtesies that many servers do not know.
        if (transactionId === CONNECT || transactionId === CREATE_STREAM)
          this.#end(wordsOf("refused by the server", values[1] ?? values[0]));
        return;
      case "onStatus":
        this.#onStatus(now, values[1]);
        return;
      case "close":
        this.#end("the server closes the connection");
    }
  }

  #createStream(): void {
    const { action, address } = this.#options;
    this.#state = "creating";
    if (action === "publish") {
      this.#call("releaseStream", RELEASE_STREAM, [null, address.stream]);
      this.#call("FCPublish", FC_PUBLISH, [null, address.stream]);
    }
    this.#call("createStream", CREATE_STREAM, [null]);
  }

  #ask(streamId: AmfValue): void {
    if (typeof streamId !== "number" || !(streamId > 0 && streamId <= 0xffffffff)) {
      throw new ProtocolError("stream-id-invalid", `createStream gave ${String(streamId)}`);
    }
    const { action, address } = this.#options;
    this.#streamId = Math.floor(streamId);
    this.#state = "asking";
    if (action === "publish") {
      this.#link.command(this.#streamId, "publish", PUBLISH, [null, address.stream, "live"]);
      return;
    }
    this.#media = new MediaReader(this.#owner);
    this.#link.setLimits({ ...DEFAULT_CHUNK_LIMITS, ...this.#options.playLimits });
    this.#link.command(this.#streamId, "play", 0, [null, address.stream, PLAY_LIVE]);
    const buffer = Buffer.allocUnsafe(8);
    buffer.writeUInt32BE(this.#streamId, 0);
    buffer.writeUInt32BE(BUFFER_LENGTH, 4);
    this.#link.write(userControlMessage(USER_CONTROL.SET_BUFFER_LENGTH, buffer));
  }

  #onStatus(now: number, info: AmfValue): void {
    if (!(info instanceof AmfObject)) return;
    const code = info.text("code") ?? "";
    const isOver = code.startsWith("NetConnection.Connect.") && code !== "NetConnection.Connect.Success";
    if (isOver || info.text("level") === "error") {
      this.#end(this.#state === "ready" ? wordsOf("ended by the server", info) : wordsOf("refused by the server", info));
      return;
    }
    switch (code) {
      case "NetStream.Publish.Start":
      case "NetStream.Play.Start":
        if (this.#state === "asking") this.#becomeReady(now);
        return;
      case "NetStream.Play.UnpublishNotify":
      case "NetStream.Play.Stop":
      case "NetStream.Play.Complete":
      case "NetStream.Unpublish.Success":
        if (this.#state === "ready") this.#end(info.text("description") || "the stream ended");
    }
  }

  #becomeReady(now: number): void {
    this.#state = "ready";
    if (this.#options.action === "play") this.#armMedia(now);
    else this.#deadline = Number.POSITIVE_INFINITY;
    this.#owner.onReady();
  }

  #armMedia(now: number): void {
    this.#deadline = now + (this.#options.mediaTimeout ?? MEDIA_TIMEOUT);
    this.#deadlineReason = "no media came";
  }

  #call(name: string, transactionId: number, values: readonly AmfValue[]): void {
    this.#link.command(0, name, transactionId, values);
  }

  #end(reason: string): void {
    this.#state = "closed";
    this.#media = undefined;
    this.#deadline = Number.POSITIVE_INFINITY;
    this.#owner.onClose(reason);
  }
}

/** What a server said of an end: code and description. */
function wordsOf(what: string, info: AmfValue): string {
  if (!(info instanceof AmfObject)) return what;
  const words = [info.text("code"), info.text("description")].filter((text) => text !== undefined && text !== "");
  return `${what}: ${words.join(", ").slice(0, 512)}`;
}

const ANSWER_SIZE = 1 + 2 * HANDSHAKE_SIZE; // S0, S1, S2
const ANSWER_TIMEOUT = 10_000;
const MEDIA_TIMEOUT = 30_000;
const PLAY_LIVE = -1000; // start: live only; -2 would look for a recording
const BUFFER_LENGTH = 3_000; // ms, what most players say

// Transaction ids: each call is made once.
const CONNECT = 1;
const RELEASE_STREAM = 2;
const FC_PUBLISH = 3;
const CREATE_STREAM = 4;
const PUBLISH = 5;
const FC_UNPUBLISH = 6;

const SET_DATA_FRAME = writeAmf0(["@setDataFrame"]);
