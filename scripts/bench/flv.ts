// HTTP-FLV under load: the gateway's CPU per viewer at 600 kbit/s, and the time from the publisher's write to the viewer's read.
//
// The viewers are sinks in child processes; what is measured is the gateway's own CPU time (all threads, from /proc), which on
// loopback holds the kernel's delivery into the viewers' sockets. A few viewers in this process read what comes and tell its age.
// SRS on a machine like this: 0.030 % (200) and 0.021 % (500) of a core at 336 ms, since it gathers for 350 ms.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { cpuTimeOf, pause, percentile } from "../../test/support/child.js";
import { FlvReader } from "../../test/support/flv-reader.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";
import { monotonicNow } from "../../test/support/rtp-reader.js";
import { TimedPublisher, tailOf } from "../../test/support/timed-publisher.js";
import { makeFixture } from "../fixtures.js";

const STEPS = [200, 500];
const PER_HOST = 250;
const MEASURE_MS = 15_000;
const TARGET = 0.025; // % of a core per viewer
const TARGET_DELAY = 60; // ms at the 95th percentile
const SINK = fileURLToPath(new URL("../../test/support/flv-sink.js", import.meta.url));

export async function run(): Promise<void> {
  console.log("\nHTTP-FLV, 600 kbit/s, 25 fps (CPU of the gateway's process)");
  const fixture = await makeFixture({});
  const gateway = await GatewayProcess.start({ top: "max_connections 2000;", vhost: "http_remux { enabled on; }" });
  const publisher = await TimedPublisher.start(gateway.ports.rtmp, fixture);
  const hosts: SinkHost[] = [];
  try {
    await gateway.live();
    await pause(2000);
    const alone = await measureCpu(gateway, 4000);
    console.log(`  no viewer: ${alone.toFixed(2)} % of a core`);
    let count = 0;
    for (const step of STEPS) {
      const first = new AgeProbe(gateway.ports.http, publisher);
      while (count < step) {
        const size = Math.min(PER_HOST, step - count);
        hosts.push(await SinkHost.start(gateway.ports.http, size));
        count += size;
      }
      const last = new AgeProbe(gateway.ports.http, publisher); // served last in each round
      await pause(4000);
      first.ages.length = 0;
      last.ages.length = 0;
      const before = await countAll(hosts);
      const share = await measureCpu(gateway, MEASURE_MS);
      const after = await countAll(hosts);
      const each = (share - alone) / count;
      const kbps = ((after.bytes - before.bytes) * 8) / after.open / (after.at - before.at);
      const ages = [...first.ages, ...last.ages];
      for (const probe of [first, last]) probe.stop();
      console.log(
        `  ${after.open} viewers at ${kbps.toFixed(0)} kbit/s: ${share.toFixed(1)} % of a core, ${each.toFixed(4)} % each (target ${TARGET}); ` +
          `delay p50 ${percentile(ages, 0.5).toFixed(1)}, p95 ${percentile(ages, 0.95).toFixed(1)} ms (target ${TARGET_DELAY}), ` +
          `max ${Math.max(...ages).toFixed(1)} ms over ${ages.length} pictures`,
      );
      if (after.open !== count) throw new Error(`${after.open} of ${count} viewers are left`);
      if (kbps < 400) throw new Error(`viewers got ${kbps} kbit/s only`);
    }
  } finally {
    for (const host of hosts) await host.stop();
    await publisher.stop();
    await gateway.stop();
  }
}

/** Percent of a core over so many ms. */
async function measureCpu(gateway: GatewayProcess, ms: number): Promise<number> {
  const [cpu, at] = [cpuTimeOf(gateway.pid), monotonicNow()];
  await pause(ms);
  return ((cpuTimeOf(gateway.pid) - cpu) / (monotonicNow() - at)) * 100;
}

async function countAll(hosts: readonly SinkHost[]): Promise<{ bytes: number; open: number; at: number }> {
  const at = monotonicNow();
  const counts = await Promise.all(hosts.map((host) => host.count()));
  return {
    bytes: counts.reduce((sum, { bytes }) => sum + bytes, 0),
    open: counts.reduce((sum, { open }) => sum + open, 0),
    at,
  };
}

/** A child with many sinks. */
class SinkHost {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #onLine: (() => void) | undefined;

  private constructor(port: number, count: number) {
    this.#child = spawn(process.execPath, [SINK, String(port), String(count)], { stdio: ["pipe", "pipe", "inherit"] });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error("no pipe");
    createInterface({ input: stdout }).on("line", (line) => {
      this.#lines.push(line);
      this.#onLine?.();
    });
  }

  static async start(port: number, count: number): Promise<SinkHost> {
    const host = new SinkHost(port, count);
    if ((await host.#line()) !== "playing") throw new Error("sinks do not play");
    return host;
  }

  async count(): Promise<{ bytes: number; open: number }> {
    this.#child.stdin?.write("\n");
    const [bytes = 0, open = 0] = (await this.#line()).split(" ").map(Number);
    return { bytes, open };
  }

  async stop(): Promise<void> {
    this.#child.stdin?.end();
    await once(this.#child, "exit");
  }

  async #line(): Promise<string> {
    while (this.#lines.length === 0) {
      await new Promise<void>((resolve) => {
        this.#onLine = resolve;
      });
    }
    return this.#lines.shift() ?? "";
  }
}

/** A viewer that tells how old each picture is when it is read. */
class AgeProbe {
  /** Milliseconds. */
  readonly ages: number[] = [];
  readonly #socket: Socket;

  constructor(port: number, publisher: TimedPublisher) {
    const flv = new FlvReader();
    let isBody = false;
    this.#socket = connect(port, "127.0.0.1", () => this.#socket.write("GET /live/livestream.flv HTTP/1.1\r\nHost: x\r\n\r\n"));
    this.#socket.on("error", () => {});
    this.#socket.on("data", (bytes: Buffer) => {
      const now = monotonicNow();
      flv.push(isBody ? bytes : bytes.subarray(bytes.indexOf("\r\n\r\n") + 4)); // the head comes in one piece
      isBody = true;
      for (const { type, body } of flv.tags.splice(0)) {
        if (type !== 9 || body.readUInt8(1) !== 1) continue;
        const sent = publisher.find(tailOf(body), now);
        if (sent !== undefined) this.ages.push(now - sent.sentAt);
      }
    });
  }

  stop(): void {
    this.#socket.destroy();
  }
}
