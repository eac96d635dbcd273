// What the gateway and its machine are doing, for `/api/v1/summaries` and the metrics.

import { readFileSync } from "node:fs";
import { availableParallelism, cpus, freemem, loadavg, totalmem, uptime } from "node:os";

/** Shares are 0–1 of one processor (own) or of all (system), over the time since the last look, a second at least. */
export type SystemFigures = {
  readonly self: {
    readonly mem_kbyte: number;
    readonly mem_percent: number;
    readonly cpu_percent: number;
    readonly srs_uptime: number;
  };
  readonly system: {
    readonly cpu_percent: number;
    readonly mem_ram_kbyte: number;
    readonly mem_ram_percent: number;
    readonly cpus: number;
    readonly cpus_online: number;
    readonly uptime: number;
    readonly load_1m: number;
    readonly load_5m: number;
    readonly load_15m: number;
    /** Milliseconds since 1970 at which the bytes of the network interfaces were read; loopback is not counted. */
    readonly net_sample_time: number;
    readonly net_recv_bytes: number;
    readonly net_send_bytes: number;
  };
};

export class SystemMeter {
  #last = look();
  #own = 0;
  #all = 0;

  read(): SystemFigures {
    const now = look();
    const elapsed = now.at - this.#last.at;
    if (elapsed > 1_000) {
      this.#own = (now.own - this.#last.own) / elapsed;
      const total = now.busy + now.idle - this.#last.busy - this.#last.idle;
      this.#all = total > 0 ? (now.busy - this.#last.busy) / total : 0;
      this.#last = now;
    }
    const memory = process.memoryUsage.rss();
    const [load1 = 0, load5 = 0, load15 = 0] = loadavg();
    const { received, sent } = networkBytes();
    return {
      self: {
        mem_kbyte: Math.round(memory / 1024),
        mem_percent: memory / totalmem(),
        cpu_percent: this.#own,
        srs_uptime: Math.round(process.uptime()),
      },
      system: {
        cpu_percent: this.#all,
        mem_ram_kbyte: Math.round(totalmem() / 1024),
        mem_ram_percent: 1 - freemem() / totalmem(),
        cpus: cpus().length,
        cpus_online: availableParallelism(),
        uptime: uptime(),
        load_1m: load1,
        load_5m: load5,
        load_15m: load15,
        net_sample_time: Date.now(),
        net_recv_bytes: received,
        net_send_bytes: sent,
      },
    };
  }
}

/** Processor times in ms. */
function look(): { at: number; own: number; busy: number; idle: number } {
  const usage = process.cpuUsage();
  let busy = 0;
  let idle = 0;
  for (const { times } of cpus()) {
    busy += times.user + times.nice + times.sys + times.irq;
    idle += times.idle;
  }
  return { at: performance.now(), own: (usage.user + usage.system) / 1000, busy, idle };
}

/** Sums of proc_net_dev(5); zeros where there is no such file. */
function networkBytes(): { received: number; sent: number } {
  let text = "";
  try {
    text = readFileSync("/proc/net/dev", "latin1");
  } catch {}
  const sum = { received: 0, sent: 0 };
  for (const line of text.split("\n")) {
    const [, name, figures = ""] = /^\s*([^:\s]+):(.*)$/.exec(line) ?? [];
    if (name === undefined || name === "lo") continue;
    const columns = figures.trim().split(/\s+/).map(Number);
    sum.received += columns[0] ?? 0;
    sum.sent += columns[8] ?? 0;
  }
  return sum;
}
