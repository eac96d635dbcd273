// EDGE: addresses of host names that clients send (the API request's `Host`). A name is anybody's choice and looking it up holds one of
// Node's few worker threads, so lookups are bounded in number and time, and what they found is kept for a while.

export type ResolverOptions = {
  /** Rejects when there is no such name. */
  readonly lookup: (name: string) => Promise<readonly string[]>;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Milliseconds to wait for an answer. Default 1500. */
  readonly patience?: number;
};

export class NameResolver {
  readonly #options: ResolverOptions;
  readonly #known = new Map<string, { readonly addresses: readonly string[]; readonly until: number }>();
  readonly #running = new Map<string, Promise<readonly string[]>>();

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  /** @returns nothing for a name that has no address, or whose lookup takes too long or would be one too many */
  async resolve(name: string): Promise<readonly string[]> {
    const known = this.#known.get(name);
    if (known !== undefined && this.#options.now() < known.until) return known.addresses;
    let running = this.#running.get(name);
    if (running === undefined) {
      if (this.#running.size >= MAX_RUNNING) return known?.addresses ?? [];
      running = this.#lookUp(name);
      this.#running.set(name, running);
    }
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<readonly string[]>((resolve) => {
      timer = setTimeout(() => resolve(known?.addresses ?? []), this.#options.patience ?? 1_500);
    });
    try {
      return await Promise.race([running, tooLate]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #lookUp(name: string): Promise<readonly string[]> {
    let addresses: readonly string[] = [];
    try {
      addresses = [...new Set(await this.#options.lookup(name))];
    } catch {
      // a name that does not resolve is no candidate
    }
    this.#running.delete(name);
    this.#known.delete(name);
    const [oldest] = this.#known.keys();
    if (this.#known.size >= MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(name, { addresses, until: this.#options.now() + KEPT });
    return addresses;
  }
}

const MAX_RUNNING = 2; // of the four threads that files and keys need too
const MAX_KNOWN = 256; // names
const KEPT = 30_000; // ms; short enough for an address that changes
