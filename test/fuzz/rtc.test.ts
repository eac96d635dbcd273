// Whatever comes from the network into the WebRTC side: nothing throws, nothing that is broken has an effect.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import fc from "fast-check";

import { Refusal } from "../../gateway/media/errors.js";
import { parseOffer } from "../../gateway/rtc/sdp.js";
import { answerPlay, answerPublish } from "../../gateway/rtc/sdp-answer.js";
import { RtcpReader } from "../../gateway/rtp/rtcp.js";
import { TransportCcSender } from "../../gateway/rtp/transport-cc.js";
import { PacketSource } from "../support/packet-source.js";
import { RtcWorld } from "../support/rtc-world.js";
import { seededRandom } from "../support/seeded.js";

const OFFERS = fileURLToPath(new URL("../../../test/offers/", import.meta.url));
const TEXTS = readdirSync(OFFERS)
  .filter((name) => name.endsWith(".sdp"))
  .map((name) => readFileSync(`${OFFERS}${name}`, "utf8"));
const OPTIONS = {
  ice: { usernameFragment: "abcd", password: "0123456789012345678901" },
  fingerprint: "AB",
  dtlsRole: "passive",
  candidates: [],
  sessionId: "1",
  cname: "c",
  streamId: "s",
  nack: true,
  twcc: true,
  newSsrc: () => 1,
} as const;
const TRACKS = {
  video: { kind: "video", codec: "h264", clockRate: 90_000, formatParameters: "" },
  audio: { kind: "audio", codec: "opus", clockRate: 48_000, channels: 2, formatParameters: "" },
} as const;

test("a mutated offer is answered in clean SDP or refused with a reason", () => {
  const fragments = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    "a=mid:",
    "m=video 9 UDP/TLS/RTP/SAVPF 96",
    ":",
    " ",
    "999999999999",
    "<script>",
    "a=",
    "é",
    "-1",
    "/",
  ];
  const seed = 20_261_122;
  const random = seededRandom(seed);
  const pick = (size: number): number => Math.floor(random() * size);
  let answered = 0;
  for (let round = 0; round < 1_500; round++) {
    let text = TEXTS[pick(TEXTS.length)] ?? "";
    for (let count = pick(4); count >= 0; count--) {
      const at = pick(text.length);
      const length = pick(30);
      text = text.slice(0, at) + (random() < 0.5 ? (fragments[pick(fragments.length)] ?? "") : "") + text.slice(at + length);
    }
    for (const answer of [answerPlay, answerPublish] as const) {
      try {
        const parsed = parseOffer(text);
        const negotiated =
          answer === answerPlay
            ? answerPlay(parsed, TRACKS, OPTIONS)
            : answerPublish(parsed, { audio: ["opus"], video: ["h264"] }, OPTIONS);
        for (const line of negotiated.answer.split("\r\n").slice(0, -1))
          assert.match(line, /^[a-z]=[^\p{Cc}<>]*$/u, `seed ${seed}, round ${round}`);
        answered++;
      } catch (error) {
        assert.ok(error instanceof Refusal, `seed ${seed}, round ${round}: ${String(error)}`);
      }
    }
  }
  assert.ok(answered > 250, `${answered} were answered`);
});

test("random RTCP is walked without a throw and never past its end", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 0, maxLength: 120 }),
      fc.integer({ min: 200, max: 207 }),
      fc.integer({ min: 0, max: 31 }),
      (bytes, type, count) => {
        const compound = Buffer.from(bytes);
        if (compound.length >= 4) {
          compound[0] = 0x80 | count;
          compound[1] = type;
          compound.writeUInt16BE(Math.floor(compound.length / 4) - 1, 2);
        }
        const reader = new RtcpReader();
        const cc = new TransportCcSender();
        for (let sent = 0; sent < 70_000; sent += 7_000) cc.sent(sent, 1000);
        if (!reader.open(compound.subarray(0, compound.length & ~3))) return;
        while (reader.next()) {
          assert.ok(reader.end <= compound.length);
          cc.feedback(reader);
        }
      },
    ),
    { numRuns: 2_000, seed: 7 },
  );
});

test("a session survives mutated and random datagrams from its own peer, and plays on", async () => {
  const world = new RtcWorld();
  await world.start();
  const { stream } = await world.publish();
  const source = new PacketSource(stream.packets, world.clock.wallTime(), { group: 100 });
  world.run(2_000, 40, () => source.next());
  const peer = await world.join();
  const seed = 99;
  const random = seededRandom(seed);
  const send = peer.up.send.bind(peer.up);
  peer.start();
  world.run(1_000, 40, () => source.next());
  peer.up.send = (datagram) => {
    send(datagram);
    for (let copy = 0; copy < 20; copy++) {
      const mutant = Buffer.from(datagram.subarray(0, 1 + Math.floor(random() * datagram.length)));
      for (let flips = 0; flips < 3; flips++) mutant[Math.floor(random() * mutant.length)] = Math.floor(random() * 256);
      if ((mutant[0] ?? 0) >= 20 && (mutant[0] ?? 0) <= 63) continue; // the handshake's own parser is OpenSSL's
      send(mutant);
    }
  };
  world.run(8_000, 40, () => {
    source.next();
    peer.nack(peer.video ?? assert.fail(), [Math.floor(random() * 65_536)]);
    if (random() < 0.1) peer.pictureLoss();
  });
  peer.up.send = send;
  const before = peer.video?.packets.size ?? 0;
  world.run(2_000, 40, () => source.next());
  assert.ok((peer.video?.packets.size ?? 0) >= before + 90, `seed ${seed}`);
  assert.equal(world.rtc.session(peer.id)?.state, "connected");
});
