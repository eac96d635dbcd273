// HTTP-FLV players that cost next to nothing: they ask for the stream and throw away what comes. Many of them in a child process, for
// load.
//
// As a program: node flv-sink.js PORT COUNT [PATH]; prints "playing" when all have got media, and on each line of standard input the
// bytes received so far and the connections that are open.

import { connect } from "node:net";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

function runSinks(port: number, count: number, path: string): void {
  const hello = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;
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
  createInterface({ input: process.stdin })
    .on("line", () => console.log(`${received} ${open}`))
    .on("close", () => process.exit());
}

const ENOUGH = 5_000; // bytes: more than every answer without media

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  runSinks(Number(process.argv[2]), Number(process.argv[3]), process.argv[4] ?? "/live/livestream.flv");
}
