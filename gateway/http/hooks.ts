// Callbacks to the operator's own server (docs/http.md, "Hooks"): asked before a publisher or viewer is told yes, told once when one has
// left. POST of JSON with SRS's names; yes is HTTP 200 or 201 with the body `0` or `{"code":0}`.

import type { Clock, TimerHandle } from "../hub/clock.js";
import { displayName, shownId } from "../hub/names.js";
import type { HubEvent, Peer, PlayRequest, PublishRequest, StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import { streamId } from "./descriptions.js";
import type { HttpLog } from "./services.js";

export type HookAction = "on_publish" | "on_unpublish" | "on_play" | "on_stop" | "on_hls";

/** A vhost's `http_hooks`. */
export type HookVhost = {
  /** The configured vhost that serves the name. */
  readonly name: string;
  readonly httpHooks: { readonly enabled: boolean } & {
    readonly [action in Exclude<HookAction, "on_hls">]: readonly string[];
  } & {
    readonly on_hls?: readonly string[];
  };
};

export type HooksOptions = {
  readonly vhost: (name: string) => HookVhost;
  readonly clock: Clock;
  readonly log: HttpLog;
  /** `server_id` and `service_id` of each call. */
  readonly serverId: string;
  readonly serviceId: string;
  /** Milliseconds for one call. Default 5000. */
  readonly timeout?: number;
  /** Calls at one time; more wait. Default 32. */
  readonly maxConcurrent?: number;
};

/** Takes back a yes: the client was refused for another reason after all. */
export type Revoke = () => void;

export class Hooks {
  readonly #options: HooksOptions;
  readonly #slots: Slots;
  /** Calls that nobody waits for; `close` does. */
  readonly #pending = new Set<Promise<void>>();

  constructor(options: HooksOptions) {
    this.#options = options;
    this.#slots = new Slots(options.maxConcurrent ?? 32, options.clock);
  }

  /**
   * Asks every URL of the vhost, one after another.
   *
   * @returns what tells them that the client is not let in after all; undefined when nobody was asked
   * @throws Refusal `forbidden` with the reason
   */
  async ask(action: "publish" | "play", { name, peer }: PublishRequest | PlayRequest): Promise<Revoke | undefined> {
    const hook = action === "publish" ? "on_publish" : "on_play";
    const after = action === "publish" ? "on_unpublish" : "on_stop";
    const { name: vhost, urls } = this.#urls(name.vhost, hook);
    const served = { ...name, vhost };
    const body = this.#body(hook, served, peer);
    let asked = 0;
    try {
      for (const url of urls) {
        asked++;
        const refusal = await this.#call(url, body);
        if (refusal === undefined) continue;
        this.#options.log.info({ hook, url: shown(url), ...this.#fields(served, peer), reason: refusal }, "refused by a hook");
        throw new Refusal("forbidden", `${hook}: ${refusal}`);
      }
    } catch (error) {
      if (asked > 1) this.#tell(after, served, peer); // those before it have said yes
      throw error;
    }
    return urls.length === 0 ? undefined : () => this.#tell(after, served, peer);
  }

  /** Tells who must know of it; returns at once. */
  onEvent(event: HubEvent): void {
    if (event.type === "unpublish") this.#tell("on_unpublish", event.stream.name, event.peer);
    else if (event.type === "stop") this.#tell("on_stop", event.stream.name, event.peer);
  }

  /** Tells of a finished HLS segment; `more` is what `on_hls` has besides. */
  onSegment(name: StreamName, publisher: Peer | undefined, more: () => Readonly<Record<string, unknown>>): void {
    if (this.#urls(name.vhost, "on_hls").urls.length === 0) return;
    const peer: Peer = publisher ?? { id: "", protocol: "hls", address: "", parameters: "" };
    this.#tell("on_hls", name, peer, more());
  }

  /** Waits for the calls under way, 2 s at most. */
  async close(): Promise<void> {
    let timer: TimerHandle | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = this.#options.clock.after(CLOSE_LIMIT, resolve);
    });
    while (this.#pending.size > 0) {
      const done = await Promise.race([Promise.all(this.#pending).then(() => true), limit.then(() => false)]);
      if (!done) {
        this.#options.log.warn({ calls: this.#pending.size }, "hooks were not told of everything: their server is too slow");
        break;
      }
    }
    timer?.cancel();
  }

  #tell(hook: HookAction, name: StreamName, peer: Peer, more: Readonly<Record<string, unknown>> = {}): void {
    const { urls } = this.#urls(name.vhost, hook);
    if (urls.length === 0) return;
    const body = this.#body(hook, name, peer, more);
    for (const url of urls) {
      const call = this.#call(url, body).then(
        (refusal) => this.#told(hook, url, name, peer, refusal),
        (error: unknown) => this.#told(hook, url, name, peer, error instanceof Error ? error.message : String(error)),
      );
      this.#pending.add(call);
      void call.then(() => this.#pending.delete(call));
    }
  }

  #told(hook: HookAction, url: string, name: StreamName, peer: Peer, problem: string | undefined): void {
    if (problem === undefined) return;
    this.#options.log.warn({ hook, url: shown(url), ...this.#fields(name, peer), reason: problem }, "a hook was not taken");
  }

  /** @returns why it was not accepted. @throws Refusal `overloaded` */
  async #call(url: string, body: string): Promise<string | undefined> {
    const timeout = this.#options.timeout ?? 5_000;
    await this.#slots.take(timeout);
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/json", "User-Agent": "Sluice" },
        body,
        redirect: "error",
        signal: AbortSignal.timeout(timeout),
      });
      const text = await readText(response);
      if (response.status !== 200 && response.status !== 201) return `the hook answered with HTTP ${response.status}`;
      return refusalIn(text);
    } catch (error) {
      if (error instanceof Error && error.name === "TimeoutError") return `the hook did not answer in ${timeout / 1000} s`;
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      return `the hook could not be reached: ${cause instanceof Error ? cause.message : String(cause)}`;
    } finally {
      this.#slots.release();
    }
  }

  #urls(asked: string, hook: HookAction): { readonly name: string; readonly urls: readonly string[] } {
    const { name, httpHooks } = this.#options.vhost(asked);
    return { name, urls: (httpHooks.enabled ? httpHooks[hook] : undefined) ?? [] };
  }

  #body(action: HookAction, name: StreamName, peer: Peer, more: Readonly<Record<string, unknown>> = {}): string {
    const { serverId, serviceId } = this.#options;
    const { vhost, app, stream } = name;
    return JSON.stringify({
      server_id: serverId,
      service_id: serviceId,
      action,
      client_id: shownId(peer.id),
      ip: peer.address,
      vhost,
      app,
      tcUrl: peer.tcUrl ?? `${peer.protocol === "rtc" ? "webrtc" : "http"}://${vhost}/${app}`,
      stream,
      param: peer.parameters,
      stream_url: `/${app}/${stream}`,
      stream_id: streamId(name),
      ...(peer.pageUrl !== undefined && { pageUrl: peer.pageUrl }),
      ...more,
    });
  }

  #fields(name: StreamName, peer: Peer): object {
    return { session: shownId(peer.id), stream: displayName(name), peer: peer.address };
  }
}

