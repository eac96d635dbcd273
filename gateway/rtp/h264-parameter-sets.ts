// The parameter sets of an H.264 source, from its offer and from its packets, for pictures that come without them (RFC 6184 sections
// 5.2, 5.7.1, 8.1): some sources say them once at the start, or in their offer only, and who joins later could never begin.

import { MAX_RTP_PAYLOAD } from "./packet.js";

export class H264ParameterSets {
  #sps: Buffer | undefined;
  #pps: Buffer | undefined;
  #aggregate: Buffer | undefined;

  /** @param formatParameters `sprop-parameter-sets=…` among others */
  constructor(formatParameters: string) {
    const value = /(?:^|;)\s*sprop-parameter-sets=([A-Za-z0-9+/=,]{0,4096})/.exec(formatParameters)?.[1] ?? "";
    for (const text of value.split(",")) this.#take(Buffer.from(text, "base64"));
  }

  /** Looks for parameter sets in a packet of the source. */
  see(payload: Buffer): void {
    const type = (payload[0] ?? 0) & 0x1f;
    if (type === SPS || type === PPS) this.#take(payload);
    if (type !== STAP_A) return;
    for (let at = 1; at + 3 <= payload.length; ) {
      const size = payload.readUInt16BE(at);
      if (size === 0 || at + 2 + size > payload.length) return;
      this.#take(payload.subarray(at + 2, at + 2 + size));
      at += 2 + size;
    }
  }

  /** Both as one payload, or undefined when they are not known, or too long for a packet. */
  aggregate(): Buffer | undefined {
    if (this.#aggregate !== undefined) return this.#aggregate;
    if (this.#sps === undefined || this.#pps === undefined) return undefined;
    const out = Buffer.alloc(5 + this.#sps.length + this.#pps.length);
    if (out.length > MAX_RTP_PAYLOAD) return undefined;
    out[0] = 0x60 | STAP_A; // nal_ref_idc=3
    let at = 1;
    for (const nal of [this.#sps, this.#pps]) {
      at = out.writeUInt16BE(nal.length, at);
      at += nal.copy(out, at);
    }
    this.#aggregate = out;
    return out;
  }

  #take(nal: Buffer): void {
    const type = (nal[0] ?? 0) & 0x1f;
    if (nal.length < 4 || (type !== SPS && type !== PPS)) return;
    const known = type === SPS ? this.#sps : this.#pps;
    if (known?.equals(nal) === true) return;
    const copy = Buffer.from(nal); // lives longer than its packet
    if (type === SPS) this.#sps = copy;
    else this.#pps = copy;
    this.#aggregate = undefined;
  }
}

const SPS = 7;
const PPS = 8;
const STAP_A = 24;
