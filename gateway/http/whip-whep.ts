// WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) over HTTP: the endpoints, and one resource per session.
//
//   /rtc/v1/whep/        POST an offer → 201, Location /rtc/v1/whep/ID
//   /rtc/v1/whep/ID      PATCH brings candidates or restarts ICE, DELETE ends the session
//   /rtc/v1/whep/ID/doctor   GET tells how far the session has come, and why no further
//   /rtc/v1/whip/ …      the same for publishers

import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";

import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { RateLimit } from "../hub/rate-limit.js";
import { Refusal } from "../media/errors.js";
import { parseOfferQuery } from "./offer-query.js";
import { HttpProblem, sendProblem } from "./problem.js";
import { readBody } from "./request-body.js";
import type { HttpLog, RtcService, SessionOffer } from "./services.js";

export type WhipWhepOptions = {
  readonly rtc: RtcService | undefined;
  /** Why `rtc` is undefined, one sentence. */
  readonly unavailable: string;
  /** `whep_compat`: 404 for a stream that is not live, 405 for GET and HEAD. */
  readonly compat: boolean;
  /** CORS headers on every answer. */
  readonly crossdomain: boolean;
  /** For POST, PATCH and DELETE. */
  readonly rateLimit: RateLimit;
  /** Monotonic time in milliseconds. */
  readonly now: () => number;
  readonly log: HttpLog;
};

/** Largest SDP taken: a browser's offer has 5 to 15 KB, one with a hundred m-sections 200 KB. */
export const MAX_SDP = 256 << 10;

type Kind = "whip" | "whep";

/** Adds the routes to an app of its own scope: its body parsers and error handler are only theirs. */
export function addWhipWhep(app: FastifyInstance, options: WhipWhepOptions): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", async (request: FastifyRequest, body: IncomingMessage) =>
    readBody(body, MAX_SDP, Number(request.headers["content-length"] ?? Number.NaN)),
  );
  app.setErrorHandler((error: FastifyError, request, reply) => answerError(options, error, request, reply));
  if (options.crossdomain) {
    app.addHook("onRequest", async (_request, reply) => {
      reply
        .header("Access-Control-Allow-Origin", "*")
        .header("Access-Control-Expose-Headers", "Location, Link, ETag, Retry-After");
    });
  }
  app.addHook("onRequest", async (request) => {
    if (!LIMITED.has(request.method) || options.rateLimit.take(options.now(), clientAddress(request))) return;
    throw new HttpProblem("too-many-requests", "This address asks too often: wait a second.");
  });
  for (const kind of ["whip", "whep"] as const) {
    addEndpoint(app, kind, options);
    addSession(app, kind, options);
    addDoctor(app, kind, options);
  }
}

/** Our extension (RFC 9725 section 4.7): what a page shows its user when connecting takes long. */
const DOCTOR = "urn:sluice:doctor";

/** The session's id is the key, so nobody else learns of it; and it tells only what its client and the answer said themselves. */
function addDoctor(app: FastifyInstance, kind: Kind, options: WhipWhepOptions): void {
  const url = `/rtc/v1/${kind}/:id/doctor`;
  app.get<{ Params: { id: string } }>(url, async (request, reply) => {
    const diagnosis = options.rtc?.diagnosis(request.params.id);
    if (diagnosis === undefined) throw new Refusal("not-found", "The session ended long ago or never was.");
    return reply.header("Cache-Control", "no-store").header("Content-Type", "application/json").send(JSON.stringify(diagnosis));
  });
  app.options(url, async (request, reply) => answerOptions(request, reply, options, "GET, HEAD, OPTIONS"));
}

const LIMITED = new Set(["POST", "PATCH", "DELETE"]);

function addEndpoint(app: FastifyInstance, kind: Kind, options: WhipWhepOptions): void {
  const url = `/rtc/v1/${kind}/`;
  app.post(url, { onRequest: async (request) => requireContentType(request, "application/sdp") }, async (request, reply) => {
    const offer = readOffer(request);
    const rtc = requireRtc(options);
    const { id, sdp } = await (kind === "whep" ? rtc.play(offer) : rtc.publish(offer));
    // Somebody who has hung up meanwhile will never use the session, nor delete it.
    if (request.socket.destroyed) rtc.closeSession(id, "the client left before the answer");
    return reply
      .code(201)
      .header("Location", `/rtc/v1/${kind}/${id}`)
      .header("Link", `</rtc/v1/${kind}/${id}/doctor>; rel="${DOCTOR}"; type="application/json"`)
      .header("ETag", entityTag(id, 0))
      .header("Cache-Control", "no-store")
      .header("Content-Type", "application/sdp")
      .send(sdp);
  });
  const read = async (request: FastifyRequest, reply: FastifyReply) => {
    if (options.compat) throw notAllowed(request, "POST, OPTIONS");
    if (kind === "whep" && request.method === "HEAD") return reply.code(200).header("Content-Type", "application/sdp").send();
    return reply.code(204).send();
  };
  app.route({ method: ["GET", "HEAD"], url, handler: read });
  app.options(url, async (request, reply) =>
    answerOptions(request, reply, options, options.compat ? "POST, OPTIONS" : "GET, HEAD, POST, OPTIONS"),
  );
  app.route({
    method: ["PUT", "PATCH", "DELETE"],
    url,
    handler: async (request) => {
      throw notAllowed(request, "GET, HEAD, POST, OPTIONS");
    },
  });
}

