// WebRTC viewers over TCP beside as many over UDP, in one run and on one gateway: CPU time per viewer and per packet, packets missing.
//
// The viewers are those of the `server` benchmark, each with a TCP connection of its own. Over TCP every viewer costs a system call per
// turn, where UDP sends a turn's datagrams of all viewers in one; a picture of many packets evens it out.

import { pause } from "../../test/support/child.js";
import { freeTcpPort, GatewayProcess } from "../../test/support/gateway-process.js";
import { publish } from "../../test/support/publish.js";
import { monotonicNow } from "../../test/support/rtp-reader.js";
import { type Viewer, ViewerHost } from "../../test/support/viewers.js";
import { type FixtureOptions, makeFixture } from "../fixtures.js";

type Transport = "udp" | "tcp";
type Load = { readonly name: string; readonly fixture: Partial<FixtureOptions>; readonly viewers: number };

const LOADS: readonly Load[] = [
  { name: "600 kbit/s", fixture: {}, viewers: 500 },
  { name: "2.5 Mbit/s", fixture: { width: 1280, height: 720, bitrate: 2_500_000 }, viewers: 100 },
];
const PER_HOST = 125;
const SETTLE_MS = 4_000; // joins and their garbage
const MEASURE_MS = 8_000;
const AIM = 2; // times what UDP costs

type Figures = { readonly share: number; readonly micros: number; readonly missing: number };

export async function run(): Promise<void> {
  console.log("\nWebRTC over TCP beside UDP (CPU of the gateway's process, kernel's delivery on loopback included)");
  for (const load of LOADS) {
    const port = await freeTcpPort();
    const fixture = await makeFixture(load.fixture);
    const gateway = await GatewayProcess.start({
      top: `rtc_server { protocol all; tcp { enabled on; listen 127.0.0.1:${port}; } }`,
    });
    const publisher = publish(fixture.path, gateway.rtmpUrl());
    try {
      await gateway.live();
      const udp = await measure(gateway, load, "udp");
      const tcp = await measure(gateway, load, "tcp");
      console.log(`  ${load.name}: TCP costs ${(tcp.share / udp.share).toFixed(2)} times what UDP does (aim under ${AIM})`);
      if (tcp.missing > 0) throw new Error(`${tcp.missing} packets are missing over TCP`);
    } finally {
      await publisher.stop("SIGKILL");
      await gateway.stop();
    }
  }
}

async function measure(gateway: GatewayProcess, { name, viewers: wanted }: Load, transport: Transport): Promise<Figures> {
  const hosts: ViewerHost[] = [];
  const viewers: Viewer[] = [];
  try {
    while (viewers.length < wanted) {
      if (viewers.length % PER_HOST === 0) hosts.push(new ViewerHost());
      const host = hosts.at(-1);
      if (host === undefined) break;
      const room = Math.min(10, wanted - viewers.length, PER_HOST - (viewers.length % PER_HOST));
      const join = () => host.join(gateway.whepUrl(), { stack: "light", keep: false, transport });
      viewers.push(...(await Promise.all(Array.from({ length: room }, join))));
    }
    await pause(SETTLE_MS);
    const before = await count(gateway, viewers);
    await pause(MEASURE_MS);
    const after = await count(gateway, viewers);
    const elapsed = after.at - before.at;
    const packets = after.packets - before.packets;
    const missing = after.missing - before.missing;
    const share = ((after.cpu - before.cpu) / elapsed) * 100;
    const micros = ((after.cpu - before.cpu) * 1000) / packets;
    console.log(
      `  ${name}, ${wanted} viewers over ${transport.toUpperCase()}: ${Math.round((packets * 1000) / elapsed)} packets/s, missing ${missing}, ` +
        `${share.toFixed(1)} % of a core, ${(share / wanted).toFixed(4)} % each, ${micros.toFixed(2)} µs per delivered packet`,
    );
    return { share, micros, missing };
  } finally {
    for (const host of hosts) await host.stop();
    await pause(1_000);
  }
}

async function count(gateway: GatewayProcess, viewers: readonly Viewer[]) {
  const cpu = gateway.cpuMs();
  const at = monotonicNow();
  let packets = 0;
  let missing = 0;
  for (const { tally } of await Promise.all(viewers.map((viewer) => viewer.look()))) {
    packets += tally.video.packets + tally.audio.packets + tally.senderReports;
    missing += tally.video.missing + tally.audio.missing;
  }
  return { at, cpu, packets, missing };
}
