// The one table of directives: path, parser, default, meaning. Defaults, environment names, the typed configuration, the checks of a
// file and the manual (conf/full.conf) all come from here.

import {
  accessRules,
  addresses,
  candidates,
  choice,
  choiceWith,
  flag,
  integer,
  milliseconds,
  mountPath,
  seconds,
  text,
  texts,
  urls,
  type ValueParser,
} from "./values.js";

export type Directive<T = unknown> = {
  readonly value: ValueParser<T>;
  /** The default as it would stand in a file; undefined: none, the directive simply is not there. */
  readonly default: string | undefined;
  /** One paragraph: what it does and what follows from changing it. */
  readonly meaning: string;
  /** `later`: known and checked, and not at work in this version; switching it on gives a warning, or an error: see `danger`. */
  readonly status: "ready" | "later";
  /** May stand several times in its block; then its value is a list, and the lists are joined. */
  readonly repeats: boolean;
  /** What an unset `$NAME` means here. Default: it is an error. */
  readonly unset?: string;
  /** Shown in the manual where there is no default. */
  readonly example?: string;
  /** Of a `later` directive that protects something: what would happen without it. Switching it on is then an error. */
  readonly danger?: string;
};

type Extra = Partial<Pick<Directive, "repeats" | "unset" | "example" | "danger">>;

function ready<T>(value: ValueParser<T>, fallback: string | undefined, meaning: string, extra: Extra = {}): Directive<T> {
  return { value, default: fallback, meaning, status: "ready", repeats: false, ...extra };
}

function later<T>(value: ValueParser<T>, fallback: string | undefined, meaning: string, extra: Extra = {}): Directive<T> {
  return { value, default: fallback, meaning, status: "later", repeats: false, ...extra };
}

const HTTPS_KEY = `PEM file of the private key; a relative path starts at the working directory, or else at the configuration file's
folder. With neither key nor certificate those of another section that has them are used, else a self-signed pair is made and kept
in data_dir; browsers and encoders warn of it or refuse it until it is trusted, so for others take one from your usual authority. Files
that change are used for new connections within seconds.`;

const hook = (what: string): string => `URLs that get a POST ${what}; several are asked one after another.`;

