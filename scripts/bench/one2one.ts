// A call for two in one machine, glass to glass: from the moment a picture is painted on one page until the other page shows it.
// Both pages are one2one.html; the camera is a canvas with a frame number in squares, which the viewer reads back.

import { eventually, pause, percentile } from "../../test/support/child.js";
import { Chromium, type Seen } from "../../test/support/chromium.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";

const TARGET = 60; // ms at the median
const SECONDS = 15;

export async function run(): Promise<void> {
  const gateway = await GatewayProcess.start({ rtc: "rtc_to_rtmp on;", top: "signaling { enabled on; }" });
  const browser = await Chromium.start();
  try {
    const pages = [];
    for (const display of ["Ann", "Bob"]) {
      const page = await browser.open("about:blank");
      await page.addInitScript(PAINTED_CAMERA);
      await page.goto(gateway.pageUrl(`?room=bench&display=${display}&autostart=true&height=360&fps=30`, "demos/one2one.html"));
      pages.push(page);
    }
    const [ann, bob] = pages;
    if (ann === undefined || bob === undefined) throw new Error("no pages");
    const isSeen = "Object.values(__sluice.stats)[0]?.framesDecoded > 30";
    for (const page of pages) {
      await eventually("they see each other", async () => ((await page.evaluate(isSeen)) === true ? true : undefined), 30_000);
    }
    await bob.evaluate(
      `__probe.adopt(1, document.querySelector('.tile[data-who="other"] video'), [...__sluice.room.participants.values()][0].viewer.pc)`,
    );
    await pause(3_000); // the encoder finds its size, the jitter buffer its depth
    await bob.evaluate("__probe.take(1)");
    await pause(SECONDS * 1000);
    const seen = (await bob.evaluate("__probe.take(1)")) as Seen;
    const painted = new Map((await ann.evaluate("[...__painted]")) as [number, number][]);
    const [annOrigin, bobOrigin] = [await ann.evaluate("performance.timeOrigin"), await bob.evaluate("performance.timeOrigin")];
    const offset = (bobOrigin as number) - (annOrigin as number);
    const delays = seen.pictures.flatMap(({ frameNumber, expectedAt }) => {
      const at = frameNumber === undefined ? undefined : painted.get(frameNumber);
      return at === undefined ? [] : [expectedAt + offset - at];
    });
    if (delays.length < SECONDS * 10) throw new Error(`only ${delays.length} of ${seen.pictures.length} pictures could be read`);
    const [first] = Object.values(
      (await bob.evaluate("__sluice.stats")) as Record<string, { jitterBuffer: number; width: number }>,
    );
    const at = (share: number): string => percentile(delays, share).toFixed(0);
    console.log(
      `  one2one, glass to glass: ${at(0.5)} ms at the median (${TARGET}), p95 ${at(0.95)}, most ${at(1)}; ` +
        `${delays.length} pictures in ${SECONDS} s, ${first?.width} wide, jitter buffer ${((first?.jitterBuffer ?? 0) * 1000).toFixed(0)} ms`,
    );
  } finally {
    await browser.stop();
    await gateway.stop();
  }
}

/** In place of the camera: a canvas of 640 × 360, painted 30 times a second; `__painted` maps frame numbers to when. */
const PAINTED_CAMERA = `
window.__painted = new Map();
{
  const CELLS = 32;
  const crc8 = (number) => {
    let crc = 0xff;
    for (const byte of [number >> 8, number & 0xff]) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x80 ? 0x07 : 0)) & 0xff;
    }
    return crc;
  };
  const bitsOf = (value, count) => Array.from({ length: count }, (_, index) => (value >> (count - 1 - index)) & 1);
  const real = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (wish) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 640, height: 360 });
    const context = canvas.getContext("2d");
    let number = 0;
    setInterval(() => {
      number = (number + 1) & 0xffff;
      context.fillStyle = "hsl(" + (number % 360) + " 40% 40%)";
      context.fillRect(0, 20, 640, 340);
      context.fillStyle = "#fff";
      context.fillRect((number * 7) % 600, 160, 40, 40);
      [1, 0, 1, 0, ...bitsOf(number, 16), ...bitsOf(crc8(number), 8), 0, 1, 0, 1].forEach((bit, cell) => {
        context.fillStyle = bit ? "#fff" : "#000";
        context.fillRect((cell * 640) / CELLS, 0, 640 / CELLS, 20);
      });
      window.__painted.set(number, performance.now());
    }, 1000 / 30);
    const sound = await real.call(this, { audio: true });
    return new MediaStream([...canvas.captureStream(30).getVideoTracks(), ...sound.getAudioTracks()]);
  };
}`;
