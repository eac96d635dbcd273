// 1,000 low-latency HLS viewers of one stream: what the gateway answers per second, how late a held reload is after its part was born, memory
// and CPU. And what packaging costs where nobody watches.
//
// The viewers are in a child process on the same machine. A part is born when the picture behind it arrives; counted is from the moment the
// publisher has written that picture.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { cpuTimeOf, pause, percentile } from "../../test/support/child.js";
import { GatewayProcess, MEASURE_MEMORY } from "../../test/support/gateway-process.js";
import type { ViewerTally } from "../../test/support/hls-viewers.js";
import { monotonicNow } from "../../test/support/rtp-reader.js";
import { TimedPublisher } from "../../test/support/timed-publisher.js";
import { makeFixture } from "../fixtures.js";

const VIEWERS = 1_000;
const MEASURE_MS = 15_000;
const TARGET = 20; // ms from a part's birth to the answer of a held reload, at the 99th percentile
const PICTURES_PER_PART = 5;
const PARTS_PER_SEGMENT = 10;
const CHILD = fileURLToPath(new URL("../../test/support/hls-viewers.js", import.meta.url));

export async function run(): Promise<void> {
  for (const bitrate of [600_000, 6_000_000]) await measurePackaging(bitrate);
  await measureViewers();
}

/** CPU of the gateway with a publisher that nobody watches, with and without packaging. */
async function measurePackaging(bitrate: number): Promise<void> {
  const shares: number[] = [];
  for (const vhost of ["", "hls { enabled on; }"]) {
    const gateway = await GatewayProcess.start({ vhost });
    const publisher = await TimedPublisher.start(gateway.ports.rtmp, await makeFixture({ bitrate }));
    try {
      await gateway.live();
      await pause(5_000);
      shares.push(await measureCpu(gateway, 8_000));
    } finally {
      await publisher.stop();
      await gateway.stop();
    }
  }
  const [without = 0, packaged = 0] = shares;
  console.log(
    `  packaging ${bitrate / 1000} kbit/s, no viewer: ${packaged.toFixed(2)} % of a core, ${without.toFixed(2)} % without HLS ` +
      "(a publisher that nobody reads is itself read less often)",
  );
}

async function measureViewers(): Promise<void> {
  const gateway = await GatewayProcess.start({
    top: "max_connections 3000;",
    vhost: "hls { enabled on; }",
    nodeArguments: MEASURE_MEMORY,
  });
  const publisher = await TimedPublisher.start(gateway.ports.rtmp, await makeFixture({}));
  let child: ViewerChild | undefined;
  try {
    await gateway.live();
    await pause(8_000);
    const empty = await gateway.memory();
    child = await ViewerChild.start(gateway.ports.http, VIEWERS);
    await pause(3_000);
    await child.take();
    const [cpu, at] = [gateway.cpuMs(), monotonicNow()];
    await pause(MEASURE_MS);
    const tally = await child.take();
    const seconds = (monotonicNow() - at) / 1000;
    const share = (gateway.cpuMs() - cpu) / (seconds * 10);
    const full = await gateway.memory();
    const births = publisher.sent
      .filter(({ kind }) => kind === "video")
      .filter((_frame, index) => index % PICTURES_PER_PART === 0);
    let late = 0;
    const delays = Object.values(tally.reloads).flatMap((times) => {
      const read = times.filter((_time, index) => index % 2 === 1);
      const first = Math.min(...read);
      const birth = births.findLast(({ sentAt }) => sentAt <= first)?.sentAt ?? first;
      const held = read.filter((_time, index) => (times[2 * index] ?? 0) < birth);
      late += read.length - held.length;
      return held.map((time) => time - birth);
    });
    const answers = tally.playlists + tally.parts;
    const each = (full.heapUsed + full.external - empty.heapUsed - empty.external) / VIEWERS / 1024;
    console.log(
      `  ${VIEWERS} viewers: ${(answers / seconds).toFixed(0)} answers/s (${(tally.playlists / seconds).toFixed(0)} held reloads), ` +
        `${((tally.bytes * 8) / seconds / 1e6).toFixed(0)} Mbit/s, ${share.toFixed(0)} % of a core, ${each.toFixed(0)} KiB each`,
    );
    console.log(
      `  held reload after its part's birth: p50 ${percentile(delays, 0.5).toFixed(1)}, p99 ${percentile(delays, 0.99).toFixed(1)} ms ` +
        `(target ${TARGET}), max ${percentile(delays, 1).toFixed(1)} ms over ${delays.length}; ${late} asked after it`,
    );
    if (tally.failures > 0) throw new Error(`${tally.failures} answers failed`);
    if (tally.playlists / seconds < VIEWERS * 4.5)
      throw new Error(`the viewers fell behind: ${tally.playlists / seconds} reloads/s`);
  } finally {
    await child?.stop();
    await publisher.stop();
    await gateway.stop();
  }
}

async function measureCpu(gateway: GatewayProcess, ms: number): Promise<number> {
  const [cpu, at] = [cpuTimeOf(gateway.pid), monotonicNow()];
  await pause(ms);
  return ((cpuTimeOf(gateway.pid) - cpu) / (monotonicNow() - at)) * 100;
}

class ViewerChild {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #onLine: (() => void) | undefined;

  private constructor(port: number, count: number) {
    this.#child = spawn(process.execPath, [CHILD, String(port), String(count), String(PARTS_PER_SEGMENT)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error("no pipe");
    createInterface({ input: stdout }).on("line", (line) => {
      this.#lines.push(line);
      this.#onLine?.();
    });
  }

  static async start(port: number, count: number): Promise<ViewerChild> {
    const child = new ViewerChild(port, count);
    if ((await child.#line()) !== "playing") throw new Error("the viewers do not play");
    return child;
  }

  async take(): Promise<ViewerTally> {
    this.#child.stdin?.write("\n");
    return JSON.parse(await this.#line()) as ViewerTally;
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
