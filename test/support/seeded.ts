// Chance that can be repeated: the seed is all there is to it.

/** mulberry32: numbers in 0..1, good enough to shuffle and mutate. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

export function seededBytes(seed: number): (size: number) => Buffer {
  const random = seededRandom(seed);
  return (size) => Buffer.from(Array.from({ length: size }, () => Math.floor(random() * 256)));
}
