import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { request as secureRequest } from "node:https";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { makeSelfSigned } from "../../gateway/http/self-signed.js";
import { type HttpOptions, HttpServer } from "../../gateway/http/server.js";
import { FakeLog, FakeRtc, fakeOptions } from "./fake-services.js";

async function start(
  t: TestContext,
  changes: Partial<HttpOptions> = {},
): Promise<{ api: number; server: number; http: HttpServer }> {
  const http = new HttpServer(fakeOptions(new FakeRtc(), changes));
  t.after(() => http.close());
  await http.start();
  const port = (directive: string) => http.addresses.find((address) => address.directive === directive)?.port ?? 0;
  return { api: port("http_api.listen"), server: port("http_server.listen"), http };
}

type Answer = { status: number; headers: IncomingHttpHeaders; body: string };

function get(
  port: number,
  path: string,
  options: { method?: string; agent?: Agent; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path, ...options }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
    });
    sent.on("error", reject).end();
  });
}

/** Writes raw bytes and collects what comes back until the other side closes. */
function exchange(port: number, write: (socket: Socket) => void): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => write(socket));
    let text = "";
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
    });
    socket.on("error", () => {}).on("close", () => resolve(text));
  });
}

test("each port has its routes", async (t) => {
  const { api, server } = await start(t);
  for (const [port, path, status] of [
    [api, "/api/v1/versions", 200],
    [api, "/api/v1/versions/", 200],
    [api, "/api/v1/clients", 200],
    [api, "/api/v1/summaries", 200],
    [api, "/rtc/v1/whep/", 204],
    [api, "/players/whep.html", 404],
    [api, "/", 200],
    [server, "/api/v1/versions", 200],
    [server, "/api/v1/streams", 200],
    [server, "/api/v1/clients", 404],
    [server, "/api/v1/summaries", 404],
    [server, "/rtc/v1/whep", 204],
    [server, "/players/whep.html", 200],
    [server, "/players/whep.html?autostart=true", 200],
    [server, "/players/whip.html", 200],
    [server, "/demos/room.html?room=x", 200],
    [server, "/demos/one2one.html", 200],
    [server, "/players/demos/room.html?room=x", 307],
    [server, "/players/rtc_publisher.html", 200],
    [server, "/players/rtc_player.html", 200],
    [server, "/players/srs_player.html?stream=livestream.flv", 200],
    [server, "/players/vendor/mpegts.js", 200],
    [server, "/players/vendor/mpegts.js.LICENSE.txt", 200],
    [server, "/players/vendor/package.json", 404],
    [server, "/", 200],
    [server, "/nothing", 404],
  ] as const) {
    assert.equal((await get(port, path)).status, status, `${port === api ? "api" : "server"} ${path}`);
  }
});

test("HEAD answers wherever GET does", async (t) => {
  const { server } = await start(t);
  for (const path of ["/", "/players/whep.html", "/api/v1/versions"]) {
    const { status, body } = await get(server, path, { method: "HEAD" });
    assert.deepEqual([status, body], [200, ""], path);
  }
});

test("API and HTTP server on one address share a listener with all routes", async (t) => {
  const port = await freePort();
  const options = fakeOptions(new FakeRtc());
  const listen = [{ host: "127.0.0.1", port }];
  const { http } = await start(t, { httpApi: { ...options.httpApi, listen }, httpServer: { ...options.httpServer, listen } });
  assert.equal(http.addresses.length, 1);
  for (const path of ["/api/v1/clients", "/players/whep.html", "/"]) assert.equal((await get(port, path)).status, 200, path);
});

test("several addresses of one directive all answer", async (t) => {
  const options = fakeOptions(new FakeRtc());
  const listen = ["127.0.0.1", "127.0.0.2"].map((host) => ({ host, port: 0 }));
  const { http } = await start(t, { httpApi: { ...options.httpApi, listen } });
  const ports = http.addresses.filter(({ directive }) => directive === "http_api.listen");
  assert.equal(ports.length, 2);
  const second = ports[1];
  assert.ok(second);
  const text = await exchangeWith(
    second.host,
    second.port,
    "GET /api/v1/versions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
  );
  assert.match(text, /^HTTP\/1.1 200 /);
});

test("pages carry a content security policy and cannot be left upwards", async (t) => {
  const { server } = await start(t);
  const page = await get(server, "/players/whep.html");
  const policy = String(page.headers["content-security-policy"]);
  assert.match(policy, /script-src 'self'(;|$)/);
  assert.ok(!policy.includes("unsafe"));
  assert.equal(page.headers["x-content-type-options"], "nosniff");
  assert.equal((await get(server, "/players/index.html")).headers.location, "../");
  for (const path of [
    "/players/../package.json",
    "/players/..%2fpackage.json",
    "/players/%2e%2e/package.json",
    "/players/.hidden",
  ]) {
    assert.ok((await get(server, path)).status >= 400, path);
  }
});

