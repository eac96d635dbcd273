// OpenSSL 3 as a table of functions: Node's own statically linked copy, whose symbols Node exports, or the system's libraries.
//
// Each entry stands below its C prototype. "Owned" means the caller frees it with the function named; "borrowed" means it lives as
// long as the object it came from. Functions return 1 for success unless said otherwise.

import { type Address, bindFirst, NativeUnavailable } from "./library.js";

export type OpenSsl = {
  // unsigned long OpenSSL_version_num(void)
  OpenSSL_version_num(): number;
  // void ERR_clear_error(void): Node shares this thread's error queue and must find it as it left it
  ERR_clear_error(): void;
  // unsigned long ERR_get_error(void): takes the oldest error, 0 when there is none
  ERR_get_error(): number;
  // void ERR_error_string_n(unsigned long e, char *buf, size_t len): writes a NUL-terminated text
  ERR_error_string_n(error: number, text: Buffer, length: number): void;

  // EVP_PKEY_CTX *EVP_PKEY_CTX_new_id(int id, ENGINE *e): owned, EVP_PKEY_CTX_free
  EVP_PKEY_CTX_new_id(id: number, engine: Address): Address;
  // void EVP_PKEY_CTX_free(EVP_PKEY_CTX *ctx)
  EVP_PKEY_CTX_free(context: Address): void;
  // int EVP_PKEY_keygen_init(EVP_PKEY_CTX *ctx)
  EVP_PKEY_keygen_init(context: Address): number;
  // int EVP_PKEY_CTX_set_ec_paramgen_curve_nid(EVP_PKEY_CTX *ctx, int nid)
  EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context: Address, nid: number): number;
  // int EVP_PKEY_CTX_set_rsa_keygen_bits(EVP_PKEY_CTX *ctx, int bits)
  EVP_PKEY_CTX_set_rsa_keygen_bits(context: Address, bits: number): number;
  // int EVP_PKEY_keygen(EVP_PKEY_CTX *ctx, EVP_PKEY **ppkey): writes an owned key, EVP_PKEY_free; the pointer must be NULL before
  EVP_PKEY_keygen(context: Address, key: Buffer): number;
  // void EVP_PKEY_free(EVP_PKEY *key): drops one reference; SSL_CTX_use_PrivateKey holds its own
  EVP_PKEY_free(key: Address): void;

  // X509 *X509_new(void): owned, X509_free
  X509_new(): Address;
  // void X509_free(X509 *a): drops one reference; SSL_CTX_use_certificate holds its own
  X509_free(certificate: Address): void;
  // int X509_set_version(X509 *x, long version): 2 means v3
  X509_set_version(certificate: Address, version: number): number;
  // ASN1_INTEGER *X509_get_serialNumber(X509 *x): borrowed
  X509_get_serialNumber(certificate: Address): Address;
  // int ASN1_INTEGER_set_uint64(ASN1_INTEGER *a, uint64_t r)
  ASN1_INTEGER_set_uint64(integer: Address, value: number): number;
  // ASN1_TIME *X509_getm_notBefore(const X509 *x): borrowed
  X509_getm_notBefore(certificate: Address): Address;
  // ASN1_TIME *X509_getm_notAfter(const X509 *x): borrowed
  X509_getm_notAfter(certificate: Address): Address;
  // ASN1_TIME *X509_gmtime_adj(ASN1_TIME *s, long adj): seconds from now; returns s, NULL on failure
  X509_gmtime_adj(time: Address, seconds: number): Address;
  // X509_NAME *X509_get_subject_name(const X509 *a): borrowed
  X509_get_subject_name(certificate: Address): Address;
  // int X509_NAME_add_entry_by_txt(X509_NAME *name, const char *field, int type, const unsigned char *bytes, int len, int loc, int set)
  X509_NAME_add_entry_by_txt(
    name: Address,
    field: string,
    type: number,
    bytes: string,
    length: number,
    location: number,
    set: number,
  ): number;
  // int X509_set_issuer_name(X509 *x, const X509_NAME *name): copies the name
  X509_set_issuer_name(certificate: Address, name: Address): number;
  // int X509_set_pubkey(X509 *x, EVP_PKEY *pkey): copies the public half
  X509_set_pubkey(certificate: Address, key: Address): number;
  // int X509_sign(X509 *x, EVP_PKEY *pkey, const EVP_MD *md): returns the signature's length, 0 on failure
  X509_sign(certificate: Address, key: Address, digest: Address): number;
  // int X509_digest(const X509 *data, const EVP_MD *type, unsigned char *md, unsigned int *len): md has room for 64 bytes
  X509_digest(certificate: Address, digest: Address, output: Buffer, length: Buffer): number;
  // X509 *X509_STORE_CTX_get0_cert(const X509_STORE_CTX *ctx): borrowed, the peer's leaf
  X509_STORE_CTX_get0_cert(store: Address): Address;
  // void X509_STORE_CTX_set_error(X509_STORE_CTX *ctx, int s): decides which alert the peer gets
  X509_STORE_CTX_set_error(store: Address, error: number): void;

  // const EVP_MD *EVP_get_digestbyname(const char *name): static, NULL when unknown
  EVP_get_digestbyname(name: string): Address;

  // const SSL_METHOD *DTLS_method(void): static
  DTLS_method(): Address;
  // SSL_CTX *SSL_CTX_new(const SSL_METHOD *method): owned, SSL_CTX_free
  SSL_CTX_new(method: Address): Address;
  // void SSL_CTX_free(SSL_CTX *ctx): drops one reference; every SSL holds its own
  SSL_CTX_free(context: Address): void;
  // long SSL_CTX_ctrl(SSL_CTX *ctx, int cmd, long larg, void *parg)
  SSL_CTX_ctrl(context: Address, command: number, value: number, pointer: Buffer | null): number;
  // uint64_t SSL_CTX_set_options(SSL_CTX *ctx, uint64_t op): returns the new set (declared int here: unused)
  SSL_CTX_set_options(context: Address, options: number): number;
  // int SSL_CTX_use_certificate(SSL_CTX *ctx, X509 *x)
  SSL_CTX_use_certificate(context: Address, certificate: Address): number;
  // int SSL_CTX_use_PrivateKey(SSL_CTX *ctx, EVP_PKEY *pkey)
  SSL_CTX_use_PrivateKey(context: Address, key: Address): number;
  // int SSL_CTX_set_cipher_list(SSL_CTX *ctx, const char *str)
  SSL_CTX_set_cipher_list(context: Address, list: string): number;
  // int SSL_CTX_set_tlsext_use_srtp(SSL_CTX *ctx, const char *profiles): returns 0 (!) for success
  SSL_CTX_set_tlsext_use_srtp(context: Address, profiles: string): number;
  // void SSL_CTX_set_verify(SSL_CTX *ctx, int mode, SSL_verify_cb verify_callback)
  SSL_CTX_set_verify(context: Address, mode: number, callback: Address): void;
  // void SSL_CTX_set_cert_verify_callback(SSL_CTX *ctx, int (*cb)(X509_STORE_CTX *, void *), void *arg): cb must outlive ctx
  SSL_CTX_set_cert_verify_callback(context: Address, callback: bigint, argument: Address): void;

  // SSL *SSL_new(SSL_CTX *ctx): owned, SSL_free
  SSL_new(context: Address): Address;
  // void SSL_free(SSL *ssl): frees its BIOs too
  SSL_free(ssl: Address): void;
  // long SSL_ctrl(SSL *ssl, int cmd, long larg, void *parg)
  SSL_ctrl(ssl: Address, command: number, value: number, pointer: Buffer | null): number;
  // void SSL_set_bio(SSL *s, BIO *rbio, BIO *wbio): takes both over
  SSL_set_bio(ssl: Address, read: Address, write: Address): void;
  // void SSL_set_accept_state(SSL *s)
  SSL_set_accept_state(ssl: Address): void;
  // void SSL_set_connect_state(SSL *s)
  SSL_set_connect_state(ssl: Address): void;
  // int SSL_do_handshake(SSL *s): 1 when done, else ask SSL_get_error
  SSL_do_handshake(ssl: Address): number;
  // int SSL_read(SSL *ssl, void *buf, int num): bytes read, <= 0: ask SSL_get_error
  SSL_read(ssl: Address, buffer: Buffer, length: number): number;
  // int SSL_shutdown(SSL *s): sends close_notify
  SSL_shutdown(ssl: Address): number;
  // int SSL_get_error(const SSL *s, int ret)
  SSL_get_error(ssl: Address, result: number): number;
  // int SSL_alloc_buffers(SSL *s): makes both record buffers if they are not there; must precede any use after SSL_free_buffers
  SSL_alloc_buffers(ssl: Address): number;
  // int SSL_free_buffers(SSL *s): gives back both record buffers (about 33 KiB) when nothing is in them
  SSL_free_buffers(ssl: Address): number;
  // int SSL_export_keying_material(SSL *s, unsigned char *out, size_t olen, const char *label, size_t llen,
  //   const unsigned char *context, size_t contextlen, int use_context)
  SSL_export_keying_material(
    ssl: Address,
    output: Buffer,
    length: number,
    label: string,
    labelLength: number,
    context: null,
    contextLength: number,
    useContext: number,
  ): number;
  // SSL_SESSION *SSL_get_session(const SSL *ssl): borrowed
  SSL_get_session(ssl: Address): Address;
  // size_t SSL_SESSION_get_master_key(const SSL_SESSION *session, unsigned char *out, size_t outlen): returns bytes written
  SSL_SESSION_get_master_key(session: Address, output: Buffer, length: number): number;
  // size_t SSL_get_client_random(const SSL *ssl, unsigned char *out, size_t outlen)
  SSL_get_client_random(ssl: Address, output: Buffer, length: number): number;
  // size_t SSL_get_server_random(const SSL *ssl, unsigned char *out, size_t outlen)
  SSL_get_server_random(ssl: Address, output: Buffer, length: number): number;
  // const SSL_CIPHER *SSL_get_current_cipher(const SSL *ssl): static
  SSL_get_current_cipher(ssl: Address): Address;
  // uint16_t SSL_CIPHER_get_protocol_id(const SSL_CIPHER *c): the suite's number as on the wire
  SSL_CIPHER_get_protocol_id(cipher: Address): number;
  // SRTP_PROTECTION_PROFILE *SSL_get_selected_srtp_profile(SSL *s): borrowed, NULL when none was agreed
  SSL_get_selected_srtp_profile(ssl: Address): Address;
  // void DTLS_set_timer_cb(SSL *s, unsigned int (*cb)(SSL *s, unsigned int timer_us)): cb must outlive s
  DTLS_set_timer_cb(ssl: Address, callback: bigint): void;

  // const BIO_METHOD *BIO_s_mem(void): static
  BIO_s_mem(): Address;
  // BIO *BIO_new(const BIO_METHOD *type): owned until SSL_set_bio takes it
  BIO_new(method: Address): Address;
  // int BIO_free(BIO *a)
  BIO_free(bio: Address): number;
  // int BIO_write(BIO *b, const void *data, int dlen): copies; returns bytes taken
  BIO_write(bio: Address, data: Buffer, length: number): number;
  // int BIO_read(BIO *b, void *data, int dlen): bytes read, <= 0 when empty
  BIO_read(bio: Address, data: Buffer, length: number): number;
  // long BIO_ctrl(BIO *bp, int cmd, long larg, void *parg)
  BIO_ctrl(bio: Address, command: number, value: number, pointer: null): number;

  // EVP_CIPHER *EVP_CIPHER_fetch(OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties): owned, EVP_CIPHER_free
  EVP_CIPHER_fetch(library: Address, algorithm: string, properties: null): Address;
  // void EVP_CIPHER_free(EVP_CIPHER *cipher): contexts hold their own reference
  EVP_CIPHER_free(cipher: Address): void;
  // EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void): owned, EVP_CIPHER_CTX_free
  EVP_CIPHER_CTX_new(): Address;
  // void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *c): wipes the key
  EVP_CIPHER_CTX_free(context: Address): void;
  // int EVP_CipherInit_ex(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, ENGINE *impl, const unsigned char *key,
  //   const unsigned char *iv, int enc): a NULL cipher or key keeps the one set before; enc -1 keeps the direction; copies key and iv
  EVP_CipherInit_ex(context: Address, cipher: Address, engine: Address, key: Address, iv: Address, encrypt: number): number;
  // int EVP_Cipher(EVP_CIPHER_CTX *c, unsigned char *out, const unsigned char *in, unsigned int inl): for GCM: bytes done, -1 on
  //   failure; out NULL: additional data; in NULL: the final step (tag made, or compared)
  EVP_Cipher(context: Address, output: Address, input: Address, length: number): number;
  // int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *ctx, int type, int arg, void *ptr)
  EVP_CIPHER_CTX_ctrl(context: Address, type: number, argument: number, pointer: Address): number;

  // HMAC_CTX *HMAC_CTX_new(void): owned, HMAC_CTX_free
  HMAC_CTX_new(): Address;
  // void HMAC_CTX_free(HMAC_CTX *ctx)
  HMAC_CTX_free(context: Address): void;
  // int HMAC_Init_ex(HMAC_CTX *ctx, const void *key, int len, const EVP_MD *md, ENGINE *impl): all NULL: the same key again
  HMAC_Init_ex(context: Address, key: Address, length: number, digest: Address, engine: Address): number;
  // int HMAC_Update(HMAC_CTX *ctx, const unsigned char *data, size_t len)
  HMAC_Update(context: Address, data: Address, length: number): number;
  // int HMAC_Final(HMAC_CTX *ctx, unsigned char *md, unsigned int *len): writes 20 bytes for SHA-1
  HMAC_Final(context: Address, output: Address, length: Address): number;
};

