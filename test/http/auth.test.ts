import assert from "node:assert/strict";
import { test } from "node:test";

import fastify from "fastify";

import { apiGuard } from "../../gateway/http/auth.js";
import { HttpServer, type Role } from "../../gateway/http/server.js";
import { FakeRtc, fakeOptions } from "./fake-services.js";

const AUTH = { enabled: true, username: "admin", password: "open: sesame", token: "abc.DEF-123" };

function basic(text: string): string {
  return `Basic ${Buffer.from(text).toString("base64")}`;
}

async function withServer(auth: typeof AUTH, roles: Role[], work: (ask: Ask) => Promise<void>): Promise<void> {
  const options = fakeOptions(new FakeRtc());
  const server = new HttpServer({ ...options, httpApi: { ...options.httpApi, auth } });
  const app = await server.app(new Set(roles));
  try {
    await work((url, authorization, method = "GET") =>
      app.inject({ method, url, ...(authorization !== undefined && { headers: { authorization } }) }),
    );
  } finally {
    await server.close();
  }
}

type Ask = (
  url: string,
  authorization?: string,
  method?: "GET" | "OPTIONS",
) => Promise<{ statusCode: number; headers: Record<string, unknown>; body: string }>;

const API = ["/api/v1/versions", "/api/v1/summaries", "/api/v1/streams", "/api/v1/streams/vid-1", "/api/v1/clients", "/metrics"];

test("the API asks for name and password or a token, on every endpoint", async () => {
  await withServer(AUTH, ["api", "server"], async (ask) => {
    for (const url of API) {
      const refused = await ask(url);
      assert.equal(refused.statusCode, 401, url);
      assert.deepEqual(refused.headers["www-authenticate"], ['Basic realm="sluice", charset="UTF-8"', 'Bearer realm="sluice"']);
      assert.equal(refused.headers["access-control-allow-origin"], "*"); // a page can read that it is refused
      assert.deepEqual(JSON.parse(refused.body), { code: 401, error: "this API asks for authorization" });
      for (const right of [
        basic("admin:open: sesame"),
        "Bearer abc.DEF-123",
        "bearer  abc.DEF-123",
        "BASIC YWRtaW46b3Blbjogc2VzYW1l",
      ]) {
        assert.notEqual((await ask(url, right)).statusCode, 401, `${url} ${right}`);
      }
    }
  });
});

test("whatever is not exactly right is refused", async () => {
  await withServer(AUTH, ["api"], async (ask) => {
    const wrong = [
      basic("admin:"),
      basic("admin:open:sesame"),
      basic("Admin:open: sesame"),
      basic("admin"),
      basic(":"),
      basic(""),
    ];
    wrong.push(
      "Bearer",
      "Bearer ",
      "Bearer abc.DEF-12",
      "Bearer abc.DEF-1234",
      "Bearer ABC.DEF-123",
      "Digest abc.DEF-123",
      "abc.DEF-123",
    );
    wrong.push(basic("abc.DEF-123"), "Bearer admin:open:", `Bearer ${"x".repeat(5000)}`, "Bearer abc.DEF-123 x", "\u00ff");
    for (const authorization of wrong) {
      const { statusCode, body } = await ask("/api/v1/clients", authorization);
      assert.equal(statusCode, 401, authorization);
      assert.ok(!body.includes("sesame") && !body.includes("DEF"));
    }
  });
});

test("what is not configured is not accepted: no empty password, no empty token", async () => {
  await withServer({ ...AUTH, token: "" }, ["api"], async (ask) => {
    assert.equal((await ask("/api/v1/clients", "Bearer ")).statusCode, 401);
    assert.equal(String((await ask("/api/v1/clients")).headers["www-authenticate"]), 'Basic realm="sluice", charset="UTF-8"');
    assert.equal((await ask("/api/v1/clients", basic("admin:open: sesame"))).statusCode, 200);
  });
  await withServer({ ...AUTH, username: "", password: "" }, ["api"], async (ask) => {
    assert.equal((await ask("/api/v1/clients", basic(":"))).statusCode, 401);
    assert.equal((await ask("/api/v1/clients", "Bearer abc.DEF-123")).statusCode, 200);
  });
});

test("preflights, WHIP and WHEP, and pages are not asked; nobody is when it is off", async () => {
  await withServer(AUTH, ["api", "server"], async (ask) => {
    assert.equal((await ask("/api/v1/clients", undefined, "OPTIONS")).statusCode, 204);
    assert.equal((await ask("/rtc/v1/whep/", undefined, "OPTIONS")).statusCode, 200);
    assert.notEqual((await ask("/")).statusCode, 401);
  });
  await withServer({ ...AUTH, enabled: false }, ["api"], async (ask) => {
    assert.equal((await ask("/api/v1/clients")).statusCode, 200);
  });
});

test("guessing is slowed down per address, and being right does not count as a guess", async () => {
  let now = 0;
  const app = fastify();
  app.addHook("onRequest", apiGuard({ auth: AUTH, now: () => now }));
  app.get("/", async () => "in");
  const ask = async (authorization: string, remoteAddress: string) =>
    (await app.inject({ url: "/", headers: { authorization }, remoteAddress })).statusCode;
  const right = "Bearer abc.DEF-123";
  try {
    for (let count = 0; count < 50; count++) assert.equal(await ask(right, "192.0.2.1"), 200);
    for (let count = 0; count < 20; count++) assert.equal(await ask("Bearer x", "192.0.2.1"), 401);
    assert.equal(await ask("Bearer x", "192.0.2.1"), 429);
    assert.equal(await ask(right, "::ffff:192.0.2.1"), 429); // or a guess that was right would show
    assert.equal(await ask(right, "192.0.2.2"), 200);
    now += 10_000;
    assert.equal(await ask(right, "192.0.2.1"), 200);
  } finally {
    await app.close();
  }
});
