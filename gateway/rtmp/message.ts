// RTMP messages as typed values: RTMP 1.0 sections 5.4, 6.2 and 7.1.

import { ProtocolError } from "../media/errors.js";
import type { AmfValue } from "./amf.js";
import { readAmf0, writeAmf0 } from "./amf0.js";
import type { ChunkMessage } from "./chunk.js";

/** Message type ids. */
export const MESSAGE = {
  SET_CHUNK_SIZE: 1,
  ABORT: 2,
  ACKNOWLEDGEMENT: 3,
  USER_CONTROL: 4,
  WINDOW_ACKNOWLEDGEMENT_SIZE: 5,
  SET_PEER_BANDWIDTH: 6,
  AUDIO: 8,
  VIDEO: 9,
  DATA_AMF3: 15,
  SHARED_OBJECT_AMF3: 16,
  COMMAND_AMF3: 17,
  DATA_AMF0: 18,
  SHARED_OBJECT_AMF0: 19,
  COMMAND_AMF0: 20,
  AGGREGATE: 22,
} as const;

/** User control event types, section 7.1.7. */
export const USER_CONTROL = {
  STREAM_BEGIN: 0,
  STREAM_EOF: 1,
  STREAM_DRY: 2,
  SET_BUFFER_LENGTH: 3,
  STREAM_IS_RECORDED: 4,
  PING_REQUEST: 6,
  PING_RESPONSE: 7,
} as const;

/** Chunk streams that servers and encoders use by habit. */
export const CHUNK_STREAM = { CONTROL: 2, COMMAND: 3, STATUS: 5, AUDIO: 4, VIDEO: 6, DATA: 7 } as const;

export type Command = {
  readonly name: string;
  /** 0: no answer is wanted. */
  readonly transactionId: number;
  /** The command object and what follows it. */
  readonly values: readonly AmfValue[];
};

export type RtmpMessage =
  | { readonly kind: "set-chunk-size"; readonly size: number }
  | { readonly kind: "abort"; readonly chunkStreamId: number }
  | { readonly kind: "acknowledgement"; readonly received: number }
  | { readonly kind: "window-acknowledgement-size"; readonly size: number }
  /** limit: 0 hard, 1 soft, 2 dynamic. */
  | { readonly kind: "set-peer-bandwidth"; readonly size: number; readonly limit: number }
  | { readonly kind: "user-control"; readonly event: number; readonly data: Buffer }
  | { readonly kind: "command"; readonly streamId: number; readonly command: Command }
  /** AMF0 bytes: `@setDataFrame`, `onMetaData` and so on with their values. */
  | { readonly kind: "data"; readonly streamId: number; readonly timestamp: number; readonly amf0: Buffer }
  | { readonly kind: "audio" | "video"; readonly streamId: number; readonly timestamp: number; readonly body: Buffer }
  | { readonly kind: "aggregate"; readonly streamId: number; readonly timestamp: number; readonly body: Buffer }
  | { readonly kind: "unknown"; readonly type: number };

/** @throws ProtocolError `message-…`, `amf-…`, `bytes-truncated` */
export function parseMessage(message: ChunkMessage): RtmpMessage {
  const { payload, streamId, timestamp } = message;
  switch (message.type) {
    case MESSAGE.AUDIO:
      return { kind: "audio", streamId, timestamp, body: payload };
    case MESSAGE.VIDEO:
      return { kind: "video", streamId, timestamp, body: payload };
    case MESSAGE.SET_CHUNK_SIZE:
      return { kind: "set-chunk-size", size: readU32(payload, "set chunk size") };
    case MESSAGE.ABORT:
      return { kind: "abort", chunkStreamId: readU32(payload, "abort") };
    case MESSAGE.ACKNOWLEDGEMENT:
      return { kind: "acknowledgement", received: readU32(payload, "acknowledgement") };
    case MESSAGE.WINDOW_ACKNOWLEDGEMENT_SIZE:
      return { kind: "window-acknowledgement-size", size: readU32(payload, "window acknowledgement size") };
    case MESSAGE.SET_PEER_BANDWIDTH:
      return { kind: "set-peer-bandwidth", size: readU32(payload, "set peer bandwidth"), limit: payload[4] ?? 2 };
    case MESSAGE.USER_CONTROL:
      if (payload.length < 2) throw new ProtocolError("message-too-short", "user control without an event type");
      return { kind: "user-control", event: payload.readUInt16BE(0), data: payload.subarray(2) };
    case MESSAGE.COMMAND_AMF0:
      return { kind: "command", streamId, command: parseCommand(payload) };
    case MESSAGE.COMMAND_AMF3:
      return { kind: "command", streamId, command: parseCommand(withoutFormatByte(payload)) };
    case MESSAGE.DATA_AMF0:
      return { kind: "data", streamId, timestamp, amf0: payload };
    case MESSAGE.DATA_AMF3:
      return { kind: "data", streamId, timestamp, amf0: withoutFormatByte(payload) };
    case MESSAGE.AGGREGATE:
      return { kind: "aggregate", streamId, timestamp, body: payload };
    default:
      return { kind: "unknown", type: message.type };
  }
}

