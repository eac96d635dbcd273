import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { parseOfferQuery } from "../../gateway/http/offer-query.js";
import { Refusal } from "../../gateway/media/errors.js";

test("whatever the query, what comes out is safe to use in names, logs and SDP, or it is refused", () => {
  const key = fc.constantFrom(
    "app",
    "stream",
    "vhost",
    "eip",
    "candidate",
    "ice-ufrag",
    "ice-pwd",
    "codec",
    "vcodec",
    "acodec",
    "x",
  );
  const value = fc.oneof(
    fc.string({ unit: "grapheme", maxLength: 300 }).map(encodeURIComponent),
    fc
      .uint8Array({ maxLength: 20 })
      .map((bytes) => Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")),
    fc.string({ maxLength: 60 }),
    fc.constantFrom("%00", "%0d%0aa=x", "%ff", "%c0%80", "..%2f..", "192.0.2.1:8000", "[::1]:1", "abcd", "a".repeat(22)),
  );
  const query = fc.array(fc.tuple(key, value).map(([name, text]) => `${name}=${text}`)).map((pairs) => pairs.join("&"));
  fc.assert(
    fc.property(query, (text) => {
      try {
        const { name, candidates, iceUsernameFragment, icePassword, videoCodec, audioCodec } = parseOfferQuery(text);
        for (const part of [name.vhost, name.app, name.stream]) {
          assert.ok(part.length > 0 && part.length <= 255);
          assert.ok(!/\p{Cc}/u.test(part));
          assert.ok(!part.split(/[/\\]/).includes(".."));
        }
        assert.ok(candidates.length <= 8);
        for (const word of [...candidates, iceUsernameFragment, icePassword, videoCodec, audioCodec])
          assert.match(word ?? "a", /^[\w.:[\]+/-]+$/);
      } catch (error) {
        assert.ok(error instanceof Refusal && error.code === "bad-request", String(error));
      }
    }),
    { numRuns: 2_000, seed: 20260601 },
  );
});
