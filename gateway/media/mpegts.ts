// MPEG-TS (ISO/IEC 13818-1): to come; the type is what others build on.

import type { Frame } from "./frame.js";
import type { Packager, RunOptions, SegmentTracks } from "./packager.js";

export class MpegTsPackager implements Packager {
  readonly format = "ts";
  readonly contentType = "video/mp2t";
  readonly initialization = undefined;

  constructor(readonly tracks: SegmentTracks) {}

  write(_frames: readonly Frame[], _options: RunOptions = {}): Buffer {
    throw new Error("MPEG-TS is not built yet");
  }
}
