// npm test: lint, then unit and engine tests side by side, then the end-to-end tests: those that only wait for things to happen two files
// at a time, those that measure, or play for long, one at a time. One summary at the end counts every test; the exit code is 1 when anything failed.
//
//   npm test -- [--unit | --e2e] [WORD…]     only files whose path holds one of the words

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");

/**
 * Folders of tests that run real clients (those in support try out the clients themselves), and single files that judge a real child at
 * the speed of the clock: beside others they would measure the machine.
 */
const END_TO_END = ["e2e", "support", "whip-whep", "bridge/real-child.", "bridge/rtc-to-rtmp-child."];

/** Those of them that wait more than they work, and judge no pace: another beside them does no harm. */
const PATIENT = [
  "whip-whep",
  "e2e/connectivity-check",
  "e2e/doctor",
  "e2e/library",
  "e2e/namespaces",
  "e2e/pages-console",
  "e2e/pages-publish",
  "e2e/pages.",
  "e2e/tcp",
  "e2e/trouble",
];

/** Longest time for one file in ms: a hang must end, and end as a failure. */
const UNIT_TIMEOUT = 180_000;
const E2E_TIMEOUT = 300_000;

/** What node:test closes a run with. */
const COUNT = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) ([\d.]+)$/;

type Phase = {
  readonly files: readonly string[];
  readonly concurrency: number;
  readonly timeout: number;
  /** Arguments of Node for the files' processes. */
  readonly nodeArguments: readonly string[];
};

process.exitCode = await main();

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { unit: { type: "boolean" }, e2e: { type: "boolean" } },
    allowPositionals: true,
  });
  const files = listTests().filter((file) => positionals.length === 0 || positionals.some((word) => file.includes(word)));
  const isUnder = (paths: readonly string[], file: string): boolean => {
    return paths.some((path) => file.startsWith(join("dist", "test", path)));
  };
  const isEndToEnd = (file: string): boolean => isUnder(END_TO_END, file);
  const phases: Phase[] = [];
  if (!values.e2e) {
    phases.push({
      files: files.filter((file) => !isEndToEnd(file)),
      concurrency: Math.max(1, availableParallelism()),
      timeout: UNIT_TIMEOUT,
      nodeArguments: [],
    });
  }
  if (!values.unit) {
    const endToEnd = files.filter(isEndToEnd);
    for (const [isPatient, concurrency] of [
      [true, Math.min(2, availableParallelism())],
      [false, 1],
    ] as const) {
      phases.push({
        files: endToEnd.filter((file) => isUnder(PATIENT, file) === isPatient),
        concurrency,
        timeout: E2E_TIMEOUT,
        nodeArguments: ["--test-force-exit"], // libdatachannel's threads keep a process alive; what is ours to close, unit tests show
      });
    }
  }
  if (phases.every((phase) => phase.files.length === 0)) {
    console.error(`no test file matches ${positionals.join(" ")}`);
    return 1;
  }
  if (positionals.length === 0 && !lint()) {
    console.error("lint failed; no test was run");
    return 1;
  }
  return await runPhases(phases);
}

function listTests(): string[] {
  const folder = join(ROOT, "dist/test");
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".test.js"));
  return names.map((name) => relative(ROOT, join(folder, name))).sort();
}

/** Types, style and import rules. */
function lint(): boolean {
  const npm = process.env["npm_execpath"];
  const [program, ...before] = npm?.endsWith("js") ? [process.execPath, npm] : ["npm"];
  const { status } = spawnSync(program ?? "npm", [...before, "run", "--silent", "lint"], { cwd: ROOT, stdio: "inherit" });
  return status === 0;
}

/** One report over all phases: events pass through, only their closing counts are added up. */
async function runPhases(phases: readonly Phase[]): Promise<number> {
  let failed = false;
  const totals = new Map<string, number>();

  async function* events(): AsyncGenerator<unknown> {
    const own = [...process.execArgv];
    for (const { files, concurrency, timeout, nodeArguments } of phases) {
      if (files.length === 0) continue;
      process.execArgv = [...own, ...nodeArguments]; // what run() starts its processes with
      const stream = run({ files: files.map((file) => join(ROOT, file)), concurrency, timeout });
      for await (const event of stream) {
        if (event.type === "test:fail" && !event.data.todo) failed = true;
        const [, name, value] =
          event.type === "test:diagnostic" && event.data.nesting === 0 ? (COUNT.exec(event.data.message) ?? []) : [];
        if (name === undefined) yield event;
        else totals.set(name, (totals.get(name) ?? 0) + Number(value));
      }
    }
    for (const [name, value] of totals) {
      const message = `${name} ${Number.isInteger(value) ? value : value.toFixed(3)}`;
      yield { type: "test:diagnostic", data: { nesting: 0, message, level: "info" } };
    }
  }

  const report = Readable.from(events()).compose(new spec());
  report.pipe(process.stdout);
  await finished(report);
  return failed || (totals.get("tests") ?? 0) === 0 ? 1 : 0;
}
