// Names, times and addresses: what playlists are made of, and what comes back in requests.

import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { type FileKind, fileName, parseFileName } from "../../gateway/hls/names.js";
import { isoTime, writeMasterPlaylist } from "../../gateway/hls/playlist.js";
import { parseTarget } from "../../gateway/hls/target.js";
import { Refusal } from "../../gateway/media/errors.js";

const SEED = 20_240_817;

test("times are those of the calendar", () => {
  const times = fc.integer({ min: 0, max: 253_402_300_799_999 }); // to the end of 9999
  fc.assert(
    fc.property(times, (ms) => assert.equal(isoTime(ms), new Date(ms).toISOString())),
    { seed: SEED, numRuns: 2_000 },
  );
  for (const day of ["2000-02-29", "2024-02-29", "2024-12-31", "2025-01-01", "2100-02-28", "2100-03-01"]) {
    assert.equal(isoTime(Date.parse(`${day}T23:59:59.999Z`)), `${day}T23:59:59.999Z`);
  }
});

test("a file's name says what it is, whatever the stream is called", () => {
  const kinds = fc.constantFrom<FileKind>("segment", "part", "initialization", "key");
  fc.assert(
    fc.property(
      fc.string({ minLength: 1, unit: "grapheme" }),
      kinds,
      fc.nat(),
      fc.constantFrom("ts", "fmp4"),
      (stream, kind, number, format) => {
        assert.deepEqual(parseFileName(fileName(stream, "0a1b2c3d", kind, number, format)), {
          stream,
          token: "0a1b2c3d",
          kind,
          number,
        });
      },
    ),
    { seed: SEED },
  );
  for (const name of [
    "x-0a1b2c3d-.ts",
    "x-0a1b2c3d-01.ts",
    "x-0a1b2c3d-i0.ts",
    "x-0a1b2c3d-0.mp4",
    "x-0a1b2c3d-k0.m4s",
    "x-0a1b2c3-0.ts",
    "-0a1b2c3d-0.ts",
  ]) {
    assert.equal(parseFileName(name), undefined, name);
  }
});

test("no address does more than be refused", () => {
  const vhost = { name: "__defaultVhost__", hls: { enabled: true } };
  const pieces = fc.constantFrom(
    "/",
    "..",
    "%2e",
    "%2f",
    "%00",
    "%",
    "live",
    ".m3u8",
    ".m4s",
    "-0a1b2c3d-",
    "p",
    "1",
    "?",
    "\\",
    "é",
    "\u0000",
  );
  const queries = fc.constantFrom(
    "",
    "&",
    "=",
    "_HLS_msn",
    "_HLS_part",
    "hls_ctx",
    "%",
    "1",
    "-1",
    "99999999999999999999",
    "vhost",
    "YES",
    "_HLS_skip",
  );
  fc.assert(
    fc.property(fc.array(pieces), fc.array(queries), (path, query) => {
      try {
        const target = parseTarget(`/${path.join("")}`, query.join(""), "gw.example", () => vhost);
        const name =
          target?.kind === "playlist" ? [target.name.app, target.name.stream] : target?.kind === "file" ? [target.app] : [];
        for (const part of name) assert.ok(!part.split(/[/\\]/).includes("..") && !part.includes("\0"));
      } catch (error) {
        assert.ok(error instanceof Refusal, String(error));
        assert.equal(error.code, "bad-request");
      }
    }),
    { seed: SEED, numRuns: 5_000 },
  );
});

test("the multivariant playlist says the rate that is meant, and leaves out what is not known", () => {
  const variant = { uri: "x.m3u8", bandwidth: { peak: 10, average: 0 }, codecs: [], isIndependent: false };
  const text = (frameRate: number | undefined): string =>
    writeMasterPlaylist({ ...variant, width: undefined, height: undefined, frameRate });
  assert.match(text(29.98), /FRAME-RATE=29\.970/);
  assert.match(text(24.93), /FRAME-RATE=25\.000/);
  assert.match(text(17.34), /FRAME-RATE=17\.300/);
  assert.equal(text(undefined), "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-STREAM-INF:BANDWIDTH=10,AVERAGE-BANDWIDTH=1\nx.m3u8\n");
});
