// The connectivity check from a shell against the real command: curl and one UDP packet; and a path over IPv6.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { BARE_OFFER, CHECK_PASSWORD, CHECK_REQUEST, CHECK_USER, checkResponse } from "../support/bare-check.js";
import { configText, GatewayProcess, type Ports } from "../support/gateway-process.js";

const QUERY = `ice-ufrag=${CHECK_USER}&ice-pwd=${CHECK_PASSWORD}&app=live&stream=livestream`;
const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));
const hasShell = ["/bin/bash", "/usr/bin/curl", "/usr/bin/xxd"].every((path) => existsSync(path));

let gateway: GatewayProcess;
before(async () => {
  gateway = await GatewayProcess.start({ config });
});
after(() => gateway.stop());

/** As people write it: every address of both families, on one port. */
function config(ports: Ports): string {
  return configText(ports, {})
    .replace(`listen 127.0.0.1:${ports.rtc};`, `listen ${ports.rtc} [::]:${ports.rtc}; ip_family all;`)
    .replace("candidate 127.0.0.1;", "");
}

test("from a shell: curl, one packet, and 64 bytes back, byte for byte", {
  skip: !hasShell && "no bash, curl or xxd",
}, async () => {
  const script = `
    curl -sS -w '\\n%{http_code}\\n' -X POST -H 'Content-Type: application/sdp' --data-binary "$OFFER" "$URL"
    exec 3<>/dev/udp/127.0.0.1/$PORT
    echo $PACKET | xxd -r -p >&3
    timeout 3 head -c 84 <&3 | xxd -p | tr -d '\\n'
  `;
  const { stdout } = await promisify(execFile)("/bin/bash", ["-c", script], {
    env: {
      ...process.env,
      OFFER: BARE_OFFER,
      URL: gateway.whipUrl("livestream", `&${QUERY}`),
      PORT: String(gateway.ports.rtc),
      PACKET: CHECK_REQUEST.toString("hex"),
    },
  });
  const lines = stdout.trimEnd().split("\n");
  const [status, answer = ""] = lines.slice(-2);
  assert.equal(status, "201");
  assert.match(stdout, /a=candidate:0 1 udp 2130706431 \S+ \d+ typ host generation 0/);
  const response = Buffer.from(answer, "hex");
  assert.equal(response.length, 84);
  const port = response.readUInt16BE(46) ^ 0x2112; // the shell's own, in XOR-MAPPED-ADDRESS behind USERNAME
  assert.equal(answer, checkResponse("127.0.0.1", port).toString("hex"));
});

const FAMILIES = [
  { address: "127.0.0.1", skip: false },
  { address: "::1", skip: !hasIpv6 && "no IPv6 here" },
] as const;
for (const { address, skip } of FAMILIES) {
  test(`the check over ${address}, asked twice, from any address of the machine`, { skip }, async () => {
    for (let round = 0; round < 2; round++) {
      const answer = await fetch(
        `${gateway.whepUrl()}&eip=${encodeURIComponent(address.includes(":") ? `[${address}]` : address)}&${QUERY}`,
        {
          method: "POST",
          headers: { "Content-Type": "application/sdp" },
          body: BARE_OFFER,
        },
      );
      assert.equal(answer.status, 201);
      assert.ok((await answer.text()).includes(`2130706431 ${address} ${gateway.ports.rtc} typ host`));
      const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
      const heard = once(socket, "message", { signal: AbortSignal.timeout(3_000) });
      socket.send(CHECK_REQUEST, gateway.ports.rtc, address);
      const [response, from] = (await heard) as [Buffer, { address: string; port: number }];
      assert.equal(from.address, address);
      assert.equal(response.readUInt16BE(2), address.includes(":") ? 76 : 64);
      if (!address.includes(":")) {
        assert.equal(response.toString("hex"), checkResponse(address, socket.address().port).toString("hex"));
      }
      socket.close();
    }
  });
}

test("an eip that is no address gets 400 and never stands in an answer", async () => {
  const hostile = ["1.2.3.4\r\na=x", "v=0", "x".repeat(300), "0.0.0.0", "192.0.2.1:99999", "<script>", "192.0.2.300"];
  for (const eip of hostile) {
    const answer = await fetch(`${gateway.whepUrl()}&eip=${encodeURIComponent(eip)}&${QUERY}`, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: BARE_OFFER,
    });
    assert.equal(answer.status, 400, eip);
    assert.ok(!(await answer.text()).includes("a=candidate"));
  }
});
