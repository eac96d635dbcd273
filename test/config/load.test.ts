import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { DEFAULT_VHOST, vhostFor } from "../../gateway/config/config.js";
import { ConfigError } from "../../gateway/config/errors.js";
import { loadConfig } from "../../gateway/config/load.js";

const folder = mkdtempSync(join(tmpdir(), "sluice-config-"));
after(() => rmSync(folder, { recursive: true }));

/** Writes a file into the test's folder and returns its path. */
function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

function load(path: string | undefined, environment: Record<string, string> = {}) {
  return loadConfig({ file: path, environment });
}

function complaint(path: string): string {
  try {
    load(path);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.message;
  }
  assert.fail("nothing is complained about");
}

const shipped = (name: string): string => fileURLToPath(new URL(`../../../conf/${name}`, import.meta.url));

for (const [name, ...bridges] of [
  ["gateway.conf", "RTMP to WebRTC", "WebRTC to RTMP", "HTTP-FLV", "HLS"],
  ["https.conf", "RTMP to WebRTC", "WebRTC to RTMP", "HTTP-FLV", "HLS"],
  ["rtmp2rtc.conf", "RTMP to WebRTC"],
  ["rtc2rtmp.conf", "WebRTC to RTMP", "HTTP-FLV"],
  ["rtc.conf"],
]) {
  test(`conf/${name} serves WebRTC with ${bridges.join(", ") || "no bridge"}, and starts without a warning`, () => {
    const { config, warnings } = load(shipped(name ?? ""));
    assert.deepEqual(warnings, []);
    assert.equal(config.rtcServer.enabled, true);
    const { rtc, httpRemux, hls } = vhostFor(config, DEFAULT_VHOST);
    assert.equal(rtc.enabled, true);
    const bridged = { "RTMP to WebRTC": rtc.rtmpToRtc, "WebRTC to RTMP": rtc.rtcToRtmp };
    const on = { ...bridged, "HTTP-FLV": httpRemux.enabled, HLS: hls.enabled };
    for (const [bridge, isOn] of Object.entries(on)) assert.equal(isOn, bridges.includes(bridge), bridge);
  });
}

test("conf/hls.conf serves HLS, and starts without a warning", () => {
  const { config, warnings } = load(shipped("hls.conf"));
  assert.deepEqual(warnings, []);
  assert.equal(vhostFor(config, DEFAULT_VHOST).hls.enabled, true);
});

test("needs no file", () => {
  const { config } = load(undefined, { SRS_LISTEN: "1936" });
  assert.equal(config.file, undefined);
  assert.equal(config.listen[0]?.port, 1936);
});

test("says that a file is missing, or a folder", () => {
  assert.equal(complaint(join(folder, "none.conf")), `${join(folder, "none.conf")}: cannot be read: no such file`);
  assert.equal(complaint(folder), `${folder}: cannot be read: it is a folder`);
});

test("includes files beside the including one, in order, and takes a pattern that matches none", () => {
  mkdirSync(join(folder, "conf.d"), { recursive: true });
  file("conf.d/b.conf", "vhost b { rtc { enabled on; } }");
  file("conf.d/a.conf", "vhost a { }");
  file("conf.d/.hidden.conf", "nonsense;");
  file("conf.d/c.conf~", "nonsense;");
  const { config } = load(file("main.conf", "include conf.d/*.conf;\ninclude none.d/*.conf;\nrtc_server { enabled on; }"));
  assert.deepEqual([...config.vhosts.keys()], ["a", "b", DEFAULT_VHOST]);
});

test("names the included file in a complaint", () => {
  const inner = file("inner.conf", "\nlisten x;");
  assert.match(complaint(file("outer.conf", "include inner.conf;")), new RegExp(`^${inner}:2: listen: expected`));
  assert.match(
    complaint(file("missing.conf", "\n\ninclude not-there.conf;")),
    /missing\.conf:3: include not-there\.conf: cannot be read: no such file/,
  );
  assert.match(complaint(file("folders.conf", "include */x.conf;")), /for the file's name only/);
});

test("a file that includes itself is a circle", () => {
  assert.match(complaint(file("self.conf", "include self.conf;")), /a circle/);
});

test("finds a key beside the configuration, and complains of one that is not there", () => {
  const key = file("key.pem", "key");
  const cert = file("cert.pem", "cert");
  const text = (name: string) => `http_api { https { enabled on; key key.pem; cert ${name}; } }`;
  assert.deepEqual(load(file("tls.conf", text("cert.pem"))).config.httpApi.https.key, key);
  assert.deepEqual(load(file("tls.conf", text(cert))).config.httpApi.https.cert, cert);
  assert.match(complaint(file("tls.conf", text("none.pem"))), /http_api\.https\.cert: no such file: .*none\.pem/);
});

test("warns of a folder of pages that is not there, and serves without it", () => {
  const { config, warnings } = load(file("dir.conf", "http_server { dir ./objs/nginx/html; }"));
  assert.equal(config.httpServer.dir, "");
  assert.match(warnings[0]?.message ?? "", /http_server\.dir \.\/objs\/nginx\/html: no such folder/);
  assert.equal(load(file("dir.conf", `http_server { dir ${folder}; }`)).config.httpServer.dir, folder);
});
