import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { type FlvVhost, parseFlvUrl } from "../../gateway/http/flv-target.js";
import { Refusal } from "../../gateway/media/errors.js";

const MOUNTS: Readonly<Record<string, string>> = {
  "deep.example": "/[app]/[stream]/index.flv",
  "fixed.example": "[vhost]/one.[stream].flv",
};

function vhostOf(name: string): FlvVhost | undefined {
  if (name === "gone.example") return undefined;
  return {
    name: name in MOUNTS || name === "off.example" ? name : "__defaultVhost__",
    httpRemux: { enabled: name !== "off.example", mount: MOUNTS[name] ?? "[vhost]/[app]/[stream].flv" },
    play: { queueLength: 30_000 },
  };
}

const parse = (url: string, host = "") => parseFlvUrl(url, host, vhostOf);

test("finds vhost, app and stream by the mount", () => {
  for (const [url, host, expected] of [
    ["/live/livestream.flv", "", ["__defaultVhost__", "live", "livestream"]],
    ["/live/a.b.flv?x=1", "192.0.2.1", ["__defaultVhost__", "live", "a.b"]],
    ["/a/b/c.flv", "", ["__defaultVhost__", "a/b", "c"]],
    ["/live/%E4%BD%A0%20x.flv", "", ["__defaultVhost__", "live", "你 x"]],
    ["/live/cam/index.flv", "deep.example", ["deep.example", "live", "cam"]],
    ["/live/cam/index.flv?vhost=deep.example", "other", ["deep.example", "live", "cam"]],
    ["/one.cam.flv", "fixed.example", ["fixed.example", "live", "cam"]],
  ] as const) {
    const name = parse(url, host)?.name;
    assert.deepEqual([name?.vhost, name?.app, name?.stream], expected, url);
  }
  for (const [url, host] of [
    ["/live/livestream", ""],
    ["/livestream.flv", ""],
    ["/live/.flv", ""],
    ["/live/livestream.flv", "off.example"],
    ["/live/livestream.flv", "gone.example"],
    ["/live/livestream.flv", "deep.example"],
    ["/live/livestream.flvx", ""],
    ["/live/livestreamxflv", ""],
    ["/one.cam.flv/", "fixed.example"],
    ["/oneXcam.flv", "fixed.example"],
  ] as const) {
    assert.equal(parse(url, host), undefined, `${host}${url}`);
  }
});

test("keeps the query for the hooks, and reads only=", () => {
  const { parameters, selection } = parse("/live/a.flv?only=audio&token=x") ?? {};
  assert.deepEqual([parameters, selection], ["?only=audio&token=x", "audio"]);
  assert.equal(parse("/live/a.flv?only=")?.selection, "all");
  for (const url of ["/live/a.flv?only=both", "/live/%00.flv", "/live/a%2f..%2fb.flv", `/live/a.flv?x=${"y".repeat(5000)}`]) {
    assert.throws(() => parse(url), Refusal, url);
  }
});

test("whatever the address, there is a stream with a harmless name, none, or a refusal", () => {
  const piece = fc.constantFrom(
    "/",
    ".flv",
    "live",
    "..",
    "%2e",
    "%00",
    "%",
    "?",
    "only=",
    "vhost=",
    "deep.example",
    "\\",
    "a",
    "\u2028",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      let target: ReturnType<typeof parse>;
      try {
        target = parse(`/${pieces.join("")}`);
      } catch (error) {
        assert.ok(error instanceof Refusal);
        return;
      }
      for (const part of [target?.name.app ?? "", target?.name.stream ?? ""]) {
        assert.ok(!part.split(/[/\\]/).includes("..") && !part.includes("\0"), part);
      }
    }),
    { numRuns: 500 },
  );
});

test("a long path is looked at in no time", () => {
  const began = performance.now();
  parse(`/${"a/".repeat(8000)}x.flw`);
  parse(`/${".flv".repeat(4000)}`);
  assert.ok(performance.now() - began < 500);
});
