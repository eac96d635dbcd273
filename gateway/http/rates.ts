// Bit rates over the last half minute, from byte counters looked at every few seconds.

import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Client, Hub, Stream } from "../hub/types.js";

/** Kilobits per second. */
export type Kbps = { readonly recv_30s: number; readonly send_30s: number };

const INTERVAL = 5_000; // ms
const SAMPLES = 6; // with the present one they span 30 s

type History = { readonly at: number; readonly bytes: number }[];

export class Rates {
  readonly #hub: Pick<Hub, "clients">;
  readonly #clock: Clock;
  readonly #histories = new WeakMap<Client, History>();
  #timer: TimerHandle | undefined;

  constructor(hub: Pick<Hub, "clients">, clock: Clock) {
    this.#hub = hub;
    this.#clock = clock;
  }

  start(): void {
    this.#timer ??= this.#clock.after(INTERVAL, () => {
      this.#timer = undefined;
      this.#sample();
      this.start();
    });
  }

  /** Idempotent. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  ofClient(client: Client): Kbps {
    const rate = Math.round(this.#rateOf(client));
    return client.role === "publish" ? { recv_30s: rate, send_30s: 0 } : { recv_30s: 0, send_30s: rate };
  }

  /** Of every stream that has clients, in one walk. */
  ofStreams(): Map<Stream, Kbps> {
    const sums = new Map<Stream, { recv_30s: number; send_30s: number }>();
    for (const client of this.#hub.clients()) {
      const sum = sums.get(client.stream) ?? { recv_30s: 0, send_30s: 0 };
      const { recv_30s, send_30s } = this.ofClient(client);
      sum.recv_30s += recv_30s;
      sum.send_30s += send_30s;
      sums.set(client.stream, sum);
    }
    return sums;
  }

  #sample(): void {
    const at = this.#clock.now();
    for (const client of this.#hub.clients()) {
      const history = this.#histories.get(client) ?? [];
      history.push({ at, bytes: client.bytes() });
      if (history.length > SAMPLES) history.shift();
      this.#histories.set(client, history);
    }
  }

  #rateOf(client: Client): number {
    const first = this.#histories.get(client)?.[0];
    const elapsed = first === undefined ? this.#clock.wallTime() - client.since : this.#clock.now() - first.at;
    const bytes = client.bytes() - (first?.bytes ?? 0);
    return elapsed < MINIMUM ? 0 : (bytes * 8) / elapsed; // bits per ms are kilobits per s
  }
}

const MINIMUM = 200; // ms; a viewer's first bytes are a burst, which says nothing
