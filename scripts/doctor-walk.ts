// Walks the way of one WebRTC session against a running gateway, over one transport: offer, STUN to every candidate, handshake, media.

import { randomBytes } from "node:crypto";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { connect, isIP, type Socket as TcpSocket } from "node:net";

import { createDtlsContext } from "../gateway/native/dtls.js";
import { NativeUnavailable } from "../gateway/native/library.js";
import { createSrtpReceiver } from "../gateway/native/srtp.js";
import type { DtlsTransport, SrtpReceiver } from "../gateway/native/types.js";
import { parseStun, writeBindingRequest } from "../gateway/rtc/stun.js";
import { bareOffer, fullOffer, parseAnswer } from "./doctor-sdp.js";

export type Transport = "udp" | "tcp";
export type WalkStep = {
  readonly what: string;
  readonly state: "ok" | "failed" | "skipped";
  /** Milliseconds it took. */
  readonly ms?: number;
  readonly detail?: string;
};

export type Walk = {
  readonly transport: Transport;
  /** `media`: it came; `path`: checks get through, and more was not asked for; `none`: the answer has no such candidate. */
  readonly outcome: "media" | "path" | "none" | "failed";
  readonly steps: readonly WalkStep[];
  /** What the gateway itself has seen of this session. */
  readonly gateway?: { readonly verdict: string; readonly cause: string; readonly advice: string };
};

export type WalkOptions = {
  /** Endpoint of WHEP or WHIP. WHIP is checked as far as ICE: a stream that somebody publishes is left alone. */
  readonly url: string;
  /** Milliseconds for each step. */
  readonly patience: number;
};

type Remote = { readonly address: string; readonly port: number };
/** Datagrams to one candidate, or to all of them. */
type Link = { send(datagram: Buffer, to: Remote): void; close(): void };

export async function walk(transport: Transport, options: WalkOptions): Promise<Walk> {
  const walker = new Walker(transport, options);
  try {
    const outcome = await walker.run();
    const gateway = await walker.askGateway();
    return { transport, outcome, steps: walker.steps, ...(gateway !== undefined && { gateway }) };
  } finally {
    await walker.close();
  }
}

