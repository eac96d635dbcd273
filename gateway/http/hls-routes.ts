// HLS in HTTP: caching, compression, ranges, CORS (RFC 9110 sections 8.8, 12.5.3, 14; RFC 9111). What is answered is the service's business.

import type { IncomingMessage, ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

import { Refusal } from "../media/errors.js";
import { type Problem, problemOf } from "./problem.js";
import type { HlsAnswer, HlsRequest, HlsService, HttpLog } from "./services.js";
import { addPreflightHeaders, addressOf, hostOf } from "./whip-whep.js";

export type HlsRouteOptions = {
  readonly hls: HlsService;
  /** CORS headers on every answer. */
  readonly crossdomain: boolean;
  /** There is a folder of the operator's own, which may hold a file of that name. */
  readonly hasFiles: boolean;
  readonly log: HttpLog;
};

const ALLOWED = "GET, HEAD, OPTIONS";
const PLAYLIST_TYPE = "application/vnd.apple.mpegurl";
/** A name means the same bytes for ever; an hour is more than any playlist lists. */
const MEDIA_CACHING = "max-age=3600, immutable";
const MAX_AGENT = 512;
/** Compressing less costs more than it saves. */
const MIN_GZIP = 256;

/** Looks at each request before the app's routes do. */
export function addHls(app: FastifyInstance, options: HlsRouteOptions): void {
  const { hls, hasFiles, log } = options;
  app.addHook("onRequest", (request, reply, done) => {
    const url = request.raw.url ?? "";
    const at = url.indexOf("?");
    const path = at < 0 ? url : url.slice(0, at);
    try {
      const target = hls.target(path, at < 0 ? "" : url.slice(at + 1), hostOf(request.headers.host ?? ""));
      if (target === undefined) {
        done();
      } else if (request.method === "GET" || request.method === "HEAD") {
        serve(target, request, reply, options);
      } else {
        answerOther(request, reply, options);
      }
    } catch (error) {
      if (hasFiles && error instanceof Refusal && (error.code === "not-live" || error.code === "not-found")) {
        done();
        return;
      }
      if (!(error instanceof Refusal)) log.error({ err: error }, "an HLS request failed");
      reply.hijack();
      sendProblem(reply.raw, problemFor(error), options);
    }
  });
}

function answerOther(request: FastifyRequest, reply: FastifyReply, options: HlsRouteOptions): void {
  if (options.crossdomain) reply.header("Access-Control-Allow-Origin", "*");
  reply.header("Allow", ALLOWED);
  if (request.method !== "OPTIONS") {
    const { status, headers, body } = problemOf("method-not-allowed", `${request.method} is not offered here.`);
    void reply.code(status).headers(headers).send(body);
    return;
  }
  if (options.crossdomain) {
    addPreflightHeaders(request, reply, ALLOWED);
    reply.header("Access-Control-Allow-Headers", "Range, If-None-Match, If-Range, Cache-Control, Content-Type, Authorization");
  }
  void reply.code(204).send();
}

/** @throws Refusal before anything is taken over */
function serve(target: object, request: FastifyRequest, reply: FastifyReply, options: HlsRouteOptions): void {
  const { raw } = reply;
  const pageUrl = request.headers.referer ?? request.headers.origin;
  const asked: HlsRequest = {
    address: addressOf(request.raw.socket),
    agent: (request.headers["user-agent"] ?? "").slice(0, MAX_AGENT),
    pageUrl: pageUrl?.slice(0, 1024),
    connection: request.raw.socket,
    isHead: request.method === "HEAD",
  };
  let isAnswered = false;
  const respond = (answer: HlsAnswer | Refusal): void => {
    if (isAnswered) return;
    isAnswered = true;
    if (raw.destroyed || raw.writableEnded) return;
    if (answer instanceof Refusal) sendProblem(raw, problemFor(answer), options);
    else if (answer.kind === "playlist") sendPlaylist(request.raw, raw, answer, options);
    else sendMedia(request.raw, raw, answer, options);
  };
  const cancel = options.hls.answer(target, asked, respond);
  reply.hijack();
  if (!isAnswered) {
    raw.once("close", () => {
      if (!isAnswered) cancel();
    });
  }
}

type PlaylistAnswer = Extract<HlsAnswer, { kind: "playlist" }>;
type MediaAnswer = Extract<HlsAnswer, { kind: "media" }>;

function sendPlaylist(
  request: IncomingMessage,
  response: ServerResponse,
  { text, entityTag, isDirected }: PlaylistAnswer,
  { crossdomain }: HlsRouteOptions,
): void {
  const isZipped = text.length >= MIN_GZIP && acceptsGzip(request);
  const isShareable = isDirected && request.headers["if-none-match"] === undefined && canTakeShared(request, response);
  if (isShareable && shared.text === text && shared.isZipped === isZipped && shared.crossdomain === crossdomain) {
    writeShared(response);
    return;
  }
  const tag = entityTag === undefined ? undefined : `"${entityTag}${isZipped ? "-gz" : ""}"`;
  const headers = ["Content-Type", PLAYLIST_TYPE, "Vary", "Accept-Encoding"];
  // A directed one is another address each time: nobody would ask again for what was kept.
  headers.push("Cache-Control", isDirected || tag === undefined ? "no-store" : "no-cache");
  if (tag !== undefined) headers.push("ETag", tag);
  if (crossdomain) headers.push(...CORS);
  if (tag !== undefined && isKnown(request, tag)) {
    response.writeHead(304, headers).end();
    return;
  }
  if (request.method === "HEAD") {
    response.writeHead(200, headers).end();
    return;
  }
  if (isShareable) {
    const body = isZipped ? Buffer.from(zipped(text), "latin1") : Buffer.from(text);
    if (isZipped) headers.push("Content-Encoding", "gzip");
    headers.push("Content-Length", String(body.length), "Date", new Date().toUTCString());
    Object.assign(shared, { text, isZipped, crossdomain, bytes: Buffer.concat([headOf(headers), body]) });
    writeShared(response);
    return;
  }
  if (isZipped) {
    const body = zipped(text);
    headers.push("Content-Encoding", "gzip", "Content-Length", String(body.length));
    response.writeHead(200, headers).end(body, "latin1"); // a string leaves in one write with its head
  } else {
    headers.push("Content-Length", String(Buffer.byteLength(text)));
    response.writeHead(200, headers).end(text);
  }
}

/**
 * A thousand viewers are told of a part in one turn, in the same words: head and body are made once, and each costs one write to its socket,
 * half of what a response of its own costs. Only where nothing else is due on the connection.
 */
function writeShared(response: ServerResponse): void {
  response.socket?.write(shared.bytes);
  response.finished = true;
  response.emit("finish"); // what the server waits for before it takes the connection's next request
}

const shared = { text: "", isZipped: false, crossdomain: false, bytes: Buffer.alloc(0) };

function canTakeShared(request: IncomingMessage, response: ServerResponse): boolean {
  const { socket } = response;
  if (socket === null || socket.destroyed || socket.writableLength > 0 || response.headersSent) return false;
  const isPersistent = response.shouldKeepAlive && request.httpVersionMajor === 1 && request.httpVersionMinor === 1;
  return isPersistent && request.method === "GET";
}

function headOf(headers: readonly string[]): Buffer {
  let head = "HTTP/1.1 200 OK\r\n";
  for (let i = 0; i + 1 < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return Buffer.from(`${head}\r\n`, "latin1");
}

function sendMedia(
  request: IncomingMessage,
  response: ServerResponse,
  { body, contentType, entityTag, isSecret }: MediaAnswer,
  { crossdomain }: HlsRouteOptions,
): void {
  const size = body.reduce((sum, { length }) => sum + length, 0);
  const tag = `"${entityTag}"`;
  const headers = ["Content-Type", contentType, "Accept-Ranges", "bytes", "ETag", tag];
  headers.push("Cache-Control", isSecret ? "no-store" : MEDIA_CACHING);
  if (crossdomain) headers.push(...CORS);
  if (isKnown(request, tag)) {
    response.writeHead(304, headers).end();
    return;
  }
  const range = rangeOf(request, tag, size);
  if (range === "unsatisfiable") {
    headers.push("Content-Range", `bytes */${size}`, "Content-Length", "0");
    response.writeHead(416, headers).end();
    return;
  }
  const { start, end } = range ?? { start: 0, end: size };
  if (range !== undefined) headers.push("Content-Range", `bytes ${start}-${end - 1}/${size}`);
  headers.push("Content-Length", String(end - start));
  response.writeHead(range === undefined ? 200 : 206, headers);
  if (request.method === "HEAD" || end === start) {
    response.end();
    return;
  }
  const pieces = range === undefined ? body : slice(body, start, end);
  response.cork();
  for (let i = 0; i < pieces.length - 1; i++) response.write(pieces[i]);
  response.end(pieces.at(-1));
}

/** Bytes from `start` to before `end` of pieces that follow one another; nothing is copied. */
function slice(body: readonly Buffer[], start: number, end: number): Buffer[] {
  const pieces: Buffer[] = [];
  let at = 0;
  for (const piece of body) {
    const from = Math.max(0, start - at);
    const to = Math.min(piece.length, end - at);
    if (from < to) pieces.push(piece.subarray(from, to));
    at += piece.length;
  }
  return pieces;
}

/** RFC 9110 section 14.2: one range of bytes; several, or another unit, are answered with the whole. */
function rangeOf(
  request: IncomingMessage,
  tag: string,
  size: number,
): { readonly start: number; readonly end: number } | "unsatisfiable" | undefined {
  const { range } = request.headers;
  const condition = request.headers["if-range"];
  if (range === undefined || (condition !== undefined && condition !== tag)) return undefined;
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(range) ?? [];
  if (first === "" && last === "") return undefined;
  if (first === "") {
    const count = Math.min(size, Number(last)); // of the end
    return count === 0 ? "unsatisfiable" : { start: size - count, end: size };
  }
  const start = Number(first);
  const end = last === "" ? size : Math.min(size, Number(last) + 1);
  if (last !== "" && Number(last) < start) return undefined;
  return start >= size ? "unsatisfiable" : { start, end };
}

/** If-None-Match, RFC 9110 section 13.1.2. */
function isKnown(request: IncomingMessage, tag: string): boolean {
  const known = request.headers["if-none-match"];
  if (known === undefined) return false;
  return known.split(",").some((one) => one.trim().replace(/^W\//, "") === tag);
}

function acceptsGzip(request: IncomingMessage): boolean {
  const accepted = request.headers["accept-encoding"];
  return typeof accepted === "string" && /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/i.test(accepted);
}

/** Compressed once for all who are given the same text in a row; a character per byte. */
function zipped(text: string): string {
  if (last.text !== text) {
    last.text = text;
    last.body = gzipSync(text, { level: 4 }).toString("latin1");
  }
  return last.body;
}

const last = { text: "", body: "" };

/** The refusal as players know it: what is not live is not found. */
function problemFor(error: unknown): Problem {
  if (!(error instanceof Refusal)) return problemOf("internal", "The gateway's log says what.");
  return problemOf(error.code, error.message, error.code === "not-live" ? 404 : undefined);
}

function sendProblem(response: ServerResponse, { status, headers, body }: Problem, { crossdomain }: HlsRouteOptions): void {
  const list = Object.entries(headers).flat();
  list.push("Content-Length", String(Buffer.byteLength(body)));
  if (crossdomain) list.push(...CORS);
  response.writeHead(status, list).end(body);
}

const CORS = [
  "Access-Control-Allow-Origin",
  "*",
  "Access-Control-Expose-Headers",
  "Content-Length, Content-Range, Date, ETag",
  "Timing-Allow-Origin",
  "*",
];