test("the FLV player's library is a script that says which project's it is", async (t) => {
  const { server } = await start(t);
  const { headers, body } = await get(server, "/players/vendor/mpegts.js");
  assert.match(String(headers["content-type"]), /^(text|application)\/javascript/);
  assert.match(body.slice(0, 500), /mpegts/);
});

test("the operator's folder is served beside the pages, its index instead of the landing page", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "sluice-http-"));
  t.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, "own.txt"), "own");
  const options = fakeOptions(new FakeRtc());
  const first = await start(t, { httpServer: { ...options.httpServer, dir } });
  assert.equal((await get(first.server, "/own.txt")).body, "own");
  assert.match((await get(first.server, "/")).body, /Sluice/);
  writeFileSync(join(dir, "index.html"), "my index");
  const second = await start(t, { httpServer: { ...options.httpServer, dir } });
  assert.equal((await get(second.server, "/")).body, "my index");
  assert.equal((await get(second.server, "/players/whep.html")).status, 200);
});

for (const directive of ["http_api.listen", "http_server.listen"] as const) {
  test(`a taken port is named with ${directive}, and nothing stays open`, async (t) => {
    const holder = createServer().listen(0, "127.0.0.1");
    t.after(() => holder.close());
    await new Promise((resolve) => holder.once("listening", resolve));
    const address = holder.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const options = fakeOptions(new FakeRtc());
    const listen = [{ host: "127.0.0.1", port }];
    const changes =
      directive === "http_api.listen"
        ? { httpApi: { ...options.httpApi, listen } }
        : { httpServer: { ...options.httpServer, listen } };
    const http = new HttpServer({ ...options, ...changes });
    await assert.rejects(
      http.start(),
      (error: Error) => error.message.includes(directive) && error.message.includes(String(port)),
    );
    assert.deepEqual(http.addresses, []);
  });
}

test("one port wanted for both in two ways is refused with both directives", async () => {
  const options = fakeOptions(new FakeRtc());
  const http = new HttpServer({
    ...options,
    httpApi: { ...options.httpApi, listen: [{ host: "127.0.0.1", port: 18080 }] },
    httpServer: { ...options.httpServer, listen: [{ host: undefined, port: 18080 }] },
  });
  await assert.rejects(http.start(), /http_server\.listen.*18080.*http_api\.listen/);
});

test("closes within seconds with kept-alive, half-sent and unread connections open", async (t) => {
  const { api, server, http } = await start(t);
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  await get(api, "/api/v1/versions", { agent });
  const half = exchange(server, (socket) =>
    socket.write("POST /rtc/v1/whep/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 99\r\n\r\nv=0"),
  );
  const silent = exchange(api, () => {});
  await get(server, "/"); // the two before it have been accepted
  const began = performance.now();
  await http.close();
  assert.ok(performance.now() - began < 3_000);
  await Promise.all([half, silent]);
  await http.close();
});

test("an SDP of 10 MB is answered 413, and not kept in memory", async (t) => {
  const { api } = await start(t);
  collectGarbage();
  const before = process.memoryUsage().arrayBuffers;
  let peak = 0;
  const block = Buffer.alloc(64 << 10, "a");
  const text = await exchange(api, (socket) => {
    socket.write(
      `POST /rtc/v1/whep/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/sdp\r\nContent-Length: ${160 * block.length}\r\n\r\n`,
    );
    let sent = 0;
    const more = () => {
      if (sent % 40 === 39) {
        collectGarbage();
        peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
      }
      if (sent++ < 160) socket.write(block, () => setImmediate(more));
    };
    more();
  });
  assert.match(text, /^HTTP\/1.1 413 /);
  assert.match(text, /urn:sluice:problem:body-too-large/);
  assert.ok(peak < 5 << 20, `${peak} bytes`);
});

test("a client that waits for 100 Continue is not asked for an oversized body", async (t) => {
  const { api } = await start(t);
  const head = (length: number) =>
    `POST /rtc/v1/whep/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/sdp\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`;
  const text = await exchange(api, (socket) => socket.write(head(1 << 30)));
  assert.match(text, /^HTTP\/1.1 413 /);
  const small = await exchange(api, (socket) => socket.write(`${head(5)}v=0\r\n`));
  assert.match(small, /^HTTP\/1.1 100 [\s\S]*HTTP\/1.1 201 /);
});

test("a body without end is cut", async (t) => {
  const { api } = await start(t);
  const block = `10000\r\n${"a".repeat(65_536)}\r\n`;
  const text = await exchange(api, (socket) => {
    socket.write("POST /rtc/v1/whep/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nTransfer-Encoding: chunked\r\n\r\n");
    const more = () => {
      if (!socket.destroyed) socket.write(block, () => setImmediate(more));
    };
    more();
  });
  assert.ok(text === "" || text.startsWith("HTTP/1.1 413 "));
});

