import assert from "node:assert/strict";
import { test } from "node:test";

import { LivePacketLane } from "../../gateway/hub/packet-lane.js";
import type { PacketBatch } from "../../gateway/hub/types.js";
import type { Egress } from "../../gateway/rtc/egress.js";
import { FanOut } from "../../gateway/rtc/fan-out.js";
import type { Viewer } from "../../gateway/rtc/viewer.js";
import { mediaPacket } from "../support/frames.js";

function set() {
  const lane = new LivePacketLane({ epoch: 0, now: () => 0, onDemand: () => {}, askForKeyFrame: () => {} });
  const staged: Buffer[] = [];
  const egress = { stage: (payload: Buffer) => staged.push(payload) - 1 } as unknown as Egress;
  let written = 0;
  const fanOut = new FanOut({ lane, egress, now: () => 0, onWritten: () => written++, onEnded: () => {} });
  fanOut.acquire();
  const viewer = () => {
    const got: string[] = [];
    const write = (_now: number, batch: PacketBatch): void => {
      got.push(batch.map((packet) => `${packet.kind} ${packet.sequenceNumber}`).join(", "));
    };
    return { got, viewer: { write } as unknown as Viewer };
  };
  return { lane, fanOut, staged, viewer, written: () => written };
}

test("gathers a turn's packets, stages each once, and gives every viewer pictures before sound", () => {
  const { lane, fanOut, staged, viewer, written } = set();
  const [a, b] = [viewer(), viewer()];
  fanOut.add(a.viewer);
  fanOut.add(b.viewer);
  lane.write([mediaPacket(0, { kind: "audio" })]);
  lane.write([mediaPacket(0, { key: true }), mediaPacket(1)]);
  lane.write([mediaPacket(1, { kind: "audio" })]);
  assert.equal(written(), 3);
  assert.deepEqual(a.got, []);
  fanOut.drain();
  fanOut.drain();
  assert.deepEqual(a.got, ["video 0, video 1, audio 0, audio 1"]);
  assert.deepEqual(b.got, a.got);
  assert.equal(staged.length, 4);
});

test("a viewer that joins in the middle of a turn gets only what comes after it, the history has the rest", () => {
  const { lane, fanOut, viewer } = set();
  const [early, late] = [viewer(), viewer()];
  fanOut.add(early.viewer);
  lane.write([mediaPacket(0, { key: true })]);
  fanOut.add(late.viewer);
  lane.write([mediaPacket(1)]);
  fanOut.drain();
  assert.deepEqual(early.got, ["video 0", "video 1"]);
  assert.deepEqual(late.got, ["video 1"]);
});

test("hands on what the last turn brought before it says that the stream has ended", () => {
  const { lane, fanOut, viewer } = set();
  const only = viewer();
  fanOut.add(only.viewer);
  lane.write([mediaPacket(0, { key: true })]);
  lane.close("over");
  assert.deepEqual(only.got, ["video 0"]);
});
