// A self-signed certificate for HTTPS (X.509 version 3, RFC 5280; DER, ITU-T X.690), made when none is configured, and kept.

import { createPrivateKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";

export type PemPair = { readonly key: string; readonly cert: string };

const DAY = 86_400_000;
/** 397 days: what browsers and Apple's systems accept of any certificate. */
const LIFETIME = 397 * DAY;
/** A kept certificate that ends sooner is made anew at the next start. */
const RENEW_BEFORE = 30 * DAY;

/**
 * The pair kept in `folder`, or a new one that is kept there. Browsers warn of it until it is trusted by hand.
 *
 * @param now milliseconds since 1970
 * @returns the pair, and the certificate's file; no file: the folder cannot be written, the pair lives as long as the process
 */
export async function keptSelfSigned(folder: string, now: number): Promise<PemPair & { readonly file?: string }> {
  const [keyFile, file] = [join(folder, "self-signed.key"), join(folder, "self-signed.crt")];
  try {
    const kept = { key: await readFile(keyFile, "utf8"), cert: await readFile(file, "utf8") };
    if (isUsable(kept, now)) return { ...kept, file };
  } catch {
    // None yet, or not to be read: made below.
  }
  const made = makeSelfSigned(namesOfThisMachine(), now);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(keyFile, made.key, { mode: 0o600 });
    await writeFile(file, made.cert);
  } catch {
    return made;
  }
  return { ...made, file };
}

function isUsable({ key, cert }: PemPair, now: number): boolean {
  const certificate = new X509Certificate(cert);
  return certificate.checkPrivateKey(createPrivateKey(key)) && Date.parse(certificate.validTo) - now > RENEW_BEFORE;
}

function namesOfThisMachine(): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const usable = addresses.filter(({ scopeid, family }) => family === "IPv4" || scopeid === 0).map(({ address }) => address);
  return [...new Set(["localhost", hostname(), "127.0.0.1", "::1", ...usable])];
}

/** @param names DNS names and IP addresses it is valid for; @param now milliseconds since 1970 */
export function makeSelfSigned(names: readonly string[], now: number): PemPair {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = sequence(set(sequence(oid("2.5.4.3"), tlv(UTF8_STRING, Buffer.from("Sluice, self-signed"))))); // commonName
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive, and no leading zero byte
  const signatureAlgorithm = sequence(oid("1.2.840.10045.4.3.2")); // ecdsa-with-SHA256
  const body = sequence(
    tlv(0xa0, tlv(INTEGER, Buffer.from([2]))), // version 3
    tlv(INTEGER, serial),
    signatureAlgorithm,
    name, // issuer
    sequence(time(now - DAY), time(now + LIFETIME)), // a day early, for clocks that are late
    name, // subject
    publicKey.export({ type: "spki", format: "der" }),
    tlv(
      0xa3,
      sequence(
        extension("2.5.29.19", sequence(tlv(BOOLEAN, TRUE)), "critical"), // basicConstraints cA: it can be imported as trusted
        extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.1"))), // extKeyUsage serverAuth
        extension("2.5.29.17", sequence(...names.map(alternativeName))),
      ),
    ),
  );
  const signature = tlv(BIT_STRING, Buffer.from([0]), sign("sha256", body, privateKey));
  const certificate = sequence(body, signatureAlgorithm, signature);
  const base64 = certificate.toString("base64").replace(/.{1,64}/g, "$&\n");
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
    cert: `-----BEGIN CERTIFICATE-----\n${base64}-----END CERTIFICATE-----\n`,
  };
}

const BOOLEAN = 0x01;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const UTF8_STRING = 0x0c;
const UTC_TIME = 0x17;
const SEQUENCE = 0x30;
const SET = 0x31;
const TRUE = Buffer.from([0xff]);

function tlv(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  if (length < 0x100) return Buffer.concat([Buffer.from([tag, 0x81, length]), content]);
  return Buffer.concat([Buffer.from([tag, 0x82, length >> 8, length & 0xff]), content]); // certificates stay under 64 KiB
}

function sequence(...contents: readonly Buffer[]): Buffer {
  return tlv(SEQUENCE, ...contents);
}

function set(...contents: readonly Buffer[]): Buffer {
  return tlv(SET, ...contents);
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split(".").map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const septets = [part & 0x7f];
    for (let left = part >> 7; left > 0; left >>= 7) septets.unshift((left & 0x7f) | 0x80);
    bytes.push(...septets);
  }
  return tlv(OBJECT_IDENTIFIER, Buffer.from(bytes));
}

/** YYMMDDHHMMSSZ; RFC 5280 wants this form until 2049. */
function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replace(/\D/g, "");
  return tlv(UTC_TIME, Buffer.from(`${digits.slice(2, 14)}Z`));
}

function extension(id: string, value: Buffer, critical?: "critical"): Buffer {
  return sequence(oid(id), ...(critical ? [tlv(BOOLEAN, TRUE)] : []), tlv(OCTET_STRING, value));
}

/** GeneralName: [2] dNSName or [7] iPAddress. */
function alternativeName(name: string): Buffer {
  if (isIP(name) === 0) return tlv(0x82, Buffer.from(name, "latin1"));
  return tlv(0x87, isIP(name) === 4 ? Buffer.from(name.split(".").map(Number)) : ipv6Bytes(name));
}

function ipv6Bytes(address: string): Buffer {
  const [head = "", tail] = address.split("::", 2);
  const words = (text: string) => (text === "" ? [] : text.split(":").map((word) => Number.parseInt(word, 16)));
  const [front, back] = [words(head), words(tail ?? "")];
  const all = [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Buffer.from(all.flatMap((word) => [word >> 8, word & 0xff]));
}
