// WHIP and WHEP, point by point, against a running server by real HTTP and real clients. The gateway by default; another one with
//
//   WHIP_WHEP_TARGET=http://host:port [WHIP_WHEP_TOKEN=…] node --test --test-force-exit dist/test/whip-whep/whip-whep.test.js
//
// where the target may be a template such as http://host/{endpoint}/{stream}.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import { makeFixture } from "../../scripts/fixtures.js";
import { eventually, pause } from "../support/child.js";
import { GatewayProcess } from "../support/gateway-process.js";
import { NativePublisher } from "../support/native-publisher.js";
import { type Viewer, ViewerHost } from "../support/viewers.js";
import { CHECKS, type Context } from "./checks.js";
import { Client, type Endpoint, freshCredentials, makeTarget } from "./target.js";

const TOKEN = "a-token-for-the-checks";

suite("WHIP and WHEP", () => {
  let gateway: GatewayProcess | undefined;
  let publisher: NativePublisher;
  let host: ViewerHost;
  let vanished: ViewerHost;
  let context: Context;
  let clip: string;
  let goneSince = 0;
  let goneSession = "";
  let count = 0;

  before(async () => {
    clip = (await makeFixture()).path;
    let base = process.env["WHIP_WHEP_TARGET"];
    if (base === undefined) {
      gateway = await GatewayProcess.start({ rtc: `token ${TOKEN};` });
      base = `http://127.0.0.1:${gateway.ports.api}`;
    }
    const run = Date.now().toString(36);
    const client = new Client(makeTarget(base, gateway === undefined ? process.env["WHIP_WHEP_TOKEN"] : TOKEN));
    const fresh = (): string => `check-${run}-${++count}`;
    context = { client, live: fresh(), fresh };
    publisher = await NativePublisher.start("libdatachannel", mediaUrl("whip", context.live), clip);
    host = new ViewerHost();
    vanished = new ViewerHost();
    const viewer = await vanished.join(mediaUrl("whep", context.live));
    const { resource } = await viewer.until("pictures flow", (look) => look.tally.pictures > 5);
    goneSession = resource ?? "";
    await vanished.stop();
    goneSince = performance.now();
  });

  after(async () => {
    await host.stop();
    await publisher.stop();
    await gateway?.stop();
  });

  for (const { points, level, title, run } of CHECKS) {
    test(`${points} (${level}): ${title}`, async (t) => {
      const skipped = await run(context);
      if (skipped !== undefined) t.skip(skipped);
    });
  }

  /** For native stacks, whose helpers send no Authorization header. */
  function mediaUrl(endpoint: Endpoint, stream: string): string {
    const url = context.client.target.url(endpoint, stream);
    return gateway === undefined ? url : `${url}&token=${TOKEN}`;
  }

  async function watch(stream = context.live): Promise<{ viewer: Viewer; session: string }> {
    const viewer = await host.join(mediaUrl("whep", stream));
    const { resource } = await viewer.until("pictures flow", (look) => look.tally.pictures > 5);
    assert.ok(resource !== undefined);
    return { viewer, session: resource };
  }

  const ended = (viewer: Viewer): Promise<unknown> =>
    viewer.until(
      "its connection has ended",
      ({ state }) => state === "closed" || state === "disconnected" || state === "failed",
      5000,
    );

  test("18 (must): DELETE ends the media of a viewer, and only of that one", async () => {
    const one = await watch();
    const other = await watch();
    await context.client.request("DELETE", one.session);
    await ended(one.viewer);
    const { tally } = await other.viewer.look();
    await other.viewer.until("the other one's pictures go on", (look) => look.tally.pictures > tally.pictures + 10);
    await other.viewer.leave();
  });

  test("28, 30 (must): media goes on through an ICE restart that the client never follows", async () => {
    const { viewer, session } = await watch();
    const { usernameFragment, password } = freshCredentials();
    const answer = await context.client.patch(session, `a=ice-ufrag:${usernameFragment}\r\na=ice-pwd:${password}\r\n`, '"*"');
    assert.equal(answer.status, 200);
    const { tally } = await viewer.look();
    await pause(3000); // checks by the old credentials come meanwhile
    const later = await viewer.look();
    assert.equal(later.state, "connected");
    assert.ok(later.tally.pictures > tally.pictures + 50);
    await viewer.leave();
  });

  test("20 (must): viewers are told when the server ends a stream whose publisher was deleted", async (t) => {
    const stream = context.fresh();
    const other = await NativePublisher.start("libdatachannel", mediaUrl("whip", stream), clip);
    const { viewer } = await watch(stream);
    await other.stop();
    if (gateway === undefined) {
      t.skip("how long viewers wait for a publisher to come back is each server's own affair");
      return;
    }
    await viewer.until("its connection has ended", ({ state }) => state === "closed" || state === "disconnected", 15_000);
  });

  test("21 (must): a viewer that vanished is gone within 30 s", async () => {
    const left = 30_000 - (performance.now() - goneSince);
    await eventually(
      "its session is gone",
      async () => ((await context.client.request("GET", goneSession)).status === 404 ? true : undefined),
      Math.max(0, left) + 1500,
      250,
    );
  });
});
