// FLV as ffmpeg's children read it on standard input (Adobe Flash Video File Format 10.1, Annex E): header and tags of one track.

/** The file header and the first PreviousTagSize. */
export function flvHeader(track: "audio" | "video"): Buffer {
  return Buffer.from([0x46, 0x4c, 0x56, 1, track === "audio" ? 0x04 : 0x01, 0, 0, 0, 9, 0, 0, 0, 0]); // "FLV", version 1, flags
}

/**
 * One AAC or MP3 tag.
 *
 * @param packet `config` is an AudioSpecificConfig, `frame` one frame of the codec
 * @param time milliseconds, below 2^31
 */
export function flvAudioTag(codec: "aac" | "mp3", packet: "config" | "frame", time: number, data: Buffer): Buffer {
  if (codec === "mp3") return flvTag(8, time, data, 0x2f, -1, 0); // MP3, 44 kHz, 16 bit, stereo: only a hint, the frames know better
  return flvTag(8, time, data, 0xaf, packet === "config" ? 0 : 1, 0);
}

/**
 * One AVC tag.
 *
 * @param packet `config` is an AVCDecoderConfigurationRecord, `key` and `inter` are NAL units behind 4-byte lengths
 * @param time decoding time in milliseconds, below 2^31
 * @param compositionTime presentation minus decoding time in milliseconds
 */
export function flvVideoTag(packet: "config" | "key" | "inter", time: number, compositionTime: number, data: Buffer): Buffer {
  const frameType = packet === "inter" ? 2 : 1;
  return flvTag(9, time, data, (frameType << 4) | 7, packet === "config" ? 0 : 1, compositionTime);
}

/** @param packetType AACPacketType or AVCPacketType, -1 for codecs without */
function flvTag(type: 8 | 9, time: number, data: Buffer, first: number, packetType: number, compositionTime: number): Buffer {
  const head = packetType < 0 ? 1 : type === 8 ? 2 : 5;
  const size = head + data.length;
  const tag = Buffer.allocUnsafe(11 + size + 4);
  tag[0] = type;
  tag.writeUIntBE(size, 1, 3); // DataSize
  tag.writeUIntBE(time % 0x1000000, 4, 3); // Timestamp
  tag[7] = (time / 0x1000000) & 0xff; // TimestampExtended
  tag.writeUIntBE(0, 8, 3); // StreamID
  tag[11] = first;
  if (packetType >= 0) tag[12] = packetType;
  if (head === 5) tag.writeIntBE(compositionTime, 13, 3);
  data.copy(tag, 11 + head);
  tag.writeUInt32BE(11 + size, 11 + size); // PreviousTagSize
  return tag;
}
