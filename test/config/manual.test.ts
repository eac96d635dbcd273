import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { DIRECTIVE_PATHS, directiveAt, environmentName } from "../../gateway/config/directives.js";
import { type Node, parseGrammar } from "../../gateway/config/grammar.js";
import { parseConfig } from "../../gateway/config/read.js";
import { FOREIGN } from "../../gateway/config/srs-names.js";
import { writeManual } from "../../scripts/manual.js";

const text = readFileSync(new URL("../../../conf/full.conf", import.meta.url), "utf8");
const lines = text.split("\n");

type Entry = { readonly path: string; readonly value: string; readonly comment: string };

/** What the file states, by path, with the comment above it. Lines of directives without a default are comments themselves. */
function entries(): Entry[] {
  const found: Entry[] = [];
  const visit = (nodes: readonly Node[], parent: string): void => {
    for (const node of nodes) {
      const path = parent === "" ? node.name : `${parent}.${node.name}`;
      if (node.block !== undefined) visit(node.block, path);
      else found.push({ path, value: node.words.map((word) => word.text).join(" "), comment: commentAbove(node.line - 1) });
    }
  };
  const { nodes, problems } = parseGrammar(text, "full.conf");
  assert.deepEqual(problems, []);
  visit(nodes, "");
  return found;
}

function commentAbove(index: number): string {
  let start = index;
  while (lines[start - 1]?.trim().startsWith("#")) start--;
  return lines
    .slice(start, index)
    .map((line) => line.trim().slice(2))
    .join(" ");
}

test("conf/full.conf is what the table says (write it anew: node dist/scripts/manual.js > conf/full.conf)", () => {
  assert.equal(text, writeManual());
});

test("it shows every directive once, with its default, its meaning and its environment name", () => {
  const stated = entries();
  assert.equal(new Set(stated.map(({ path }) => path)).size, stated.length);
  for (const path of DIRECTIVE_PATHS) {
    const directive = directiveAt(path);
    assert.ok(directive !== undefined);
    const entry = stated.find((candidate) => candidate.path === path);
    if (directive.default === undefined) {
      assert.equal(entry, undefined);
      assert.ok(text.includes(`# ${path.split(".").at(-1)} ${directive.example};`), path);
      assert.ok(text.replace(/\s+#\s+/g, " ").includes(`Environment: ${environmentName(path)}.`), path);
      continue;
    }
    assert.equal(entry?.value, directive.default, path);
    assert.ok(entry.comment.includes(`Environment: ${environmentName(path)}.`), path);
    assert.ok(entry.comment.includes(directive.meaning.replace(/\s+/g, " ")), path);
  }
  assert.equal(stated.length, DIRECTIVE_PATHS.filter((path) => directiveAt(path)?.default !== undefined).length);
});

test("it configures the same as an empty file, without a warning", () => {
  const full = parseConfig(text, { file: "x.conf" });
  const empty = parseConfig("", { file: "x.conf" });
  assert.deepEqual(full.config, empty.config);
  assert.deepEqual(full.warnings, []);
});

test("no directive is both known and without a meaning here", () => {
  for (const path of Object.keys(FOREIGN)) assert.ok(!DIRECTIVE_PATHS.some((known) => known === path), path);
});
