import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { type IncludedFile, type Node, parseGrammar } from "../../gateway/config/grammar.js";

/** The tree as nested lists: `["listen", "1935"]`, `["http_api", [["enabled", "on"]]]`. */
function shape(nodes: readonly Node[]): unknown[] {
  return nodes.map(({ name, words, block }) => [
    name,
    ...words.map((word) => word.text),
    ...(block === undefined ? [] : [shape(block)]),
  ]);
}

function parse(text: string): unknown[] {
  const { nodes, problems } = parseGrammar(text, "x.conf");
  assert.deepEqual(problems, []);
  return shape(nodes);
}

function complaints(text: string, isName?: (word: string) => boolean): string[] {
  const { problems } = parseGrammar(text, "x.conf", isName === undefined ? {} : { isName });
  return problems.map(({ line, message }) => `${line}: ${message}`);
}

const BRACED = ["$", "NAME}"].join("{"); // in one piece it looks like a forgotten template

const GOOD: readonly (readonly [what: string, text: string, tree: unknown[]])[] = [
  ["nothing", "", []],
  ["a value", "listen 1935;", [["listen", "1935"]]],
  ["several values over several lines", "on_play a\n  b;", [["on_play", "a", "b"]]],
  ["no value", "flag;", [["flag"]]],
  ["blocks in blocks", "a b { c { d e; } f; }", [["a", "b", [["c", [["d", "e"]]], ["f"]]]]],
  ["an empty block", "vhost x {}", [["vhost", "x", []]]],
  [
    "no space at all",
    "a{b c;d e;}",
    [
      [
        "a",
        [
          ["b", "c"],
          ["d", "e"],
        ],
      ],
    ],
  ],
  [
    "comments",
    "# one\na b; # two\n#three;\nc d;#four",
    [
      ["a", "b"],
      ["c", "d"],
    ],
  ],
  ["a # inside a word", "url http://a/b#c;", [["url", "http://a/b#c"]]],
  ["quotes", `a "b c" 'd;{}#' "" e"f g"h;`, [["a", "b c", "d;{}#", "", "ef gh"]]],
  ["escapes in double quotes", String.raw`a "say \"hi\" \\ C:\temp";`, [["a", String.raw`say "hi" \ C:\temp`]]],
  ["single quotes as they stand", String.raw`a 'b\"c';`, [["a", String.raw`b\"c`]]],
  ["escapes outside quotes", String.raw`a b\;c d\ e C:\x;`, [["a", "b;c", "d e", String.raw`C:\x`]]],
  ["braces of a variable", `a ${BRACED} $B;`, [["a", BRACED, "$B"]]],
  [
    "a byte order mark and Windows line ends",
    "\ufeffa b;\r\nc d;\r\n",
    [
      ["a", "b"],
      ["c", "d"],
    ],
  ],
];

for (const [what, text, tree] of GOOD) test(`reads ${what}`, () => assert.deepEqual(parse(text), tree));

test("marks what may be read from the environment: not in single quotes, not behind a backslash", () => {
  const { nodes } = parseGrammar(String.raw`a $X "$Y" '$Z' "\$W";`, "x.conf");
  assert.deepEqual(
    nodes[0]?.words.map(({ text, variable }) => [text, variable]),
    [
      ["$X", true],
      ["$Y", true],
      ["$Z", false],
      ["$W", false],
    ],
  );
});

test("knows the line of each directive and word", () => {
  const { nodes } = parseGrammar("\na b;\n\nc {\n  d\n    e;\n}", "x.conf");
  assert.deepEqual(
    [nodes[0]?.line, nodes[1]?.line, nodes[1]?.block?.[0]?.line, nodes[1]?.block?.[0]?.words[0]?.line],
    [2, 4, 5, 6],
  );
});

