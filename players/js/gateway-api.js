// What the console asks the gateway: streams, which every port of it tells, and clients, which only the API's own port tells.

/** Milliseconds between looks at an API port that did not answer. */
const PROBE_INTERVAL = 30_000;

/** @typedef {{ reach: "yes" | "no" | "denied" | "unknown", clients: object[] }} ClientList `denied`: the API wants a password */

export class GatewayApi {
  #here;
  #bases;
  #base;
  #probedAt = Number.NEGATIVE_INFINITY;
  #denied = false;
  /** Whether sessions may be ended; false once the API has said that it does not do that. */
  mayKick = true;

  /** @param {{ protocol: string, host: string, hostname: string, search: string, pathname: string, href: string }} location of the page at `/` */
  constructor(location) {
    this.#here = new URL("./", location.href);
    const port = new URLSearchParams(location.search).get("api") ?? (location.protocol === "https:" ? "1990" : "1985");
    const { hostname } = this.#here;
    // One port may be both; a proxy may have put all of it under one address.
    this.#bases = [this.#here, new URL(`${location.protocol}//${hostname}:${port}/`)];
  }

  /** Where the API's own port is thought to be. */
  get apiOrigin() {
    return this.#bases[1].origin;
  }

  async version() {
    return (await ask(new URL("api/v1/versions", this.#here))).answer;
  }

  /** @returns {Promise<object[] | undefined>} undefined: no answer */
  async streams() {
    const { answer } = await ask(new URL("api/v1/streams?count=100", this.#here));
    return answer?.streams;
  }

  /** @returns {Promise<ClientList>} */
  async clients() {
    if (this.#base === undefined && performance.now() - this.#probedAt < PROBE_INTERVAL) {
      return { reach: this.#denied ? "denied" : "no", clients: [] };
    }
    this.#probedAt = performance.now();
    this.#denied = false;
    for (const base of this.#base === undefined ? this.#bases : [this.#base]) {
      const { status, answer } = await ask(new URL("api/v1/clients?count=500", base));
      if (answer?.clients !== undefined) {
        this.#base = base;
        return { reach: "yes", clients: answer.clients };
      }
      if (status === 401 || status === 403) this.#denied = true;
    }
    this.#base = undefined;
    return { reach: this.#denied ? "denied" : "no", clients: [] };
  }

  /** Ends a client's session. @returns {Promise<string | undefined>} why not */
  async kick(id) {
    if (this.#base === undefined) return "The API does not answer.";
    const url = new URL(`api/v1/clients/${encodeURIComponent(id)}`, this.#base);
    const { status, answer } = await ask(url, "DELETE");
    if (status === 200 && answer?.code === 0) return undefined;
    if (status === 404 && answer?.code === 2049) return undefined; // gone already
    if (status !== undefined) this.mayKick = false;
    return status === undefined ? "The API does not answer." : (answer?.error ?? `The API refuses (${status}).`);
  }
}

/** @returns `{ status, answer }`, `answer` the JSON of a 200 (or of an error, for DELETE); all undefined when nobody answers */
async function ask(url, method = "GET") {
  try {
    const response = await fetch(url, { method, cache: "no-store", signal: AbortSignal.timeout?.(5_000) });
    const { status, ok } = response;
    if (!ok && method === "GET") return { status };
    return { status, answer: await response.json() };
  } catch {
    return {};
  }
}
