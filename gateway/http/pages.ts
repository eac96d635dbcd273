// The pages: files of `players/`, the landing page at `/`, and the operator's own folder beside them.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import fastifyStatic from "@fastify/static";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

export type PagesOptions = {
  /** Folder of the built-in pages. Default the package's `players/`. */
  readonly players?: string;
  /** `http_server.dir`: a folder of the operator's own; its files are found at `/`, its index.html replaces the landing page. Empty: none. */
  readonly dir: string;
  /** Whether pages of other servers may load the client library: CORS headers on the built-in files. Default true. */
  readonly crossdomain?: boolean;
};

export async function addPages(
  app: FastifyInstance,
  { players = PLAYERS, dir, crossdomain = true }: PagesOptions,
): Promise<void> {
  app.addHook("onSend", async (_request, reply) => {
    reply.header("X-Content-Type-Options", "nosniff").header("Referrer-Policy", "no-referrer");
    if (String(reply.getHeader("Content-Type")).startsWith("text/html"))
      reply.header("Content-Security-Policy", CONTENT_SECURITY_POLICY);
  });
  if (crossdomain) {
    app.addHook("onRequest", async (request, reply) => {
      if (request.url.startsWith("/players/js/")) reply.header("Access-Control-Allow-Origin", "*");
    });
  }
  const common = { cacheControl: false, dotfiles: "deny", setHeaders: noCache } as const;
  await app.register(fastifyStatic, { ...common, root: players, prefix: "/players/", index: false });

  // The demos are files of the same folder at an address of their own; what they load lies at `../players/`.
  await app.register(fastifyStatic, {
    ...common,
    root: join(players, "demos"),
    prefix: "/demos/",
    index: false,
    decorateReply: false,
  });
  app.get("/players/demos/:name", async (request: FastifyRequest<{ Params: { name: string } }>, reply) => {
    const query = request.url.includes("?") ? request.url.slice(request.url.indexOf("?")) : "";
    return reply.redirect(`../../demos/${encodeURIComponent(request.params.name)}${query}`, 307);
  });

  for (const [name, file] of Object.entries(vendorFiles())) {
    app.get(`/players/vendor/${name}`, async (_request, reply) => reply.sendFile(basename(file), dirname(file)));
  }

  const ownIndex = dir !== "" && existsSync(join(dir, "index.html"));
  if (!ownIndex) app.get("/", async (_request, reply) => reply.sendFile("index.html"));
  // The landing page's links are relative to `/`: there it is shown, and nowhere else.
  for (const path of ["/players", "/players/index.html"]) {
    app.get(path, async (request, reply) => reply.redirect(request.url.split("?", 1)[0]?.endsWith("s") ? "./" : "../", 307));
  }
  if (dir !== "") await app.register(fastifyStatic, { ...common, root: dir, prefix: "/", decorateReply: false });
}

const PLAYERS = fileURLToPath(new URL("../../../players/", import.meta.url)); // from dist/gateway/http/

/** Scripts of other projects that pages load, by their name in `/players/vendor/`: from where npm has put them. */
function vendorFiles(): Record<string, string> {
  const { resolve } = createRequire(import.meta.url);
  const mpegts = resolve("mpegts.js");
  return {
    "hls.js": resolve("hls.js/dist/hls.light.min.js"), // without subtitles, several sound tracks and DRM
    "hls.js.LICENSE.txt": join(dirname(resolve("hls.js/package.json")), "LICENSE"),
    "mpegts.js": mpegts,
    "mpegts.js.LICENSE.txt": `${mpegts}.LICENSE.txt`, // the script's first line names it
  };
}

/** Pages may talk to other servers (`?server=`), and hold no script but files from here. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "media-src 'self' blob:",
  "connect-src 'self' http: https: ws: wss:",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** Browsers ask each time whether a file has changed, so that an update shows at once; the answer is mostly 304. */
function noCache(reply: FastifyReply): void {
  reply.header("Cache-Control", "no-cache");
}
