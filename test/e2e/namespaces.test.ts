// Whole browsers behind networks that block: one that drops all UDP, and one where the gateway is behind NAT.
//
// The file starts itself again in a network namespace of its own, so that nothing of this machine's network is touched.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";

import { makeFixture } from "../../scripts/fixtures.js";
import { Child, eventually } from "../support/child.js";
import { Chromium } from "../support/chromium.js";
import { GatewayProcess, type Ports, ROOT } from "../support/gateway-process.js";
import { GATEWAY_ADDRESS, GATEWAY_ADDRESS_V6, Namespaces, namespacesObstacle, ROUTER_ADDRESS } from "../support/namespaces.js";
import { publish } from "../support/publish.js";

/** Nobody else is in that namespace. */
const PORTS: Ports = { rtmp: 1935, api: 1985, http: 8080, rtc: 8000 };
/** Of a page: milliseconds from the offer to media, undefined before. */
const JOINED = "window.__sluice?.joinTime";
const IS_INSIDE = "SLUICE_TEST_NAMESPACE";

if (process.env[IS_INSIDE] === undefined) {
  const obstacle = namespacesObstacle();
  test("behind networks that block", { skip: obstacle ?? false }, async () => {
    const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
    const child = spawn("unshare", ["-n", process.execPath, fileURLToPath(import.meta.url)], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...environment, [IS_INSIDE]: "1" },
    });
    let report = "";
    child.stdout.on("data", (bytes) => {
      report += String(bytes);
    });
    const [code] = await once(child, "close");
    assert.equal(code, 0, report);
  });
} else drill();

