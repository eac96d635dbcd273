// WHIP publishers: CPU of the gateway per publisher and packet, memory per publisher, offers that nobody follows up, and what it costs
// to bridge one back to RTMP.
//
// Publishers run in another process, each with a socket and a phase of its own: 600 kbit/s of video at 25 fps, 50 audio packets a
// second, a key frame on request only. What is measured is the gateway's own CPU time (all threads, from /proc) and its memory.

import { fileURLToPath } from "node:url";

import { Child, childrenOf, cpuTimeOf, eventually, pause } from "../../test/support/child.js";
import { GatewayProcess, MEASURE_MEMORY } from "../../test/support/gateway-process.js";
import { lightOffer } from "../../test/support/light-publisher.js";
import { PublisherHost } from "../../test/support/light-publishers.js";
import { NativePublisher } from "../../test/support/native-publisher.js";
import { makeFixture } from "../fixtures.js";

const STEPS = [1, 50, 200];
const SETTLE_MS = 5000; // handshakes and their garbage
const MEASURE_MS = 8000;
const GROUP_MS = 30_000; // a group of pictures that nobody asked to end is cut by then
const OFFERS = 2000;
const EXPIRY_MS = 32_000;

const SINK = fileURLToPath(new URL("../../test/support/rtmp-sink.js", import.meta.url));

/** Takes the watching of descriptors away from koffi, so that the gateway falls back to dgram. */
const PORTABLE = `data:text/javascript,${encodeURIComponent(
  `import { createRequire } from "node:module"; createRequire(process.cwd() + "/")("koffi").node = {};`,
)}`;

export async function run(): Promise<void> {
  await measurePublishers("publishers", STEPS, []);
  await measurePublishers("the same with dgram and node:crypto", [50], ["--import", PORTABLE]);
  await measureUnansweredOffers();
  await measureBridge();
}

async function measurePublishers(name: string, steps: readonly number[], nodeArguments: readonly string[]): Promise<void> {
  const gateway = await GatewayProcess.start({ nodeArguments: [...MEASURE_MEMORY, ...nodeArguments] });
  const host = new PublisherHost(Math.max(...steps));
  try {
    const memory = [{ publishers: 0, usage: await gateway.memory() }];
    let count = 0;
    for (const step of steps) {
      while (count < step) await host.publish(gateway.whipUrl(`s${count++}`));
      await pause(SETTLE_MS);
      const before = { cpu: gateway.cpuMs(), packets: await host.packets() };
      await pause(MEASURE_MS);
      const cpu = gateway.cpuMs() - before.cpu;
      const packets = (await host.packets()) - before.packets;
      const share = (cpu / MEASURE_MS) * 100;
      console.log(
        `  ${name}: ${step}, ${Math.round((packets * 1000) / MEASURE_MS)} packets/s, ${share.toFixed(1)} % of a core, ` +
          `${(share / step).toFixed(3)} % per publisher (target 0.22, SRS 0.22), ${((cpu * 1000) / packets).toFixed(1)} µs per packet`,
      );
    }
    if (steps.length === 1) return;
    await pause(GROUP_MS - SETTLE_MS - MEASURE_MS);
    memory.push({ publishers: count, usage: await gateway.memory() });
    const [none, all] = memory;
    if (none === undefined || all === undefined) return;
    const each = (of: (usage: NodeJS.MemoryUsage) => number): string =>
      ((of(all.usage) - of(none.usage)) / count / 1024).toFixed(0);
    console.log(
      `  memory per publisher, ${count} of them: ${each(({ rss }) => rss)} KiB resident (target 500, SRS 2,200); ` +
        `heap ${each(({ heapUsed }) => heapUsed)}, buffers ${each(({ external }) => external)}`,
    );
  } finally {
    await host.stop();
    await gateway.stop();
  }
}

async function measureUnansweredOffers(): Promise<void> {
  const gateway = await GatewayProcess.start({ nodeArguments: MEASURE_MEMORY, top: "max_connections 4000;" });
  const megabytes = async (): Promise<number> => (await gateway.memory()).rss / 1e6;
  try {
    await post(gateway, "warm");
    const before = await megabytes();
    const cpu = gateway.cpuMs();
    for (let index = 0; index < OFFERS; index += 20) {
      await Promise.all(Array.from({ length: 20 }, (_, offset) => post(gateway, `unanswered${index + offset}`)));
    }
    const used = (gateway.cpuMs() - cpu) / OFFERS;
    const during = await megabytes();
    await pause(EXPIRY_MS);
    const after = await megabytes();
    console.log(
      `  ${OFFERS} offers that nobody follows up: ${(during - before).toFixed(1)} MB (target 60, SRS 880), ` +
        `${(after - before).toFixed(1)} MB when they have expired; ${used.toFixed(2)} ms of CPU each`,
    );
  } finally {
    await gateway.stop();
  }
}

async function post(gateway: GatewayProcess, stream: string): Promise<void> {
  const response = await fetch(gateway.whipUrl(stream), {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: lightOffer(),
  });
  if (response.status !== 201) throw new Error(`WHIP ${response.status}: ${await response.text()}`);
  await response.text();
}

async function measureBridge(): Promise<void> {
  const { path } = await makeFixture();
  const gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;" });
  const publisher = await NativePublisher.start("libdatachannel", gateway.whipUrl(), path);
  let player: Child | undefined;
  try {
    await gateway.live();
    await pause(SETTLE_MS);
    const alone = await share(gateway);
    player = new Child("node", [SINK, `${gateway.ports.rtmp}`, "1"]);
    await player.line(/^playing$/, 20_000);
    await pause(SETTLE_MS);
    await eventually("the audio child runs", () => (gateway.children().length > 0 ? true : undefined));
    const bridged = await share(gateway);
    const cost = bridged.own - alone.own + bridged.children;
    console.log(
      `  bridge back to RTMP, one player: ${cost.toFixed(2)} % of a core (target 2.5, SRS 1.6), ` +
        `${bridged.children.toFixed(2)} of it the audio child; the publisher alone ${alone.own.toFixed(2)} %`,
    );
  } finally {
    await player?.stop();
    await publisher.stop(false);
    await gateway.stop();
  }
}

async function share(gateway: GatewayProcess): Promise<{ readonly own: number; readonly children: number }> {
  const childCpu = (): number => childrenOf(gateway.pid).reduce((sum, { pid }) => sum + cpuTimeOf(pid), 0);
  const [own, children] = [gateway.cpuMs(), childCpu()];
  await pause(MEASURE_MS);
  return {
    own: ((gateway.cpuMs() - own) / MEASURE_MS) * 100,
    children: ((childCpu() - children) / MEASURE_MS) * 100,
  };
}

if (process.argv[1]?.endsWith("bench/whip.js")) await run();
