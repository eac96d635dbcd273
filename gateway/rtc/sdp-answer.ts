// Answers an offer: chooses codecs, says what both sides agreed on, writes the text (RFC 8829 section 5.3, RFC 8843, RFC 9725
// section 4, draft-ietf-wish-whep section 4). One transport for everything: BUNDLE and rtcp-mux are required.

import { Refusal } from "../media/errors.js";
import type { MediaKind, RtpTrack } from "../rtp/packet.js";
import { chooseH264, h264AnswerParameters } from "./h264-profile.js";
import type { Direction, Fingerprint, Offer, OfferedCodec, OfferedMedia } from "./sdp.js";

/** An address the peer can reach us at. `address` may be a host name. */
export type Candidate = { readonly transport: "udp" | "tcp"; readonly address: string; readonly port: number };

export type IceCredentials = { readonly usernameFragment: string; readonly password: string };

/** One-byte ids of the header extensions in use, 0 for those that are not. */
export type ExtensionIds = { readonly mid: number; readonly transportCc: number; readonly playoutDelay: number };

/** What was agreed for one of our tracks, or (publish) for one of the peer's. */
export type NegotiatedTrack = {
  readonly kind: MediaKind;
  readonly mid: string;
  /** Encoding name in lower case. */
  readonly codec: string;
  readonly clockRate: number;
  readonly channels: number;
  readonly payloadType: number;
  /** -1 without RTX. */
  readonly rtxPayloadType: number;
  /** Opus: of packets that carry the frame before again (RFC 2198); -1 without. */
  readonly redPayloadType: number;
  /** Ours when we send; when we receive the first source the offer names, 0 when it names none. */
  readonly ssrc: number;
  /** 0 without RTX. */
  readonly rtxSsrc: number;
  readonly extensions: ExtensionIds;
  readonly feedback: { readonly nack: boolean; readonly pli: boolean; readonly fir: boolean; readonly transportCc: boolean };
  readonly wantsReceiverRtt: boolean;
  /** Of the answer, `profile-level-id=…` and the like. */
  readonly formatParameters: string;
  /** H.264 from a publisher: `sprop-parameter-sets=…` of its offer, if it names any. */
  readonly parameterSets?: string;
};

export type Negotiated = {
  /** Text of the answer. */
  readonly answer: string;
  /** The bundle's sections, and what the first of them holds. */
  readonly bundle: { readonly kind: MediaKind; readonly mids: readonly string[] };
  readonly audio: NegotiatedTrack | undefined;
  readonly video: NegotiatedTrack | undefined;
  readonly remote: IceCredentials;
  /** Undefined for a connectivity check, which never gets further than ICE. */
  readonly fingerprint: Fingerprint | undefined;
  /** Our role. */
  readonly dtlsRole: "passive" | "active";
};

export type AnswerOptions = {
  readonly ice: IceCredentials;
  /** SHA-256 of our certificate, `AB:CD:…`. */
  readonly fingerprint: string;
  /** Our role when the offer leaves the choice. */
  readonly dtlsRole: "passive" | "active";
  readonly candidates: readonly Candidate[];
  /** Decimal number for the o-line. */
  readonly sessionId: string;
  /** `cname`, and the one media stream's id (`msid`): a token. */
  readonly cname: string;
  readonly streamId: string;
  /** Whether NACK and transport-wide congestion control may be agreed on. */
  readonly nack: boolean;
  readonly twcc: boolean;
  /** A random SSRC that is not zero. */
  readonly newSsrc: () => number;
};

export type PlayTracks = { readonly audio: RtpTrack | undefined; readonly video: RtpTrack | undefined };

/** What a WHIP publisher may send, best first. */
export type PublishCodecs = { readonly audio: readonly string[]; readonly video: readonly string[] };

/**
 * H.264 first, because it reaches every protocol, and Opus.
 *
 * @param video @param audio the only codec wanted, by any of its usual names in lower case
 */
