import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";

import type { FastifyInstance, InjectOptions } from "fastify";

import { type HttpOptions, HttpServer } from "../../gateway/http/server.js";
import { Refusal, type RefusalCode } from "../../gateway/media/errors.js";
import { ANSWER, FakeLog, FakeRtc, fakeOptions } from "./fake-services.js";

const OFFER = readFileSync(new URL("../../../test/offers/chromium156-whep-offer.sdp", import.meta.url), "utf8");
const WHEP = "/rtc/v1/whep/";

const servers: HttpServer[] = [];
after(() => Promise.all(servers.map((server) => server.close())));

async function makeApp(rtc: FakeRtc | undefined, changes: Partial<HttpOptions> = {}): Promise<FastifyInstance> {
  const server = new HttpServer(fakeOptions(rtc, changes));
  servers.push(server);
  return await server.app(new Set(["api"]));
}

function post(url = WHEP, payload: string | Buffer = OFFER, contentType: string | undefined = "application/sdp"): InjectOptions {
  return { method: "POST", url, payload, headers: contentType === undefined ? {} : { "content-type": contentType } };
}

test("POST of an offer answers 201 with session URL, entity tag and SDP", async () => {
  const rtc = new FakeRtc();
  const app = await makeApp(rtc);
  const first = await app.inject(post(`${WHEP}?app=live&stream=secret-key`));
  assert.equal(first.statusCode, 201);
  assert.equal(first.headers["content-type"], "application/sdp");
  assert.equal(first.body, ANSWER);
  assert.equal(first.headers.location, "/rtc/v1/whep/session-1-abcdefgh");
  assert.match(String(first.headers.etag), /^"[A-Za-z0-9_-]{16,}"$/);
  assert.equal(first.headers["access-control-allow-origin"], "*");
  for (const name of ["Location", "Link", "ETag"])
    assert.ok(String(first.headers["access-control-expose-headers"]).includes(name));
  const second = await app.inject(post());
  assert.notEqual(second.headers.etag, first.headers.etag);
});

test("the answer's Link leads to the doctor, a page of another origin may read it, and it outlives no session", async () => {
  const rtc = new FakeRtc();
  const app = await makeApp(rtc);
  for (const kind of ["whep", "whip"]) {
    const { headers } = await app.inject(post(`/rtc/v1/${kind}/`));
    const [, url = ""] = /^<([^>]+)>; rel="urn:sluice:doctor"; type="application\/json"$/.exec(String(headers.link)) ?? [];
    assert.equal(url, `${headers.location}/doctor`);
    const shown = await app.inject({ method: "GET", url });
    assert.equal(shown.statusCode, 200);
    assert.deepEqual(shown.json(), { verdict: "ok", cause: "Connected." });
    assert.equal(shown.headers["cache-control"], "no-store");
    assert.equal(shown.headers["access-control-allow-origin"], "*");
    assert.equal((await app.inject({ method: "OPTIONS", url })).statusCode, 200);
    await app.inject({ method: "DELETE", url: String(headers.location) });
    assert.equal((await app.inject({ method: "GET", url })).statusCode, 404);
  }
  const off = await makeApp(undefined);
  assert.equal((await off.inject({ method: "GET", url: "/rtc/v1/whep/x/doctor" })).statusCode, 404);
});

