// Fragments of SDP that bring candidates or new ICE credentials (RFC 8840 section 9, RFC 9725 section 4.3): read and written.

import { Refusal } from "../media/errors.js";
import { type Candidate, candidateLines, type IceCredentials } from "./sdp-answer.js";

export type Fragment = {
  /** Empty when the fragment names none. */
  readonly usernameFragment: string;
  readonly password: string;
  /** Lines of candidates: none is of use to an ICE-lite agent, which learns addresses from checks. */
  readonly candidates: number;
};

/** @throws Refusal `bad-request` */
export function parseFragment(text: string): Fragment {
  const lines = text.split("\n");
  if (text.trim() === "") refuse("it is empty");
  if (lines.length > MAX_LINES) refuse(`it has more than ${MAX_LINES} lines`);
  let usernameFragment = "";
  let password = "";
  let candidates = 0;
  for (let index = 0; index < lines.length; index++) {
    const line = (lines[index] ?? "").replace(/\r$/, "");
    if (line === "") continue;
    if (line.length > MAX_LINE_LENGTH || !LINE.test(line)) refuse(`line ${index + 1} is neither an attribute nor an m-line`);
    const [name = "", value = ""] = splitAttribute(line);
    if (name === "ice-ufrag") {
      if (!USERNAME_FRAGMENT.test(value)) refuse(`ice-ufrag at line ${index + 1} is out of its grammar`);
      if (usernameFragment !== "" && usernameFragment !== value)
        refuse("it has two different ice-ufrag: all media share one transport");
      usernameFragment = value;
    } else if (name === "ice-pwd") {
      if (!PASSWORD.test(value)) refuse(`ice-pwd at line ${index + 1} is out of its grammar`);
      if (password !== "" && password !== value) refuse("it has two different ice-pwd: all media share one transport");
      password = value;
    } else if (name === "candidate") {
      if (!CANDIDATE.test(value)) refuse(`the candidate at line ${index + 1} cannot be read`);
      candidates++;
    }
  }
  return { usernameFragment, password, candidates };
}

/** What answers an ICE restart. @param media the kind and the mids of the bundle, the first one's being the kind's */
export function writeFragment(
  ice: IceCredentials,
  media: { readonly kind: string; readonly mids: readonly string[] },
  candidates: readonly Candidate[],
): string {
  return [
    "a=ice-lite",
    "a=ice-options:trickle ice2",
    `a=group:BUNDLE ${media.mids.join(" ")}`,
    `m=${media.kind} 9 UDP/TLS/RTP/SAVPF 0`,
    `a=mid:${media.mids[0] ?? ""}`,
    `a=ice-ufrag:${ice.usernameFragment}`,
    `a=ice-pwd:${ice.password}`,
    ...candidateLines(candidates),
    "a=end-of-candidates",
    "",
  ].join("\r\n");
}

function splitAttribute(line: string): readonly [string, string] | readonly [] {
  if (!line.startsWith("a=")) return [];
  const colon = line.indexOf(":");
  return colon === -1 ? [line.slice(2), ""] : [line.slice(2, colon), line.slice(colon + 1).trim()];
}

function refuse(reason: string): never {
  throw new Refusal("bad-request", `SDP fragment: ${reason}`);
}

const MAX_LINES = 1024;
const MAX_LINE_LENGTH = 2048;
const LINE = /^[am]=[^\p{Cc}]+$/u;
const USERNAME_FRAGMENT = /^[A-Za-z0-9+/]{4,256}$/; // RFC 8839 section 5.4
const PASSWORD = /^[A-Za-z0-9+/]{22,256}$/;
/** foundation, component, transport, priority, address, port, type, then extensions (RFC 8839 section 5.1); an empty value ends them. */
const CANDIDATE = /^(?:[A-Za-z0-9+/]{1,32} \d{1,3} \S+ \d{1,10} \S+ \d{1,5} typ \S+(?: .*)?)?$/;
