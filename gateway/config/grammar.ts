// The grammar of configuration files, nginx-like: `name word…;` and `name [word…] { … }`, `#` comments, quotes, `include FILE;`.
// Pure: text of included files is handed in. Knows no directive by name but `include`.

import type { ConfigProblem } from "./errors.js";

/** One argument. `variable`: a `$NAME` in it may be read from the environment (not inside single quotes). */
export type Word = { readonly text: string; readonly line: number; readonly variable: boolean };

/** A parsed directive; `block` is undefined when it ended with `;`. */
export type Node = {
  readonly name: string;
  readonly words: readonly Word[];
  readonly block: readonly Node[] | undefined;
  readonly file: string;
  readonly line: number;
};

export type IncludedFile = { readonly file: string; readonly text: string };

export type GrammarOptions = {
  /** Files that `include PATTERN;` in `from` means, in order; a string says why there are none. Default: include is refused. */
  readonly include?: (pattern: string, from: string) => readonly IncludedFile[] | string;
  /** Whether a word at the start of a line is a directive's name: then the `;` before it is missing. Default: never. */
  readonly isName?: (word: string) => boolean;
};

/** Parses a file and what it includes. Never throws: problems come beside whatever could be read. */
export function parseGrammar(
  text: string,
  file: string,
  options: GrammarOptions = {},
): { nodes: readonly Node[]; problems: readonly ConfigProblem[] } {
  const problems: ConfigProblem[] = [];
  const nodes = parseFile({ text, file }, [], { ...options, problems, files: 0 });
  return { nodes, problems };
}

type Token = Word & { readonly kind: "word" | "punctuation"; readonly first: boolean }; // first on its line

type Shared = GrammarOptions & { readonly problems: ConfigProblem[]; files: number };

const MAX_FILE_CHARACTERS = 1 << 20; // a configuration is written by hand; anything longer is the wrong file
const MAX_BLOCK_DEPTH = 16; // the deepest known directive has 5
const MAX_INCLUDE_DEPTH = 8;
const MAX_FILES = 200;

function parseFile(source: IncludedFile, trail: readonly string[], shared: Shared): Node[] {
  const { file, text } = source;
  if (text.length > MAX_FILE_CHARACTERS || text.includes("\0")) {
    shared.problems.push({ file, line: undefined, message: "this is no configuration: it is over 1 MiB or holds binary data" });
    return [];
  }
  return new Parser(readTokens(source, shared.problems), file, [...trail, file], shared).parseBlock(0, undefined);
}

class Parser {
  readonly #tokens: readonly Token[];
  readonly #file: string;
  readonly #trail: readonly string[];
  readonly #shared: Shared;
  #position = 0;

  constructor(tokens: readonly Token[], file: string, trail: readonly string[], shared: Shared) {
    this.#tokens = tokens;
    this.#file = file;
    this.#trail = trail;
    this.#shared = shared;
  }

