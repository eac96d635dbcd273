// Chooses the egress that this machine can run.

import type { UdpSockets } from "../native/udp.js";
import type { StreamingEgress } from "./egress.js";
import { NativeEgress } from "./egress-native.js";
import { PortableEgress } from "./egress-portable.js";

/**
 * @param sockets must stay open until the egress is closed
 * @throws NativeUnavailable when the sockets are native and OpenSSL is missing: then there is no DTLS either
 */
export function createEgress(sockets: UdpSockets): StreamingEgress {
  return sockets.sockets.every(({ fd }) => fd !== undefined) ? new NativeEgress(sockets) : new PortableEgress(sockets);
}
