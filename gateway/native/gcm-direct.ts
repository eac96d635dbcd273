// AES-GCM by the functions underneath OpenSSL's EVP: half the cost per packet of EVP, which looks up, checks and copies on every call.
//
// CRYPTO_gcm128_* is OpenSSL's public GCM (openssl/modes.h). The AES below it is its assembly for the machine's AES instructions, which
// Node exports, libcrypto.so does not, and no header declares; so it is used only where the processor has those instructions and where
// it is shown, once per process, to give what node:crypto gives. Everywhere else EVP does the work.

import { createCipheriv } from "node:crypto";
import { readFileSync } from "node:fs";

import { type Address, addressOf, bindFirst, loadKoffi } from "./library.js";

/** AES-GCM for one key: something that seals packets lying in memory. */
export interface Gcm {
  /**
   * Encrypts `length` bytes from `input` to `output` and writes the 16-byte tag behind them.
   *
   * @param iv 12 bytes
   * @param additional authenticated and not encrypted
   */
  seal(iv: Address, additional: Address, additionalLength: number, input: Address, output: Address, length: number): boolean;
  /** Wipes and frees the key. */
  close(): void;
}

export class DirectGcm implements Gcm {
  /** @returns undefined when this machine or this Node does not offer the functions, or they do not give what they should */
  static load(): GcmFunctions | undefined {
    if (loaded === undefined) {
      loaded = bind() ?? "missing";
      if (loaded !== "missing" && !isCorrect(loaded)) loaded = "missing";
    }
    return loaded === "missing" ? undefined : loaded;
  }

  readonly #functions: GcmFunctions;
  /** The expanded key; the context points to it for as long as it lives. */
  readonly #schedule: Buffer;
  #context: Address;

