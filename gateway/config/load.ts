// EDGE: reads configuration files from disk, and looks whether the files they name are there.

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, join, relative, resolve } from "node:path";

import type { Config, HttpsConfig, VhostConfig } from "./config.js";
import { ConfigError, type ConfigProblem } from "./errors.js";
import type { IncludedFile } from "./grammar.js";
import { type ConfigNote, parseConfig } from "./read.js";

export type LoadOptions = {
  /** Path of the configuration file; undefined: defaults and environment only. */
  readonly file?: string | undefined;
  /** Environment variables by name. Default: the process's. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
};

/** Reads, checks and completes a configuration. Throws `ConfigError` with every problem found. */
export function loadConfig({ file, environment = process.env }: LoadOptions = {}): {
  config: Config;
  warnings: readonly ConfigNote[];
} {
  const text = file === undefined ? "" : readText(file);
  if (typeof text !== "string") throw new ConfigError([{ file, line: undefined, message: text.reason }]);
  const { config, warnings } = parseConfig(text, { file, environment, include: findIncluded });
  return completeFiles(config, warnings);
}

function readText(file: string): string | { reason: string } {
  try {
    if (statSync(file).size > MAX_FILE_BYTES) return { reason: "this is no configuration: it is over 4 MiB" };
    return readFileSync(file, "utf8");
  } catch (error) {
    return { reason: `cannot be read: ${reasonOf(error)}` };
  }
}

const MAX_FILE_BYTES = 4 << 20; // the grammar's own limit is lower; this one only keeps a disk image out of memory

/** `include` looks from the folder of the file it stands in; `*` and `?` in the file's name may match nothing. */
function findIncluded(pattern: string, from: string): readonly IncludedFile[] | string {
  const path = resolve(dirname(from), pattern);
  if (/[*?]/.test(dirname(pattern))) return "* and ? are for the file's name only, not for folders";
  const files = /[*?]/.test(basename(path)) ? matchFiles(path) : [path];
  const found: IncludedFile[] = [];
  for (const file of files) {
    const text = readText(file);
    if (typeof text !== "string") return text.reason;
    found.push({ file: isAbsolute(from) ? file : relative("", file), text });
  }
  return found;
}

function matchFiles(pattern: string): string[] {
  const form = basename(pattern)
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  const folder = dirname(pattern);
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => new RegExp(`^${form}$`).test(name) && !name.startsWith("."));
  return names.sort().map((name) => join(folder, name));
}

/** Makes paths absolute. A key or certificate that cannot be read is an error; a missing folder of pages is worth a warning. */
function completeFiles(config: Config, warnings: readonly ConfigNote[]): { config: Config; warnings: readonly ConfigNote[] } {
  const problems: ConfigProblem[] = [];
  const notes = [...warnings];
  const findFile = (path: string, name: string): string => {
    if (path === "") return "";
    const places = [resolve(path), ...(config.file === undefined ? [] : [resolve(dirname(config.file), path)])];
    const found = places.find((place) => existsSync(place));
    if (found === undefined)
      problems.push({ file: config.file, line: undefined, message: `${name}: no such file: ${places[0]}` });
    return found ?? path;
  };
  const withFiles = (https: HttpsConfig, name: string): HttpsConfig =>
    https.enabled ? { ...https, key: findFile(https.key, `${name}.key`), cert: findFile(https.cert, `${name}.cert`) } : https;

  const withPaths = (vhost: VhostConfig): VhostConfig =>
    vhost.hls.path === "" ? vhost : { ...vhost, hls: { ...vhost.hls, path: resolve(vhost.hls.path) } };

  let dir = config.httpServer.dir;
  if (dir !== "") {
    const found = resolve(dir);
    if (!existsSync(found)) {
      notes.push({
        level: "warn",
        message: `http_server.dir ${dir}: no such folder (${found}); only the built-in pages are served`,
      });
    }
    dir = existsSync(found) ? found : "";
  }
  const completed: Config = {
    ...config,
    dataDir: resolve(config.dataDir),
    rtmps: withFiles(config.rtmps, "rtmps"),
    httpApi: { ...config.httpApi, https: withFiles(config.httpApi.https, "http_api.https") },
    httpServer: { ...config.httpServer, dir, https: withFiles(config.httpServer.https, "http_server.https") },
    vhosts: new Map([...config.vhosts].map(([name, vhost]) => [name, withPaths(vhost)])),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return { config: completed, warnings: notes };
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return "no such file";
  if (code === "EACCES") return "no permission to read it";
  if (code === "EISDIR") return "it is a folder";
  return error instanceof Error ? error.message : String(error);
}
