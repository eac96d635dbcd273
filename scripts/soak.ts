// npm run soak -- [--minutes 10] [--viewers 20] [--seed 1]
//
// Viewers join and leave at random, politely or not, and the publisher restarts now and then. Watches the gateway's memory and open
// files from outside, and judges: memory flat after warm-up, nothing left when everybody has gone. Exit code 1 when not.

import { parseArgs } from "node:util";

import { pause } from "../test/support/child.js";
import { GatewayProcess } from "../test/support/gateway-process.js";
import { slope } from "../test/support/judge.js";
import { publish } from "../test/support/publish.js";
import { monotonicNow } from "../test/support/rtp-reader.js";
import { seededRandom } from "../test/support/seeded.js";
import { type Viewer, ViewerHost } from "../test/support/viewers.js";
import { makeFixture } from "./fixtures.js";

const SAMPLE_MS = 10_000;
/** MiB an hour that a flat memory may seem to grow over a run: what garbage collection's saw teeth leave of a slope. */
const FLAT_MIB_PER_MINUTE = 1;

type Sample = { readonly minute: number; readonly rss: number; readonly sockets: number; readonly children: number };

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    viewers: { type: "string", default: "20" },
    seed: { type: "string", default: "1" },
  },
});
process.exitCode = await soak(Number(values.minutes), Number(values.viewers), Number(values.seed));

async function soak(minutes: number, most: number, seed: number): Promise<number> {
  if (!(minutes > 0) || minutes > 24 * 60) throw new TypeError("--minutes: a number above 0, at most 1440");
  console.log(`soak: ${minutes} minutes, up to ${most} viewers, seed ${seed}`);
  const random = seededRandom(seed);
  const fixture = await makeFixture();
  const gateway = await GatewayProcess.start();
  let publisher = publish(fixture.path, gateway.rtmpUrl());
  await gateway.live();
  const idle = { ...gateway.openFiles(), children: gateway.children().length };
  const start = monotonicNow();
  const minute = (): number => (monotonicNow() - start) / 60_000;
  const samples: Sample[] = [];
  const counts = { joins: 0, refused: 0, leaves: 0, vanished: 0, restarts: 0, silent: 0 };
  let host = new ViewerHost();
  let viewers: Viewer[] = [];
  let nextSample = start + SAMPLE_MS;
  let nextRestart = start + 60_000 + random() * 60_000;
  console.log("minute  viewers  RSS MiB  sockets  children");

  try {
    while (minute() < minutes) {
      if (viewers.length < most && random() < 0.6) {
        const stack = random() < 0.3 ? "libdatachannel" : "light";
        await host.join(gateway.whepUrl(), { stack, keep: false }).then(
          (viewer) => {
            viewers.push(viewer);
            counts.joins++;
          },
          () => counts.refused++, // the publisher may be away
        );
      } else if (viewers.length > 0) {
        const [viewer] = viewers.splice(Math.floor(random() * viewers.length), 1);
        const look = await viewer?.look();
        if (
          look !== undefined &&
          monotonicNow() - (look.times.connected ?? monotonicNow()) > 3000 &&
          look.tally.video.packets === 0
        )
          counts.silent++;
        await viewer?.leave(random() < 0.7);
        counts.leaves++;
      }
      if (random() < 0.002) {
        await host.stop(); // all of them vanish at once, without a word
        counts.vanished += viewers.length;
        viewers = [];
        host = new ViewerHost();
      }
      if (monotonicNow() > nextRestart) {
        await publisher.stop("SIGKILL");
        await pause(random() * 2000);
        publisher = publish(fixture.path, gateway.rtmpUrl());
        counts.restarts++;
        nextRestart = monotonicNow() + 30_000 + random() * 60_000;
      }
      if (monotonicNow() > nextSample) {
        const sample = {
          minute: minute(),
          rss: gateway.cost().rssBytes / 2 ** 20,
          sockets: gateway.openFiles().sockets,
          children: gateway.children().length,
        };
        samples.push(sample);
        nextSample += SAMPLE_MS;
        const row = [sample.minute.toFixed(1), viewers.length, sample.rss.toFixed(1), sample.sockets, sample.children];
        console.log(row.map((cell, index) => String(cell).padStart([6, 7, 7, 7, 8][index] ?? 0)).join("  "));
      }
      await pause(100 + random() * 400);
    }
  } finally {
    await host.stop();
    await publisher.stop("SIGKILL");
  }
  console.log(JSON.stringify(counts));
  return judge(gateway, samples, idle, counts.silent);
}

async function judge(
  gateway: GatewayProcess,
  samples: readonly Sample[],
  idle: { readonly sockets: number; readonly children: number },
  silent: number,
): Promise<number> {
  const warm = samples.slice(Math.ceil(samples.length / 3));
  const growth = slope(warm.map(({ minute, rss }) => ({ x: minute, y: rss })));
  console.log("waiting for sessions to run out …");
  await pause(40_000); // stun_timeout and the publisher's grace are 30 s at most
  const { sockets } = gateway.openFiles();
  const children = gateway.children();
  const started = monotonicNow();
  const exit = await gateway.stop(); // throws when it had to be killed: a timer or socket that keeps it alive
  const failures: string[] = [];
  if (growth > FLAT_MIB_PER_MINUTE) failures.push(`memory grows by ${growth.toFixed(2)} MiB a minute`);
  if (sockets > idle.sockets) failures.push(`${sockets - idle.sockets} sockets left`);
  if (children.length > idle.children) failures.push(`children left: ${children.map(({ command }) => command).join("; ")}`);
  if (silent > 0) failures.push(`${silent} viewers got no picture`);
  console.log(
    `memory ${growth.toFixed(2)} MiB a minute after warm-up (first ${warm[0]?.rss.toFixed(1)}, last ${warm.at(-1)?.rss.toFixed(1)}), ` +
      `sockets ${idle.sockets} → ${sockets}, children ${idle.children} → ${children.length}, ended with ${exit.code} in ${Math.round(monotonicNow() - started)} ms`,
  );
  console.log(failures.length === 0 ? "verdict: good" : `verdict: BAD, ${failures.join("; ")}`);
  return failures.length === 0 ? 0 : 1;
}
