// The least of an HTTP endpoint in front of an RtcServer, for tests that do not want the real one.

import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { Refusal } from "../../gateway/media/errors.js";
import type { RtcServer } from "../../gateway/rtc/server.js";

export async function openWhepEndpoint(rtc: RtcServer): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://127.0.0.1");
    if (request.method === "DELETE") {
      response.writeHead(rtc.closeSession(url.pathname.slice(1), "deleted") ? 200 : 404).end();
      return;
    }
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      rtc
        .play({
          name: { vhost: "__defaultVhost__", app: "live", stream: "livestream" },
          sdp: Buffer.concat(parts).toString(),
          address: "127.0.0.1",
          parameters: "",
          apiHost: "",
          candidates: [url.searchParams.get("eip") ?? `127.0.0.1:${rtc.port}`],
        })
        .then(
          ({ id, sdp }) => response.writeHead(201, { "Content-Type": "application/sdp", Location: `/${id}` }).end(sdp),
          (error: unknown) => response.writeHead(error instanceof Refusal ? 422 : 500).end(String(error)),
        );
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/`,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
