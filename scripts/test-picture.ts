// The moving test picture: a machine-readable frame number, a flash box, texture that costs bits. And how to read it back.

/** Squares in the time code's row; the row spans the whole width and is as high as a square is wide. */
export const TIME_CODE_CELLS = 32;
/** The flash box as fractions of the picture. */
export const FLASH_BOX = { left: 3 / 8, top: 3 / 8, right: 5 / 8, bottom: 5 / 8 } as const;

const BLACK = 16; // studio range: what yuv420p means by black and white
const WHITE = 235;
const HEAD = [1, 0, 1, 0]; // four known squares at both ends give the levels and show that it is a time code at all
const TAIL = [0, 1, 0, 1];

/** The 32 squares for a frame number (16 bits): head, number, CRC-8, tail; 1 is white. */
export function timeCodeCells(frameNumber: number): number[] {
  const number = frameNumber & 0xffff;
  return [...HEAD, ...bitsOf(number, 16), ...bitsOf(crc8(number), 8), ...TAIL];
}

/** Reads the frame number from the brightness of the 32 squares, or undefined when that is no time code. */
export function parseTimeCode(levels: ArrayLike<number>): number | undefined {
  const known = [...HEAD, ...TAIL];
  const at = (index: number): number => levels[index] ?? 0;
  let white = 0;
  let black = 0;
  known.forEach((bit, index) => {
    const level = at(index < 4 ? index : TIME_CODE_CELLS - 8 + index);
    if (bit === 1) white += level / 4;
    else black += level / 4;
  });
  if (white - black < 60) return undefined; // no contrast: another picture
  const middle = (white + black) / 2;
  const bits = Array.from({ length: TIME_CODE_CELLS }, (_, index) => (at(index) > middle ? 1 : 0));
  if (known.some((bit, index) => bits[index < 4 ? index : TIME_CODE_CELLS - 8 + index] !== bit)) return undefined;
  const number = numberOf(bits.slice(4, 20));
  return numberOf(bits.slice(20, 28)) === crc8(number) ? number : undefined;
}

/** Reads the frame number from a picture's luma (one byte a pixel), of any size from 160 pixels of width on. */
export function readTimeCode(luma: Uint8Array, width: number): number | undefined {
  const cell = width / TIME_CODE_CELLS;
  const levels = new Float64Array(TIME_CODE_CELLS);
  for (let index = 0; index < TIME_CODE_CELLS; index++) {
    levels[index] = meanLuma(luma, width, (index + 0.3) * cell, 0.3 * cell, (index + 0.7) * cell, 0.7 * cell);
  }
  return parseTimeCode(levels);
}

/** Whether the flash box is lit. */
export function isFlash(luma: Uint8Array, width: number, height: number): boolean {
  const inset = 0.02; // blurred edges stay out
  const level = meanLuma(
    luma,
    width,
    (FLASH_BOX.left + inset) * width,
    (FLASH_BOX.top + inset) * height,
    (FLASH_BOX.right - inset) * width,
    (FLASH_BOX.bottom - inset) * height,
  );
  return level > (BLACK + WHITE) / 2;
}

/** Paints pictures of one size, one after the other; the same numbers always give the same pictures. */
export class TestPicture {
  readonly width: number;
  readonly height: number;
  readonly #fps: number;
  readonly #texture: Uint8Array;
  readonly #out: Buffer;

  /** @param width divisible by 32 */
  constructor(width: number, height: number, fps: number) {
    if (width % TIME_CODE_CELLS !== 0) throw new TypeError("width must be divisible by 32");
    this.width = width;
    this.height = height;
    this.#fps = fps;
    this.#texture = makeTexture(1 << 16, width);
    this.#out = Buffer.alloc((width * height * 3) / 2);
  }

