// Chooses the egress that this machine can run.

import { NativeUnavailable } from "../native/library.js";
import type { UdpSockets } from "../native/udp.js";
import type { StreamingEgress } from "./egress.js";
import { NativeEgress } from "./egress-native.js";
import { PortableEgress } from "./egress-portable.js";

/** @param sockets must stay open until the egress is closed */
export function createEgress(sockets: UdpSockets): StreamingEgress {
  if (sockets.sockets.some(({ fd }) => fd === undefined)) return new PortableEgress(sockets);
  try {
    return new NativeEgress(sockets);
  } catch (error) {
    if (error instanceof NativeUnavailable) return new PortableEgress(sockets);
    throw error;
  }
}
