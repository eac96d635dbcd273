// One client of the RTMP server, as an engine: bytes and the time in; bytes, requests and frames out. RTMP 1.0 sections 5 to 7 and
// what encoders add (releaseStream, FCPublish, FCUnpublish, _checkbw, getStreamLength, @setDataFrame).

import { ProtocolError } from "../media/errors.js";
import type { FrameReceiver } from "../media/flv-frames.js";
import { AmfObject, type AmfValue, amfObject } from "./amf.js";
import { type ChunkLimits, type ChunkMessage, DEFAULT_CHUNK_LIMITS } from "./chunk.js";
import { answerHandshake, checkVersion, HANDSHAKE_SIZE, type RandomBytes } from "./handshake.js";
import { MediaReader } from "./media-reader.js";
import {
  type Command,
  controlMessage,
  MESSAGE,
  type RtmpMessage,
  sampleAccessMessage,
  streamEvent,
  USER_CONTROL,
} from "./message.js";
import { MEDIA_CHUNK_SIZE, MessageLink, STRANGER_LIMITS, WINDOW_SIZE } from "./message-link.js";
import { parseTarget, type RtmpTarget } from "./target.js";

/** A `publish` or `play` that waits for `grantPublish`, `grantPlay` or `refuse`. */
export type RtmpRequest = RtmpTarget & {
  /** The message stream that it was asked on; media of a play goes out on it. */
  readonly streamId: number;
  readonly tcUrl: string;
  readonly pageUrl: string | undefined;
  /** flashVer of `connect`: the name of the encoder. */
  readonly agent: string | undefined;
};

/** What a player wants now, as `pause`, `receiveAudio` and `receiveVideo` leave it. */
export type PlayWish = "all" | "audio" | "video" | "nothing";

/** Who holds the session: a socket, or a test. */
export interface RtmpSessionOwner extends FrameReceiver {
  send(bytes: Buffer): void;
  /** Answer with `grantPublish` or `refuse`, now or later; until then nothing more is read from the client. */
  onPublish(request: RtmpRequest): void;
  /** The client wants to play: answer with `grantPlay` or `refuse`, now or later; until then nothing more is read from the client. */
  onPlay(request: RtmpRequest): void;
  /** The player wants something else from now on; at first it wants all. */
  onPlayWish(wish: PlayWish): void;
  /** The client has ended the play that was granted; the connection may go on. */
  onPlayEnd(reason: string): void;
  /** The publish that was granted has ended; the connection may go on. */
  onUnpublish(reason: string): void;
  /** The session has ended: send what is queued, then close. Called once. */
  onClose(reason: string): void;
}

export type RtmpSessionOptions = {
  readonly random: RandomBytes;
  /** Milliseconds for the whole handshake. Default 10000. */
  readonly handshakeTimeout?: number;
  /** Milliseconds a client may be connected without publishing or playing. Default 30000. */
  readonly idleTimeout?: number;
  /** Every `connect` is rejected with this text: the server is full. */
  readonly rejection?: string;
  /** While a publish is granted; before that messages are kept to a megabyte. Default DEFAULT_CHUNK_LIMITS. */
  readonly publishLimits?: Partial<ChunkLimits>;
};

export type PublishTimeouts = {
  /** Milliseconds for the first audio or video message. */
  readonly firstPacketTimeout: number;
  /** Milliseconds between audio or video messages after that. */
  readonly normalTimeout: number;
};

type State = "handshake" | "handshake-ack" | "connecting" | "connected" | "deciding" | "publishing" | "playing" | "closed";

export class RtmpSession {
  readonly #owner: RtmpSessionOwner;
  readonly #options: RtmpSessionOptions;
  readonly #link: MessageLink;
  #state: State = "handshake";
  #pending: Buffer[] = [];
  #pendingLength = 0;
  #app = "";
  #tcUrl = "";
  #pageUrl: string | undefined;
  #agent: string | undefined;
  #streams = 0;
  #activeStream = 0;
  #isPaused = false;
  #receive = { audio: true, video: true };
  #wish: PlayWish = "all";
  #media: MediaReader | undefined;
  #timeouts: PublishTimeouts = { firstPacketTimeout: 0, normalTimeout: 0 };
  #deadline: number;
  #deadlineReason = "handshake timeout";

