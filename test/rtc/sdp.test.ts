import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { Refusal } from "../../gateway/media/errors.js";
import { MAX_SDP_SIZE, parseOffer } from "../../gateway/rtc/sdp.js";
import { type AnswerOptions, answerPlay, answerPublish, type Negotiated } from "../../gateway/rtc/sdp-answer.js";
import type { RtpTrack } from "../../gateway/rtp/packet.js";

const OFFERS = fileURLToPath(new URL("../../../test/offers/", import.meta.url));
const read = (name: string): string => readFileSync(`${OFFERS}${name}`, "utf8");
const WHEP = readdirSync(OFFERS).filter((name) => name.endsWith("whep-offer.sdp"));
const WHIP = readdirSync(OFFERS).filter((name) => name.endsWith("whip-offer.sdp"));

const FINGERPRINT = Array.from({ length: 32 }, () => "0A").join(":");
const OPTIONS: AnswerOptions = {
  ice: { usernameFragment: "abcdefgh", password: "abcdefghijklmnopqrstuvwx" },
  fingerprint: FINGERPRINT,
  dtlsRole: "passive",
  candidates: [
    { transport: "udp", address: "192.0.2.7", port: 8000 },
    { transport: "udp", address: "127.0.0.1", port: 8000 },
  ],
  sessionId: "4711",
  cname: "gateway",
  streamId: "sluice",
  nack: true,
  twcc: true,
  newSsrc: counter(),
};
const H264: RtpTrack = {
  kind: "video",
  codec: "h264",
  clockRate: 90_000,
  formatParameters: "packetization-mode=1;profile-level-id=42c028",
};
const OPUS: RtpTrack = { kind: "audio", codec: "opus", clockRate: 48_000, channels: 2, formatParameters: "" };
const TRACKS = { video: H264, audio: OPUS };
const CODECS = { audio: ["opus"], video: ["h264", "vp8"] };

function counter(): () => number {
  let next = 1000;
  return () => next++;
}

type Section = { readonly head: string; readonly lines: readonly string[] };

function sectionsOf(sdp: string): { session: readonly string[]; media: readonly Section[] } {
  assert.ok(sdp.endsWith("\r\n"));
  const lines = sdp.slice(0, -2).split("\r\n");
  const session: string[] = [];
  const media: { head: string; lines: string[] }[] = [];
  for (const line of lines) {
    assert.match(line, /^[a-z]=[^\r\n<>]*$/, "every line is one line of SDP");
    if (line.startsWith("m=")) media.push({ head: line, lines: [] });
    else (media.at(-1)?.lines ?? session).push(line);
  }
  return { session, media };
}

const attribute = (section: Section, name: string): string | undefined =>
  section.lines.find((line) => line.startsWith(`a=${name}:`))?.slice(name.length + 3);