type SessionRequest = FastifyRequest<{ Params: { id: string } }>;

function addSession(app: FastifyInstance, kind: Kind, options: WhipWhepOptions): void {
  const url = `/rtc/v1/${kind}/:id`;
  const allowed = "GET, HEAD, PATCH, DELETE, OPTIONS";
  const requireSession = async (request: FastifyRequest) => {
    const { id } = (request as SessionRequest).params;
    if (options.rtc?.iceGeneration(id) === undefined) throw new Refusal("not-found", "The session has ended or never was.");
  };
  const requireToken = (request: FastifyRequest): void => {
    const { id } = (request as SessionRequest).params;
    if (options.rtc?.isAuthorized(id, bearerOf(request)) !== false) return;
    throw new Refusal("unauthorized", "This session was begun with a bearer token: send it again.");
  };
  // If-Match is not looked at: whoever knows the URL may end the session (RFC 9725 section 4.2).
  app.delete(url, async (request, reply) => {
    const { id } = (request as SessionRequest).params;
    requireToken(request);
    if (!options.rtc?.closeSession(id, "the client deleted it"))
      throw new Refusal("not-found", "The session has ended or never was.");
    return reply.code(200).send();
  });
  app.route({
    method: ["GET", "HEAD"],
    url,
    handler: async (request, reply) => {
      if (options.compat) throw notAllowed(request, "PATCH, DELETE, OPTIONS");
      await requireSession(request);
      return reply.code(204).send();
    },
  });
  app.options(url, async (request, reply) =>
    answerOptions(
      request,
      reply.header("Accept-Patch", FRAGMENT_TYPE),
      options,
      options.compat ? "PATCH, DELETE, OPTIONS" : allowed,
    ),
  );
  app.route({
    method: ["POST", "PUT"],
    url,
    onRequest: requireSession, // before the body is read
    handler: async (request) => {
      throw notAllowed(request, allowed);
    },
  });
  app.patch<{ Params: { id: string } }>(
    url,
    {
      onRequest: async (request) => {
        await requireSession(request);
        requireToken(request);
        requireContentType(request, FRAGMENT_TYPE, "Accept-Patch");
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const rtc = requireRtc(options);
      const intent = checkEntityTag(request, entityTag(id, rtc.iceGeneration(id) ?? 0));
      const answer = rtc.updateIce(id, Buffer.isBuffer(request.body) ? decodeSdp(request.body) : "", intent);
      if (answer === undefined) return reply.code(204).send();
      return reply
        .code(200)
        .header("ETag", entityTag(id, rtc.iceGeneration(id) ?? 0))
        .header("Cache-Control", "no-store")
        .header("Content-Type", FRAGMENT_TYPE)
        .send(answer);
    },
  );
}

/** Which ICE session a PATCH is meant for (RFC 9725 section 4.3.1). @returns what it wants: `*` is for restarts */
function checkEntityTag(request: FastifyRequest, current: string): "candidates" | "restart" {
  const given = request.headers["if-match"];
  if (given === undefined) {
    throw new HttpProblem("precondition-required", 'Send If-Match with the ETag of the answer, or "*" for an ICE restart.');
  }
  const tags = given.split(",").map((tag) => tag.trim());
  if (tags.includes("*") || tags.includes('"*"')) return "restart"; // the RFC's examples put quotes around it
  if (!tags.includes(current))
    throw new HttpProblem("precondition-failed", "That ETag is not the one of the present ICE session.");
  return "candidates";
}

const FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"; // RFC 8840 section 9

function requireRtc(options: WhipWhepOptions): RtcService {
  if (options.rtc === undefined) throw new Refusal("unavailable", options.unavailable);
  return options.rtc;
}

function notAllowed(request: FastifyRequest, allow: string): HttpProblem {
  return new HttpProblem("method-not-allowed", `${request.method} is not offered here.`, { Allow: allow });
}

/** Compares the type itself: parameters, case and spaces are the client's own business (RFC 9110 section 8.3.1). */
function requireContentType(request: FastifyRequest, expected: string, accept = "Accept-Post"): void {
  const given = request.headers["content-type"];
  if (given?.split(";", 1)[0]?.trim().toLowerCase() === expected) return;
  throw new HttpProblem(
    "content-type",
    `Send Content-Type: ${expected}${given === undefined ? "." : `, not ${given.slice(0, 80)}.`}`,
    {
      [accept]: expected,
    },
  );
}

function readOffer(request: FastifyRequest): SessionOffer {
  const at = request.url.indexOf("?");
  const query = parseOfferQuery(at < 0 ? "" : request.url.slice(at + 1));
  const sdp = Buffer.isBuffer(request.body) ? decodeSdp(request.body) : "";
  if (sdp.trim() === "") throw new Refusal("bad-request", "The body is empty: an SDP offer is needed.");
  if (!/^v=0\r?\n/.test(sdp)) throw new Refusal("bad-request", 'The body is no SDP: it must begin with the line "v=0".');
  const pageUrl = request.headers.referer ?? request.headers.origin;
  const bearer = bearerOf(request);
  return {
    ...query,
    ...(bearer !== undefined && { bearer, parameters: withToken(query.parameters, bearer) }),
    sdp,
    address: clientAddress(request),
    apiHost: hostOf(request.headers.host ?? ""),
    ...(pageUrl !== undefined && { pageUrl: pageUrl.slice(0, 1024) }),
  };
}

/** RFC 6750 section 2.1, and whatever else people take for a token. */
function bearerOf(request: FastifyRequest): string | undefined {
  return /^bearer +(\S{1,1024}) *$/i.exec(request.headers.authorization ?? "")?.[1];
}

/** The header's token takes the place of one in the query, so that hooks find one. */
function withToken(parameters: string, token: string): string {
  const kept = parameters
    .slice(1)
    .split("&")
    .filter((part) => part !== "" && !/^token(=|$)/.test(part));
  return `?${[...kept, `token=${encodeURIComponent(token)}`].join("&")}`;
}

function decodeSdp(body: Buffer): string {
  if (body.includes(0)) throw new Refusal("bad-request", "The body is no SDP: it holds a zero byte.");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    throw new Refusal("bad-request", "The body is no SDP: it is not UTF-8.");
  }
}

