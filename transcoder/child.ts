// One media child process: bytes into its standard input, bytes out of its standard output, and an end that leaves nothing behind.

import { type ChildProcess, spawn } from "node:child_process";

export type MediaChildOptions = {
  readonly command: string;
  readonly arguments: readonly string[];
  /** Bytes that may wait for the child's standard input; what comes beyond is refused. */
  readonly queueLimit: number;
  /** May throw: the child is then ended with that reason. */
  readonly onOutput: (bytes: Buffer) => void;
  /** The child ended by itself, could not be started, or `onOutput` threw. Called at most once, never after `close`. */
  readonly onEnd: (reason: string) => void;
  /** Gets lines of its standard error. */
  readonly log: (line: string) => void;
};

export class MediaChild {
  readonly #options: MediaChildOptions;
  readonly #process: ChildProcess | undefined;
  /** Fulfilled when the process is gone. Never rejected. */
  readonly gone: Promise<void>;
  #state: "running" | "closing" | "gone" = "running";
  #spawnError: string | undefined;
  readonly #lastLines: string[] = [];
  #linesLogged = 0;
  #partialLine = "";
  readonly #timers: NodeJS.Timeout[] = [];

  constructor(options: MediaChildOptions) {
    this.#options = options;
    // Its own process group (and session): a Ctrl-C in the terminal reaches the gateway only, which then ends its children itself.
    // Should the gateway be killed, the end of standard input ends the child.
    const detached = process.platform !== "win32";
    try {
      this.#process = spawn(options.command, options.arguments, { stdio: "pipe", windowsHide: true, detached });
    } catch (error) {
      this.#spawnError = error instanceof Error ? error.message : String(error); // most failures come as an event, some as this
    }
    const child = this.#process;
    this.gone = new Promise((resolve) => {
      if (child === undefined) queueMicrotask(() => this.#onGone(undefined, null, resolve));
      child?.once("error", (error) => {
        this.#spawnError = error.message;
        if (child.pid === undefined) this.#onGone(undefined, null, resolve); // there may be no "close"
      });
      child?.once("close", (code, signal) => this.#onGone(code ?? undefined, signal, resolve));
    });
    // Pipes are missing too when this process has no file descriptors left.
    child?.stdin?.on("error", () => {}); // EPIPE of a dead child: its end is told by "close"
    child?.stdout?.on("error", () => {}).on("data", (bytes: Buffer) => this.#onOutput(bytes));
    child?.stderr
      ?.on("error", () => {})
      .setEncoding("utf8")
      .on("data", (text: string) => this.#onErrorText(text));
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** @returns false when the child lags so far behind that the bytes were thrown away, or is gone */
  write(bytes: Buffer): boolean {
    const stdin = this.#process?.stdin;
    if (this.#state !== "running" || !stdin || stdin.writableLength + bytes.length > this.#options.queueLimit) return false;
    stdin.write(bytes);
    return true;
  }

  /** Ends the child: its input first, then SIGTERM, then SIGKILL. Idempotent; `gone` tells when it is done. */
  close(): void {
    if (this.#state !== "running") return;
    this.#state = "closing";
    this.#process?.stdin?.destroy(); // not end(): what is queued is of no use to anybody
    this.#timers.push(
      setTimeout(() => this.#process?.kill("SIGTERM"), TERMINATE_AFTER),
      setTimeout(() => this.#process?.kill("SIGKILL"), KILL_AFTER),
    );
  }

  #onOutput(bytes: Buffer): void {
    if (this.#state !== "running") return; // read on and thrown away, so that the child never blocks on a full pipe
    try {
      this.#options.onOutput(bytes);
    } catch (error) {
      if (this.#state !== "running") return;
      this.close();
      this.#options.onEnd(error instanceof Error ? error.message : String(error));
    }
  }

  #onErrorText(text: string): void {
    const lines = (this.#partialLine + text).split(/[\r\n]+/);
    this.#partialLine = (lines.pop() ?? "").slice(0, MAX_LINE);
    for (const line of lines) this.#onErrorLine(line.trim().slice(0, MAX_LINE));
  }

  #onErrorLine(line: string): void {
    if (line === "") return;
    this.#lastLines.push(line);
    if (this.#lastLines.length > LINES_IN_REASON) this.#lastLines.shift();
    if (this.#linesLogged === MAX_LINES_LOGGED) this.#options.log("(more lines are not logged)");
    else if (this.#linesLogged < MAX_LINES_LOGGED) this.#options.log(line);
    this.#linesLogged += 1;
  }

  #onGone(code: number | undefined, signal: string | null, resolve: () => void): void {
    for (const timer of this.#timers) clearTimeout(timer);
    const ownEnd = this.#state === "running";
    this.#state = "gone";
    this.#onErrorLine(this.#partialLine.trim());
    resolve();
    if (!ownEnd) return;
    const how = this.#spawnError ?? (signal === null ? `ended with code ${code ?? "unknown"}` : `ended by ${signal}`);
    this.#options.onEnd([how, ...this.#lastLines].join("; "));
  }
}

const TERMINATE_AFTER = 1_000; // ms; ffmpeg needs some 10 ms after the end of its input
const KILL_AFTER = 2_500; // ms; the whole gateway has 5 s to end
const MAX_LINE = 500; // characters
const LINES_IN_REASON = 3;
const MAX_LINES_LOGGED = 100; // per child: broken media could fill a disk
