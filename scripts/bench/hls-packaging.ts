// What packaging into HLS costs: the muxers alone, and the gateway's CPU per stream that nobody watches, with and without HLS.

import { readFileSync } from "node:fs";

import { createPackager, type SegmentFormat } from "../../gateway/media/packager.js";
import { cpuTimeOf, pause } from "../../test/support/child.js";
import { framesOfFlv } from "../../test/support/clip.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";
import { cutIntoRuns, tracksOf } from "../../test/support/packaged.js";
import { monotonicNow } from "../../test/support/rtp-reader.js";
import { TimedPublisher } from "../../test/support/timed-publisher.js";
import { type Fixture, makeFixture } from "../fixtures.js";

const STREAMS = 4;
const MEASURE_MS = 8_000;
const PART = 200_000; // µs

const RATES = [
  { name: "600 kbit/s", options: {} },
  { name: "6 Mbit/s", options: { width: 1920, height: 1080, bitrate: 6_000_000 } },
] as const;

export async function run(): Promise<void> {
  console.log("\nHLS packaging, 25 fps with AAC, 0.2 s parts");
  for (const { name, options } of RATES) {
    const fixture = await makeFixture(options);
    const flv = await makeFixture({ ...options, format: "flv" });
    for (const format of ["fmp4", "ts"] as const) {
      const { perSecond, overhead } = measureMuxer(format, flv);
      console.log(
        `  ${name}, ${format} muxer alone: ${(perSecond * 1000).toFixed(0)} µs of CPU per second of media, ${(overhead * 100).toFixed(1)} % more bytes`,
      );
    }
    const without = await measureGateway(fixture, "");
    const withHls = await measureGateway(fixture, "hls { enabled on; }");
    console.log(
      `  ${name}, whole gateway: ${without.toFixed(2)} % of a core per stream without HLS, ${withHls.toFixed(2)} % with it (over ${STREAMS} streams that nobody watches)`,
    );
  }
}

/** Milliseconds of CPU per second of media; parts and segments are made of the same bytes. */
function measureMuxer(format: SegmentFormat, fixture: Fixture): { perSecond: number; overhead: number } {
  const frames = framesOfFlv(readFileSync(fixture.path));
  const runs = cutIntoRuns(frames, PART);
  const pushed = frames.reduce((sum, frame) => sum + frame.data.length, 0);
  let written = 0;
  const pass = (): void => {
    const packager = createPackager(format, tracksOf(frames));
    written = 0;
    for (const one of runs) written += packager.write(one.frames, one).length;
  };
  for (let i = 0; i < 20; i++) pass();
  const rounds = 100;
  const before = process.cpuUsage();
  for (let i = 0; i < rounds; i++) pass();
  const { user, system } = process.cpuUsage(before);
  if (written < pushed) throw new Error(`${written} bytes written of ${pushed}`);
  return { perSecond: (user + system) / 1000 / rounds / fixture.seconds, overhead: written / pushed - 1 };
}

async function measureGateway(fixture: Fixture, vhost: string): Promise<number> {
  const gateway = await GatewayProcess.start({ vhost });
  const publishers: TimedPublisher[] = [];
  try {
    for (let i = 0; i < STREAMS; i++) publishers.push(await TimedPublisher.start(gateway.ports.rtmp, fixture, `stream${i}`));
    await gateway.live("stream0");
    await pause(3000);
    const [cpu, at] = [cpuTimeOf(gateway.pid), monotonicNow()];
    await pause(MEASURE_MS);
    return ((cpuTimeOf(gateway.pid) - cpu) / (monotonicNow() - at) / STREAMS) * 100;
  } finally {
    for (const publisher of publishers) await publisher.stop();
    await gateway.stop();
  }
}

if (process.argv[1]?.endsWith("bench/hls-packaging.js")) await run();
