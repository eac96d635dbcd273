import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { checkImports } from "../../scripts/check-imports.js";

/** Checks a tree that holds just these files; returns `file:line message` of each violation. */
function check(files: Readonly<Record<string, string>>): string[] {
  const root = mkdtempSync(join(tmpdir(), "sluice-imports-"));
  try {
    const all = { "package.json": '{ "name": "sluice", "dependencies": { "pino": "1", "@fastify/static": "1" } }', ...files };
    for (const [name, text] of Object.entries(all)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), text);
    }
    return checkImports(root).map(({ file, line, message }) => `${file}:${line} ${message}`);
  } finally {
    rmSync(root, { recursive: true });
  }
}

const BAD: readonly (readonly [what: string, file: string, text: string, expected: RegExp])[] = [
  [
    "a protocol that imports another",
    "gateway/rtmp/server.ts",
    'import { a } from "../rtc/server.js";',
    /:1 gateway\/rtmp may not import gateway\/rtc\/server/,
  ],
  ["even as a type", "gateway/http/api.ts", '\nimport type { A } from "../rtc/session.js";', /:2 gateway\/http may not import/],
  [
    "even by re-export",
    "gateway/hls/playlist.ts",
    'export { a } from "../http/server.js";',
    /gateway\/hls may not import gateway\/http/,
  ],
  [
    "even by a dynamic import",
    "gateway/rtc/server.ts",
    'const a = await import("../rtmp/session.js");',
    /gateway\/rtc may not import gateway\/rtmp/,
  ],
  [
    "even for its side effects",
    "gateway/rtc/server.ts",
    'import "../rtmp/session.js";',
    /gateway\/rtc may not import gateway\/rtmp/,
  ],
  [
    "even over several lines",
    "gateway/rtc/sdp.ts",
    'import {\n  a,\n  b as c,\n} from "../hls/segmenter.js";',
    /:1 gateway\/rtc may not import/,
  ],
  ["media that imports anybody", "gateway/media/h264.ts", 'import { a } from "../hub/hub.js";', /nothing outside itself/],
  [
    "native outside rtc",
    "gateway/bridge/rtmp-to-rtc.ts",
    'import { a } from "../native/dtls.js";',
    /gateway\/bridge may not import gateway\/native/,
  ],
  [
    "a value where types are allowed",
    "gateway/bridge/a.ts",
    'import { B } from "../../transcoder/transcoder.js";',
    /but as a type: import type/,
  ],
  [
    "the product importing a test",
    "gateway/rtc/server.ts",
    'import { a } from "../../test/support/x.js";',
    /may not import test\/support\/x/,
  ],
  [
    "the composition root from below",
    "gateway/http/server.ts",
    'import { Gateway } from "../gateway.js";',
    /may not import gateway\/gateway/,
  ],
  [
    "a node: module in an engine",
    "gateway/rtp/packet.ts",
    'import { readFileSync } from "node:fs";',
    /an engine may not import node:fs/,
  ],
  [
    "a node: module in an engine among edges",
    "gateway/rtc/stun.ts",
    'import { createSocket } from "node:dgram";',
    /an engine may not import node:dgram/,
  ],
  [
    "a node: module without its prefix",
    "gateway/rtc/server.ts",
    'import { readFileSync } from "fs";',
    /import "node:fs", with the prefix/,
  ],
  ["chance in an engine", "gateway/hub/hub.ts", "const a = 1;\nconst b = Math.random();", /:2 Math\.random/],
  ["the clock in an engine", "gateway/bridge/a.ts", "const now = Date.now();", /Date: engines/],
  ["a timer in an engine", "gateway/rtmp/session.ts", "setTimeout(() => {}, 5);", /timers: engines/],
  ["the process in an engine", "gateway/rtp/a.ts", 'const a = process.env["X"];', /process: engines/],
  [
    "a package for development",
    "gateway/http/server.ts",
    'import { chromium } from "playwright-core";',
    /playwright-core is not in dependencies/,
  ],
  ["a computed import", "gateway/http/server.ts", "const a = await import(name);", /computed import/],
  [
    "a page's script that needs a bundler",
    "players/whep.js",
    'import Hls from "hls.js";',
    /players import only what lies beside them/,
  ],
  [
    "a page's script that leaves its folder",
    "players/whep.js",
    'import { a } from "../gateway/x.js";',
    /players may not import gateway\/x/,
  ],
  ["a folder nobody has a rule for", "gateway/dash/a.ts", "export const a = 1;", /no rule for this folder/],
];

for (const [what, file, text, expected] of BAD) {
  test(`refuses ${what}`, () => {
    const violations = check({ [file]: text });
    assert.equal(violations.length, 1, violations.join("\n"));
    assert.match(violations[0] ?? "", expected);
    assert.ok(violations[0]?.startsWith(`${file}:`));
  });
}

test("lets through what the design allows", () => {
  const violations = check({
    "gateway/gateway.ts":
      'import { a } from "./rtc/server.js";\nimport { b } from "./native/udp.js";\nimport { pino } from "pino";',
    "gateway/main.ts": '#!/usr/bin/env node\nimport { Gateway } from "./gateway.js";',
    "gateway/rtc/server.ts":
      'import { a } from "../native/udp.js";\nimport { createSocket } from "node:dgram";\nsetTimeout(() => Date.now(), 1);',
    "gateway/rtc/stun.ts": 'import { createHmac } from "node:crypto";\nimport type { A } from "../hub/types.js";',
    "gateway/bridge/a.ts":
      'import type { T } from "../../transcoder/transcoder.js";\nimport { type U, type V } from "../../transcoder/transcoder.js";',
    "gateway/http/server.ts":
      'import fastifyStatic from "@fastify/static";\nimport { DEFAULT_VHOST } from "../config/config.js";',
    "players/whep.js": 'import { a } from "./common.js";',
    "test/rtc/a.test.ts":
      'import { a } from "../../gateway/native/udp.js";\nimport { chromium } from "playwright-core";\nMath.random();',
  });
  assert.deepEqual(violations, []);
});

test("is not misled by comments and strings", () => {
  const violations = check({
    "gateway/media/a.ts": [
      '// import { a } from "../rtc/server.js"; Date.now()',
      '/* import "node:fs";\n   setTimeout(() => {}) */',
      'export const a = "Math.random() and http://x.example/"; // Math.random()',
      "export const format = (b: string) => b;",
    ].join("\n"),
  });
  assert.deepEqual(violations, []);
});

test("this repository keeps its rules", () => {
  assert.deepEqual(checkImports(fileURLToPath(new URL("../../..", import.meta.url))), []);
});
