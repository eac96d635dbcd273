import assert from "node:assert/strict";
import { test } from "node:test";

import type { Frame } from "../../gateway/media/frame.js";
import { type ChunkMessage, ChunkReader } from "../../gateway/rtmp/chunk.js";
import { mediaBytes } from "../../gateway/rtmp/media-message.js";
import { MESSAGE } from "../../gateway/rtmp/message.js";
import { MEDIA_CHUNK_SIZE } from "../../gateway/rtmp/message-link.js";
import { audioFrame, videoFrame } from "../support/frames.js";

/** What a player reads of some messages, one after another. */
function read(parts: readonly (Buffer | undefined)[], chunkSize: number): ChunkMessage[] {
  const setChunkSize = Buffer.from("02000000000004010000000000000000", "hex");
  setChunkSize.writeUInt32BE(chunkSize, 12);
  const reader = new ChunkReader();
  reader.push(Buffer.concat([setChunkSize, ...parts.map((part) => part ?? Buffer.alloc(0))]));
  const messages: ChunkMessage[] = [];
  for (let message = reader.read(); message !== undefined; message = reader.read()) messages.push(message);
  return messages.slice(1);
}

const LONG = videoFrame(0, { isKey: true, size: 3 * MEDIA_CHUNK_SIZE, pts: 80_000 });

// After 4.66 hours times take 32 bits, in every chunk; after 49.7 days they begin again.
for (const [timestamp, sent] of [
  [0, 0],
  [0xfffffe, 0xfffffe],
  [0xffffff, 0xffffff],
  [0x1000000, 0x1000000],
  [0xffffffff, 0xffffffff],
  [0x1_0000_0000, 0],
  [0x3_0000_0028, 0x28],
] as const) {
  test(`a picture of four chunks and a sound at ${timestamp} ms`, () => {
    const parts = [LONG, audioFrame(0)].map((frame) => mediaBytes(frame, timestamp, 1, MEDIA_CHUNK_SIZE));
    const [picture, sound] = read(parts, MEDIA_CHUNK_SIZE);
    assert.deepEqual([picture?.type, picture?.timestamp, picture?.streamId], [MESSAGE.VIDEO, sent, 1]);
    assert.equal(picture?.payload.readIntBE(2, 3), 80); // composition time
    assert.deepEqual(picture?.payload.subarray(5), LONG.data);
    assert.deepEqual([sound?.type, sound?.timestamp], [MESSAGE.AUDIO, sent]);
  });
}

test("metadata is always at 0: ffmpeg takes it for a subtitle else", () => {
  const frame: Frame = { ...audioFrame(0), kind: "data", codec: "amf0", data: Buffer.from("0200016105", "hex") };
  const [message] = read([mediaBytes(frame, 90_000, 3, 4096)], 4096);
  assert.deepEqual([message?.type, message?.timestamp, message?.streamId], [MESSAGE.DATA_AMF0, 0, 3]);
});

test("what RTMP cannot carry is undefined", () => {
  assert.equal(mediaBytes({ ...videoFrame(0), codec: "vp6" }, 0, 1, 4096), undefined);
});
