// A finished segment as the on_hls hook tells of it, in SRS's words.

import { fileName } from "./names.js";
import type { PackagedStream } from "./packaged-stream.js";
import type { Segment } from "./segment.js";

/**
 * @param file where it was written; undefined: nowhere
 * @param cwd working directory of the gateway
 */
export function describeSegment(
  { stream, token, settings }: PackagedStream,
  { duration, sequenceNumber }: Segment,
  file: string | undefined,
  cwd: string,
): Readonly<Record<string, unknown>> {
  const { app, stream: name } = stream.name;
  const own = fileName(name, token, "segment", sequenceNumber, settings.format);
  return {
    duration: duration / 1_000_000,
    cwd,
    file: file ?? "",
    url: `${app}/${own}`,
    m3u8: file === undefined ? "" : `${file.slice(0, -own.length)}${name}.m3u8`,
    m3u8_url: `${app}/${name}.m3u8`,
    seq_no: sequenceNumber,
  };
}