/** Checks everything that holds for any answer to any offer. */
function checkAnswer(offerText: string, { answer }: Negotiated, direction: "sendonly" | "recvonly"): readonly Section[] {
  const offer = parseOffer(offerText);
  const { session, media } = sectionsOf(answer);
  assert.equal(media.length, offer.media.length, "as many m-lines as the offer");
  assert.ok(session.includes("a=ice-lite"));
  assert.ok(session.includes("a=ice-options:trickle ice2"));
  const accepted = media.filter((section) => !/^m=\S+ 0 /.test(section.head));
  const bundle = session.find((line) => line.startsWith("a=group:BUNDLE "));
  assert.equal(bundle, `a=group:BUNDLE ${accepted.map((section) => attribute(section, "mid")).join(" ")}`);
  const streams = new Set<string>();
  media.forEach((section, index) => {
    const offered = offer.media[index];
    assert.ok(offered !== undefined);
    assert.equal(section.head.split(" ")[0], `m=${offered.kind}`, "same order");
    assert.equal(section.head.split(" ")[2], offered.protocol);
    assert.equal(attribute(section, "mid"), offered.mid, "same mid");
    if (!accepted.includes(section)) return;
    for (const line of [
      `a=${direction}`,
      "a=rtcp-mux",
      "a=rtcp-mux-only",
      `a=fingerprint:sha-256 ${FINGERPRINT}`,
      "a=setup:passive",
    ]) {
      assert.ok(section.lines.includes(line), line);
    }
    assert.equal(attribute(section, "ice-ufrag"), "abcdefgh");
    assert.equal(attribute(section, "ice-pwd"), "abcdefghijklmnopqrstuvwx");
    const candidates = section.lines.filter((line) => line.startsWith("a=candidate:"));
    assert.deepEqual(candidates, [
      "a=candidate:0 1 udp 2130706431 192.0.2.7 8000 typ host generation 0",
      "a=candidate:1 1 udp 2130706430 127.0.0.1 8000 typ host generation 0",
    ]);
    assert.equal(section.lines.includes("a=rtcp-rsize"), offered.hasReducedSizeRtcp);
    const payloads = section.head.split(" ").slice(3).map(Number);
    for (const payload of payloads) assert.ok(offered.formats.includes(String(payload)), "only offered payload types");
    for (const line of section.lines) {
      const extension = /^a=extmap:(\d+) (.*)$/.exec(line);
      if (extension !== null) {
        assert.ok(
          offered.extensions.some((other) => other.id === Number(extension[1]) && other.uri === extension[2]),
          line,
        );
      }
      const feedback = /^a=rtcp-fb:(\d+) (.*)$/.exec(line);
      if (feedback !== null) {
        const codec = offered.codecs.find((other) => other.payloadType === Number(feedback[1]));
        assert.ok(codec?.feedback.has(feedback[2] ?? ""), line);
      }
    }
    if (direction === "sendonly") {
      streams.add(attribute(section, "msid")?.split(" ")[0] ?? "");
      assert.ok(section.lines.some((line) => /^a=ssrc:\d+ cname:gateway$/.test(line)));
    } else {
      assert.ok(!section.lines.some((line) => line.startsWith("a=ssrc")));
    }
  });
  if (direction === "sendonly") assert.deepEqual([...streams], ["sluice"], "one media stream");
  return accepted;
}

test("there are recorded offers of every kind of client", () => {
  assert.ok(WHEP.length >= 5 && WHIP.length >= 3);
});

for (const name of WHEP) {
  test(`answers the viewer offer ${name}`, () => {
    const text = read(name);
    const negotiated = answerPlay(parseOffer(text), TRACKS, OPTIONS);
    const accepted = checkAnswer(text, negotiated, "sendonly");
    assert.equal(accepted.length, 2, "audio and video are both accepted");
    const { video, audio } = negotiated;
    assert.ok(video !== undefined && audio !== undefined);
    const section = accepted.find((other) => other.head.startsWith("m=video"));
    assert.ok(section !== undefined);
    assert.equal(attribute(section, `rtpmap`), `${video.payloadType} H264/90000`);
    assert.match(video.formatParameters, /packetization-mode=1/);
    assert.match(video.formatParameters, /profile-level-id=42[ec]0/);
    const offered = parseOffer(text).media.find((other) => other.kind === "video");
    const codec = offered?.codecs.find((other) => other.payloadType === video.payloadType);
    const asymmetric = codec?.parameters.get("level-asymmetry-allowed") === "1";
    assert.equal(
      video.formatParameters.slice(-2),
      asymmetric ? "28" : "1f",
      "the level is the stream's where the offer allows it",
    );
    if (video.rtxPayloadType !== -1) {
      assert.ok(section.lines.includes(`a=fmtp:${video.rtxPayloadType} apt=${video.payloadType}`));
      assert.ok(section.lines.includes(`a=ssrc-group:FID ${video.ssrc} ${video.rtxSsrc}`));
    }
    assert.equal(audio.codec, "opus");
    assert.equal(audio.channels, 2);
  });
}

