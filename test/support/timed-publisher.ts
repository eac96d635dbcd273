// An RTMP publisher in this process that knows when it wrote each frame: the start of every latency measured.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

import type { Fixture } from "../../scripts/fixtures.js";
import { RtmpClient, type Tag } from "./rtmp-client.js";
import { monotonicNow } from "./rtp-reader.js";

/** A frame that was sent. */
export type SentFrame = {
  readonly kind: "video" | "audio";
  readonly isKey: boolean;
  /** Milliseconds of the publisher's own time. */
  readonly dts: number;
  readonly pts: number;
  /** When its last byte was handed to the socket, on the machine's monotonic clock. */
  readonly sentAt: number;
  /** Last bytes of a picture: they come out again at the end of its last RTP packet. */
  readonly tail: string;
};

export class TimedPublisher {
  readonly sent: SentFrame[] = [];
  readonly #client: RtmpClient;
  readonly #tags: readonly Tag[];
  readonly #loopMs: number;
  #timer: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #next = 0;
  #loop = 0;

  private constructor(client: RtmpClient, tags: readonly Tag[], loopMs: number) {
    this.#client = client;
    this.#tags = tags;
    this.#loopMs = loopMs;
  }

  /** @throws Error when the gateway refuses */
  static async start(port: number, fixture: Fixture, stream = "livestream"): Promise<TimedPublisher> {
    const tags = await readTags(fixture.path);
    const client = await RtmpClient.open(port);
    const code = await client.publish("live", stream);
    if (code !== "NetStream.Publish.Start") throw new Error(`publish: ${code}`);
    const publisher = new TimedPublisher(client, tags, fixture.seconds * 1000);
    publisher.#startedAt = monotonicNow();
    publisher.#run();
    return publisher;
  }

  /** The picture whose bytes end like this, sent last before a time. */
  find(tail: string, before: number): SentFrame | undefined {
    for (let index = this.sent.length - 1; index >= 0; index--) {
      const frame = this.sent[index];
      if (frame !== undefined && frame.sentAt <= before && frame.tail === tail) return frame;
    }
    return undefined;
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#client.close();
  }

  #run(): void {
    for (;;) {
      const tag = this.#tags[this.#next];
      if (tag === undefined) {
        this.#next = 0;
        this.#loop++;
        continue;
      }
      const timestamp = tag.timestamp + this.#loop * this.#loopMs;
      const wait = this.#startedAt + timestamp - monotonicNow();
      if (wait > 0.5) {
        this.#timer = setTimeout(() => this.#run(), wait);
        return;
      }
      this.#next++;
      const isConfig = tag.type !== 18 && tag.body.readUInt8(1) === 0;
      if (this.#loop > 0 && (isConfig || tag.type === 18)) continue;
      this.#client.sendTag({ ...tag, timestamp });
      if (tag.type !== 18 && !isConfig) this.sent.push(describe(tag, timestamp));
    }
  }
}

function describe(tag: Tag, timestamp: number): SentFrame {
  const isVideo = tag.type === 9;
  return {
    kind: isVideo ? "video" : "audio",
    isKey: isVideo && tag.body.readUInt8(0) >> 4 === 1,
    dts: timestamp,
    pts: timestamp + (isVideo ? tag.body.readIntBE(2, 3) : 0),
    sentAt: monotonicNow(),
    tail: tailOf(tag.body),
  };
}

/** What a picture is recognised by. */
export function tailOf(bytes: Buffer): string {
  return bytes.subarray(-12).toString("hex");
}

async function readTags(path: string): Promise<Tag[]> {
  const args = ["-v", "error", "-i", path, "-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize+no_sequence_end", "-"];
  const { stdout } = await promisify(execFile)("ffmpeg", args, { encoding: "buffer", maxBuffer: 1 << 28 });
  const tags: Tag[] = [];
  for (let offset = 13; offset + 11 <= stdout.length; ) {
    const size = stdout.readUIntBE(offset + 1, 3);
    const timestamp = stdout.readUIntBE(offset + 4, 3) + stdout.readUInt8(offset + 7) * 2 ** 24;
    tags.push({ type: stdout.readUInt8(offset), timestamp, body: stdout.subarray(offset + 11, offset + 11 + size) });
    offset += 11 + size + 4;
  }
  return tags;
}
