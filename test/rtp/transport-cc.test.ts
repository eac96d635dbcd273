import assert from "node:assert/strict";
import { test } from "node:test";

import { FeedbackFormat, RtcpReader, RtcpType, writeRtcpHeader } from "../../gateway/rtp/rtcp.js";
import { TransportCcSender, writeTransportCc } from "../../gateway/rtp/transport-cc.js";

/** A whole feedback packet, as a reader sees it. */
function feedback(base: number, arrivals: readonly number[], count = 0): RtcpReader {
  const out = Buffer.alloc(4000);
  let end = writeRtcpHeader(out, 0, FeedbackFormat.transportCc, RtcpType.transportFeedback, 8, 1);
  end = out.writeUInt32BE(2, end);
  end = writeTransportCc(out, end, base, count, arrivals);
  end = (end + 3) & ~3;
  out.writeUInt16BE(end / 4 - 1, 2);
  const reader = new RtcpReader();
  assert.ok(reader.open(out.subarray(0, end)) && reader.next());
  return reader;
}

/** Sends packets of 1,000 bytes every 4 ms. */
function sender(count: number): TransportCcSender {
  const cc = new TransportCcSender();
  for (let index = 0; index < count; index++) {
    assert.equal(cc.next(), index & 0xffff);
    cc.sent(1_000 + index * 4, 1000);
  }
  return cc;
}

test("feedback gives loss and the rate that arrived", () => {
  const cc = sender(500);
  const arrivals = Array.from({ length: 500 }, (_, index) => (index % 10 === 3 ? -1 : 4_000 + index * 16)); // 250 µs units: every 4 ms
  assert.ok(cc.feedback(feedback(0, arrivals)));
  assert.deepEqual({ ...cc.statistics }, { received: 450, lost: 50 });
  assert.ok(Math.abs(cc.loss - 0.1) < 0.001);
  assert.ok(Math.abs(cc.receivedBitrate / 1_800_000 - 1) < 0.05, String(cc.receivedBitrate));
  assert.ok(Math.abs(cc.delayGradient) < 0.001);
});

test("a growing queue shows in the delay gradient", () => {
  const cc = sender(400);
  assert.ok(
    cc.feedback(
      feedback(
        0,
        Array.from({ length: 400 }, (_, index) => 4_000 + index * 24),
      ),
    ),
  );
  assert.ok(cc.delayGradient > 0.3, String(cc.delayGradient));
});

test("feedback that overlaps an earlier one counts its packets once", () => {
  const cc = sender(20);
  const arrivals = Array.from({ length: 10 }, (_, index) => 100 + index * 16);
  assert.ok(cc.feedback(feedback(0, arrivals)));
  assert.ok(cc.feedback(feedback(5, arrivals)));
  assert.deepEqual({ ...cc.statistics }, { received: 15, lost: 0 });
});

test("numbers are followed across the wrap", () => {
  const cc = sender(65_536 + 10);
  assert.ok(
    cc.feedback(
      feedback(
        65_530,
        Array.from({ length: 16 }, (_, index) => 100 + index * 16),
      ),
    ),
  );
  assert.deepEqual({ ...cc.statistics }, { received: 16, lost: 0 });
});

test("feedback about packets that were never sent, or cut short, changes nothing", () => {
  const cc = sender(10);
  const arrivals = Array.from({ length: 10 }, (_, index) => 100 + index * 16);
  assert.ok(!cc.feedback(feedback(5, arrivals)));
  assert.ok(!cc.feedback(feedback(40_000, arrivals)));
  const whole = feedback(0, arrivals);
  for (let end = whole.start + 12; end < 32; end++) {
    whole.end = end;
    assert.ok(!cc.feedback(whole), `cut at ${end}`);
  }
  assert.deepEqual({ ...cc.statistics }, { received: 0, lost: 0 });
});

test("status chunks of every form are read", () => {
  const cc = sender(64);
  // 14 one-bit symbols, then a run of lost packets, then seven two-bit symbols with a large negative delta.
  const body = Buffer.from(
    [
      ["8f000002", "00000001", "00000002", "0000", "0020", "000001", "00"].join(""),
      (0x8000 | 0b11_1111_1111_1111).toString(16),
      "000b",
      "d900", // 01 10 01 00 00 00 00
      "04".repeat(14),
      "04",
      "fff0",
      "04",
      "000000",
    ].join(""),
    "hex",
  );
  body[0] = 0x8f;
  body[1] = 205;
  const padded = Buffer.concat([body, Buffer.alloc((4 - (body.length % 4)) % 4)]);
  padded.writeUInt16BE(padded.length / 4 - 1, 2);
  const reader = new RtcpReader();
  assert.ok(reader.open(padded) && reader.next());
  assert.ok(cc.feedback(reader));
  assert.deepEqual({ ...cc.statistics }, { received: 17, lost: 15 });
});
