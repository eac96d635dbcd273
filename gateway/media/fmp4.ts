// Fragmented MP4 (ISO/IEC 14496-12, CMAF): to come; the type is what others build on.

import type { Frame } from "./frame.js";
import type { Packager, RunOptions, SegmentTracks } from "./packager.js";

export class Fmp4Packager implements Packager {
  readonly format = "fmp4";
  readonly contentType = "video/mp4";
  readonly initialization = Buffer.alloc(0);

  constructor(readonly tracks: SegmentTracks) {}

  write(_frames: readonly Frame[], _options: RunOptions = {}): Buffer {
    throw new Error("fMP4 is not built yet");
  }
}
