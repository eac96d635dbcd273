// EDGE: the log. One readable line per event on standard error, or JSON for machines (`log_format json`).

import { destination, type Logger, pino } from "pino";

export type LogOptions = {
  /** trace, debug, info, warn or error. */
  readonly level: string;
  readonly format: "text" | "json";
};

export type Log = {
  readonly logger: Logger;
  /** Writes out what is still waiting; for the end of the process. */
  flush(): void;
};

/** A log on standard error. A reader that does not read never holds up the gateway: lines over the bound are lost instead. */
export function openLog({ level, format }: LogOptions): Log {
  const output = destination({ dest: 2, sync: false, minLength: 0, maxLength: MAX_WAITING_BYTES });
  output.on("error", () => {}); // the terminal or pipe is gone; media goes on without a log
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers: { err: pino.stdSerializers.err } };
  const logger =
    format === "json"
      ? pino({ ...options, formatters: { level: (label: string) => ({ level: label }) } }, output)
      : pino(options, { write: (line: string) => void output.write(formatLine(line)) });
  return {
    logger,
    flush() {
      try {
        output.flushSync();
      } catch {
        // nobody is left to read it
      }
    },
  };
}

const MAX_WAITING_BYTES = 4 << 20;

/** `2026-11-22 14:59:01.123Z info  message key=value`, from pino's JSON; a stack follows on lines of its own. */
export function formatLine(json: string): string {
  const { level, time, msg, err, ...fields } = JSON.parse(json) as Record<string, unknown>;
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
