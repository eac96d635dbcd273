// Reads an SDP offer (RFC 8866, RFC 8829) into what an answer is made of. Everything that may get into an answer has been
// checked against its grammar here: what comes out of `parseOffer` holds no line break and no markup.

import { Refusal } from "../media/errors.js";

export type Direction = "sendrecv" | "sendonly" | "recvonly" | "inactive";
export type SetupRole = "actpass" | "active" | "passive";
export type Fingerprint = { readonly algorithm: string; readonly value: string };

export type OfferedCodec = {
  readonly payloadType: number;
  /** In lower case: some clients say `OPUS`. */
  readonly name: string;
  readonly clockRate: number;
  /** 1 unless the rtpmap says more. */
  readonly channels: number;
  /** `fmtp` parameters, keys in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
  /** `red`: payload types of the blocks that its fmtp names (RFC 2198 section 5). */
  readonly redundantTypes: readonly number[];
  /** `rtcp-fb` of this payload type or of `*`: `nack`, `nack pli`, `ccm fir`, `transport-cc`, `goog-remb`. */
  readonly feedback: ReadonlySet<string>;
};

export type HeaderExtension = { readonly id: number; readonly uri: string };

export type OfferedMedia = {
  /** `audio`, `video`, `application`, … */
  readonly kind: string;
  readonly protocol: string;
  /** The m-line's formats as they stand, for a refused section's answer. */
  readonly formats: readonly string[];
  /** Port 0 without bundle-only: the offerer does not want this section (RFC 8843 section 6). */
  readonly isRejected: boolean;
  readonly mid: string;
  readonly isBundled: boolean;
  readonly direction: Direction;
  readonly setup: SetupRole;
  readonly usernameFragment: string;
  readonly password: string;
  readonly fingerprint: Fingerprint | undefined;
  readonly hasRtcpMux: boolean;
  readonly hasReducedSizeRtcp: boolean;
  /** `rtcp-xr:rcvr-rtt`: the offerer would like to learn the round trip (RFC 3611 section 5.1). */
  readonly wantsReceiverRtt: boolean;
  /** In the offerer's order of preference. */
  readonly codecs: readonly OfferedCodec[];
  /** Those with a one-byte id (RFC 8285 section 4.2). */
  readonly extensions: readonly HeaderExtension[];
  /** Synchronisation sources, in order. */
  readonly ssrcs: readonly number[];
  /** `ssrc-group:FID`: media source and its RTX source. */
  readonly retransmissionPairs: readonly (readonly [number, number])[];
  /** Stream ids of `msid` lines, without `-`. */
  readonly streamIds: readonly string[];
  readonly hasSimulcast: boolean;
};

export type Offer = {
  readonly media: readonly OfferedMedia[];
  /** `extmap-allow-mixed` at session level. */
  readonly allowsMixedExtensions: boolean;
};

export const MAX_SDP_SIZE = 256 * 1024; // characters; a browser's offer with everything switched on has about 10 KiB

/** @throws Refusal `bad-request` that names the line or the section, never with the offer's own bytes beyond a checked token */
export function parseOffer(text: string): Offer {
  if (text.length > MAX_SDP_SIZE) refuse(`the offer has ${text.length} characters, at most ${MAX_SDP_SIZE} are read`);
  if (!/^v=0\r?\n/.test(text)) refuse(text.trim() === "" ? "the offer is empty" : "the offer does not begin with v=0");
  const lines = text.split("\n");
  if (lines.length > MAX_LINES) refuse(`the offer has ${lines.length} lines, at most ${MAX_LINES} are read`);

  const session = new Section();
  const sections: Section[] = [];
  let current = session;
  for (let index = 0; index < lines.length; index++) {
    const line = (lines[index] ?? "").replace(/\r$/, "");
    if (line === "") continue;
    if (line.length > MAX_LINE_LENGTH)
      refuse(`line ${index + 1} has ${line.length} characters, at most ${MAX_LINE_LENGTH} are read`);
    if (!LINE.test(line)) refuse(`line ${index + 1} is not a line of SDP`);
    if (line.startsWith("m=")) {
      if (sections.length === MAX_SECTIONS) refuse(`more than ${MAX_SECTIONS} m-lines`);
      current = new Section(line.slice(2), index + 1);
      sections.push(current);
    } else if (line.startsWith("a=")) {
      current.add(line.slice(2));
    }
  }
  if (sections.length === 0) refuse("the offer has no m-line");

  const bundled = new Set<string>();
  for (const group of session.all("group")) {
    const [semantics, ...mids] = group.split(" ");
    if (semantics === "BUNDLE") for (const mid of mids) bundled.add(mid);
  }
  const media = sections.map((section) => readMedia(section, session, bundled));
  const mids = new Set(media.map((section) => section.mid));
  if (mids.size !== media.length) refuse("two m-sections have the same mid, or several have none");
  return { media, allowsMixedExtensions: session.has("extmap-allow-mixed") };
}

