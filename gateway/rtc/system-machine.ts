// EDGE: this machine's sockets, keys, interfaces and names, for the RTC server.

import { lookup } from "node:dns/promises";
import { networkInterfaces } from "node:os";

import { createDtlsContext } from "../native/dtls.js";
import { createSrtpReceiver } from "../native/srtp.js";
import { openUdpSockets } from "../native/udp.js";
import { createEgress } from "./egress-create.js";
import type { RtcMachine } from "./network.js";

export const systemMachine: RtcMachine = {
  async openNetwork({ listen, family, onDatagram }) {
    const sockets = await openUdpSockets({ listen, family, onDatagram });
    const egress = createEgress(sockets);
    return { port: sockets.port, egress, close: () => sockets.close() };
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
  async resolve(name) {
    try {
      return (await lookup(name, { all: true })).map(({ address }) => address);
    } catch {
      return []; // a name that does not resolve is no candidate
    }
  },
};
