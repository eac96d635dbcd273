import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { keptSelfSigned, makeSelfSigned } from "../../gateway/http/self-signed.js";

const NOW = Date.UTC(2026, 5, 1);
const DAY = 86_400_000;

test("is valid for its names and addresses, signed by itself, for 397 days", () => {
  const { key, cert } = makeSelfSigned(["localhost", "media.example", "192.0.2.1", "fd00::2", "::1", "::"], NOW);
  const certificate = new X509Certificate(cert);
  assert.ok(certificate.verify(certificate.publicKey));
  assert.ok(certificate.checkPrivateKey(createPrivateKey(key)));
  assert.equal(certificate.checkHost("media.example"), "media.example");
  assert.equal(certificate.checkHost("other.example"), undefined);
  for (const address of ["192.0.2.1", "fd00::2", "::1", "::"]) assert.equal(certificate.checkIP(address), address);
  assert.equal(certificate.checkIP("192.0.2.2"), undefined);
  assert.ok(certificate.ca);
  assert.equal(Date.parse(certificate.validFrom), NOW - DAY);
  assert.equal(Date.parse(certificate.validTo), NOW + 397 * DAY);
});

test("survives a hundred serial numbers", () => {
  for (let i = 0; i < 100; i++)
    assert.ok(new X509Certificate(makeSelfSigned(["localhost"], NOW).cert).serialNumber.length === 32);
});

test("is kept with a key that only its owner reads, renewed before it ends, and remade when damaged", async (t) => {
  const folder = join(mkdtempSync(join(tmpdir(), "sluice-kept-")), "inner");
  t.after(() => rmSync(join(folder, ".."), { recursive: true }));
  const first = await keptSelfSigned(folder, NOW);
  assert.equal(statSync(join(folder, "self-signed.key")).mode & 0o777, 0o600);
  assert.equal((await keptSelfSigned(folder, NOW + 300 * DAY)).cert, first.cert);
  const renewed = await keptSelfSigned(folder, NOW + 380 * DAY);
  assert.notEqual(renewed.cert, first.cert);
  writeFileSync(join(folder, "self-signed.crt"), "damaged");
  const remade = await keptSelfSigned(folder, NOW + 380 * DAY);
  assert.ok(new X509Certificate(remade.cert));
});

test("works without a place to keep it", async () => {
  const { cert, file } = await keptSelfSigned("/dev/null/nowhere", NOW);
  assert.equal(file, undefined);
  assert.ok(new X509Certificate(cert));
});
