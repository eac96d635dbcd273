// The two errors that cross folders. Everything else is a bug and is not caught by name.

/** A byte stream that makes no sense; ends its own session, caught exactly once, in that protocol's server. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
  /** Stable, kebab-case: `chunk-size-invalid`. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Why a well-formed request is not granted; every protocol translates it to its own refusal. */
export type RefusalCode =
  | "bad-request" // HTTP 400
  | "unauthorized" // HTTP 401
  | "forbidden" // HTTP 403, by a hook or a rule
  | "not-found" // HTTP 404, no such session or vhost
  | "not-live" // HTTP 409 for WHEP, with Retry-After
  | "busy" // HTTP 409, another publisher holds the stream
  | "unsupported" // HTTP 422, codecs or media that do not match
  | "overloaded" // HTTP 503, with Retry-After
  | "unavailable"; // HTTP 503, this gateway has that protocol switched off or lacks what it needs

/** A request refused with a reason that is shown to the one who asked. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly code: RefusalCode;

  constructor(code: RefusalCode, message: string) {
    super(message);
    this.code = code;
  }
}
