// A bad network between real programs: a UDP proxy with loss, delay, jitter, reordering and duplication from a seed. Announce it to
// a client by `?eip=127.0.0.1:PORT`; each client address gets a socket of its own towards the gateway.

import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";

import { type LinkFaults, RateLimiter } from "./lossy-link.js";
import { seededRandom } from "./seeded.js";

/** Each client has a link of its own. */
type Client = { readonly remote: RemoteInfo; readonly socket: Socket; readonly up: RateLimiter; readonly down: RateLimiter };

export class UdpProxy {
  /** To the gateway, and to the clients; may be changed at any time. */
  up: LinkFaults;
  down: LinkFaults;
  readonly counts = { up: 0, down: 0, lostUp: 0, lostDown: 0 };
  readonly #front: Socket;
  readonly #target: { readonly address: string; readonly port: number };
  readonly #random: () => number;
  readonly #clients = new Map<string, Client>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #isClosed = false;

  constructor(
    front: Socket,
    target: { address: string; port: number },
    seed: number,
    faults: { up?: LinkFaults; down?: LinkFaults },
  ) {
    this.#front = front;
    this.#target = target;
    this.#random = seededRandom(seed);
    this.up = { delay: 0, ...faults.up };
    this.down = { delay: 0, ...faults.down };
    front.on("message", (datagram, remote) => this.#fromClient(datagram, remote));
  }

  /** Clients see this port instead of the gateway's. */
  get port(): number {
    return this.#front.address().port;
  }

  /** Every client's datagrams come to the gateway from a new port from now on, as after a router's restart. */
  rebind(): void {
    for (const { socket } of this.#clients.values()) socket.close();
    this.#clients.clear();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const { socket } of this.#clients.values()) socket.close();
    this.#front.close();
    await once(this.#front, "close");
  }

  #fromClient(datagram: Buffer, remote: RemoteInfo): void {
    const key = `${remote.address}:${remote.port}`;
    let client = this.#clients.get(key);
    if (client === undefined) {
      const socket = createSocket(remote.family === "IPv6" ? "udp6" : "udp4");
      client = { remote, socket, up: new RateLimiter(), down: new RateLimiter() };
      const { port, address } = remote;
      const { down } = client;
      socket.on("message", (answer) => {
        this.counts.down++;
        if (!this.#forward(this.down, down, answer.length, () => this.#front.send(answer, port, address))) this.counts.lostDown++;
      });
      this.#clients.set(key, client);
    }
    const { socket, up } = client;
    this.counts.up++;
    const send = (): void => {
      if (this.#clients.get(key)?.socket === socket) socket.send(datagram, this.#target.port, this.#target.address);
    };
    if (!this.#forward(this.up, up, datagram.length, send)) this.counts.lostUp++;
  }

  /** @returns false when the datagram is lost */
  #forward(faults: LinkFaults, limiter: RateLimiter, bytes: number, send: () => void): boolean {
    const { loss = 0, delay = 0, jitter = 0, duplication = 0 } = faults;
    if (this.#random() < loss) return false;
    const waits = limiter.pass(performance.now(), bytes, faults);
    if (waits === undefined) return false;
    const copies = this.#random() < duplication ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const wait = waits + delay + this.#random() * jitter;
      if (wait < 1) {
        send();
        continue;
      }
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        if (!this.#isClosed) send();
      }, wait);
      this.#timers.add(timer);
    }
    return true;
  }
}

/** @param target the gateway's media address */
export async function openUdpProxy(
  target: { address: string; port: number },
  seed: number,
  faults: { up?: LinkFaults; down?: LinkFaults } = {},
): Promise<UdpProxy> {
  const front = createSocket("udp4");
  front.bind(0, "127.0.0.1");
  await once(front, "listening");
  return new UdpProxy(front, target, seed, faults);
}