/** What runs inside. */
function drill(): void {
  let namespaces: Namespaces;
  let browser: Chromium;
  let clip: string;
  before(async () => {
    clip = (await makeFixture({})).path;
    namespaces = new Namespaces();
    const chromium = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
    // Camera and microphone on a page that did not come by https.
    const origins = [GATEWAY_ADDRESS, `[${GATEWAY_ADDRESS_V6}]`, ROUTER_ADDRESS]
      .map((host) => `http://${host}:${PORTS.http}`)
      .join(",");
    browser = await Chromium.start({
      executablePath: namespaces.clientCommand(chromium),
      more: [`--unsafely-treat-insecure-origin-as-secure=${origins}`],
    });
  });
  after(async () => {
    await browser?.stop();
    namespaces?.close();
  });

  type Client = {
    type: string;
    ip: string;
    rtc: { candidate: string; transport: string; ice_state: string; doctor: { verdict: string; cause: string } };
  };
  const clients = async (): Promise<Client[]> => {
    const answer = await fetch(`http://127.0.0.1:${PORTS.api}/api/v1/clients?count=100`);
    return ((await answer.json()) as { clients: Client[] }).clients;
  };

  /** True once a client of that type has all its steps behind it, over that transport. */
  const transportOf = async (type: string, transport: string): Promise<true | undefined> => {
    const own = (await clients()).filter((client) => client.type === type);
    return own.some(({ rtc }) => rtc.transport === transport && rtc.doctor.verdict === "ok") || undefined;
  };

  suite("a network that drops all UDP", () => {
    let gateway: GatewayProcess;
    let publisher: Child;
    before(async () => {
      namespaces.rules("table ip f { chain forward { type filter hook forward priority 0; meta l4proto udp drop; }; }");
      gateway = await GatewayProcess.start({
        ports: PORTS,
        config: () =>
          config(`listen ${PORTS.rtc}; protocol all; tcp { enabled on; listen ${PORTS.rtc}; } candidate ${GATEWAY_ADDRESS};`),
      });
      publisher = publish(clip, `rtmp://127.0.0.1:${PORTS.rtmp}/live/livestream`);
    });
    after(async () => {
      await publisher?.stop("SIGKILL");
      await gateway?.stop();
    });

    test("WHEP plays over TCP", async (context) => {
      const page = await browser.open(pageUrl(GATEWAY_ADDRESS, "whep.html", "autostart=true"));
      const joined = await eventually("it plays", async () => page.evaluate<number | undefined>(JOINED), 20_000);
      context.diagnostic(`first picture after ${joined.toFixed(0)} ms`);
      await eventually("it is over TCP", () => transportOf("rtc-play", "tcp"));
      await page.close();
    });

    test("WHIP publishes over TCP", async (context) => {
      const page = await browser.open(pageUrl(GATEWAY_ADDRESS, "whip.html", "autostart=true&stream=camera"));
      const joined = await eventually("it publishes", async () => page.evaluate<number | undefined>(JOINED), 20_000);
      context.diagnostic(`live after ${joined.toFixed(0)} ms`);
      await eventually("it is over TCP", () => transportOf("rtc-publish", "tcp"));
      await page.close();
    });

    test("npm run doctor says that UDP fails and TCP works", async () => {
      const url = `http://${GATEWAY_ADDRESS}:${PORTS.api}/rtc/v1/whep/?app=live&stream=livestream`;
      const child = new Child(namespaces.clientCommand(process.execPath), [join(ROOT, "dist/scripts/doctor.js"), url]);
      const { code } = await child.exited;
      assert.equal(code, 0, child.log);
      assert.match(child.log, /Verdict: UDP fails at: STUN/);
      assert.match(child.log, /Verdict: TCP works, media comes/);
    });
  });

  suite("a network of IPv6", { skip: !existsSync("/proc/net/if_inet6") && "no IPv6 here" }, () => {
    let gateway: GatewayProcess;
    let publisher: Child;
    before(async () => {
      namespaces.rules("table ip f { chain forward { type filter hook forward priority 0; drop; }; }"); // IPv4 leads nowhere
      gateway = await GatewayProcess.start({
        ports: PORTS,
        config: () => config(`listen ${PORTS.rtc} [::]:${PORTS.rtc}; ip_family all;`),
      });
      publisher = publish(clip, `rtmp://127.0.0.1:${PORTS.rtmp}/live/livestream`);
    });
    after(async () => {
      await publisher?.stop("SIGKILL");
      await gateway?.stop();
    });

    test("WHEP plays and WHIP publishes over IPv6", async () => {
      const host = `[${GATEWAY_ADDRESS_V6}]`;
      const viewer = await browser.open(pageUrl(host, "whep.html", "autostart=true"));
      await eventually("it plays", async () => viewer.evaluate<number | undefined>(JOINED), 20_000);
      await eventually("it is over UDP", () => transportOf("rtc-play", "udp"));
      const camera = await browser.open(pageUrl(host, "whip.html", "autostart=true&stream=camera"));
      await eventually("it publishes", async () => camera.evaluate<number | undefined>(JOINED), 20_000);
      await eventually("it is over UDP", () => transportOf("rtc-publish", "udp"));
      const paths = (await clients()).filter(({ type }) => type.startsWith("rtc-")).map(({ rtc }) => rtc.candidate);
      assert.ok(paths.length === 2 && paths.every((path) => path.startsWith("fd99:1::2")), paths.join());
      await viewer.close();
      await camera.close();
    });
  });

  suite("a gateway behind NAT", () => {
    let gateway: GatewayProcess;
    let publisher: Child;
    before(async () => {
      // As a router with forwarded ports: the client reaches the router's address only.
      namespaces.rules(`
        table ip n {
          chain pre {
            type nat hook prerouting priority -100;
            iifname "r1" ip daddr ${ROUTER_ADDRESS} tcp dport { ${PORTS.api}, ${PORTS.http} } dnat to ${GATEWAY_ADDRESS}
            iifname "r1" ip daddr ${ROUTER_ADDRESS} udp dport ${PORTS.rtc} dnat to ${GATEWAY_ADDRESS}
          }
          chain forward { type filter hook forward priority 0; ct status dnat accept; iifname "r1" drop; }
        }`);
      gateway = await GatewayProcess.start({ ports: PORTS, config: () => config(`listen ${PORTS.rtc}; api_as_candidates off;`) });
      publisher = publish(clip, `rtmp://127.0.0.1:${PORTS.rtmp}/live/livestream`);
    });
    after(async () => {
      await publisher?.stop("SIGKILL");
      await gateway?.stop();
    });

    test("without eip it fails, and page and API name the cause", async () => {
      const page = await browser.open(pageUrl(ROUTER_ADDRESS, "whep.html", "autostart=true"));
      const text = await eventually(
        "the page explains",
        async () => {
          const shown = await page.evaluate<string>("document.getElementById('notice').textContent");
          return /never heard/.test(shown) ? shown : undefined;
        },
        20_000,
      );
      assert.match(text, /it announced only UDP \d+ at 10\.99\.2\.2.*nobody outside its own network can reach.*198\.51\.100\.2/);
      assert.match(text, /candidate/);
      const viewer = (await clients()).find(({ type }) => type === "rtc-play");
      assert.equal(viewer?.ip, "198.51.100.2");
      assert.equal(viewer?.rtc.doctor.verdict, "private-candidates");
      await page.close();
    });

    test("with eip it plays", async () => {
      const page = await browser.open(pageUrl(ROUTER_ADDRESS, "whep.html", `autostart=true&eip=${ROUTER_ADDRESS}`));
      await eventually("it plays", async () => page.evaluate<number | undefined>(JOINED), 20_000);
      const states = (await clients()).filter(({ type }) => type === "rtc-play").map(({ rtc }) => rtc.doctor.verdict);
      assert.ok(states.includes("ok"), states.join());
      await page.close();
    });
  });
}

function pageUrl(host: string, page: string, query: string): string {
  return `http://${host}:${PORTS.http}/players/${page}?api=${PORTS.api}&${query}`;
}

function config(rtcServer: string): string {
  return `
listen 127.0.0.1:${PORTS.rtmp};
http_api { enabled on; listen 0.0.0.0:${PORTS.api} [::]:${PORTS.api}; }
http_server { enabled on; listen 0.0.0.0:${PORTS.http} [::]:${PORTS.http}; }
rtc_server { enabled on; ${rtcServer} }
vhost __defaultVhost__ { rtc { enabled on; rtmp_to_rtc on; rtc_to_rtmp on; } }
`;
}