/** @throws NativeUnavailable with a sentence for the operator */
export function loadOpenSsl(): OpenSsl {
  loaded ??= load();
  if (loaded instanceof NativeUnavailable) throw loaded;
  return loaded;
}

/** Takes OpenSSL's oldest error of this thread as text and empties its queue; `fallback` when there is none. */
export function takeError(openssl: OpenSsl, fallback: string): string {
  const code = openssl.ERR_get_error();
  openssl.ERR_clear_error();
  if (code === 0) return fallback;
  const text = Buffer.alloc(256);
  openssl.ERR_error_string_n(code, text, text.length);
  const end = text.indexOf(0);
  // error:0A000410:SSL routines::sslv3 alert handshake failure -> the words after the last colon
  return text.toString("latin1", text.lastIndexOf(0x3a, end) + 1, end) || fallback;
}

let loaded: OpenSsl | NativeUnavailable | undefined;

function load(): OpenSsl | NativeUnavailable {
  try {
    // A Node linked to the system's OpenSSL exports none of it, hence the two library names; libssl brings libcrypto's symbols along.
    const bound = bindFirst([null, "libssl.so.3", "libcrypto.so.3"], DECLARATIONS);
    if ("reasons" in bound) return new NativeUnavailable("openssl", `no OpenSSL 3 found (${bound.reasons.join("; ")})`);
    const openssl = bound.functions as unknown as OpenSsl;
    const version = openssl.OpenSSL_version_num();
    if (version < 0x30000000) return new NativeUnavailable("openssl", `OpenSSL 3 is needed, found ${version.toString(16)}`);
    return openssl;
  } catch (error) {
    if (error instanceof NativeUnavailable) return error;
    throw error;
  }
}

