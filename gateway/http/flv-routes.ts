// HTTP-FLV among the other routes: an address is FLV's when a vhost's mount says so, whatever it looks like.

import type { IncomingMessage } from "node:http";

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

import { Refusal } from "../media/errors.js";
import { FLV_HEADERS, type FlvService, flvProblem } from "./flv.js";
import type { FlvTarget } from "./flv-target.js";
import { type Problem, problemOf } from "./problem.js";
import type { HttpLog } from "./services.js";
import { addPreflightHeaders } from "./whip-whep.js";

export type FlvRouteOptions = {
  readonly flv: FlvService;
  /** CORS headers on every answer. */
  readonly crossdomain: boolean;
  /** There is a folder of the operator's own, which may hold a file of that name. */
  readonly hasFiles: boolean;
  readonly log: HttpLog;
};

/**
 * Looks at each request before the app's routes do.
 *
 * @returns the reason why a request that came through to the routes is no stream's, for the answer when it is nothing else either
 */
export function addFlv(app: FastifyInstance, options: FlvRouteOptions): (request: FastifyRequest) => string | undefined {
  const { flv, crossdomain, hasFiles, log } = options;
  const passed = new WeakMap<IncomingMessage, string>();
  const cors = crossdomain ? { "Access-Control-Allow-Origin": "*" } : {};

  app.addHook("onRequest", async (request, reply) => {
    try {
      const target = flv.target(request.raw);
      if (target === undefined) return;
      return await answer(target, request, reply);
    } catch (error) {
      if (error instanceof Refusal && error.code === "not-live" && hasFiles) {
        passed.set(request.raw, error.message);
        return;
      }
      if (!(error instanceof Refusal)) log.error({ err: error }, "an FLV request failed");
      return send(reply.headers(cors), flvProblem(error));
    }
  });
  return (request) => passed.get(request.raw);

  async function answer(target: FlvTarget, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    switch (request.method) {
      case "GET":
        await flv.serve(target, request.raw, reply.raw, cors);
        return reply.hijack();
      case "HEAD":
        flv.requireLive(target);
        return reply.headers({ ...cors, ...FLV_HEADERS }).send();
      case "OPTIONS":
        reply.code(204).headers({ ...cors, Allow: ALLOWED });
        if (crossdomain) addPreflightHeaders(request, reply, ALLOWED);
        return reply.send();
      default: {
        const problem = problemOf("method-not-allowed", `${request.method} is not offered here.`);
        return send(reply.headers({ ...cors, Allow: ALLOWED }), problem);
      }
    }
  }
}

const ALLOWED = "GET, HEAD, OPTIONS";

function send(reply: FastifyReply, { status, headers, body }: Problem): FastifyReply {
  return reply.code(status).headers(headers).send(body);
}