  /** Reads directives up to the closing brace of `opened`, or to the end of the file when that is undefined. */
  parseBlock(depth: number, opened: Word | undefined): Node[] {
    const nodes: Node[] = [];
    if (depth > MAX_BLOCK_DEPTH) {
      this.#report(opened?.line ?? 1, `blocks are nested deeper than ${MAX_BLOCK_DEPTH}`);
      this.#position = this.#tokens.length; // nothing sensible follows
    }
    for (;;) {
      const token = this.#next();
      if (token === undefined) {
        if (opened !== undefined) this.#report(opened.line, `the block "${opened.text} {" is never closed; expected "}"`);
        return nodes;
      }
      if (isPunctuation(token, "}")) {
        if (opened !== undefined) return nodes;
        this.#report(token.line, 'unexpected "}": no block is open here');
        continue;
      }
      if (token.kind === "punctuation") {
        if (token.text === "{") {
          this.#report(token.line, 'unexpected "{": expected a directive\'s name before it');
          this.parseBlock(depth + 1, token);
        } else this.#report(token.line, 'unexpected ";": expected a directive\'s name');
        continue;
      }
      nodes.push(...this.#parseDirective(token, depth));
    }
  }

  #parseDirective(name: Token, depth: number): Node[] {
    const words: Token[] = [];
    const reportMissing = (count: number): void => {
      const stated = [name, ...words.slice(0, count)];
      this.#report(stated.at(-1)?.line ?? name.line, `missing ";" after "${stated.map((word) => word.text).join(" ")}"`);
    };
    for (;;) {
      const token = this.#peek();
      const isNext = token?.kind === "word" && token.first && this.#shared.isName?.(token.text);
      if (token === undefined || isPunctuation(token, "}") || isNext) {
        reportMissing(words.length);
        return this.#finish(name, words, undefined);
      }
      this.#position++;
      if (isPunctuation(token, ";")) return this.#finish(name, words, undefined);
      if (isPunctuation(token, "{")) {
        // A word at the start of its line, with values before it, opens the block: `listen 1935⏎ htpp_api {`.
        const opener = words.findLastIndex((word, index) => index > 0 && word.first);
        const opening = words[opener];
        if (opening === undefined) return this.#finish(name, words, this.parseBlock(depth + 1, name));
        reportMissing(opener);
        const before = this.#finish(name, words.slice(0, opener), undefined);
        return [...before, ...this.#finish(opening, words.slice(opener + 1), this.parseBlock(depth + 1, opening))];
      }
      words.push(token);
    }
  }

  #finish(name: Token, words: readonly Word[], block: readonly Node[] | undefined): Node[] {
    if (name.text !== "include") return [{ name: name.text, words, block, file: this.#file, line: name.line }];
    if (block !== undefined || words.length === 0) {
      this.#report(name.line, "include: expected one or more files, as in: include conf.d/*.conf;");
      return [];
    }
    return words.flatMap((word) => this.#include(word));
  }

  #include(word: Word): Node[] {
    const found = this.#shared.include?.(word.text, this.#file) ?? "files cannot be included here";
    if (typeof found === "string") {
      this.#report(word.line, `include ${word.text}: ${found}`);
      return [];
    }
    return found.flatMap((source) => {
      if (this.#trail.includes(source.file)) {
        this.#report(word.line, `include: ${[...this.#trail, source.file].join(" includes ")}: a circle`);
        return [];
      }
      if (this.#trail.length > MAX_INCLUDE_DEPTH) {
        this.#report(word.line, `include: files include each other deeper than ${MAX_INCLUDE_DEPTH}`);
        return [];
      }
      if (++this.#shared.files > MAX_FILES) {
        if (this.#shared.files === MAX_FILES + 1) this.#report(word.line, `include: more than ${MAX_FILES} files`);
        return [];
      }
      return parseFile(source, this.#trail, this.#shared);
    });
  }

  #peek(): Token | undefined {
    return this.#tokens[this.#position];
  }

  #next(): Token | undefined {
    return this.#tokens[this.#position++];
  }

  #report(line: number, message: string): void {
    this.#shared.problems.push({ file: this.#file, line, message });
  }
}

function isPunctuation(token: Token, text: ";" | "{" | "}"): boolean {
  return token.kind === "punctuation" && token.text === text;
}

/** Cuts the text into words and punctuation. A `#` begins a comment only where a word could begin, so that `http://a/#b` is one word. */
function readTokens({ file, text }: IncludedFile, problems: ConfigProblem[]): Token[] {
  const tokens: Token[] = [];
  let position = text.charCodeAt(0) === 0xfeff ? 1 : 0; // byte order mark of some editors
  let line = 1;
  let first = true;

  while (position < text.length) {
    const character = text.charAt(position);
    if (character === "\n") {
      line++;
      first = true;
      position++;
    } else if (/\s/.test(character)) {
      position++;
    } else if (character === "#") {
      while (position < text.length && text[position] !== "\n") position++;
    } else if (";{}".includes(character)) {
      tokens.push({ kind: "punctuation", text: character, line, first, variable: false });
      first = false;
      position++;
    } else {
      const { word, variable, end, unclosed } = readWord(text, position);
      if (unclosed)
        problems.push({ file, line, message: `a quote is opened and not closed on this line: ${text.slice(position, end)}` });
      tokens.push({ kind: "word", text: word, line, first, variable });
      first = false;
      position = end;
    }
  }
  return tokens;
}

/** A word: bare parts and quoted parts that touch, as in a shell. A quote ends at the end of its line at the latest. */
function readWord(text: string, start: number): { word: string; variable: boolean; end: number; unclosed: boolean } {
  let word = "";
  let variable = true;
  let position = start;
  while (position < text.length) {
    const character = text.charAt(position);
    if (/\s/.test(character) || character === ";" || character === "}") break;
    if (character === "{") {
      if (text[position - 1] !== "$" || position === start) break;
      const close = text.indexOf("}", position); // ${NAME}
      const end = close === -1 ? text.length : close + 1;
      word += text.slice(position, end);
      position = end;
    } else if (character === '"' || character === "'") {
      if (character === "'") variable = false;
      position++;
      for (;;) {
        const inside = text[position];
        if (inside === undefined || inside === "\n") return { word: word.trimEnd(), variable, end: position, unclosed: true };
        position++;
        if (inside === character) break;
        if (inside === "\\" && character === '"' && '"\\$'.includes(text[position] || "-")) {
          if (text[position] === "$") variable = false; // "\$5": meant as it stands
          word += text.charAt(position++);
        } else word += inside;
      }
    } else if (character === "\\" && /[\s;{}#"'\\]/.test(text[position + 1] ?? "-") && text[position + 1] !== "\n") {
      word += text.charAt(position + 1);
      position += 2;
    } else {
      word += character;
      position++;
    }
  }
  return { word, variable, end: position, unclosed: false };
}
