// EDGE: the log. One readable line per event on standard error, or JSON for machines (`log_format json`). What a client makes happen again
// and again is written so often and then only counted.

import { write } from "node:fs";

import { type Logger, pino } from "pino";

import { LogThrottle } from "./log-throttle.js";

export type LogOptions = {
  /** trace, debug, info, warn or error. */
  readonly level: string;
  readonly format: "text" | "json";
};

export type Log = {
  readonly logger: Logger;
  /** Waits until what was logged is written out, but not longer than a reader that does not read deserves. For the end of the process. */
  flush(): Promise<void>;
};

/** A log on standard error, or on another file descriptor. */
export function openLog({ level, format }: LogOptions, descriptor = 2): Log {
  const output = new LogOutput(descriptor);
  const throttle = new LogThrottle();
  let timer: NodeJS.Timeout | undefined;
  const tellLeftOut = (): void => {
    clearTimeout(timer);
    timer = undefined;
    for (const leftOut of throttle.drain()) logger.warn(leftOut, LEFT_OUT);
  };
  const write = (json: string): void => {
    const entry = JSON.parse(json) as Entry;
    const { level, msg, peer } = entry;
    const isLimited = LIMITED_LEVELS.has(level) && msg !== LEFT_OUT;
    if (!isLimited || throttle.take(performance.now(), String(msg ?? ""), typeof peer === "string" ? peer : "")) {
      output.write(format === "json" ? json : formatEntry(entry));
    } else timer ??= setTimeout(tellLeftOut, TELL_LEFT_OUT).unref();
  };
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers: { err: pino.stdSerializers.err } };
  const logger =
    format === "json"
      ? pino({ ...options, formatters: { level: (label: string) => ({ level: label }) } }, { write })
      : pino(options, { write });
  const flush = async (): Promise<void> => {
    tellLeftOut();
    await output.flush();
  };
  return { logger, flush };
}

type Entry = Readonly<Record<string, unknown>>;

const LEFT_OUT = "log lines left out";
const TELL_LEFT_OUT = 10_000; // ms after the first of them
/** As numbers in text, as names in JSON. debug and trace are for somebody who wants everything. */
const LIMITED_LEVELS: ReadonlySet<unknown> = new Set([30, 40, 50, "info", "warn", "error"]);

/**
 * Writes lines without ever holding up the gateway: not when the reader of a pipe stalls (process.stderr blocks then), not when the
 * terminal is gone (pino's own destination then waits for ever at the end of the process). What passes the bound is lost and counted.
 */
class LogOutput {
  readonly #descriptor: number;
  #waiting: string[] = [];
  #waitingCharacters = 0;
  #lost = 0;
  #state: "idle" | "writing" | "gone" = "idle";
  #onIdle: (() => void)[] = [];

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  write(line: string): void {
    if (this.#state === "gone") return;
    if (this.#waitingCharacters + line.length > MAX_WAITING_CHARACTERS) {
      this.#lost++;
      return;
    }
    this.#waiting.push(line);
    this.#waitingCharacters += line.length;
    if (this.#state === "idle") this.#writeWaiting();
  }

  async flush(): Promise<void> {
    if (this.#state !== "writing") return;
    await Promise.race([
      new Promise<void>((resolve) => void this.#onIdle.push(resolve)),
      new Promise((resolve) => void setTimeout(resolve, FLUSH_TIMEOUT)),
    ]);
  }

  #writeWaiting(): void {
    if (this.#lost > 0 && this.#waiting.length === 0) {
      this.#waiting.push(
        `${new Date().toISOString().replace("T", " ")} warn  ${this.#lost} log lines were lost: nobody read fast enough\n`,
      );
      this.#lost = 0;
    }
    if (this.#waiting.length === 0) {
      this.#becomes("idle");
      return;
    }
    this.#state = "writing";
    const bytes = Buffer.from(this.#waiting.join(""));
    this.#waiting = [];
    this.#waitingCharacters = 0;
    this.#writeBytes(bytes);
  }

  #writeBytes(bytes: Buffer): void {
    write(this.#descriptor, bytes, (error, written) => {
      if (error?.code === "EAGAIN") setTimeout(() => this.#writeBytes(bytes), RETRY_AFTER);
      else if (error !== null) this.#becomes("gone");
      else if (written < bytes.length) this.#writeBytes(bytes.subarray(written));
      else this.#writeWaiting();
    });
  }

  #becomes(state: "idle" | "gone"): void {
    this.#state = state;
    for (const resolve of this.#onIdle.splice(0)) resolve();
  }
}

const MAX_WAITING_CHARACTERS = 4 << 20;
const FLUSH_TIMEOUT = 300; // ms
const RETRY_AFTER = 20; // ms; a pipe that somebody else made non-blocking is full

/** `2026-11-22 14:59:01.123Z info  message key=value`, from pino's JSON; a stack follows on lines of its own. */
export function formatLine(json: string): string {
  return formatEntry(JSON.parse(json) as Entry);
}

function formatEntry({ level, time, msg, err, ...fields }: Entry): string {
  const name = LEVELS[Number(level)] ?? String(level);
  const values = Object.entries(fields).map(([key, value]) => `${key}=${formatValue(value)}`);
  const error = err as { message?: unknown; stack?: unknown } | undefined;
  if (error !== undefined && error.message !== msg) values.push(`error=${formatValue(error.message)}`);
  const line = [String(time).replace("T", " "), name.padEnd(5), escapeControls(String(msg ?? "")), ...values].join(" ");
  const stack = Number(level) >= STACK_FROM && typeof error?.stack === "string" ? `\n${indentStack(error.stack)}` : "";
  return `${line}${stack}\n`;
}

const LEVELS: Readonly<Record<number, string>> = { 10: "trace", 20: "debug", 30: "info", 40: "warn", 50: "error", 60: "fatal" };
const STACK_FROM = 50; // below an error the stack is noise

/** Names and reasons come from clients: nothing of theirs may begin a line of its own or steer a terminal. */
function escapeControls(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

function formatValue(value: unknown): string {
  if (typeof value !== "string") return escapeControls(JSON.stringify(value) ?? String(value));
  return escapeControls(/^[^\s"=]+$/.test(value) ? value : JSON.stringify(value));
}

function indentStack(stack: string): string {
  return stack
    .split("\n")
    .map((line) => `    ${escapeControls(line.trim())}`)
    .join("\n");
}
