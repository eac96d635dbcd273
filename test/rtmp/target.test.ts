import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../../gateway/media/errors.js";
import { parseTarget } from "../../gateway/rtmp/target.js";

const CASES: readonly { args: [string, string, string]; want: [string, string, string, string] }[] = [
  { args: ["live", "rtmp://host/live", "livestream"], want: ["host", "live", "livestream", ""] },
  { args: ["live", "rtmp://host:1935/live", "s?key=1"], want: ["host", "live", "s", "?key=1"] },
  { args: ["live", "rtmps://[::1]:443/live", "s"], want: ["[::1]", "live", "s", ""] },
  { args: ["live?vhost=v", "rtmp://host/live?vhost=v", "s"], want: ["v", "live", "s", "?vhost=v"] },
  { args: ["live", "rtmp://host/live", "s?vhost=v&key=k"], want: ["v", "live", "s", "?vhost=v&key=k"] },
  { args: ["live?a=1", "rtmp://host/live?a=1", "s?b=2"], want: ["host", "live", "s", "?a=1&b=2"] },
  { args: ["live...vhost...v", "rtmp://host/live...vhost...v", "s"], want: ["v", "live", "s", "?vhost=v"] },
  { args: ["live@v", "rtmp://host/live@v", "s"], want: ["v", "live", "s", ""] },
  { args: ["live", "rtmp://host/live", "s@v?k=1"], want: ["v", "live", "s", "?k=1"] },
  { args: ["live?vhost=v/s", "rtmp://host/live?vhost=v/s", "s"], want: ["v", "live", "s", "?vhost=v/s"] },
  { args: ["/live/", "rtmp://host/live/", "/s"], want: ["host", "live", "s", ""] },
  { args: ["live/room", "rtmp://host/live/room", "a/b"], want: ["host", "live/room", "a/b", ""] },
  { args: ["live", "", "s"], want: ["", "live", "s", ""] },
];

for (const { args, want } of CASES) {
  test(`understands ${args.join(" + ")}`, () => {
    const { vhost, app, stream, parameters } = parseTarget(...args);
    assert.deepEqual([vhost, app, stream, parameters], want);
  });
}

for (const [app, stream] of [
  ["", "s"],
  ["live", ""],
  ["live", "?key=1"],
  ["live", "../../etc/passwd"],
  ["live", "a//b"],
  ["live", "a\\b"],
  ["live", "a\u0000b"],
  ["live", "a\nb"],
  ["live", "x".repeat(300)],
  ["live", `s?${"x".repeat(5000)}`],
] as const) {
  test(`refuses ${JSON.stringify([app, stream]).slice(0, 60)}`, () => {
    assert.throws(
      () => parseTarget(app, "rtmp://host/live", stream),
      (error) => error instanceof ProtocolError && error.code === "target-invalid",
    );
  });
}