function readMedia(section: Section, session: Section, bundled: ReadonlySet<string>): OfferedMedia {
  const where = `m-line at line ${section.line}`;
  const [kind = "", port = "", protocol = "", ...formats] = section.head.split(" ");
  if (!TOKEN.test(kind) || !PORT.test(port) || !PROTOCOL.test(protocol)) refuse(`${where} cannot be read`);
  if (formats.length === 0 || formats.length > MAX_FORMATS || !formats.every((format) => TOKEN.test(format))) {
    refuse(`${where}: between 1 and ${MAX_FORMATS} formats are expected`);
  }
  const mid = section.first("mid") ?? "";
  if (mid !== "" && (!TOKEN.test(mid) || mid.length > MAX_MID))
    refuse(`${where}: mid is not a token of at most ${MAX_MID} characters`);
  const isRejected = port === "0" && !section.has("bundle-only");
  const isRtp = protocol.includes("RTP/");

  const usernameFragment = section.first("ice-ufrag") ?? session.first("ice-ufrag") ?? "";
  const password = section.first("ice-pwd") ?? session.first("ice-pwd") ?? "";
  if (!isRejected && (!USERNAME_FRAGMENT.test(usernameFragment) || !PASSWORD.test(password))) {
    refuse(`${where}: ice-ufrag or ice-pwd is missing or out of its grammar`);
  }
  return {
    kind,
    protocol,
    formats,
    isRejected,
    mid,
    isBundled: mid !== "" && bundled.has(mid),
    direction: readDirection(section) ?? readDirection(session) ?? "sendrecv",
    setup: readSetup(section.first("setup") ?? session.first("setup"), where),
    usernameFragment,
    password,
    fingerprint: readFingerprint(section) ?? readFingerprint(session),
    hasRtcpMux: section.has("rtcp-mux") || section.has("rtcp-mux-only"),
    hasReducedSizeRtcp: section.has("rtcp-rsize"),
    wantsReceiverRtt: section.all("rtcp-xr").some((value) => value.split(" ").some((format) => format.startsWith("rcvr-rtt"))),
    codecs: isRtp ? readCodecs(section, formats, where) : [],
    extensions: readExtensions(section, session),
    ssrcs: readSsrcs(section),
    retransmissionPairs: readPairs(section),
    streamIds: readStreamIds(section),
    hasSimulcast: section.has("simulcast"),
  };
}

function readDirection(section: Section): Direction | undefined {
  return DIRECTIONS.find((direction) => section.has(direction));
}

function readSetup(value: string | undefined, where: string): SetupRole {
  if (value === undefined) return "active"; // RFC 4145 section 4.1
  if (value === "actpass" || value === "active" || value === "passive") return value;
  return refuse(`${where}: setup must be actpass, active or passive`);
}