export function publishCodecs(video: string | undefined, audio: string | undefined): PublishCodecs {
  return { video: wanted(video, PUBLISHED_VIDEO), audio: wanted(audio, PUBLISHED_AUDIO) };
}

function wanted(name: string | undefined, known: readonly string[]): readonly string[] {
  if (name === undefined) return known;
  const codec = CODEC_ALIASES.get(name) ?? name;
  if (!known.includes(codec)) throw new Refusal("unsupported", `codec: this gateway takes ${known.join(", ")}, not ${name}`);
  return [codec];
}

/**
 * Answers a viewer: sends the stream's tracks, refuses (port 0) sections for which the stream has nothing.
 *
 * @throws Refusal `bad-request` for an offer against the rules, `unsupported` naming both sides' codecs
 */
export function answerPlay(offer: Offer, tracks: PlayTracks, options: AnswerOptions): Negotiated {
  const choose = (media: OfferedMedia, kind: MediaKind): Choice | undefined => {
    if (media.direction !== "recvonly" && media.direction !== "sendrecv") {
      refuse(`a viewer must offer recvonly or sendrecv; ${describe(media)} is ${media.direction}`);
    }
    const track = tracks[kind];
    return track === undefined ? undefined : chooseForPlay(media, track);
  };
  return answer(offer, "sendonly", choose, options);
}

/**
 * Answers a publisher: one payload type per kind, the first of `codecs` that is offered.
 *
 * @throws Refusal likewise
 */
export function answerPublish(offer: Offer, codecs: PublishCodecs, options: AnswerOptions): Negotiated {
  const streamIds = new Set(offer.media.flatMap((media) => (media.isRejected ? [] : media.streamIds)));
  if (streamIds.size > 1)
    throw new Refusal("unsupported", "SDP: a publisher may offer one media stream, this one offers several");
  const choose = (media: OfferedMedia, kind: MediaKind): Choice => {
    if (media.direction !== "sendonly" && media.direction !== "sendrecv") {
      refuse(`a publisher must offer sendonly or sendrecv; ${describe(media)} is ${media.direction}`);
    }
    return chooseForPublish(media, codecs[kind]);
  };
  return answer(offer, "recvonly", choose, options);
}

/** True for the offer of a connectivity check: nothing in it could ever be encrypted. */
export function isBareOffer(offer: Offer): boolean {
  return offer.media.every((media) => media.fingerprint === undefined);
}

/**
 * Answers a connectivity check: whatever codecs are offered, since nothing will be sent.
 *
 * @throws Refusal `bad-request`, `unsupported`
 */
export function answerCheck(offer: Offer, direction: "sendonly" | "recvonly", options: AnswerOptions): Negotiated {
  const choose = (media: OfferedMedia): Choice | undefined => {
    const [codec] = media.codecs;
    return codec === undefined ? undefined : { codec, formatParameters: parametersText(codec) };
  };
  return answer(offer, direction, choose, options, "check");
}

type Choice = {
  readonly codec: OfferedCodec;
  /** Of the answer. */
  readonly formatParameters: string;
  /** `sprop-parameter-sets=…` of the offer. */
  readonly parameterSets?: string;
};

