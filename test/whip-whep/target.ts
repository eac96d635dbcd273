// The server that is checked, and the requests that are made of it. Nothing here knows the gateway: any server will do.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";

export type Endpoint = "whip" | "whep";

export type Target = {
  /** URL of an endpoint for a stream. */
  readonly url: (endpoint: Endpoint, stream: string) => string;
  /** Bearer token that the server wants; undefined: none. */
  readonly token: string | undefined;
};

/**
 * @param base `http://host:port`, or for servers with other paths a template such as `http://host/{endpoint}/{stream}`
 */
export function makeTarget(base: string, token?: string): Target {
  const template = base.includes("{") ? base : `${base.replace(/\/$/, "")}/rtc/v1/{endpoint}/?app=live&stream={stream}`;
  return {
    token,
    url: (endpoint, stream) => template.replaceAll("{endpoint}", endpoint).replaceAll("{stream}", encodeURIComponent(stream)),
  };
}

export type Answer = { readonly status: number; readonly headers: Headers; readonly body: string; readonly url: string };

export type RequestOptions = {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** False leaves the token out. Default true. */
  readonly authorized?: boolean;
};

export class Client {
  readonly target: Target;

  constructor(target: Target) {
    this.target = target;
  }

  async request(method: string, url: string, options: RequestOptions = {}): Promise<Answer> {
    const { token } = this.target;
    const isAuthorized = token !== undefined && options.authorized !== false;
    const response = await fetch(url, {
      method,
      redirect: "manual",
      headers: { ...(isAuthorized && { Authorization: `Bearer ${token}` }), ...options.headers },
      // Bytes: a string would get a content type of fetch's own.
      ...(options.body !== undefined && { body: Buffer.from(options.body) }),
    });
    return { status: response.status, headers: response.headers, body: await response.text(), url };
  }

  post(endpoint: Endpoint, stream: string, offer: string, headers: Readonly<Record<string, string>> = SDP): Promise<Answer> {
    return this.request("POST", this.target.url(endpoint, stream), { headers, body: offer });
  }

  patch(session: string, fragment: string, ifMatch: string | undefined, type = FRAGMENT_TYPE): Promise<Answer> {
    const headers = { "Content-Type": type, ...(ifMatch !== undefined && { "If-Match": ifMatch }) };
    return this.request("PATCH", session, { headers, body: fragment });
  }
}

export const SDP = { "Content-Type": "application/sdp" };
export const FRAGMENT_TYPE = "application/trickle-ice-sdpfrag";

/** URL of the session that an answer made. */
export function sessionOf(answer: Answer): string {
  const location = answer.headers.get("location");
  if (answer.status !== 201 || location === null) throw new Error(`no session: ${answer.status} ${answer.body}`);
  return new URL(location, answer.url).href;
}

const OFFERS = new URL("../../../test/offers/", import.meta.url);

/** What a real client offers, under fresh ICE credentials. */
export function offerOf(endpoint: Endpoint, client = "chromium156"): string {
  const text = readFileSync(new URL(`${client}-${endpoint}-offer.sdp`, OFFERS), "utf8").replaceAll(/\r?\n/g, "\r\n");
  const { usernameFragment, password } = freshCredentials();
  return text
    .replaceAll(/a=ice-ufrag:.*\r\n/g, `a=ice-ufrag:${usernameFragment}\r\n`)
    .replaceAll(/a=ice-pwd:.*\r\n/g, `a=ice-pwd:${password}\r\n`);
}

export function freshCredentials(): { usernameFragment: string; password: string } {
  return { usernameFragment: randomBytes(6).toString("hex"), password: randomBytes(15).toString("hex") };
}

export type Section = { readonly kind: string; readonly port: number; readonly mid: string; readonly lines: readonly string[] };

export function sectionsOf(sdp: string): Section[] {
  return sdp
    .split(/^m=/m)
    .slice(1)
    .map((text) => {
      const lines = text.split(/\r?\n/).filter((line) => line !== "");
      const [kind = "", port = ""] = (lines[0] ?? "").split(" ");
      return { kind, port: Number(port), mid: lines.find((line) => line.startsWith("a=mid:"))?.slice(6) ?? "", lines };
    });
}

/** The value of an attribute of the first section that has it, or of the session. */
export function attribute(sdp: string, name: string): string | undefined {
  return new RegExp(`^a=${name}:(.*?)\\r?$`, "m").exec(sdp)?.[1];
}
