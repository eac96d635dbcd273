// EDGE: this machine's sockets, keys, interfaces and names, for the RTC server.

import { lookup } from "node:dns/promises";
import { networkInterfaces } from "node:os";

import { createDtlsContext } from "../native/dtls.js";
import { createSrtpReceiver } from "../native/srtp.js";
import { type Endpoint, FIRST_STREAM } from "../native/types.js";
import { openUdpSockets } from "../native/udp.js";
import { createEgress } from "./egress-create.js";
import type { RtcMachine } from "./network.js";
import { NameResolver } from "./resolver.js";
import { TcpConnections } from "./tcp-connections.js";

const resolver = new NameResolver({
  lookup: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
  now: () => performance.now(),
});

export const systemMachine: RtcMachine = {
  async openNetwork({ listen, family, onDatagram, tcp: streams }) {
    const sockets = await openUdpSockets({ listen, family, onDatagram });
    const egress = createEgress(sockets);
    let tcp: TcpConnections | undefined;
    if (streams !== undefined) {
      tcp = new TcpConnections({ paths: egress.streams, onDatagram, onGone: streams.onGone });
      try {
        await tcp.listen(streams.listen);
      } catch (error) {
        await tcp.close();
        egress.close();
        await sockets.close();
        throw error;
      }
    }
    const localAddress = ({ socket }: Endpoint): string => {
      if (socket >= FIRST_STREAM) return tcp?.localAddress(socket) ?? "";
      const local = sockets.sockets[socket];
      if (local === undefined) return "";
      return `${local.family === "IPv6" ? `[${local.address}]` : local.address}:${local.port}`;
    };
    const close = async (): Promise<void> => void (await Promise.all([tcp?.close(), sockets.close()]));
    return { port: sockets.port, egress, tcp, localAddress, close };
  },
  createDtls: (ecdsa) => createDtlsContext({ ecdsa }),
  createReceiver: (keys) => createSrtpReceiver(keys),
  interfaceAddresses() {
    const addresses: string[] = [];
    for (const list of Object.values(networkInterfaces())) {
      // Link-local IPv6 addresses mean nothing without a zone, which a candidate cannot carry.
      for (const { address } of list ?? []) if (!address.toLowerCase().startsWith("fe80:")) addresses.push(address);
    }
    return addresses;
  },
  resolve: (name) => resolver.resolve(name),
};
