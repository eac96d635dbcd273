// What the players of FLV and HLS share: why a stream is refused, names of codecs, and playing where sound is not allowed.

import { parseObject } from "./signaling.js";
import { within } from "./timing.js";

/** A library tells a refusal's number at most, and of a WebSocket's nothing: the gateway's own words are had by asking once more. */
export async function whyRefused(url, signal) {
  try {
    return await within(2_000, signal, async (either) => {
      const response = await fetch(url.replace(/^ws/, "http"), { cache: "no-store", signal: either });
      const { status, ok } = response;
      if (ok) {
        response.body?.cancel(); // it has come to life meanwhile
        return { state: "lost", reason: "The connection ended.", retryAfter: 0 };
      }
      const { type, title, detail } = parseObject(await response.text());
      const words = { status, title: title ?? "The gateway refuses", reason: detail ?? response.statusText };
      // Other gateways answer 404 without a word.
      if (type === "urn:sluice:problem:not-live" || (status === 404 && type === undefined))
        return { ...words, state: "waiting", retryAfter: 2_000 };
      return { ...words, step: "asking", state: status === 429 || status >= 500 ? "lost" : "failed" };
    });
  } catch {
    return undefined;
  }
}

/** `avc1.640029` as people say it. */
export function codecName(codec) {
  const known = { avc1: "H.264", hvc1: "H.265", hev1: "H.265", av01: "AV1", mp4a: "AAC", mp3: "MP3", opus: "Opus", Opus: "Opus" };
  return codec && `${known[codec.split(".")[0]] ?? codec} (${codec})`;
}

/** Browsers let a page play sound only after a click; muted they always let it. */
export function playAnyhow(video) {
  video.play()?.catch((error) => {
    if (error.name !== "NotAllowedError" || video.muted) return;
    video.muted = true;
    video.play()?.catch(() => {});
  });
}
