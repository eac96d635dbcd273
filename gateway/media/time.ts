// Time bases. Inside the gateway every time is an integer number of microseconds; conversion happens at the edges only.

export const MICROSECONDS = 1_000_000;
export const VIDEO_CLOCK_RATE = 90_000; // RTP clock of every video payload format in use (RFC 6184 section 8.2.1 and others)
export const OPUS_CLOCK_RATE = 48_000; // RFC 7587 section 4.1: always 48 kHz, whatever the encoder's input rate

/**
 * Converts a time between two time bases, rounded to the nearest unit.
 *
 * @param value a time in units of 1/`from` seconds; |value * to| must stay under 2^53
 * @param from units per second of `value`
 * @param to units per second of the result
 */
export function rescale(value: number, from: number, to: number): number {
  const seconds = Math.floor(value / from);
  const rest = value - seconds * from;
  return seconds * to + Math.round((rest * to) / from);
}
