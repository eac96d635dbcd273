// Frames as the bytes that players get: one message per frame, whose chunks depend on nothing sent before, so that they are made once
// for all players of a stream.

import { sizeOfTagHeader, writeTagHeader } from "../media/flv.js";
import type { Frame } from "../media/frame.js";
import { type ChunkMessage, sizeOfMessage, writeMessage } from "./chunk.js";
import { CHUNK_STREAM, MESSAGE } from "./message.js";

/**
 * A frame as an audio, video or data message.
 *
 * @param timestamp milliseconds, unwrapped
 * @returns undefined when RTMP has no way to carry the frame's codec
 */
export function mediaMessage(frame: Frame, timestamp: number, streamId: number): ChunkMessage | undefined {
  const headerSize = sizeOfTagHeader(frame);
  if (headerSize === -1) return undefined;
  const payload = Buffer.allocUnsafe(headerSize + frame.data.length);
  frame.data.copy(payload, writeTagHeader(payload, 0, frame));
  const { chunkStreamId, type } = KINDS[frame.kind];
  // Metadata at another time than 0 is a subtitle for ffmpeg, which then adds a text track.
  return { chunkStreamId, type, streamId, timestamp: frame.kind === "data" ? 0 : timestamp >>> 0, payload };
}

/** The chunks of a frame's message. @returns undefined when RTMP has no way to carry the frame's codec */
export function mediaBytes(frame: Frame, timestamp: number, streamId: number, chunkSize: number): Buffer | undefined {
  const message = mediaMessage(frame, timestamp, streamId);
  if (message === undefined) return undefined;
  const size = sizeOfMessage(message.chunkStreamId, message.timestamp, message.payload.length, chunkSize);
  const out = Buffer.allocUnsafe(size);
  writeMessage(out, 0, message, chunkSize);
  return out;
}

/** Chunk streams of their own: the session's control messages go between, with headers that refer to what it sent before. */
const KINDS = {
  audio: { chunkStreamId: CHUNK_STREAM.AUDIO, type: MESSAGE.AUDIO },
  video: { chunkStreamId: CHUNK_STREAM.VIDEO, type: MESSAGE.VIDEO },
  data: { chunkStreamId: CHUNK_STREAM.DATA, type: MESSAGE.DATA_AMF0 },
} as const;
