// Opus in Ogg (RFC 3533, RFC 7845), as ffmpeg's children read it on standard input: one packet a page, so that nothing waits.

/** Both header pages of an Opus stream: OpusHead and OpusTags (RFC 7845 section 5). */
export function oggOpusHeaders(channels: 1 | 2): Buffer {
  const head = Buffer.alloc(19);
  head.write("OpusHead", 0, "latin1");
  head[8] = 1; // version
  head[9] = channels;
  head.writeUInt16LE(0, 10); // pre-skip: live sound has no beginning to be cut off
  head.writeUInt32LE(48_000, 12); // input sample rate, for information
  const tags = Buffer.concat([Buffer.from("OpusTags"), lengthPrefixed(VENDOR), Buffer.alloc(4)]); // no comments
  return Buffer.concat([oggPage(head, 0, 0, FIRST_PAGE), oggPage(tags, 0, 1, 0)]);
}

/**
 * One page with one packet.
 *
 * @param granule samples at 48 kHz from the stream's zero to the end of this packet
 * @param pageNumber counts from the header pages' 0 and 1 on
 * @param flags header type: 2 for the first page, 4 for the last
 * @throws TypeError for a packet that needs more than one page (65,025 bytes)
 */
export function oggPage(packet: Buffer, granule: number, pageNumber: number, flags: number): Buffer {
  const segments = Math.floor(packet.length / 255) + 1; // the last one is shorter than 255, if need be empty
  if (segments > 255) throw new TypeError(`oggPage: a packet of ${packet.length} bytes does not fit a page`);
  const headerSize = 27 + segments;
  const page = Buffer.allocUnsafe(headerSize + packet.length);
  page.write("OggS", 0, "latin1");
  page[4] = 0; // stream_structure_version
  page[5] = flags;
  page.writeUInt32LE(granule % 0x100000000, 6);
  page.writeUInt32LE(Math.floor(granule / 0x100000000), 10);
  page.writeUInt32LE(SERIAL_NUMBER, 14);
  page.writeUInt32LE(pageNumber % 0x100000000, 18);
  page.writeUInt32LE(0, 22); // CRC_checksum, below
  page[26] = segments;
  page.fill(255, 27, headerSize - 1);
  page[headerSize - 1] = packet.length % 255;
  packet.copy(page, headerSize);
  page.writeUInt32LE(crc32(page), 22);
  return page;
}

function lengthPrefixed(text: string): Buffer {
  const out = Buffer.alloc(4 + text.length);
  out.writeUInt32LE(text.length, 0);
  out.write(text, 4, "latin1");
  return out;
}

/** RFC 3533 section 6: generator 0x04c11db7, most significant bit first, no reflection, start and end value 0. */
function crc32(bytes: Buffer): number {
  let crc = 0;
  for (let i = 0; i < bytes.length; i++) crc = (crc << 8) ^ (CRC_TABLE[((crc >>> 24) ^ (bytes[i] as number)) & 0xff] as number);
  return crc >>> 0;
}

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, index) => {
  let value = index << 24;
  for (let bit = 0; bit < 8; bit++) value = value < 0 ? (value << 1) ^ 0x04c11db7 : value << 1;
  return value;
});

const FIRST_PAGE = 2;
const SERIAL_NUMBER = 1; // any: the stream is alone
const VENDOR = "sluice";
