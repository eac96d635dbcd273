// Who may use the HTTP API: HTTP Basic (RFC 7617) and bearer tokens (RFC 6750), as `http_api { auth { … } }` says.

import { createHash, timingSafeEqual } from "node:crypto";

import type { FastifyReply, FastifyRequest } from "fastify";

import type { ApiAuthConfig } from "../config/config.js";
import { RateLimit } from "../hub/rate-limit.js";
import { clientAddress } from "./whip-whep.js";

export type ApiGuardOptions = {
  readonly auth: ApiAuthConfig;
  /** Milliseconds. */
  readonly now: () => number;
};

/**
 * A hook for `onRequest` of the API's routes: answers whoever may not use them with 401, and after many wrong guesses with 429. A
 * preflight has no credentials and needs none. To be added after the hook that sets the CORS headers, so that pages can read the 401.
 */
export function apiGuard({ auth, now }: ApiGuardOptions): (request: FastifyRequest, reply: FastifyReply) => Promise<unknown> {
  const accepted: Buffer[] = [];
  if (auth.username !== "") accepted.push(digest(`basic ${auth.username}:${auth.password}`));
  if (auth.token !== "") accepted.push(digest(`bearer ${auth.token}`));
  const challenges = [
    ...(auth.username === "" ? [] : ['Basic realm="sluice", charset="UTF-8"']),
    ...(auth.token === "" ? [] : ['Bearer realm="sluice"']),
  ];
  const wrongGuesses = new RateLimit(GUESSES);

  return async (request, reply) => {
    if (!auth.enabled || request.method === "OPTIONS") return;
    const given = readAuthorization(request.headers.authorization);
    const address = clientAddress(request);
    if (given !== undefined) {
      if (!wrongGuesses.take(now(), address)) {
        return reply
          .code(429)
          .header("Retry-After", "10")
          .send({ code: 429, error: "too many wrong names, passwords or tokens from this address" });
      }
      const wanted = digest(given);
      let isAccepted = false;
      for (const one of accepted) isAccepted = timingSafeEqual(one, wanted) || isAccepted; // always all of them
      if (isAccepted) {
        wrongGuesses.giveBack(address);
        return;
      }
    }
    return reply
      .code(401)
      .header("WWW-Authenticate", challenges)
      .send({ code: 401, error: given === undefined ? "this API asks for authorization" : "the authorization is wrong" });
  };
}

/** `basic NAME:PASSWORD` or `bearer TOKEN`; undefined when the header holds neither. */
function readAuthorization(header: string | undefined): string | undefined {
  const [, scheme = "", value = ""] = /^(basic|bearer) +([^\s]{1,4096}) *$/i.exec(header ?? "") ?? [];
  if (scheme === "") return undefined;
  if (scheme.toLowerCase() === "bearer") return `bearer ${value}`;
  return `basic ${Buffer.from(value, "base64").toString("utf8")}`;
}

/** Of one length whatever was given, so that the time of a comparison tells nothing. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** A person who mistypes is not shut out; a program that guesses is slowed down to one guess in 10 s. */
const GUESSES = { burst: 20, rate: 0.1 };
