// The two tables at the head of an MPEG-TS segment: ISO/IEC 13818-1 sections 2.4.4.3 (PAT) and 2.4.4.8 (PMT), each in one packet.

export const TS_PACKET_SIZE = 188;
export const PID = { PAT: 0, PMT: 0x1000, VIDEO: 0x100, AUDIO: 0x101 } as const;

/** stream_type, table 2-34. */
export const STREAM_TYPE = { ADTS: 0x0f, H264: 0x1b, H265: 0x24 } as const;

export type ElementaryStream = { readonly streamType: number; readonly pid: number };

/** A packet with continuity counter 0. */
export function writePat(): Buffer {
  const section = Buffer.from([
    0x00, // table_id: program_association_section
    ...[0xb0, 0x0d], // section_syntax_indicator=1 section_length=13
    ...[0x00, 0x01], // transport_stream_id
    0xc1, // version_number=0 current_next_indicator=1
    ...[0x00, 0x00], // section_number, last_section_number
    ...[0x00, PROGRAM, 0xe0 | (PID.PMT >> 8), PID.PMT & 0xff], // program_number, program_map_PID
  ]);
  return tablePacket(PID.PAT, section);
}

/** A packet with continuity counter 0. */
export function writePmt(pcrPid: number, streams: readonly ElementaryStream[]): Buffer {
  const length = 9 + streams.length * 5 + 4;
  const section = Buffer.from([
    0x02, // table_id: TS_program_map_section
    ...[0xb0, length], // section_syntax_indicator=1 section_length
    ...[0x00, PROGRAM],
    0xc1, // version_number=0 current_next_indicator=1
    ...[0x00, 0x00], // section_number, last_section_number
    ...[0xe0 | (pcrPid >> 8), pcrPid & 0xff], // PCR_PID
    ...[0xf0, 0x00], // program_info_length=0
    ...streams.flatMap(({ streamType, pid }) => [streamType, 0xe0 | (pid >> 8), pid & 0xff, 0xf0, 0x00]), // ES_info_length=0
  ]);
  return tablePacket(PID.PMT, section);
}

const PROGRAM = 1;

function tablePacket(pid: number, section: Buffer): Buffer {
  const packet = Buffer.alloc(TS_PACKET_SIZE, 0xff);
  packet[0] = 0x47; // sync_byte
  packet[1] = 0x40 | (pid >> 8); // payload_unit_start_indicator=1
  packet[2] = pid & 0xff;
  packet[3] = 0x10; // payload only
  packet[4] = 0; // pointer_field
  section.copy(packet, 5);
  packet.writeUInt32BE(crc32(section), 5 + section.length);
  return packet;
}

/** Annex A: polynomial 0x04c11db7, from all ones, not reflected, not inverted. */
export function crc32(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  }
  return crc >>> 0;
}
