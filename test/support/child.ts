// Children of tests and benchmarks: their words, their cost from /proc, and a sure end.

import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

/** A child process whose lines can be waited for and which is surely gone after `stop`. */
export class Child {
  readonly process: ChildProcess;
  readonly exited: Promise<Exit>;
  exit: Exit | undefined;
  readonly #lines: string[] = [];
  readonly #waiters = new Set<(line: string) => void>();

  constructor(program: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
    this.process = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...environment } });
    living.add(this);
    this.exited = new Promise((resolve) => {
      const done = (exit: Exit): void => {
        this.exit = exit;
        living.delete(this);
        resolve(exit);
      };
      this.process.once("error", (error) => {
        this.#take(`could not be started: ${error.message}`);
        done({ code: null, signal: null });
      });
      this.process.once("close", (code, signal) => done({ code, signal }));
    });
    for (const pipe of [this.process.stdout, this.process.stderr]) this.#readLines(pipe);
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  get log(): string {
    return this.#lines.join("\n");
  }

  /** Lines written so far that match. */
  lines(pattern: RegExp): string[] {
    return this.#lines.filter((line) => pattern.test(line));
  }

  /** The first line that matches, past or future. @throws Error when the child ends or the time runs out before */
  async line(pattern: RegExp, timeoutMs = 10_000): Promise<string> {
    const past = this.#lines.find((line) => pattern.test(line));
    if (past !== undefined) return past;
    return new Promise((resolve, reject) => {
      const end = (act: () => void): void => {
        clearTimeout(timer);
        this.#waiters.delete(look);
        act();
      };
      const look = (line: string): void => {
        if (pattern.test(line)) end(() => resolve(line));
      };
      const timer = setTimeout(
        () => end(() => reject(new Error(`no line ${pattern} in ${timeoutMs} ms:\n${this.log}`))),
        timeoutMs,
      );
      this.#waiters.add(look);
      void this.exited.then(() => end(() => reject(new Error(`ended before a line ${pattern}:\n${this.log}`))));
    });
  }

  /** Asks it to end, makes it end when it does not. */
  async stop(signal: NodeJS.Signals = "SIGTERM", patienceMs = 8000): Promise<Exit> {
    if (this.exit === undefined) this.process.kill(signal);
    const timer = setTimeout(() => this.process.kill("SIGKILL"), patienceMs);
    const exit = await this.exited;
    clearTimeout(timer);
    return exit;
  }

  #readLines(pipe: NodeJS.ReadableStream | null): void {
    let rest = "";
    pipe?.on("data", (chunk: Buffer) => {
      const parts = (rest + chunk.toString()).split(/[\r\n]+/);
      rest = parts.pop() ?? "";
      for (const part of parts) this.#take(part);
    });
    pipe?.on("end", () => {
      if (rest !== "") this.#take(rest);
    });
  }

  #take(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > 20_000) this.#lines.splice(0, 5000); // a soak must not fill memory with logs
    for (const waiter of [...this.#waiters]) waiter(line);
  }
}

const living = new Set<Child>();
process.once("exit", () => {
  for (const child of living) child.process.kill("SIGKILL"); // a crashed test leaves nothing behind
});

export type ProcessCost = {
  /** User and system time of all threads in ms. */
  readonly cpuMs: number;
  readonly rssBytes: number;
  readonly threads: number;
};

const TICKS_PER_SECOND = 100; // USER_HZ, 100 on every Linux that Node runs on

/** What a process has cost so far (proc(5)). Its children are not in it. */
export function costOf(pid: number): ProcessCost {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // the name may hold spaces and brackets
  const ticks = Number(fields[11]) + Number(fields[12]);
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  const rss = /^VmRSS:\s+(\d+)/m.exec(status)?.[1];
  return { cpuMs: (ticks * 1000) / TICKS_PER_SECOND, rssBytes: Number(rss) * 1024, threads: Number(fields[17]) };
}

/** Finer than `costOf` where the kernel keeps it: nanoseconds on the CPU, summed over threads, in ms. */
export function cpuTimeOf(pid: number): number {
  let total = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      total += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]) / 1e6;
    } catch {} // the thread has ended, or there is no schedstat here
  }
  return total > 0 ? total : costOf(pid).cpuMs;
}

/** Command lines of the direct children of a process, threads' children included. */
export function childrenOf(pid: number): { readonly pid: number; readonly command: string }[] {
  const found: { pid: number; command: string }[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "latin1");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      if (parent !== pid) continue;
      found.push({ pid: Number(entry), command: readFileSync(`/proc/${entry}/cmdline`, "latin1").replaceAll("\0", " ").trim() });
    } catch {} // gone meanwhile
  }
  return found;
}

export type OpenFiles = { readonly sockets: number; readonly pipes: number; readonly all: number };

export function openFilesOf(pid: number): OpenFiles {
  const targets = readdirSync(`/proc/${pid}/fd`).map((entry) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${entry}`);
    } catch {
      return "";
    }
  });
  return {
    sockets: targets.filter((target) => target.startsWith("socket:")).length,
    pipes: targets.filter((target) => target.startsWith("pipe:")).length,
    all: targets.filter((target) => target !== "").length,
  };
}

/** Asks again and again until the answer is not undefined. @throws Error when the time runs out */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  timeoutMs = 10_000,
  everyMs = 50,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await pause(everyMs);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The value below which a share (0–1) of all values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