class Walker {
  readonly steps: WalkStep[] = [];
  readonly #transport: Transport;
  readonly #options: WalkOptions;
  readonly #fragment = randomBytes(4).toString("hex");
  readonly #password = randomBytes(16).toString("hex");
  readonly #links: Link[] = [];
  #onDatagram: (datagram: Buffer, from: string) => void = () => {};
  #session: string | undefined;
  #doctor: string | undefined;
  #dtls: DtlsTransport | undefined;
  #receiver: SrtpReceiver | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(transport: Transport, options: WalkOptions) {
    this.#transport = transport;
    this.#options = options;
  }

  async run(): Promise<Walk["outcome"]> {
    const context = this.#makeContext();
    try {
      const answer = await this.#offer(context?.fingerprint);
      if (answer === undefined) return "failed";
      const { candidates, usernameFragment, password, fingerprint } = parseAnswer(answer.sdp);
      const mine = candidates.filter(({ transport }) => transport === this.#transport);
      const list = mine.map(({ address, port }) => `${address}:${port}`).join(", ");
      if (mine.length === 0) {
        this.steps.push({
          what: "candidates",
          state: "skipped",
          detail: `the answer offers none over ${this.#transport.toUpperCase()}`,
        });
        return "none";
      }
      this.steps.push({ what: "candidates", state: "ok", detail: list });
      const username = `${usernameFragment}:${this.#fragment}`;
      const remote = await this.#check(mine, username, password);
      if (remote === undefined) return "failed";
      if (answer.isBare || context === undefined) return "path";
      return (await this.#connect(context, remote, { username, password, fingerprint })) ? "media" : "failed";
    } finally {
      context?.close();
    }
  }

  /** What the gateway's doctor says, when it has one. */
  async askGateway(): Promise<Walk["gateway"]> {
    if (this.#doctor === undefined) return undefined;
    try {
      const response = await fetch(this.#doctor, { signal: AbortSignal.timeout(this.#options.patience) });
      const { verdict = "", cause = "", advice = "" } = (await response.json()) as Record<string, string>;
      return { verdict, cause, advice };
    } catch {
      return undefined;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#dtls?.close();
    this.#receiver?.close();
    if (this.#session !== undefined) await fetch(this.#session, { method: "DELETE" }).catch(() => undefined);
    for (const link of this.#links) link.close();
  }

  #makeContext(): ReturnType<typeof createDtlsContext> | undefined {
    try {
      return createDtlsContext({ ecdsa: true });
    } catch (error) {
      if (!(error instanceof NativeUnavailable)) throw error;
      return undefined; // checks work without
    }
  }

  /** A viewer's whole offer; a bare one when nobody publishes, or to publish, or when this machine cannot do DTLS. */
  async #offer(fingerprint: string | undefined): Promise<{ sdp: string; isBare: boolean } | undefined> {
    const { url } = this.#options;
    const isPublish = /\/whip\/?$/.test(new URL(url).pathname);
    const credentials = { usernameFragment: this.#fragment, password: this.#password };
    if (!isPublish && fingerprint !== undefined) {
      const response = await this.#post(url, fullOffer({ ...credentials, fingerprint }), "offer answered");
      if (response === undefined) return undefined;
      if (response.status === 201) return { sdp: response.body, isBare: false };
      if (response.status !== 409 && response.status !== 404) {
        this.steps.push({ what: "offer answered", state: "failed", detail: describeRefusal(response) });
        return undefined;
      }
      this.steps.push({
        what: "stream is live",
        state: "skipped",
        detail: `${describeRefusal(response)} Only the path is checked.`,
      });
    }
    const check = new URL(url);
    check.searchParams.set("ice-ufrag", randomBytes(6).toString("hex"));
    check.searchParams.set("ice-pwd", randomBytes(14).toString("hex"));
    const response = await this.#post(check.href, bareOffer(credentials, isPublish ? "sendonly" : "recvonly"), "check answered");
    if (response === undefined) return undefined;
    if (response.status === 201) return { sdp: response.body, isBare: true };
    this.steps.push({ what: "check answered", state: "failed", detail: describeRefusal(response) });
    return undefined;
  }

  async #post(url: string, body: string, what: string): Promise<{ status: number; body: string } | undefined> {
    const began = performance.now();
    try {
      const signal = AbortSignal.timeout(this.#options.patience);
      const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" }, body, signal });
      const text = await response.text();
      if (response.status === 201) {
        const location = response.headers.get("location");
        this.#session = location === null ? undefined : new URL(location, response.url).href;
        const [, doctor] = /<([^>]*)>\s*;[^,]*rel="?urn:sluice:doctor"?/.exec(response.headers.get("link") ?? "") ?? [];
        this.#doctor = doctor === undefined ? undefined : new URL(doctor, response.url).href;
        this.steps.push({ what, state: "ok", ms: performance.now() - began, detail: "201" });
      }
      return { status: response.status, body: text };
    } catch (error) {
      this.steps.push({ what, state: "failed", detail: describeFailure(error) });
      return undefined;
    }
  }

  /** Asks every candidate at once. @returns the first one that answers */
  async #check(candidates: readonly Remote[], username: string, password: string): Promise<Remote | undefined> {
    const began = performance.now();
    const waiting = new Map<string, { remote: Remote; answered?: number; mapped?: string; failure?: string }>();
    const requests: { datagram: Buffer; remote: Remote; link: Link }[] = [];
    for (const [index, { address, port }] of candidates.entries()) {
      const transactionId = randomBytes(12);
      const entry: { remote: Remote; answered?: number; mapped?: string; failure?: string } = { remote: { address, port } };
      waiting.set(transactionId.toString("hex"), entry);
      try {
        const remote = { address: isIP(address) === 0 ? (await lookup(address)).address : address, port };
        entry.remote = remote;
        const link = this.#transport === "udp" ? this.#openUdp(remote) : await this.#openTcp(remote);
        const datagram = writeBindingRequest({
          transactionId,
          username,
          password,
          priority: 0x6e_00_01_ff - index,
          role: "controlling",
          tieBreaker: 1n,
          useCandidate: false,
        });
        requests.push({ datagram, remote, link });
      } catch (error) {
        entry.failure = describeFailure(error);
      }
    }
    await new Promise<void>((resolve) => {
      const limit = setTimeout(resolve, this.#options.patience);
      const send = (): void => {
        for (const { datagram, remote, link } of requests) link.send(datagram, remote);
      };
      this.#timer = setInterval(send, 250);
      this.#onDatagram = (datagram) => {
        const message = parseStun(datagram);
        const entry = message === undefined ? undefined : waiting.get(message.transactionId.toString("hex"));
        if (entry === undefined || message?.class !== "success" || entry.answered !== undefined) return;
        entry.answered = performance.now() - began;
        entry.mapped = `${message.mappedAddress?.address}:${message.mappedAddress?.port}`;
        if ([...waiting.values()].every(({ answered, failure }) => answered !== undefined || failure !== undefined)) {
          clearTimeout(limit);
          resolve();
        } else if ([...waiting.values()].filter(({ answered }) => answered !== undefined).length === 1) {
          setTimeout(resolve, Math.min(1_000, this.#options.patience)); // the others get another second
        }
      };
      send();
    });
    clearInterval(this.#timer);
    const entries = [...waiting.values()];
    for (const { remote, answered, mapped, failure } of entries) {
      const what = `STUN to ${remote.address}:${remote.port}`;
      if (answered !== undefined) this.steps.push({ what, state: "ok", ms: answered, detail: `we are seen as ${mapped}` });
      else this.steps.push({ what, state: "failed", detail: failure ?? "no answer" });
    }
    return entries.filter(({ answered }) => answered !== undefined).sort((a, b) => (a.answered ?? 0) - (b.answered ?? 0))[0]
      ?.remote;
  }

  async #connect(
    context: ReturnType<typeof createDtlsContext>,
    remote: Remote,
    peer: { username: string; password: string; fingerprint: { algorithm: string; value: string } },
  ): Promise<boolean> {
    const link = this.#linkTo(remote);
    if (link === undefined) return false;
    const began = performance.now();
    const dtls = context.create({
      role: "active",
      peerFingerprint: peer.fingerprint,
      send: (datagram) => link.send(datagram, remote),
    });
    this.#dtls = dtls;
    const nominate = (): void =>
      link.send(
        writeBindingRequest({
          ...peer,
          transactionId: randomBytes(12),
          priority: 0x6e_00_01_ff,
          role: "controlling",
          tieBreaker: 1n,
          useCandidate: true,
        }),
        remote,
      );
    let doneAt: number | undefined;
    let mediaAt: number | undefined;
    let rejected = 0;
    await new Promise<void>((resolve) => {
      let limit = setTimeout(resolve, this.#options.patience);
      this.#timer = setInterval(() => {
        if (doneAt === undefined) nominate();
        dtls.onTimeout();
      }, 100);
      this.#onDatagram = (datagram) => {
        const first = datagram[0] ?? 0;
        if (first >= 20 && first <= 63) {
          dtls.receive(datagram);
          if (dtls.state === "failed" || dtls.state === "closed") resolve();
          if (dtls.state !== "connected" || doneAt !== undefined) return;
          doneAt = performance.now();
          this.#receiver = createSrtpReceiver(dtls.srtpKeys().remote);
          clearTimeout(limit);
          limit = setTimeout(resolve, this.#options.patience);
        } else if (first >= 128 && this.#receiver !== undefined) {
          const type = datagram[1] ?? 0;
          if (type >= 192 && type <= 223) return;
          if (this.#receiver.unprotectRtp(datagram) === undefined) {
            rejected++;
            return;
          }
          mediaAt = performance.now();
          clearTimeout(limit);
          resolve();
        }
      };
      nominate();
      dtls.start();
    });
    clearInterval(this.#timer);
    if (doneAt === undefined) {
      this.steps.push({ what: "handshake (DTLS)", state: "failed", detail: dtls.failure ?? "it did not end" });
      return false;
    }
    this.steps.push({ what: "handshake (DTLS)", state: "ok", ms: doneAt - began, detail: "the certificate is the answer's" });
    if (mediaAt === undefined) {
      const detail = rejected > 0 ? `${rejected} packets could not be decrypted` : "none came: the publisher may have paused";
      this.steps.push({ what: "first media", state: "failed", detail });
      return false;
    }
    this.steps.push({ what: "first media", state: "ok", ms: mediaAt - began });
    return true;
  }

  readonly #byRemote = new Map<string, Link>();

  #linkTo({ address, port }: Remote): Link | undefined {
    return this.#byRemote.get(`${address} ${port}`);
  }

  #keep(remote: Remote, link: Link): Link {
    this.#links.push(link);
    this.#byRemote.set(`${remote.address} ${remote.port}`, link);
    return link;
  }

  #openUdp(remote: Remote): Link {
    const socket: UdpSocket = createSocket(remote.address.includes(":") ? "udp6" : "udp4");
    socket.on("message", (datagram, from) => this.#onDatagram(datagram, from.address));
    socket.on("error", () => {}); // no route: the check will say that nobody answers
    return this.#keep(remote, {
      send: (datagram, to) => socket.send(datagram, to.port, to.address, () => {}),
      close: () => socket.close(),
    });
  }

  /** Frames of RFC 4571: two bytes of length before each datagram. */
  async #openTcp(remote: Remote): Promise<Link> {
    const socket: TcpSocket = connect({ host: remote.address, port: remote.port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      const limit = setTimeout(() => reject(new Error("no connection in time")), this.#options.patience);
      socket.once("error", reject).once("connect", () => {
        clearTimeout(limit);
        resolve();
      });
    }).catch((error: unknown) => {
      socket.destroy();
      throw error;
    });
    let rest = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.on("data", (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes]);
      while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
        const end = 2 + rest.readUInt16BE(0);
        this.#onDatagram(rest.subarray(2, end), remote.address);
        rest = rest.subarray(end);
      }
    });
    return this.#keep(remote, {
      send(datagram) {
        const head = Buffer.alloc(2);
        head.writeUInt16BE(datagram.length, 0);
        socket.write(Buffer.concat([head, datagram]));
      },
      close: () => socket.destroy(),
    });
  }
}

function describeRefusal({ status, body }: { status: number; body: string }): string {
  try {
    const { title = "", detail = "" } = JSON.parse(body) as Record<string, string>;
    return `${status} ${title}: ${detail}`;
  } catch {
    return `HTTP ${status}`;
  }
}

function describeFailure(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const words: Readonly<Record<string, string>> = {
    ECONNREFUSED: "nobody listens there (connection refused)",
    ENOTFOUND: "this name has no address",
    EHOSTUNREACH: "no route to that address",
    ENETUNREACH: "no route to that network",
    ETIMEDOUT: "no connection in time",
    ECONNRESET: "the connection was cut",
    DEPTH_ZERO_SELF_SIGNED_CERT: "a certificate that nobody has signed: add --insecure",
    SELF_SIGNED_CERT_IN_CHAIN: "a certificate that nobody known has signed: add --insecure",
  };
  if (cause instanceof Error && cause.name === "TimeoutError") return "no answer in time";
  return words[code] ?? (cause instanceof Error ? cause.message : String(cause));
}
