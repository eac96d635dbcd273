// The offers that the doctor makes, and what it needs of an answer.

export type Credentials = { readonly usernameFragment: string; readonly password: string };

/** Whatever a stream may be made of, to receive. */
export function fullOffer(own: Credentials & { readonly fingerprint: string }): string {
  const video = [
    ...["42e01f", "4d001f", "640032"].flatMap((profile, index) =>
      codec(102 + index, "H264/90000", `level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=${profile}`),
    ),
    ...codec(96, "VP8/90000"),
    ...codec(98, "VP9/90000"),
    ...codec(45, "AV1/90000"),
    ...codec(49, "H265/90000"),
  ];
  const audio = [...codec(111, "opus/48000/2", "minptime=10;useinbandfec=1"), ...codec(0, "PCMU/8000"), ...codec(8, "PCMA/8000")];
  const security = [`a=fingerprint:sha-256 ${own.fingerprint}`];
  return text([
    "o=- 1 1 IN IP4 0.0.0.0",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0 1",
    ...section("audio", 0, "111 0 8", [...security, "a=recvonly", ...audio], own),
    ...section("video", 1, "102 103 104 96 98 45 49", [...security, "a=recvonly", ...video], own),
  ]);
}

/** For a connectivity check: nothing that could be encrypted. */
export function bareOffer(own: Credentials, direction: "sendonly" | "recvonly"): string {
  return text([
    "a=group:BUNDLE 0 1",
    ...section("audio", 0, "111", [`a=${direction}`, ...codec(111, "opus/48000/2")], own),
    ...section("video", 1, "106", [`a=${direction}`, ...codec(106, "H264/90000")], own),
  ]);
}

export type Answer = Credentials & {
  readonly fingerprint: { readonly algorithm: string; readonly value: string };
  readonly candidates: readonly { readonly transport: string; readonly address: string; readonly port: number }[];
};

/** Reads an answer that comes from a gateway that may be anybody's: what is missing is empty. */
export function parseAnswer(sdp: string): Answer {
  const value = (name: string): string => new RegExp(`^a=${name}:(.+?)\\s*$`, "m").exec(sdp)?.[1] ?? "";
  const [algorithm = "", hash = ""] = value("fingerprint").split(" ");
  const lines = new Set([...sdp.matchAll(/^a=candidate:\S+ 1 (\S+ \d+ \S+ \d+)/gm)].map((match) => match[1] ?? ""));
  const candidates = [...lines].slice(0, MAX_CANDIDATES).map((line) => {
    const [transport = "", , address = "", port = ""] = line.split(" ");
    return { transport: transport.toLowerCase(), address, port: Number(port) };
  });
  return {
    usernameFragment: value("ice-ufrag"),
    password: value("ice-pwd"),
    fingerprint: { algorithm, value: hash },
    candidates: candidates.filter(({ port }) => port >= 1 && port <= 65535),
  };
}

function codec(type: number, name: string, parameters?: string): string[] {
  return [`a=rtpmap:${type} ${name}`, ...(parameters === undefined ? [] : [`a=fmtp:${type} ${parameters}`])];
}

function section(kind: string, mid: number, types: string, lines: readonly string[], own: Credentials): string[] {
  return [
    `m=${kind} 9 UDP/TLS/RTP/SAVPF ${types}`,
    "c=IN IP4 0.0.0.0",
    `a=ice-ufrag:${own.usernameFragment}`,
    `a=ice-pwd:${own.password}`,
    "a=setup:active",
    `a=mid:${mid}`,
    "a=rtcp-mux",
    ...lines,
  ];
}

function text(lines: readonly string[]): string {
  return ["v=0", ...lines, ""].join("\r\n");
}

const MAX_CANDIDATES = 32;