/** Every directive by its path, in the order of the manual. `vhost.…` stands in each `vhost NAME { … }`. */
export const DIRECTIVES = {
  listen: ready(
    addresses,
    "1935",
    `Where RTMP is served: PORT, IP:PORT or [IPv6]:PORT, several if need be. Without an IP it is every address of the machine. A port
    that is taken ends the start with a message. Port 0 takes any free port.`,
  ),
  max_connections: ready(
    integer(1, 1_000_000),
    "1000",
    `How many publishers and viewers of all protocols may be connected at once. Over it a client is refused with that reason, and those
    who are connected are not disturbed.`,
  ),
  ffmpeg: ready(
    text,
    "",
    `Path or name of the ffmpeg that converts audio (AAC and Opus) and re-encodes video with B-frames. Empty: the first one on PATH,
    and then the one of the package @ffmpeg-installer/ffmpeg. Without any, video still plays over WebRTC and audio does not.`,
  ),
  data_dir: ready(
    text,
    "sluice-data",
    `Folder for what the gateway itself keeps: the self-signed certificate. A relative path starts at the working directory. It is made
    when something is to be kept; where it cannot be written, a warning says so and the certificate is another one after each start.`,
  ),
  log_level: ready(
    choiceWith({ verbose: "trace" }, "trace", "debug", "info", "warn", "error"),
    "info",
    `How much is logged: each level includes those after it. info has a line when a session opens and one when it closes; debug tells
    why; trace names single messages and is for a developer.`,
  ),
  log_format: ready(
    choice("text", "json"),
    "text",
    "How the log on standard error looks: text is one readable line per event; json is one object per line, for programs that collect logs.",
  ),

  "rtmps.enabled": ready(flag, "off", "Whether RTMP over TLS is served beside plain RTMP, on a port of its own."),
  "rtmps.listen": ready(addresses, "1443", "Where RTMPS is served."),
  "rtmps.key": ready(text, "", HTTPS_KEY),
  "rtmps.cert": ready(text, "", "PEM file of the certificate and the chain above it, see rtmps.key."),

  "http_api.enabled": ready(
    flag,
    "on",
    "Whether the HTTP API is served. WHIP and WHEP are part of it, so that without it no browser can publish or watch over WebRTC.",
  ),
  "http_api.listen": ready(
    addresses,
    "1985",
    "Where the API is served. It may be the port of http_server: one listener then serves both.",
  ),
  "http_api.crossdomain": ready(
    flag,
    "on",
    "Whether pages of other origins may call the API (CORS). Off: only pages that this gateway serves on the same port can.",
  ),
  "http_api.auth.enabled": ready(
    flag,
    "off",
    `Whether /api/v1/ and /metrics ask for a name and password (HTTP Basic), or a token (bearer), or either when both are set; browsers then ask for the
    name and password. Off: everybody who reaches the port can list and kick clients. WHIP, WHEP and media are not part of it: they
    have security and http_hooks.`,
  ),
  "http_api.auth.username": ready(text, "", "Name for HTTP Basic."),
  "http_api.auth.password": ready(
    text,
    "",
    `Password for HTTP Basic; $NAME keeps it out of the file. Without HTTPS it crosses the network readable.`,
  ),
  "http_api.auth.token": ready(
    text,
    "",
    "Token for programs, sent as Authorization: Bearer TOKEN; $NAME keeps it out of the file.",
  ),
  "http_api.https.enabled": ready(
    flag,
    "off",
    "Whether the API is served over HTTPS too. Browsers give camera and microphone only to pages of https:// or of localhost.",
  ),
  "http_api.https.listen": ready(
    addresses,
    "1990",
    "Where the API is served over HTTPS. It may be the address of http_api.listen, of http_server, or of rtc_server.tcp: the first bytes of a connection decide.",
  ),
  "http_api.https.key": ready(text, "", HTTPS_KEY),
  "http_api.https.cert": ready(text, "", "PEM file of the certificate and the chain above it, see http_api.https.key."),

  "http_server.enabled": ready(
    flag,
    "on",
    "Whether the pages (landing page, players) are served, and with them media over HTTP.",
  ),
  "http_server.listen": ready(
    addresses,
    "8080",
    "Where pages are served. It may be the port of http_api: one listener then serves both.",
  ),
  "http_server.dir": ready(
    text,
    "",
    `Folder with files of your own, served beside the built-in pages; a relative path starts at the working directory. Empty: none.
    A folder that is not there is named in a warning at start.`,
  ),
  "http_server.crossdomain": ready(flag, "on", "Whether pages of other origins may fetch from this server (CORS)."),
  "http_server.https.enabled": ready(
    flag,
    "off",
    "Whether pages are served over HTTPS too. Browsers give camera and microphone only to pages of https:// or of localhost.",
  ),
  "http_server.https.listen": ready(
    addresses,
    "8088",
    "Where pages are served over HTTPS. It may be the address of http_server.listen, of http_api, or of rtc_server.tcp.",
  ),
  "http_server.https.key": ready(text, "", HTTPS_KEY),
  "http_server.https.cert": ready(text, "", "PEM file of the certificate and the chain above it, see http_server.https.key."),

  "signaling.enabled": ready(
    flag,
    "off",
    `Whether rooms are served: pages meet by a WebSocket to /sig/v1/rtc on the HTTP server's port (and its HTTPS port), and their media
    goes by WHIP and WHEP with the room as app and the participant as stream. Needs http_server, and WebRTC for the media.`,
  ),
  "signaling.max_rooms": ready(integer(1, 100_000), "1000", "How many rooms there may be at once; an empty one is freed."),
  "signaling.max_participants": ready(
    integer(2, 1_000),
    "50",
    "How many participants a room may have. Each watches every other one, so media grows with the square of it.",
  ),
  "signaling.standalone.enabled": ready(
    flag,
    "off",
    "Whether signaling is served on a port of its own too, for older clients that look for it at 1989.",
  ),
  "signaling.standalone.listen": ready(addresses, "1989", "Where that is. Plain HTTP: pages of https:// cannot use it."),

  "transcode.enabled": ready(
    flag,
    "off",
    `Whether a room may be made one live stream by POST /api/v1/rooms/ROOM/live: an ffmpeg child mixes the pictures and sounds of all
    participants into ROOM/merge (about a third of a core). It plays and publishes as a client from this machine, so security and hooks
    must let 127.0.0.1 do so. Whoever may use the API may start it.`,
  ),
  "transcode.max_children": ready(integer(1, 100), "2", "How many rooms may be mixed at once."),

  "rtc_server.enabled": ready(
    flag,
    "off",
    "Whether WebRTC is served at all. A vhost's rtc must be enabled too. Off: WHIP and WHEP are answered with that reason.",
  ),
  "rtc_server.listen": ready(
    addresses,
    "8000",
    `The UDP port of all WebRTC sessions; it must be open in the firewall. An address binds to that one only; else one socket is bound
    on each address of the machine, so that answers leave from the address that was asked.`,
  ),
  "rtc_server.protocol": ready(
    choice("udp", "tcp", "all"),
    "udp",
    `Which candidates an answer offers: udp, tcp, or all for both, where clients take UDP if they can reach it. tcp and all need
    rtc_server.tcp to be enabled.`,
  ),
  "rtc_server.candidate": ready(
    candidates,
    "*",
    `The addresses that clients are told to send media to: IP addresses or host names. * finds them by itself from the interfaces.
    Behind NAT or in a container it must be the address that viewers can reach: candidate 203.0.113.7; or candidate $CANDIDATE; when
    that variable is not set, it is *. A wrong one shows as a player that stays black and then says it cannot connect.`,
    { unset: "*" },
  ),
  "rtc_server.use_auto_detect_network_ip": ready(
    flag,
    "on",
    "Whether candidate * offers the addresses of the network interfaces. Off: only what the API request's host gives.",
  ),
  "rtc_server.ip_family": ready(choice("ipv4", "ipv6", "all"), "ipv4", "Which addresses of the interfaces candidate * offers."),
  "rtc_server.api_as_candidates": ready(
    flag,
    "on",
    "Whether the host that the API was asked at is a candidate too: who reaches the API by an address usually reaches media there.",
  ),
  "rtc_server.resolve_api_domain": ready(
    flag,
    "on",
    "Whether that host, when it is a name, is resolved to an address for the candidate.",
  ),
  "rtc_server.keep_api_domain": ready(
    flag,
    "off",
    "Whether that name is also offered as it is. Some clients resolve it themselves; Firefox ignores names.",
  ),
  "rtc_server.ecdsa": ready(
    flag,
    "on",
    "Whether the DTLS certificate has an ECDSA P-256 key. Off: RSA-2048, for clients too old for it; each handshake then costs more.",
  ),
  "rtc_server.whep_compat": ready(
    flag,
    "off",
    "Whether WHEP answers as older test suites expect: 404 for a stream that is not live (else 409), 405 for GET.",
  ),
  "rtc_server.tcp.enabled": ready(
    flag,
    "off",
    `Whether media may also come and go over TCP (ICE-TCP), for networks that block UDP. It takes rtc_server.protocol tcp or all for
    clients to be told. A viewer that cannot keep up over TCP falls forward to the next key frame.`,
  ),
  "rtc_server.tcp.listen": ready(
    addresses,
    "8000",
    "The TCP port for that. It may be an address of http_api or http_server, plain or HTTPS, given in the same words: one listener then serves all.",
  ),

  "vhost.enabled": ready(flag, "on", "Whether this vhost is served. Off: publishing to it and playing from it are refused."),

  "vhost.rtc.enabled": ready(flag, "off", "Whether streams of this vhost can be published and watched over WebRTC."),
  "vhost.rtc.nack": ready(
    flag,
    "on",
    "Whether lost packets are sent again (NACK), in both directions. Off: every loss shows until the next key frame.",
  ),
  "vhost.rtc.twcc": ready(
    flag,
    "on",
    "Whether transport-wide congestion control is negotiated. Off: publishing browsers lower their picture for want of feedback.",
  ),
  "vhost.rtc.stun_timeout": ready(
    seconds(1, 3600),
    "30",
    "Seconds without any packet from a WebRTC client after which its session ends.",
  ),
  "vhost.rtc.dtls_role": ready(
    choice("passive", "active"),
    "passive",
    "Which side the gateway takes in the DTLS handshake when the offer leaves it open (actpass). passive waits for the client.",
  ),
  "vhost.rtc.rtmp_to_rtc": ready(
    flag,
    "off",
    `Whether what is published over RTMP can be watched over WebRTC. Video is passed on as it is, AAC becomes Opus by one ffmpeg child
    per stream, which runs only while somebody watches.`,
  ),
  "vhost.rtc.rtc_to_rtmp": ready(
    flag,
    "off",
    "Whether what is published over WebRTC can be watched over RTMP, HTTP-FLV and HLS; Opus becomes AAC by one ffmpeg child per stream.",
  ),
  "vhost.rtc.bframe": ready(
    choiceWith({ discard: "drop" }, "auto", "drop", "transcode", "keep"),
    "auto",
    `What happens to B-frames, which WebRTC cannot show, on the way from RTMP. auto: a stream that has them is re-encoded while somebody
    watches over WebRTC and the machine has room, else they are dropped. transcode: always re-encoded (13 to 25 % of a core at 720p25).
    drop: what is not referenced is left out, the frame rate falls to about half. keep: passed on, for native viewers only; browsers
    then show about one frame a second. Encoders that send none (x264's zerolatency) need none of it.`,
  ),
  "vhost.rtc.token": ready(
    text,
    "",
    `Token that publishers and viewers over WebRTC must show, as Authorization: Bearer TOKEN (OBS and others by WHIP) or as ?token=TOKEN
    (pages, older signaling); $NAME keeps it out of the file. A session begun by the header wants it for PATCH and DELETE too. Empty: none
    is asked for; what a client sends is given to the hooks as token= in param either way.`,
  ),
  "vhost.rtc.opus_bitrate": ready(
    integer(8_000, 320_000, "bit/s"),
    "64000",
    "Bits per second of the Opus that viewers over WebRTC get.",
  ),
  "vhost.rtc.aac_bitrate": ready(
    integer(8_000, 320_000, "bit/s"),
    "128000",
    "Bits per second of the AAC that Opus is converted to.",
  ),
  "vhost.rtc.pli_for_rtmp": ready(
    seconds(0.5, 30),
    "6.0",
    `Seconds between key frames that a WebRTC publisher is asked for while its stream is converted for RTMP, FLV or HLS. Shorter: those
    viewers join sooner and the publisher spends more of its bit rate on key frames.`,
  ),
  "vhost.rtc.keep_avc_nalu_sei": ready(
    flag,
    "on",
    "Whether SEI units (captions, time codes) of H.264 are passed on to viewers over WebRTC.",
  ),

  "vhost.play.gop_cache": ready(
    flag,
    "on",
    `Whether the frames since the last key frame are kept, so that a new viewer has a picture at once. Off: it waits for the next key
    frame, and memory per stream is smaller.`,
  ),
  "vhost.play.gop_cache_max_frames": ready(
    integer(1, 100_000),
    "2500",
    "How many frames are kept at most; a longer group of pictures is not kept, and new viewers wait for the next key frame.",
  ),
  "vhost.play.queue_length": ready(
    seconds(0.5, 120),
    "30",
    "Seconds that a viewer over RTMP or HTTP may lag behind before it falls forward to the next key frame.",
  ),

  "vhost.publish.firstpkt_timeout": ready(
    milliseconds(100, 600_000),
    "20000",
    "Milliseconds that a publisher may take for its first picture or sound; then its session ends with that reason.",
  ),
  "vhost.publish.normal_timeout": ready(
    milliseconds(100, 600_000),
    "5000",
    "Milliseconds that a publisher may be silent after that; then its session ends, and the stream waits for it (grace).",
  ),
  "vhost.publish.grace": ready(
    milliseconds(0, 600_000),
    "10000",
    "Milliseconds that viewers stay connected after the publisher has left; when it comes back meanwhile, they just go on watching.",
  ),
  "vhost.publish.takeover": ready(
    choice("on", "stale", "off"),
    "stale",
    `Who may publish a stream that is live. stale: whoever comes once its publisher has fallen silent (2 seconds ago, or when nothing
    comes while the newcomer waits 0.9 seconds), which is how an encoder comes back after its network changed; on: everybody, the newest
    wins; off: nobody, a second publisher is always refused.`,
  ),

  "vhost.http_remux.enabled": ready(
    flag,
    "off",
    `Whether streams of this vhost can be watched over HTTP-FLV and WebSocket-FLV, on the HTTP server's port: http://host/app/stream.flv,
    with ?only=audio or ?only=video for one track alone.`,
  ),
  "vhost.http_remux.mount": ready(
    mountPath,
    "[vhost]/[app]/[stream].flv",
    "The path streams are found at. [stream] must be in it; [vhost] stands for the host's name and is no part of the path.",
  ),

  "vhost.hls.enabled": ready(
    flag,
    "off",
    `Whether streams of this vhost can be watched over HLS, on the HTTP server's port: http://host/app/stream.m3u8, low latency where the
    player can, plain HLS where it cannot. What is published over WebRTC needs rtc { rtc_to_rtmp on; } too.`,
  ),
  "vhost.hls.hls_fragment": ready(
    seconds(0.5, 60),
    "2",
    `Seconds per segment: a segment ends at the first key frame after it, so with key frames further apart segments are as long as those
    distances; a WebRTC publisher is asked for one each time. Plain players stay about three segments behind.`,
  ),
  "vhost.hls.hls_window": ready(
    seconds(1, 3600),
    "30",
    `Seconds of segments that a playlist holds, never under three segments. They are kept in memory: 30 s of 6 Mbit/s are 23 MB.`,
  ),
  "vhost.hls.hls_low_latency": ready(
    flag,
    "on",
    `Whether segments are also given away part by part while they are made (RFC 8216bis): about two seconds of delay in players that know it;
    others ignore it. Off: fewer requests, more delay.`,
  ),
  "vhost.hls.hls_part": ready(
    seconds(0.1, 2),
    "0.2",
    "Seconds of a part, about: it is made of whole frames. Shorter: less delay, more requests from each viewer.",
  ),
  "vhost.hls.hls_format": ready(
    choice("ts", "fmp4"),
    "fmp4",
    `What segments are: fmp4 plays in every player of the last years and carries H.264, H.265, AV1, AAC and Opus; ts (MPEG-TS) plays in the
    oldest too and carries H.264, H.265 and AAC.`,
  ),
  "vhost.hls.hls_path": ready(
    text,
    "",
    `Folder to which segments and playlists are also written, for another web server or a CDN: PATH/app/stream.m3u8, without parts. Files
    appear whole. A relative path starts at the working directory. Empty: nothing is written. When the disk is full viewers of this
    gateway notice nothing.`,
  ),
  "vhost.hls.hls_cleanup": ready(flag, "on", "Whether files of segments that have left the playlist are removed from hls_path."),
  "vhost.hls.hls_dispose": ready(
    seconds(0, 86_400),
    "120",
    "Seconds after the end of a stream at which its files are removed from hls_path. 0: they stay.",
  ),
  "vhost.hls.hls_keys": ready(
    flag,
    "off",
    `Whether segments are encrypted (AES-128). The keys are served to whoever may play, over HTTPS if anybody is to be kept out. There is no
    low latency then.`,
  ),
  "vhost.hls.hls_fragments_per_key": ready(integer(1, 100_000), "5", "Segments after which another key is used."),
  "vhost.hls.on_demand": ready(
    choice("auto", "on", "off"),
    "auto",
    `When a stream is packaged. off: from publish on, so that the first viewer has a picture at once; on: only while somebody watches it
    over HLS, and the first viewer waits for the first segment; auto: like off, but like on for WebRTC publishers whose segments are not
    written to disk, since their sound needs a transcoder and most, such as the participants of a room, are never watched over HLS.`,
  ),

  "vhost.http_hooks.enabled": ready(
    flag,
    "off",
    `Whether your own server is asked and told about publishing and playing. It gets a POST of JSON; yes is HTTP 200 with the body 0 or
    {"code":0}. Any other answer, or none in 5 seconds, refuses the client.`,
  ),
  "vhost.http_hooks.on_publish": ready(urls, undefined, hook("before a publisher is let in; an answer other than 0 refuses it"), {
    example: "http://127.0.0.1:8085/api/v1/streams",
  }),
  "vhost.http_hooks.on_unpublish": ready(urls, undefined, hook("when a publisher has left"), {
    example: "http://127.0.0.1:8085/api/v1/streams",
  }),
  "vhost.http_hooks.on_play": ready(urls, undefined, hook("before a viewer is let in; an answer other than 0 refuses it"), {
    example: "http://127.0.0.1:8085/api/v1/sessions",
  }),
  "vhost.http_hooks.on_stop": ready(urls, undefined, hook("when a viewer has left"), {
    example: "http://127.0.0.1:8085/api/v1/sessions",
  }),
  "vhost.http_hooks.on_hls": ready(urls, undefined, hook("for each finished HLS segment"), {
    example: "http://127.0.0.1:8085/api/v1/hls",
  }),
  "vhost.http_hooks.on_dvr": later(texts, undefined, hook("for each finished recording"), {
    example: "http://127.0.0.1:8085/api/v1/dvrs",
  }),

  "vhost.security.enabled": ready(
    flag,
    "off",
    `Whether the allow and deny rules hold, for every protocol. They are read in the order of the file and the first that matches decides;
    where none matches, nobody is let in. The address is the one that the connection comes from: behind a proxy, the proxy's.`,
  ),
  "vhost.security.deny": ready(
    accessRules("deny"),
    undefined,
    `Refuses: publish or play, then all, IP addresses or networks (CIDR). In the environment: SRS_VHOST_SECURITY_DENY="play 192.0.2.1
    publish all"; rules of the environment are read before those of the file, deny first.`,
    { repeats: true, example: "play 192.0.2.1" },
  ),
  "vhost.security.allow": ready(
    accessRules("allow"),
    undefined,
    "Lets in: publish or play, then all, IP addresses or networks (CIDR).",
    { repeats: true, example: "publish 127.0.0.1 10.0.0.0/8" },
  ),

  "vhost.refer.enabled": later(flag, "off", "Whether only players on pages of given sites may watch.", {
    danger: "players on every page may watch",
  }),
  "vhost.forward.enabled": later(flag, "off", "Whether what is published here is pushed on to other RTMP servers."),
  "vhost.dvr.enabled": later(flag, "off", "Whether what is published here is recorded to files."),
  "vhost.cluster.enabled": later(flag, "off", "Whether this vhost is an edge that fetches from an origin server."),
  "vhost.transcode.enabled": later(flag, "off", "Whether ffmpeg makes further versions of a stream."),
} as const satisfies Readonly<Record<string, Directive>>;