function answer(
  offer: Offer,
  direction: Direction,
  choose: (media: OfferedMedia, kind: MediaKind) => Choice | undefined,
  options: AnswerOptions,
  purpose: "media" | "check" = "media",
): Negotiated {
  let audio: NegotiatedTrack | undefined;
  let video: NegotiatedTrack | undefined;
  let transport: OfferedMedia | undefined; // the first accepted section's: all share it
  const sections: string[] = [];
  const mids: string[] = [];
  for (const media of offer.media) {
    const kind = media.kind === "audio" || media.kind === "video" ? media.kind : undefined;
    if (kind === undefined || media.isRejected) {
      sections.push(refusedSection(media));
      continue;
    }
    checkTransport(media);
    const choice = choose(media, kind);
    if (choice === undefined) {
      sections.push(refusedSection(media));
      continue;
    }
    if ((kind === "audio" ? audio : video) !== undefined) {
      throw new Refusal("unsupported", `SDP: more than one ${kind} section is offered, one is supported`);
    }
    const track = negotiate(media, kind, choice, direction, options);
    if (kind === "audio") audio = track;
    else video = track;
    transport ??= media;
    mids.push(media.mid);
    sections.push(acceptedSection(media, track, direction, dtlsRoleFor(transport, options), options));
  }
  if (transport === undefined) {
    throw new Refusal(
      "unsupported",
      "SDP: nothing offered can be used: the offer and the stream have no kind of media in common",
    );
  }
  const { fingerprint } = transport;
  if (fingerprint === undefined && purpose === "media") refuse("no fingerprint of sha-256, sha-384 or sha-512 is offered");
  const text = [
    "v=0",
    `o=- ${options.sessionId} 2 IN IP4 0.0.0.0`,
    "s=-",
    "t=0 0",
    `a=group:BUNDLE ${mids.join(" ")}`,
    "a=ice-lite",
    "a=ice-options:trickle ice2",
    ...(offer.allowsMixedExtensions ? ["a=extmap-allow-mixed"] : []),
    `a=msid-semantic: WMS ${direction === "sendonly" ? options.streamId : "*"}`,
    ...sections,
    "",
  ].join("\r\n");
  return {
    answer: text,
    bundle: { kind: transport.kind === "audio" ? "audio" : "video", mids: mids.map(ownText) },
    audio,
    video,
    remote: { usernameFragment: ownText(transport.usernameFragment), password: ownText(transport.password) },
    fingerprint: fingerprint === undefined ? undefined : { algorithm: fingerprint.algorithm, value: ownText(fingerprint.value) },
    dtlsRole: dtlsRoleFor(transport, options),
  };
}

function checkTransport(media: OfferedMedia): void {
  if (!RTP_PROTOCOLS.has(media.protocol)) refuse(`${describe(media)} is not RTP over DTLS (UDP/TLS/RTP/SAVPF)`);
  if (!media.isBundled) refuse(`${describe(media)} is not in a BUNDLE group; all media must share one transport`);
  if (!media.hasRtcpMux) refuse(`${describe(media)} lacks rtcp-mux; RTP and RTCP must share one port`);
  if (media.hasSimulcast) throw new Refusal("unsupported", "SDP: simulcast is not supported, offer a single encoding");
}

function dtlsRoleFor(media: OfferedMedia, options: AnswerOptions): "passive" | "active" {
  if (media.setup === "actpass") return options.dtlsRole;
  return media.setup === "active" ? "passive" : "active";
}

function chooseForPlay(media: OfferedMedia, track: RtpTrack): Choice {
  if (track.codec === "h264") {
    const profileLevelId = /profile-level-id=([0-9a-fA-F]{6})/.exec(track.formatParameters)?.[1];
    const codec = chooseH264(media.codecs, profileLevelId);
    if (codec !== undefined) return { codec, formatParameters: h264AnswerParameters(codec, profileLevelId) };
    const offersOther = media.codecs.some((other) => other.name === "h264");
    return mismatch(media, offersOther ? "h264 with packetization-mode 1" : "h264", "plays");
  }
  const codec = media.codecs.find(
    (other) =>
      other.name === track.codec &&
      other.clockRate === track.clockRate &&
      (track.kind === "video" || other.channels === (track.channels ?? 1)) &&
      sameProfile(other, track),
  );
  if (codec === undefined) return mismatch(media, track.codec, "plays");
  return { codec, formatParameters: codec.name === "opus" ? OPUS_PLAY_PARAMETERS : parametersText(codec) };
}

