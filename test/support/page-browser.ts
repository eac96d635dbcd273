// A real Chromium for tests of the pages, and a stand-in for the gateway's WebRTC side that lives inside the page.

import { existsSync } from "node:fs";

import { type Browser, chromium } from "playwright-core";

const PATHS = [process.env["CHROMIUM"] ?? "", "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser to test with, or undefined: none is installed. */
export const chromiumPath = PATHS.find((path) => path !== "" && existsSync(path));

export async function openBrowser(): Promise<Browser> {
  if (chromiumPath === undefined) throw new Error("no Chromium");
  const flags = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
  ];
  const media = [
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
  ];
  return await chromium.launch({
    executablePath: chromiumPath,
    args: [...flags, "--disable-component-update", "--disable-sync", ...media],
  });
}

/**
 * Script for `addInitScript`: requests to a session endpoint are answered by a peer connection in the page itself, which sends a
 * moving canvas and a tone, or takes what a publisher sends. `window.fakeGateway` holds what was asked and says how to answer:
 * `{ posts, deletes, offers, live, busy, gone, pause(isPaused) }`. A DELETE goes on to the real server too.
 */
export const FAKE_GATEWAY = `
(() => {
  const realFetch = window.fetch.bind(window);
  const fake = (window.fakeGateway = { posts: 0, deletes: 0, offers: [], live: true, busy: false, gone: false, peers: [] });
  fake.pause = async (isPaused) => {
    for (const sender of fake.peers.flatMap((pc) => pc.getSenders())) {
      const parameters = sender.getParameters();
      for (const encoding of parameters.encodings) encoding.active = !isPaused;
      await sender.setParameters(parameters);
    }
  };
  const problem = (status, code, title, detail, headers) => new Response(JSON.stringify({ type: "urn:sluice:problem:" + code, title, status, detail }), { status, headers });
  window.fetch = async (input, init = {}) => {
    const url = String(input?.url ?? input);
    const legacy = /\\/rtc\\/v1\\/(publish|play)\\//.exec(url)?.[1];
    if (legacy !== undefined) return await answerLegacy(legacy, url, JSON.parse(init.body));
    const kind = /\\/rtc\\/v1\\/(whip|whep)\\//.exec(url)?.[1];
    if (kind === undefined) return realFetch(input, init);
    if (init.method === "DELETE") { fake.deletes++; realFetch(input, init).catch(() => {}); return new Response(null, { status: 200 }); }
    if (init.method !== "POST") return new Response(null, { status: fake.gone ? 404 : 204 });
    fake.posts++;
    fake.offers.push({ url, sdp: init.body });
    if (kind === "whep" && !fake.live) return problem(409, "not-live", "Nobody is publishing this stream", "nobody publishes", { "Retry-After": "1" });
    if (kind === "whip" && fake.busy) return problem(409, "busy", "Somebody else is publishing this stream", "A camera is.", { "Retry-After": "1" });
    const response = new Response(await answer(init.body, kind === "whep"), { status: 201, headers: { Location: "/rtc/v1/" + kind + "/fake-session" } });
    Object.defineProperty(response, "url", { value: new URL(url, location.href).href });
    return response;
  };
  async function answerLegacy(action, url, { streamurl, sdp }) {
    fake.posts++;
    fake.offers.push({ url, streamurl, sdp });
    const json = fake.busy ? { code: 1028, error: "A camera is." } : { code: 0, sdp: await answer(sdp, action === "play"), sessionid: "fake-session" };
    return new Response(JSON.stringify(json), { status: 200 });
  }
  async function answer(sdp, isViewer) {
    const pc = new RTCPeerConnection();
    fake.peers.push(pc);
    if (isViewer) for (const track of media().getTracks()) pc.addTrack(track);
    await pc.setRemoteDescription({ type: "offer", sdp });
    await pc.setLocalDescription(await pc.createAnswer());
    while (pc.iceGatheringState !== "complete") await new Promise((resolve) => pc.addEventListener("icegatheringstatechange", resolve, { once: true }));
    return pc.localDescription.sdp;
  }
  function media() {
    const canvas = document.createElement("canvas");
    canvas.width = 640; canvas.height = 360;
    const context = canvas.getContext("2d");
    let frame = 0;
    setInterval(() => {
      frame++;
      const sky = context.createLinearGradient(0, 0, 640, 360);
      sky.addColorStop(0, "#12324f"); sky.addColorStop(1, "#d98b5f");
      context.fillStyle = sky; context.fillRect(0, 0, 640, 360);
      context.fillStyle = "#ffe2b0"; context.beginPath(); context.arc(80 + (frame * 5) % 480, 150, 36, 0, 7); context.fill();
      context.fillStyle = "#0b1a28"; context.fillRect(0, 260, 640, 100);
      context.fillStyle = "#fff"; context.font = "28px monospace"; context.fillText("frame " + frame, 24, 330);
    }, 40);
    const sound = new AudioContext();
    const tone = sound.createOscillator();
    const volume = sound.createGain(); volume.gain.value = 0.1;
    const out = sound.createMediaStreamDestination();
    tone.connect(volume).connect(out); tone.start();
    return new MediaStream([...canvas.captureStream(25).getTracks(), ...out.stream.getTracks()]);
  }
})();
`;
