// EDGE: this machine's sockets, keys, interfaces and names, for the RTC server.

import { lookup } from "node:dns/promises";
import { networkInterfaces } from "node:os";

import { createDtlsContext } from "../native/dtls.js";
import { createSrtpReceiver } from "../native/srtp.js";
import type { Endpoint } from "../native/types.js";
import { openUdpSockets } from "../native/udp.js";
import { createEgress } from "./egress-create.js";
import type { RtcMachine } from "./network.js";
import { NameResolver } from "./resolver.js";

const resolver = new NameResolver({
  lookup: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
  now: () => performance.now(),
});

export const systemMachine: RtcMachine = {
  async openNetwork({ listen, family, onDatagram }) {
    const sockets = await openUdpSockets({ listen, family, onDatagram });
    const egress = createEgress(sockets);
    const localAddress = ({ socket }: Endpoint): string => {
      const local = sockets.sockets[socket];
      if (local === undefined) return "";
      return `${local.family === "IPv6" ? `[${local.address}]` : local.address}:${local.port}`;
    };
    return { port: sockets.port, egress, localAddress, close: () => sockets.close() };
  },
  createDtls: (ecdsa) => createDtlsContext({ ecdsa }),
  createReceiver: createSrtpReceiver,
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
