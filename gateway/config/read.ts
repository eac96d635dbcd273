// From a file's text and the environment to the typed configuration. Pure: reads no file and not the process's environment.

import { buildConfig, findContradictions, type Place, type Scope } from "./build.js";
import { type Config, DEFAULT_VHOST } from "./config.js";
import {
  BLOCKS,
  DIRECTIVE_PATHS,
  DIRECTIVES,
  type DirectivePath,
  directiveAt,
  environmentName,
  isDirectivePath,
  OPEN_BLOCKS,
} from "./directives.js";
import { ConfigError, type ConfigProblem, describeProblem, nearestName } from "./errors.js";
import { type GrammarOptions, type Node, parseGrammar, type Word } from "./grammar.js";
import { ALIASES, FOREIGN, TRANSLATED } from "./srs-names.js";
import { ValueError } from "./values.js";

/** Something an operator should know about a configuration that is used all the same. */
export type ConfigNote = { readonly level: "warn" | "info"; readonly message: string };

export type ConfigSource = {
  /** The file's name for messages; undefined: there is no file, only the environment. Default undefined. */
  readonly file?: string | undefined;
  /** Environment variables by name. Default none. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** How included files are found. Default: include is refused. */
  readonly include?: GrammarOptions["include"];
};

/** Parses a configuration. Throws `ConfigError` with all problems found; nothing is half-configured. */
export function parseConfig(text: string, source: ConfigSource = {}): { config: Config; warnings: readonly ConfigNote[] } {
  const reader = new Reader(source.environment ?? {});
  const { nodes, problems } = parseGrammar(text, source.file ?? "configuration", {
    ...(source.include && { include: source.include }),
    isName: (word) => NAMES.has(word),
  });
  reader.problems.push(...problems);
  reader.readNodes(nodes, "", reader.globals);
  reader.readEnvironment();
  reader.reportUnfinished();
  const config = buildConfig({ file: source.file, globals: reader.globals, vhosts: reader.vhosts }, reader.problems);
  if (reader.problems.length > 0) throw new ConfigError(sortProblems(reader.problems, source.file));
  const contradictions = findContradictions(config).map((message): ConfigNote => ({ level: "warn", message }));
  return { config, warnings: [...contradictions, ...reader.notes()] };
}

class Reader {
  readonly problems: ConfigProblem[] = [];
  readonly globals: Scope = new Map();
  readonly vhosts = new Map<string, Scope>();
  readonly #vhostPlaces = new Map<string, Place>();
  readonly #foreign = new Set<string>();
  readonly #warnings: ConfigNote[] = [];
  readonly #environment: NonNullable<ConfigSource["environment"]>;
  #order = 0;

  constructor(environment: NonNullable<ConfigSource["environment"]>) {
    this.#environment = environment;
  }

  readNodes(nodes: readonly Node[], parent: string, scope: Scope): void {
    for (const node of nodes) {
      const written = parent === "" ? node.name : `${parent}.${node.name}`;
      const path = ALIASES[written] ?? written;
      if (isDirectivePath(path) || TRANSLATED[path] !== undefined) this.#readDirective(node, path, scope);
      else if (path === "vhost") this.#readVhost(node);
      else if (BLOCK_PATHS.has(path)) this.#readBlock(node, path, scope);
      else if (foreignReason(path) !== undefined) this.#foreign.add(path);
      else if (!OPEN_BLOCKS.has(parent)) this.#reportUnknown(node, parent);
    }
  }