for (const name of WHIP) {
  test(`answers the publisher offer ${name}`, () => {
    const text = read(name);
    const negotiated = answerPublish(parseOffer(text), CODECS, OPTIONS);
    assert.equal(checkAnswer(text, negotiated, "recvonly").length, 2);
    assert.equal(negotiated.video?.codec, "h264");
    assert.equal(negotiated.audio?.codec, "opus");
    assert.notEqual(negotiated.video?.ssrc, 0);
  });
}

test("picks RTX, transport-cc and playout delay where a browser offers them", () => {
  const { video, audio } = answerPlay(parseOffer(read("chromium156-whep-offer.sdp")), TRACKS, OPTIONS);
  assert.deepEqual(video?.extensions, { mid: 9, transportCc: 4, playoutDelay: 5 });
  assert.deepEqual(audio?.extensions, { mid: 9, transportCc: 4, playoutDelay: 0 });
  assert.equal(video?.payloadType, 108);
  assert.equal(video?.rtxPayloadType, 109);
  assert.ok(video?.feedback.nack && video.feedback.transportCc && video.feedback.pli);
});

test("without RTX nothing in a packet's header may change, so no transport-cc and no playout delay are agreed on", () => {
  const text = read("chromium156-whep-offer.sdp").replaceAll("rtx/90000", "other/90000");
  const { video } = answerPlay(parseOffer(text), TRACKS, OPTIONS);
  assert.ok(video?.feedback.nack);
  assert.deepEqual(video?.extensions, { mid: 9, transportCc: 0, playoutDelay: 0 });
  assert.equal(video?.feedback.transportCc, false);
});

test("NACK and transport-cc can be switched off", () => {
  const { video, answer } = answerPlay(parseOffer(read("chromium156-whep-offer.sdp")), TRACKS, {
    ...OPTIONS,
    nack: false,
    twcc: false,
  });
  assert.deepEqual(video?.feedback, { nack: false, pli: true, fir: true, transportCc: false });
  assert.equal(video?.rtxPayloadType, -1);
  assert.ok(!/ nack\r\n|transport-cc|rtx/.test(answer));
});

test("chooses the H.264 profile nearest to the stream's", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["42e01f", "42e0"],
    ["42001f", "4200"],
    ["4d0028", "4d00"],
    ["640028", "4d00"], // High is not offered: Main is nearest, and 4:4:4 would be odd
    ["f4001f", "f400"],
  ];
  for (const [stream, chosen] of cases) {
    const video = { ...H264, formatParameters: `packetization-mode=1;profile-level-id=${stream}` };
    const negotiated = answerPlay(parseOffer(read("chromium156-whep-offer.sdp")), { video, audio: OPUS }, OPTIONS);
    const expected = `level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=${chosen}${stream.slice(4)}`;
    assert.equal(negotiated.video?.formatParameters, expected);
  }
});

test("takes the DTLS role that the offer leaves", () => {
  const text = read("ndc-whep-offer.sdp");
  for (const [setup, configured, role] of [
    ["actpass", "passive", "passive"],
    ["actpass", "active", "active"],
    ["active", "active", "passive"],
    ["passive", "passive", "active"],
  ] as const) {
    const offer = parseOffer(text.replaceAll("setup:actpass", `setup:${setup}`));
    const negotiated = answerPlay(offer, TRACKS, { ...OPTIONS, dtlsRole: configured });
    assert.equal(negotiated.dtlsRole, role);
    assert.equal(negotiated.answer.split(`a=setup:${role}\r\n`).length, 3);
  }
});

test("refuses the section of a track that the stream does not have", () => {
  const text = read("ndc-whep-offer.sdp");
  const negotiated = answerPlay(parseOffer(text), { video: H264, audio: undefined }, OPTIONS);
  checkAnswer(text, negotiated, "sendonly");
  assert.match(negotiated.answer, /m=audio 0 UDP\/TLS\/RTP\/SAVPF 111\r\n/);
  assert.equal(negotiated.audio, undefined);
});

