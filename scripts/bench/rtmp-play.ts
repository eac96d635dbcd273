// RTMP players: CPU time of the gateway per viewer, delay from publisher to viewer, and what a player that stops reading costs.
//
// Players are sockets in child processes that throw away what comes. The publisher writes the time into each picture; one player in
// this process reads it there. Cost is the gateway's own CPU time (all threads, from /proc), the publisher's share taken off; on
// loopback it includes the kernel's delivery into the players' sockets.

import { connect } from "node:net";
import { fileURLToPath } from "node:url";

import type { Frame } from "../../gateway/media/frame.js";
import { RtmpClient } from "../../gateway/rtmp/client.js";
import { SystemClock } from "../../gateway/system-clock.js";
import { Child, pause, percentile } from "../../test/support/child.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";
import { audioConfigTag, audioTag, framesOfTags, videoConfigTag, videoTag } from "../../test/support/rtmp-client.js";
import { playerBytes } from "../../test/support/rtmp-sink.js";

const STEPS = [200, 500];
const PER_HOST = 250;
const MEASURE_MS = 10_000;
const STALL_MS = 60_000;
const SINK = fileURLToPath(new URL("../../test/support/rtmp-sink.js", import.meta.url));
const TIME_AT = 16; // bytes into a picture, behind what the gateway reads of it

export async function run(): Promise<void> {
  await measureViewers();
  await measureStall();
}

async function measureViewers(): Promise<void> {
  const gateway = await GatewayProcess.start();
  const publisher = new SteadyPublisher(gateway.rtmpUrl(), 600_000);
  const hosts: Child[] = [];
  try {
    await gateway.live();
    await pause(2000);
    const alone = await share(gateway, MEASURE_MS / 2);
    console.log(`  600 kbit/s, 25 fps and AAC: publisher alone ${(alone * 100).toFixed(2)} % of a core`);
    const probe = new DelayProbe(gateway.rtmpUrl());
    await pause(1000); // the cached pictures are old
    await measureDelay(probe, "1 viewer");
    for (const count of STEPS) {
      while (hosts.length * PER_HOST < count) {
        const size = Math.min(PER_HOST, count - hosts.length * PER_HOST);
        const host = new Child("node", [SINK, `${gateway.ports.rtmp}`, `${size}`]);
        hosts.push(host);
        await host.line(/^playing$/, 20_000);
      }
      await pause(2000);
      const before = receivedBy(hosts);
      const used = await share(gateway, MEASURE_MS);
      const rate = ((receivedBy(hosts) - before) * 8) / MEASURE_MS / count;
      if (rate < 500 || rate > 800) throw new Error(`a viewer got ${rate.toFixed(0)} kbit/s of 600`);
      const perViewer = ((used - alone) / count) * 100;
      console.log(
        `  ${count} viewers: ${(used * 100).toFixed(2)} % of a core, ${perViewer.toFixed(4)} % per viewer (target 0.02, SRS 0.016 at 326 ms)`,
      );
      await measureDelay(probe, `${count} viewers`);
    }
    probe.close();
  } finally {
    publisher.close();
    for (const host of hosts) await host.stop("SIGKILL");
    await gateway.stop();
  }
}

/** A player of 5 Mbit/s that reads nothing for a minute, beside one that reads. */
async function measureStall(): Promise<void> {
  const gateway = await GatewayProcess.start();
  const publisher = new SteadyPublisher(gateway.rtmpUrl(), 5_000_000);
  try {
    await gateway.live();
    const probe = new DelayProbe(gateway.rtmpUrl());
    await pause(10_000); // buffers and garbage settle
    const before = await peakRss(gateway, 5_000);
    const stalled = connect(gateway.ports.rtmp, "127.0.0.1", () => stalled.write(playerBytes()));
    stalled.on("error", () => {});
    stalled.pause();
    const during = await peakRss(gateway, STALL_MS);
    stalled.destroy();
    const line = gateway.child.lines(/rtmp play ended/).at(-1) ?? "not closed";
    console.log(
      `  5 Mbit/s, a player that reads nothing for 60 s: memory ${mib(before)} → ${mib(during)} MiB at most (+${mib(during - before)}, bound 8)`,
    );
    console.log(`    ${/reason=("[^"]*"|\S+)/.exec(line)?.[0] ?? line}`);
    await measureDelay(probe, "beside it");
    probe.close();
  } finally {
    publisher.close();
    await gateway.stop();
  }
}

