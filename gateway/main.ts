#!/usr/bin/env -S node --max-semi-space-size=2
// The command: argv, configuration file, signals, exit codes. The small young generation keeps memory flat: little is garbage here,
// and V8's default would grow it to 48 MiB under the first hundred viewers for nothing.

import { closeSync, existsSync, openSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import type { Config } from "./config/config.js";
import { ConfigError } from "./config/errors.js";
import { loadConfig } from "./config/load.js";
import type { ConfigNote } from "./config/read.js";
import { Gateway, VERSION } from "./gateway.js";
import { type Log, openLog } from "./log.js";
import { describeStarted, describeStartFailure, type StartFacts } from "./start-text.js";

const USAGE = `usage: sluice [-c FILE] [-e] [-t]

Serves what is published over RTMP to browsers over WebRTC.

  -c, --config FILE  configuration to use; default: the one that comes with Sluice, with everything on
  -e, --environment  no file: defaults and environment variables (SRS_LISTEN=1936, …) only
  -t, --test         check the configuration, say what is wrong with it, and end (exit code 0 or 1)
  -v, --version      print the version
  -h, --help         print this

conf/full.conf explains every directive. Environment variables beat the file: rtc_server.listen is SRS_RTC_SERVER_LISTEN.
Signals: SIGHUP reads the configuration again; SIGTERM and SIGINT end within 5 seconds, a second one at once.`;

/** How long sessions get for their goodbyes, in ms; with it the process ends within 5 seconds of the signal. */
const CLOSE_TIMEOUT = 4_500;

/** Ctrl-C reaches the process twice when npm passes on what the terminal has sent too: within this time it is one wish, in ms. */
const SIGNAL_ECHO = 400;

/** Of errors that nobody caught, so many are shown in a window of ms; the rest is counted. */
const UNCAUGHT_LINES = 10;
const UNCAUGHT_WINDOW = 10_000;

type Arguments =
  | { readonly action: "print"; readonly text: string; readonly code: 0 | 1 }
  | { readonly action: "start" | "test"; readonly file: string | undefined };

await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<void> {
  process.stdout.on("error", () => {}); // `sluice | head`: the reader left, the gateway stays
  process.stderr.on("error", () => {});
  const given = readArguments(argv);
  if (given.action === "print") {
    (given.code === 0 ? process.stdout : process.stderr).write(`${given.text}\n`);
    process.exitCode = given.code;
    return;
  }
  const loaded = tryLoad(given.file);
  if (typeof loaded === "string") {
    process.stderr.write(`${loaded}\n`);
    process.exitCode = 1;
    return;
  }
  if (given.action === "test") {
    for (const { level, message } of loaded.warnings)
      process.stderr.write(`${level === "warn" ? "warning" : "note"}: ${message}\n`);
    process.stdout.write(`${given.file ?? "environment"}: the configuration is good\n`);
    return;
  }
  await serve(given.file, loaded.config, loaded.warnings);
}

function readArguments(argv: readonly string[]): Arguments {
  let values: { config?: string; environment?: boolean; test?: boolean; version?: boolean; help?: boolean };
  try {
    values = parseArgs({
      args: [...argv],
      options: {
        config: { type: "string", short: "c" },
        environment: { type: "boolean", short: "e" },
        test: { type: "boolean", short: "t" },
        version: { type: "boolean", short: "v" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    return { action: "print", text: `${error instanceof Error ? error.message : error}\n\n${USAGE}`, code: 1 };
  }
  if (values.help) return { action: "print", text: USAGE, code: 0 };
  if (values.version) return { action: "print", text: `sluice ${VERSION}`, code: 0 };
  if (values.environment && values.config !== undefined) {
    return { action: "print", text: "-e means no file, -c names one: give one of them", code: 1 };
  }
  const file = values.environment ? undefined : (values.config ?? packaged("conf/gateway.conf"));
  return { action: values.test ? "test" : "start", file };
}

/** The configuration, or the text that says why there is none. */
function tryLoad(file: string | undefined): string | ReturnType<typeof loadConfig> {
  try {
    return loadConfig({ file });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const count = error.problems.length === 1 ? "one problem" : `${error.problems.length} problems`;
    return `${error.message}\n${count} in the configuration`;
  }
}

async function serve(file: string | undefined, config: Config, warnings: readonly ConfigNote[]): Promise<void> {
  const log = openLog({ level: config.logLevel, format: config.logFormat });
  logNotes(log, warnings);
  const gateway = new Gateway({ config, log: log.logger });
  const end = (code: number): void => void log.flush().then(() => process.exit(code));

  let state: "starting" | "running" | "closing" = "starting";
  let closingSince = 0;
  const close = async (signal: NodeJS.Signals): Promise<void> => {
    if (state === "closing") {
      if (performance.now() - closingSince < SIGNAL_ECHO) return;
      log.logger.warn({ signal }, "second signal: ending at once");
      end(1);
      return;
    }
    state = "closing";
    closingSince = performance.now();
    log.logger.info({ signal }, "ending: no new clients, and the others get their goodbye");
    setTimeout(() => {
      log.logger.warn(`not closed within ${CLOSE_TIMEOUT} ms, ending all the same`);
      end(1);
    }, CLOSE_TIMEOUT).unref();
    try {
      await gateway.close();
      log.logger.info("ended");
      end(0);
    } catch (err) {
      log.logger.error({ err }, "closing failed");
      end(1);
    }
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void close(signal));
  onHangup(
    () => (state === "running" ? reload(file, gateway, log) : undefined),
    () => void close("SIGHUP"),
  );
  keepServing(log, () => state === "starting");

  try {
    await gateway.start();
  } catch (error) {
    await log.flush();
    process.stderr.write(`${describeStartFailure(error, config)}\n`);
    end(1);
    return;
  }
  if (state !== "starting") return; // a signal came meanwhile
  state = "running";
  process.stdout.write(`${describeStarted(config, startFacts(gateway))}\n`);
}

function startFacts({ addresses, ffmpeg, shortcomings }: Gateway): StartFacts {
  return { version: VERSION, addresses, ffmpeg, shortcomings, hasDemo: existsSync(packaged("scripts/bootstrap.mjs")) };
}

/** Reads the configuration again; one that does not parse leaves the running one in place. */
function reload(file: string | undefined, gateway: Gateway, log: Log): void {
  const loaded = tryLoad(file);
  if (typeof loaded === "string") {
    log.logger.error({ reason: loaded }, "reload refused, the running configuration stays");
    return;
  }
  logNotes(log, loaded.warnings);
  const needRestart = gateway.reload(loaded.config);
  if (needRestart.length > 0) {
    const changed = needRestart.map((name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)); // as in the file
    log.logger.warn({ changed }, "configuration reloaded; these changes wait for a restart");
  } else log.logger.info({ file }, "configuration reloaded");
}

function logNotes(log: Log, notes: readonly ConfigNote[]): void {
  for (const { level, message } of notes) log.logger[level === "warn" ? "warn" : "debug"](message);
}

/**
 * SIGHUP means "reload", as servers have it, unless it tells that the terminal which the gateway was started in is gone: then nobody is
 * left to end it, and it would go on in secret and hold its ports. Under nohup or a service manager there is no terminal on standard input.
 */
function onHangup(reload: () => void, close: () => void): void {
  const startedInTerminal = process.stdin.isTTY === true;
  process.on("SIGHUP", () => (startedInTerminal && !hasTerminal() ? close() : reload()));
}

function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", "r"));
    return true;
  } catch {
    return false;
  }
}

/**
 * The last resort. Every edge catches the errors of its own sessions, so whatever arrives here is a bug of ours. It has left one session
 * in a doubtful state; ending the process would end all the others too, so it is logged with its stack and the gateway serves on.
 * Before the gateway runs there is nobody to protect, and an error there ends the start. Repeated ones are counted, not printed.
 */
function keepServing(log: Log, isStarting: () => boolean): void {
  let windowStart = 0;
  let inWindow = 0;
  const report = (kind: string) => (thrown: unknown) => {
    const err = thrown instanceof Error ? thrown : new Error(String(thrown));
    if (isStarting()) {
      log.logger.fatal({ err }, kind);
      void log.flush().then(() => process.exit(1));
      return;
    }
    const now = performance.now();
    if (now - windowStart > UNCAUGHT_WINDOW) {
      if (inWindow > UNCAUGHT_LINES)
        log.logger.error({ count: inWindow - UNCAUGHT_LINES }, "more uncaught errors were not shown");
      windowStart = now;
      inWindow = 0;
    }
    if (++inWindow <= UNCAUGHT_LINES) log.logger.error({ err }, `${kind}: a bug in Sluice; it goes on serving`);
  };
  process.on("uncaughtException", report("uncaught exception"));
  process.on("unhandledRejection", report("unhandled rejection"));
}

/** A file of the package; this one runs as dist/gateway/main.js. */
function packaged(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}