  #readDirective(node: Node, path: string, scope: Scope): void {
    if (node.block !== undefined) {
      this.#report(node, `"${node.name}" takes a value and ";", not a block`);
      return;
    }
    const words = this.#expand(node, path);
    if (words === undefined) return;
    const splitOver = node.words.find((word) => word.line !== node.line);
    const hint = splitOver === undefined ? "" : `; is a ";" missing at the end of line ${node.line}?`;
    this.#state({ file: node.file, line: node.line, label: path }, path, words, scope, hint);
  }

  #readVhost(node: Node): void {
    const [name, ...rest] = this.#expand(node, "vhost") ?? [];
    if (name === undefined || name === "" || rest.length > 0 || node.block === undefined) {
      this.#report(node, `vhost: expected one name and a block, as in: vhost ${DEFAULT_VHOST} { … }`);
      return;
    }
    const earlier = this.#vhostPlaces.get(name);
    if (earlier !== undefined) {
      this.#report(node, `vhost ${name} already has a block at ${placeName(earlier)}`);
      return;
    }
    this.#vhostPlaces.set(name, { file: node.file, line: node.line, label: name });
    const scope: Scope = new Map();
    this.vhosts.set(name, scope);
    this.readNodes(node.block, "vhost", scope);
  }

  #readBlock(node: Node, path: string, scope: Scope): void {
    if (node.block === undefined) {
      if (OPEN_BLOCKS.has(path)) return; // old one-line forms, such as `forward host:port;`
      this.#report(node, `"${node.name}" is a block: expected "{" after it`);
      return;
    }
    if (node.words.length > 0) {
      const given = node.words.map((word) => word.text).join(" ");
      this.#report(node, `"${node.name}" takes no name before "{", got "${given}"`);
    }
    this.readNodes(node.block, path, scope);
  }

  /** The words with `$NAME` read from the environment, or undefined (and a problem) when a variable is not set. */
  #expand(node: Node, path: string): string[] | undefined {
    const words: string[] = [];
    for (const word of node.words) {
      const name = variableName(word);
      if (name === undefined) {
        words.push(word.text);
        continue;
      }
      const value = this.#environment[name] || directiveAt(path)?.unset;
      if (value === undefined) {
        this.#report(node, `${path}: the environment variable ${name} is not set`);
        return undefined;
      }
      words.push(...(isPlainText(path) ? [value] : splitWords(value)));
    }
    return words;
  }

  /** Notes a value for a path, or a problem with it. */
  #state(place: Place, path: string, given: readonly string[], scope: Scope, hint = ""): void {
    let words = given;
    let target = path;
    const translated = TRANSLATED[path];
    if (translated !== undefined) {
      const said = given.length === 1 ? translated.words[given[0] ?? ""] : undefined;
      if (said === undefined) {
        const expected = Object.keys(translated.words).join(", ");
        this.#reportAt(place, `expected one of ${expected}, got "${given.join(" ")}"${hint}`);
        return;
      }
      if (said === "") return;
      words = [said];
      target = translated.to;
    }
    if (!isDirectivePath(target)) return;
    const directive = directiveAt(target);
    const earlier = scope.get(target);
    if (earlier !== undefined && place.file !== undefined && directive?.repeats !== true) {
      this.#reportAt(place, `it is already set at ${placeName(earlier)}; it may stand there once`);
      return;
    }
    try {
      const value = directive?.value.parse(words);
      const isEnvironment = place.file === undefined;
      const order = isEnvironment ? this.#order++ - ENVIRONMENT_FIRST : this.#order++;
      scope.set(target, { ...place, words, value, order, before: directive?.repeats === true ? earlier : undefined });
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
      this.#reportAt(place, `${error.message}${hint}`);
    }
  }

  /** Environment beats file; a vhost directive's name holds for all vhosts, and for the default one when there is none. */
  readEnvironment(): void {
    if (!this.vhosts.has(DEFAULT_VHOST)) this.vhosts.set(DEFAULT_VHOST, new Map());
    const known = new Set<string>();
    for (const written of ENVIRONMENT_PATHS) {
      const name = environmentName(written);
      known.add(name);
      const value = this.#environment[name];
      if (value === undefined || value.trim() === "") continue; // empty is how compose files say "not set"
      const path = ALIASES[written] ?? written;
      const place: Place = { file: undefined, line: undefined, label: `environment ${name}` };
      const scopes = path.startsWith("vhost.") ? [...this.vhosts.values()] : [this.globals];
      const before = this.problems.length;
      for (const scope of scopes) {
        this.#state(place, path, isPlainText(path) ? [value] : splitWords(value), scope);
        if (this.problems.length > before) break; // the same for every vhost
      }
    }
    for (const name of Object.keys(this.#environment)) {
      if (!name.startsWith("SRS_") || known.has(name) || FOREIGN_ENVIRONMENT.some((prefix) => startsWithName(name, prefix)))
        continue;
      const near = nearestName(name, known);
      const suggestion = near === undefined ? "" : `; did you mean ${near}?`;
      this.#warnings.push({
        level: "warn",
        message: `environment ${name}: no directive has this name, it is ignored${suggestion}`,
      });
    }
  }

  /** What is switched on and not in this version: a warning; where it should protect something, a problem. */
  reportUnfinished(): void {
    const seen = new Set<DirectivePath>();
    for (const scope of [this.globals, ...this.vhosts.values()]) {
      for (const [path, stated] of scope) {
        const directive = directiveAt(path);
        if (directive?.status !== "later" || seen.has(path) || !isSwitchedOn(path, stated.words)) continue;
        seen.add(path);
        const where = stated.file === undefined ? `${stated.label}: ` : "";
        const what = `${where}${path} ${stated.words.join(" ")}`;
        const { file, line } = stated;
        if (directive.danger !== undefined) {
          const message = `${what}: not yet in this version, and without it ${directive.danger}; switch it off to start all the same`;
          this.problems.push({ file, line, message });
        } else {
          const message = `${what}: accepted, not yet in this version`;
          this.#warnings.push({ level: "warn", message: describeProblem({ file, line, message }) });
        }
      }
    }
  }

  notes(): readonly ConfigNote[] {
    const notes = [...this.#warnings];
    if (this.#foreign.size > 0) {
      const list = [...this.#foreign].map((path) => `${path} (${foreignReason(path)})`).join(", ");
      notes.push({ level: "info", message: `directives of SRS without a meaning here are ignored: ${list}` });
    }
    return notes;
  }

  #reportUnknown(node: Node, parent: string): void {
    const where = parent === "" ? "" : ` in ${parent}`;
    const places = PLACES.get(node.name)?.filter((place) => place !== parent);
    const near = nearestName(node.name, CHILDREN.get(parent) ?? []) ?? nearestName(node.name, NAMES);
    let advice = "";
    if (places !== undefined && places.length > 0) advice = `; it belongs ${places.slice(0, 3).map(describePlace).join(" or ")}`;
    else if (near !== undefined) {
      advice = `; did you mean "${near}"?`;
      const [place] = PLACES.get(near) ?? [];
      if (place !== undefined && !CHILDREN.get(parent)?.includes(near)) advice += ` It belongs ${describePlace(place)}`;
    }
    this.#report(node, `unknown directive "${node.name}"${where}${advice}`);
  }

  #report(node: Node, message: string): void {
    this.problems.push({ file: node.file, line: node.line, message });
  }

  #reportAt(place: Place, message: string): void {
    this.problems.push({ file: place.file, line: place.line, message: `${place.label}: ${message}` });
  }
}