/** Host of a Host header without port and brackets; empty when it is neither a name nor an address. */
export function hostOf(host: string): string {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::\d{1,5})?$/.exec(host);
  return match?.[1] ?? match?.[2] ?? "";
}

/** The peer's address, IPv4 as IPv4 also on a dual-stack socket. */
export function clientAddress(request: FastifyRequest): string {
  return addressOf(request.socket);
}

export function addressOf(socket: { readonly remoteAddress?: string | undefined }): string {
  return (socket.remoteAddress ?? "").replace(/^::ffff:(?=\d+\.)/, "");
}

/** Strong, quoted, one per ICE session (RFC 9725 section 4.3.1): made from id and restarts, so that nobody has to remember it. */
function entityTag(id: string, generation: number): string {
  return `"${createHash("sha256").update(`ice:${id}:${generation}`).digest("base64url").slice(0, 22)}"`;
}

function answerOptions(request: FastifyRequest, reply: FastifyReply, options: WhipWhepOptions, allow: string): FastifyReply {
  reply.code(200).header("Allow", allow).header("Accept-Post", "application/sdp").header("Content-Length", "0");
  if (options.crossdomain) addPreflightHeaders(request, reply, "GET, HEAD, POST, PATCH, DELETE, OPTIONS");
  return reply.send();
}

/** What a browser asks before it lets a page of another origin talk to us (Fetch standard, Private Network Access). */
export function addPreflightHeaders(request: FastifyRequest, reply: FastifyReply, methods: string): void {
  reply
    .header("Access-Control-Allow-Methods", methods)
    .header("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, If-None-Match, Link")
    .header("Access-Control-Max-Age", "600");
  const isPrivate =
    request.headers["access-control-request-private-network"] ?? request.headers["access-control-request-local-network"];
  if (isPrivate === "true") reply.header("Access-Control-Allow-Private-Network", "true");
}

function answerError(options: WhipWhepOptions, error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error instanceof HttpProblem) return sendProblem(reply.headers(error.headers), error.code, error.message);
  if (error instanceof Refusal) {
    if (error.code === "unauthorized") reply.header("WWW-Authenticate", "Bearer");
    return sendProblem(reply, error.code, error.message, error.code === "not-live" && options.compat ? 404 : undefined);
  }
  // What fastify itself turns down: a content type that cannot be parsed, a body cut short.
  if (error.statusCode === 415) return sendProblem(reply, "content-type", "The Content-Type header makes no sense.");
  if (error.statusCode !== undefined && error.statusCode < 500)
    return sendProblem(reply, "bad-request", error.message, error.statusCode);
  options.log.error({ err: error, method: request.method, url: request.url.split("?", 1)[0] }, "a WHIP or WHEP request failed");
  return sendProblem(reply, "internal", "The gateway's log says what.");
}
