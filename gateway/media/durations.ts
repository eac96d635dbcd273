// How long the sound in one encoded audio frame lasts, in microseconds.

/** Opus packet, RFC 6716 section 3.1 (the TOC byte) and 3.2. @returns undefined when it makes no sense */
export function opusPacketDuration(packet: Buffer): number | undefined {
  const toc = packet[0];
  if (toc === undefined) return undefined;
  const config = toc >> 3;
  // configurations 0–11 SILK 10, 20, 40, 60 ms; 12–15 hybrid 10, 20 ms; 16–31 CELT 2.5, 5, 10, 20 ms
  let frame: number;
  if (config < 12) frame = SILK[config & 3] ?? 0;
  else if (config < 16) frame = (config & 1) === 0 ? 10_000 : 20_000;
  else frame = 2_500 << (config & 3);
  const code = toc & 3;
  const count = code === 0 ? 1 : code < 3 ? 2 : (packet[1] ?? 0) & 0x3f;
  const duration = frame * count;
  return count === 0 || duration > 120_000 ? undefined : duration;
}

const SILK = [10_000, 20_000, 40_000, 60_000] as const;

/** MPEG audio frame header, ISO/IEC 11172-3 section 2.4.1.3, layer III. @returns undefined when it makes no sense */
export function mp3FrameDuration(frame: Buffer): number | undefined {
  if (frame.length < 4 || frame[0] !== 0xff || ((frame[1] as number) & 0xe0) !== 0xe0) return undefined;
  const version = ((frame[1] as number) >> 3) & 3; // 3 MPEG-1, 2 MPEG-2, 0 MPEG-2.5
  const layer = ((frame[1] as number) >> 1) & 3; // 1 is layer III
  const base = MP3_RATES[((frame[2] as number) >> 2) & 3];
  if (version === 1 || layer !== 1 || base === undefined) return undefined;
  const rate = version === 3 ? base : version === 2 ? base / 2 : base / 4;
  return ((version === 3 ? 1152 : 576) * 1_000_000) / rate;
}

const MP3_RATES = [44_100, 48_000, 32_000];
