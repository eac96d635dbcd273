// An RTMP publisher for tests: writes whole client byte streams for engines in memory, and speaks to a real server over a socket. It
// uses our own chunk writer and handshake, and can misbehave on purpose.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

import type { Frame } from "../../gateway/media/frame.js";
import { AmfObject, type AmfValue, amfObject } from "../../gateway/rtmp/amf.js";
import { writeAmf0 } from "../../gateway/rtmp/amf0.js";
import { type ChunkMessage, ChunkReader, ChunkWriter } from "../../gateway/rtmp/chunk.js";
import { type DigestScheme, finishHandshake, HANDSHAKE_SIZE, startHandshake } from "../../gateway/rtmp/handshake.js";
import { MediaReader } from "../../gateway/rtmp/media-reader.js";
import { type Command, commandMessage, controlMessage, MESSAGE, parseMessage } from "../../gateway/rtmp/message.js";

/** A message to send: type, milliseconds, body. */
export type Tag = { readonly type: number; readonly timestamp: number; readonly body: Buffer };

// One macroblock-sized stream: an SPS (High, 320x180, no reordering) and a PPS as x264 writes them.
export const SPS = Buffer.from("6764000cacb202833f3e0220000003002000000303d1e28549", "hex");
export const PPS = Buffer.from("68ebc3cb22c0", "hex");
export const AVC_CONFIG = Buffer.from(
  "0164000cffe100196764000cacb202833f3e0220000003002000000303d1e2854901000668ebc3cb22c0fdf8f800",
  "hex",
);
/** AAC-LC, 48 kHz, stereo. */
export const AAC_CONFIG = Buffer.from("1190", "hex");

export function videoConfigTag(timestamp = 0, config = AVC_CONFIG): Tag {
  return { type: MESSAGE.VIDEO, timestamp, body: Buffer.concat([Buffer.from([0x17, 0, 0, 0, 0]), config]) };
}

/** A picture of one slice with the wanted slice_type (0 P, 1 B, 2 I), `size` bytes long. */
export function videoTag(
  timestamp: number,
  options: { key?: boolean; compositionTime?: number; size?: number; b?: boolean; before?: readonly Buffer[] } = {},
): Tag {
  const isKey = options.key ?? false;
  const nal = Buffer.alloc(options.size ?? 40, 0x55);
  nal[0] = isKey ? 0x65 : options.b === true ? 0x01 : 0x41; // nal_ref_idc and nal_unit_type
  nal[1] = isKey ? 0x88 : options.b === true ? 0xa0 : 0xe0; // first_mb_in_slice=0 (1), slice_type 7 (0001000), 1 (010), 0 (1)
  const header = Buffer.from([isKey ? 0x17 : 0x27, 1, 0, 0, 0]);
  header.writeIntBE(options.compositionTime ?? 0, 2, 3);
  return { type: MESSAGE.VIDEO, timestamp, body: Buffer.concat([header, ...[...(options.before ?? []), nal].map(withLength)]) };
}

export function withLength(nal: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(nal.length);
  return Buffer.concat([length, nal]);
}

export function audioConfigTag(timestamp = 0, config = AAC_CONFIG): Tag {
  return { type: MESSAGE.AUDIO, timestamp, body: Buffer.concat([Buffer.from([0xaf, 0]), config]) };
}

export function audioTag(timestamp: number, size = 20): Tag {
  return { type: MESSAGE.AUDIO, timestamp, body: Buffer.concat([Buffer.from([0xaf, 1]), Buffer.alloc(size, 0x21)]) };
}

export function metadataTag(entries: Readonly<Record<string, AmfValue>> = { width: 320, height: 180 }): Tag {
  const body = writeAmf0(["@setDataFrame", "onMetaData", new AmfObject("array", Object.entries(entries))]);
  return { type: MESSAGE.DATA_AMF0, timestamp: 0, body };
}

/** A second of video and audio with configurations, as an encoder would send it. */
export function sampleTags(): Tag[] {
  const tags: Tag[] = [metadataTag(), videoConfigTag(), audioConfigTag()];
  for (let i = 0; i < 25; i++) {
    tags.push(videoTag(i * 40, { key: i % 12 === 0, compositionTime: 40, size: 200 + 37 * i }));
    tags.push(audioTag(i * 40 + 5, 60 + i));
  }
  return tags;
}

/** What a server makes of these tags. */
export function framesOfTags(tags: readonly Tag[]): Frame[] {
  const frames: Frame[] = [];
  const reader = new MediaReader({ onFrame: (frame) => frames.push(frame), onProblem: () => {} });
  for (const tag of tags) reader.read(parseMessage(toMessage(tag)));
  return frames;
}

export function toMessage(tag: Tag, streamId = 1): ChunkMessage {
  const chunkStreamId = tag.type === MESSAGE.VIDEO ? 6 : 4;
  return { chunkStreamId, type: tag.type, streamId, timestamp: tag.timestamp, payload: tag.body };
}

/** Commands up to `publish`, as OBS and ffmpeg send them. */
export function publishCommands(app = "live", stream = "livestream"): ChunkMessage[] {
  const connectObject = amfObject({ app, type: "nonprivate", flashVer: "test/1.0", tcUrl: `rtmp://127.0.0.1/${app}` });
  return [
    commandMessage(0, { name: "connect", transactionId: 1, values: [connectObject] }),
    commandMessage(0, { name: "releaseStream", transactionId: 2, values: [null, stream] }),
    commandMessage(0, { name: "FCPublish", transactionId: 3, values: [null, stream] }),
    commandMessage(0, { name: "createStream", transactionId: 4, values: [null] }),
    commandMessage(1, { name: "publish", transactionId: 5, values: [null, stream, "live"] }),
  ];
}

