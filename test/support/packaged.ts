// Cuts a clip's frames into segments and parts the way a segmenter does, for tests of the packagers alone.

import type { Frame } from "../../gateway/media/frame.js";
import type { SegmentAudio, SegmentTracks, SegmentVideo } from "../../gateway/media/packager.js";

/** The first configuration of each track. */
export function tracksOf(frames: readonly Frame[]): SegmentTracks {
  const video = frames.find((frame) => frame.kind === "video" && frame.isConfig);
  const audio = frames.find((frame) => frame.kind === "audio" && frame.isConfig);
  return {
    video: video === undefined ? undefined : { codec: video.codec as SegmentVideo["codec"], configuration: video.data },
    audio: audio === undefined ? undefined : { codec: audio.codec as SegmentAudio["codec"], configuration: audio.data },
  };
}

export type ClipRun = {
  readonly frames: readonly Frame[];
  readonly startsSegment: boolean;
  readonly videoEnd: number | undefined;
};

/** Runs of at least `length` µs (of the first track that is there), a new segment at each key frame. */
export function cutIntoRuns(all: readonly Frame[], length: number): ClipRun[] {
  const frames = all.filter((frame) => !frame.isConfig && frame.kind !== "data");
  const lead = frames.some((frame) => frame.kind === "video") ? "video" : "audio";
  const runs: { frames: Frame[]; startsSegment: boolean; videoEnd: number | undefined }[] = [];
  let start = Number.NEGATIVE_INFINITY;
  for (const frame of frames) {
    const startsSegment = frame.kind === lead && (runs.length === 0 || (lead === "video" && frame.isKey));
    if (frame.kind === lead && (startsSegment || frame.dts - start >= length)) {
      const before = runs.at(-1);
      if (before !== undefined && lead === "video") before.videoEnd = frame.dts;
      runs.push({ frames: [], startsSegment, videoEnd: undefined });
      start = frame.dts;
    }
    if (runs.length === 0) runs.push({ frames: [], startsSegment: true, videoEnd: undefined }); // sound before the first picture
    runs.at(-1)?.frames.push(frame);
  }
  return runs;
}