test("hands the request on: names, candidates, credentials, codecs, host, address, parameters", async () => {
  const rtc = new FakeRtc();
  const app = await makeApp(rtc);
  const query =
    "app=a%20b&stream=s/1&vhost=v.example&eip=192.0.2.1:8000,[fd00::1]:9,name.example&ice-ufrag=abcd&ice-pwd=abcdefghijklmnopqrstuv&codec=H264&acodec=opus&token=t";
  const { statusCode } = await app.inject({
    ...post(`${WHEP}?${query}`),
    headers: { "content-type": "application/sdp", host: "[fd00::2]:1985", origin: "http://page.example" },
    remoteAddress: "::ffff:192.0.2.7",
  });
  assert.equal(statusCode, 201);
  assert.deepEqual(rtc.offers[0], {
    name: { vhost: "v.example", app: "a b", stream: "s/1" },
    sdp: OFFER,
    address: "192.0.2.7",
    parameters: `?${query}`,
    apiHost: "fd00::2",
    candidates: ["192.0.2.1:8000", "[fd00::1]:9", "name.example"],
    iceUsernameFragment: "abcd",
    icePassword: "abcdefghijklmnopqrstuv",
    videoCodec: "h264",
    audioCodec: "opus",
    pageUrl: "http://page.example",
  });
  await app.inject(post("/rtc/v1/whep"));
  assert.deepEqual(rtc.offers[1]?.name, { vhost: "__defaultVhost__", app: "live", stream: "livestream" });
  assert.equal(rtc.offers[1]?.parameters, "");
});

const long = "x".repeat(300);
const REQUESTS: readonly [what: string, request: InjectOptions, status: number, type?: string][] = [
  ["without the final slash", post("/rtc/v1/whep?app=live&stream=livestream"), 201],
  ["with a parameter after the type", post(WHEP, OFFER, "application/sdp; charset=utf-8"), 201],
  ["with the type in capitals", post(WHEP, OFFER, "Application/SDP"), 201],
  ["with an unknown query parameter", post(`${WHEP}?foo=bar&foo=baz`), 201],
  ["with another type", post(WHEP, OFFER, "application/json"), 415, "content-type"],
  ["with a type that only begins alike", post(WHEP, OFFER, "application/sdpx"), 415, "content-type"],
  ["without a type", { method: "POST", url: WHEP, payload: Buffer.from(OFFER) }, 415, "content-type"],
  ["without type and body", { method: "POST", url: WHEP }, 415, "content-type"],
  ["with an empty type", post(WHEP, OFFER, ""), 415, "content-type"],
  ["with an empty body", post(WHEP, ""), 400, "bad-request"],
  ["with a blank body", post(WHEP, " \r\n"), 400, "bad-request"],
  ["with a body that is no SDP", post(WHEP, '{"sdp":"v=0"}'), 400, "bad-request"],
  ["with a zero byte in the SDP", post(WHEP, `${OFFER}\0`), 400, "bad-request"],
  ["with an SDP that is not UTF-8", post(WHEP, Buffer.from([...Buffer.from("v=0\r\ns="), 0xff, 0xfe])), 400, "bad-request"],
  ["with an SDP at the limit", post(WHEP, OFFER.padEnd(256 << 10, "\n")), 201],
  ["with an SDP over the limit", post(WHEP, OFFER.padEnd((256 << 10) + 1, "\n")), 413, "body-too-large"],
  ["with a newline in the name", post(`${WHEP}?stream=a%0Ab`), 400, "bad-request"],
  ["with a NUL in the name", post(`${WHEP}?app=a%00`), 400, "bad-request"],
  ["with a C1 control in the name", post(`${WHEP}?app=a%C2%85`), 400, "bad-request"],
  ["with a name of 300 characters", post(`${WHEP}?stream=${long}`), 400, "bad-request"],
  ["with a vhost of 300 characters", post(`${WHEP}?vhost=${long}`), 400, "bad-request"],
  ["with a name that is not UTF-8", post(`${WHEP}?stream=%ff%fe`), 400, "bad-request"],
  ["with a way up in the name", post(`${WHEP}?stream=../../etc/passwd`), 400, "bad-request"],
  ["with a query of 5000 characters", post(`${WHEP}?token=${"t".repeat(5000)}`), 400, "bad-request"],
  ["with a ufrag too short", post(`${WHEP}?ice-ufrag=abc`), 400, "bad-request"],
  ["with a ufrag too long", post(`${WHEP}?ice-ufrag=${"a".repeat(33)}`), 400, "bad-request"],
  ["with a colon in the ufrag", post(`${WHEP}?ice-ufrag=ab:cd`), 400, "bad-request"],
  ["with a password too short", post(`${WHEP}?ice-pwd=abcdefghijklmnopqrstu`), 400, "bad-request"],
  ["with a line break in the password", post(`${WHEP}?ice-pwd=abcdefghijklmnopqrstuv%0d%0aa=x`), 400, "bad-request"],
  ["with a line break in eip", post(`${WHEP}?eip=192.0.2.1%0d%0aa=x`), 400, "bad-request"],
  ["with nine addresses in eip", post(`${WHEP}?eip=${Array(9).fill("192.0.2.1").join(",")}`), 400, "bad-request"],
  ["with a hostile codec", post(`${WHEP}?codec=%3Cscript%3E`), 400, "bad-request"],
  ["to WHIP", post("/rtc/v1/whip/"), 201],
  ["GET of the endpoint", { method: "GET", url: WHEP }, 204],
  ["GET of the endpoint without slash", { method: "GET", url: "/rtc/v1/whep" }, 204],
  ["GET of the WHIP endpoint", { method: "GET", url: "/rtc/v1/whip/" }, 204],
  ["PUT of the endpoint", { method: "PUT", url: WHEP, payload: "x" }, 405, "method-not-allowed"],
  ["DELETE of the endpoint", { method: "DELETE", url: WHEP }, 405, "method-not-allowed"],
  ["DELETE of an unknown session", { method: "DELETE", url: `${WHEP}nobody` }, 404, "not-found"],
  ["GET of an unknown session", { method: "GET", url: `${WHEP}nobody` }, 404, "not-found"],
  ["PATCH of an unknown session", { method: "PATCH", url: `${WHEP}nobody`, payload: "a=x" }, 404, "not-found"],
  ["an unknown address", { method: "POST", url: "/rtc/v1/nothing/", payload: "x" }, 404, "not-found"],
];

