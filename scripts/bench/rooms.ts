// Rooms of 8: everybody publishes 300 kbit/s of video and sound by WHIP and watches the 7 others by WHEP. The gateway's CPU per
// participant, and so how many participants one core serves.
//
// Publishers and viewers are the light ones of the tests (a libdatachannel peer costs more than the gateway does for it).

import { cpuTimeOf, pause } from "../../test/support/child.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";
import { PublisherHost } from "../../test/support/light-publishers.js";
import { monotonicNow } from "../../test/support/rtp-reader.js";
import { type Viewer, ViewerHost } from "../../test/support/viewers.js";

const PER_ROOM = 8;
const ROOMS = [1, 2, 4];
const PAYLOAD = 500; // bytes; three packets a picture at 25 pictures a second are 300 kbit/s
const MEASURE_MS = 10_000;

export async function run(): Promise<void> {
  const gateway = await GatewayProcess.start({ top: "max_connections 2000;" });
  const publishers = new PublisherHost(PER_ROOM * Math.max(...ROOMS), PAYLOAD);
  const hosts: ViewerHost[] = [];
  const viewers: Viewer[] = [];
  let rooms = 0;
  try {
    for (const wanted of ROOMS) {
      for (; rooms < wanted; rooms++) {
        const host = new ViewerHost();
        hosts.push(host);
        const names = Array.from({ length: PER_ROOM }, (_, index) => `p${index}`);
        for (const name of names) await publishers.publish(gateway.whipUrl(name, "", `room${rooms}`));
        for (const self of names) {
          const others = names.filter((name) => name !== self);
          const joined = await Promise.all(
            others.map((name) => host.join(gateway.whepUrl(name, `room${rooms}`), { stack: "light", keep: false })),
          );
          viewers.push(...joined);
        }
      }
      await pause(3_000);
      const before = await count(gateway, viewers);
      await pause(MEASURE_MS);
      const after = await count(gateway, viewers);
      const share = (after.cpu - before.cpu) / (after.at - before.at);
      const people = rooms * PER_ROOM;
      const packets = after.packets - before.packets;
      const expected = (viewers.length * (75 + 50) * (after.at - before.at)) / 1000;
      if (packets < expected * 0.8) throw new Error(`${packets} packets came, about ${Math.round(expected)} were due`);
      console.log(
        `  ${people} participants in ${rooms} rooms, ${viewers.length} viewers, ${Math.round((packets * 1000) / (after.at - before.at))} packets/s: ` +
          `${(share * 100).toFixed(1)} % of a core, ${((share * 100) / people).toFixed(2)} % each, ${Math.floor(people / share)} per core, ` +
          `missing ${after.missing - before.missing}`,
      );
    }
  } finally {
    for (const host of hosts) await host.stop();
    await publishers.stop();
    await gateway.stop();
  }
}

async function count(gateway: GatewayProcess, viewers: readonly Viewer[]) {
  const cpu = cpuTimeOf(gateway.pid);
  const at = monotonicNow();
  let packets = 0;
  let missing = 0;
  for (const { tally } of await Promise.all(viewers.map((viewer) => viewer.look()))) {
    packets += tally.video.packets + tally.audio.packets;
    missing += tally.video.missing + tally.audio.missing;
  }
  return { at, cpu, packets, missing };
}

if (process.argv[1]?.endsWith("bench/rooms.js")) await run();