/** All bytes of a client from C0 on. Nothing in it depends on what the server says. */
export function clientBytes(
  tags: readonly Tag[],
  options: { chunkSize?: number; random?: (size: number) => Buffer; app?: string; stream?: string; end?: boolean } = {},
): Buffer {
  const random = options.random ?? ((size: number) => Buffer.alloc(size, 0x11));
  const writer = new ChunkWriter();
  const parts = [startHandshake(random), random(HANDSHAKE_SIZE)];
  if (options.chunkSize !== undefined) {
    parts.push(writer.write(controlMessage(MESSAGE.SET_CHUNK_SIZE, options.chunkSize)));
    writer.chunkSize = options.chunkSize;
  }
  for (const message of publishCommands(options.app, options.stream)) parts.push(writer.write(message));
  for (const tag of tags) parts.push(writer.write(toMessage(tag)));
  if (options.end === true) {
    const stream = options.stream ?? "livestream";
    parts.push(writer.write(commandMessage(0, { name: "FCUnpublish", transactionId: 6, values: [null, stream] })));
    parts.push(writer.write(commandMessage(0, { name: "deleteStream", transactionId: 7, values: [null, 1] })));
  }
  return Buffer.concat(parts);
}

/** What a server sent, S0 to S2 taken off. */
export function readServerBytes(bytes: Buffer): Command[] {
  const reader = new ChunkReader();
  reader.push(bytes.subarray(1 + 2 * HANDSHAKE_SIZE));
  const commands: Command[] = [];
  for (let message = reader.read(); message !== undefined; message = reader.read()) {
    const parsed = parseMessage(message);
    if (parsed.kind === "command") commands.push(parsed.command);
  }
  return commands;
}

/** `code` of an onStatus or _error. */
export function statusCode(command: Command): string | undefined {
  const info = command.values[1];
  return info instanceof AmfObject ? info.text("code") : undefined;
}

export function statusText(command: Command): string | undefined {
  const info = command.values[1];
  return info instanceof AmfObject ? info.text("description") : undefined;
}

/** A publisher over a real socket. */
export class RtmpClient {
  readonly socket: Socket;
  readonly commands: Command[] = [];
  /** Message type ids received, commands left out. */
  readonly controls: ChunkMessage[] = [];
  readonly writer = new ChunkWriter();
  readonly closed: Promise<void>;
  readonly #reader = new ChunkReader();
  #handshake: { readonly c0c1: Buffer; readonly scheme: DigestScheme | undefined; bytes: Buffer; done: () => void } | undefined;
  #waiting: (() => void)[] = [];
  #isClosed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (bytes) => this.#receive(bytes));
    socket.on("error", () => {}); // a server may close at any time; "close" follows
    this.closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#isClosed = true;
        this.#handshake?.done();
        this.#wake();
        resolve();
      });
    });
  }

  static async open(port: number, options: { tls?: { ca: string | Buffer } } = {}): Promise<RtmpClient> {
    const socket =
      options.tls === undefined
        ? connect({ port, host: "127.0.0.1" })
        : connectTls({ port, host: "127.0.0.1", ca: options.tls.ca, servername: "localhost" });
    const client = new RtmpClient(socket);
    await once(socket, options.tls === undefined ? "connect" : "secureConnect");
    return client;
  }

  handshake(scheme?: DigestScheme): Promise<void> {
    return new Promise((done) => {
      const c0c1 = startHandshake(randomBytes, scheme);
      this.#handshake = { c0c1, scheme, bytes: Buffer.alloc(0), done };
      this.socket.write(c0c1);
    });
  }

  send(message: ChunkMessage): void {
    this.socket.write(this.writer.write(message));
  }

  sendTag(tag: Tag): void {
    this.send(toMessage(tag));
  }

  /** Handshake and commands; resolves with the code of the answer to publish (or of the rejection). */
  async publish(app = "live", stream = "livestream", scheme?: DigestScheme): Promise<string> {
    await this.handshake(scheme);
    for (const message of publishCommands(app, stream)) this.send(message);
    const answer = await this.waitFor(
      (command) => /^Net(Stream\.Publish|Connection\.Connect\.Rejected)/.test(statusCode(command) ?? ""),
      ["onStatus", "_error"],
    );
    return answer === undefined ? "closed" : (statusCode(answer) ?? "");
  }

  /** The first command received that matches, or undefined when the connection closes before. */
  async waitFor(matches: (command: Command) => boolean, names: readonly string[] = ["onStatus"]): Promise<Command | undefined> {
    for (;;) {
      const found = this.commands.find((command) => names.includes(command.name) && matches(command));
      if (found !== undefined || this.#isClosed) return found;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async close(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }

  #receive(bytes: Buffer): void {
    const handshake = this.#handshake;
    let rest = bytes;
    if (handshake !== undefined) {
      handshake.bytes = Buffer.concat([handshake.bytes, bytes]);
      if (handshake.bytes.length < 1 + 2 * HANDSHAKE_SIZE) return;
      this.#handshake = undefined;
      const { c0c1, scheme } = handshake;
      this.socket.write(finishHandshake(c0c1, handshake.bytes, randomBytes, scheme));
      rest = handshake.bytes.subarray(1 + 2 * HANDSHAKE_SIZE);
      handshake.done();
    }
    this.#reader.push(rest);
    for (let message = this.#reader.read(); message !== undefined; message = this.#reader.read()) {
      const parsed = parseMessage(message);
      if (parsed.kind === "command") this.commands.push(parsed.command);
      else this.controls.push(message);
    }
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
