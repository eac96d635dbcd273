// Players that cost next to nothing: they ask for the stream and throw away what comes. Many of them in a child process, for load.
//
// As a program: node rtmp-sink.js PORT COUNT [app/stream]; prints "playing" when all have got media, and each second the bytes received
// so far and the connections that are open.

import { connect } from "node:net";
import { pathToFileURL } from "node:url";

import { ChunkWriter } from "../../gateway/rtmp/chunk.js";
import { HANDSHAKE_SIZE, startHandshake } from "../../gateway/rtmp/handshake.js";
import { commandMessage } from "../../gateway/rtmp/message.js";
import { publishCommands } from "./rtmp-client.js";

/** All bytes of a player up to `play`. Nothing in it depends on what the server says. */
export function playerBytes(app = "live", stream = "livestream"): Buffer {
  const writer = new ChunkWriter();
  const [connectCommand] = publishCommands(app, stream);
  const commands = [
    ...(connectCommand === undefined ? [] : [connectCommand]),
    commandMessage(0, { name: "createStream", transactionId: 2, values: [null] }),
    commandMessage(1, { name: "play", transactionId: 0, values: [null, stream] }),
  ];
  const zeros = (size: number): Buffer => Buffer.alloc(size);
  return Buffer.concat([startHandshake(zeros), zeros(HANDSHAKE_SIZE), ...commands.map((command) => writer.write(command))]);
}

function runSinks(port: number, count: number, path: string): void {
  const [app = "live", stream = "livestream"] = path.split("/");
  const hello = playerBytes(app, stream);
  const scratch = Buffer.alloc(65_536); // one for all: nobody looks into it
  let received = 0;
  let open = 0;
  let playing = 0;
  let started = 0;
  const start = (): void => {
    started += 1;
    let own = 0;
    const onread = {
      buffer: scratch,
      callback: (size: number): boolean => {
        received += size;
        const before = own;
        own += size;
        if (before < ENOUGH && own >= ENOUGH) {
          playing += 1;
          if (playing === count) console.log("playing");
        }
        return true;
      },
    };
    const socket = connect({ port, host: "127.0.0.1", onread });
    socket.on("connect", () => {
      open += 1;
      socket.write(hello);
      if (started < count) start(); // one after another
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      open -= 1;
    });
  };
  start();
  setInterval(() => console.log(`received ${received} over ${open}`), 1000);
}

const ENOUGH = 5_000; // bytes: more than every answer without media

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  runSinks(Number(process.argv[2]), Number(process.argv[3]), process.argv[4] ?? "live/livestream");
}