for (const [what, request, status, type] of REQUESTS) {
  test(`answers ${status} to a request ${what}`, async () => {
    const app = await makeApp(new FakeRtc());
    const response = await app.inject(request);
    assert.equal(response.statusCode, status, response.body);
    if (type === undefined) return;
    assert.match(String(response.headers["content-type"]), /^application\/problem\+json/);
    const problem = response.json<{ type: string; title: string; status: number; detail: string }>();
    assert.equal(problem.type, `urn:sluice:problem:${type}`);
    assert.equal(problem.status, status);
    assert.ok(problem.title.length > 5 && problem.detail.length > 5);
  });
}

const REFUSALS: readonly [code: RefusalCode, status: number, header?: string][] = [
  ["bad-request", 400],
  ["unauthorized", 401, "www-authenticate"],
  ["forbidden", 403],
  ["not-live", 409, "retry-after"],
  ["busy", 409, "retry-after"],
  ["unsupported", 422],
  ["overloaded", 503, "retry-after"],
  ["unavailable", 503],
];

for (const [code, status, header] of REFUSALS) {
  test(`translates the refusal ${code} to ${status} with its reason`, async () => {
    const rtc = new FakeRtc();
    rtc.onPlay = async () => {
      throw new Refusal(code, "the reason <b>as given</b>");
    };
    const response = await (await makeApp(rtc)).inject(post());
    assert.equal(response.statusCode, status);
    assert.equal(response.json<{ type: string }>().type, `urn:sluice:problem:${code}`);
    assert.equal(response.json<{ detail: string }>().detail, "the reason <b>as given</b>");
    assert.equal(response.headers["access-control-allow-origin"], "*");
    if (header !== undefined) assert.ok(response.headers[header]);
  });
}

test("says why when there is no WebRTC at all", async () => {
  const options = fakeOptions(undefined);
  const app = await makeApp(undefined, { services: { ...options.services, rtcUnavailable: "koffi cannot be loaded." } });
  const response = await app.inject(post());
  assert.equal(response.statusCode, 503);
  assert.equal(response.json<{ detail: string }>().detail, "koffi cannot be loaded.");
  assert.equal((await app.inject({ method: "DELETE", url: `${WHEP}x` })).statusCode, 404);
});

