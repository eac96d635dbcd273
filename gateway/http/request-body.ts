// Reading a body with a limit, so that whoever sends too much still gets an answer he can read.

import type { Readable } from "node:stream";

import { HttpProblem } from "./problem.js";

/** What is thrown away of an oversized body before the connection is cut: an answer sent while the peer still writes is often lost. */
const MAX_DISCARDED = 16 << 20;

/**
 * Reads a body of at most `limit` bytes. More than that is read and thrown away, never kept.
 *
 * @param declared the Content-Length, NaN when there is none
 * @throws HttpProblem `body-too-large`
 */
export async function readBody(body: Readable, limit: number, declared: number): Promise<Buffer> {
  const tooLarge = () => new HttpProblem("body-too-large", `The body may have ${limit} bytes; an SDP is far smaller.`);
  if (declared > MAX_DISCARDED) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_DISCARDED) throw tooLarge();
    if (length <= limit && !(declared > limit)) chunks.push(chunk);
    else chunks.length = 0;
  }
  if (length > limit) throw tooLarge();
  return Buffer.concat(chunks, length);
}
