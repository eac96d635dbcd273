// What an RTMP client wants, from the pieces of its URL: app and tcUrl of `connect`, the name of `publish` or `play`.

import { ProtocolError } from "../media/errors.js";

export type RtmpTarget = {
  /** As the client named it: a `vhost` parameter, `@vhost`, or the host of tcUrl; may name nothing that is configured. */
  readonly vhost: string;
  readonly app: string;
  readonly stream: string;
  /** Query of app and stream name together, with its `?`, or empty. */
  readonly parameters: string;
};

const MAX_NAME = 255; // of app and stream each; they become paths, labels and log fields
const MAX_QUERY = 4096; // tokens of some services are long, over 1 KiB

/**
 * Understands `app?vhost=v`, `app...vhost...v`, `app@v`, `stream?vhost=v&key=k`, `stream@v`; the later in this list wins.
 * @throws ProtocolError `target-invalid`
 */
export function parseTarget(app: string, tcUrl: string, streamName: string): RtmpTarget {
  const [appPath, appQuery] = cutQuery(app.replace("...vhost...", "?vhost="));
  const [streamPath, streamQuery] = cutQuery(streamName);
  const [appName, appAt] = cutAt(appPath);
  const [stream, streamAt] = cutAt(streamPath);
  const query = [appQuery, streamQuery].filter((part) => part !== "").join("&");
  if (query.length > MAX_QUERY) throw new ProtocolError("target-invalid", `a query of ${query.length} characters`);
  const vhost =
    vhostParameter(streamQuery) ??
    streamAt ??
    vhostParameter(appQuery) ??
    appAt ??
    vhostParameter(cutQuery(tcUrl)[1]) ??
    hostOf(tcUrl);
  return {
    vhost: vhost.slice(0, MAX_NAME),
    app: checkName("app", trimSlashes(appName)),
    stream: checkName("stream name", trimSlashes(stream)),
    parameters: query === "" ? "" : `?${query}`,
  };
}

function cutQuery(text: string): [string, string] {
  const at = text.indexOf("?");
  return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function cutAt(path: string): [string, string | undefined] {
  const at = path.lastIndexOf("@");
  return at < 1 || at === path.length - 1 ? [path, undefined] : [path.slice(0, at), path.slice(at + 1)];
}

function vhostParameter(query: string): string | undefined {
  const parameters = new URLSearchParams(query);
  const vhost = parameters.get("vhost") ?? parameters.get("domain");
  // `rtmp://host/app?vhost=v/stream` arrives in some clients' tcUrl as a whole: the name ends at the slash
  return vhost === null || vhost === "" ? undefined : vhost.split("/")[0];
}

function hostOf(tcUrl: string): string {
  const match = /^[a-z]+:\/\/(\[[^\]]*\]|[^/:?]*)/i.exec(tcUrl);
  return match?.[1] ?? "";
}

function trimSlashes(path: string): string {
  return path.replace(/^\/+|\/+$/g, "");
}

function checkName(what: string, name: string): string {
  if (name === "") throw new ProtocolError("target-invalid", `the ${what} is empty`);
  if (name.length > MAX_NAME)
    throw new ProtocolError("target-invalid", `the ${what} has ${name.length} characters, over ${MAX_NAME}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be in a name
  if (/[\u0000-\u001f\u007f\\]/.test(name))
    throw new ProtocolError("target-invalid", `the ${what} has control characters or backslashes`);
  for (const part of name.split("/")) {
    if (part === "" || part === "." || part === "..")
      throw new ProtocolError("target-invalid", `the ${what} is not a plain path: ${name}`);
  }
  return name;
}