test("answers 500 without a word of the inside, and logs it", async () => {
  const rtc = new FakeRtc();
  rtc.onPlay = async () => {
    throw new TypeError("secret inside");
  };
  const log = new FakeLog();
  const response = await (await makeApp(rtc, { log })).inject(post(`${WHEP}?stream=key`));
  assert.equal(response.statusCode, 500);
  assert.ok(!response.body.includes("secret"));
  assert.equal(log.lines.length, 1);
  assert.ok(!log.lines[0]?.includes("key"));
});

test("DELETE ends the session whatever If-Match says, a second one finds nothing", async () => {
  const rtc = new FakeRtc();
  const app = await makeApp(rtc);
  const url = String((await app.inject(post())).headers.location);
  assert.equal((await app.inject({ method: "GET", url })).statusCode, 204);
  assert.equal((await app.inject({ method: "HEAD", url })).statusCode, 204);
  assert.equal((await app.inject({ method: "DELETE", url, headers: { "if-match": '"stale"' } })).statusCode, 200);
  assert.equal(rtc.closed.length, 1);
  assert.equal((await app.inject({ method: "DELETE", url: `${url}/` })).statusCode, 404);
});

test("PATCH: candidates and ICE restarts under the entity tag of the ICE session", async () => {
  const rtc = new FakeRtc();
  const app = await makeApp(rtc);
  const created = await app.inject(post("/rtc/v1/whip/"));
  const url = String(created.headers.location);
  const first = String(created.headers.etag);
  const patch = (payload: string, ifMatch: string | undefined, type = "application/trickle-ice-sdpfrag; charset=utf-8") =>
    app.inject({
      method: "PATCH",
      url,
      payload,
      headers: { "content-type": type, ...(ifMatch !== undefined && { "if-match": ifMatch }) },
    });
  const candidates = "a=ice-ufrag:abcd\r\n";
  const restart = "a=ice-ufrag:efgh\r\na=ice-pwd:x\r\n";

  assert.equal((await patch(candidates, undefined)).statusCode, 428);
  assert.equal((await patch(candidates, '"another"')).statusCode, 412);
  assert.equal((await patch(candidates, `W/${first}`)).statusCode, 412, "a weak tag never matches");
  const wrong = await patch(candidates, first, "application/sdp");
  assert.equal(wrong.statusCode, 415);
  assert.equal(wrong.headers["accept-patch"], "application/trickle-ice-sdpfrag");
  assert.equal((await patch("nonsense", first)).statusCode, 400);
  assert.deepEqual(rtc.fragments, []);

  const taken = await patch(candidates, `"another", ${first}`);
  assert.equal(taken.statusCode, 204);
  assert.equal(taken.body, "");
  assert.equal(taken.headers.etag, undefined);

  for (const star of ['"*"', "*"]) {
    const restarted = await patch(restart, star);
    assert.equal(restarted.statusCode, 200);
    assert.equal(restarted.headers["content-type"], "application/trickle-ice-sdpfrag");
    assert.equal(restarted.body, "a=ice-lite\r\n");
    const second = String(restarted.headers.etag);
    assert.notEqual(second, first);
    assert.equal((await patch(candidates, first)).statusCode, 412);
    assert.equal((await patch(candidates, second)).statusCode, 204);
  }
  const options = await app.inject({ method: "OPTIONS", url });
  assert.match(String(options.headers.allow), /PATCH/);
  assert.equal(options.headers["accept-patch"], "application/trickle-ice-sdpfrag");
});

test("HEAD of the WHEP endpoint names the type and has no body", async () => {
  const response = await (await makeApp(new FakeRtc())).inject({ method: "HEAD", url: WHEP });
  assert.equal(response.statusCode, 200);
  assert.equal(response.headers["content-type"], "application/sdp");
  assert.equal(response.body, "");
});

