// Bad input over real sockets while a viewer watches: a clear answer to its sender, and the viewer sees nothing of it.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { makeFixture } from "../../scripts/fixtures.js";
import { Child, eventually, pause } from "../support/child.js";
import { freePorts, GatewayProcess, MAIN, ROOT } from "../support/gateway-process.js";
import { bindingRequest, LightViewer } from "../support/light-viewer.js";
import { publish, sendRaw } from "../support/publish.js";
import { type Viewer, ViewerHost } from "../support/viewers.js";

const OFFER = readFileSync(join(ROOT, "test/offers/chromium156-whep-offer.sdp"), "utf8");

suite("trouble", () => {
  let gateway: GatewayProcess;
  let publisher: Child;
  let host: ViewerHost;
  let viewer: Viewer;

  before(async () => {
    const { path } = await makeFixture();
    gateway = await GatewayProcess.start({ rtc: "stun_timeout 6;" });
    publisher = publish(path, gateway.rtmpUrl());
    host = new ViewerHost();
    await gateway.live();
    viewer = await host.join(gateway.whepUrl());
    await viewer.until("pictures flow", (look) => look.tally.pictures > 10);
  });

  after(async () => {
    await host.stop();
    await publisher.stop("SIGKILL");
    await gateway.stop();
  });

  /** Does something bad; the viewer must go on without a gap. */
  async function undisturbed(act: () => Promise<void>): Promise<void> {
    await act();
    const before = await viewer.look();
    const after = await viewer.until("pictures go on", (look) => look.tally.pictures > before.tally.pictures + 20, 5000);
    assert.deepEqual([after.tally.video.missing, after.tally.audio.missing], [0, 0]);
    assert.equal(gateway.child.exit, undefined);
  }

  function post(body: string, headers: Record<string, string> = { "Content-Type": "application/sdp" }): Promise<Response> {
    return fetch(gateway.whepUrl(), { method: "POST", headers, body });
  }

  test("garbage on the RTMP port ends that connection only", async () => {
    await undisturbed(async () => {
      const noise = Buffer.from(Array.from({ length: 20_000 }, (_, index) => (index * 7919) & 0xff));
      const { closed } = await sendRaw(gateway.ports.rtmp, noise, 3000);
      assert.ok(closed, "the gateway hangs up");
      await sendRaw(gateway.ports.rtmp, Buffer.from("GET / HTTP/1.1\r\n\r\n"), 200);
    });
  });

  test("an SDP of 10 MB, without BUNDLE, without H.264, or none at all is refused", async () => {
    await undisturbed(async () => {
      const huge = await post("v=0\r\n".repeat(2 << 20)).then(
        (response) => response.status,
        () => 413, // cut off while sending is a clear answer too
      );
      assert.ok(huge >= 400 && huge < 500, `10 MB: ${huge}`);
      const cases = {
        "without BUNDLE": OFFER.replace(/^a=group:BUNDLE.*\r?\n/m, ""),
        "without H.264": OFFER.replaceAll("H264/90000", "H999/90000"),
        empty: "",
        text: "hello",
      };
      for (const [name, offer] of Object.entries(cases)) {
        const response = await post(offer);
        const body = await response.text();
        assert.ok(response.status >= 400 && response.status < 500, `${name}: ${response.status} ${body}`);
        assert.match(response.headers.get("content-type") ?? "", /problem\+json/, name);
      }
      assert.equal((await post(OFFER, { "Content-Type": "text/plain" })).status, 415);
    });
  });

  test("STUN without or with a wrong MESSAGE-INTEGRITY gets no answer and moves no media", async () => {
    await undisturbed(async () => {
      const response = await post(OFFER);
      assert.equal(response.status, 201);
      const answer = await response.text();
      const fragment = /^a=ice-ufrag:(.+?)\s*$/m.exec(answer)?.[1];
      const offered = /^a=ice-ufrag:(.+?)\s*$/m.exec(OFFER)?.[1];
      const request = bindingRequest(`${fragment}:${offered}`, "not-the-right-password");
      const bare = Buffer.concat([Buffer.from([0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]), Buffer.alloc(12, 7)]);
      const socket = createSocket("udp4");
      let answers = 0;
      socket.on("message", (bytes) => {
        const type = bytes.readUInt16BE(0);
        if (type === 0x0101 || bytes.readUInt8(0) >= 128) answers++; // a success response, or media
      });
      for (const bytes of [request, bare, Buffer.alloc(1), Buffer.alloc(1200, 0x80), Buffer.alloc(1200, 20)]) {
        for (let copy = 0; copy < 20; copy++) socket.send(bytes, gateway.ports.rtc, "127.0.0.1");
      }
      await pause(500);
      socket.close();
      assert.equal(answers, 0);
      await fetch(new URL(response.headers.get("location") ?? "", gateway.whepUrl()), { method: "DELETE" });
    });
  });

  test("a DTLS certificate that does not match the offer gets no media", async () => {
    await undisturbed(async () => {
      const impostor = new LightViewer(Array.from({ length: 32 }, () => "AB").join(":"));
      await assert.rejects(impostor.join(gateway.whepUrl()));
      assert.equal(impostor.receiver.tally.video.packets + impostor.receiver.tally.audio.packets, 0);
      await impostor.leave(true);
    });
  });

  test("a second publisher is refused or takes over, never mixed in", async () => {
    const { path } = await makeFixture();
    const second = publish(path, gateway.rtmpUrl());
    const ended = await Promise.race([second.exited.then(() => second), publisher.exited.then(() => publisher), pause(5000)]);
    assert.ok(ended !== undefined, "one of the two has to go");
    if (ended === publisher) publisher = second; // its address is the same: it may take over
    await undisturbed(async () => {});
    assert.equal((await gateway.stream())?.state, "live");
  });

  test("a viewer of a stream that is not live is told to come again", async () => {
    const response = await fetch(gateway.whepUrl("nobody"), {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: OFFER,
    });
    assert.equal(response.status, 409);
    assert.match(response.headers.get("retry-after") ?? "", /^\d+$/);
  });

  test("a viewer that vanishes without a word is forgotten", async () => {
    const other = new ViewerHost();
    await other.join(gateway.whepUrl());
    await eventually("counted", async () => ((await gateway.stream())?.viewers === 2 ? true : undefined));
    await other.stop();
    await eventually("forgotten", async () => ((await gateway.stream())?.viewers === 1 ? true : undefined), 15_000);
  });
});