  /** @param key 16 or 32 bytes */
  constructor(functions: GcmFunctions, key: Buffer) {
    this.#functions = functions;
    this.#schedule = Buffer.alloc(AES_KEY_SIZE + key.length);
    const schedule = addressOf(this.#schedule);
    key.copy(this.#schedule, AES_KEY_SIZE);
    functions.setEncryptKey(schedule + AES_KEY_SIZE, key.length * 8, schedule);
    this.#schedule.fill(0, AES_KEY_SIZE);
    this.#context = functions.CRYPTO_gcm128_new(schedule, functions.encryptBlock);
    if (this.#context === 0) throw new Error("OpenSSL is out of memory");
  }

  seal(iv: Address, additional: Address, additionalLength: number, input: Address, output: Address, length: number): boolean {
    const functions = this.#functions;
    const context = this.#context;
    if (context === 0) return false;
    functions.CRYPTO_gcm128_setiv(context, iv, 12);
    if (functions.CRYPTO_gcm128_aad(context, additional, additionalLength) !== 0) return false;
    if (functions.CRYPTO_gcm128_encrypt_ctr32(context, input, output, length, functions.encryptCounter) !== 0) return false;
    functions.CRYPTO_gcm128_tag(context, output + length, 16);
    return true;
  }

  /**
   * Decrypts `length` bytes from `input` to `output`, which may be the same place.
   *
   * @param more additional data behind `additional`, 0 bytes for none
   * @param tag 16 bytes
   * @returns whether the tag is right; the output means nothing when it is not
   */
  open(
    iv: Address,
    additional: Address,
    additionalLength: number,
    more: Address,
    moreLength: number,
    input: Address,
    output: Address,
    length: number,
    tag: Address,
  ): boolean {
    const functions = this.#functions;
    const context = this.#context;
    if (context === 0) return false;
    functions.CRYPTO_gcm128_setiv(context, iv, 12);
    if (functions.CRYPTO_gcm128_aad(context, additional, additionalLength) !== 0) return false;
    if (moreLength > 0 && functions.CRYPTO_gcm128_aad(context, more, moreLength) !== 0) return false;
    if (functions.CRYPTO_gcm128_decrypt_ctr32(context, input, output, length, functions.encryptCounter) !== 0) return false;
    return functions.CRYPTO_gcm128_finish(context, tag, 16) === 0;
  }

  close(): void {
    if (this.#context === 0) return;
    this.#functions.CRYPTO_gcm128_release(this.#context);
    this.#context = 0;
    this.#schedule.fill(0);
  }
}

export type GcmFunctions = {
  // GCM128_CONTEXT *CRYPTO_gcm128_new(void *key, block128_f block): owned, CRYPTO_gcm128_release; keeps the address of `key`
  CRYPTO_gcm128_new(key: Address, block: Address): Address;
  // void CRYPTO_gcm128_release(GCM128_CONTEXT *ctx): wipes it
  CRYPTO_gcm128_release(context: Address): void;
  // void CRYPTO_gcm128_setiv(GCM128_CONTEXT *ctx, const unsigned char *iv, size_t len): begins a new message
  CRYPTO_gcm128_setiv(context: Address, iv: Address, length: number): void;
  // int CRYPTO_gcm128_aad(GCM128_CONTEXT *ctx, const unsigned char *aad, size_t len): 0 for success
  CRYPTO_gcm128_aad(context: Address, additional: Address, length: number): number;
  // int CRYPTO_gcm128_encrypt_ctr32(GCM128_CONTEXT *ctx, const unsigned char *in, unsigned char *out, size_t len, ctr128_f stream):
  // 0 for success
  CRYPTO_gcm128_encrypt_ctr32(context: Address, input: Address, output: Address, length: number, stream: Address): number;
  // int CRYPTO_gcm128_decrypt_ctr32(GCM128_CONTEXT *ctx, const unsigned char *in, unsigned char *out, size_t len, ctr128_f stream):
  // 0 for success
  CRYPTO_gcm128_decrypt_ctr32(context: Address, input: Address, output: Address, length: number, stream: Address): number;
  // int CRYPTO_gcm128_finish(GCM128_CONTEXT *ctx, const unsigned char *tag, size_t len): 0 when the tag is right; compares in constant time
  CRYPTO_gcm128_finish(context: Address, tag: Address, length: number): number;
  // void CRYPTO_gcm128_tag(GCM128_CONTEXT *ctx, unsigned char *tag, size_t len)
  CRYPTO_gcm128_tag(context: Address, tag: Address, length: number): void;
  /** int set_encrypt_key(const unsigned char *userKey, int bits, AES_KEY *key) of the machine's AES. */
  setEncryptKey(key: Address, bits: number, schedule: Address): number;
  /** block128_f */
  readonly encryptBlock: Address;
  /** ctr128_f */
  readonly encryptCounter: Address;
};

let loaded: GcmFunctions | "missing" | undefined;

function bind(): GcmFunctions | undefined {
  const names = process.platform === "linux" ? AES_FUNCTIONS[process.arch] : undefined;
  if (names === undefined || !hasAes()) return undefined;
  const bound = bindFirst([null], [...DECLARATIONS, `int ${names.setEncryptKey}(uintptr_t key, int bits, uintptr_t schedule)`]);
  if ("reasons" in bound) return undefined;
  try {
    const library = loadKoffi().load(null);
    const addressOfSymbol = (name: string): Address => Number(loadKoffi().address(library.symbol(name)));
    return {
      ...bound.functions,
      setEncryptKey: bound.functions[names.setEncryptKey],
      encryptBlock: addressOfSymbol(names.encryptBlock),
      encryptCounter: addressOfSymbol(names.encryptCounter),
    } as unknown as GcmFunctions;
  } catch {
    return undefined; // a Node without these symbols
  }
}

function hasAes(): boolean {
  try {
    return /^(flags|Features)\s*:.*\baes\b/m.test(readFileSync("/proc/cpuinfo", "latin1"));
  } catch {
    return false;
  }
}

/** Compares with node:crypto, over lengths that take every path through the assembly. */
function isCorrect(functions: GcmFunctions): boolean {
  const memory = Buffer.alloc(4096);
  const address = addressOf(memory);
  for (const key of [Buffer.alloc(16, 0xa5), Buffer.alloc(32, 0x5a)]) {
    const gcm = new DirectGcm(functions, key);
    for (let length = 0; length < 1500; length += length < 34 ? 1 : 61) {
      const additionalLength = 12 + (length % 5) * 4;
      for (let index = 0; index < 2048; index++) memory[index] = index * 7 + length;
      const cipher = createCipheriv(key.length === 16 ? "aes-128-gcm" : "aes-256-gcm", key, memory.subarray(0, 12));
      cipher.setAAD(memory.subarray(16, 16 + additionalLength));
      const expected = Buffer.concat([cipher.update(memory.subarray(64, 64 + length)), cipher.final(), cipher.getAuthTag()]);
      const isDone = gcm.seal(address, address + 16, additionalLength, address + 64, address + 2048, length);
      const isSealed = isDone && memory.subarray(2048, 2048 + expected.length).equals(expected);
      if (!isSealed || !opens(gcm, memory, address, additionalLength, length)) {
        gcm.close();
        return false;
      }
    }
    gcm.close();
  }
  return true;
}

/** What was sealed to offset 2048 must open in place to what is at 64, with the additional data in two pieces, and not with another tag. */
function opens(gcm: DirectGcm, memory: Buffer, address: Address, additionalLength: number, length: number): boolean {
  const sealed = Buffer.from(memory.subarray(2048, 2048 + length));
  const tag = 2048 + length;
  const open = (): boolean =>
    gcm.open(address, address + 16, 8, address + 24, additionalLength - 8, address + 2048, address + 2048, length, address + tag);
  const isOpen = open() && memory.subarray(2048, tag).equals(memory.subarray(64, 64 + length));
  sealed.copy(memory, 2048);
  memory[tag + 15] = (memory[tag + 15] ?? 0) ^ 1;
  return isOpen && !open();
}

const AES_FUNCTIONS: Readonly<
  Partial<Record<string, { readonly setEncryptKey: string; readonly encryptBlock: string; readonly encryptCounter: string }>>
> = {
  x64: { setEncryptKey: "aesni_set_encrypt_key", encryptBlock: "aesni_encrypt", encryptCounter: "aesni_ctr32_encrypt_blocks" },
  arm64: {
    setEncryptKey: "aes_v8_set_encrypt_key",
    encryptBlock: "aes_v8_encrypt",
    encryptCounter: "aes_v8_ctr32_encrypt_blocks",
  },
};

const AES_KEY_SIZE = 256; // AES_KEY takes 244 bytes (openssl/aes.h: 60 words and the number of rounds)

const DECLARATIONS = [
  "uintptr_t CRYPTO_gcm128_new(uintptr_t key, uintptr_t block)",
  "void CRYPTO_gcm128_release(uintptr_t ctx)",
  "void CRYPTO_gcm128_setiv(uintptr_t ctx, uintptr_t iv, size_t len)",
  "int CRYPTO_gcm128_aad(uintptr_t ctx, uintptr_t aad, size_t len)",
  "int CRYPTO_gcm128_encrypt_ctr32(uintptr_t ctx, uintptr_t in, uintptr_t out, size_t len, uintptr_t stream)",
  "int CRYPTO_gcm128_decrypt_ctr32(uintptr_t ctx, uintptr_t in, uintptr_t out, size_t len, uintptr_t stream)",
  "int CRYPTO_gcm128_finish(uintptr_t ctx, uintptr_t tag, size_t len)",
  "void CRYPTO_gcm128_tag(uintptr_t ctx, uintptr_t tag, size_t len)",
];
