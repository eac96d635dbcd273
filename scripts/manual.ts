// Writes conf/full.conf, the manual of the configuration, from the table of directives:
//
//   node dist/scripts/manual.js > conf/full.conf          (a test fails when the file and the table part)

import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { BLOCKS, DIRECTIVE_PATHS, type Directive, directiveAt, environmentName } from "../gateway/config/directives.js";
import { FOREIGN } from "../gateway/config/srs-names.js";

const INTRODUCTION = `Sluice's configuration, whole: every directive with its meaning, its default and the environment variable that beats it. The values
shown are the defaults, so this file configures the same as an empty one; start from conf/gateway.conf and take from here what you
need.

The grammar: "name value;" and "name { … }"; # begins a comment; quotes hold a value together, as in key "/etc/my keys/a.pem";
include conf.d/*.conf; reads other files. A value $NAME is read from the environment; in single quotes it is meant as it stands.
An error is reported with file, line and what was expected, and nothing starts half-configured. "sluice -t -c FILE" checks a file,
SIGHUP reads it again: listeners and ports stay as they are until a restart, the rest holds for what starts from then on.`;

const CLOSING = `Configurations of SRS work here. These directives of theirs have no meaning in this gateway; they are accepted and ignored:`;

/** Widest line of the manual. */
const WIDTH = 120;

/** The manual's text. */
export function writeManual(): string {
  const lines = comment(INTRODUCTION, "");
  let open: string[] = []; // names of the blocks that are open
  const closeTo = (depth: number): void => {
    while (open.length > depth) {
      open = open.slice(0, -1);
      lines.push(`${indent(open.length)}}`);
    }
  };
  for (const path of DIRECTIVE_PATHS) {
    const names = path.split(".");
    const parents = names.slice(0, -1);
    const shared = parents.findIndex((name, index) => open[index] !== name);
    closeTo(shared === -1 ? parents.length : shared);
    for (const name of parents.slice(open.length)) {
      const block = [...open, name].join(".");
      lines.push("", ...comment(BLOCKS[block] ?? "", indent(open.length)), `${indent(open.length)}${blockHead(block, name)} {`);
      open.push(name);
    }
    const directive = directiveAt(path);
    if (directive !== undefined)
      lines.push(...describe(path, names.at(-1) ?? "", directive, indent(open.length), lines.at(-1) ?? ""));
  }
  closeTo(0);
  lines.push("", ...comment(CLOSING, ""));
  for (const [path, reason] of Object.entries(FOREIGN)) lines.push(`#   ${path}: ${reason}`);
  return `${lines.join("\n")}\n`;
}

function describe(path: string, name: string, directive: Directive, margin: string, before: string): string[] {
  const fallback = directive.default === undefined ? "none" : directive.default === "" ? '""' : directive.default;
  const facts = [`Value: ${directive.value.expected}.`, `Default: ${fallback}.`, `Environment: ${environmentName(path)}.`];
  if (directive.status === "later")
    facts.push(`${directive.danger === undefined ? "Accepted" : "Refused when on"}, not yet in this version.`);
  const value = directive.default === undefined ? `# ${name} ${directive.example};` : `${name} ${fallback};`;
  const gap = before.endsWith("{") ? [] : [""];
  return [...gap, ...comment(directive.meaning, margin), ...comment(facts.join(" "), margin), `${margin}${value}`];
}

function blockHead(block: string, name: string): string {
  return block === "vhost" ? "vhost __defaultVhost__" : name;
}

function indent(depth: number): string {
  return "    ".repeat(depth);
}

/** The text as comment lines, broken between words; empty lines stay. */
function comment(text: string, margin: string): string[] {
  return text.split("\n\n").flatMap((paragraph, index) => {
    const lines: string[] = index === 0 ? [] : [`${margin}#`];
    let line = `${margin}#`;
    for (const word of paragraph.split(/\s+/)) {
      if (line.length + 1 + word.length > WIDTH) {
        lines.push(line);
        line = `${margin}#`;
      }
      line += ` ${word}`;
    }
    return [...lines, line];
  });
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url))
  process.stdout.write(writeManual());
