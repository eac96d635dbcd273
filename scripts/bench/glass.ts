// Glass to glass: a page draws a time code, publishes it by WHIP and watches it by WHEP, in one browser on one machine.

import { eventually, pause, percentile } from "../../test/support/child.js";
import { Chromium, PageViewer } from "../../test/support/chromium.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";
import { PagePublisher } from "../../test/support/page-publisher.js";
import { timeCodeCells } from "../test-picture.js";

const NUMBERS = 3_000; // time codes: two minutes of 25 pictures a second
const SECONDS = 20;

export async function run(): Promise<string> {
  const gateway = await GatewayProcess.start();
  const browser = await Chromium.start();
  try {
    const page = await browser.openForProbe(gateway.pageUrl("", ""));
    const cells = Array.from({ length: NUMBERS }, (_, number) => timeCodeCells(number).join(""));
    await page.evaluate(`(${SCENE})(${JSON.stringify(cells)})`);
    const publisher = await PagePublisher.start(page, gateway.whipUrl());
    await gateway.live();
    const viewer = await PageViewer.join(page, gateway.whepUrl());
    await eventually("pictures are decoded", async () => ((await viewer.statistics()).video?.framesDecoded ? true : undefined));
    await pause(5000);
    await viewer.take();
    await pause(SECONDS * 1000);
    const drawnAt = (await page.evaluate("window.__drawnAt")) as number[];
    const { pictures } = await viewer.take();
    const delays = pictures.flatMap(({ frameNumber, shownAt }) => {
      const drawn = frameNumber === undefined ? undefined : drawnAt[frameNumber];
      return drawn === undefined ? [] : [shownAt - drawn];
    });
    if (delays.length < SECONDS * 10) throw new Error(`only ${delays.length} of ${pictures.length} pictures could be read`);
    await publisher.stop();
    const show = (share: number): string => percentile(delays, share).toFixed(0);
    return `  WHIP to WHEP, drawn to shown: ${show(0.5)} ms at the median (40), p95 ${show(0.95)}, ${delays.length} pictures`;
  } finally {
    await browser.stop();
    await gateway.stop();
  }
}

/** Runs in the page: a canvas with a time code instead of the camera. */
const SCENE = `(cells) => {
  const canvas = document.createElement("canvas");
  canvas.width = 640; canvas.height = 360;
  document.body.append(canvas);
  const context = canvas.getContext("2d");
  window.__drawnAt = [];
  let number = 0;
  setInterval(() => {
    if (number >= cells.length) return;
    context.fillStyle = "hsl(" + number % 360 + " 40% 40%)";
    context.fillRect(0, 20, 640, 340);
    [...cells[number]].forEach((bit, index) => {
      context.fillStyle = bit === "1" ? "#fff" : "#000";
      context.fillRect(index * 20, 0, 20, 20);
    });
    window.__drawnAt[number] = performance.now();
    number++;
  }, 40);
  const picture = canvas.captureStream();
  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async () =>
    new MediaStream([...picture.getTracks(), ...(await real({ audio: true })).getTracks()]);
}`;

if (process.argv[1]?.endsWith("bench/glass.js")) console.log(await run());