/** VP9 and AV1 profiles must be equal; an absent one is 0. */
function sameProfile(codec: OfferedCodec, track: RtpTrack): boolean {
  const key = codec.name === "vp9" ? "profile-id" : codec.name === "av1" ? "profile" : undefined;
  if (key === undefined) return true;
  const wanted = new RegExp(`(?:^|;)${key}=(\\d+)`).exec(track.formatParameters)?.[1] ?? "0";
  return (codec.parameters.get(key) ?? "0") === wanted;
}

function chooseForPublish(media: OfferedMedia, names: readonly string[]): Choice {
  for (const name of names) {
    const codec =
      (name === "h264" ? chooseH264(media.codecs, undefined) : undefined) ?? media.codecs.find((other) => other.name === name);
    if (codec === undefined) continue;
    if (codec.name === "h264") {
      // Parameter sets that come in the offer may not come in the stream (RFC 6184 section 8.2.2).
      const sets = codec.parameters.get("sprop-parameter-sets");
      const formatParameters = h264AnswerParameters(codec, undefined);
      return { codec, formatParameters, ...(sets !== undefined && { parameterSets: `sprop-parameter-sets=${sets}` }) };
    }
    return { codec, formatParameters: codec.name === "opus" ? OPUS_PUBLISH_PARAMETERS : parametersText(codec) };
  }
  return mismatch(media, names.join(", "), "takes");
}

function mismatch(media: OfferedMedia, ours: string, verb: "plays" | "takes"): never {
  const auxiliary = new Set(["rtx", "red", "ulpfec", "flexfec-03", "cn", "telephone-event"]);
  const offered = [...new Set(media.codecs.map((codec) => codec.name))].filter((name) => !auxiliary.has(name));
  const subject = verb === "plays" ? "the stream is" : "this gateway takes";
  throw new Refusal("unsupported", `SDP: ${subject} ${ours}, ${describe(media)} offers ${offered.join(", ") || "no codec"}`);
}

function parametersText(codec: OfferedCodec): string {
  return [...codec.parameters].map(([key, value]) => `${key}=${value}`).join(";");
}

function negotiate(
  media: OfferedMedia,
  kind: MediaKind,
  choice: Choice,
  direction: Direction,
  options: AnswerOptions,
): NegotiatedTrack {
  const { codec } = choice;
  const sends = direction === "sendonly";
  const rtx = options.nack
    ? media.codecs.find((other) => other.name === "rtx" && other.parameters.get("apt") === String(codec.payloadType))
    : undefined;
  const nack = options.nack && codec.feedback.has("nack");
  const transportCcId = extensionId(media, TRANSPORT_CC_URI);
  // A retransmission in the same SSRC must be the same bytes: encrypting another header under the same SRTP index would
  // reuse a nonce. So without RTX nothing in the header may change between the two (RFC 3711 section 9.1, RFC 7714 section 8.1).
  const headerMayVary = !sends || !nack || rtx !== undefined;
  const transportCc = options.twcc && headerMayVary && transportCcId !== 0 && codec.feedback.has("transport-cc");
  // The same holds for a payload that carries redundancy in one of the two.
  const red = codec.name === "opus" && headerMayVary ? redundancyFor(media, codec) : undefined;
  const pair = media.retransmissionPairs[0];
  return {
    kind,
    mid: ownText(media.mid),
    codec: codec.name,
    clockRate: codec.clockRate,
    channels: codec.channels,
    payloadType: codec.payloadType,
    rtxPayloadType: rtx?.payloadType ?? -1,
    redPayloadType: red?.payloadType ?? -1,
    ssrc: sends ? options.newSsrc() : (pair?.[0] ?? media.ssrcs[0] ?? 0),
    rtxSsrc: rtx === undefined ? 0 : sends ? options.newSsrc() : (pair?.[1] ?? 0),
    extensions: {
      mid: extensionId(media, MID_URI),
      transportCc: transportCc ? transportCcId : 0,
      playoutDelay: sends && headerMayVary && kind === "video" ? extensionId(media, PLAYOUT_DELAY_URI) : 0,
    },
    feedback: { nack, pli: codec.feedback.has("nack pli"), fir: codec.feedback.has("ccm fir"), transportCc },
    wantsReceiverRtt: media.wantsReceiverRtt,
    formatParameters: choice.formatParameters,
    ...(choice.parameterSets !== undefined && { parameterSets: ownText(choice.parameterSets) }),
  };
}

