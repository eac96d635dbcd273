// The initialization segment: ISO/IEC 14496-12 (ftyp, moov), -14 (esds), -15 (avcC, hvcC), AV1-ISOBMFF, Opus in ISOBMFF. Made once per
// configuration, so it is put together of small buffers.

export type Fmp4Track = {
  readonly id: number;
  /** Units per second of the track's times. */
  readonly timescale: number;
  readonly entry: VideoEntry | AudioEntry;
};

export type VideoEntry = {
  readonly kind: "video";
  readonly type: "avc1" | "hvc1" | "av01";
  readonly configuration: Buffer;
  readonly width: number;
  readonly height: number;
};

export type AudioEntry = {
  readonly kind: "audio";
  readonly type: "mp4a" | "Opus";
  /** AudioSpecificConfig or OpusHead. */
  readonly configuration: Buffer;
  readonly channels: number;
  readonly sampleRate: number;
};

/** sample_flags, section 8.8.3.1. */
export const SAMPLE_FLAGS = {
  SYNC: 0x02000000, // sample_depends_on=2: on no other
  NON_SYNC: 0x01010000, // sample_depends_on=1 sample_is_non_sync_sample=1
} as const;

export function writeInitialization(tracks: readonly Fmp4Track[]): Buffer {
  const ftyp = box(
    "ftyp",
    text("iso6"),
    u32(0),
    text("iso6"),
    text("isom"),
    text("mp41"),
    ...(tracks.length === 1 ? [text("cmfc")] : []),
  );
  const moov = box(
    "moov",
    movieHeader(tracks),
    ...tracks.map(trackBox),
    box(
      "mvex",
      ...tracks.map(({ id, entry }) =>
        fullBox(
          "trex",
          0,
          0,
          u32(id),
          u32(1),
          u32(0),
          u32(0),
          u32(entry.kind === "audio" ? SAMPLE_FLAGS.SYNC : SAMPLE_FLAGS.NON_SYNC),
        ),
      ),
    ),
  );
  return Buffer.concat([ftyp, moov]);
}

function movieHeader(tracks: readonly Fmp4Track[]): Buffer {
  return fullBox(
    "mvhd",
    0,
    0,
    u32(0), // creation_time
    u32(0), // modification_time
    u32(1000), // timescale
    u32(0), // duration: in fragments
    u32(0x00010000), // rate
    u16(0x0100), // volume
    Buffer.alloc(10), // reserved
    MATRIX,
    Buffer.alloc(24), // pre_defined
    u32(Math.max(...tracks.map((track) => track.id)) + 1), // next_track_ID
  );
}

function trackBox({ id, timescale, entry }: Fmp4Track): Buffer {
  const isVideo = entry.kind === "video";
  const tkhd = fullBox(
    "tkhd",
    0,
    3, // track_enabled, track_in_movie
    u32(0),
    u32(0),
    u32(id),
    u32(0), // reserved
    u32(0), // duration
    Buffer.alloc(8),
    u16(0), // layer
    u16(0), // alternate_group
    u16(isVideo ? 0 : 0x0100), // volume
    u16(0),
    MATRIX,
    u32(isVideo ? entry.width << 16 : 0), // 16.16; widths end at 16,384
    u32(isVideo ? entry.height << 16 : 0),
  );
  const mdhd = fullBox("mdhd", 0, 0, u32(0), u32(0), u32(timescale), u32(0), u16(0x55c4), u16(0)); // language und
  const name = isVideo ? "video" : "audio";
  const hdlr = fullBox("hdlr", 0, 0, u32(0), text(isVideo ? "vide" : "soun"), Buffer.alloc(12), text(`${name}\0`));
  const header = isVideo ? fullBox("vmhd", 0, 1, Buffer.alloc(8)) : fullBox("smhd", 0, 0, Buffer.alloc(4));
  const dinf = box("dinf", fullBox("dref", 0, 0, u32(1), fullBox("url ", 0, 1))); // flags 1: in this file
  const stbl = box(
    "stbl",
    fullBox("stsd", 0, 0, u32(1), isVideo ? videoEntry(entry) : audioEntry(entry)),
    fullBox("stts", 0, 0, u32(0)),
    fullBox("stsc", 0, 0, u32(0)),
    fullBox("stsz", 0, 0, u32(0), u32(0)),
    fullBox("stco", 0, 0, u32(0)),
  );
  return box("trak", tkhd, box("mdia", mdhd, hdlr, box("minf", header, dinf, stbl)));
}

