// The reason in a WebSocket's close frame.

/** As much of a text as a close frame holds: 123 bytes, RFC 6455 section 5.5. */
export function closeReason(text: string): string {
  let kept = text.slice(0, 123);
  while (Buffer.byteLength(kept) > 123) kept = kept.slice(0, -1);
  return kept;
}
