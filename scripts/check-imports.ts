// Who may import whom (docs/architecture.md), as a check that fails: `npm run imports`. The table is the rule, the rest reads it.

import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, posix, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

type Rule = {
  /** Folders or files (without ending) that may be imported, besides the folder's own. `*`: everything. */
  readonly may: readonly string[];
  /** Types alone may come from these. */
  readonly mayTypes?: readonly string[];
  /** Files (without ending) of the folder that are edges: they hold sockets, clocks and children. `*`: all of them. */
  readonly edges: readonly string[] | "*";
};

/**
 * main -> gateway -> edges -> engines -> media. Protocols (rtmp, rtc, hls, http) never import each other: they meet at the hub.
 * The first entry that a file's path begins with holds.
 */
const RULES: Readonly<Record<string, Rule>> = {
  "gateway/main": { may: ["gateway/gateway", "gateway/config", "gateway/log", "gateway/start-text", "transcoder"], edges: "*" },
  "gateway/gateway": { may: ["*"], edges: "*" }, // the composition root
  "gateway/system-clock": { may: ["gateway/hub/clock"], edges: "*" },
  "gateway/log": { may: ["gateway/log-throttle"], edges: "*" },
  "gateway/log-throttle": { may: [], edges: [] },
  "gateway/start-text": { may: ["gateway/config/config"], edges: "*" },

  "gateway/media": { may: [], edges: [] },
  "gateway/rtp": { may: ["gateway/media"], edges: [] },
  "gateway/hub": { may: ["gateway/media", "gateway/rtp", "gateway/config/config"], edges: [] },
  "gateway/bridge": {
    may: ["gateway/media", "gateway/rtp", "gateway/hub"],
    mayTypes: ["transcoder", "gateway/config/config"],
    edges: [],
  },

  "gateway/native": { may: ["gateway/media"], mayTypes: ["gateway/rtc/egress"], edges: "*" },
  "gateway/rtmp": { may: ["gateway/media", "gateway/hub", "gateway/config/config"], edges: ["server", "connection", "client"] },
  "gateway/rtc": {
    may: ["gateway/media", "gateway/hub", "gateway/rtp", "gateway/config/config", "gateway/native"], // and nobody else imports native
    edges: "*",
  },
  "gateway/hls": { may: ["gateway/media", "gateway/hub", "gateway/config/config"], edges: ["disk"] },
  "gateway/http": { may: ["gateway/media", "gateway/hub", "gateway/config/config"], edges: "*" },
  "gateway/signaling": { may: ["gateway/media", "gateway/hub"], mayTypes: ["transcoder"], edges: ["server"] },
  "gateway/config": { may: [], edges: "*" },
  transcoder: { may: ["gateway/media"], edges: "*" },

  players: { may: [], edges: "*" }, // served as they are: what they import must lie beside them
  scripts: { may: ["*"], edges: "*" },
  test: { may: ["*"], edges: "*" },
};

/** Engines among the files of a folder whose other files are edges. */
const ENGINES_AMONG_EDGES = ["gateway/rtc/stun", "gateway/rtc/ice", "gateway/rtc/sdp", "gateway/rtc/session"];

/** What engines may import of Node; time and chance are handed in. */
const NODE_FOR_ENGINES = ["node:crypto", "node:buffer"];

