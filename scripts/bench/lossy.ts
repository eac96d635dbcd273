// What a viewer in a real browser loses on a bad network: 20 ms each way and 5 or 10 % random loss both ways, at a viewer of an RTMP
// source, at a viewer of a WHIP source, and at a WHIP publisher. `SECONDS=20` shortens each row from its 60 s.

import { eventually, pause } from "../../test/support/child.js";
import { Chromium, PageViewer, type Statistics } from "../../test/support/chromium.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";
import { PagePublisher } from "../../test/support/page-publisher.js";
import { publish } from "../../test/support/publish.js";
import { openUdpProxy } from "../../test/support/udp-proxy.js";
import { makeFixture } from "../fixtures.js";

type Row = Readonly<Record<string, string | number>>;
type Where = "viewer of RTMP" | "viewer of WHIP" | "WHIP publisher";

const SECONDS = Number(process.env["SECONDS"] ?? 60);
const SEED = Number(process.env["SEED"] ?? 7);
const ROWS = process.env["ROWS"]?.split(",");
const DELAY = 20; // ms each way

export async function run(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const where of ["viewer of RTMP", "viewer of WHIP", "WHIP publisher"] as const) {
    for (const loss of [0.05, 0.1]) {
      if (ROWS === undefined || ROWS.some((row) => `${where} ${loss}`.includes(row))) rows.push(await measure(where, loss));
    }
  }
  return rows;
}

async function measure(where: Where, loss: number): Promise<Row> {
  const gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;" });
  const browser = await Chromium.start();
  const faults = { delay: DELAY, loss };
  const proxy = await openUdpProxy({ address: "127.0.0.1", port: gateway.ports.rtc }, SEED, { up: faults, down: faults });
  const through = `&eip=127.0.0.1:${proxy.port}`;
  const isViewer = where !== "WHIP publisher";
  let stop = async (): Promise<unknown> => undefined;
  try {
    let sent: (seconds: number) => Promise<number>;
    if (where === "viewer of RTMP") {
      const publisher = publish((await makeFixture()).path, gateway.rtmpUrl());
      stop = () => publisher.stop("SIGKILL");
      sent = async (seconds) => seconds * 25;
    } else {
      const page = await browser.openForProbe(gateway.pageUrl("", ""));
      const publisher = await PagePublisher.start(page, gateway.whipUrl("livestream", isViewer ? "" : through));
      stop = () => publisher.stop();
      const before = async (): Promise<number> => (await publisher.statistics()).framesEncoded;
      let last = 0;
      sent = async () => {
        const now = await before();
        const count = now - last;
        last = now;
        return count;
      };
    }
    await gateway.live();
    const page = await browser.openForProbe(gateway.pageUrl("", ""));
    const viewer = await PageViewer.join(page, gateway.whepUrl() + (isViewer ? through : ""));
    await eventually("pictures are decoded", async () => ((await viewer.statistics()).video?.framesDecoded ? true : undefined));
    await pause(5000); // buffers find their size
    await sent(0);
    const a = await viewer.statistics();
    await pause(SECONDS * 1000);
    const b = await viewer.statistics();
    const frames = await sent(((b.video?.timestamp ?? 0) - (a.video?.timestamp ?? 0)) / 1000);
    return { where, loss: `${loss * 100} %`, ...judge(a, b, frames, loss) };
  } finally {
    await stop();
    await proxy.close();
    await browser.stop();
    await gateway.stop();
  }
}

function judge(before: Statistics, after: Statistics, frames: number, loss: number): Row {
  const [a, b] = [before.video, after.video];
  const [c, d] = [before.audio, after.audio];
  if (!(a && b && c && d)) throw new Error("no statistics of both tracks");
  const decoded = b.framesDecoded - a.framesDecoded;
  const concealed = d.concealedSamples - c.concealedSamples - (d.silentConcealedSamples - c.silentConcealedSamples);
  const aims = loss < 0.1 ? { decoded: 99, freeze: 0.2, concealed: 2 } : { decoded: 98, freeze: 0.5, concealed: Number.NaN };
  const of = (value: number, aim: number): string => `${value.toFixed(2)}${Number.isNaN(aim) ? "" : ` (${aim})`}`;
  return {
    "decoded %": of((decoded * 100) / frames, aims.decoded),
    "frozen s": of(b.totalFreezesDuration - a.totalFreezesDuration, aims.freeze),
    freezes: b.freezeCount - a.freezeCount,
    "concealed %": of((concealed * 100) / (d.totalSamplesReceived - c.totalSamplesReceived), aims.concealed),
    "audio lost": d.packetsLost - c.packetsLost,
    "audio events": d.concealmentEvents - c.concealmentEvents,
    nacks: b.nackCount - a.nackCount,
    plis: b.pliCount - a.pliCount,
    "buffer ms": ((b.jitterBufferDelay - a.jitterBufferDelay) * 1000) / (b.jitterBufferEmittedCount - a.jitterBufferEmittedCount),
  };
}

if (process.argv[1]?.endsWith("bench/lossy.js")) console.table(await run());
