import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";

import { addressOf } from "../../gateway/native/library.js";
import { createSrtpReceiver } from "../../gateway/native/srtp.js";
import { CipherWorkspace, createRtpProtector, GcmRtcpProtector, MAX_TAG } from "../../gateway/native/srtp-cipher.js";
import { deriveSessionKeys, type SessionKeys } from "../../gateway/native/srtp-keys.js";
import { PortableSrtpSender } from "../../gateway/native/srtp-portable.js";
import type { SrtpKeys, SrtpProfile } from "../../gateway/native/types.js";

const PROFILES: readonly SrtpProfile[] = ["AEAD_AES_128_GCM", "AES128_CM_SHA1_80", "AEAD_AES_256_GCM"];

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ""), "hex");

function keysOf(profile: SrtpProfile): SrtpKeys {
  const isAead = profile !== "AES128_CM_SHA1_80";
  return { profile, key: randomBytes(profile === "AEAD_AES_256_GCM" ? 32 : 16), salt: randomBytes(isAead ? 12 : 14) };
}

function session(rtpKey: string, rtpSalt: string, rtpAuthentication = ""): SessionKeys {
  const [key, salt, authentication] = [hex(rtpKey), hex(rtpSalt), hex(rtpAuthentication)];
  return {
    rtpKey: key,
    rtpSalt: salt,
    rtpAuthentication: authentication,
    rtcpKey: key,
    rtcpSalt: salt,
    rtcpAuthentication: authentication,
  };
}

function header(sequenceNumber: number, ssrc: number): Buffer {
  const bytes = hex("8060 0000 00000000 00000000");
  bytes.writeUInt16BE(sequenceNumber & 0xffff, 2);
  bytes.writeUInt32BE(ssrc, 8);
  return bytes;
}

test("derives the session keys of RFC 3711 appendix B.3", () => {
  const keys = deriveSessionKeys({
    profile: "AES128_CM_SHA1_80",
    key: hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
    salt: hex("0EC675AD498AFEEBB6960B3AABE6"),
  });
  assert.equal(keys.rtpKey.toString("hex"), "c61e7a93744f39ee10734afe3ff7a087");
  assert.equal(keys.rtpSalt.toString("hex"), "30cbbc08863d8c85d49db34a9ae1");
  assert.equal(keys.rtpAuthentication.toString("hex"), "cebe321f6ff7716b6fd4ab49af256a156d38baa4");
});

test("a key or salt of the wrong length is refused by name", () => {
  const wrong: SrtpKeys = { profile: "AEAD_AES_128_GCM", key: randomBytes(16), salt: randomBytes(14) };
  assert.throws(() => deriveSessionKeys(wrong), /AEAD_AES_128_GCM.*salt of 12/);
});