  constructor(now: number, owner: RtmpSessionOwner, options: RtmpSessionOptions) {
    this.#owner = owner;
    this.#options = options;
    this.#link = new MessageLink((bytes) => owner.send(bytes), STRANGER_LIMITS);
    this.#deadline = now + (options.handshakeTimeout ?? HANDSHAKE_TIMEOUT);
  }

  get state(): State {
    return this.#state;
  }

  /** True while a request waits for its answer: the owner should stop reading its socket. */
  get isWaiting(): boolean {
    return this.#state === "deciding";
  }

  /** Takes bytes from the client; they must not change afterwards. @throws ProtocolError */
  receive(now: number, bytes: Buffer): void {
    if (this.#state === "closed" || bytes.length === 0) return;
    this.#link.count(bytes.length);
    if (this.#state === "handshake" || this.#state === "handshake-ack") {
      this.#receiveHandshake(now, bytes);
    } else {
      this.#link.push(bytes);
      if (this.isWaiting && this.#link.unread > MAX_UNREAD) {
        throw new ProtocolError("too-early", `over ${MAX_UNREAD} bytes sent before the answer to publish`);
      }
    }
    this.#drain(now);
    if (!this.#isClosed()) this.#link.acknowledge();
  }

  /** The publish may begin. Does nothing when nothing waits. @throws ProtocolError from what the client had sent behind it */
  grantPublish(now: number, timeouts: PublishTimeouts): void {
    if (this.#state !== "deciding") return;
    this.#state = "publishing";
    this.#timeouts = timeouts;
    this.#media = new MediaReader(this.#owner);
    this.#link.setLimits({ ...DEFAULT_CHUNK_LIMITS, ...this.#options.publishLimits });
    this.#arm(now + timeouts.firstPacketTimeout, "no media after publish");
    this.#write(streamEvent(USER_CONTROL.STREAM_BEGIN, this.#activeStream));
    this.#status("status", "NetStream.Publish.Start", "publishing");
    this.#drain(now);
  }

  /**
   * The play may begin: the client is told so, then `start` is called, and from there on the owner may send media between what the
   * session sends, in chunks of MEDIA_CHUNK_SIZE on the request's message stream.
   *
   * @throws ProtocolError from what the client had sent behind its request
   */
  grantPlay(now: number, start: () => void): void {
    if (this.#state !== "deciding") return;
    this.#state = "playing";
    this.#isPaused = false;
    this.#receive = { audio: true, video: true };
    this.#wish = "all";
    this.#link.setChunkSize(MEDIA_CHUNK_SIZE);
    this.#write(streamEvent(USER_CONTROL.STREAM_BEGIN, this.#activeStream));
    this.#status("status", "NetStream.Play.Reset", "playing and resetting");
    this.#status("status", "NetStream.Play.Start", "playing");
    this.#write(sampleAccessMessage(this.#activeStream));
    start();
    this.#drain(now);
  }

  /** The stream that is played has ended: tells the player, and ends the session. */
  endPlay(reason: string): void {
    if (this.#state !== "playing") return;
    this.#status("status", "NetStream.Play.UnpublishNotify", reason);
    this.#write(streamEvent(USER_CONTROL.STREAM_EOF, this.#activeStream));
    this.close(reason);
  }

  /** Refuses the request that waits, and ends the session. */
  refuse(code: string, description: string): void {
    if (this.#state !== "deciding") return;
    this.#status("error", code, description);
    this.#end(`refused: ${description}`);
  }

  /** Tells the client something about its stream, without an end to it. */
  notify(code: string, description: string): void {
    if (this.#state === "publishing") this.#status("status", code, description);
  }

  /** Says goodbye and ends. Idempotent. */
  close(reason: string): void {
    if (this.#state === "closed") return;
    if (this.#state === "publishing") this.#status("status", "NetStream.Unpublish.Success", reason);
    if (this.#state === "playing") this.#status("status", "NetStream.Play.Stop", reason);
    if (this.#state !== "handshake" && this.#state !== "handshake-ack") {
      const info = { level: "status", code: "NetConnection.Connect.Closed", description: reason };
      this.#command(0, "onStatus", 0, [null, amfObject(info)]);
    }
    this.#end(reason);
  }

  nextTimeout(): number {
    return this.#deadline;
  }

  onTimeout(now: number): void {
    if (now < this.#deadline) return;
    this.close(this.#deadlineReason);
  }

  #receiveHandshake(now: number, bytes: Buffer): void {
    if (this.#pendingLength === 0 && this.#state === "handshake") checkVersion(bytes);
    this.#pending.push(bytes);
    this.#pendingLength += bytes.length;
    const needed = this.#state === "handshake" ? 1 + HANDSHAKE_SIZE : HANDSHAKE_SIZE;
    if (this.#pendingLength < needed) return;
    const all = this.#pending.length === 1 ? bytes : Buffer.concat(this.#pending);
    const rest = all.subarray(needed);
    this.#pending = [];
    this.#pendingLength = 0;
    if (this.#state === "handshake") {
      this.#owner.send(answerHandshake(all, this.#options.random).answer);
      this.#state = "handshake-ack";
      if (rest.length > 0) this.#receiveHandshake(now, rest);
      return;
    }
    // C2 is not looked at: half of all clients send something else than the echo of S1.
    this.#state = "connecting";
    this.#arm(now + (this.#options.idleTimeout ?? IDLE_TIMEOUT), "connected without publishing or playing");
    this.#link.push(rest);
  }

  #drain(now: number): void {
    while (
      this.#state !== "closed" &&
      this.#state !== "deciding" &&
      this.#state !== "handshake" &&
      this.#state !== "handshake-ack"
    ) {
      const message = this.#link.read();
      if (message === undefined) return;
      this.#handle(now, message);
    }
  }

  #handle(now: number, message: RtmpMessage): void {
    switch (message.kind) {
      case "audio":
      case "video":
      case "aggregate":
        if (this.#media === undefined) return; // late media after an unpublish
        this.#arm(now + this.#timeouts.normalTimeout, "publisher silent");
        this.#media.read(message);
        return;
      case "data":
        this.#media?.read(message);
        return;
      case "command":
        this.#onCommand(now, message.streamId, message.command);
        return;
      default:
        return; // what players say of their buffer
    }
  }

  #onCommand(now: number, streamId: number, command: Command): void {
    const { name, transactionId, values } = command;
    if (name === "connect") {
      this.#onConnect(transactionId, values);
      return;
    }
    if (this.#state === "connecting") {
      this.#status("error", "NetConnection.Connect.Rejected", `${name} before connect`);
      throw new ProtocolError("command-before-connect", `${name} before connect`);
    }
    switch (name) {
      case "createStream":
        if (this.#streams >= MAX_STREAMS) throw new ProtocolError("too-many-streams", `over ${MAX_STREAMS} createStream`);
        this.#streams += 1;
        this.#result(transactionId, [null, this.#streams]);
        return;
      case "releaseStream":
      case "_checkbw":
        this.#result(transactionId, [null, undefined]);
        return;
      case "getStreamLength":
        this.#result(transactionId, [null, 0]);
        return;
      case "FCPublish":
        this.#result(transactionId, [null, undefined]);
        this.#onFc("onFCPublish", "NetStream.Publish.Start", values[1]);
        return;
      case "FCUnpublish":
        this.#result(transactionId, [null, undefined]);
        this.#onFc("onFCUnpublish", "NetStream.Unpublish.Success", values[1]);
        this.#unpublish(now, "FCUnpublish");
        return;
      case "FCSubscribe":
        this.#result(transactionId, [null, undefined]);
        this.#onFc("onFCSubscribe", "NetStream.Play.Start", values[1]);
        return;
      case "FCUnsubscribe":
        this.#result(transactionId, [null, undefined]);
        this.#stopPlay(now, name);
        return;
      case "deleteStream":
        if (values[1] !== this.#activeStream) return;
        this.#unpublish(now, name);
        this.#stopPlay(now, name);
        return;
      case "closeStream":
        if (streamId !== this.#activeStream) return;
        this.#unpublish(now, name);
        this.#stopPlay(now, name);
        return;
      case "publish":
        this.#onPublish(streamId, values);
        return;
      case "play":
        this.#stopPlay(now, "another play");
        this.#ask(streamId, values[1], (request) => this.#owner.onPlay(request));
        return;
      case "play2":
        this.#statusOn(
          streamId,
          "error",
          "NetStream.Play.Failed",
          "play2 is not offered: a live stream has one quality, use play",
        );
        return;
      case "pause":
        this.#onPause(values[1] === true);
        return;
      case "pauseRaw": // what Flash Player sends beside pause
        return;
      case "seek":
        // A live stream has one place to be. Said as a success: ffmpeg waits for it and shows nothing before.
        if (this.#state === "playing") this.#status("status", "NetStream.Seek.Notify", "the stream is live and plays on");
        return;
      case "receiveAudio":
        this.#receive.audio = values[1] !== false;
        this.#updateWish();
        return;
      case "receiveVideo":
        this.#receive.video = values[1] !== false;
        this.#updateWish();
        return;
      case "_result":
      case "_error":
      case "onStatus":
        return; // answers to nothing that was asked
      default:
        if (transactionId === 0) return;
        this.#command(0, "_error", transactionId, [
          null,
          amfObject({ level: "error", code: "NetConnection.Call.Failed", description: `no such command: ${name.slice(0, 64)}` }),
        ]);
    }
  }

  #onConnect(transactionId: number, values: readonly AmfValue[]): void {
    if (this.#state !== "connecting") throw new ProtocolError("connect-twice", "a second connect");
    const request = values[0];
    const app = request instanceof AmfObject ? request.text("app") : undefined;
    if (!(request instanceof AmfObject) || app === undefined)
      throw new ProtocolError("connect-invalid", "connect without an app");
    const { rejection } = this.#options;
    if (rejection !== undefined) {
      const info = { level: "error", code: "NetConnection.Connect.Rejected", description: rejection };
      this.#command(0, "_error", transactionId, [null, amfObject(info)]);
      this.#end(rejection);
      return;
    }
    this.#app = app;
    this.#tcUrl = request.text("tcUrl") ?? "";
    this.#pageUrl = request.text("pageUrl");
    this.#agent = request.text("flashVer")?.slice(0, 128);
    this.#state = "connected";
    this.#write(controlMessage(MESSAGE.WINDOW_ACKNOWLEDGEMENT_SIZE, WINDOW_SIZE));
    this.#write(controlMessage(MESSAGE.SET_PEER_BANDWIDTH, WINDOW_SIZE));
    this.#link.setChunkSize(CHUNK_SIZE);
    this.#result(transactionId === 0 ? 1 : transactionId, [
      amfObject({ fmsVer: "FMS/3,5,3,888", capabilities: 127, mode: 1 }), // what encoders expect to see of a server
      amfObject({
        level: "status",
        code: "NetConnection.Connect.Success",
        description: "connected",
        objectEncoding: 0, // commands go out in AMF0, whatever the client can read
      }),
    ]);
  }

  #onPublish(streamId: number, values: readonly AmfValue[]): void {
    if (this.#state === "publishing") {
      this.#statusOn(streamId, "error", "NetStream.Publish.BadName", "this connection publishes already");
      return;
    }
    this.#ask(streamId, values[1], (request) => this.#owner.onPublish(request));
  }

  #onPause(isPaused: boolean): void {
    if (this.#state !== "playing") return;
    this.#isPaused = isPaused;
    if (isPaused) this.#updateWish();
    this.#write(streamEvent(isPaused ? USER_CONTROL.STREAM_EOF : USER_CONTROL.STREAM_BEGIN, this.#activeStream));
    if (isPaused) this.#status("status", "NetStream.Pause.Notify", "paused");
    else this.#status("status", "NetStream.Unpause.Notify", "playing on, live");
    if (!isPaused) this.#updateWish();
  }

  #updateWish(): void {
    if (this.#state !== "playing") return;
    const { audio, video } = this.#receive;
    const wish = this.#isPaused || !(audio || video) ? "nothing" : audio && video ? "all" : audio ? "audio" : "video";
    if (wish === this.#wish) return;
    this.#wish = wish;
    this.#owner.onPlayWish(wish);
  }

  #stopPlay(now: number, reason: string): void {
    if (this.#state !== "playing") return;
    this.#state = "connected";
    this.#arm(now + (this.#options.idleTimeout ?? IDLE_TIMEOUT), "connected without publishing or playing");
    this.#status("status", "NetStream.Play.Stop", "stopped");
    this.#owner.onPlayEnd(reason);
  }

  #ask(streamId: number, name: AmfValue, ask: (request: RtmpRequest) => void): void {
    if (this.#state !== "connected") throw new ProtocolError("busy-connection", "publish and play on one connection");
    if (typeof name !== "string") throw new ProtocolError("target-invalid", "publish or play without a stream name");
    const target = parseTarget(this.#app, this.#tcUrl, name);
    this.#activeStream = streamId;
    this.#state = "deciding";
    this.#arm(Number.POSITIVE_INFINITY, ""); // the hub's gates have their own time
    ask({ ...target, streamId, tcUrl: this.#tcUrl, pageUrl: this.#pageUrl, agent: this.#agent });
  }

  #unpublish(now: number, reason: string): void {
    if (this.#state !== "publishing") return;
    this.#state = "connected";
    this.#media = undefined;
    this.#link.setLimits(STRANGER_LIMITS);
    this.#arm(now + (this.#options.idleTimeout ?? IDLE_TIMEOUT), "connected without publishing or playing");
    this.#status("status", "NetStream.Unpublish.Success", "unpublished");
    this.#owner.onUnpublish(reason);
  }

  #end(reason: string): void {
    this.#state = "closed";
    this.#media = undefined;
    this.#arm(Number.POSITIVE_INFINITY, "");
    this.#owner.onClose(reason);
  }

  #arm(deadline: number, reason: string): void {
    this.#deadline = deadline;
    this.#deadlineReason = reason;
  }

  #onFc(command: string, code: string, name: AmfValue): void {
    const description = typeof name === "string" ? name.slice(0, 256) : "";
    this.#command(0, command, 0, [null, amfObject({ level: "status", code, description })]);
  }

  #result(transactionId: number, values: readonly AmfValue[]): void {
    if (transactionId !== 0) this.#command(0, "_result", transactionId, values);
  }

  #status(level: "status" | "error", code: string, description: string): void {
    this.#statusOn(this.#activeStream, level, code, description);
  }

  #statusOn(streamId: number, level: "status" | "error", code: string, description: string): void {
    this.#link.status(streamId, level, code, description);
  }

  #command(streamId: number, name: string, transactionId: number, values: readonly AmfValue[]): void {
    this.#link.command(streamId, name, transactionId, values);
  }

  #write(message: ChunkMessage): void {
    this.#link.write(message);
  }

  #isClosed(): boolean {
    return this.#state === "closed";
  }
}

const HANDSHAKE_TIMEOUT = 10_000;
const IDLE_TIMEOUT = 30_000;
const CHUNK_SIZE = 4096; // of what is sent to all but players
const MAX_UNREAD = 1 << 20; // while a request waits the owner stops reading; this bounds an owner that does not
const MAX_STREAMS = 16; // createStream per connection: encoders use one
