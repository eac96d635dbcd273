// The gateway as a library: two in one process, each with its own streams, and nothing left after close.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { parseConfig } from "../../gateway/config/read.js";
import { Gateway } from "../../gateway/gateway.js";
import { makeFixture } from "../../scripts/fixtures.js";
import { childrenOf, eventually } from "../support/child.js";
import { configText, freePorts } from "../support/gateway-process.js";
import { publish } from "../support/publish.js";
import { ViewerHost } from "../support/viewers.js";

suite("library", () => {
  test("two gateways in one process do not disturb each other", async () => {
    const { path } = await makeFixture();
    const ports = [await freePorts(), await freePorts()] as const;
    const gateways = ports.map(
      (own) => new Gateway({ config: parseConfig(configText(own, { top: "log_level error;" })).config }),
    );
    const heard: string[] = [];
    const host = new ViewerHost();
    const publishers = ports.map((own) => publish(path, `rtmp://127.0.0.1:${own.rtmp}/live/livestream`));
    await Promise.all(publishers.map((publisher) => publisher.stop("SIGKILL"))); // nobody listens yet: they must fail, not hang
    try {
      gateways.forEach((gateway, index) => {
        gateway.on("publish", ({ name }) => heard.push(`${index} publish ${name.stream}`));
        gateway.on("play", ({ name }) => heard.push(`${index} play ${name.stream}`));
      });
      for (const gateway of gateways) await gateway.start();
      publishers.splice(0);
      for (const own of ports) publishers.push(publish(path, `rtmp://127.0.0.1:${own.rtmp}/live/livestream`));
      const url = (index: 0 | 1): string => `http://127.0.0.1:${ports[index].api}/rtc/v1/whep/?app=live&stream=livestream`;
      const join = (index: 0 | 1) => eventually("live", () => host.join(url(index)).catch(() => undefined));
      const viewers = [await join(0), await join(1)] as const;
      for (const viewer of viewers) await viewer.until("pictures flow", (look) => look.tally.pictures > 20);
      await gateways[0]?.close();
      const before = await viewers[1].look();
      await viewers[1].until("the other goes on", (look) => look.tally.pictures > before.tally.pictures + 20);
      assert.deepEqual((await viewers[1].look()).tally.video.missing, 0);
      assert.deepEqual(heard.sort(), ["0 play livestream", "0 publish livestream", "1 play livestream", "1 publish livestream"]);
    } finally {
      await host.stop();
      for (const publisher of publishers) await publisher.stop("SIGKILL");
      for (const gateway of gateways) await gateway.close();
    }
    assert.deepEqual(
      childrenOf(process.pid).filter(({ command }) => command.includes("ffmpeg")),
      [],
    );
  });
});
