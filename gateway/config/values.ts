// Parsers of directives' values: words of a file or of the environment in, typed values out. Times leave in milliseconds.

import { isIP } from "node:net";

import { type AccessAction, type AccessRule, parseNetwork } from "./access.js";
import type { ListenAddress } from "./config.js";
import { nearestName } from "./errors.js";

/** A value that does not fit; the message says what was expected and is completed by the place it stands at. */
export class ValueError extends Error {
  override readonly name = "ValueError";
}

export type ValueParser<T> = {
  /** What may stand there, for the manual: `on or off`. */
  readonly expected: string;
  parse(words: readonly string[]): T;
};

/** `on` or `off`. */
export const flag: ValueParser<boolean> = {
  expected: "on or off",
  parse: (words) => choice("on", "off").parse(words) === "on",
};

/** One of some words; `synonyms` are read as the word they stand for. */
export function choice<const T extends string>(...allowed: readonly T[]): ValueParser<T> {
  return choiceWith({}, ...allowed);
}

export function choiceWith<const T extends string>(
  synonyms: Readonly<Record<string, T>>,
  ...allowed: readonly T[]
): ValueParser<T> {
  const expected = allowed.length === 2 ? allowed.join(" or ") : `one of ${allowed.join(", ")}`;
  return {
    expected,
    parse(words) {
      const word = single(words, expected);
      const found = allowed.find((item) => item === word) ?? synonyms[word];
      if (found !== undefined) return found;
      const near = nearestName(word, allowed);
      throw new ValueError(`expected ${expected}, got "${word}"${near === undefined ? "" : `; did you mean "${near}"?`}`);
    },
  };
}

export function integer(minimum: number, maximum: number, unit = ""): ValueParser<number> {
  return numeric(minimum, maximum, `a whole number from ${minimum} to ${maximum}${unit && ` (${unit})`}`, /^\d{1,15}$/, 1);
}

export const milliseconds = (minimum: number, maximum: number): ValueParser<number> => integer(minimum, maximum, "milliseconds");

/** Seconds in the file, with a fraction if need be; milliseconds in the configuration. */
export function seconds(minimum: number, maximum: number): ValueParser<number> {
  return numeric(minimum, maximum, `seconds from ${minimum} to ${maximum}`, /^(\d{1,9}(\.\d{0,6})?|\.\d{1,6})$/, 1000);
}

/** One word of any kind; `""` for none. */
export const text: ValueParser<string> = {
  expected: "one word, or quoted text",
  parse: (words) => single(words, "one word, or quoted text"),
};

/** Where streams are found over HTTP: `[vhost]/[app]/[stream].flv`. */
export const mountPath: ValueParser<string> = {
  expected: "a path with [stream] that ends in .flv",
  parse(words) {
    const word = single(words, mountPath.expected);
    const names: string[] = word.match(/\[[^\]]*\]/g) ?? [];
    const isKnown = names.every((name) => name === "[vhost]" || name === "[app]" || name === "[stream]");
    const isOnce = new Set(names).size === names.length;
    if (isKnown && isOnce && names.includes("[stream]") && word.lastIndexOf("[vhost]") <= 1 && word.endsWith(".flv")) return word;
    throw new ValueError(`expected ${mountPath.expected}, got "${word}"`);
  },
};

/** Words of any kind; `""` for none. */
export const texts: ValueParser<readonly string[]> = {
  expected: "one or more words",
  parse(words) {
    if (words.length === 0) throw new ValueError("expected one or more words, got none");
    return words.filter((word) => word !== "");
  },
};

/** URLs of http or https. */
export const urls: ValueParser<readonly string[]> = {
  expected: "one or more URLs, http://… or https://…",
  parse(words) {
    const given = words.filter((word) => word !== "");
    for (const word of given) {
      if (!/^https?:\/\/[^/]/i.test(word) || !URL.canParse(word))
        throw new ValueError(`expected ${urls.expected}, got "${word}"`);
    }
    if (words.length === 0) throw new ValueError(`expected ${urls.expected}, got none`);
    return given;
  },
};

