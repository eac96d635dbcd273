// WHIP publishers: CPU of the gateway per publisher and per packet, memory per publisher.
//
// The publishers run in another process, each with a socket of its own and a phase of its own, 600 kbit/s of video at 25 fps and 50
// audio packets a second. What is measured is the gateway's own CPU time (all threads, from /proc).

import { pause } from "../../test/support/child.js";
import { GatewayProcess, MEASURE_MEMORY } from "../../test/support/gateway-process.js";
import { PublisherHost } from "../../test/support/light-publishers.js";
import { monotonicNow } from "../../test/support/rtp-reader.js";

const STEPS = (process.env["WHIP_STEPS"] ?? "1,50,200").split(",").map(Number);
const SETTLE_MS = 4000; // handshakes and their garbage
const MEASURE_MS = Number(process.env["WHIP_MS"] ?? 10_000);

export async function run(): Promise<void> {
  const most = Math.max(...STEPS);
  const nodeArguments = [...MEASURE_MEMORY, ...(process.env["WHIP_ARGS"]?.split(" ") ?? [])];
  const gateway = await GatewayProcess.start({ nodeArguments, rtc: "rtc_to_rtmp off;", top: "log_level warn;" });
  const host = new PublisherHost(most);
  try {
    let count = 0;
    const memory: { readonly publishers: number; readonly usage: NodeJS.MemoryUsage }[] = [
      { publishers: 0, usage: await gateway.memory() },
    ];
    for (const step of STEPS) {
      while (count < step) await host.publish(gateway.whipUrl(`s${count++}`));
      await pause(SETTLE_MS);
      const before = { cpu: gateway.cpuMs(), packets: await host.packets(), at: monotonicNow() };
      await pause(MEASURE_MS);
      const after = { cpu: gateway.cpuMs(), packets: await host.packets(), at: monotonicNow() };
      const elapsed = after.at - before.at;
      const share = ((after.cpu - before.cpu) / elapsed) * 100;
      const packets = after.packets - before.packets;
      memory.push({ publishers: step, usage: await gateway.memory() });
      console.log(
        `  ${step} publishers, ${Math.round((packets * 1000) / elapsed)} packets/s: ${share.toFixed(1)} % of a core, ` +
          `${(share / step).toFixed(3)} % per publisher (target 0.22, SRS 0.22), ${(((after.cpu - before.cpu) * 1000) / packets).toFixed(1)} µs per packet`,
      );
    }
    const [first, last] = [memory[1], memory.at(-1)];
    for (const { publishers, usage } of memory)
      console.log(
        `  ${publishers} publishers: rss ${(usage.rss / 2 ** 20).toFixed(1)} MiB, heap ${(usage.heapUsed / 2 ** 20).toFixed(1)}, buffers ${(usage.external / 2 ** 20).toFixed(1)}`,
      );
    if (first !== undefined && last !== undefined && first !== last) {
      const each = (last.usage.rss - first.usage.rss) / (last.publishers - first.publishers) / 1024;
      console.log(`  memory per publisher ${each.toFixed(0)} KiB resident (target 500, SRS 2,200)`);
    }
  } finally {
    await host.stop();
    await gateway.stop();
  }
}

if (process.argv[1]?.endsWith("bench/whip.js")) await run();