/** The strongest of the offered hashes. */
function readFingerprint(section: Section): Fingerprint | undefined {
  let best: Fingerprint | undefined;
  for (const value of section.all("fingerprint")) {
    const [algorithm = "", hash = ""] = value.split(" ");
    const rank = HASHES.findIndex((known) => known.name === algorithm.toLowerCase());
    const known = HASHES[rank];
    if (known === undefined || !HEX_PAIRS.test(hash) || hash.length !== known.size * 3 - 1) continue;
    if (best === undefined || rank > HASHES.findIndex((other) => other.name === best?.algorithm)) {
      best = { algorithm: known.name, value: hash.toUpperCase() };
    }
  }
  return best;
}

function readCodecs(section: Section, formats: readonly string[], where: string): OfferedCodec[] {
  const maps = keyed(section.all("rtpmap"));
  const parameters = keyed(section.all("fmtp"));
  const feedback = keyed(section.all("rtcp-fb"));
  const codecs: OfferedCodec[] = [];
  const seen = new Set<number>();
  for (const format of formats) {
    const payloadType = Number(format);
    if (!/^\d{1,3}$/.test(format) || payloadType > 127) refuse(`${where}: ${format} is not a payload type`);
    if (seen.has(payloadType)) continue;
    seen.add(payloadType);
    const map = RTPMAP.exec(maps.get(format)?.[0] ?? STATIC_PAYLOADS.get(payloadType) ?? "");
    if (map === null) continue; // a format without a name cannot be chosen
    codecs.push({
      payloadType,
      name: (map[1] ?? "").toLowerCase(),
      clockRate: Number(map[2]),
      channels: Number(map[3] ?? 1),
      parameters: readParameters(parameters.get(format)?.[0] ?? ""),
      redundantTypes: readRedundantTypes(parameters.get(format)?.[0] ?? ""),
      feedback: new Set([...(feedback.get(format) ?? []), ...(feedback.get("*") ?? [])]),
    });
  }
  return codecs;
}

function readParameters(text: string): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const part of text.split(";")) {
    const equals = part.indexOf("=");
    const key = part.slice(0, equals).trim().toLowerCase();
    const value = part.slice(equals + 1).trim();
    if (equals > 0 && TOKEN.test(key) && PARAMETER_VALUE.test(value) && parameters.size < MAX_PARAMETERS)
      parameters.set(key, value);
  }
  return parameters;
}

function readRedundantTypes(text: string): number[] {
  return REDUNDANT_TYPES.test(text) ? text.split("/").map(Number) : [];
}

function readExtensions(section: Section, session: Section): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  for (const value of [...section.all("extmap"), ...session.all("extmap")]) {
    const match = EXTMAP.exec(value);
    const id = Number(match?.[1]);
    const uri = match?.[2] ?? "";
    if (match === null || id < 1 || id > 14 || extensions.some((other) => other.id === id || other.uri === uri)) continue;
    extensions.push({ id, uri });
  }
  return extensions;
}

function readSsrcs(section: Section): number[] {
  const ssrcs = new Set<number>();
  for (const value of section.all("ssrc")) {
    const ssrc = readSsrc(value.split(" ", 1)[0]);
    if (ssrc !== undefined) ssrcs.add(ssrc);
  }
  return [...ssrcs];
}

function readPairs(section: Section): (readonly [number, number])[] {
  const pairs: (readonly [number, number])[] = [];
  for (const value of section.all("ssrc-group")) {
    const [semantics, first, second] = value.split(" ");
    const media = readSsrc(first);
    const repair = readSsrc(second);
    if (semantics === "FID" && media !== undefined && repair !== undefined) pairs.push([media, repair]);
  }
  return pairs;
}

function readSsrc(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) && Number(text) <= 0xffffffff ? Number(text) : undefined;
}

function readStreamIds(section: Section): string[] {
  const ids = new Set<string>();
  for (const value of section.all("msid")) ids.add(value.split(" ", 1)[0] ?? "");
  for (const value of section.all("ssrc")) {
    const match = /^\d+ msid:(\S+)/.exec(value);
    if (match !== null) ids.add(match[1] ?? "");
  }
  ids.delete("-");
  ids.delete("");
  return [...ids];
}

