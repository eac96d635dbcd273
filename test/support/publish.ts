// Publishes a clip over RTMP by a real ffmpeg, the way a person would.

import { once } from "node:events";
import { connect } from "node:net";

import { Child } from "./child.js";

export type PublishOptions = {
  /** Arguments before `-i`, instead of `-re -stream_loop -1`. */
  readonly input?: readonly string[];
  /** Arguments between input and output, instead of `-c copy`. */
  readonly codec?: readonly string[];
};

/** `ffmpeg -re -stream_loop -1 -i path -c copy -f flv url`; stop it by `child.stop()`. */
export function publish(path: string, url: string, options: PublishOptions = {}): Child {
  const input = options.input ?? ["-re", "-stream_loop", "-1"];
  const codec = options.codec ?? ["-c", "copy"];
  return new Child("ffmpeg", [
    "-hide_banner",
    "-nostdin",
    "-loglevel",
    "warning",
    ...input,
    "-i",
    path,
    ...codec,
    "-f",
    "flv",
    url,
  ]);
}

/** Sends bytes to a TCP port; gives what came back until the other side closed or `ms` have passed, and whether it closed. */
export async function sendRaw(port: number, bytes: Buffer, ms: number): Promise<{ answer: Buffer; closed: boolean }> {
  const socket = connect(port, "127.0.0.1");
  const answer: Buffer[] = [];
  let closed = false;
  socket.on("data", (chunk: Buffer) => answer.push(chunk));
  socket.on("error", () => {});
  socket.on("close", () => {
    closed = true;
  });
  await once(socket, "connect");
  socket.write(bytes);
  await Promise.race([once(socket, "close").catch(() => {}), new Promise((resolve) => setTimeout(resolve, ms))]);
  const result = { answer: Buffer.concat(answer), closed };
  socket.destroy();
  return result;
}
