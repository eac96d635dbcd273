// WebRTC over UDP, over TCP and over both, on a port that HTTPS has too: browsers and native stacks, watching and publishing.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { connect } from "node:tls";

import { makeSelfSigned } from "../../gateway/http/self-signed.js";
import { makeFixture } from "../../scripts/fixtures.js";
import { type Child, eventually } from "../support/child.js";
import { Chromium, PageViewer } from "../support/chromium.js";
import { freeTcpPort, GatewayProcess } from "../support/gateway-process.js";
import { PagePublisher } from "../support/page-publisher.js";
import { publish } from "../support/publish.js";
import { checkSequence, depacketizeH264 } from "../support/rtp-reader.js";
import { ViewerHost } from "../support/viewers.js";

type Transport = "udp" | "tcp" | "any";

/** Lets a page use only candidates of one transport, as if its network let nothing else through. */
const ONLY = (transport: Transport): string => `(() => {
  const original = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function (description) {
    const isKept = (line) => ${transport === "any"} || !line.startsWith("a=candidate:") || line.split(" ")[2] === "${transport}";
    return original.call(this, { type: description.type, sdp: description.sdp.split("\\r\\n").filter(isKept).join("\\r\\n") });
  };
})()`;

suite("WebRTC over TCP", () => {
  let gateway: GatewayProcess;
  let publisher: Child;
  let host: ViewerHost;
  let browser: Chromium;
  let shared: number;
  let folder: string;

  before(async () => {
    const { path } = await makeFixture();
    shared = await freeTcpPort();
    folder = mkdtempSync(join(tmpdir(), "sluice-tcp-"));
    writePair(folder);
    const pair = `key ${join(folder, "key.pem")}; cert ${join(folder, "cert.pem")};`;
    const https = `https { enabled on; listen 127.0.0.1:${shared}; ${pair} }`;
    const tcp = `protocol all; tcp { enabled on; listen 127.0.0.1:${shared}; }`;
    gateway = await GatewayProcess.start({
      top: `http_api { ${https} } http_server { ${https} } rtc_server { ${tcp} }`,
      vhost: "http_remux { enabled on; } hls { enabled on; }",
    });
    publisher = publish(path, gateway.rtmpUrl());
    host = new ViewerHost();
    browser = await Chromium.start();
    await gateway.live();
  });

  after(async () => {
    await browser?.stop();
    await host?.stop();
    await publisher?.stop("SIGKILL");
    await gateway?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** What the API says of the newest WebRTC viewer. */
  async function transports(type: "rtc-play" | "rtc-publish"): Promise<string[]> {
    const answer = await fetch(`http://127.0.0.1:${gateway.ports.api}/api/v1/clients?count=1000`);
    const { clients } = (await answer.json()) as { clients: { type: string; rtc?: { transport?: string } }[] };
    return clients.filter((client) => client.type === type).map(({ rtc }) => rtc?.transport ?? "");
  }

  for (const transport of ["udp", "tcp", "any"] as const) {
    const used = transport === "any" ? "udp" : transport;

    test(`libdatachannel watches every packet in order (${transport})`, async () => {
      const viewer = await host.join(gateway.whepUrl(), { transport });
      await viewer.until("pictures flow", (look) => look.tally.pictures > 60);
      assert.deepEqual(await transports("rtc-play"), [used]);
      const recording = await viewer.take();
      await viewer.leave();
      const [video, audio] = [checkSequence(recording.video), checkSequence(recording.audio)];
      assert.deepEqual([video.missing, video.duplicates, video.reordered], [0, 0, 0]);
      assert.deepEqual([audio.missing, audio.duplicates, audio.reordered], [0, 0, 0]);
      assert.ok(depacketizeH264(video.ordered).every((unit) => unit.isComplete));
      await eventually("the viewer is gone", async () => ((await transports("rtc-play")).length === 0 ? true : undefined));
    });

    test(`Chromium watches from an HTTPS page by the port that media uses too (${transport})`, async () => {
      const page = await browser.openForProbe(`https://127.0.0.1:${shared}/`);
      await page.evaluate(ONLY(transport));
      const whep = `https://127.0.0.1:${shared}/rtc/v1/whep/?app=live&stream=livestream`;
      const viewer = await PageViewer.join(page, whep);
      const { video } = await eventually("pictures are decoded", async () => {
        const seen = await viewer.statistics();
        return (seen.video?.framesDecoded ?? 0) > 60 ? seen : undefined;
      });
      assert.equal(video?.packetsLost, 0);
      assert.deepEqual(await transports("rtc-play"), [used]);
      await viewer.close();
      await page.close();
      await eventually("the viewer is gone", async () => ((await transports("rtc-play")).length === 0 ? true : undefined));
    });
  }

  test("Chromium publishes over TCP, and a viewer over TCP gets whole pictures", async () => {
    const page = await browser.openForProbe(`https://127.0.0.1:${shared}/`);
    await page.evaluate(ONLY("tcp"));
    const camera = await PagePublisher.start(page, `https://127.0.0.1:${shared}/rtc/v1/whip/?app=live&stream=camera`);
    await gateway.live("camera");
    const viewer = await host.join(gateway.whepUrl("camera"), { transport: "tcp" });
    await viewer.until("pictures flow", (look) => look.tally.pictures > 30 && look.tally.keyFrames > 0, 20_000);
    assert.deepEqual(await transports("rtc-publish"), ["tcp"]);
    const { video } = await viewer.take();
    assert.equal(checkSequence(video).missing, 0);
    await viewer.leave();
    await camera.stop();
    await page.close();
  });

  test("the browser's HTTP/2 carries HTTP-FLV and HLS", async () => {
    const page = await browser.openForProbe(`https://127.0.0.1:${shared}/`);
    const flv = (await page.evaluate(`(async () => {
      const response = await fetch("/live/livestream.flv");
      const reader = response.body.getReader();
      const head = [];
      let bytes = 0;
      while (bytes < 100_000) {
        const { value, done } = await reader.read();
        if (done) break;
        if (head.length < 3) head.push(...value.subarray(0, 3));
        bytes += value.length;
      }
      await reader.cancel();
      return { status: response.status, head: String.fromCharCode(...head.slice(0, 3)), bytes };
    })()`)) as { status: number; head: string; bytes: number };
    assert.equal(flv.status, 200);
    assert.equal(flv.head, "FLV");
    assert.ok(flv.bytes >= 100_000);
    const playlist = await eventually("a playlist with a segment", async () => {
      const [status, text] = (await page.evaluate(
        `fetch("/live/livestream.m3u8").then(async (response) => [response.status, await response.text()])`,
      )) as [number, string];
      return status === 200 && text.startsWith("#EXTM3U") ? text : undefined;
    });
    assert.match(playlist, /#EXT/);
    const protocols = await page.evaluate(
      `performance.getEntriesByType("resource").map(({ nextHopProtocol }) => nextHopProtocol)`,
    );
    assert.ok((protocols as string[]).includes("h2"), String(protocols));
    await page.close();
  });

  test("sessions outlive an exchange of the certificate, and whoever comes next gets the new one", async () => {
    const viewer = await host.join(gateway.whepUrl(), { transport: "tcp" });
    const { tally } = await viewer.until("pictures flow", (look) => look.tally.pictures > 10);
    const first = await fingerprintAt(shared);
    writePair(folder);
    gateway.child.process.kill("SIGHUP"); // it would find out by itself too
    await eventually("the new certificate is used", async () => ((await fingerprintAt(shared)) !== first ? true : undefined));
    const later = await viewer.until("pictures go on", (look) => look.tally.pictures > tally.pictures + 30);
    assert.equal(later.state, "connected");
    await viewer.leave();
  });
});

function writePair(folder: string): void {
  const { key, cert } = makeSelfSigned(["127.0.0.1"], Date.now());
  writeFileSync(join(folder, "key.pem"), key);
  writeFileSync(join(folder, "cert.pem"), cert);
}

function fingerprintAt(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}