export type DirectivePath = keyof typeof DIRECTIVES;
export type ValueAt<P extends DirectivePath> = (typeof DIRECTIVES)[P] extends Directive<infer T> ? T : never;

/** What stands above a block in the manual. */
export const BLOCKS: Readonly<Record<string, string>> = {
  rtmps: "RTMP over TLS.",
  http_api: "The HTTP API: WHIP and WHEP, what is live, who watches, metrics.",
  "http_api.auth": "Who may use the API.",
  "http_api.https": "The API over HTTPS.",
  http_server: "Pages, players, and media over HTTP.",
  "http_server.https": "The same over HTTPS.",
  signaling: "Rooms: who is there, and who publishes.",
  "signaling.standalone": "The same on a port of its own.",
  transcode: "Rooms as live streams.",
  rtc_server: "WebRTC, for the whole gateway.",
  "rtc_server.tcp": "WebRTC over TCP.",
  vhost: `What holds for the streams of one vhost; __defaultVhost__ serves every name that has no block of its own. A client selects one
    by rtmp://host/app/stream?vhost=NAME. An environment name SRS_VHOST_… holds for all vhosts.`,
  "vhost.rtc": "WebRTC for streams of this vhost, and the bridges.",
  "vhost.play": "How viewers are served.",
  "vhost.publish": "How publishers are served.",
  "vhost.http_remux": "HTTP-FLV.",
  "vhost.hls": "HLS, plain and low latency.",
  "vhost.http_hooks": "Callbacks to your own server.",
  "vhost.security": "Who may publish and play, by address.",
  "vhost.refer": "Who may play, by page.",
  "vhost.forward": "Relay to other servers.",
  "vhost.dvr": "Recording.",
  "vhost.cluster": "Edges and origins.",
  "vhost.transcode": "Further versions of a stream.",
};

/** Blocks of which only the switch is known yet: what else stands in them is accepted unread. */
export const OPEN_BLOCKS: ReadonlySet<string> = new Set([
  "vhost.refer",
  "vhost.forward",
  "vhost.dvr",
  "vhost.cluster",
  "vhost.transcode",
]);

/** `SRS_RTC_SERVER_TCP_ENABLED` of `rtc_server.tcp.enabled`. */
export function environmentName(path: string): string {
  return `SRS_${path.replaceAll(".", "_").toUpperCase()}`;
}

/** The table row of a path, or undefined. */
export function directiveAt(path: string): Directive | undefined {
  return Object.hasOwn(DIRECTIVES, path) ? DIRECTIVES[path as DirectivePath] : undefined;
}

export function isDirectivePath(path: string): path is DirectivePath {
  return Object.hasOwn(DIRECTIVES, path);
}

export const DIRECTIVE_PATHS = Object.keys(DIRECTIVES) as readonly DirectivePath[];
