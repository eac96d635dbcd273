// An HTTP-FLV viewer that asks until the stream is there, and remembers when each tag came.

import { connect, type Socket } from "node:net";

import { FlvReader, type FlvTag } from "./flv-reader.js";

export class FlvClient {
  readonly flv = new FlvReader();
  /** Milliseconds since 1970 at which each tag of `flv.tags` had come whole. */
  readonly arrivals: number[] = [];
  /** What was wrong with the bytes. */
  failure: unknown;
  /** Times that it was let in. */
  sessions = 0;
  readonly #port: number;
  readonly #path: string;
  #socket: Socket | undefined;
  #state: "asking" | "stopped" = "asking";

  constructor(port: number, path = "/live/livestream.flv") {
    this.#port = port;
    this.#path = path;
    this.#ask();
  }

  /** The first tag of a type (8 audio, 9 video) that holds media, and when it came. */
  first(type: 8 | 9): { readonly tag: FlvTag; readonly at: number } | undefined {
    const index = this.flv.tags.findIndex((tag) => tag.type === type && tag.body[1] === 1);
    const tag = this.flv.tags[index];
    return tag === undefined ? undefined : { tag, at: this.arrivals[index] ?? Number.NaN };
  }

  stop(): void {
    this.#state = "stopped";
    this.#socket?.destroy();
  }

  #ask(): void {
    if (this.#state === "stopped") return;
    const socket = connect(this.#port, "127.0.0.1", () => socket.write(`GET ${this.#path} HTTP/1.1\r\nHost: localhost\r\n\r\n`));
    this.#socket = socket;
    let head = Buffer.alloc(0);
    let isBody = false;
    socket.on("error", () => {});
    socket.on("close", () => {
      if (this.sessions === 0) setTimeout(() => this.#ask(), 10);
    });
    socket.on("data", (bytes: Buffer) => {
      let rest = bytes;
      if (!isBody) {
        head = Buffer.concat([head, bytes]);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        if (!head.toString("latin1", 0, 13).endsWith(" 200 ")) {
          socket.destroy();
          return;
        }
        isBody = true;
        this.sessions++;
        rest = head.subarray(end + 4);
      }
      try {
        this.flv.push(rest);
      } catch (error) {
        this.failure ??= error;
      }
      const now = Date.now();
      while (this.arrivals.length < this.flv.tags.length) this.arrivals.push(now);
    });
  }
}