test("garbage instead of HTTP gets 400 and a closed door", async (t) => {
  const { api } = await start(t);
  assert.match(await exchange(api, (socket) => socket.write("\x03\0\0\0garbage\r\n\r\n")), /^HTTP\/1.1 400 /);
  assert.match(await exchange(api, (socket) => socket.write(`GET /${"a".repeat(20_000)} HTTP/1.1\r\n\r\n`)), /^HTTP\/1.1 431 /);
});

test("over max_connections: 503 with the reason, and a free place is a place again", async (t) => {
  const { api } = await start(t, { maxConnections: 2 });
  const sockets = [connect(api, "127.0.0.1"), connect(api, "127.0.0.1")];
  t.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once("connect", resolve))));
  const refused = await get(api, "/api/v1/versions");
  assert.equal(refused.status, 503);
  assert.match(refused.body, /max_connections/);
  const ended = new Promise((resolve) => sockets[0]?.once("close", resolve));
  sockets[0]?.resume().end("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  await ended;
  assert.equal((await get(api, "/api/v1/versions")).status, 200);
});

test("serves HTTPS with a given key and certificate", { skip: !hasOpenssl() && "no openssl command" }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "sluice-https-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  const made = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-subj",
    "/CN=x",
    "-keyout",
    key,
    "-out",
    cert,
  ];
  assert.equal(spawnSync("openssl", made).status, 0);
  const options = fakeOptions(new FakeRtc());
  const https = { enabled: true, listen: [{ host: "127.0.0.1", port: 0 }], key, cert };
  const { http } = await start(t, { httpApi: { ...options.httpApi, https } });
  const port = http.addresses.find(({ isSecure }) => isSecure)?.port;
  const status = await new Promise((resolve, reject) => {
    secureRequest({ host: "127.0.0.1", port, path: "/api/v1/versions", rejectUnauthorized: false }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode));
    })
      .on("error", reject)
      .end();
  });
  assert.equal(status, 200);
});

test("makes a self-signed certificate when none is given, and keeps it", async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), "sluice-self-"));
  t.after(() => rmSync(dataDir, { recursive: true }));
  const options = fakeOptions(new FakeRtc());
  const https = { enabled: true, listen: [{ host: "127.0.0.1", port: 0 }], key: "", cert: "" };
  const seen: string[] = [];
  for (let run = 0; run < 2; run++) {
    const { http } = await start(t, { dataDir, httpServer: { ...options.httpServer, https } });
    const port = http.addresses.find(({ isSecure }) => isSecure)?.port;
    const ca = readFileSync(join(dataDir, "self-signed.crt"));
    const fingerprint = await new Promise<string>((resolve, reject) => {
      // Trusting it is enough: the name 127.0.0.1 stands in it.
      secureRequest({ host: "127.0.0.1", port, path: "/", ca, agent: false }, (response) => {
        const { fingerprint256 } = (response.socket as TLSSocket).getPeerCertificate();
        response.resume().on("end", () => resolve(fingerprint256));
      })
        .on("error", reject)
        .end();
    });
    seen.push(fingerprint);
  }
  assert.match(seen[0] ?? "", /^[0-9A-F:]{95}$/);
  assert.equal(seen[0], seen[1]);
});

test("where nothing can be kept, a warning says that the certificate will be another one", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "sluice-self-"));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "file"), "");
  const options = fakeOptions(new FakeRtc());
  const log = new FakeLog();
  const https = { enabled: true, listen: [{ host: "127.0.0.1", port: 0 }], key: "", cert: "" };
  await start(t, { dataDir: join(folder, "file", "data"), log, httpApi: { ...options.httpApi, https } });
  assert.match(log.lines.find((line) => line.startsWith("warn")) ?? "", /http_api\.https has no certificate .*another one/);
});

test("a key that is not the certificate's is named before anything listens", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "sluice-pair-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  writeFileSync(key, makeSelfSigned(["localhost"], Date.now()).key);
  writeFileSync(cert, makeSelfSigned(["localhost"], Date.now()).cert);
  const options = fakeOptions(new FakeRtc());
  const https = { enabled: true, listen: [{ host: "127.0.0.1", port: 0 }], key, cert };
  const http = new HttpServer({ ...options, httpApi: { ...options.httpApi, https } });
  await assert.rejects(http.start(), /http_api\.https: key .*key\.pem/);
});

test("a certificate that cannot be read is named with its directive", async () => {
  const options = fakeOptions(new FakeRtc());
  const https = { enabled: true, listen: [{ host: "127.0.0.1", port: 0 }], key: "/nowhere/key.pem", cert: "/nowhere/cert.pem" };
  const http = new HttpServer({ ...options, httpServer: { ...options.httpServer, https } });
  await assert.rejects(http.start(), /http_server\.https\.key.*\/nowhere\/key\.pem/);
});

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
}

function hasOpenssl(): boolean {
  return spawnSync("openssl", ["version"]).status === 0;
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

function exchangeWith(host: string, port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(port, host, () => socket.write(text));
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      answer += chunk;
    });
    socket.on("error", reject).on("close", () => resolve(answer));
  });
}
