// Reads FLV bytes as they come: the header, then tags.

export type FlvTag = { readonly type: number; readonly timestamp: number; readonly body: Buffer };

export class FlvReader {
  /** Flags of the file header, -1 before it has come. */
  flags = -1;
  readonly tags: FlvTag[] = [];
  #rest = Buffer.alloc(0);

  /** @throws Error when the bytes are no FLV, a tag's size does not stand behind it too, or time steps back */
  push(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    if (this.flags === -1) {
      if (this.#rest.length < 13) return;
      if (this.#rest.toString("latin1", 0, 4) !== "FLV\x01" || this.#rest.readUInt32BE(9) !== 0) throw new Error("no FLV header");
      this.flags = this.#rest.readUInt8(4);
      this.#rest = this.#rest.subarray(13);
    }
    for (;;) {
      if (this.#rest.length < 11) return;
      const size = this.#rest.readUIntBE(1, 3);
      if (this.#rest.length < 11 + size + 4) return;
      const timestamp = this.#rest.readUIntBE(4, 3) + this.#rest.readUInt8(7) * 2 ** 24;
      const tag = { type: this.#rest.readUInt8(0), timestamp, body: this.#rest.subarray(11, 11 + size) };
      if (this.#rest.readUInt32BE(11 + size) !== 11 + size) throw new Error("PreviousTagSize is wrong");
      this.#rest = this.#rest.subarray(15 + size);
      const last = this.media.at(-1);
      if (tag.type !== 18 && last !== undefined && timestamp < last.timestamp) {
        throw new Error(`time steps back from ${last.timestamp} to ${timestamp}`);
      }
      this.tags.push(tag);
    }
  }

  /** Audio and video, configurations too. */
  get media(): FlvTag[] {
    return this.tags.filter(({ type }) => type !== 18);
  }
}

/** `video-config`, `key`, `video`, `audio-config`, `audio` or `data`: H.264 and AAC only. */
export function kindOf({ type, body }: FlvTag): string {
  if (type === 18) return "data";
  const isConfig = body.readUInt8(1) === 0;
  if (type === 8) return isConfig ? "audio-config" : "audio";
  return isConfig ? "video-config" : body.readUInt8(0) >> 4 === 1 ? "key" : "video";
}