/** VisualSampleEntry, section 12.1.3. */
function videoEntry(entry: VideoEntry): Buffer {
  const configurations = { avc1: "avcC", hvc1: "hvcC", av01: "av1C" } as const;
  return box(
    entry.type,
    Buffer.alloc(6), // reserved
    u16(1), // data_reference_index
    Buffer.alloc(16), // pre_defined, reserved
    u16(entry.width),
    u16(entry.height),
    u32(0x00480000), // horizresolution 72 dpi
    u32(0x00480000),
    u32(0), // reserved
    u16(1), // frame_count
    Buffer.alloc(32), // compressorname
    u16(0x0018), // depth
    u16(0xffff), // pre_defined = -1
    box(configurations[entry.type], entry.configuration),
  );
}

/** AudioSampleEntry, section 12.2.3. */
function audioEntry(entry: AudioEntry): Buffer {
  return box(
    entry.type,
    Buffer.alloc(6),
    u16(1), // data_reference_index
    Buffer.alloc(8),
    u16(entry.channels),
    u16(16), // samplesize
    u32(0),
    u32(entry.sampleRate > 0xffff ? 0 : entry.sampleRate * 0x10000), // 16.16; what does not fit stands in the configuration alone
    entry.type === "mp4a" ? esds(entry.configuration) : opusConfig(entry),
  );
}

/** ES_Descriptor, ISO/IEC 14496-1 section 7.2.6.5, of an AudioSpecificConfig. */
function esds(configuration: Buffer): Buffer {
  const specific = descriptor(0x05, configuration); // DecSpecificInfoTag
  // objectTypeIndication=0x40 (MPEG-4 audio) streamType=5 reserved=1, bufferSizeDB, maxBitrate, avgBitrate
  const decoder = descriptor(0x04, Buffer.from([0x40, 0x15]), Buffer.alloc(11), specific);
  const sync = descriptor(0x06, Buffer.from([0x02])); // SLConfigDescrTag: MP4
  return fullBox("esds", 0, 0, descriptor(0x03, u16(0), Buffer.from([0]), decoder, sync)); // ES_ID=0, flags=0
}

function descriptor(tag: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  // the size in four bytes of seven bits: some readers expect this form
  const size = [21, 14, 7, 0].map((shift) => ((body.length >> shift) & 0x7f) | (shift === 0 ? 0 : 0x80));
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

/** OpusSpecificBox, "Encapsulation of Opus in ISO Base Media File Format" section 4.3.2: OpusHead with big-endian numbers. */
function opusConfig({ configuration, channels }: AudioEntry): Buffer {
  const hasHead = configuration.length >= 19;
  const family = hasHead ? (configuration[18] as number) : 0;
  return box(
    "dOps",
    Buffer.from([0, channels]), // Version, OutputChannelCount
    u16(hasHead ? configuration.readUInt16LE(10) : 0), // PreSkip
    u32(hasHead ? configuration.readUInt32LE(12) : 48_000), // InputSampleRate
    u16(hasHead ? configuration.readUInt16LE(16) : 0), // OutputGain
    Buffer.from([family]), // ChannelMappingFamily
    family === 0 ? Buffer.alloc(0) : configuration.subarray(19, 21 + channels), // StreamCount CoupledCount ChannelMapping
  );
}

const MATRIX = Buffer.concat([0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000].map(u32)); // unity

export function box(type: string, ...parts: readonly Buffer[]): Buffer {
  const size = parts.reduce((sum, part) => sum + part.length, 8);
  return Buffer.concat([u32(size), text(type), ...parts]);
}

function fullBox(type: string, version: number, flags: number, ...parts: readonly Buffer[]): Buffer {
  return box(type, u32(version * 0x1000000 + flags), ...parts);
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value >>> 0);
  return out;
}

function text(value: string): Buffer {
  return Buffer.from(value, "latin1");
}