async function share(gateway: GatewayProcess, ms: number): Promise<number> {
  const [cpu, at] = [gateway.cpuMs(), performance.now()];
  await pause(ms);
  return (gateway.cpuMs() - cpu) / (performance.now() - at);
}

/** Bytes, a second old at most. */
function receivedBy(hosts: readonly Child[]): number {
  return hosts.reduce(
    (sum, host) =>
      sum +
      Number(
        host
          .lines(/^received/)
          .at(-1)
          ?.split(" ")[1] ?? 0,
      ),
    0,
  );
}

async function peakRss(gateway: GatewayProcess, ms: number): Promise<number> {
  let peak = 0;
  for (const end = performance.now() + ms; performance.now() < end; await pause(250)) {
    peak = Math.max(peak, gateway.cost().rssBytes);
  }
  return peak;
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

async function measureDelay(probe: DelayProbe, what: string): Promise<void> {
  probe.delays.length = 0;
  await pause(5000);
  const { delays } = probe;
  if (delays.length < 100) throw new Error(`${what}: only ${delays.length} pictures in 5 s`);
  const [half, most] = [percentile(delays, 0.5).toFixed(1), percentile(delays, 0.95).toFixed(1)];
  console.log(`    ${what}: publisher to viewer p50 ${half}, p95 ${most} ms (${delays.length} pictures)`);
}

/** 25 pictures and 47 audio frames a second, evenly; a key frame every 2 s that is four times as long as the others. */
class SteadyPublisher {
  readonly #client: RtmpClient;
  readonly #start = performance.now();
  readonly #key: Frame;
  readonly #delta: Frame;
  readonly #audio: Frame;
  #timer: NodeJS.Timeout | undefined;
  #pictures = 0;
  #sounds = 0;

  constructor(url: string, bitrate: number) {
    const size = Math.round((bitrate - 64_000) / 8 / 25 / (53 / 50));
    const tags = [
      videoConfigTag(),
      videoTag(0, { key: true, size: 4 * size }),
      videoTag(0, { size }),
      audioConfigTag(),
      audioTag(0, 170),
    ];
    const [videoConfig, key, delta, audioConfig, audio] = framesOfTags(tags);
    if (!videoConfig || !key || !delta || !audioConfig || !audio) throw new Error("the reader dropped a tag");
    [this.#key, this.#delta, this.#audio] = [key, delta, audio];
    this.#client = new RtmpClient({
      url,
      action: "publish",
      clock: new SystemClock(),
      onReady: () => {
        this.#client.writeFrame(videoConfig);
        this.#client.writeFrame(audioConfig);
        this.#timer = setInterval(() => this.#write(), 5);
      },
      onClose: () => clearInterval(this.#timer),
    });
  }

  close(): void {
    this.#client.close();
  }

  #write(): void {
    const now = (performance.now() - this.#start) * 1000;
    for (; this.#pictures * 40_000 <= now; this.#pictures++) {
      const frame = this.#pictures % 50 === 0 ? this.#key : this.#delta;
      const data = Buffer.from(frame.data);
      data.writeDoubleBE(performance.now(), TIME_AT);
      const dts = this.#pictures * 40_000;
      this.#client.writeFrame({ ...frame, data, dts, pts: dts });
    }
    for (; (this.#sounds * 64_000) / 3 <= now; this.#sounds++) {
      const dts = Math.round((this.#sounds * 64_000) / 3);
      this.#client.writeFrame({ ...this.#audio, dts, pts: dts });
    }
  }
}

class DelayProbe {
  /** Milliseconds, of each picture that came. */
  readonly delays: number[] = [];
  readonly #client: RtmpClient;

  constructor(url: string) {
    this.#client = new RtmpClient({
      url,
      action: "play",
      clock: new SystemClock(),
      onFrame: ({ kind, isConfig, data }) => {
        if (kind === "video" && !isConfig) this.delays.push(performance.now() - data.readDoubleBE(TIME_AT));
      },
      onClose: () => {},
    });
  }

  close(): void {
    this.#client.close();
  }
}

if (process.argv[1]?.endsWith("bench/rtmp-play.js")) await run();
