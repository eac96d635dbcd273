// What HTTP is handed in, made up: a WebRTC side that answers as a test says, an empty hub, and a log that is kept.

import { tmpdir } from "node:os";
import { join } from "node:path";

import type { HttpOptions } from "../../gateway/http/server.js";
import type { HttpLog, HttpServices, RtcService, SessionAnswer, SessionOffer } from "../../gateway/http/services.js";
import type { Client, Stream } from "../../gateway/hub/types.js";
import { Refusal } from "../../gateway/media/errors.js";

import { SystemClock } from "../../gateway/system-clock.js";

export const NO_AUTH = { enabled: false, username: "", password: "", token: "" };
export const ANSWER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

export class FakeRtc implements RtcService {
  readonly offers: SessionOffer[] = [];
  readonly closed: { id: string; reason: string }[] = [];
  readonly sessions = new Set<string>();
  readonly generations = new Map<string, number>();
  readonly fragments: string[] = [];
  /** What `play` does; default: answers. */
  onPlay: (offer: SessionOffer) => Promise<SessionAnswer> = async () => ({
    id: `session-${++this.#count}-abcdefgh`,
    sdp: ANSWER,
  });
  #count = 0;

  async play(offer: SessionOffer): Promise<SessionAnswer> {
    this.offers.push(offer);
    const answer = await this.onPlay(offer);
    this.sessions.add(answer.id);
    return answer;
  }

  async publish(offer: SessionOffer): Promise<SessionAnswer> {
    return this.play(offer);
  }

  /** By session: the token that it wants. */
  readonly tokens = new Map<string, string>();

  isAuthorized(id: string, bearer: string | undefined): boolean {
    return !this.tokens.has(id) || this.tokens.get(id) === bearer;
  }

  iceGeneration(id: string): number | undefined {
    return this.sessions.has(id) ? (this.generations.get(id) ?? 0) : undefined;
  }

  /** A fragment with `ice-pwd` restarts. */
  updateIce(id: string, fragment: string): string | undefined {
    if (!fragment.startsWith("a=")) throw new Refusal("bad-request", "SDP fragment: no");
    this.fragments.push(fragment);
    if (!fragment.includes("a=ice-pwd:")) return undefined;
    this.generations.set(id, (this.generations.get(id) ?? 0) + 1);
    return "a=ice-lite\r\n";
  }

  diagnosis(id: string): object | undefined {
    return this.sessions.has(id) ? { verdict: "ok", cause: "Connected." } : undefined;
  }

  closeSession(id: string, reason: string): boolean {
    this.closed.push({ id, reason });
    return this.sessions.delete(id);
  }
}

export class FakeLog implements HttpLog {
  readonly lines: string[] = [];
  debug(): void {}
  info(fields: object, message: string): void {
    this.lines.push(`info ${message} ${JSON.stringify(fields)}`);
  }
  warn(fields: object, message: string): void {
    this.lines.push(`warn ${message} ${JSON.stringify(fields)}`);
  }
  error(fields: object, message: string): void {
    this.lines.push(`error ${message} ${JSON.stringify(fields)}`);
  }
}

export function fakeServices(rtc: RtcService | undefined, streams: Stream[] = [], clients: Client[] = []): HttpServices {
  return {
    rtc,
    hub: {
      streams: () => streams,
      clients: () => clients,
      find: () => undefined,
      totals: { clients: 3, refused: 1, sent: 2000, received: 1000 },
      play: async () => {
        throw new Refusal("not-live", "the made-up hub plays nothing");
      },
    },
    vhosts: () => [{ name: "__defaultVhost__", enabled: true }],
    version: "1.2.3",
    serverId: "vid-test",
    serviceId: "run-test",
  };
}

const HTTPS = { enabled: false, listen: [], key: "", cert: "" };
const ANY_PORT = [{ host: "127.0.0.1", port: 0 }];

export function fakeOptions(rtc: RtcService | undefined, changes: Partial<HttpOptions> = {}): HttpOptions {
  return {
    httpApi: { enabled: true, listen: ANY_PORT, crossdomain: true, auth: NO_AUTH, https: HTTPS },
    httpServer: { enabled: true, listen: ANY_PORT, dir: "", crossdomain: true, https: HTTPS },
    maxConnections: 100,
    dataDir: join(tmpdir(), "sluice-test-data"),
    services: fakeServices(rtc),
    log: new FakeLog(),
    clock: new SystemClock(),
    vhost: (name) => ({
      name,
      httpRemux: { enabled: true, mount: "[vhost]/[app]/[stream].flv" },
      play: { queueLength: 30_000 },
    }),
    ...changes,
  };
}