/** `KEY rest` values by key. */
function keyed(values: readonly string[]): Map<string, string[]> {
  const map = new Map<string, string[]>();
  for (const value of values) {
    const space = value.indexOf(" ");
    if (space === -1) continue;
    const key = value.slice(0, space);
    const rest = value.slice(space + 1).trim();
    const list = map.get(key);
    if (list === undefined) map.set(key, [rest]);
    else list.push(rest);
  }
  return map;
}

/** The attributes of one m-section, or of the session. */
class Section {
  readonly #attributes = new Map<string, string[]>();

  constructor(
    readonly head = "",
    readonly line = 0,
  ) {}

  add(attribute: string): void {
    const colon = attribute.indexOf(":");
    const name = colon === -1 ? attribute : attribute.slice(0, colon);
    const value = colon === -1 ? "" : attribute.slice(colon + 1).trim();
    const values = this.#attributes.get(name);
    if (values === undefined) this.#attributes.set(name, [value]);
    else if (values.length < MAX_SAME_ATTRIBUTES) values.push(value);
  }

  has(name: string): boolean {
    return this.#attributes.has(name);
  }

  first(name: string): string | undefined {
    return this.#attributes.get(name)?.[0];
  }

  all(name: string): readonly string[] {
    return this.#attributes.get(name) ?? [];
  }
}

function refuse(reason: string): never {
  throw new Refusal("bad-request", `SDP: ${reason}`);
}

const MAX_LINES = 8192;
const MAX_LINE_LENGTH = 8192; // parameter sets in fmtp are the longest lines seen, about 1 KiB
const MAX_SECTIONS = 64; // two are used; a browser in a conference reuses its connection and has some dozens
const MAX_FORMATS = 128; // there are no more payload types
const MAX_SAME_ATTRIBUTES = 1024; // rtcp-fb: five per payload type
const MAX_PARAMETERS = 32;
const MAX_MID = 16; // fits a one-byte header extension (RFC 9143 section 15.1, RFC 8285 section 4.2)

const LINE = /^[a-z]=[^\p{Cc}]*$/u; // no control characters, so no line break of any kind
const TOKEN = /^[!#-'*+\-.0-9A-Z^-~]+$/; // RFC 8866 section 9
const PORT = /^\d{1,5}(\/\d{1,5})?$/;
const PROTOCOL = /^[A-Za-z]+(\/[A-Za-z]+){0,4}$/;
const USERNAME_FRAGMENT = /^[A-Za-z0-9+/]{4,256}$/; // RFC 8839 section 5.4
const PASSWORD = /^[A-Za-z0-9+/]{22,256}$/;
const HEX_PAIRS = /^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*$/;
const RTPMAP = /^([A-Za-z0-9][A-Za-z0-9_.-]{0,31})\/(\d{1,6})(?:\/(\d{1,2}))?$/;
const EXTMAP = /^(\d{1,5})(?:\/[a-z]+)? ([A-Za-z][A-Za-z0-9+.:/_-]{0,127})(?: .*)?$/;
const REDUNDANT_TYPES = /^\d{1,3}(\/\d{1,3}){0,7}$/;
const PARAMETER_VALUE = /^[A-Za-z0-9+/=.,:_-]{0,4096}$/;
const DIRECTIONS: readonly Direction[] = ["sendrecv", "sendonly", "recvonly", "inactive"];
/** Weakest first (RFC 8122 section 5; MD5 and SHA-1 are no longer trusted). */
const HASHES: readonly { readonly name: string; readonly size: number }[] = [
  { name: "sha-256", size: 32 },
  { name: "sha-384", size: 48 },
  { name: "sha-512", size: 64 },
];
/** Payload types that need no rtpmap (RFC 3551 section 6). */
const STATIC_PAYLOADS: ReadonlyMap<number, string> = new Map([
  [0, "PCMU/8000"],
  [8, "PCMA/8000"],
  [9, "G722/8000"],
  [13, "CN/8000"],
]);
