// The ffmpeg command that makes one live stream of a room. Pure.

/** Picture of the mix. */
const WIDTH = 1280;
const HEIGHT = 720;

/**
 * @param {object} mix
 * @param {readonly string[]} mix.inputs URLs of the participants' streams
 * @param {string} mix.output URL to publish to
 * @param {"grid" | "pip"} mix.layout `pip`: the first one large, the others small above it
 * @returns {string} one line for a POSIX shell; whatever stands in a URL is only text there
 */
export function mixCommand({ inputs, output, layout }) {
  const sources = inputs.flatMap((url) => ["-i", url]);
  const graph = [...(layout === "pip" ? pip(inputs.length) : grid(inputs.length)), sound(inputs.length)].join(";");
  const encoders =
    "-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -r 25 -g 50 -b:v 2000k -c:a aac -b:a 128k -ar 48000".split(
      " ",
    );
  const words = ["ffmpeg", ...sources, "-filter_complex", graph, "-map", "[v]", "-map", "[a]", ...encoders, "-f", "flv", output];
  return words.map(quoted).join(" ");
}

/** Names come from other people: a word with anything but plain characters is quoted as a whole. */
function quoted(word) {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Scales to a cell and fills what is left with black. */
function cell(index, width, height) {
  const size = `${width}:${height}`;
  return `[${index}:v]scale=${size}:force_original_aspect_ratio=decrease,pad=${size}:(ow-iw)/2:(oh-ih)/2,setsar=1[c${index}]`;
}

function grid(count) {
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  const side = Math.max(columns, rows);
  const [width, height] = [even(WIDTH / side), even(HEIGHT / side)];
  const cells = Array.from({ length: count }, (_, index) => cell(index, width, height));
  if (count === 1) return [...cells, "[c0]null[v]"];
  const places = Array.from(
    { length: count },
    (_, index) => `${(index % columns) * width}_${Math.floor(index / columns) * height}`,
  );
  const labels = Array.from({ length: count }, (_, index) => `[c${index}]`).join("");
  return [...cells, `${labels}xstack=inputs=${count}:layout=${places.join("|")}:fill=black[v]`];
}

function pip(count) {
  const [width, height] = [even(WIDTH / 4), even(HEIGHT / 4)];
  const parts = [cell(0, WIDTH, HEIGHT)];
  let below = "c0";
  for (let index = 1; index < count; index++) {
    const [right, up] = [((index - 1) % 3) + 1, Math.floor((index - 1) / 3) + 1];
    parts.push(cell(index, width, height), `[${below}][c${index}]overlay=W-${right}*(w+16):H-${up}*(h+16)[o${index}]`);
    below = `o${index}`;
  }
  return [...parts, `[${below}]null[v]`];
}

function sound(count) {
  const labels = Array.from({ length: count }, (_, index) => `[${index}:a]`).join("");
  return count === 1 ? "[0:a]anull[a]" : `${labels}amix=inputs=${count}:duration=longest[a]`;
}

function even(value) {
  return Math.floor(value / 2) * 2;
}