suite("ports that are taken", () => {
  for (const name of ["rtmp", "api", "http", "rtc"] as const) {
    test(`${name}: a message naming port and directive, and exit code 1`, async () => {
      const ports = await freePorts();
      const holder = name === "rtc" ? createSocket("udp4") : createServer();
      if ("bind" in holder) await new Promise<void>((resolve) => holder.bind(ports.rtc, "127.0.0.1", resolve));
      else await new Promise<void>((resolve) => holder.listen(ports[name], "127.0.0.1", resolve));
      const directive = { rtmp: "listen", api: "http_api", http: "http_server", rtc: "rtc_server" }[name];
      const environment = {
        SRS_LISTEN: `127.0.0.1:${ports.rtmp}`,
        SRS_HTTP_API_LISTEN: `127.0.0.1:${ports.api}`,
        SRS_HTTP_SERVER_LISTEN: `127.0.0.1:${ports.http}`,
        SRS_RTC_SERVER_LISTEN: `127.0.0.1:${ports.rtc}`,
      };
      const child = new Child("node", [MAIN, "-c", join(ROOT, "conf/gateway.conf")], environment);
      try {
        const exit = await Promise.race([child.exited, pause(8000)]);
        assert.equal(exit?.code, 1, `did not end with 1:\n${child.log}`);
        assert.match(child.log, new RegExp(`${ports[name]}`));
        assert.match(child.log, new RegExp(directive));
      } finally {
        await child.stop("SIGKILL");
        holder.close();
      }
    });
  }
});
