// Loads the two C libraries this folder calls: OpenSSL (Node's own copy, or the system's) and libc. No other file names a symbol's type.
//
// Addresses are plain numbers (uintptr_t; user space ends below 2^48 on every 64-bit platform, so they are exact): koffi passes a
// number in about 50 ns and a Buffer in about 100 ns. Whoever passes an address keeps the memory behind it alive.

import { createRequire } from "node:module";

import type { LibraryHandle } from "koffi";

/** A place in memory as a number; 0 is NULL. */
export type Address = number;

/** Why native code cannot be used here: `koffi` is missing or has no build for this platform, or no OpenSSL 3 was found. */
export class NativeUnavailable extends Error {
  override readonly name = "NativeUnavailable";
  readonly code: "koffi" | "openssl" | "libc";

  constructor(code: "koffi" | "openssl" | "libc", message: string) {
    super(message);
    this.code = code;
  }
}

type Koffi = typeof import("koffi");

/** A C function as koffi hands it out; each table of functions below gives the real types. */
type Bound = (...values: never[]) => unknown;

// Loaded libraries are per process, like the code they hold; they are the only state of this folder that is shared.
let loadedKoffi: Koffi | undefined;

/** @throws NativeUnavailable when koffi has no build for this platform or is not installed */
export function loadKoffi(): Koffi {
  if (loadedKoffi !== undefined) return loadedKoffi;
  try {
    loadedKoffi = createRequire(import.meta.url)("koffi") as Koffi;
  } catch (error) {
    throw new NativeUnavailable("koffi", `koffi cannot be loaded on ${process.platform}-${process.arch}: ${messageOf(error)}`);
  }
  return loadedKoffi;
}

/** The address of a Buffer's first byte. It stays the same for the Buffer's life: V8 does not move array buffers. */
export function addressOf(buffer: Buffer): Address {
  return Number(loadKoffi().address(buffer));
}

/**
 * Opens the first of `names` that holds all symbols of `prototypes`, and binds them.
 *
 * @param names library names, null for the running program itself
 * @param prototypes C declarations with pointers written as uintptr_t (a number) or void * (a Buffer or null)
 * @returns the functions by name, or the reasons why no library would do
 */
export function bindFirst(
  names: readonly (string | null)[],
  prototypes: readonly string[],
): { readonly functions: Record<string, Bound> } | { readonly reasons: readonly string[] } {
  const koffi = loadKoffi();
  const reasons: string[] = [];
  for (const name of names) {
    let library: LibraryHandle | undefined;
    try {
      library = koffi.load(name);
      const functions: Record<string, Bound> = {};
      for (const prototype of prototypes) {
        const bound = library.func(prototype);
        functions[bound.info.name] = bound;
      }
      return { functions };
    } catch (error) {
      reasons.push(`${name ?? "node"}: ${messageOf(error)}`);
    }
  }
  return { reasons };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
