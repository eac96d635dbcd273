// Refusals over HTTP: application/problem+json (RFC 9457) with a stable type, a title and a detail a person can act on.

import type { FastifyReply } from "fastify";

import type { RefusalCode } from "../media/errors.js";

/** The last part of `urn:sluice:problem:…`: a refusal of the gateway, or a request that HTTP itself turns down. */
export type ProblemCode =
  | RefusalCode
  | "content-type"
  | "body-too-large"
  | "too-many-requests"
  | "method-not-allowed"
  | "precondition-required"
  | "precondition-failed"
  | "internal";

/** A request turned down before anybody behind HTTP was asked. */
export class HttpProblem extends Error {
  override readonly name = "HttpProblem";
  readonly code: ProblemCode;
  /** Headers that go with it, `Allow` for instance. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ProblemCode, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.code = code;
    this.headers = headers;
  }
}

/** Answers with the problem of that code. `detail` is shown as it is. */
export function sendProblem(reply: FastifyReply, code: ProblemCode, detail: string, status?: number): FastifyReply {
  const problem = problemOf(code, detail, status);
  if (reply.hasHeader("Retry-After")) reply.headers({ ...problem.headers, "Retry-After": reply.getHeader("Retry-After") });
  else reply.headers(problem.headers);
  return reply.code(problem.status).send(problem.body);
}

/** A problem as it goes out. */
export type Problem = {
  readonly status: number;
  readonly title: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

export function problemOf(code: ProblemCode, detail: string, status?: number): Problem {
  const { title, status: usual, retryAfter } = PROBLEMS[code];
  const shown = status ?? usual;
  return {
    status: shown,
    title,
    headers: {
      "Content-Type": "application/problem+json",
      "Cache-Control": "no-store",
      ...(retryAfter !== undefined && { "Retry-After": String(retryAfter) }),
    },
    body: JSON.stringify({ type: `urn:sluice:problem:${code}`, title, status: shown, detail }),
  };
}

/** `retryAfter` in seconds: only where trying again helps. */
const PROBLEMS: Readonly<Record<ProblemCode, { title: string; status: number; retryAfter?: number }>> = {
  "bad-request": { title: "The request makes no sense", status: 400 },
  unauthorized: { title: "Authorization is needed", status: 401 },
  forbidden: { title: "This is not allowed", status: 403 },
  "not-found": { title: "There is no such session", status: 404 },
  "not-live": { title: "Nobody is publishing this stream", status: 409, retryAfter: 2 },
  busy: { title: "Somebody else is publishing this stream", status: 409, retryAfter: 5 },
  unsupported: { title: "The offer and the stream have no format in common", status: 422 },
  overloaded: { title: "The gateway is at its limit", status: 503, retryAfter: 5 },
  unavailable: { title: "This gateway does not offer that", status: 503, retryAfter: 60 },
  "content-type": { title: "Another content type is needed", status: 415 },
  "body-too-large": { title: "The body is too large", status: 413 },
  "too-many-requests": { title: "Too many requests from this address", status: 429, retryAfter: 1 },
  "method-not-allowed": { title: "This method is not offered here", status: 405 },
  "precondition-required": { title: "An If-Match header is needed", status: 428 },
  "precondition-failed": { title: "The entity tag is not the current one", status: 412 },
  internal: { title: "Something went wrong in the gateway", status: 500 },
};