/** Addresses to listen at: `PORT`, `IP:PORT`, `[v6]:PORT`, several if need be. Port 0 takes any free one. */
export const addresses: ValueParser<readonly ListenAddress[]> = {
  expected: "PORT, IP:PORT or [IPv6]:PORT, one or several",
  parse(words) {
    if (words.length === 0) throw new ValueError(`expected ${addresses.expected}, got none`);
    const seen = new Set<string>();
    return words.map((word) => {
      const address = parseAddress(word);
      const key = `${address.host ?? "*"} ${address.port}`;
      if (seen.has(key) && address.port !== 0) throw new ValueError(`"${word}" stands there twice`);
      seen.add(key);
      return address;
    });
  },
};

/** Who a `candidate` may be: `*`, an address or a host name. Forms that mean "detect" all become `*`. */
export const candidates: ValueParser<readonly string[]> = {
  expected: "*, IP addresses or host names",
  parse(words) {
    const given = words.flatMap((word) => word.split(",")).filter((word) => word !== "");
    if (given.length === 0) return ["*"];
    return given.map((word) => {
      if (word === "*" || word === "0.0.0.0" || word === "::") return "*";
      const bare = /^\[(.*)\]$/.exec(word)?.[1] ?? word;
      if (isIP(bare) !== 0) return bare;
      if (/^\d+(\.\d+){3}$/.test(bare) || !HOST_NAME.test(bare)) {
        throw new ValueError(`expected ${candidates.expected} (no port, no URL), got "${word}"`);
      }
      return bare;
    });
  },
};

/** Rules of `security`: what, then from where; one directive may hold several: `publish 10.0.0.0/8 192.0.2.1 play all`. */
export function accessRules(effect: AccessRule["effect"]): ValueParser<readonly AccessRule[]> {
  const expected = "publish or play, then all, IP addresses or networks (10.0.0.0/8)";
  return {
    expected,
    parse(words) {
      const rules: AccessRule[] = [];
      let action: AccessAction | undefined;
      let isComplete = false;
      for (const word of words) {
        if (word === "publish" || word === "play") {
          if (action !== undefined && !isComplete) throw new ValueError(`expected ${expected}, got nothing after "${action}"`);
          [action, isComplete] = [word, false];
          continue;
        }
        if (action === undefined) {
          const near = nearestName(word, ["publish", "play"]);
          throw new ValueError(`expected ${expected}, got "${word}"${near === undefined ? "" : `; did you mean "${near}"?`}`);
        }
        const network = parseNetwork(word);
        if (network === undefined) throw new ValueError(`expected ${expected}, got "${word}" after "${action}"`);
        rules.push({ effect, action, network });
        isComplete = true;
      }
      if (!isComplete)
        throw new ValueError(`expected ${expected}, got ${action === undefined ? "nothing" : `nothing after "${action}"`}`);
      return rules;
    },
  };
}

const HOST_NAME = /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?$/;

function parseAddress(word: string): ListenAddress {
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]:|([^:]*):)?(\d{1,9})$/.exec(word) ?? [];
  if (port === undefined) {
    const hint =
      isIP(word) === 6 ? `; an IPv6 address stands in brackets: [${word}]:PORT` : isIP(word) === 4 ? "; the port is missing" : "";
    throw new ValueError(`expected ${addresses.expected}, got "${word}"${hint}`);
  }
  const host = bracketed ?? plain;
  if (Number(port) > 65535) throw new ValueError(`expected a port from 0 to 65535, got "${port}"`);
  if (host === undefined || host === "*" || host === "") return { host: undefined, port: Number(port) };
  if (isIP(host) !== (bracketed === undefined ? 4 : 6)) {
    throw new ValueError(`expected ${addresses.expected}, got "${word}": "${host}" is no IP address`);
  }
  return { host, port: Number(port) };
}

function single(words: readonly string[], expected: string): string {
  const [word] = words;
  if (word === undefined) throw new ValueError(`expected ${expected}, got nothing`);
  if (words.length > 1) throw new ValueError(`expected ${expected}, got ${words.length} values: ${words.join(" ")}`);
  return word;
}

function numeric(minimum: number, maximum: number, expected: string, form: RegExp, factor: number): ValueParser<number> {
  return {
    expected,
    parse(words) {
      const word = single(words, expected);
      const value = Number(word);
      if (!form.test(word) || value < minimum || value > maximum) throw new ValueError(`expected ${expected}, got "${word}"`);
      return Math.round(value * factor);
    },
  };
}