/** Packets of this codec with earlier frames of it again: `red` whose fmtp names it alone. */
function redundancyFor(media: OfferedMedia, codec: OfferedCodec): OfferedCodec | undefined {
  return media.codecs.find(
    ({ name, clockRate, channels, redundantTypes }) =>
      name === "red" &&
      clockRate === codec.clockRate &&
      channels === codec.channels &&
      redundantTypes.length > 1 &&
      redundantTypes.every((payloadType) => payloadType === codec.payloadType),
  );
}

function extensionId(media: OfferedMedia, uri: string): number {
  return media.extensions.find((extension) => extension.uri === uri)?.id ?? 0;
}

function refusedSection(media: OfferedMedia): string {
  const lines = [`m=${media.kind} 0 ${media.protocol} ${media.formats.join(" ")}`, "c=IN IP4 0.0.0.0", "a=inactive"];
  if (media.mid !== "") lines.push(`a=mid:${media.mid}`);
  return lines.join("\r\n");
}

function acceptedSection(
  media: OfferedMedia,
  track: NegotiatedTrack,
  direction: Direction,
  dtlsRole: "passive" | "active",
  options: AnswerOptions,
): string {
  const { payloadType, rtxPayloadType, redPayloadType, extensions, feedback } = track;
  const hasRtx = rtxPayloadType !== -1;
  const hasRed = redPayloadType !== -1;
  // A browser sends redundancy only when it is preferred to the plain codec.
  const formats = [hasRed ? redPayloadType : -1, payloadType, hasRtx ? rtxPayloadType : -1].filter((format) => format !== -1);
  const lines = [
    `m=${track.kind} 9 ${media.protocol} ${formats.join(" ")}`,
    "c=IN IP4 0.0.0.0",
    "a=rtcp:9 IN IP4 0.0.0.0",
    `a=ice-ufrag:${options.ice.usernameFragment}`,
    `a=ice-pwd:${options.ice.password}`,
    `a=fingerprint:sha-256 ${options.fingerprint}`,
    `a=setup:${dtlsRole}`,
    `a=mid:${track.mid}`,
  ];
  if (extensions.mid !== 0) lines.push(`a=extmap:${extensions.mid} ${MID_URI}`);
  if (extensions.transportCc !== 0) lines.push(`a=extmap:${extensions.transportCc} ${TRANSPORT_CC_URI}`);
  if (extensions.playoutDelay !== 0) lines.push(`a=extmap:${extensions.playoutDelay} ${PLAYOUT_DELAY_URI}`);
  lines.push(`a=${direction}`);
  if (direction === "sendonly") lines.push(`a=msid:${options.streamId} ${track.kind}`);
  lines.push("a=rtcp-mux", "a=rtcp-mux-only");
  if (media.hasReducedSizeRtcp) lines.push("a=rtcp-rsize");
  if (track.wantsReceiverRtt) lines.push("a=rtcp-xr:rcvr-rtt=all");
  const channels = track.channels > 1 ? `/${track.channels}` : "";
  lines.push(`a=rtpmap:${payloadType} ${ENCODING_NAMES.get(track.codec) ?? track.codec}/${track.clockRate}${channels}`);
  if (feedback.transportCc) lines.push(`a=rtcp-fb:${payloadType} transport-cc`);
  else if (direction === "recvonly" && offersRemb(media, payloadType)) lines.push(`a=rtcp-fb:${payloadType} goog-remb`);
  if (feedback.fir) lines.push(`a=rtcp-fb:${payloadType} ccm fir`);
  if (feedback.nack) lines.push(`a=rtcp-fb:${payloadType} nack`);
  if (feedback.pli) lines.push(`a=rtcp-fb:${payloadType} nack pli`);
  if (track.formatParameters !== "") lines.push(`a=fmtp:${payloadType} ${track.formatParameters}`);
  if (hasRed) {
    lines.push(`a=rtpmap:${redPayloadType} red/${track.clockRate}${channels}`);
    lines.push(`a=fmtp:${redPayloadType} ${payloadType}/${payloadType}`);
  }
  if (hasRtx) lines.push(`a=rtpmap:${rtxPayloadType} rtx/${track.clockRate}`, `a=fmtp:${rtxPayloadType} apt=${payloadType}`);
  if (direction === "sendonly") {
    if (hasRtx) lines.push(`a=ssrc-group:FID ${track.ssrc} ${track.rtxSsrc}`);
    for (const ssrc of hasRtx ? [track.ssrc, track.rtxSsrc] : [track.ssrc]) {
      lines.push(`a=ssrc:${ssrc} cname:${options.cname}`, `a=ssrc:${ssrc} msid:${options.streamId} ${track.kind}`);
    }
  }
  lines.push(...candidateLines(options.candidates), "a=end-of-candidates");
  return lines.join("\r\n");
}

