// What the files of a packaged stream are called, in playlists, in requests and on disk: `livestream-TOKEN-12.m4s`. The token is another
// one each time a stream is packaged anew, so that a name means the same bytes for ever and caches can keep them.

import type { SegmentFormat } from "../media/packager.js";

export type FileKind = "segment" | "part" | "initialization" | "key";

/** A file's name taken apart. */
export type FileName = { readonly stream: string; readonly token: string; readonly kind: FileKind; readonly number: number };

const LETTERS: Readonly<Record<FileKind, string>> = { segment: "", part: "p", initialization: "i", key: "k" };
const KINDS: Readonly<Record<string, FileKind>> = { "": "segment", p: "part", i: "initialization", k: "key" };

export function fileName(stream: string, token: string, kind: FileKind, number: number, format: SegmentFormat): string {
  return `${stream}-${token}-${LETTERS[kind]}${number}.${endingOf(kind, format)}`;
}

function endingOf(kind: FileKind, format: SegmentFormat): string {
  if (kind === "key") return "key";
  if (kind === "initialization") return "mp4";
  return format === "ts" ? "ts" : "m4s";
}

/** @returns undefined when it is no name of ours */
export function parseFileName(name: string): FileName | undefined {
  const [, stream, token, letter, digits, ending] = PATTERN.exec(name) ?? [];
  const kind = KINDS[letter ?? ""];
  if (stream === undefined || token === undefined || kind === undefined) return undefined;
  if ((kind === "key") !== (ending === "key") || (kind === "initialization") !== (ending === "mp4")) return undefined;
  return { stream, token, kind, number: Number(digits) };
}

export const TOKEN_LENGTH = 8;
const PATTERN = /^(.+)-([0-9a-z]{8})-([pik]?)(0|[1-9]\d{0,14})\.(m4s|ts|mp4|key)$/s;
