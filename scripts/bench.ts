// npm run bench: runs the benchmarks of scripts/bench one after another, each in a process of its own, so that none warms up or burdens
// the next. A benchmark is a module that exports `run()`: it prints its figures, or returns them as rows for a table; what it finds
// wrong with its own result it throws.
//
//   npm run bench -- [WORD…]      only those whose name holds one of the words

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

type BenchModule = { readonly run: () => unknown };

const FOLDER = fileURLToPath(new URL("bench/", import.meta.url));

process.exitCode = process.argv[2] === "--one" ? await runOne(process.argv[3] ?? "") : runAll(process.argv.slice(2));

function runAll(words: readonly string[]): number {
  const names = readdirSync(FOLDER)
    .filter((name) => name.endsWith(".js"))
    .map((name) => name.slice(0, -".js".length))
    .sort();
  const chosen = names.filter((name) => words.length === 0 || words.some((word) => name.includes(word)));
  if (chosen.length === 0) {
    console.error(`no benchmark matches ${words.join(" ")}; there are: ${names.join(", ")}`);
    return 1;
  }
  console.log(`Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown processor"}`);
  const failed = chosen.filter((name) => {
    console.log(`\n${name}`);
    const self = fileURLToPath(import.meta.url);
    return spawnSync(process.execPath, ["--expose-gc", self, "--one", name], { stdio: "inherit" }).status !== 0;
  });
  if (failed.length > 0) console.error(`\nfailed: ${failed.join(", ")}`);
  return failed.length === 0 ? 0 : 1;
}

async function runOne(name: string): Promise<number> {
  const module: unknown = await import(pathToFileURL(join(FOLDER, `${name}.js`)).href);
  if (!isBench(module)) {
    console.error(`scripts/bench/${name}.ts exports no run()`);
    return 1;
  }
  const result: unknown = await module.run();
  if (typeof result === "string") console.log(result);
  else if (typeof result === "object" && result !== null)
    console.table((Array.isArray(result) ? result : [result]).map(roundRow));
  return 0;
}

function isBench(module: unknown): module is BenchModule {
  return typeof module === "object" && module !== null && "run" in module && typeof module.run === "function";
}

/** Three digits after the point are more than any run repeats. */
function roundRow(row: unknown): unknown {
  if (typeof row !== "object" || row === null) return row;
  const round = (value: unknown): unknown => (typeof value === "number" ? Math.round(value * 1000) / 1000 : value);
  return Object.fromEntries(Object.entries(row).map(([key, value]) => [key, round(value)]));
}
