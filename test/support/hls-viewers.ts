// Low-latency HLS viewers that cost next to nothing: a connection each, a blocked reload, then the part it told of, and so on. Many of them
// in a child process, for load.
//
// As a program: node hls-viewers.js PORT COUNT PARTS_PER_SEGMENT; prints "playing" when all have a playlist; on each line of standard input
// it prints, as JSON, what came since the last one.

import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { monotonicNow } from "./rtp-reader.js";

export type ViewerTally = {
  readonly playlists: number;
  readonly parts: number;
  readonly bytes: number;
  /** Answers that were not 200, and connections that broke. */
  readonly failures: number;
  /** Per part, when each viewer asked for the playlist that tells of it and when it had read it, in turns: milliseconds of the monotonic clock. */
  readonly reloads: Readonly<Record<string, readonly number[]>>;
};

type Place = { sequence: number; part: number; number: number };

class HlsViewers {
  readonly #port: number;
  readonly #perSegment: number;
  #tally = { playlists: 0, parts: 0, bytes: 0, failures: 0, reloads: {} as Record<string, number[]> };

  constructor(port: number, perSegment: number) {
    this.#port = port;
    this.#perSegment = perSegment;
  }

  take(): ViewerTally {
    const tally = this.#tally;
    this.#tally = { playlists: 0, parts: 0, bytes: 0, failures: 0, reloads: {} };
    return tally;
  }

  async start(): Promise<void> {
    const url = `http://127.0.0.1:${this.#port}/live/livestream.m3u8`;
    const master = await (await fetch(url)).text();
    const line = master.split("\n").find((text) => text !== "" && !text.startsWith("#")) ?? "";
    const text = await (await fetch(new URL(line, url))).text();
    const sequence = Number(/MEDIA-SEQUENCE:(\d+)/.exec(text)?.[1]) + (text.match(/^#EXTINF/gm)?.length ?? 0);
    const [, base = "", hint] = /PRELOAD-HINT:TYPE=PART,URI="([^"]+-p)(\d+)\.m4s"/.exec(text) ?? [];
    const parts = text.slice(text.lastIndexOf("#EXTINF")).match(/^#EXT-X-PART:/gm)?.length ?? 0;
    const place = { sequence, part: parts, number: Number(hint) };
    if (place.part >= this.#perSegment) Object.assign(place, { sequence: sequence + 1, part: 0 });
    const socket = connect({ port: this.#port, host: "127.0.0.1" });
    socket.setNoDelay(true);
    this.#follow(socket, `/live/${line}`, `/live/${base}`, place);
  }

  #follow(socket: Socket, media: string, base: string, place: Place): void {
    let left = -1; // bytes of the answer that have not come; -1: its head has not
    let head = "";
    let state: "playlist" | "part" = "playlist";
    let askedAt = 0;
    const ask = (path: string): void => {
      askedAt = monotonicNow();
      socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\nUser-Agent: viewer\r\n\r\n`);
    };
    const reload = (): void => ask(`${media}&_HLS_msn=${place.sequence}&_HLS_part=${place.part}`);
    const done = (): void => {
      left = -1;
      if (state === "playlist") {
        this.#tally.playlists++;
        const key = `${place.sequence}.${place.part}`;
        let times = this.#tally.reloads[key];
        if (times === undefined) {
          times = [];
          this.#tally.reloads[key] = times;
        }
        times.push(askedAt, monotonicNow());
        state = "part";
        ask(`${base}${place.number}.m4s`);
        return;
      }
      this.#tally.parts++;
      state = "playlist";
      place.number++;
      place.part++;
      if (place.part === this.#perSegment) {
        place.part = 0;
        place.sequence++;
      }
      reload();
    };
    socket.on("connect", reload);
    socket.on("data", (chunk: Buffer) => {
      this.#tally.bytes += chunk.length;
      if (left >= 0) {
        left -= chunk.length;
        if (left <= 0) done();
        return;
      }
      head += chunk.toString("latin1", 0, Math.min(chunk.length, 2048));
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) return;
      if (!head.startsWith("HTTP/1.1 200")) this.#tally.failures++;
      left = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0) - (chunk.length - end - 4);
      head = "";
      if (left <= 0) done();
    });
    socket.on("error", () => {});
    socket.on("close", () => this.#tally.failures++);
  }
}

async function main(port: number, count: number, perSegment: number): Promise<void> {
  const viewers = new HlsViewers(port, perSegment);
  for (let started = 0; started < count; started += 20) {
    await Promise.all(Array.from({ length: Math.min(20, count - started) }, () => viewers.start()));
  }
  console.log("playing");
  createInterface({ input: process.stdin })
    .on("line", () => console.log(JSON.stringify(viewers.take())))
    .on("close", () => process.exit());
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(Number(process.argv[2]), Number(process.argv[3]), Number(process.argv[4]));
}
