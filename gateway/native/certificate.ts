// A self-signed certificate for DTLS (RFC 8827 section 6.5: the fingerprint in the SDP is what vouches for it).

import { randomBytes } from "node:crypto";

import type { Address } from "./library.js";
import { type OpenSsl, takeError } from "./openssl.js";

/** Both are owned by the holder: X509_free, EVP_PKEY_free. */
export type Certificate = { readonly certificate: Address; readonly key: Address };

/** @param ecdsa P-256 when true, else RSA with 2,048 bits */
export function createCertificate(openssl: OpenSsl, ecdsa: boolean): Certificate {
  const key = createKey(openssl, ecdsa);
  const certificate = openssl.X509_new();
  const name = openssl.X509_get_subject_name(certificate);
  const serial = randomBytes(6).readUIntBE(0, 6) + 1; // positive, and 48 bits fit a number
  const done =
    certificate !== 0 &&
    openssl.X509_set_version(certificate, 2) === 1 &&
    openssl.ASN1_INTEGER_set_uint64(openssl.X509_get_serialNumber(certificate), serial) === 1 &&
    openssl.X509_gmtime_adj(openssl.X509_getm_notBefore(certificate), -DAY) !== 0 &&
    openssl.X509_gmtime_adj(openssl.X509_getm_notAfter(certificate), LIFETIME) !== 0 &&
    openssl.X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, COMMON_NAME, COMMON_NAME.length, -1, 0) === 1 &&
    openssl.X509_set_issuer_name(certificate, name) === 1 &&
    openssl.X509_set_pubkey(certificate, key) === 1 &&
    openssl.X509_sign(certificate, key, openssl.EVP_get_digestbyname("SHA256")) > 0;
  if (!done) {
    openssl.X509_free(certificate);
    openssl.EVP_PKEY_free(key);
    throw new Error(`cannot make a certificate: ${takeError(openssl, "unknown reason")}`);
  }
  openssl.ERR_clear_error();
  return { certificate, key };
}

/** @returns the certificate's digest in the form of RFC 8122 section 5, `AB:CD:…`, or undefined when OpenSSL lacks the digest */
export function fingerprintOf(openssl: OpenSsl, certificate: Address, digestName: string): string | undefined {
  const digest = openssl.EVP_get_digestbyname(digestName);
  const output = Buffer.alloc(MAX_DIGEST);
  const length = Buffer.alloc(4);
  if (digest === 0 || openssl.X509_digest(certificate, digest, output, length) !== 1) return undefined;
  const hex = output.toString("hex", 0, length.readUInt32LE(0)).toUpperCase();
  return hex.replace(/..(?!$)/g, "$&:");
}

function createKey(openssl: OpenSsl, ecdsa: boolean): Address {
  const context = openssl.EVP_PKEY_CTX_new_id(ecdsa ? EVP_PKEY_EC : EVP_PKEY_RSA, 0);
  const place = Buffer.alloc(8); // EVP_PKEY *, NULL before the call
  const done =
    context !== 0 &&
    openssl.EVP_PKEY_keygen_init(context) === 1 &&
    (ecdsa
      ? openssl.EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_P256) === 1
      : openssl.EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048) === 1) &&
    openssl.EVP_PKEY_keygen(context, place) === 1;
  openssl.EVP_PKEY_CTX_free(context);
  if (!done) throw new Error(`cannot make a key: ${takeError(openssl, "unknown reason")}`);
  return Number(place.readBigUInt64LE(0));
}

const EVP_PKEY_RSA = 6; // NID_rsaEncryption, obj_mac.h
const EVP_PKEY_EC = 408; // NID_X9_62_id_ecPublicKey
const NID_P256 = 415; // NID_X9_62_prime256v1
const MBSTRING_ASC = 0x1001; // asn1.h
const MAX_DIGEST = 64; // EVP_MAX_MD_SIZE, evp.h
const DAY = 86_400; // seconds; clocks of peers are off by hours at times
const LIFETIME = 365 * DAY; // the certificate lives as long as the process, and nobody checks
const COMMON_NAME = "sluice";