/** Environment beats file, also where the first to speak wins. */
const ENVIRONMENT_FIRST = 2 ** 40;

function splitWords(value: string): string[] {
  return value.trim().split(/\s+/);
}

/** A password or a path from the environment may hold spaces. */
function isPlainText(path: string): boolean {
  return directiveAt(path)?.value === DIRECTIVES.ffmpeg.value;
}

function variableName(word: Word): string | undefined {
  if (!word.variable) return undefined;
  const [, bare, braced] = /^\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})$/.exec(word.text) ?? [];
  return bare ?? braced;
}

/** Whether a `later` directive has been turned to something that this version does not do. */
function isSwitchedOn(path: DirectivePath, words: readonly string[]): boolean {
  const parent = path.slice(0, path.lastIndexOf("."));
  const hasSwitch = directiveAt(`${parent}.enabled`)?.status === "later";
  if (hasSwitch && !path.endsWith(".enabled")) return false;
  const { default: fallback = "" } = directiveAt(path) ?? {};
  return /^[a-z]/.test(fallback) && words.join(" ") !== fallback; // a number switches nothing on
}

function placeName({ file, line, label }: Place): string {
  return file === undefined ? label : `${file}:${line}`;
}

function describePlace(parent: string): string {
  return parent === "" ? "at the top level of the file" : `in ${parent}`;
}

function foreignReason(path: string): string | undefined {
  for (let part = path; part !== ""; part = part.slice(0, Math.max(0, part.lastIndexOf(".")))) {
    if (Object.hasOwn(FOREIGN, part)) return FOREIGN[part];
  }
  return undefined;
}

function startsWithName(name: string, prefix: string): boolean {
  return name === prefix || name.startsWith(`${prefix}_`);
}

/** In the order of the file; included files after it, the environment last. */
function sortProblems(problems: readonly ConfigProblem[], file: string | undefined): ConfigProblem[] {
  const rank = (problem: ConfigProblem): number =>
    problem.file === undefined ? 2 : problem.file === (file ?? "configuration") ? 0 : 1;
  return [...problems].sort((a, b) => rank(a) - rank(b) || (a.file === b.file ? (a.line ?? 0) - (b.line ?? 0) : 0));
}

const BLOCK_PATHS: ReadonlySet<string> = new Set([...Object.keys(BLOCKS), "rtmp"]);
const FOREIGN_ENVIRONMENT = [...Object.keys(FOREIGN), ...OPEN_BLOCKS].map(environmentName);
const ENVIRONMENT_PATHS: readonly string[] = [
  ...DIRECTIVE_PATHS,
  ...Object.keys(TRANSLATED),
  ...Object.keys(ALIASES).filter((path) => isDirectivePath(ALIASES[path] ?? "")),
];

/** For messages: the names that may stand in a block, and the blocks that a name may stand in. */
const CHILDREN = new Map<string, string[]>();
const PLACES = new Map<string, string[]>();
for (const path of [...DIRECTIVE_PATHS, ...Object.keys(BLOCKS), ...Object.keys(TRANSLATED)]) {
  const cut = path.lastIndexOf(".");
  const [parent, name] = [path.slice(0, Math.max(0, cut)), path.slice(cut + 1)];
  CHILDREN.set(parent, [...(CHILDREN.get(parent) ?? []), name]);
  PLACES.set(name, [...(PLACES.get(name) ?? []), parent]);
}

/** Every word that is some directive's name, for finding a missing `;`. */
const NAMES: ReadonlySet<string> = new Set([
  "include",
  ...[...PLACES.keys()],
  ...[...Object.keys(ALIASES), ...Object.keys(FOREIGN)].map((path) => path.slice(path.lastIndexOf(".") + 1)),
]);