// "Gallia est omnis divisa in partes tres" of RFC 7714 sections 16.1.1 and 16.2.1, RTCP of sections 17.1.1 and 17.3
const RTP = hex("8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e697320646976697361 20696e207061727465732074726573");
const RTCP = hex(
  "81c8000d4d6172734e5450314e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef",
);
const VECTORS = [
  {
    profile: "AEAD_AES_128_GCM",
    keys: session("000102030405060708090a0b0c0d0e0f", "517569642070726f2071756f"),
    protected:
      hex(`8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833
      899d7f27 beb16a91 52cf765e e4390cce`),
  },
  {
    profile: "AEAD_AES_256_GCM",
    keys: session("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "517569642070726f2071756f"),
    protected:
      hex(`8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b
      7aa3db36 dfffd6b0 f9bb7878 d7a76c13`),
  },
] as const;

for (const vector of VECTORS) {
  test(`protects the packet of RFC 7714 section 16 with ${vector.profile}, natively and portably`, () => {
    const keys: SrtpKeys = { profile: vector.profile, key: Buffer.alloc(0), salt: Buffer.alloc(0) };
    const portable = new PortableSrtpSender(keys, vector.keys).protectRtp(RTP.subarray(0, 12), RTP.subarray(12), 0);
    assert.equal(portable.toString("hex"), vector.protected.toString("hex"));

    const workspace = new CipherWorkspace();
    for (const direct of [true, false]) {
      const protector = createRtpProtector(workspace, keys, { session: vector.keys, direct });
      const memory = Buffer.alloc(RTP.length + MAX_TAG + RTP.length);
      RTP.copy(memory, 0, 0, 12);
      RTP.copy(memory, RTP.length + MAX_TAG);
      const address = addressOf(memory);
      const payload = address + RTP.length + MAX_TAG + 12;
      assert.ok(protector.protect(address, 12, payload, RTP.length - 12, 0x5501a0b2, 0, 0xf17b));
      assert.equal(memory.toString("hex", 0, RTP.length + protector.tagLength), vector.protected.toString("hex"));
      protector.close();
    }
    workspace.close();
  });
}

test("protects the RTCP packet of RFC 7714 section 17.1", () => {
  const keys: SrtpKeys = { profile: "AEAD_AES_128_GCM", key: Buffer.alloc(0), salt: Buffer.alloc(0) };
  const sender = new PortableSrtpSender(keys, VECTORS[0].keys);
  for (let index = 0; index < 0x5d4; index++) sender.protectRtcp(RTCP);
  const expected =
    hex(`81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded
    0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4`);
  assert.equal(sender.protectRtcp(RTCP).toString("hex"), expected.toString("hex"));

  const workspace = new CipherWorkspace();
  for (const direct of [true, false]) {
    const protector = new GcmRtcpProtector(workspace, keys, { session: VECTORS[0].keys, direct });
    const memory = Buffer.alloc(1024);
    const view = new DataView(memory.buffer, memory.byteOffset, memory.length);
    for (let index = 0; index <= 0x5d4; index++) {
      RTCP.copy(memory, 100);
      assert.ok(protector.protect(view, addressOf(memory), 100, RTCP.length));
    }
    assert.equal(memory.toString("hex", 100, 100 + expected.length), expected.toString("hex"));
    protector.close();
  }
  workspace.close();
});

test("AES-CM keeps to RFC 3711 appendix B.2 and the native and the portable sender agree at all lengths", () => {
  const keys: SrtpKeys = { profile: "AES128_CM_SHA1_80", key: Buffer.alloc(0), salt: Buffer.alloc(0) };
  const vector = session("2B7E151628AED2A6ABF7158809CF4F3C", "F0F1F2F3F4F5F6F7F8F9FAFBFCFD", "00".repeat(20));
  const plain = new PortableSrtpSender(keys, vector).protectRtp(header(0, 0), Buffer.alloc(32), 0);
  assert.equal(plain.toString("hex", 12, 44), "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab");
});

for (const profile of PROFILES) {
  test(`${profile}: the native and the portable sender agree at every length, counter and header`, () => {
    const keys = keysOf(profile);
    const workspace = new CipherWorkspace();
    const protectors = [createRtpProtector(workspace, keys), createRtpProtector(workspace, keys, { direct: false })];
    const portable = new PortableSrtpSender(keys);
    const memory = Buffer.alloc(8192);
    const address = addressOf(memory);
    const lengths = [0, 1, 15, 16, 17, 31, 100, 192, 255, 256, 287, 288, 289, 700, 1199, 1300];
    for (const [round, length] of lengths.entries()) {
      const rolloverCounter = [0, 1, 0x7fff, 0x1_0000, 0xffff_ffff][round % 5] ?? 0;
      const sequenceNumber = [0, 1, 0x7fff, 0x8000, 0xffff][round % 5] ?? 0;
      const ssrc = [0, 1, 0x8000_0000, 0xffff_ffff][round % 4] ?? 0;
      const head = Buffer.concat([header(sequenceNumber, ssrc), randomBytes((round % 4) * 4)]);
      const payload = randomBytes(length);
      const expected = portable.protectRtp(head, payload, rolloverCounter);
      for (const protector of protectors) {
        memory.fill(0);
        head.copy(memory);
        payload.copy(memory, 4096);
        assert.ok(protector.protect(address, head.length, address + 4096, length, ssrc, rolloverCounter, sequenceNumber));
        assert.equal(memory.toString("hex", 0, expected.length), expected.toString("hex"), `length ${length}`);
      }
    }
    for (const protector of protectors) {
      protector.close();
      protector.close();
    }
    workspace.close();
  });

  for (const direct of profile === "AES128_CM_SHA1_80" ? [false] : [true, false]) {
    test(`${profile}${direct ? "" : " by EVP"}: forged, cut and replayed packets are dropped, each only once let through`, () => {
      const keys = keysOf(profile);
      const sender = new PortableSrtpSender(keys);
      const receiver = createSrtpReceiver(keys, { direct });
      const rtp = sender.protectRtp(header(7, 1), Buffer.from("payload"), 0);
      const rtcp = sender.protectRtcp(hex("80c90001 00000001"));
      for (const [packet, unprotect] of [
        [rtp, receiver.unprotectRtp],
        [rtcp, receiver.unprotectRtcp],
      ] as const) {
        const open = unprotect.bind(receiver);
        for (let length = 0; length < packet.length; length++) assert.equal(open(packet.subarray(0, length)), undefined);
        for (let bit = 0; bit < packet.length * 8; bit++) {
          const forged = Buffer.from(packet);
          forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          assert.equal(open(forged), undefined, `bit ${bit}`);
        }
        assert.equal(open(Buffer.concat([packet, Buffer.alloc(1)])), undefined);
        assert.ok(open(packet));
        assert.equal(open(packet), undefined, "replayed");
      }
      for (const length of [0, 1, 15, 16, 17, 255, 256, 287, 288, 289, 700, 1300]) {
        const payload = randomBytes(length);
        const plain = receiver.unprotectRtp(sender.protectRtp(header(length + 10, 1), payload, 0));
        assert.equal(plain?.toString("hex", 12), payload.toString("hex"), `length ${length}`);
      }
      receiver.close();
      receiver.close();
      assert.equal(receiver.unprotectRtp(sender.protectRtp(header(9000, 1), Buffer.alloc(1), 0)), undefined);
    });
  }
}

test("the rollover counter follows loss and reordering around the wrap, and each source has its own", () => {
  const keys = keysOf("AEAD_AES_128_GCM");
  const sender = new PortableSrtpSender(keys);
  const receiver = createSrtpReceiver(keys);
  const packet = (index: number, ssrc: number): Buffer =>
    sender.protectRtp(header(index, ssrc), Buffer.from(String(index)), Math.floor(index / 0x1_0000));
  const order = [65_530, 65_534, 65_537, 65_535, 65_533, 65_540, 65_536, 98_000, 130_000, 131_071, 131_080, 131_072];
  for (const ssrc of [1, 0xffff_ffff]) {
    for (const index of order) {
      const plain = receiver.unprotectRtp(packet(index, ssrc));
      assert.equal(plain?.toString("latin1", 12), String(index));
    }
    for (const index of order) assert.equal(receiver.unprotectRtp(packet(index, ssrc)), undefined, `replayed ${index}`);
    assert.equal(receiver.unprotectRtp(packet(129_000, ssrc)), undefined, "older than the window");
    assert.ok(receiver.unprotectRtp(packet(131_080 - 1023, ssrc)), "the window's last");
  }
  // the first packet that arrives was sent after the wrap
  assert.ok(receiver.unprotectRtp(packet(65_536 + 3, 77)));
  assert.ok(receiver.unprotectRtp(packet(65_535, 77)));
  receiver.close();
});

test("a peer may use 64 sources, and forged ones use up none", () => {
  const keys = keysOf("AEAD_AES_128_GCM");
  const sender = new PortableSrtpSender(keys);
  const receiver = createSrtpReceiver(keys);
  const forger = new PortableSrtpSender(keysOf("AEAD_AES_128_GCM"));
  for (let ssrc = 1000; ssrc < 2000; ssrc++) receiver.unprotectRtp(forger.protectRtp(header(1, ssrc), Buffer.alloc(4), 0));
  for (let ssrc = 0; ssrc < 64; ssrc++) assert.ok(receiver.unprotectRtp(sender.protectRtp(header(1, ssrc), Buffer.alloc(4), 0)));
  assert.equal(receiver.unprotectRtp(sender.protectRtp(header(1, 64), Buffer.alloc(4), 0)), undefined);
  receiver.close();
});