  /** One picture as yuv420p; the buffer is reused by the next call. The flash is lit for two pictures from each full second on. */
  paint(frameNumber: number): Buffer {
    const { width, height } = this;
    const out = this.#out;
    const noiseFrom = Math.round(height * 0.7); // below: new noise each time, so that the encoder needs its whole bitrate
    for (let y = 0; y < height; y++) {
      const scroll = y < noiseFrom ? frameNumber * 3 + (y >> 3) * 977 : hash(frameNumber * 4096 + y);
      const offset = scroll & 0xffff;
      out.set(this.#texture.subarray(offset, offset + width), y * width);
    }
    const bar = Math.round(((frameNumber % (this.#fps * 2)) / (this.#fps * 2)) * (width - 16));
    this.#rectangle(bar, Math.round(height * 0.15), 16, Math.round(height * 0.15), WHITE);
    const lit = frameNumber % this.#fps < 2;
    this.#rectangle(
      Math.round(FLASH_BOX.left * width),
      Math.round(FLASH_BOX.top * height),
      Math.round((FLASH_BOX.right - FLASH_BOX.left) * width),
      Math.round((FLASH_BOX.bottom - FLASH_BOX.top) * height),
      lit ? WHITE : BLACK,
    );
    const cell = width / TIME_CODE_CELLS;
    timeCodeCells(frameNumber).forEach((bit, index) => {
      this.#rectangle(index * cell, 0, cell, cell, bit === 1 ? WHITE : BLACK);
    });
    out.fill(118, width * height, (width * height * 5) / 4); // a calm blue-green tint: U and V constant
    out.fill(112, (width * height * 5) / 4);
    return out;
  }

  #rectangle(left: number, top: number, width: number, height: number, level: number): void {
    for (let y = top; y < top + height; y++) this.#out.fill(level, y * this.width + left, y * this.width + left + width);
  }
}

/** Signed 16-bit mono samples: a 1 kHz beep of 60 ms from each full second on, silence between. */
export function makeBeeps(sampleRate: number, seconds: number): Buffer {
  const out = Buffer.alloc(sampleRate * seconds * 2);
  const beep = Math.round(sampleRate * 0.06);
  for (let second = 0; second < seconds; second++) {
    for (let index = 0; index < beep; index++) {
      const fade = Math.min(1, (beep - index) / (sampleRate * 0.005)); // hard start, soft end
      const sample = Math.round(Math.cos((2 * Math.PI * 1000 * index) / sampleRate) * 16000 * fade);
      out.writeInt16LE(sample, (second * sampleRate + index) * 2);
    }
  }
  return out;
}

function meanLuma(luma: Uint8Array, width: number, left: number, top: number, right: number, bottom: number): number {
  let sum = 0;
  let count = 0;
  for (let y = Math.floor(top); y < Math.max(bottom, Math.floor(top) + 1); y++) {
    for (let x = Math.floor(left); x < Math.max(right, Math.floor(left) + 1); x++) {
      sum += luma[y * width + x] ?? 0;
      count++;
    }
  }
  return sum / count;
}

/** Smoothed noise that repeats after `period`, with `extra` samples more so that a row never wraps. */
function makeTexture(period: number, extra: number): Uint8Array {
  const out = new Uint8Array(period + extra);
  let level = 110;
  for (let index = 0; index < period; index++) {
    level += ((hash(index) & 0xff) - 127.5) / 3 + (110 - level) / 24;
    out[index] = Math.min(200, Math.max(40, level));
  }
  out.copyWithin(period, 0, extra);
  return out;
}

function hash(value: number): number {
  let h = Math.imul(value ^ 0x9e3779b9, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function bitsOf(value: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => (value >> (count - 1 - index)) & 1);
}

function numberOf(bits: readonly number[]): number {
  return bits.reduce((value, bit) => (value << 1) | bit, 0);
}

/** CRC-8 (polynomial 0x07) of a 16-bit number; starts from 0xff so that all-black is not valid. */
function crc8(number: number): number {
  let crc = 0xff;
  for (const byte of [number >> 8, number & 0xff]) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x80 ? 0x07 : 0)) & 0xff;
  }
  return crc;
}
