// Saves what a playlist names at one moment, the way a recorder does: initialization and all whole segments, one behind the other.

export type HlsRecording = {
  /** One playable file. */
  readonly bytes: Buffer;
  /** The initialization, if there is one, then the segments. */
  readonly pieces: readonly Buffer[];
  /** Seconds, by EXTINF. */
  readonly duration: number;
};

/** @throws Error when something that is named cannot be fetched */
export async function recordHls(url: string): Promise<HlsRecording> {
  let base = url;
  let playlist = (await fetchBytes(url)).toString();
  if (playlist.includes("#EXT-X-STREAM-INF")) {
    const variant = playlist.split("\n").find((line) => line !== "" && !line.startsWith("#"));
    base = new URL(variant ?? "", url).href;
    playlist = (await fetchBytes(base)).toString();
  }
  const pieces: Buffer[] = [];
  let duration = 0;
  for (const line of playlist.split("\n")) {
    const map = /^#EXT-X-MAP:.*URI="([^"]+)"/.exec(line)?.[1];
    const isSegment = line !== "" && !line.startsWith("#");
    if (map !== undefined || isSegment) pieces.push(await fetchBytes(new URL(map ?? line, base).href));
    duration += Number(/^#EXTINF:([\d.]+)/.exec(line)?.[1] ?? 0);
  }
  return { bytes: Buffer.concat(pieces), pieces, duration };
}

async function fetchBytes(url: string): Promise<Buffer> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${answer.status} for ${url}`);
  return Buffer.from(await answer.arrayBuffer());
}