function readU32(payload: Buffer, what: string): number {
  if (payload.length < 4) throw new ProtocolError("message-too-short", `${what} of ${payload.length} bytes`);
  return payload.readUInt32BE(0);
}

/** AMF3 messages start with a byte 0 and go on in AMF0, from which single values switch to AMF3 (marker 0x11). */
function withoutFormatByte(payload: Buffer): Buffer {
  return payload[0] === 0 ? payload.subarray(1) : payload;
}

function parseCommand(payload: Buffer): Command {
  const [name, transactionId, ...values] = readAmf0(payload);
  if (typeof name !== "string") throw new ProtocolError("message-command", "a command without a name");
  return { name, transactionId: typeof transactionId === "number" ? transactionId : 0, values };
}

/**
 * Takes an aggregate message apart, section 7.1.6: FLV tags whose times count from the aggregate's own. @throws ProtocolError
 * `message-aggregate`
 */
export function splitAggregate(streamId: number, timestamp: number, body: Buffer): ChunkMessage[] {
  const messages: ChunkMessage[] = [];
  let base: number | undefined;
  for (let at = 0; at < body.length; ) {
    if (body.length - at < AGGREGATE_HEADER)
      throw new ProtocolError("message-aggregate", "an aggregate message ends inside a header");
    const type = body.readUInt8(at);
    const length = body.readUIntBE(at + 1, 3);
    const time = body.readUIntBE(at + 4, 3) + body.readUInt8(at + 7) * 0x1000000;
    const start = at + AGGREGATE_HEADER;
    if (length > body.length - start)
      throw new ProtocolError("message-aggregate", `${length} bytes inside an aggregate of ${body.length}`);
    if (messages.length >= MAX_AGGREGATE)
      throw new ProtocolError("message-aggregate", `over ${MAX_AGGREGATE} messages in an aggregate`);
    base ??= time;
    const payload = body.subarray(start, start + length);
    messages.push({ chunkStreamId: 0, type, streamId, timestamp: (timestamp + time - base) >>> 0, payload });
    at = start + length + 4; // back pointer
  }
  return messages;
}

const AGGREGATE_HEADER = 11;
const MAX_AGGREGATE = 4096; // a second of everything is under 200

export function controlMessage(type: number, value: number): ChunkMessage {
  const payload = Buffer.allocUnsafe(type === MESSAGE.SET_PEER_BANDWIDTH ? 5 : 4);
  payload.writeUInt32BE(value, 0);
  if (payload.length === 5) payload[4] = 2; // dynamic
  return { chunkStreamId: CHUNK_STREAM.CONTROL, type, streamId: 0, timestamp: 0, payload };
}

export function userControlMessage(event: number, data: Buffer): ChunkMessage {
  const payload = Buffer.allocUnsafe(2 + data.length);
  payload.writeUInt16BE(event, 0);
  data.copy(payload, 2);
  return { chunkStreamId: CHUNK_STREAM.CONTROL, type: MESSAGE.USER_CONTROL, streamId: 0, timestamp: 0, payload };
}

/** Stream Begin, Stream EOF and the like, whose data is a message stream id. */
export function streamEvent(event: number, streamId: number): ChunkMessage {
  const data = Buffer.allocUnsafe(4);
  data.writeUInt32BE(streamId, 0);
  return userControlMessage(event, data);
}

/** What Flash Player wants to see before it lets scripts read sound and pictures; other players ignore it. */
export function sampleAccessMessage(streamId: number): ChunkMessage {
  const payload = writeAmf0(["|RtmpSampleAccess", true, true]);
  return { chunkStreamId: CHUNK_STREAM.STATUS, type: MESSAGE.DATA_AMF0, streamId, timestamp: 0, payload };
}

export function commandMessage(streamId: number, command: Command): ChunkMessage {
  return {
    chunkStreamId: streamId === 0 ? CHUNK_STREAM.COMMAND : CHUNK_STREAM.STATUS,
    type: MESSAGE.COMMAND_AMF0,
    streamId,
    timestamp: 0,
    payload: writeAmf0([command.name, command.transactionId, ...command.values]),
  };
}
