// Counters of RTP made endless: 16-bit sequence numbers and 32-bit timestamps as they come in.

/** The value with these low 16 bits that is nearest to `reference`. */
export function unwrapSequence(low: number, reference: number): number {
  return reference + (((low - reference) << 16) >> 16);
}

/** The value with these low 32 bits that is nearest to `reference`. */
export function unwrapTimestamp(low: number, reference: number): number {
  return reference + ((low - reference) | 0);
}

/** Where an endless counter begins, so that what comes before the first packet is still above zero. */
export const FIRST_SEQUENCE_CYCLE = 0x10000;
export const FIRST_TIMESTAMP_CYCLE = 0x100000000;
