// Rules of `security { … }`: who may publish and play, by address. The first rule that matches decides; without one it is "no".

import { BlockList, isIP } from "node:net";

export type AccessAction = "publish" | "play";

export type AccessRule = {
  readonly effect: "allow" | "deny";
  readonly action: AccessAction;
  /** `all`, or a network as ADDRESS/BITS; a single address is a network of all its bits. */
  readonly network: string;
};

/** Whether an address may do that. Addresses that make no sense match only `all`. */
export function isAllowed(rules: readonly AccessRule[], action: AccessAction, address: string): boolean {
  const rule = rules.find((candidate) => candidate.action === action && matches(candidate.network, address));
  return rule?.effect === "allow";
}

/** The network of a rule as it stands in a file, in one form: `10.1.2.3` becomes `10.1.2.3/32`. Undefined: it is none. */
export function parseNetwork(word: string): string | undefined {
  if (word === "all") return word;
  const [, host = "", bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(word) ?? [];
  const mapped = MAPPED.exec(host)?.[1];
  if (mapped !== undefined && isIP(mapped) === 4) {
    const width = bits === undefined ? 32 : Number(bits) - 96; // ::ffff:0:0/96 holds all of IPv4
    return width >= 0 && width <= 32 ? `${mapped}/${width}` : undefined;
  }
  const family = isIP(host);
  if (family === 0 || host.includes("%")) return undefined;
  const whole = family === 4 ? 32 : 128;
  const width = bits === undefined ? whole : Number(bits);
  return width <= whole ? `${host.toLowerCase()}/${width}` : undefined;
}

function matches(network: string, address: string): boolean {
  if (network === "all") return true;
  const [bare = ""] = address.split("%", 1); // a link-local address may name its interface
  const plain = MAPPED.exec(bare)?.[1] ?? bare;
  const family = isIP(plain);
  if (family === 0 || isIP(network.split("/", 1)[0] ?? "") !== family) return false; // ::/0 is IPv6 only
  return listOf(network).check(plain, family === 4 ? "ipv4" : "ipv6");
}

/** Networks are few and stay: they come from the configuration. */
function listOf(network: string): BlockList {
  let list = LISTS.get(network);
  if (list === undefined) {
    const [host = "", bits] = network.split("/");
    list = new BlockList();
    list.addSubnet(host, Number(bits), isIP(host) === 4 ? "ipv4" : "ipv6");
    LISTS.set(network, list);
  }
  return list;
}

const LISTS = new Map<string, BlockList>();
const MAPPED = /^::ffff:([\d.]+)$/i;
