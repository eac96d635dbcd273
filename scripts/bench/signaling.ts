// Signaling: 1,000 WebSockets in rooms of 8; how long a join takes, one after the other and all at once, and what the gateway pays.

import { once } from "node:events";

import { WebSocket } from "ws";

import { cpuTimeOf, pause, percentile } from "../../test/support/child.js";
import { GatewayProcess } from "../../test/support/gateway-process.js";

const SOCKETS = 1_000;
const PER_ROOM = 8;
const TARGET = 50; // ms at the 99th percentile, paced
const PACE = 4; // ms between two joins

export async function run(): Promise<void> {
  const gateway = await GatewayProcess.start({
    top: "max_connections 3000; signaling { enabled on; max_rooms 2000; }",
  });
  const sockets: WebSocket[] = [];
  try {
    for (let i = 0; i < SOCKETS; i++) {
      sockets.push(new WebSocket(`ws://127.0.0.1:${gateway.ports.http}/sig/v1/rtc`));
      if (i % 50 === 49) await once(sockets[i] as WebSocket, "open");
    }
    await Promise.all(
      sockets.map(async (socket) => (socket.readyState === WebSocket.OPEN ? undefined : await once(socket, "open"))),
    );
    const paced = await joinAll(gateway, sockets, "a", PACE);
    console.log(`  ${SOCKETS} sockets join rooms of ${PER_ROOM}, one every ${PACE} ms: ${paced} (target p99 ${TARGET} ms)`);
    for (const socket of sockets) socket.send('{"tid":"leave","msg":{"action":"leave"}}');
    await pause(2_000);
    console.log(`  all at once: ${await joinAll(gateway, sockets, "b", 0)}`);
    const before = cpuTimeOf(gateway.pid);
    await pause(13_000);
    console.log(`  ${SOCKETS} idle sockets: ${((cpuTimeOf(gateway.pid) - before) / 130).toFixed(2)} % of a core`);
  } finally {
    for (const socket of sockets) socket.terminate();
    await gateway.stop();
  }
}

async function joinAll(gateway: GatewayProcess, sockets: readonly WebSocket[], prefix: string, pace: number): Promise<string> {
  const cpu = cpuTimeOf(gateway.pid);
  const times: number[] = [];
  let pushes = 0;
  const joins: Promise<void>[] = [];
  for (const [index, socket] of sockets.entries()) {
    const sent = performance.now();
    joins.push(
      new Promise<void>((resolve, reject) => {
        socket.removeAllListeners("message").on("message", (data: Buffer) => {
          const text = data.toString();
          if (text.includes('"notify"')) pushes++;
          else if (text.includes('"error"')) reject(new Error(text));
          else {
            times.push(performance.now() - sent);
            resolve();
          }
        });
      }),
    );
    const room = `${prefix}${Math.floor(index / PER_ROOM)}`;
    socket.send(JSON.stringify({ tid: `t${index}`, msg: { action: "join", room, display: `p${index % PER_ROOM}` } }));
    if (pace > 0) await pause(pace);
  }
  await Promise.all(joins);
  await pause(300);
  const expected = (sockets.length / PER_ROOM) * ((PER_ROOM * (PER_ROOM - 1)) / 2);
  if (pushes !== expected) throw new Error(`${pushes} notifications came, ${expected} were due`);
  const spent = (cpuTimeOf(gateway.pid) - cpu) / sockets.length;
  const [p50, p99, most] = [0.5, 0.99, 1].map((share) => percentile(times, share).toFixed(1));
  return `p50 ${p50}, p99 ${p99}, most ${most} ms; ${(spent * 1000).toFixed(0)} µs of CPU per join with its notifications`;
}

if (process.argv[1]?.endsWith("bench/signaling.js")) await run();
