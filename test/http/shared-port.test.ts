import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from "node:http";
import { connect as http2Connect } from "node:http2";
import { request as secureRequest } from "node:https";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type TLSSocket, connect as tlsConnect } from "node:tls";

import { Certificates } from "../../gateway/http/certificates.js";
import { makeSelfSigned } from "../../gateway/http/self-signed.js";
import { HttpServer } from "../../gateway/http/server.js";
import { looksLikeIce } from "../../gateway/rtc/tcp-framing.js";
import { eventually } from "../support/child.js";
import { FakeLog, FakeRtc, fakeOptions } from "./fake-services.js";

/** A check as it begins on a connection: length, binding request, magic cookie. */
const CHECK = Buffer.from(`0014000100002112a442${"01".repeat(12)}`, "hex");

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}

type SharedPort = { readonly port: number; readonly taken: Socket[]; readonly log: FakeLog; readonly cert: string };

/** API and pages, plain and over TLS, and the beginning of ICE, all on one port. */
async function share(t: TestContext, use: "plain and TLS" | "TLS" = "plain and TLS"): Promise<SharedPort> {
  const dir = mkdtempSync(join(tmpdir(), "sluice-shared-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const { key, cert } = writePair(dir, Date.now());
  const port = await freePort();
  const listen = [{ host: "127.0.0.1", port }];
  const plain = use === "TLS" ? [{ host: "127.0.0.1", port: 0 }] : listen;
  const https = { enabled: true, listen, key, cert };
  const taken: Socket[] = [];
  const log = new FakeLog();
  const options = fakeOptions(new FakeRtc());
  const http = new HttpServer({
    ...options,
    log,
    maxConnections: 200,
    httpApi: { ...options.httpApi, listen: plain, https },
    httpServer: { ...options.httpServer, listen: plain, https },
    other: {
      directive: "rtc_server.tcp.listen",
      listen,
      recognises: looksLikeIce,
      accept: (socket) => void taken.push(socket.on("error", () => {})),
    },
  });
  t.after(async () => {
    for (const socket of taken) socket.destroy();
    await http.close();
  });
  await http.start();
  return { port, taken, log, cert };
}

function writePair(dir: string, now: number): { readonly key: string; readonly cert: string } {
  const made = makeSelfSigned(["127.0.0.1", "localhost"], now);
  const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  for (const [file, text] of [
    [key, made.key],
    [cert, made.cert],
  ] as const) {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  }
  return { key, cert };
}

function status(port: number, path: string, isSecure: boolean): Promise<number> {
  const ask = isSecure ? secureRequest : request;
  return new Promise((resolve, reject) => {
    ask({ host: "127.0.0.1", port, path, rejectUnauthorized: false, agent: false }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode ?? 0));
    })
      .on("error", reject)
      .end();
  });
}

/** Writes and collects what comes back until the other side closes. */
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