const BAD: readonly (readonly [what: string, text: string, complaints: string[]])[] = [
  ["a missing ; at the end", "listen 1935", ['1: missing ";" after "listen 1935"']],
  ["a missing ; before }", "a {\n b c\n}", ['2: missing ";" after "b c"']],
  ["a missing ; before the next name", "listen 1935\nmax_connections 10;", ['1: missing ";" after "listen 1935"']],
  ["a missing ; before a block of any name", "a 1\nhtp {\n b;\n}", ['1: missing ";" after "a 1"']],
  ["a block that is not closed", "a;\nb {\n c;\n", ['2: the block "b {" is never closed; expected "}"']],
  ["a brace too many", "a;\n}\nb;", ['2: unexpected "}": no block is open here']],
  ["a block without a name", "{ a; }", ['1: unexpected "{": expected a directive\'s name before it']],
  ["a ; alone", "a;;", ['1: unexpected ";": expected a directive\'s name']],
  [
    "a quote that is not closed",
    'a "b;\nc d;',
    ['1: a quote is opened and not closed on this line: "b;', '1: missing ";" after "a b;"'],
  ],
  ["a binary file", "a\0b;", ["undefined: this is no configuration: it is over 1 MiB or holds binary data"]],
  ["include where there are no files", "include x.conf;", ["1: include x.conf: files cannot be included here"]],
  ["include without a file", "include;", ["1: include: expected one or more files, as in: include conf.d/*.conf;"]],
];

for (const [what, text, expected] of BAD) {
  test(`complains about ${what}`, () => {
    assert.deepEqual(
      complaints(text, (word) => ["listen", "max_connections", "c"].includes(word)),
      expected,
    );
  });
}

test("goes on behind a missing ;", () => {
  const { nodes } = parseGrammar("listen 1935\nmax_connections 10;", "x.conf", { isName: (word) => word === "max_connections" });
  assert.deepEqual(shape(nodes), [
    ["listen", "1935"],
    ["max_connections", "10"],
  ]);
});

test("gives up on blocks nested without end, without running out of stack", () => {
  assert.ok(complaints("a {".repeat(100_000)).includes("1: blocks are nested deeper than 16"));
  assert.ok(complaints("{".repeat(100_000)).some((complaint) => complaint.includes("nested deeper")));
});

/** Includes out of a table of files, by their exact name. */
function includer(files: Readonly<Record<string, string>>) {
  return (pattern: string): readonly IncludedFile[] | string => {
    const text = files[pattern];
    return text === undefined ? "no such file" : [{ file: pattern, text }];
  };
}

test("puts included directives where the include stands, with their own file and line", () => {
  const { nodes, problems } = parseGrammar("a;\nb { include two.conf; }", "x.conf", {
    include: includer({ "two.conf": "\nc d;" }),
  });
  assert.deepEqual(problems, []);
  assert.deepEqual(shape(nodes), [["a"], ["b", [["c", "d"]]]]);
  assert.deepEqual([nodes[1]?.block?.[0]?.file, nodes[1]?.block?.[0]?.line], ["two.conf", 2]);
});

test("refuses includes in a circle and too deep", () => {
  const circle = parseGrammar("include a;", "x.conf", { include: includer({ a: "include b;", b: "include a;" }) });
  assert.match(circle.problems[0]?.message ?? "", /x\.conf includes a includes b includes a: a circle/);
  const chain = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`f${i}`, `include f${i + 1};`]));
  const deep = parseGrammar("include f0;", "x.conf", { include: includer(chain) });
  assert.match(deep.problems[0]?.message ?? "", /deeper than 8/);
});

test("bounds the number of files", () => {
  // each file includes the next ones twice: 2^8 files without a bound
  const files = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`f${i}`, `include f${i + 1} f${i + 1};`]));
  const { problems } = parseGrammar("include f0 f0;", "x.conf", { include: includer({ ...files, f8: "a;" }) });
  assert.deepEqual(
    problems.filter(({ message }) => message.includes("more than")).map(({ message }) => message),
    ["include: more than 200 files"],
  );
});

test("never throws, whatever the text", () => {
  const piece = fc.constantFrom(
    "a",
    "include",
    " ",
    "\n",
    ";",
    "{",
    "}",
    '"',
    "'",
    "\\",
    "#",
    "$",
    "${",
    "\r\n",
    "é",
    "\u2028",
    "1935",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
      const { nodes, problems } = parseGrammar(pieces.join(""), "x.conf");
      assert.ok(Array.isArray(nodes) && Array.isArray(problems));
    }),
    { numRuns: 2000 },
  );
});

test("reads back every word that is written in quotes", () => {
  const word = fc.string({ unit: "grapheme", maxLength: 30 }).filter((text) => !/[\n\0]/.test(text));
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 4 }), (words) => {
      const quoted = words.map((text) => `"${text.replace(/[\\"]/g, "\\$&")}"`);
      const { nodes, problems } = parseGrammar(`name ${quoted.join(" ")};`, "x.conf");
      assert.deepEqual(problems, []);
      assert.deepEqual(
        nodes[0]?.words.map(({ text }) => text),
        words,
      );
    }),
  );
});
