// Where received payloads are copied to: chunks of memory that many share, each freed when nobody refers to any of its payloads any more.

export class PayloadStore {
  readonly #chunkSize: number;
  #chunk: Buffer = EMPTY;
  #used = 0;

  /** @param chunkSize bytes: one payload that is still needed keeps as much */
  constructor(chunkSize: number) {
    this.#chunkSize = chunkSize;
  }

  /** @returns a copy of `bytes` from `start` up to `end` that nobody else will write to */
  copy(bytes: Buffer, start: number, end: number): Buffer {
    const length = end - start;
    if (length <= 0) return EMPTY;
    if (this.#used + length > this.#chunk.length) {
      this.#chunk = Buffer.allocUnsafeSlow(Math.max(this.#chunkSize, length));
      this.#used = 0;
    }
    const at = this.#used;
    this.#used += length;
    bytes.copy(this.#chunk, at, start, end);
    return this.#chunk.subarray(at, at + length);
  }
}

const EMPTY = Buffer.alloc(0);
