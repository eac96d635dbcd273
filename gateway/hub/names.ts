// What streams and sessions are called where people read it: log lines, messages, the API.

import { createHash } from "node:crypto";

import { DEFAULT_VHOST } from "../config/config.js";
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