/** At most so many calls at a time; the others wait in line, each only so long. */
class Slots {
  readonly #clock: Clock;
  #free: number;
  #waiting: (() => void)[] = [];

  constructor(size: number, clock: Clock) {
    this.#free = size;
    this.#clock = clock;
  }

  /** @throws Refusal `overloaded` when the line is too long, or does not move in that many ms */
  async take(patience: number): Promise<void> {
    if (this.#free > 0) {
      this.#free--;
      return;
    }
    if (this.#waiting.length >= MAX_WAITING) throw new Refusal("overloaded", "too many calls wait for the hooks' server");
    await new Promise<void>((resolve, reject) => {
      const timer = this.#clock.after(patience, () => {
        this.#waiting.splice(this.#waiting.indexOf(proceed), 1);
        reject(new Refusal("overloaded", "the hooks' server is too slow"));
      });
      const proceed = (): void => {
        timer.cancel();
        resolve();
      };
      this.#waiting.push(proceed);
    });
  }

  release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

/** @returns why an answer's body is no yes */
function refusalIn(text: string): string | undefined {
  if (text.trim() === "0") return undefined;
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return "the hook's answer is neither 0 nor JSON";
  }
  if (typeof answer !== "object" || answer === null) return `the hook answered ${JSON.stringify(answer).slice(0, 80)}`;
  const { code, ...rest } = answer as Record<string, unknown>;
  if (code === 0) return undefined;
  const words = ["msg", "message", "error", "reason"].map((key) => rest[key]).find((value) => typeof value === "string");
  return words === undefined ? `the hook answered with code ${JSON.stringify(code) ?? "missing"}` : String(words).slice(0, 200);
}

/** The body as text, with what is past the limit left out. */
async function readText(response: Response): Promise<string> {
  if (response.body === null) return "";
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > MAX_ANSWER) break; // leaving the loop cancels the rest
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Without what may be secret: name, password, query. */
function shown(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

const MAX_WAITING = 10_000;
const MAX_ANSWER = 65_536; // bytes: an answer is a number
const CLOSE_LIMIT = 2_000; // ms
