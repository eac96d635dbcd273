// The whole server under load: CPU time per packet delivered, memory per viewer, the price of an idle publisher, residence times.
//
// The viewers run in child processes on the same machine and do ICE and DTLS once; after that they count datagrams by the headers that
// SRTP leaves readable. What is measured is the gateway's own CPU time (all threads, from /proc); on loopback that includes the
// kernel's delivery into the viewers' sockets. The audio child is a process of its own and is shown beside it.

import { childrenOf, cpuTimeOf, pause, percentile } from "../../test/support/child.js";
import { GatewayProcess, MEASURE_MEMORY } from "../../test/support/gateway-process.js";
import { publish } from "../../test/support/publish.js";
import { measureResidence } from "../../test/support/residence.js";
import { monotonicNow } from "../../test/support/rtp-reader.js";
import { TimedPublisher } from "../../test/support/timed-publisher.js";
import { type Viewer, ViewerHost } from "../../test/support/viewers.js";
import { type FixtureOptions, makeFixture } from "../fixtures.js";

type Load = { readonly name: string; readonly fixture: Partial<FixtureOptions>; readonly target: number; readonly srs: string };

const LOADS: readonly Load[] = [
  { name: "600 kbit/s, 25 fps", fixture: {}, target: 3.5, srs: "10–11.5" },
  { name: "2.5 Mbit/s, 25 fps", fixture: { width: 1280, height: 720, bitrate: 2_500_000 }, target: 3, srs: "8.5" },
];
const PER_HOST = 100;
const STEPS = [0, 50, 100, 200];
const MEASURE_MS = 10_000;

export async function run(): Promise<void> {
  console.log("\nWhole server (CPU of the gateway's process; viewers and audio child are other processes)");
  for (const load of LOADS) await measureLoad(load);
  await measureResidenceTimes();
}

async function measureLoad(load: Load): Promise<void> {
  const fixture = await makeFixture(load.fixture);
  const gateway = await GatewayProcess.start({ nodeArguments: MEASURE_MEMORY });
  const publisher = publish(fixture.path, gateway.rtmpUrl());
  const hosts: ViewerHost[] = [];
  try {
    await gateway.live();
    const viewers: Viewer[] = [];
    const memory: ({ viewers: number } & NodeJS.MemoryUsage)[] = [];
    for (const count of STEPS) {
      await addViewers(gateway, hosts, viewers, count);
      await pause(count === 0 ? 10_000 : 4000); // start-up, joins and their garbage have to settle
      const before = await countAll(gateway, viewers);
      await pause(count === 200 || count === 0 ? MEASURE_MS : 4000);
      const after = await countAll(gateway, viewers);
      memory.push({ viewers: count, ...(await gateway.memory()) });
      const seconds = (after.at - before.at) / 1000;
      const share = ((after.cpu - before.cpu) / (after.at - before.at)) * 100;
      const packets = after.packets - before.packets;
      if (count === 0) {
        const target = load.target === 3 ? " (target under 1 %)" : "";
        console.log(
          `  ${load.name}: publisher without viewer ${share.toFixed(2)} % of a core${target}, children ${gateway.children().length}`,
        );
        continue;
      }
      const missing = after.missing - before.missing;
      const micros = ((after.cpu - before.cpu) * 1000) / packets;
      console.log(
        `  ${load.name}: ${count} viewers, ${Math.round(packets / seconds)} packets/s, missing ${missing}, ${share.toFixed(1)} % of a core, ` +
          `${micros.toFixed(2)} µs per delivered packet${count === 200 ? ` (target ${load.target}, SRS ${load.srs})` : ""}, ` +
          `audio child ${(((after.child - before.child) / (after.at - before.at)) * 100).toFixed(1)} %`,
      );
    }
    showMemory(load.name, memory);
  } finally {
    for (const host of hosts) await host.stop();
    await publisher.stop("SIGKILL");
    await gateway.stop();
  }
}

async function addViewers(gateway: GatewayProcess, hosts: ViewerHost[], viewers: Viewer[], count: number): Promise<void> {
  while (viewers.length < count) {
    if (viewers.length % PER_HOST === 0) hosts.push(new ViewerHost());
    const host = hosts.at(-1);
    if (host === undefined) return;
    const room = Math.min(10, count - viewers.length, PER_HOST - (viewers.length % PER_HOST));
    const joined = await Promise.all(
      Array.from({ length: room }, () => host.join(gateway.whepUrl(), { stack: "light", keep: false })),
    );
    viewers.push(...joined);
  }
}

async function countAll(gateway: GatewayProcess, viewers: readonly Viewer[]) {
  const cpu = gateway.cpuMs();
  const child = childrenOf(gateway.pid).reduce((sum, { pid }) => sum + cpuTimeOf(pid), 0);
  const at = monotonicNow();
  let packets = 0;
  let missing = 0;
  for (const { tally } of await Promise.all(viewers.map((viewer) => viewer.look()))) {
    packets += tally.video.packets + tally.audio.packets + tally.senderReports;
    missing += tally.video.missing + tally.audio.missing;
  }
  return { at, cpu, child, packets, missing };
}

/** V8's young generation grows with the rate of garbage, not with viewers; so what it holds in reserve is shown apart. */
function showMemory(name: string, memory: readonly ({ viewers: number } & NodeJS.MemoryUsage)[]): void {
  const some = memory[1];
  const all = memory.at(-1);
  if (some === undefined || all === undefined) return;
  const perViewer = (of: (usage: NodeJS.MemoryUsage) => number): string =>
    ((of(all) - of(some)) / (all.viewers - some.viewers) / 1024).toFixed(0);
  const sizes = memory.map(({ viewers, rss }) => `${viewers}: ${(rss / 2 ** 20).toFixed(1)} MiB`).join(", ");
  console.log(
    `  ${name}: memory after a collection ${sizes}; per viewer from ${some.viewers} to ${all.viewers}: ` +
      `${perViewer(({ rss, heapTotal, heapUsed }) => rss - heapTotal + heapUsed)} KiB in use (target 100, SRS 540), ` +
      `${perViewer(({ rss }) => rss)} KiB resident; heap ${perViewer(({ heapUsed }) => heapUsed)}, buffers ${perViewer(({ external }) => external)}`,
  );
}

async function measureResidenceTimes(): Promise<void> {
  const fixture = await makeFixture();
  const gateway = await GatewayProcess.start();
  const publisher = await TimedPublisher.start(gateway.ports.rtmp, fixture);
  const host = new ViewerHost();
  try {
    await gateway.live();
    const viewer = await host.join(gateway.whepUrl());
    await viewer.until("media flows", (look) => look.tally.audio.packets > 0);
    const from = monotonicNow() + 2000;
    await pause(14_000);
    const { video, audio } = measureResidence(publisher, await viewer.take(), from);
    const show = (values: readonly number[]): string =>
      `p50 ${percentile(values, 0.5).toFixed(2)}, p95 ${percentile(values, 0.95).toFixed(2)}, most ${percentile(values, 1).toFixed(2)} ms (${values.length})`;
    console.log("  Residence, publisher's write to the viewer's socket (one libdatachannel viewer, its hand-over included)");
    console.log(`    video: ${show(video)}, target 2 ms at the median`);
    console.log(`    audio: ${show(audio)}, target 30 ms`);
  } finally {
    await host.stop();
    await publisher.stop();
    await gateway.stop();
  }
}

if (process.argv[1]?.endsWith("bench/server.js")) await run();