test("refuses a data channel's section and answers the rest", () => {
  const text = `${read("ndc-whep-offer.sdp")}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=ice-ufrag:/bDJ\r\na=ice-pwd:3/cU5wlJIvuBCkqX8AMGyL\r\n`;
  const negotiated = answerPlay(parseOffer(text), TRACKS, OPTIONS);
  assert.equal(checkAnswer(text, negotiated, "sendonly").length, 2);
  assert.match(negotiated.answer, /m=application 0 UDP\/DTLS\/SCTP webrtc-datachannel\r\n/);
});

const ndc = (): string => read("ndc-whep-offer.sdp");
const REFUSALS: readonly (readonly [string, () => string, "bad-request" | "unsupported", RegExp])[] = [
  ["nothing", () => "", "bad-request", /empty/],
  ["something else", () => "hello", "bad-request", /v=0/],
  ["no m-line", () => "v=0\r\ns=-\r\n", "bad-request", /no m-line/],
  ["10 MB", () => `${ndc()}${"a=x:y\r\n".repeat(1_500_000)}`, "bad-request", /characters/],
  ["too many lines", () => `${ndc()}${"a=x\r\n".repeat(9_000)}`, "bad-request", /lines/],
  ["a line without end", () => `${ndc()}a=${"x".repeat(10_000)}\r\n`, "bad-request", /line \d+ has/],
  ["a hundred m-lines", () => `v=0\r\n${"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(100)}`, "bad-request", /m-lines/],
  ["no BUNDLE", () => ndc().replace(/a=group:BUNDLE.*\r?\n/, ""), "bad-request", /BUNDLE/],
  ["no rtcp-mux", () => ndc().replaceAll(/a=rtcp-mux\r?\n/g, ""), "bad-request", /rtcp-mux/],
  ["no fingerprint", () => ndc().replaceAll(/a=fingerprint.*\r?\n/g, ""), "bad-request", /fingerprint/],
  ["a weak fingerprint", () => ndc().replace(/sha-256 .*/, "sha-1 AA:BB"), "bad-request", /fingerprint/],
  ["no ICE password", () => ndc().replaceAll(/a=ice-pwd.*\r?\n/g, ""), "bad-request", /ice-pwd/],
  ["an ICE user name with markup", () => ndc().replaceAll("ice-ufrag:/bDJ", "ice-ufrag:<script>"), "bad-request", /ice-ufrag/],
  ["a mid with a blank", () => ndc().replace("a=mid:0", "a=mid:0 a"), "bad-request", /mid/],
  ["the same mid twice", () => ndc().replace("a=mid:1", "a=mid:0"), "bad-request", /same mid/],
  ["a control character", () => ndc().replace("s=-", "s=\u0001"), "bad-request", /line 3/],
  ["a carriage return inside a line", () => ndc().replace("a=mid:0", "a=mid:0\ra=x"), "bad-request", /line \d+/],
  ["a payload type of 200", () => ndc().replaceAll("SAVPF 102", "SAVPF 200"), "bad-request", /payload type/],
  ["holdconn", () => ndc().replaceAll("setup:actpass", "setup:holdconn"), "bad-request", /setup/],
  ["plain RTP", () => ndc().replaceAll("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "bad-request", /DTLS/],
  ["a sender", () => ndc().replaceAll("recvonly", "sendonly"), "bad-request", /recvonly/],
  ["an inactive offer", () => ndc().replaceAll("recvonly", "inactive"), "bad-request", /inactive/],
  ["no H.264", () => ndc().replace("H264/90000", "VP8/90000"), "unsupported", /stream is h264.*offers vp8/],
  [
    "H.264 without fragments",
    () => ndc().replace("packetization-mode=1", "packetization-mode=0"),
    "unsupported",
    /packetization-mode 1/,
  ],
  ["mono Opus", () => ndc().replace("opus/48000/2", "opus/48000"), "unsupported", /opus/],
  ["nothing but a data channel", () => dataChannelOnly(), "unsupported", /nothing offered/],
  ["two video sections", () => twoVideos(), "unsupported", /more than one video/],
];

function dataChannelOnly(): string {
  const text = ndc();
  return `${text.slice(0, text.indexOf("m=video"))}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\na=ice-ufrag:/bDJ\r\na=ice-pwd:3/cU5wlJIvuBCkqX8AMGyL\r\n`;
}

function twoVideos(): string {
  const text = ndc();
  const video = text.slice(text.indexOf("m=video"), text.indexOf("m=audio"));
  return text.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + video.replace("a=mid:0", "a=mid:2");
}

for (const [name, offer, code, reason] of REFUSALS) {
  test(`refuses an offer with ${name}`, () => {
    assert.throws(
      () => answerPlay(parseOffer(offer()), TRACKS, OPTIONS),
      (error) => {
        assert.ok(error instanceof Refusal, String(error));
        assert.equal(error.code, code);
        assert.match(error.message, reason);
        assert.ok(error.message.length < 300);
        return true;
      },
    );
  });
}

test("refuses a publisher that offers simulcast, two streams, or to receive", () => {
  const text = read("chromium156-whip-offer.sdp");
  const refused = (sdp: string, code: string): void => {
    assert.throws(
      () => answerPublish(parseOffer(sdp), CODECS, OPTIONS),
      (error) => error instanceof Refusal && error.code === code,
    );
  };
  refused(text.replaceAll("a=sendonly", "a=sendonly\r\na=simulcast:send a;b"), "unsupported");
  refused(text.replace(/a=msid:\S+/, "a=msid:another"), "unsupported");
  refused(text.replaceAll("a=sendonly", "a=recvonly"), "bad-request");
});

test("an offer of the greatest size is read, one character more is not", () => {
  const text = ndc();
  const filler = Array.from({ length: 64 }, () => `a=x:${"y".repeat(4_000)}`).join("\r\n");
  const padded = `${text}${filler}\r\n`;
  assert.doesNotThrow(() => parseOffer(padded.slice(0, MAX_SDP_SIZE)));
  assert.throws(() => parseOffer(padded.padEnd(MAX_SDP_SIZE + 1, "\n")), Refusal);
});

test("static payload types need no rtpmap", () => {
  const offer = parseOffer(read("chromium156-whep-offer.sdp").replaceAll(/a=rtpmap:[08] .*\r?\n/g, ""));
  const audio = offer.media.find((media) => media.kind === "audio");
  assert.deepEqual(
    audio?.codecs
      .filter((codec) => codec.payloadType === 0 || codec.payloadType === 8)
      .map((codec) => `${codec.name}/${codec.clockRate}`),
    ["pcmu/8000", "pcma/8000"],
  );
});

test("redundant sound is agreed on where the offer has it for the codec alone, and where no retransmission could contradict it", () => {
  const text = read("chromium156-whep-offer.sdp");
  const { audio, answer } = answerPlay(parseOffer(text), TRACKS, OPTIONS);
  assert.deepEqual([audio?.payloadType, audio?.redPayloadType], [111, 63]);
  assert.match(answer, /^m=audio 9 \S+ 63 111\r$/m, "preferred, else a browser does not use it");
  assert.match(answer, /^a=rtpmap:63 red\/48000\/2\r\na=fmtp:63 111\/111\r$/m);
  const none = {
    "another codec's": text.replace("fmtp:63 111/111", "fmtp:63 111/9"),
    "a single block": text.replace("fmtp:63 111/111", "fmtp:63 111"),
    "no fmtp": text.replace("a=fmtp:63 111/111\r\n", ""),
    "repeats in the same source": text.replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 nack"),
    "not offered": text.replace("red/48000", "blue/48000"),
  };
  for (const [name, offer] of Object.entries(none)) {
    const other = answerPlay(parseOffer(offer), TRACKS, OPTIONS);
    assert.equal(other.audio?.redPayloadType, -1, name);
    assert.doesNotMatch(other.answer, / red\//, name);
  }
  const whip = answerPublish(parseOffer(read("chromium156-whip-offer.sdp")), CODECS, OPTIONS);
  assert.equal(whip.audio?.redPayloadType, 63);
});
