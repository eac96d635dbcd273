// What a forwarded packet is to a decoder, as far as its first bytes tell: where a random-access picture starts, and whether other
// pictures refer to this one. Nothing is depacketised.

/**
 * `key`: a random-access picture starts in this packet, with everything a decoder needs or with parameter sets sent before.
 * `parameter-sets`: the sets that such a picture needs are here (H.264, H.265), whether or not the picture starts here as well.
 */
export type KeyFramePart = "key" | "parameter-sets" | "none";

/** @param codec encoding name in lower case @param payload RTP payload, any bytes */
export function keyFramePart(codec: string, payload: Buffer): KeyFramePart {
  switch (codec) {
    case "h264":
      return h264Part(payload);
    case "h265":
      return h265Part(payload);
    case "vp8":
      return isVp8Key(payload) ? "key" : "none";
    case "vp9":
      return isVp9Key(payload) ? "key" : "none";
    case "av1":
      return isAv1Key(payload) ? "key" : "none";
    default:
      return "none";
  }
}

/** Whether no other picture refers to the one this packet belongs to. False when that cannot be told. */
export function isDiscardablePacket(codec: string, payload: Buffer): boolean {
  const first = payload[0];
  if (first === undefined) return false;
  if (codec === "vp8") return (first & 0x20) !== 0; // N: non-reference frame
  if (codec !== "h264") return false;
  if ((first & 0x60) !== 0) return false; // nal_ref_idc
  const type = first & 0x1f;
  if (type === FU_A) return isSlice((payload[1] ?? 0) & 0x1f);
  return isSlice(type);
}

// RFC 6184 section 5.2: |F|NRI|  Type   |
function h264Part(payload: Buffer): KeyFramePart {
  const type = (payload[0] ?? 0) & 0x1f;
  if (type === FU_A) {
    const fuHeader = payload[1] ?? 0; // |S|E|R|  Type   |
    if ((fuHeader & 0x80) === 0) return "none";
    return h264NalPart(fuHeader & 0x1f);
  }
  if (type !== STAP_A) return h264NalPart(type);
  let part: KeyFramePart = "none";
  for (let at = 1; at + 3 <= payload.length; ) {
    const size = payload.readUInt16BE(at);
    if (size === 0 || at + 2 + size > payload.length) break;
    const found = h264NalPart((payload[at + 2] as number) & 0x1f);
    if (found === "parameter-sets") return found;
    if (found === "key") part = found;
    at += 2 + size;
  }
  return part;
}

function h264NalPart(type: number): KeyFramePart {
  if (type === 7) return "parameter-sets"; // SPS; a PPS alone starts nothing
  return type === 5 ? "key" : "none"; // IDR
}

function isSlice(type: number): boolean {
  return type === 1 || type === 2; // coded slice of a non-IDR picture, data partition A
}

// RFC 7798 section 1.1.4: |F|   Type    |  LayerId  | TID |
function h265Part(payload: Buffer): KeyFramePart {
  if (payload.length < 2) return "none";
  const type = ((payload[0] as number) >> 1) & 0x3f;
  if (type === H265_FU) {
    const fuHeader = payload[2] ?? 0; // |S|E|  FuType   |
    return (fuHeader & 0x80) === 0 ? "none" : h265NalPart(fuHeader & 0x3f);
  }
  if (type !== H265_AP) return h265NalPart(type);
  let part: KeyFramePart = "none";
  for (let at = 2; at + 4 <= payload.length; ) {
    const size = payload.readUInt16BE(at);
    if (size < 2 || at + 2 + size > payload.length) break;
    const found = h265NalPart(((payload[at + 2] as number) >> 1) & 0x3f);
    if (found === "parameter-sets") return found;
    if (found === "key") part = found;
    at += 2 + size;
  }
  return part;
}

function h265NalPart(type: number): KeyFramePart {
  if (type === 32 || type === 33) return "parameter-sets"; // VPS, SPS
  return type >= 16 && type <= 21 ? "key" : "none"; // BLA, IDR, CRA
}

// RFC 7741 section 4.2: |X|R|N|S|R| PID |, then up to four extension bytes, then the frame header (RFC 6386 section 9.1)
function isVp8Key(payload: Buffer): boolean {
  const first = payload[0] ?? 0;
  if ((first & 0x10) === 0 || (first & 0x07) !== 0) return false; // S=1 of partition 0: the frame begins here
  let at = 1;
  if ((first & 0x80) !== 0) {
    const extension = payload[at] ?? 0; // |I|L|T|K| RSV   |
    at += 1;
    if ((extension & 0x80) !== 0) at += ((payload[at] ?? 0) & 0x80) !== 0 ? 2 : 1; // PictureID of 7 or 15 bits
    if ((extension & 0x40) !== 0) at += 1; // TL0PICIDX
    if ((extension & 0x30) !== 0) at += 1; // TID, Y, KEYIDX
  }
  const header = payload[at];
  return header !== undefined && (header & 0x01) === 0; // inverse key frame flag
}

// RFC 9628 section 4.2: |I|P|L|F|B|E|V|Z|
function isVp9Key(payload: Buffer): boolean {
  const first = payload[0] ?? 0;
  if ((first & 0x48) !== 0x08) return false; // P=0: no reference to other pictures; B=1: a frame begins
  if ((first & 0x20) === 0) return payload.length > 1;
  let at = 1;
  if ((first & 0x80) !== 0) at += ((payload[at] ?? 0) & 0x80) !== 0 ? 2 : 1; // picture id of 7 or 15 bits
  const layer = payload[at]; // | TID |U| SID |D|
  return layer !== undefined && (layer & 0x0e) === 0; // the lowest spatial layer
}

// AV1 RTP payload, section 4.4: |Z|Y| W |N|-|-|-|; N=1: first packet of a coded video sequence
function isAv1Key(payload: Buffer): boolean {
  const first = payload[0] ?? 0;
  return payload.length > 1 && (first & 0x88) === 0x08; // N=1, and Z=0: no rest of an earlier packet's OBU
}

const STAP_A = 24;
const FU_A = 28;
const H265_AP = 48;
const H265_FU = 49;
