// The hooks against a real HTTP server that answers as a test says; the hub asks and tells through them.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type TestContext, test } from "node:test";

import { Hooks, type HooksOptions } from "../../gateway/http/hooks.js";
import { LiveHub } from "../../gateway/hub/hub.js";
import type { PlayRequest, PublishRequest } from "../../gateway/hub/types.js";
import { Refusal } from "../../gateway/media/errors.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { eventually, pause } from "../support/child.js";
import { RecordingSource } from "../support/frames.js";
import { FakeLog } from "./fake-services.js";

type Call = { readonly path: string; readonly body: Record<string, unknown> };
type Answer = (request: IncomingMessage, response: ServerResponse, call: Call) => void;

const YES: Answer = (_request, response) => void response.end("0");

async function setUp(
  t: TestContext,
  options: Partial<HooksOptions> & { paths?: readonly string[]; takeover?: "on" | "off" } = {},
) {
  const calls: Call[] = [];
  const world = { answer: YES, most: 0, now: 0 };
  const server = createServer((request, response) => {
    world.now++;
    world.most = Math.max(world.most, world.now);
    response.on("close", () => world.now--);
    let text = "";
    request.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    request.on("end", () => {
      const call = { path: request.url ?? "", body: JSON.parse(text) as Record<string, unknown> };
      calls.push(call);
      world.answer(request, response, call);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const urls = (options.paths ?? ["/hook"]).map((path) => `http://127.0.0.1:${port}${path}`);
  const log = new FakeLog();
  const clock = new SystemClock();
  const hooks = new Hooks({
    vhost: () => ({
      name: "__defaultVhost__",
      httpHooks: { enabled: true, on_publish: urls, on_unpublish: urls, on_play: urls, on_stop: urls, on_hls: urls },
    }),
    clock,
    log,
    serverId: "vid-1",
    serviceId: "run-1",
    ...options,
  });
  const hub = new LiveHub({
    clock,
    vhost: () => ({ name: "__defaultVhost__", gopCacheFrames: 10, grace: 0, takeover: options.takeover ?? "off" }),
    gate: (action, request) => hooks.ask(action, request),
    onEvent: (event) => hooks.onEvent(event),
  });
  const actions = () => calls.map(({ body }) => body["action"]);
  return { calls, actions, world, hooks, hub, log };
}

const NAME = { vhost: "asked.example", app: "live", stream: "cam" };

function publishRequest(id = "secret-session"): PublishRequest {
  return {
    name: NAME,
    peer: { id, protocol: "rtmp", address: "192.0.2.9", parameters: "?token=abc", tcUrl: "rtmp://h/live", pageUrl: "http://p/" },
    source: new RecordingSource(),
    lane: "frames",
  };
}

const playRequest = (): PlayRequest => ({
  name: NAME,
  peer: { id: "viewer", protocol: "flv", address: "192.0.2.10", parameters: "" },
  lane: "frames",
});

test("told of each HLS segment, with what the segment is", async (t) => {
  const { calls, hooks } = await setUp(t);
  const { peer } = publishRequest();
  hooks.onSegment(NAME, peer, () => ({ duration: 2, file: "/f/live/cam-0.ts", url: "live/cam-0.ts", seq_no: 7 }));
  await hooks.close();
  const { action, ip, stream, duration, seq_no: number, url } = calls[0]?.body ?? {};
  assert.deepEqual([action, ip, stream, duration, number, url], ["on_hls", "192.0.2.9", "cam", 2, 7, "live/cam-0.ts"]);
  const deaf = await setUp(t, { vhost: () => ({ name: "v", httpHooks: { ...NOBODY, enabled: true } }) });
  deaf.hooks.onSegment(NAME, undefined, () => assert.fail("nobody wants to know"));
  assert.equal(deaf.calls.length, 0);
});

const NOBODY = { on_publish: [], on_unpublish: [], on_play: [], on_stop: [] };

const refusedAs = (code: string, text: RegExp) => (error: unknown) =>
  error instanceof Refusal && error.code === code && text.test(error.message);

test("asked with SRS's fields, and told once when it is over", async (t) => {
  const { calls, actions, hub, hooks } = await setUp(t);
  const publication = await hub.publish(publishRequest());
  const { client_id: client, stream_id: stream, ...rest } = calls[0]?.body ?? {};
  assert.deepEqual(rest, {
    ...{ server_id: "vid-1", service_id: "run-1", action: "on_publish", ip: "192.0.2.9", vhost: "__defaultVhost__" },
    ...{ app: "live", tcUrl: "rtmp://h/live", stream: "cam", param: "?token=abc", stream_url: "/live/cam", pageUrl: "http://p/" },
  });
  assert.ok(typeof client === "string" && !client.includes("secret"));
  assert.match(String(stream), /^vid-/);
  const play = await hub.play(playRequest());
  play.end("left");
  play.end("left");
  publication.end("left");
  publication.end("left");
  await hooks.close();
  assert.deepEqual(actions(), ["on_publish", "on_play", "on_stop", "on_unpublish"]);
  assert.equal(calls[3]?.body["client_id"], client);
});

test("nobody gets in before the answer", async (t) => {
  const { world, calls, hub } = await setUp(t);
  let answer = (): void => {};
  world.answer = (_request, response) => {
    answer = () => void response.end("0");
  };
  const granted = hub.publish(publishRequest());
  await eventually("asked", () => (calls.length === 1 ? true : undefined), 2000, 5);
  assert.equal([...hub.streams()].length, 0);
  answer();
  await granted;
  assert.equal([...hub.streams()].length, 1);
});

test("yes is 200 or 201 with 0 or code 0, and nothing else is", async (t) => {
  const { world, hub, log } = await setUp(t, { timeout: 300 });
  for (const [status, body, text] of [
    [200, "0", undefined],
    [201, " 0\n", undefined],
    [200, '{"code":0}', undefined],
    [200, '{"code":0,"data":{}}', undefined],
    [200, "", /neither/],
    [200, "ok", /neither/],
    [200, "1", /answered 1/],
    [200, "null", /answered null/],
    [200, "[]", /code missing/],
    [200, '{"code":"0"}', /code "0"/],
    [200, '{"code":1,"msg":"wrong key"}', /wrong key/],
    [204, "", /HTTP 204/],
    [403, "0", /HTTP 403/],
    [500, '{"code":0}', /HTTP 500/],
    [302, "0", /could not be reached/],
    [200, `"${"x".repeat(200_000)}"`, /neither/],
  ] as const) {
    world.answer = (_request, response) => {
      response.writeHead(status, status === 302 ? { Location: "/elsewhere" } : {});
      response.end(status === 204 ? undefined : body);
    };
    if (text === undefined) (await hub.publish(publishRequest())).end("enough");
    else await assert.rejects(hub.publish(publishRequest()), refusedAs("forbidden", text), `${status} ${body.slice(0, 20)}`);
  }
  assert.ok(log.lines.some((line) => line.includes("refused by a hook") && !line.includes("token=abc")));
});

test("a hook that does not answer, breaks off, or is not there, refuses", async (t) => {
  const { world, hub } = await setUp(t, { timeout: 200 });
  world.answer = () => {};
  await assert.rejects(hub.publish(publishRequest()), refusedAs("forbidden", /did not answer in 0.2 s/));
  world.answer = (_request, response) => {
    response.writeHead(200, { "Content-Length": "1" });
    response.flushHeaders(); // and the body never comes
  };
  await assert.rejects(hub.publish(publishRequest()), refusedAs("forbidden", /did not answer/));
  world.answer = (request) => void request.socket.destroy();
  await assert.rejects(hub.publish(publishRequest()), refusedAs("forbidden", /could not be reached/));
  const nowhere = ["http://127.0.0.1:1/hook"];
  const httpHooks = { enabled: true, on_publish: nowhere, on_unpublish: [], on_play: [], on_stop: [] };
  const other = await setUp(t, { vhost: () => ({ name: "v", httpHooks }) });
  await assert.rejects(other.hub.publish(publishRequest()), refusedAs("forbidden", /could not be reached/));
});

test("several URLs are asked one after another; one no is a no, and those who said yes are told", async (t) => {
  const { world, calls, hub, hooks } = await setUp(t, { paths: ["/a", "/b", "/c"] });
  world.answer = (_request, response, { path, body }) =>
    void response.end(path === "/b" && body["action"] === "on_publish" ? "1" : "0");
  await assert.rejects(hub.publish(publishRequest()), refusedAs("forbidden", /answered 1/));
  await hooks.close();
  const seen = calls.map(({ path, body }) => `${body["action"]} ${path}`);
  assert.deepEqual(seen.slice(0, 2), ["on_publish /a", "on_publish /b"]);
  assert.ok(!seen.includes("on_publish /c"));
  assert.ok(seen.includes("on_unpublish /a"));
});

test("a yes is taken back when the hub refuses after all", async (t) => {
  const { actions, hub, hooks } = await setUp(t);
  await hub.publish(publishRequest());
  await assert.rejects(hub.publish(publishRequest("another")), refusedAs("busy", /published already/));
  await hooks.close();
  assert.deepEqual(actions(), ["on_publish", "on_publish", "on_unpublish"]);
  assert.equal(hub.totals.refused, 1);
});

test("who is refused by the hub first is not asked about", async (t) => {
  const { actions, hub } = await setUp(t);
  await assert.rejects(hub.play(playRequest()), refusedAs("not-live", /nobody publishes/));
  assert.deepEqual(actions(), []);
});

test("calls are bounded, and the line moves", async (t) => {
  const { world, hub, hooks } = await setUp(t, { maxConcurrent: 4 });
  world.answer = (_request, response) => void setTimeout(() => response.end("0"), 5);
  await hub.publish(publishRequest());
  const plays = await Promise.all(Array.from({ length: 60 }, () => hub.play(playRequest())));
  for (const play of plays) play.end("left");
  await hooks.close();
  assert.ok(world.most <= 4, `${world.most} at once`);
});

test("a line that does not move refuses instead of growing", async (t) => {
  const { world, hub } = await setUp(t, { maxConcurrent: 1, timeout: 100 });
  world.answer = () => {};
  const results = await Promise.allSettled(Array.from({ length: 10 }, (_, index) => hub.publish(publishRequest(`p${index}`))));
  assert.ok(results.every(({ status }) => status === "rejected"));
  const codes = results.map((result) => (result as PromiseRejectedResult).reason as Refusal).map(({ code }) => code);
  assert.ok(codes.includes("overloaded") && codes.includes("forbidden"), codes.join());
});

test("a hook that does not take the news is logged and nothing more", async (t) => {
  const { world, hub, hooks, log } = await setUp(t);
  const publication = await hub.publish(publishRequest());
  world.answer = (_request, response) => void response.writeHead(500).end();
  publication.end("left");
  await hooks.close();
  assert.equal(log.lines.filter((line) => /^warn a hook was not taken .*on_unpublish.*HTTP 500/.test(line)).length, 1);
});

test("closing does not wait for ever", async (t) => {
  const { world, hub, hooks, log } = await setUp(t, { timeout: 10_000 });
  const publication = await hub.publish(publishRequest());
  world.answer = () => {};
  publication.end("left");
  await pause(20);
  const began = performance.now();
  await hooks.close();
  assert.ok(performance.now() - began < 3_000);
  assert.ok(log.lines.some((line) => /hooks were not told of everything/.test(line)));
});

test("switched off, nobody is asked", async (t) => {
  const httpHooks = { enabled: false, on_publish: ["http://127.0.0.1:1/"], on_unpublish: [], on_play: [], on_stop: [] };
  const { hub, actions } = await setUp(t, { vhost: () => ({ name: "v", httpHooks }) });
  (await hub.publish(publishRequest())).end("left");
  assert.deepEqual(actions(), []);
});
