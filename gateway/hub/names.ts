// What streams and sessions are called where people read it: log lines, messages, the API.

import { createHash } from "node:crypto";

import { DEFAULT_VHOST } from "../config/config.js";
import { Refusal } from "../media/errors.js";
import type { StreamName } from "./types.js";

/** `app/stream`, with the vhost before it only when it is not the default one. */
export function displayName({ vhost, app, stream }: StreamName): string {
  return vhost === DEFAULT_VHOST ? `${app}/${stream}` : `${vhost}/${app}/${stream}`;
}

/**
 * The id of a session that may be shown: log lines and the API have the same one. Made from the session's own id, which may not be
 * shown: who knows the id of a WHIP or WHEP session can end it.
 */
export function shownId(sessionId: string): string {
  return createHash("sha256").update(sessionId).digest("hex").slice(0, 10);
}

/** Longest app, stream or vhost, in characters: a file name's limit, since recordings are named after them. */
const MAX_NAME = 255;
/** Control characters of ASCII and Unicode, and what a percent-encoding that is not UTF-8 decodes to. */
const NOT_IN_NAMES = /[\p{Cc}\u2028\u2029\ufffd]/u;

/** An app, stream or vhost that came in a URL. @throws Refusal `bad-request` naming it by `key` */
export function checkName(key: string, value: string): string {
  if (value.length > MAX_NAME) throw new Refusal("bad-request", `${key}: longer than ${MAX_NAME} characters.`);
  if (NOT_IN_NAMES.test(value)) throw new Refusal("bad-request", `${key}: holds a character that no name may hold.`);
  if (value.split(/[/\\]/).includes("..")) throw new Refusal("bad-request", `${key}: ".." is no part of a name.`);
  return value;
}
