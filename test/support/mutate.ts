// Damage to byte streams, for fuzz tests.

/** Changes a few bytes: flips, sets, cuts out, doubles, inserts. Half of the time only behind `from`. */
export function mutate(bytes: Buffer, random: () => number, from: number): Buffer {
  let out = Buffer.from(bytes);
  const count = 1 + Math.floor(random() * 6);
  for (let i = 0; i < count; i++) {
    const start = random() < 0.9 ? from : 0;
    const at = start + Math.floor(random() * (out.length - start));
    const length = Math.min(1 + Math.floor(random() ** 4 * 200), out.length - at);
    switch (Math.floor(random() * 6)) {
      case 0:
        out[at] = (out[at] as number) ^ (1 << Math.floor(random() * 8));
        break;
      case 1:
        out[at] = [0, 0xff, 0x7f, 0x80, 3, 0xc3][Math.floor(random() * 6)] as number;
        break;
      case 2:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + length)]);
        break;
      case 3:
        out = Buffer.concat([out.subarray(0, at + length), out.subarray(at)]);
        break;
      case 4:
        out = Buffer.concat([out.subarray(0, at), Buffer.alloc(length, Math.floor(random() * 256)), out.subarray(at)]);
        break;
      default:
        out = out.subarray(0, Math.max(from + 1, at));
    }
    if (out.length <= from + 1) break;
  }
  return out;
}
