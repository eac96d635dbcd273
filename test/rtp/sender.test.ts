import assert from "node:assert/strict";
import { test } from "node:test";

import { ntpMiddle, ReportBlock } from "../../gateway/rtp/rtcp.js";
import { TrackSender } from "../../gateway/rtp/sender.js";

const TRACK = {
  kind: "video",
  clockRate: 90_000,
  payloadType: 96,
  rtxPayloadType: 97,
  redPayloadType: -1,
  ssrc: 1,
  rtxSsrc: 2,
} as const;
const make = (random = 0xffff_fff0): TrackSender => new TrackSender(TRACK, () => random);

function send(sender: TrackSender, now: number, sourceNumber: number, delta = 0): number {
  const number = sender.assign(now, sourceNumber, delta);
  sender.sent(100, sourceNumber * 10 + delta);
  return number;
}

test("starts below 2^15 so that the first packets' loss cannot shift the rollover counter", () => {
  assert.ok(make().nextSequenceNumber < 0x8000);
});

test("numbers run on without gaps when the lane's do not", () => {
  const sender = make();
  const first = sender.nextSequenceNumber;
  const sources = [100, 101, 105, 106, 110, 300, 301];
  const numbers = sources.map((source) => send(sender, 0, source));
  assert.deepEqual(
    numbers,
    sources.map((_, index) => first + index),
  );
  numbers.forEach((number, index) => {
    assert.equal(sender.sourceNumberOf(sender.unwrap(number & 0xffff)), sources[index]);
  });
});

test("numbers around the wrap are found again", () => {
  const sender = make(0x7fff);
  for (let source = 0; source < 0x10010; source++) send(sender, 0, source);
  const last = sender.nextSequenceNumber - 1;
  for (const number of [last, last - 1, last - 0x8000, last - 0xffff]) {
    assert.equal(sender.unwrap(number & 0xffff), number);
    assert.equal(sender.sourceNumberOf(number), number - 0x7fff);
  }
});

test("a number that was not sent yet is an old one, or none", () => {
  const sender = make(10);
  send(sender, 0, 5);
  assert.equal(sender.unwrap(11), -1);
  assert.equal(sender.unwrap(9), -1);
  assert.equal(sender.unwrap(10), 10);
});

test("squeezed times are known for a while and then forgotten", () => {
  const sender = make(0);
  for (let source = 0; source < 50; source++) send(sender, 1_000, source, -1000 - source);
  send(sender, 1_500, 100);
  assert.equal(sender.timestampDeltaOf(7), -1007);
  assert.equal(sender.timestampDeltaOf(50), 0);
  assert.equal(sender.sourceNumberOf(50), 100);
  send(sender, 9_000, 200); // another segment: old ones are dropped
  assert.equal(sender.unwrap(7), -1);
  assert.equal(sender.sourceNumberOf(51), 200);
});

test("sends a packet again once per round trip, and not more packets in all than were sent", () => {
  const sender = make(0);
  for (let source = 0; source < 1_000; source++) send(sender, 0, source);
  assert.ok(sender.mayResend(100, 5));
  assert.ok(!sender.mayResend(149, 5));
  assert.ok(sender.mayResend(150, 5));
  sender.roundTripTime = 200;
  assert.ok(!sender.mayResend(349, 5));
  assert.ok(sender.mayResend(350, 5));
  let granted = 0;
  for (let now = 1_000; now < 100_000; now += 300)
    for (let number = 0; number < 400; number++) if (sender.mayResend(now, number)) granted++;
  assert.ok(granted > 1_000 && granted < 1_300, `${granted}`);
});

test("the round trip comes from the echo of a sender report", () => {
  const sender = make();
  const wallTime = 1_700_000_000_000;
  sender.reportSent(1_000, wallTime);
  sender.reportSent(2_000, wallTime + 1_000);
  const block = new ReportBlock();
  block.ssrc = 1;
  block.fractionLost = 128;
  block.jitter = 900;
  block.lastSenderReport = ntpMiddle(wallTime + 1_000);
  block.delaySinceLast = 0.5 * 65536;
  sender.reported(2_540, block);
  assert.ok(Math.abs(sender.roundTripTime - 40) < 0.1);
  assert.equal(sender.fractionLost, 0.5);
  assert.equal(sender.jitter, 10);
  block.lastSenderReport = 12345; // an echo of nothing we sent
  sender.reported(3_000, block);
  assert.ok(Math.abs(sender.roundTripTime - 40) < 0.1);
});
