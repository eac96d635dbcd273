// The older JSON signaling of WebRTC (docs/http.md, "Legacy signaling"), which SDKs and load tools still speak: one POST with the offer,
// one answer, no session resource. Failures are HTTP 200 with a code, as those clients expect; 400 for what makes no sense.

import type { IncomingMessage } from "node:http";

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

import { Refusal, type RefusalCode } from "../media/errors.js";
import { envelopeOf } from "./api.js";
import { parseOfferQuery } from "./offer-query.js";
import { HttpProblem } from "./problem.js";
import { readBody } from "./request-body.js";
import type { HttpServices, SessionOffer } from "./services.js";
import { addPreflightHeaders, clientAddress, hostOf, MAX_SDP, type WhipWhepOptions } from "./whip-whep.js";

export type LegacyRtcOptions = WhipWhepOptions & { readonly services: HttpServices };

/** An SDP in JSON, each of its line ends written as four characters, and the other fields. */
const MAX_BODY = 2 * MAX_SDP;

export function addLegacyRtc(app: FastifyInstance, options: LegacyRtcOptions): void {
  const { services, rateLimit, crossdomain, log } = options;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", async (request: FastifyRequest, body: IncomingMessage) =>
    readBody(body, MAX_BODY, Number(request.headers["content-length"] ?? Number.NaN)),
  );
  app.addHook("onRequest", async (request, reply) => {
    reply.header("Cache-Control", "no-store");
    if (crossdomain) reply.header("Access-Control-Allow-Origin", "*");
    if (request.method !== "POST" || rateLimit.take(options.now(), clientAddress(request))) return;
    throw new HttpProblem("too-many-requests", "This address asks too often: wait a second.");
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error instanceof Refusal) {
      return reply.code(error.code === "bad-request" ? 400 : 200).send({ code: CODES[error.code], error: error.message });
    }
    if (error instanceof HttpProblem) {
      const status = error.code === "body-too-large" ? 413 : 429;
      return reply.code(status).send({ code: status, error: error.message });
    }
    const status = error.statusCode ?? 500;
    if (status >= 500) log.error({ err: error }, "a WebRTC request failed");
    return reply.code(status).send({ code: status, error: status >= 500 ? "internal error, see the log" : error.message });
  });
  for (const action of ["publish", "play"] as const) {
    const url = `/rtc/v1/${action}/`;
    app.options(url, async (request, reply) => {
      if (crossdomain) addPreflightHeaders(request, reply, "POST, OPTIONS");
      return reply.code(204).header("Allow", "POST, OPTIONS").send();
    });
    app.post(url, async (request, reply): Promise<FastifyReply> => {
      const offer = readOffer(request);
      const { rtc } = options;
      if (rtc === undefined) throw new Refusal("unavailable", options.unavailable);
      // Here a viewer may come before the publisher.
      const accepted = action === "play" ? rtc.play({ ...offer, mayWait: true }) : rtc.publish?.(offer);
      if (accepted === undefined) throw new Refusal("unavailable", "This gateway does not take WebRTC publishers.");
      const { id, sdp } = await accepted;
      if (request.socket.destroyed) rtc.closeSession(id, "the client left before the answer");
      return reply.send({ ...envelopeOf(services), sdp, sessionid: id });
    });
  }
}

/** @throws Refusal `bad-request` saying which field */
function readOffer(request: FastifyRequest): SessionOffer {
  const { streamurl, sdp } = readFields(request.body);
  const { app, stream, host, query } = parseStreamUrl(streamurl);
  const at = request.url.indexOf("?");
  const values = new URLSearchParams(at < 0 ? "" : request.url.slice(at + 1));
  for (const [key, value] of new URLSearchParams(query)) values.set(key, value);
  values.set("app", app);
  values.set("stream", stream);
  if (!values.has("vhost")) values.set("vhost", host); // a name that no vhost has is the default one's
  const pageUrl = request.headers.referer ?? request.headers.origin;
  return {
    ...parseOfferQuery(values.toString()),
    parameters: query === "" ? "" : `?${query}`,
    sdp,
    address: clientAddress(request),
    apiHost: hostOf(request.headers.host ?? ""),
    ...(pageUrl !== undefined && { pageUrl: pageUrl.slice(0, 1024) }),
  };
}

function readFields(body: unknown): { streamurl: string; sdp: string } {
  let fields: unknown;
  try {
    fields = JSON.parse(Buffer.isBuffer(body) ? body.toString("utf8") : "");
  } catch {
    throw new Refusal("bad-request", "The body is no JSON.");
  }
  if (typeof fields !== "object" || fields === null) throw new Refusal("bad-request", "The body is no JSON object.");
  const { streamurl, sdp } = fields as Record<string, unknown>;
  if (typeof streamurl !== "string" || streamurl === "") throw new Refusal("bad-request", "streamurl is missing.");
  if (typeof sdp !== "string" || sdp === "") throw new Refusal("bad-request", "sdp is missing.");
  if (sdp.length > MAX_SDP) throw new Refusal("bad-request", `sdp: longer than ${MAX_SDP} characters.`);
  if (!/^v=0\r?\n/.test(sdp) || sdp.includes("\0")) throw new Refusal("bad-request", 'sdp: must begin with the line "v=0".');
  return { streamurl, sdp };
}

/** `webrtc://host[:port]/app/stream?k=v`; app may hold slashes. */
function parseStreamUrl(url: string): { app: string; stream: string; host: string; query: string } {
  const [, host, path, query = ""] =
    /^webrtc:\/\/(\[[0-9A-Fa-f:.]+\]|[^/:?#]+)(?::\d{1,5})?\/([^?#]+)(?:\?([^#]*))?/.exec(url) ?? [];
  const at = path?.lastIndexOf("/") ?? -1;
  if (host === undefined || path === undefined || at <= 0 || at === path.length - 1) {
    throw new Refusal("bad-request", "streamurl: webrtc://host/app/stream expected.");
  }
  try {
    return { app: decodeURIComponent(path.slice(0, at)), stream: decodeURIComponent(path.slice(at + 1)), host, query };
  } catch {
    throw new Refusal("bad-request", "streamurl: not percent-encoded UTF-8.");
  }
}

const CODES: Readonly<Record<RefusalCode, number>> = {
  "bad-request": 400,
  unauthorized: 401,
  forbidden: 403,
  "not-found": 404,
  "not-live": 2048, // SRS's number
  busy: 1028, // likewise: stream busy
  unsupported: 422,
  overloaded: 503,
  unavailable: 503,
};