function fingerprintAt(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

test("HTTP, HTTPS and ICE share one port, whichever way their first bytes are cut", async (t) => {
  const { port, taken } = await share(t);
  assert.equal(await status(port, "/api/v1/versions", false), 200);
  assert.equal(await status(port, "/api/v1/versions", true), 200);
  assert.equal(await status(port, "/players/whep.html", true), 200);
  for (let cut = 1; cut < CHECK.length; cut++) {
    const socket = connect(port, "127.0.0.1").on("error", () => {});
    await once(socket, "connect");
    socket.setNoDelay(true);
    socket.write(CHECK.subarray(0, cut));
    await new Promise((resolve) => setTimeout(resolve, 2)); // so that the two parts are two reads
    socket.write(Buffer.concat([CHECK.subarray(cut), Buffer.from("and more")]));
    const accepted = await eventually("it is handed over", () => taken.pop());
    let text = Buffer.alloc(0);
    accepted.on("data", (chunk: Buffer) => {
      text = Buffer.concat([text, chunk]);
    });
    await eventually("with every byte", () => (text.length === CHECK.length + 8 ? true : undefined));
    assert.deepEqual(text, Buffer.concat([CHECK, Buffer.from("and more")]));
    accepted.destroy();
    socket.destroy();
  }
  const cutRequest = await exchange(port, (socket) => {
    socket.setNoDelay(true);
    socket.write("G");
    setTimeout(() => socket.write("ET /api/v1/versions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), 20);
  });
  assert.match(cutRequest, /^HTTP\/1\.1 200 /);
});

test("behind TLS alone the same port takes no plain HTTP, and still ICE", async (t) => {
  const { port, taken } = await share(t, "TLS");
  assert.equal(await status(port, "/api/v1/versions", true), 200);
  assert.equal(await exchange(port, (socket) => socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")), "");
  const socket = connect(port, "127.0.0.1", () => socket.write(CHECK)).on("error", () => {});
  await eventually("ICE is handed over", () => taken[0]);
  socket.destroy();
});

test("garbage of every kind is answered or cut, and the port goes on", async (t) => {
  const { port, taken } = await share(t);
  const garbage: Readonly<Record<string, Buffer>> = {
    "a TLS record of nothing": Buffer.from("16030100050102030405", "hex"),
    "a TLS record that is too long": Buffer.concat([Buffer.from("160301ffff", "hex"), Buffer.alloc(20_000, 0x41)]),
    "no TLS of ours": Buffer.from("1602000005", "hex"),
    "HTTP that is none": Buffer.from("\x00\xffnonsense\r\n\r\n"),
    "a frame without a check": Buffer.concat([Buffer.from([0, 100]), Buffer.alloc(100, 0x16)]),
    SSLv2: Buffer.from("802e0100020015000000100100", "hex"),
  };
  for (const [name, bytes] of Object.entries(garbage)) {
    const answer = await exchange(port, (socket) => socket.end(bytes));
    assert.doesNotMatch(answer, /HTTP\/1\.1 [23]/, name);
  }
  assert.equal(taken.length, 0);
  assert.equal(await status(port, "/api/v1/versions", true), 200);
});

test("clients that send their first bytes slowly, or none, are cut and keep nobody out", async (t) => {
  const { port } = await share(t);
  const began = performance.now();
  const slow = Array.from({ length: 100 }, (_, index) =>
    exchange(port, (socket) => {
      if (index % 2 === 0) socket.write(CHECK.subarray(0, 1)); // ICE or not: the rest never comes
    }),
  );
  assert.equal(await status(port, "/api/v1/versions", true), 200);
  await Promise.all(slow);
  assert.ok(performance.now() - began < 15_000);
});

test("a certificate that is exchanged holds for new connections, and running ones go on", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "sluice-exchange-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const files = writePair(dir, Date.now());
  const log = new FakeLog();
  const none = { key: "", cert: "" };
  const sections = { "http_api.https": files, "http_server.https": none, rtmps: none };
  const certificates = new Certificates({ sections, dataDir: dir, log, interval: 50 });
  t.after(() => certificates.close());
  const options = fakeOptions(new FakeRtc());
  const https = { enabled: true, listen: [{ host: "127.0.0.1", port: 0 }], ...none };
  const http = new HttpServer({
    ...options,
    log,
    certificates,
    httpApi: { ...options.httpApi, https },
    httpServer: { ...options.httpServer, https },
  });
  t.after(() => http.close());
  await http.start();
  const ports = http.addresses.filter(({ isSecure }) => isSecure).map(({ port }) => port);
  assert.equal(ports.length, 2);
  const first = await Promise.all(ports.map(fingerprintAt));
  assert.equal(first[0], first[1], "a section without a certificate takes the one there is");

  const running = tlsConnect({ host: "127.0.0.1", port: ports[0] ?? 0, rejectUnauthorized: false });
  await once(running, "secureConnect");
  writeFileSync(files.cert, "-----BEGIN CERTIFICATE-----\nhalf of it");
  await eventually("what cannot be used is named", () =>
    log.lines.some((line) => /cannot be used/.test(line)) ? true : undefined,
  );
  assert.deepEqual(await Promise.all(ports.map(fingerprintAt)), first, "and the one before stays");

  writePair(dir, Date.now());
  const second = await eventually("the new one is used", async () => {
    const seen = await Promise.all(ports.map(fingerprintAt));
    return seen[0] !== first[0] && seen[0] === seen[1] ? seen[0] : undefined;
  });
  running.write("GET /api/v1/versions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  assert.match(await textOf(running), /^HTTP\/1\.1 200 /);

  const third = mkdtempSync(join(tmpdir(), "sluice-exchange-"));
  t.after(() => rmSync(third, { recursive: true }));
  await certificates.reload({ ...sections, "http_api.https": writePair(third, Date.now()) });
  assert.notEqual(await fingerprintAt(ports[1] ?? 0), second, "other files are taken at a reload");
});

test("an expired certificate is served, with a warning that names it", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "sluice-expired-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const log = new FakeLog();
  const options = fakeOptions(new FakeRtc());
  const https = { enabled: true, listen: [{ host: "127.0.0.1", port: 0 }], ...writePair(dir, Date.now() - 500 * 86_400_000) };
  const http = new HttpServer({ ...options, log, httpApi: { ...options.httpApi, https } });
  t.after(() => http.close());
  await http.start();
  assert.ok(log.lines.some((line) => /has expired/.test(line)));
  const port = http.addresses.find(({ isSecure }) => isSecure)?.port ?? 0;
  assert.equal(await status(port, "/api/v1/versions", true), 200);
  assert.ok(readFileSync(https.cert).length > 0);
});

async function textOf(socket: TLSSocket): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

test("HTTPS speaks HTTP/2 to clients that can, and HTTP/1.1 and WebSockets to the others", async (t) => {
  const { port } = await share(t);
  const client = http2Connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  t.after(() => client.destroy());
  const ask = (
    headers: OutgoingHttpHeaders,
    body?: string,
  ): Promise<{ status: number; headers: IncomingHttpHeaders; body: string }> =>
    new Promise((resolve, reject) => {
      const stream = client.request(headers).on("error", reject);
      let [status, got, text]: [number, IncomingHttpHeaders, string] = [0, {}, ""];
      stream.on("response", (response) => {
        status = response[":status"] ?? 0;
        got = response;
      });
      stream.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      stream.on("end", () => resolve({ status, headers: got, body: text })).end(body);
    });
  const [versions, page, nothing] = await Promise.all([
    ask({ ":path": "/api/v1/versions" }),
    ask({ ":path": "/players/whep.html" }),
    ask({ ":path": "/nothing" }),
  ]);
  assert.deepEqual([versions.status, page.status, nothing.status], [200, 200, 404]);
  assert.equal((JSON.parse(versions.body) as { code: number }).code, 0);
  assert.match(String(page.headers["content-security-policy"]), /default-src/);
  assert.match(page.body, /<html/);
  const path = "/rtc/v1/whep/?app=live&stream=livestream";
  const answer = await ask({ ":method": "POST", ":path": path, "content-type": "application/sdp" }, "v=0\r\n");
  assert.equal(answer.status, 201);
  assert.match(answer.body, /^v=0/);
  const gone = await ask({ ":method": "DELETE", ":path": String(answer.headers.location) });
  assert.equal(gone.status, 200);
  assert.equal((await ask({ ":path": "/live/none.flv" })).status, 404);

  const upgrade = tlsConnect({ host: "127.0.0.1", port, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
  await once(upgrade, "secureConnect");
  upgrade.write("GET /live/none.flv HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
  upgrade.end("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
  assert.match(await textOf(upgrade), /^HTTP\/1\.1 404 /, "its own answer, by the handler of WebSockets");
});

test("an HTTP/2 request whose body does not come keeps no neighbour waiting", async (t) => {
  const { port } = await share(t);
  const client = http2Connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  t.after(() => client.destroy());
  const path = "/rtc/v1/whep/?app=live&stream=livestream";
  const slow = client.request({ ":method": "POST", ":path": path, "content-type": "application/sdp" });
  slow.on("error", () => {}).write("v=0");
  const neighbour = client.request({ ":path": "/api/v1/versions" });
  const [response] = (await once(neighbour, "response")) as [IncomingHttpHeaders & { ":status"?: number }];
  assert.equal(response[":status"], 200);
  neighbour.close();
  slow.close();
});
