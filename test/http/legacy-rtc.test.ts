import assert from "node:assert/strict";
import { after, test } from "node:test";

import type { FastifyInstance } from "fastify";

import { type HttpOptions, HttpServer } from "../../gateway/http/server.js";
import type { SessionOffer } from "../../gateway/http/services.js";
import { Refusal, type RefusalCode } from "../../gateway/media/errors.js";
import { ANSWER, FakeRtc, fakeOptions } from "./fake-services.js";

const servers: HttpServer[] = [];
after(() => Promise.all(servers.map((server) => server.close())));

async function setUp(changes: Partial<HttpOptions> = {}): Promise<{ rtc: FakeRtc; app: FastifyInstance }> {
  const rtc = new FakeRtc();
  const server = new HttpServer(fakeOptions(rtc, changes));
  servers.push(server);
  return { rtc, app: await server.app(new Set(["api"])) };
}

const OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

function post(app: FastifyInstance, body: unknown, url = "/rtc/v1/play/") {
  const payload = typeof body === "string" ? body : JSON.stringify(body);
  return app.inject({ method: "POST", url, payload, headers: { "content-type": "application/json", host: "gw.example:1985" } });
}

test("play is answered with an SDP, and may come before the publisher", async () => {
  const { rtc, app } = await setUp();
  const answer = await post(app, {
    api: "http://gw.example:1985/rtc/v1/play/",
    clientip: null,
    tid: "abc",
    streamurl: "webrtc://gw.example:1990/live/camera?token=x&vcodec=H264",
    sdp: OFFER,
  });
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.headers["access-control-allow-origin"], "*");
  const { code, server, service, pid, sdp, sessionid } = answer.json<Record<string, unknown>>();
  assert.deepEqual([code, server, service, pid, sdp], [0, "vid-test", "run-test", String(process.pid), ANSWER]);
  assert.match(String(sessionid), /^session-1-/);
  const [offer] = rtc.offers as [SessionOffer];
  assert.deepEqual(offer.name, { vhost: "gw.example", app: "live", stream: "camera" });
  assert.deepEqual([offer.sdp, offer.parameters, offer.videoCodec], [OFFER, "?token=x&vcodec=H264", "h264"]);
  assert.deepEqual([offer.mayWait, offer.apiHost], [true, "gw.example"]);
});

test("publish goes to the publisher's service, and does not wait", async () => {
  const { rtc, app } = await setUp();
  const offers: SessionOffer[] = [];
  Object.assign(rtc, {
    publish: async (offer: SessionOffer) => {
      offers.push(offer);
      return { id: "published-abcdefghijk", sdp: ANSWER };
    },
  });
  const answer = await post(app, { streamurl: "webrtc://192.0.2.1/a/b/cam?vhost=v.example", sdp: OFFER }, "/rtc/v1/publish");
  assert.equal(answer.json<{ sessionid: string }>().sessionid, "published-abcdefghijk");
  assert.deepEqual(offers[0]?.name, { vhost: "v.example", app: "a/b", stream: "cam" });
  assert.equal(offers[0]?.mayWait, undefined);
});

test("eip may stand in either query", async () => {
  const { rtc, app } = await setUp();
  await post(app, { streamurl: "webrtc://h/live/a?eip=192.0.2.7", sdp: OFFER });
  await post(app, { streamurl: "webrtc://h/live/a", sdp: OFFER }, "/rtc/v1/play/?eip=192.0.2.8:9000");
  assert.deepEqual(
    rtc.offers.map(({ candidates }) => candidates),
    [["192.0.2.7"], ["192.0.2.8:9000"]],
  );
});

test("a refusal is HTTP 200 with a code and the reason", async () => {
  const { rtc, app } = await setUp();
  for (const [refusal, code] of [
    ["forbidden", 403],
    ["busy", 1028],
    ["not-live", 2048],
    ["unsupported", 422],
    ["overloaded", 503],
  ] as const satisfies readonly (readonly [RefusalCode, number])[]) {
    rtc.onPlay = async () => {
      throw new Refusal(refusal, `because ${refusal}`);
    };
    const answer = await post(app, { streamurl: "webrtc://h/live/a", sdp: OFFER });
    assert.deepEqual([answer.statusCode, answer.json()], [200, { code, error: `because ${refusal}` }]);
  }
});

test("what makes no sense is 400 and says why", async () => {
  const { rtc, app } = await setUp();
  const good = { streamurl: "webrtc://h/live/a", sdp: OFFER };
  for (const [body, why] of [
    ["", /JSON/],
    ["[", /JSON/],
    ["null", /object/],
    ["3", /object/],
    [{ sdp: OFFER }, /streamurl/],
    [{ ...good, streamurl: 7 }, /streamurl/],
    [{ ...good, sdp: "" }, /sdp/],
    [{ ...good, sdp: "hello" }, /sdp/],
    [{ ...good, sdp: `${OFFER}\0` }, /sdp/],
    [{ ...good, streamurl: "rtmp://h/live/a" }, /streamurl/],
    [{ ...good, streamurl: "webrtc://h/a" }, /streamurl/],
    [{ ...good, streamurl: "webrtc://h/live/" }, /streamurl/],
    [{ ...good, streamurl: "webrtc://h/live/%ff" }, /streamurl/],
    [{ ...good, streamurl: "webrtc://h/live/a%00" }, /stream/],
    [{ ...good, streamurl: "webrtc://h/../a" }, /app/],
    [{ ...good, streamurl: `webrtc://h/live/a?x=${"y".repeat(5000)}` }, /query/],
  ] as const) {
    const answer = await post(app, body);
    assert.equal(answer.statusCode, 400, JSON.stringify(body));
    const { code, error } = answer.json<{ code: number; error: string }>();
    assert.equal(code, 400);
    assert.match(error, why);
  }
  assert.equal(rtc.offers.length, 0);
  assert.equal((await post(app, `"${"x".repeat(600_000)}"`)).statusCode, 413);
});

test("WebRTC switched off: the code and the reason; OPTIONS needs nothing; GET is nothing", async () => {
  const { rtc: _rtc, ...rest } = fakeOptions(undefined).services;
  const { app } = await setUp({ services: { ...rest, rtc: undefined, rtcUnavailable: "no OpenSSL here" } });
  const answer = await post(app, { streamurl: "webrtc://h/live/a", sdp: OFFER });
  assert.deepEqual([answer.statusCode, answer.json()], [200, { code: 503, error: "no OpenSSL here" }]);
  const options = await app.inject({ method: "OPTIONS", url: "/rtc/v1/play/" });
  assert.deepEqual([options.statusCode, options.headers["access-control-allow-methods"]], [204, "POST, OPTIONS"]);
  assert.equal((await app.inject({ url: "/rtc/v1/play/" })).statusCode, 404);
});
