// What people are told when a connection does not come about: in the page, in the API, and by `npm run doctor`.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { makeFixture } from "../../scripts/fixtures.js";
import { type Child, eventually } from "../support/child.js";
import { Chromium } from "../support/chromium.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { publish } from "../support/publish.js";

let gateway: GatewayProcess;
let browser: Chromium;
let publisher: Child;
before(async () => {
  const { path } = await makeFixture({});
  gateway = await GatewayProcess.start();
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
  assert.match(text, /The server never heard from this browser on UDP 9 at 127\.0\.0\.1\./);
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