test("OPTIONS of endpoint and session needs nothing and tells everything", async () => {
  const app = await makeApp(new FakeRtc());
  for (const url of [WHEP, "/rtc/v1/whep", `${WHEP}some-id`, "/rtc/v1/whip/"]) {
    const headers = {
      origin: "http://page.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization,content-type",
      "access-control-request-private-network": "true",
    };
    const response = await app.inject({ method: "OPTIONS", url, headers });
    assert.equal(response.statusCode, 200, url);
    assert.equal(response.headers["accept-post"], "application/sdp");
    assert.equal(response.headers["access-control-allow-origin"], "*");
    assert.match(String(response.headers["access-control-allow-headers"]), /Authorization.*Content-Type.*If-Match/);
    assert.match(String(response.headers["access-control-allow-methods"]), /POST.*DELETE/);
    assert.equal(response.headers["access-control-allow-private-network"], "true");
    assert.equal(response.headers.link, undefined);
    assert.equal(response.body, "");
  }
});

test("crossdomain off: no CORS header", async () => {
  const options = fakeOptions(new FakeRtc());
  const app = await makeApp(new FakeRtc(), { httpApi: { ...options.httpApi, crossdomain: false } });
  for (const request of [post(), { method: "OPTIONS", url: WHEP } as const]) {
    const { headers } = await app.inject(request);
    assert.ok(Object.keys(headers).every((name) => !name.startsWith("access-control")));
  }
});

test("whep_compat brings the old habits back: 404 when not live, 405 for GET", async () => {
  const rtc = new FakeRtc();
  rtc.onPlay = async () => {
    throw new Refusal("not-live", "nobody publishes");
  };
  const app = await makeApp(rtc, { whepCompat: true });
  assert.equal((await app.inject(post())).statusCode, 404);
  const get = await app.inject({ method: "GET", url: WHEP });
  assert.equal(get.statusCode, 405);
  assert.match(String(get.headers.allow), /POST/);
});

test("limits POST and DELETE of one address, not of another, and never OPTIONS", async () => {
  const app = await makeApp(new FakeRtc(), { rateLimit: { burst: 3, rate: 0 } });
  const from = (remoteAddress: string, request: InjectOptions) => app.inject({ ...request, remoteAddress });
  assert.equal((await from("192.0.2.1", post())).statusCode, 201);
  assert.equal((await from("192.0.2.1", post())).statusCode, 201);
  assert.equal((await from("192.0.2.1", { method: "DELETE", url: `${WHEP}x` })).statusCode, 404);
  const refused = await from("192.0.2.1", post());
  assert.equal(refused.statusCode, 429);
  assert.equal(refused.headers["retry-after"], "1");
  assert.equal((await from("192.0.2.1", { method: "OPTIONS", url: WHEP })).statusCode, 200);
  assert.equal((await from("192.0.2.2", post())).statusCode, 201);
});

test("a bearer token is handed on, for hooks in the place of one in the query; its session wants it again", async () => {
  const rtc = new FakeRtc();
  const app = await makeApp(rtc);
  const ask = (authorization: string, url: string) =>
    app.inject({ ...post(url), headers: { "content-type": "application/sdp", authorization } });
  await ask("Bearer a+b/c=", `${WHEP}?app=live&token=other&tokens=1`);
  await ask("bearer  x", WHEP);
  await ask("Basic abc", `${WHEP}?token=query`);
  assert.deepEqual(
    rtc.offers.map(({ bearer, parameters }) => [bearer, parameters]),
    [
      ["a+b/c=", "?app=live&tokens=1&token=a%2Bb%2Fc%3D"],
      ["x", "?token=x"],
      [undefined, "?token=query"],
    ],
  );
  const { headers } = await ask("Bearer x", WHEP);
  const url = String(headers.location);
  rtc.tokens.set(url.slice(url.lastIndexOf("/") + 1), "x");
  for (const method of ["PATCH", "DELETE"] as const) {
    for (const authorization of [undefined, "Bearer y", "Basic x"]) {
      const refused = await app.inject({ method, url, headers: authorization === undefined ? {} : { authorization } });
      assert.equal(refused.statusCode, 401, `${method} ${authorization}`);
      assert.equal(refused.headers["www-authenticate"], "Bearer");
    }
  }
  assert.equal((await app.inject({ method: "DELETE", url, headers: { authorization: "Bearer x" } })).statusCode, 200);
});