function offersRemb(media: OfferedMedia, payloadType: number): boolean {
  return media.codecs.some((codec) => codec.payloadType === payloadType && codec.feedback.has("goog-remb"));
}

/** `a=candidate` lines: priorities fall by one in the order given, every TCP one below every UDP one (RFC 8445 section 5.1.2). */
export function candidateLines(candidates: readonly Candidate[]): string[] {
  return candidates.map(({ transport, address, port }, index) => {
    const priority = (transport === "udp" ? FIRST_UDP_PRIORITY : FIRST_TCP_PRIORITY) - index;
    const type = transport === "udp" ? "typ host" : "typ host tcptype passive";
    return `a=candidate:${index} 1 ${transport} ${priority} ${address} ${port} ${type} generation 0`;
  });
}

/** A copy: a piece of the offer's text would keep all of that text in memory for the life of the session. */
export function ownText(piece: string): string {
  return Buffer.from(piece, "latin1").toString("latin1");
}

function describe(media: OfferedMedia): string {
  return `the ${media.kind} section${media.mid === "" ? "" : ` (mid ${media.mid})`}`;
}

function refuse(reason: string): never {
  throw new Refusal("bad-request", `SDP: ${reason}`);
}

const FIRST_UDP_PRIORITY = 2130706431; // type preference 126 (host), local preference 65535, component 1
const FIRST_TCP_PRIORITY = 1694498815; // type preference 101
const MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid";
const TRANSPORT_CC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const PLAYOUT_DELAY_URI = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
const RTP_PROTOCOLS: ReadonlySet<string> = new Set(["UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "RTP/SAVPF", "UDP/TLS/RTP/SAVP"]);
const OPUS_PLAY_PARAMETERS = "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"; // RFC 7587 section 6.1
const OPUS_PUBLISH_PARAMETERS = "minptime=10;useinbandfec=1;stereo=1";
const PUBLISHED_VIDEO: readonly string[] = ["h264", "vp8", "vp9", "av1", "h265"];
const PUBLISHED_AUDIO: readonly string[] = ["opus", "pcmu", "pcma"];
const CODEC_ALIASES: ReadonlyMap<string, string> = new Map([
  ["avc", "h264"],
  ["hevc", "h265"],
  ["g711u", "pcmu"],
  ["g711a", "pcma"],
]);
/** How encoding names are usually written; readers compare them without case (RFC 8866 section 6.6). */
const ENCODING_NAMES: ReadonlyMap<string, string> = new Map([
  ["h264", "H264"],
  ["h265", "H265"],
  ["vp8", "VP8"],
  ["vp9", "VP9"],
  ["av1", "AV1"],
  ["pcmu", "PCMU"],
  ["pcma", "PCMA"],
  ["g722", "G722"],
]);
