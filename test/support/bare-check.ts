// The connectivity check as users of the guide type it: the offer, the UDP packet, and what must come back.

import { createHmac } from "node:crypto";
import { crc32 } from "node:zlib";

export const CHECK_USER = "6pk11386";
export const CHECK_PASSWORD = "l91z529147ri9163933p51c4";

const section = (kind: string, mid: number, type: number, codec: string, ssrc: number): string[] => [
  `m=${kind} 9 UDP/TLS/RTP/SAVPF ${type}`,
  "c=IN IP4 0.0.0.0",
  "a=rtcp:9 IN IP4 0.0.0.0",
  "a=ice-ufrag:J8X7",
  "a=ice-pwd:Dpq7/fW/osYcPeLsCW2Ek1JH",
  "a=setup:actpass",
  `a=mid:${mid}`,
  "a=sendonly",
  `a=msid:- ${kind}`,
  "a=rtcp-mux",
  `a=rtpmap:${type} ${codec}`,
  `a=ssrc:${ssrc} cname:stream`,
];

/** No `o=`, `s=`, `t=`, no fingerprint, no fmtp, and no line break at the end. */
export const BARE_OFFER = [
  "v=0",
  "a=group:BUNDLE 0 1",
  ...section("audio", 0, 111, "opus/48000/2", 3184534672),
  ...section("video", 1, 106, "H264/90000", 512761356),
].join("\r\n");

/** A binding request with USERNAME `6pk11386:J8X7`, NETWORK-COST, ICE-CONTROLLING, PRIORITY, signed with the password above. */
export const CHECK_REQUEST: Buffer = Buffer.from(
  [
    "000100502112a442" + "74796d7a41512b2f4a4b7752",
    "0006000d" + "36706b31313338363a4a385837000000",
    "c0570004" + "0001000a",
    "802a0008" + "daad1dcee8955a83",
    "00240004" + "6e7f1eff",
    "00080014" + "568f1e1e4f5f17f92ea1ecbd51d9a227e4fddab1",
    "80280004" + "84d35a79",
  ].join(""),
  "hex",
);

/** The success response to it, put together here by RFC 8489 and by nothing of the gateway. @param address IPv4 */
export function checkResponse(address: string, port: number): Buffer {
  const head = Buffer.concat([Buffer.from("010100002112a442", "hex"), CHECK_REQUEST.subarray(8, 20)]);
  const mapped = Buffer.from([0, 0x20, 0, 8, 0, 1, 0, 0, 0, 0, 0, 0]);
  mapped.writeUInt16BE(port ^ 0x2112, 6);
  for (const [index, part] of address.split(".").entries()) mapped[8 + index] = Number(part) ^ (head[4 + index] ?? 0);
  const attributes = Buffer.concat([CHECK_REQUEST.subarray(20, 40), mapped]); // USERNAME as it came
  head.writeUInt16BE(attributes.length + 24, 2);
  const integrity = createHmac("sha1", CHECK_PASSWORD).update(head).update(attributes).digest();
  head.writeUInt16BE(attributes.length + 24 + 8, 2);
  const signed = Buffer.concat([head, attributes, Buffer.from([0, 8, 0, 20]), integrity]);
  const fingerprint = Buffer.from([0x80, 0x28, 0, 4, 0, 0, 0, 0]);
  fingerprint.writeUInt32BE((crc32(signed) ^ 0x5354554e) >>> 0, 4);
  return Buffer.concat([signed, fingerprint]);
}
