// What both ends of an RTMP connection do alike once the handshake is over: messages in and out, acknowledgements, pings.

import { type AmfValue, amfObject } from "./amf.js";
import { type ChunkLimits, type ChunkMessage, ChunkReader, ChunkWriter } from "./chunk.js";
import {
  commandMessage,
  controlMessage,
  MESSAGE,
  parseMessage,
  type RtmpMessage,
  USER_CONTROL,
  userControlMessage,
} from "./message.js";

export class MessageLink {
  readonly #reader: ChunkReader;
  readonly #writer = new ChunkWriter();
  readonly #send: (bytes: Buffer) => void;
  /** Bytes received, in all and at the last acknowledgement. */
  #received = 0;
  #acknowledged = 0;
  #window = WINDOW_SIZE;

  constructor(send: (bytes: Buffer) => void, limits: Partial<ChunkLimits>) {
    this.#send = send;
    this.#reader = new ChunkReader(limits);
  }

  /** Bytes given and not read yet. */
  get unread(): number {
    return this.#reader.unread;
  }

  setLimits(limits: Partial<ChunkLimits>): void {
    this.#reader.setLimits(limits);
  }

  /** Counts bytes that came, those of the handshake too: the peer counts all that it sent. */
  count(bytes: number): void {
    this.#received += bytes;
  }

  /** Takes bytes that came after the handshake; they must not change afterwards. */
  push(bytes: Buffer): void {
    this.#reader.push(bytes);
  }

  /** The next message that is not the link's own affair, or undefined when more bytes are needed. @throws ProtocolError */
  read(): RtmpMessage | undefined {
    for (;;) {
      const raw = this.#reader.read();
      if (raw === undefined) return undefined;
      const message = parseMessage(raw);
      switch (message.kind) {
        case "window-acknowledgement-size":
          if (message.size > 0) this.#window = message.size;
          break;
        case "user-control":
          if (message.event !== USER_CONTROL.PING_REQUEST) return message;
          this.write(userControlMessage(USER_CONTROL.PING_RESPONSE, message.data.subarray(0, 4)));
          break;
        case "set-chunk-size": // the chunk reader has obeyed it
        case "abort": // likewise
        case "acknowledgement": // TCP says how much the peer has taken
        case "set-peer-bandwidth":
        case "unknown":
          break;
        default:
          return message;
      }
    }
  }

  /** Acknowledges at half the window: at the whole one a strict sender would already stand still. Section 5.4.3. */
  acknowledge(): void {
    if (this.#received - this.#acknowledged < this.#window / 2) return;
    this.#acknowledged = this.#received;
    this.write(controlMessage(MESSAGE.ACKNOWLEDGEMENT, this.#received % 0x1_0000_0000));
  }

  write(message: ChunkMessage): void {
    this.#send(this.#writer.write(message));
  }

  setChunkSize(size: number): void {
    this.write(controlMessage(MESSAGE.SET_CHUNK_SIZE, size));
    this.#writer.chunkSize = size;
  }

  command(streamId: number, name: string, transactionId: number, values: readonly AmfValue[]): void {
    this.write(commandMessage(streamId, { name, transactionId, values }));
  }

  status(streamId: number, level: "status" | "error", code: string, description: string): void {
    this.command(streamId, "onStatus", 0, [null, amfObject({ level, code, description })]);
  }
}

/** What every server says; acknowledgements then come about once a second from a fast sender. */
export const WINDOW_SIZE = 2_500_000;

/** For a peer that has not been granted anything: commands are under 1 KiB, and anybody may connect. */
export const STRANGER_LIMITS = { maxMessageLength: 1 << 20, maxBuffered: 1 << 20 };

/** Bytes of a chunk of media: a key frame of a usual stream fits into one. */
export const MEDIA_CHUNK_SIZE = 60_000;
