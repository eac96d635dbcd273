import assert from "node:assert/strict";
import { test } from "node:test";

import { type AccessRule, isAllowed, parseNetwork } from "../../gateway/config/access.js";

/** `allow play 10.0.0.0/8` as a rule. */
function rule(text: string): AccessRule {
  const [effect, action, word = ""] = text.split(" ");
  const network = parseNetwork(word);
  assert.ok(
    (effect === "allow" || effect === "deny") && (action === "publish" || action === "play") && network !== undefined,
    text,
  );
  return { effect, action, network };
}

test("the first rule that matches decides, and without one it is no", () => {
  const cases: readonly (readonly [rules: string, address: string, allowed: boolean])[] = [
    ["", "10.0.0.1", false],
    ["allow play all", "10.0.0.1", true],
    ["allow publish all", "10.0.0.1", false],
    ["deny play 10.0.0.1, allow play all", "10.0.0.1", false],
    ["deny play 10.0.0.1, allow play all", "10.0.0.2", true],
    ["allow play 10.0.0.1, deny play 10.0.0.0/8, allow play all", "10.0.0.1", true],
    ["allow play 10.0.0.1, deny play 10.0.0.0/8, allow play all", "10.255.255.255", false],
    ["allow play 10.0.0.1, deny play 10.0.0.0/8, allow play all", "11.0.0.0", true],
    ["allow play all, deny play 10.0.0.1", "10.0.0.1", true],
    ["deny publish all, allow play all", "10.0.0.1", true],
  ];
  for (const [rules, address, allowed] of cases) {
    assert.equal(isAllowed(rules === "" ? [] : rules.split(", ").map(rule), "play", address), allowed, `${rules}: ${address}`);
  }
});

test("networks hold the addresses they hold", () => {
  const cases: readonly (readonly [network: string, inside: readonly string[], outside: readonly string[]])[] = [
    ["192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1"], ["192.0.2.2", "::192.0.2.1", "2001:db8::1"]],
    ["192.0.2.129/25", ["192.0.2.128", "192.0.2.255"], ["192.0.2.127", "192.0.3.128"]],
    ["192.0.2.0/31", ["192.0.2.0", "192.0.2.1"], ["192.0.2.2"]],
    ["0.0.0.0/0", ["1.2.3.4", "255.255.255.255", "::ffff:1.2.3.4"], ["::1", "2001:db8::1"]],
    ["::/0", ["::1", "2001:db8::1"], ["1.2.3.4", "::ffff:1.2.3.4"]],
    ["2001:db8::/33", ["2001:db8::1", "2001:DB8:7fff::"], ["2001:db8:8000::", "2001:db9::"]],
    ["2001:db8:0:0::1", ["2001:db8::1", "2001:0db8:0:0:0:0:0:1"], ["2001:db8::2"]],
    ["fe80::/10", ["fe80::1", "fe80::1%eth0", "febf::1"], ["fec0::1"]],
    ["::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.1"]],
    ["::ffff:10.0.0.1", ["10.0.0.1"], ["10.0.0.2"]],
    ["all", ["1.2.3.4", "::1", "", "nonsense"], []],
    ["127.0.0.0/8", ["127.0.0.1"], ["", "nonsense", "127.0.0.1.5", "localhost"]],
  ];
  for (const [network, inside, outside] of cases) {
    const rules = [rule(`allow publish ${network}`)];
    for (const address of inside) assert.equal(isAllowed(rules, "publish", address), true, `${address} is in ${network}`);
    for (const address of outside) assert.equal(isAllowed(rules, "publish", address), false, `${address} is not in ${network}`);
  }
});

test("what is no network is not taken for one", () => {
  for (const word of [
    "",
    "/",
    "10.0.0.0/",
    "/8",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/8/8",
    "10.0.0",
    "010.0.0.1",
    "::/129",
  ]) {
    assert.equal(parseNetwork(word), undefined, word);
  }
  for (const word of ["ALL", "*", "localhost", "[::1]", "fe80::1%eth0", "::ffff:10.0.0.0/95", "::ffff:10.0.0.300"]) {
    assert.equal(parseNetwork(word), undefined, word);
  }
});