/** What engines may not even name. `Date` and timers have their lint rule too; here they are for engines that rule does not know. */
const BANNED_IN_ENGINES: readonly (readonly [RegExp, string])[] = [
  [/\bMath\s*\.\s*random\b/, "Math.random: chance is handed in"],
  [/\b(?:new\s+Date\b|Date\s*\.\s*now\b|Date\s*\()/, "Date: engines get the time handed in"],
  [/\bperformance\s*\.\s*now\b/, "performance.now: engines get the time handed in"],
  [/\b(?:setTimeout|setInterval|setImmediate)\s*\(/, "timers: engines have Clock.after or nextTimeout"],
  [/\bprocess\s*\.\s*(?:env|hrtime|on|once|exit|nextTick)\b/, "process: engines know no process"],
];

export type Violation = { readonly file: string; readonly line: number; readonly message: string };

/** Checks the sources under a root folder that has a package.json; returns what breaks a rule, in order of files. */
export function checkImports(root: string): Violation[] {
  const packages = readPackageNames(root);
  return TOP_FOLDERS.flatMap((folder) => listSources(root, folder)).flatMap((file) => {
    const source = stripComments(readFileSync(join(root, file), "utf8"));
    return checkFile(file, source, packages);
  });
}

/** One import of a source text. */
type Import = { readonly specifier: string | undefined; readonly typeOnly: boolean; readonly line: number }; // undefined: computed

function checkFile(file: string, source: string, packages: ReadonlySet<string>): Violation[] {
  const violations: Violation[] = [];
  const report = (line: number, message: string): void => void violations.push({ file, line, message });
  const stem = withoutEnding(file);
  const area = Object.keys(RULES).find((key) => isUnder(stem, key));
  const rule = area === undefined ? undefined : RULES[area];
  if (area === undefined || rule === undefined) {
    report(1, "no rule for this folder: add it to the table in scripts/check-imports.ts");
    return violations;
  }
  const isEngine = isEngineFile(stem, area, rule);
  const isProduct = isUnder(area, "gateway") || area === "transcoder";

  for (const { specifier, typeOnly, line } of readImports(source)) {
    if (specifier === undefined) {
      if (isProduct) report(line, "computed import(): nobody can check where it leads");
    } else if (specifier.startsWith(".")) {
      const target = withoutEnding(posix.join(posix.dirname(file), specifier));
      const allowed = [area, ...rule.may, ...(typeOnly ? (rule.mayTypes ?? []) : [])];
      if (!allowed.some((entry) => isAllowed(target, entry))) {
        const asType = !typeOnly && rule.mayTypes?.some((entry) => isUnder(target, entry));
        report(
          line,
          `${area} may not import ${target}${asType ? " but as a type: import type" : ""}; it may: ${describeMay(rule)}`,
        );
      }
    } else if (area === "players") report(line, `players import only what lies beside them, not "${specifier}"`);
    else if (specifier.startsWith("node:")) {
      if (isEngine && !NODE_FOR_ENGINES.includes(specifier)) {
        report(line, `an engine may not import ${specifier}; only ${NODE_FOR_ENGINES.join(", ")}`);
      }
    } else if (builtinModules.includes(specifier)) report(line, `import "node:${specifier}", with the prefix`);
    else if (isProduct && !packages.has(packageName(specifier))) {
      report(line, `${packageName(specifier)} is not in dependencies: it will not be there in production`);
    }
  }
  if (isEngine) {
    source.split("\n").forEach((text, index) => {
      for (const [pattern, message] of BANNED_IN_ENGINES) if (pattern.test(blankStrings(text))) report(index + 1, message);
    });
  }
  return violations.sort((a, b) => a.line - b.line);
}

function isEngineFile(stem: string, area: string, rule: Rule): boolean {
  if (ENGINES_AMONG_EDGES.includes(stem)) return true;
  return rule.edges !== "*" && !rule.edges.some((edge) => stem === `${area}/${edge}`);
}

function isAllowed(target: string, entry: string): boolean {
  if (entry === "*") return true;
  return isUnder(target, entry);
}

/** Whether a path is a folder or lies in it. */
function isUnder(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

function describeMay(rule: Rule): string {
  const types = (rule.mayTypes ?? []).map((entry) => `types of ${entry}`);
  return [...rule.may, ...types].join(", ") || "nothing outside itself";
}

/** Finds `import … from "x"`, `export … from "x"`, `import "x"`, `import("x")`, `import x = require("x")` and `require("x")`. */
function readImports(source: string): Import[] {
  const found: Import[] = [];
  for (const match of source.matchAll(IMPORT)) {
    const { clause, from, bare, call, required } = match.groups ?? {};
    const specifier =
      from ?? bare ?? required ?? (call === undefined ? undefined : /^\s*(["'`])([^"'`$]*)\1\s*[,)]/.exec(call)?.[2]);
    const typeOnly = clause !== undefined && (/^\s*type\b(?!\s*(?:,|from))/.test(clause) || isAllTypes(clause));
    found.push({ specifier, typeOnly, line: source.slice(0, match.index).split("\n").length });
  }
  return found;
}

/** `{ type A, type B }` imports nothing at run time. */
function isAllTypes(clause: string): boolean {
  const names = /^\s*\{([^}]*)\}\s*$/
    .exec(clause)?.[1]
    ?.split(",")
    .filter((name) => name.trim() !== "");
  return names !== undefined && names.length > 0 && names.every((name) => /^\s*type\s/.test(name));
}

const IMPORT = new RegExp(
  [
    /(?<=^|[;\s}])(?:import|export)\s*(?<clause>(?:type\s+)?(?:[\w$*]+(?:\s+as\s+[\w$]+)?\s*,?\s*)?(?:\{[^}]*\})?\s*)from\s*["'](?<from>[^"']+)["']/,
    /(?<=^|[;\s}])import\s*["'](?<bare>[^"']+)["']/,
    /\bimport\s*\((?<call>[^\n]*)/,
    /\brequire\s*\(\s*["'](?<required>[^"']+)["']/,
  ]
    .map((part) => part.source)
    .join("|"),
  "gm",
);

/** The same text with comments blanked, lines kept. Strings are stepped over, so that `"http://x"` keeps its end. */
function stripComments(source: string): string {
  const token = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g;
  return source.replace(token, (text) => (text.startsWith("/") ? text.replace(/[^\n]/g, " ") : text));
}

function blankStrings(line: string): string {
  return line.replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`$]*`/g, '""');
}

function packageName(specifier: string): string {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}

function readPackageNames(root: string): Set<string> {
  const { name, dependencies, optionalDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    name?: string;
    dependencies?: Record<string, string>;
    optionalDependencies?: Record<string, string>;
  };
  return new Set([
    ...(name === undefined ? [] : [name]),
    ...Object.keys(dependencies ?? {}),
    ...Object.keys(optionalDependencies ?? {}),
  ]);
}

function listSources(root: string, folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" });
  } catch {
    return []; // not every tree has every folder
  }
  const ending = folder === "players" ? /\.m?js$/ : /\.ts$/;
  const isSource = (name: string): boolean => ending.test(name) && !name.split(sep).includes("vendor");
  return names
    .filter(isSource)
    .map((name) => [folder, ...name.split(sep)].join("/"))
    .sort();
}

function withoutEnding(file: string): string {
  return file.replace(/\.(?:d\.ts|ts|m?js)$/, "");
}

const TOP_FOLDERS = ["gateway", "transcoder", "players", "scripts", "test"];

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), "../.."));
  const violations = checkImports(root);
  for (const { file, line, message } of violations)
    console.error(`${relative("", join(root, file)) || file}:${line}: ${message}`);
  if (violations.length > 0) process.exitCode = 1;
}
