import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { type Config, DEFAULT_VHOST, vhostFor } from "../../gateway/config/config.js";
import { DIRECTIVE_PATHS, directiveAt, environmentName } from "../../gateway/config/directives.js";
import { ConfigError } from "../../gateway/config/errors.js";
import { parseConfig } from "../../gateway/config/read.js";

type Environment = Readonly<Record<string, string>>;

function config(text: string, environment: Environment = {}): Config {
  return parseConfig(text, { file: "x.conf", environment }).config;
}

function defaultVhost(text: string, environment: Environment = {}) {
  return vhostFor(config(text, environment), DEFAULT_VHOST);
}

/** The lines of the ConfigError that a text leads to. */
function complaints(text: string, environment: Environment = {}): string[] {
  try {
    config(text, environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.message.split("\n");
  }
  assert.fail(`nothing is complained about in: ${text}`);
}

function warnings(text: string, environment: Environment = {}): string[] {
  return parseConfig(text, { file: "x.conf", environment })
    .warnings.filter(({ level }) => level === "warn")
    .map(({ message }) => message);
}

test("an empty configuration has the contract's defaults: RTMP and HTTP on, WebRTC off", () => {
  const empty = config("");
  assert.deepEqual(empty.listen, [{ host: undefined, port: 1935 }]);
  assert.equal(empty.maxConnections, 1000);
  assert.deepEqual([empty.httpApi.enabled, empty.httpApi.listen[0]?.port], [true, 1985]);
  assert.deepEqual([empty.httpServer.enabled, empty.httpServer.listen[0]?.port], [true, 8080]);
  assert.deepEqual([empty.rtcServer.enabled, empty.rtcServer.listen[0]?.port], [false, 8000]);
  assert.deepEqual(empty.rtcServer.candidate, ["*"]);
  assert.equal(empty.rtcServer.protocol, "udp");
  assert.deepEqual(vhostFor(empty, "any.name"), {
    name: DEFAULT_VHOST,
    enabled: true,
    rtc: {
      enabled: false,
      nack: true,
      twcc: true,
      stunTimeout: 30_000,
      dtlsRole: "passive",
      rtmpToRtc: false,
      rtcToRtmp: false,
      bframe: "auto",
      token: "",
      opusBitrate: 64_000,
      aacBitrate: 128_000,
      pliForRtmp: 6_000,
      keepAvcNaluSei: true,
    },
    play: { gopCache: true, gopCacheMaxFrames: 2500, queueLength: 30_000 },
    publish: { firstPacketTimeout: 20_000, normalTimeout: 5_000, grace: 10_000, takeover: "stale" },
    security: { enabled: false, rules: [] },
    httpHooks: { enabled: false, on_publish: [], on_unpublish: [], on_play: [], on_stop: [], on_hls: [] },
    httpRemux: { enabled: false, mount: "[vhost]/[app]/[stream].flv" },
    hls: {
      ...{ enabled: false, fragment: 2_000, window: 30_000, lowLatency: true, part: 200, format: "fmp4", onDemand: "auto" },
      ...{ path: "", cleanup: true, dispose: 120_000, keys: false, fragmentsPerKey: 5 },
    },
  });
});

test("reads vhosts by name, each with its own directives", () => {
  const { vhosts } = config(`
    vhost __defaultVhost__ { rtc { enabled on; stun_timeout 5; } }
    vhost a.example { publish { normal_timeout 700; } play { gop_cache off; queue_length 0.5; } }
  `);
  assert.equal(vhosts.get(DEFAULT_VHOST)?.rtc.stunTimeout, 5_000);
  assert.equal(vhosts.get("a.example")?.rtc.enabled, false);
  assert.equal(vhosts.get("a.example")?.publish.normalTimeout, 700);
  assert.deepEqual(vhosts.get("a.example")?.play, { gopCache: false, gopCacheMaxFrames: 2500, queueLength: 500 });
});

test("listens at ports and addresses, several if need be", () => {
  assert.deepEqual(config("listen 1936 127.0.0.1:1937 [::1]:1938 [::]:0 0.0.0.0:0;").listen, [
    { host: undefined, port: 1936 },
    { host: "127.0.0.1", port: 1937 },
    { host: "::1", port: 1938 },
    { host: "::", port: 0 },
    { host: "0.0.0.0", port: 0 },
  ]);
});

for (const [value, pattern] of [
  ["70000", /expected a port from 0 to 65535, got "70000"/],
  ["-1", /expected PORT, IP:PORT or \[IPv6\]:PORT, one or several, got "-1"/],
  ["", /got nothing|got none/],
  ["127.0.0.1", /the port is missing/],
  ["::1", /stands in brackets: \[::1\]:PORT/],
  ["[127.0.0.1]:80", /"127.0.0.1" is no IP address/],
  ["localhost:80", /"localhost" is no IP address/],
  ["300.1.1.1:80", /"300.1.1.1" is no IP address/],
  ["80 80", /"80" stands there twice/],
  ["80x", /expected PORT/],
] as const) {
  test(`refuses to listen at "${value}"`, () => assert.match(complaints(`listen ${value};`)[0] ?? "", pattern));
}

test("the environment beats the file, and holds for all vhosts", () => {
  const environment = {
    SRS_LISTEN: "1936 127.0.0.1:1937",
    SRS_RTC_SERVER_ENABLED: "on",
    SRS_VHOST_RTC_NACK: "off",
    SRS_VHOST_RTC_ENABLED: "on",
    SRS_HTTP_API_LISTEN: "", // how compose files say "not set"
  };
  const { listen, rtcServer, httpApi, vhosts } = config(
    "listen 1; rtc_server { enabled off; } vhost a { rtc { nack on; } }",
    environment,
  );
  assert.deepEqual(
    listen.map(({ port }) => port),
    [1936, 1937],
  );
  assert.equal(rtcServer.enabled, true);
  assert.equal(httpApi.listen[0]?.port, 1985);
  assert.deepEqual(
    [...vhosts].map(([name, { rtc }]) => [name, rtc.nack, rtc.enabled]),
    [
      ["a", false, true],
      [DEFAULT_VHOST, false, true],
    ],
  );
});

test("every directive has an environment name of its own", () => {
  const names = DIRECTIVE_PATHS.map(environmentName);
  assert.equal(new Set(names).size, names.length);
  assert.equal(environmentName("rtc_server.tcp.enabled"), "SRS_RTC_SERVER_TCP_ENABLED");
  assert.equal(environmentName("vhost.rtc.nack"), "SRS_VHOST_RTC_NACK");
});

test("every default is a value that its own parser takes", () => {
  for (const path of DIRECTIVE_PATHS) {
    const directive = directiveAt(path);
    if (directive?.default !== undefined) assert.doesNotThrow(() => directive.value.parse([directive.default ?? ""]), path);
  }
});

test("a bad value in the environment is named as such, once for all vhosts", () => {
  assert.deepEqual(complaints("vhost a { } vhost b { }", { SRS_VHOST_RTC_NACK: "yes" }), [
    'environment SRS_VHOST_RTC_NACK: expected on or off, got "yes"',
  ]);
});

test("a mistyped environment name gives a warning with the nearest one", () => {
  assert.deepEqual(warnings("", { SRS_RTC_SERVER_CANDIDTE: "1.2.3.4", SRS_DAEMON: "off", PATH: "/bin" }), [
    "environment SRS_RTC_SERVER_CANDIDTE: no directive has this name, it is ignored; did you mean SRS_RTC_SERVER_CANDIDATE?",
  ]);
});

test("$NAME reads the environment; a candidate that is not set means detect", () => {
  const text = "rtc_server { candidate $CANDIDATE; }";
  assert.deepEqual(config(text, { CANDIDATE: "192.0.2.7" }).rtcServer.candidate, ["192.0.2.7"]);
  assert.deepEqual(config(text, { CANDIDATE: "192.0.2.7 gw.example,[2001:db8::1]" }).rtcServer.candidate, [
    "192.0.2.7",
    "gw.example",
    "2001:db8::1",
  ]);
  assert.deepEqual(config(text).rtcServer.candidate, ["*"]);
  assert.deepEqual(config(text, { CANDIDATE: "" }).rtcServer.candidate, ["*"]);
  assert.deepEqual(config("rtc_server { candidate 0.0.0.0; }").rtcServer.candidate, ["*"]);
  assert.deepEqual(complaints("\nlisten $PORT;"), ["x.conf:2: listen: the environment variable PORT is not set"]);
  assert.equal(config("ffmpeg '$HOME';").ffmpeg, "$HOME");
});

test("a path from the environment may hold spaces", () => {
  assert.equal(config("", { SRS_FFMPEG: "/opt/my tools/ffmpeg" }).ffmpeg, "/opt/my tools/ffmpeg");
});

const WRONG: readonly (readonly [what: string, text: string, expected: string[]])[] = [
  [
    "a mistyped directive",
    "vhost a {\n rtc {\n  rtmp_to_rtx on;\n } }",
    ['x.conf:3: unknown directive "rtmp_to_rtx" in vhost.rtc; did you mean "rtmp_to_rtc"?'],
  ],
  ["a mistyped block", "rtc_sever { enabled on; }", ['x.conf:1: unknown directive "rtc_sever"; did you mean "rtc_server"?']],
  ["a directive in the wrong place", "rtmp_to_rtc on;", ['x.conf:1: unknown directive "rtmp_to_rtc"; it belongs in vhost.rtc']],
  [
    "a mistyped directive in the wrong place",
    "rtc_server { rtmp_to_rt on; }",
    ['x.conf:1: unknown directive "rtmp_to_rt" in rtc_server; did you mean "rtmp_to_rtc"? It belongs in vhost.rtc'],
  ],
  ["what is like nothing", "frobnicate 1;", ['x.conf:1: unknown directive "frobnicate"']],
  [
    "a bad word",
    "vhost a { rtc { bframe drp; } }",
    ['x.conf:1: vhost.rtc.bframe: expected one of auto, drop, transcode, keep, got "drp"; did you mean "drop"?'],
  ],
  ["a bad flag", "http_api { enabled true; }", ['x.conf:1: http_api.enabled: expected on or off, got "true"']],
  [
    "a number out of range",
    "vhost a { rtc { opus_bitrate 64; pli_for_rtmp 0.1; } }",
    [
      'x.conf:1: vhost.rtc.opus_bitrate: expected a whole number from 8000 to 320000 (bit/s), got "64"',
      'x.conf:1: vhost.rtc.pli_for_rtmp: expected seconds from 0.5 to 30, got "0.1"',
    ],
  ],
  ["too many values", "max_connections 1 2;", [/got 2 values: 1 2/.source]],
  ["a duplicate", "listen 1;\nlisten 2;", ["x.conf:2: listen: it is already set at x.conf:1; it may stand there once"]],
  ["a vhost twice", "vhost a { }\nvhost a { }", ["x.conf:2: vhost a already has a block at x.conf:1"]],
  [
    "a vhost without a name",
    "vhost { }",
    ["x.conf:1: vhost: expected one name and a block, as in: vhost __defaultVhost__ { … }"],
  ],
  ["a block where a value belongs", "listen { }", ['x.conf:1: "listen" takes a value and ";", not a block']],
  ["a value where a block belongs", "rtc_server on;", ['x.conf:1: "rtc_server" is a block: expected "{" after it']],
  ["a named block that has no name", "rtc_server x { }", ['x.conf:1: "rtc_server" takes no name before "{", got "x"']],
  ["a candidate with a port", "rtc_server { candidate 192.0.2.1:8000; }", [/no port, no URL/.source]],
  ["a candidate that is no address", "rtc_server { candidate 300.1.1.1; }", [/got "300.1.1.1"/.source]],
  [
    "RTMP and HTTP at one port",
    "listen 1985;",
    ["x.conf:1: port 1985 is wanted by both listen and http_api.listen; give one of them another port"],
  ],
  ["a key without certificate", "http_api { https { key a.pem; } }", [/http_api.https.cert is missing/.source]],
  [
    "several things at once, in the order of the file",
    "listen x;\nfoo;\nmax_connections 0;",
    [/^x.conf:1: listen/.source, /^x.conf:2: unknown directive "foo"/.source, /^x.conf:3: max_connections/.source],
  ],
];

for (const [what, text, expected] of WRONG) {
  test(`complains about ${what}`, () => {
    const found = complaints(text);
    assert.equal(found.length, expected.length, found.join("\n"));
    found.forEach((line, index) => {
      const wanted = expected[index] ?? "";
      if (line !== wanted) assert.match(line, new RegExp(wanted));
    });
  });
}

test("finds the missing ; also where the next line is no known name", () => {
  assert.match(complaints("max_connections 10\nlissten 1935;")[0] ?? "", /is a ";" missing at the end of line 1\?/);
});

test("lets the HTTP API and the HTTP server share a port", () => {
  assert.equal(config("http_api { listen 8080; }").httpApi.listen[0]?.port, 8080);
});

test("different addresses may have the same port", () => {
  assert.doesNotThrow(() => config("listen 127.0.0.1:9000; http_api { listen 127.0.0.2:9000; }"));
  assert.match(complaints("listen 127.0.0.1:9000; http_api { listen 9000; }")[0] ?? "", /wanted by both/);
});

test("reads keep_bframe and srs_log_level as what they mean here", () => {
  assert.equal(defaultVhost("vhost __defaultVhost__ { rtc { keep_bframe on; } }").rtc.bframe, "keep");
  assert.equal(defaultVhost("vhost __defaultVhost__ { rtc { keep_bframe off; } }").rtc.bframe, "auto");
  assert.equal(defaultVhost("", { SRS_VHOST_RTC_KEEP_BFRAME: "on" }).rtc.bframe, "keep");
  assert.equal(config("srs_log_level trace;").logLevel, "info");
  assert.equal(config("srs_log_level_v2 warn;").logLevel, "warn");
  assert.match(complaints("vhost a { rtc { bframe drop; keep_bframe on; } }")[0] ?? "", /already set/);
});

test("says once what is switched on and not yet there", () => {
  const found = warnings(`
    vhost a { dvr { enabled on; dvr_plan session; } }
    vhost b { dvr { enabled on; } forward { enabled off; } }
  `);
  assert.deepEqual(found, ["x.conf:2: vhost.dvr.enabled on: accepted, not yet in this version"]);
});

test("takes the HLS section of SRS's own files", () => {
  const text = `vhost __defaultVhost__ {
    hls {
      enabled on; hls_fragment 10; hls_td_ratio 1.0; hls_aof_ratio 2.1; hls_window 60; hls_on_error continue; hls_path ./objs/nginx/html;
      hls_m3u8_file [app]/[stream].m3u8; hls_ts_file [app]/[stream]-[seq].ts; hls_use_fmp4 off; hls_acodec aac; hls_vcodec h264;
      hls_cleanup on; hls_dispose 120; hls_nb_notify 64; hls_wait_keyframe on; hls_keys off; hls_fragments_per_key 5; hls_ctx on;
    }
  }`;
  assert.deepEqual(warnings(text), []);
  const { hls } = defaultVhost(text);
  assert.deepEqual([hls.fragment, hls.window, hls.format, hls.path], [10_000, 60_000, "ts", "./objs/nginx/html"]);
  assert.match(complaints("vhost a { hls { hls_fragmnt 2; } }")[0] ?? "", /did you mean "hls_fragment"/);
  assert.equal(defaultVhost("", { SRS_VHOST_HLS_HLS_PART: "0.5" }).hls.part, 500);
});

test("refuses to start without a protection that is switched on and not yet there", () => {
  const dangerous = DIRECTIVE_PATHS.filter((path) => directiveAt(path)?.danger !== undefined);
  for (const path of dangerous) {
    assert.equal(directiveAt(path)?.status, "later", path);
    const [, block, name] = path.split(".");
    assert.match(
      complaints(`\nvhost a { ${block} { ${name} on; } }`)[0] ?? "",
      /^x\.conf:2: .* not yet in this version, and without it/,
    );
    assert.match(complaints("", { [environmentName(path)]: "on" })[0] ?? "", /^environment SRS_VHOST_.* not yet/);
    assert.deepEqual(warnings(`vhost a { ${block} { ${name} off; } }`), []);
  }
});

test("reads the rules of security in the order of the file, over both directives", () => {
  const { security } = defaultVhost(`vhost __defaultVhost__ { security {
    enabled on;
    allow play 10.0.0.7;
    deny play 10.0.0.0/8 2001:DB8::/32;
    allow play all;
    allow publish ::ffff:192.0.2.1;
  } }`);
  assert.equal(security.enabled, true);
  assert.deepEqual(
    security.rules.map(({ effect, action, network }) => `${effect} ${action} ${network}`),
    ["allow play 10.0.0.7/32", "deny play 10.0.0.0/8", "deny play 2001:db8::/32", "allow play all", "allow publish 192.0.2.1/32"],
  );
});

test("rules of the environment stand before those of the file, deny first", () => {
  const environment = {
    SRS_VHOST_SECURITY_ENABLED: "on",
    SRS_VHOST_SECURITY_ALLOW: "play all publish 10.0.0.0/8",
    SRS_VHOST_SECURITY_DENY: "play 192.0.2.1",
  };
  for (const text of ["", "vhost __defaultVhost__ { security { allow publish all; } }"]) {
    const { rules } = defaultVhost(text, environment).security;
    const last = text === "" ? [] : ["allow publish all"];
    assert.deepEqual(
      rules.map(({ effect, action, network }) => `${effect} ${action} ${network}`),
      ["deny play 192.0.2.1/32", "allow play all", "allow publish 10.0.0.0/8", ...last],
    );
  }
});

test("says what is wrong with a rule of security", () => {
  for (const [rule, expected] of [
    ["allow", /got nothing$/],
    ["allow all", /got "all"$/],
    ["allow plya all", /got "plya"; did you mean "play"\?/],
    ["deny play", /got nothing after "play"/],
    ["deny play publish all", /got nothing after "play"/],
    ["deny play 10.0.0.0/33", /got "10.0.0.0\/33" after "play"/],
    ["deny play 10.0.0", /got "10.0.0" after "play"/],
    ["deny play 10.0.0.1/", /got/],
    ["deny play 2001:db8::/129", /got/],
    ["deny play fe80::1%eth0", /got/],
    ["deny play example.com", /got/],
  ] as const) {
    assert.match(complaints(`vhost a { security { ${rule}; } }`)[0] ?? "", expected, rule);
  }
});

test("warns of security that lets nobody in, and of rules that do not hold", () => {
  assert.deepEqual(warnings("vhost a { security { enabled on; allow publish all; deny play all; } }"), [
    "vhost a: security is enabled and allows nobody to play",
  ]);
  assert.match(warnings("vhost a { security { deny play all; } }")[0] ?? "", /is not enabled/);
  assert.deepEqual(warnings("vhost a { security { enabled on; allow publish 10.0.0.1; allow play all; } }"), []);
});

test("the API's auth needs something to compare with", () => {
  const { auth } = config("http_api { auth { enabled on; username admin; password $PASSWORD; } }", {
    PASSWORD: "two words",
  }).httpApi;
  assert.deepEqual(auth, { enabled: true, username: "admin", password: "two words", token: "" });
  assert.equal(config("http_api { auth { enabled on; token abc; } }").httpApi.auth.token, "abc");
  assert.match(
    complaints("http_api { auth { enabled on; } }")[0] ?? "",
    /^x\.conf:1: http_api\.auth\.enabled on: nobody could get in/,
  );
  assert.match(complaints("http_api { auth { enabled on; username admin; } }")[0] ?? "", /password is missing/);
  assert.match(complaints("", { SRS_HTTP_API_AUTH_ENABLED: "on" })[0] ?? "", /nobody could get in/);
});

test("warns of halves that do nothing", () => {
  assert.match(warnings("vhost a { rtc { enabled on; } }")[0] ?? "", /rtc_server is not/);
  assert.match(warnings("rtc_server { enabled on; }")[0] ?? "", /no vhost has rtc/);
  assert.match(
    warnings("rtc_server { enabled on; } http_api { enabled off; } vhost a { rtc { enabled on; } }")[0] ?? "",
    /http_api is not/,
  );
});

test("reads hooks and the mount of HTTP-FLV, and says what is wrong with them", () => {
  const vhost = vhostFor(
    config(`vhost __defaultVhost__ {
      http_hooks { enabled on; on_publish http://127.0.0.1:8085/a https://b.example/c; on_stop http://d/; }
      http_remux { enabled on; mount /[app]/[stream]/index.flv; }
    }`),
    DEFAULT_VHOST,
  );
  assert.deepEqual(vhost.httpHooks.on_publish, ["http://127.0.0.1:8085/a", "https://b.example/c"]);
  assert.deepEqual([vhost.httpHooks.on_play, vhost.httpHooks.on_stop], [[], ["http://d/"]]);
  assert.deepEqual(vhost.httpRemux, { enabled: true, mount: "/[app]/[stream]/index.flv" });
  for (const [text, expected] of [
    ["http_hooks { on_publish localhost:80/x; }", /URLs/],
    ["http_hooks { on_publish http://; }", /URLs/],
    ["http_hooks { on_pblish http://x/; }", /on_publish/],
    ["http_remux { mount [vhost]/[app].flv; }", /\[stream\]/],
    ["http_remux { mount [app]/[stream].ts; }", /\.flv/],
    ["http_remux { mount [app]/[vhost]/[stream].flv; }", /\[stream\]/],
  ] as const) {
    assert.throws(() => config(`vhost a { ${text} }`), expected, text);
  }
});

test("takes files that were written for SRS", () => {
  const { config: loaded, warnings: notes } = parseConfig(SRS_FILE, { file: "srs.conf", environment: {} });
  assert.equal(loaded.rtcServer.enabled, true);
  assert.equal(vhostFor(loaded, DEFAULT_VHOST).rtc.rtmpToRtc, true);
  const warned = notes.filter(({ level }) => level === "warn").map(({ message }) => message);
  assert.ok(
    warned.every((message) => message.endsWith("accepted, not yet in this version")),
    warned.join("\n"),
  );
  assert.match(notes.find(({ level }) => level === "info")?.message ?? "", /daemon .*srs_log_tank .*stats/);
});

/** The directives that the ready-made files of that server have, put together anew. */
const SRS_FILE = `
listen 1935;  max_connections 1000;  daemon off;  pid ./objs/srs.pid;
srs_log_tank console;  srs_log_file ./objs/srs.log;  ff_log_dir ./objs;  chunk_size 60000;  in_docker off;
http_server { enabled on;  listen 8080;  dir ./objs/nginx/html; }
http_api { enabled on;  listen 1985;  raw_api { enabled off; } }
stats { network 0;  disk sda sdb; }
heartbeat { enabled off;  interval 9.3;  url http://127.0.0.1:8085/api/v1/servers; }
stream_caster { enabled off;  caster mpegts_over_udp; }
stream_caster { enabled off;  caster gb28181; sip { enabled on; } }
srt_server { enabled off; }
rtc_server { enabled on;  listen 8000; # UDP port
  candidate $CANDIDATE;  reuseport 1;  encrypt on;
}
vhost __defaultVhost__ {
  tcp_nodelay on;  min_latency on;  mw_latency 100;  gop_cache off;  queue_length 10;
  mr { enabled off; }
  play { gop_cache_max_frames 100;  mw_latency 0;  time_jitter full; }
  publish { mr off;  parse_sps on; }
  rtc { enabled on;  aac transcode;  stun_strict_check on;  dtls_version auto;  rtmp_to_rtc on;  rtc_to_rtmp on; }
  http_remux { enabled on;  mount [vhost]/[app]/[stream].flv;  fast_cache 30; }
}
`;

test("whatever the text, there is a configuration or a ConfigError with a place", () => {
  const words = DIRECTIVE_PATHS.flatMap((path) => path.split("."));
  const piece = fc.constantFrom(...words, "on", "off", "1935", "-1", "x", "$X", ";", ";", "{", "}", "\n", '"', "#");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      try {
        assert.ok(config(pieces.join(" ")).vhosts.has(DEFAULT_VHOST));
      } catch (error) {
        assert.ok(error instanceof ConfigError, String(error));
        for (const { file, line } of error.problems) assert.ok(file === "x.conf" && line !== undefined && line > 0);
      }
    }),
    { numRuns: 3000 },
  );
});

test("HTTPS may be enabled without key and certificate: a self-signed pair is made then", () => {
  const { https } = parseConfig("http_api { https { enabled on; } }").config.httpApi;
  assert.deepEqual([https.enabled, https.key, https.cert], [true, "", ""]);
});