// The same functions as koffi declares them: a pointer passed as a number is uintptr_t, a Buffer, null or callback is void *.
const DECLARATIONS = [
  "unsigned long OpenSSL_version_num()",
  "void ERR_clear_error()",
  "unsigned long ERR_get_error()",
  "void ERR_error_string_n(unsigned long e, void *buf, size_t len)",
  "uintptr_t EVP_PKEY_CTX_new_id(int id, uintptr_t e)",
  "void EVP_PKEY_CTX_free(uintptr_t ctx)",
  "int EVP_PKEY_keygen_init(uintptr_t ctx)",
  "int EVP_PKEY_CTX_set_ec_paramgen_curve_nid(uintptr_t ctx, int nid)",
  "int EVP_PKEY_CTX_set_rsa_keygen_bits(uintptr_t ctx, int bits)",
  "int EVP_PKEY_keygen(uintptr_t ctx, void *ppkey)",
  "void EVP_PKEY_free(uintptr_t key)",
  "uintptr_t X509_new()",
  "void X509_free(uintptr_t a)",
  "int X509_set_version(uintptr_t x, long version)",
  "uintptr_t X509_get_serialNumber(uintptr_t x)",
  "int ASN1_INTEGER_set_uint64(uintptr_t a, uint64_t r)",
  "uintptr_t X509_getm_notBefore(uintptr_t x)",
  "uintptr_t X509_getm_notAfter(uintptr_t x)",
  "uintptr_t X509_gmtime_adj(uintptr_t s, long adj)",
  "uintptr_t X509_get_subject_name(uintptr_t a)",
  "int X509_NAME_add_entry_by_txt(uintptr_t name, const char *field, int type, const char *bytes, int len, int loc, int set)",
  "int X509_set_issuer_name(uintptr_t x, uintptr_t name)",
  "int X509_set_pubkey(uintptr_t x, uintptr_t pkey)",
  "int X509_sign(uintptr_t x, uintptr_t pkey, uintptr_t md)",
  "int X509_digest(uintptr_t data, uintptr_t type, void *md, void *len)",
  "uintptr_t X509_STORE_CTX_get0_cert(uintptr_t ctx)",
  "void X509_STORE_CTX_set_error(uintptr_t ctx, int s)",
  "uintptr_t EVP_get_digestbyname(const char *name)",
  "uintptr_t DTLS_method()",
  "uintptr_t SSL_CTX_new(uintptr_t method)",
  "void SSL_CTX_free(uintptr_t ctx)",
  "long SSL_CTX_ctrl(uintptr_t ctx, int cmd, long larg, void *parg)",
  "uint64_t SSL_CTX_set_options(uintptr_t ctx, uint64_t op)",
  "int SSL_CTX_use_certificate(uintptr_t ctx, uintptr_t x)",
  "int SSL_CTX_use_PrivateKey(uintptr_t ctx, uintptr_t pkey)",
  "int SSL_CTX_set_cipher_list(uintptr_t ctx, const char *str)",
  "int SSL_CTX_set_tlsext_use_srtp(uintptr_t ctx, const char *profiles)",
  "void SSL_CTX_set_verify(uintptr_t ctx, int mode, uintptr_t verify_callback)",
  "void SSL_CTX_set_cert_verify_callback(uintptr_t ctx, void *cb, uintptr_t arg)",
  "uintptr_t SSL_new(uintptr_t ctx)",
  "void SSL_free(uintptr_t ssl)",
  "long SSL_ctrl(uintptr_t ssl, int cmd, long larg, void *parg)",
  "void SSL_set_bio(uintptr_t s, uintptr_t rbio, uintptr_t wbio)",
  "void SSL_set_accept_state(uintptr_t s)",
  "void SSL_set_connect_state(uintptr_t s)",
  "int SSL_do_handshake(uintptr_t s)",
  "int SSL_read(uintptr_t ssl, void *buf, int num)",
  "int SSL_shutdown(uintptr_t s)",
  "int SSL_get_error(uintptr_t s, int ret)",
  "int SSL_alloc_buffers(uintptr_t s)",
  "int SSL_free_buffers(uintptr_t s)",
  "int SSL_export_keying_material(uintptr_t s, void *out, size_t olen, const char *label, size_t llen, void *context, size_t contextlen, int use_context)",
  "uintptr_t SSL_get_session(uintptr_t ssl)",
  "size_t SSL_SESSION_get_master_key(uintptr_t session, void *out, size_t outlen)",
  "size_t SSL_get_client_random(uintptr_t ssl, void *out, size_t outlen)",
  "size_t SSL_get_server_random(uintptr_t ssl, void *out, size_t outlen)",
  "uintptr_t SSL_get_current_cipher(uintptr_t ssl)",
  "uint16_t SSL_CIPHER_get_protocol_id(uintptr_t c)",
  "uintptr_t SSL_get_selected_srtp_profile(uintptr_t s)",
  "void DTLS_set_timer_cb(uintptr_t s, void *cb)",
  "uintptr_t BIO_s_mem()",
  "uintptr_t BIO_new(uintptr_t type)",
  "int BIO_free(uintptr_t a)",
  "int BIO_write(uintptr_t b, void *data, int dlen)",
  "int BIO_read(uintptr_t b, void *data, int dlen)",
  "long BIO_ctrl(uintptr_t bp, int cmd, long larg, void *parg)",
  "uintptr_t EVP_CIPHER_fetch(uintptr_t ctx, const char *algorithm, void *properties)",
  "void EVP_CIPHER_free(uintptr_t cipher)",
  "uintptr_t EVP_CIPHER_CTX_new()",
  "void EVP_CIPHER_CTX_free(uintptr_t c)",
  "int EVP_CipherInit_ex(uintptr_t ctx, uintptr_t cipher, uintptr_t impl, uintptr_t key, uintptr_t iv, int enc)",
  "int EVP_Cipher(uintptr_t c, uintptr_t out, uintptr_t in, unsigned int inl)",
  "int EVP_CIPHER_CTX_ctrl(uintptr_t ctx, int type, int arg, uintptr_t ptr)",
  "uintptr_t HMAC_CTX_new()",
  "void HMAC_CTX_free(uintptr_t ctx)",
  "int HMAC_Init_ex(uintptr_t ctx, uintptr_t key, int len, uintptr_t md, uintptr_t impl)",
  "int HMAC_Update(uintptr_t ctx, uintptr_t data, size_t len)",
  "int HMAC_Final(uintptr_t ctx, uintptr_t md, uintptr_t len)",
];
