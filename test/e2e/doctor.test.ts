// What people are told when a connection does not come about: in the page, in the API, and by `npm run doctor`.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { makeFixture } from "../../scripts/fixtures.js";
import { Child, eventually } from "../support/child.js";
import { Chromium } from "../support/chromium.js";
import { configText, freeTcpPort, GatewayProcess, type Ports, ROOT } from "../support/gateway-process.js";
import { publish } from "../support/publish.js";

let gateway: GatewayProcess;
let browser: Chromium;
let publisher: Child;
before(async () => {
  const { path } = await makeFixture({});
  const tcp = (ports: Ports) => `rtc_server { protocol all; tcp { enabled on; listen 127.0.0.1:${ports.rtc}; } }`;
  gateway = await GatewayProcess.start({ config: (ports) => configText(ports, { top: tcp(ports) }) });
  publisher = publish(path, gateway.rtmpUrl());
  browser = await Chromium.start();
  await gateway.live();
});
after(async () => {
  await browser?.stop();
  await publisher?.stop("SIGKILL");
  await gateway?.stop();
});

type Shown = { verdict: string; stopped_at: string | null; cause: string; steps: { step: string; ms: number | null }[] };

async function viewers(): Promise<{ ip: string; rtc: { doctor: Shown; candidate: string } }[]> {
  const answer = await fetch(`http://127.0.0.1:${gateway.ports.api}/api/v1/clients?count=100`);
  const { clients } = (await answer.json()) as {
    clients: { type: string; ip: string; rtc: { doctor: Shown; candidate: string } }[];
  };
  return clients.filter(({ type }) => type === "rtc-play");
}

test("an address that nobody can reach: the page and the API say so in plain words", async () => {
  // Port 9 of this machine: nobody is there. It stands for a NAT whose address was not named.
  const page = await browser.open(gateway.pageUrl(`?autostart=true&api=${gateway.ports.api}&eip=127.0.0.1:9`));
  const text = await eventually("the page explains", async () => {
    const shown = await page.evaluate<string>("document.getElementById('notice').textContent");
    return /never heard/.test(shown) ? shown : undefined;
  });
  assert.match(text, /The server never heard from this browser on UDP 9 at 127\.0\.0\.1 and TCP 9 at 127\.0\.0\.1\./);
  assert.match(text, new RegExp(`UDP 9 must be forwarded to the gateway's own UDP ${gateway.ports.rtc}`));
  const [client] = await viewers();
  assert.equal(client?.rtc.doctor.verdict, "unreachable");
  assert.equal(client?.rtc.doctor.stopped_at, "stun");
  await page.close();
});

test("what works is followed through every step", async () => {
  const page = await browser.open(gateway.pageUrl(`?autostart=true&api=${gateway.ports.api}`));
  const doctor = await eventually("every step is taken", async () => {
    const found = (await viewers()).find(({ rtc }) => rtc.candidate !== "")?.rtc.doctor;
    return found?.stopped_at === null && found.steps.every(({ ms }) => ms !== null) ? found : undefined;
  });
  assert.equal(doctor.verdict, "ok", JSON.stringify(doctor));
  await page.close();
});

async function doctor(...words: string[]): Promise<{ text: string; code: number }> {
  const child = new Child("node", [join(ROOT, "dist/scripts/doctor.js"), ...words]);
  const { code } = await child.exited;
  return { text: child.log, code: code ?? -1 };
}

test("npm run doctor: a stream that plays, one that is not live, and a publisher's address", async () => {
  const live = await doctor(gateway.whepUrl());
  assert.equal(live.code, 0, live.text);
  assert.match(live.text, /ok +offer answered +[\d.]+ ms +201/);
  assert.match(live.text, /ok +STUN to 127\.0\.0\.1:\d+ +[\d.]+ ms +we are seen as 127\.0\.0\.1:/);
  assert.match(live.text, /ok +handshake \(DTLS\)/);
  assert.match(live.text, /ok +first media/);
  assert.match(live.text, /Verdict: UDP works, media comes\.\nVerdict: TCP works, media comes\./);
  const idle = await doctor(gateway.whepUrl("nobody"));
  assert.equal(idle.code, 0, idle.text);
  assert.match(idle.text, /stream is live.*409/);
  assert.match(idle.text, /Verdict: UDP gets through; media was not asked for\./);
  const whip = await doctor(gateway.whipUrl());
  assert.equal(whip.code, 0, whip.text);
  assert.match(whip.text, /check answered/);
  const stream = await gateway.stream();
  assert.equal(stream?.state, "live", "the publisher was left alone");
});

test("npm run doctor: what does not get through, with the gateway's own words", async () => {
  const unreachable = await doctor(`${gateway.whepUrl()}&eip=127.0.0.1:9`, "--timeout", "2.5");
  assert.equal(unreachable.code, 1, unreachable.text);
  assert.match(unreachable.text, /FAIL +STUN to 127\.0\.0\.1:9 +no answer/);
  assert.match(unreachable.text, /Verdict: UDP fails at: STUN to 127\.0\.0\.1:9\./);
  assert.match(unreachable.text, /The gateway says of UDP: The server never heard from this client on UDP 9/);
  assert.match(unreachable.text, /FAIL +STUN to 127\.0\.0\.1:9 +nobody listens there/);
  const nobody = await doctor(`127.0.0.1:${await freeTcpPort()}`);
  assert.equal(nobody.code, 1);
  assert.match(nobody.text, /connection refused/);
  assert.equal((await doctor("http://127.0.0.1:9/nothing")).code, 2);
});
