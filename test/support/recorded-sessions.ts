// The first bytes of real publishers, recorded behind a proxy while they published a picture of 160x90 (ffmpeg) and 640x360 (OBS).

import { readFileSync } from "node:fs";

const load = (name: string): Buffer => readFileSync(new URL(`../../../test/rtmp/sessions/${name}.bin`, import.meta.url));

export const RECORDED_SESSIONS = {
  /** OBS Studio 29, default x264 and AAC settings: librtmp, simple handshake. */
  obs: load("obs-29"),
  /** ffmpeg 5.1 with x264 and AAC 44.1 kHz: digest handshake. */
  ffmpeg: load("ffmpeg-5.1"),
} as const;
