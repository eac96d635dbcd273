// What every offer goes through before its session is made, viewer's or publisher's: limits, ICE credentials, candidates.

import { createHash, randomBytes, randomInt, timingSafeEqual } from "node:crypto";

import { type Config, vhostFor } from "../config/config.js";
import type { Clock } from "../hub/clock.js";
import type { Peer, StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import { addressBytes } from "./address.js";
import { gatherCandidates, parseRequested, servesFamily, type Transports, withTransports } from "./candidates.js";
import { SessionTrace } from "./diagnosis.js";
import type { RtcMachine } from "./network.js";
import { type Offer, parseOffer } from "./sdp.js";
import { type AnswerOptions, type Candidate, type IceCredentials, isBareOffer } from "./sdp-answer.js";
import type { SessionTable } from "./session-table.js";

/** An offer as it comes from HTTP; the fields are described where HTTP reads them. */
export type RtcOffer = {
  readonly name: StreamName;
  readonly sdp: string;
  /** The client's address without port. */
  readonly address: string;
  readonly parameters: string;
  /** Token of the request's Authorization header. */
  readonly bearer?: string;
  /** Host of the API request, a candidate when `api_as_candidates` is on; empty when unknown. */
  readonly apiHost: string;
  /** `?eip=`: replaces every other candidate. */
  readonly candidates: readonly string[];
  readonly iceUsernameFragment?: string;
  readonly icePassword?: string;
  /** The only codec a publisher is to send; viewers get what the publisher sends. Lower case. */
  readonly videoCodec?: string;
  readonly audioCodec?: string;
  readonly pageUrl?: string;
  /** Play before publish: the viewer waits for the publisher. Default false. */
  readonly mayWait?: boolean;
};

/** An offer that was read, and what its answer needs. */
export type Admitted = {
  readonly id: string;
  /** Token of the header, where one is asked for: the session wants it again. */
  readonly bearer: string | undefined;
  readonly name: StreamName;
  readonly peer: Peer;
  readonly offer: Offer;
  readonly answer: AnswerOptions;
  /** `check`: the client chose our ICE credentials and offers nothing that could be encrypted, so this ends with ICE. */
  readonly purpose: "media" | "check";
  readonly echoesUsername: boolean;
  readonly stunTimeout: number;
  readonly trace: SessionTrace;
};

export type AdmissionOptions = {
  readonly clock: Clock;
  readonly machine: RtcMachine;
  readonly table: SessionTable;
  /** Of our certificate. */
  readonly fingerprint: AnswerOptions["fingerprint"];
  readonly cname: string;
};

export class Admission {
  readonly #options: AdmissionOptions;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** @throws Refusal when the offer cannot be read, or what its query asks for cannot be had */
  async admit(offer: RtcOffer, config: Config, transports: Transports): Promise<Admitted> {
    const { clock, machine, table, fingerprint, cname } = this.#options;
    const trace = new SessionTrace(clock.now());
    const parsed = parseOffer(offer.sdp);
    trace.note("offer", clock.now());
    const isCheck = offer.iceUsernameFragment !== undefined && offer.icePassword !== undefined;
    if (isCheck) this.#endEarlierCheck(offer.iceUsernameFragment, offer.icePassword);
    const ice = chooseCredentials(offer, (fragment) => table.hasFragment(fragment));
    const candidates = withTransports(await candidatesFor(offer, config, machine, transports.udp.port), transports);
    const { rtc } = vhostFor(config, offer.name.vhost);
    const id = randomBytes(18).toString("base64url");
    const { address, parameters, pageUrl } = offer;
    const used = new Set<number>();
    return {
      id,
      name: offer.name,
      bearer: rtc.token === "" ? undefined : offer.bearer,
      peer: { id, protocol: "rtc", address, parameters, ...(pageUrl !== undefined && { pageUrl }) },
      offer: parsed,
      answer: {
        ice,
        fingerprint,
        dtlsRole: rtc.dtlsRole,
        candidates,
        sessionId: String(randomInt(2 ** 47)),
        cname,
        streamId: STREAM_ID,
        nack: rtc.nack,
        twcc: rtc.twcc,
        newSsrc: () => newSsrc(used),
      },
      purpose: isCheck && isBareOffer(parsed) ? "check" : "media",
      echoesUsername: isCheck,
      stunTimeout: rtc.stunTimeout,
      trace,
    };
  }

  /** Checks are repeated with the same words from a shell: the earlier one must not stand in the way for its half minute. */
  #endEarlierCheck(usernameFragment: string, password: string): void {
    const earlier = this.#options.table.ofFragment(usernameFragment);
    if (earlier === undefined || earlier.state === "connected" || earlier.ice.local.password !== password) return;
    earlier.close(this.#options.clock.now(), "the same credentials were asked for again");
  }
}

/** @throws Refusal when WebRTC is off for the vhost */
export function checkVhost(config: Config, name: StreamName): void {
  if (!vhostFor(config, name.vhost).rtc.enabled) throw new Refusal("unavailable", "WebRTC is switched off (rtc.enabled)");
}

/**
 * Asks for the vhost's token, if it has one: in the header, else in the query.
 *
 * @throws Refusal `unauthorized`
 */
export function checkToken(config: Config, { name, bearer, parameters }: RtcOffer): void {
  const { token } = vhostFor(config, name.vhost).rtc;
  if (token === "") return;
  const given = bearer ?? new URLSearchParams(parameters.slice(1)).get("token");
  if (given === null) throw new Refusal("unauthorized", "a token is needed: Authorization: Bearer, or ?token=");
  if (!isSameToken(given, token)) throw new Refusal("unauthorized", "the token is wrong");
}

/** In a time that tells nothing of where they differ. */
export function isSameToken(given: string, token: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

/** Ours: random, unless the offer's query asks for certain ones. @throws Refusal */
export function chooseCredentials(
  asked: { readonly iceUsernameFragment?: string; readonly icePassword?: string },
  isTaken: (usernameFragment: string) => boolean,
): IceCredentials {
  const usernameFragment = asked.iceUsernameFragment ?? randomBytes(6).toString("base64");
  const password = asked.icePassword ?? randomBytes(24).toString("base64");
  if (!/^[A-Za-z0-9+/]{4,32}$/.test(usernameFragment))
    throw new Refusal("bad-request", "ice-ufrag: 4 to 32 letters, digits, + or /");
  if (!/^[A-Za-z0-9+/]{22,32}$/.test(password)) throw new Refusal("bad-request", "ice-pwd: 22 to 32 letters, digits, + or /");
  if (isTaken(usernameFragment)) throw new Refusal("bad-request", "this ice-ufrag is in use");
  return { usernameFragment, password };
}

/** @param port of the first media socket @throws Refusal when there is none, or `?eip=` makes no sense */
export async function candidatesFor(offer: RtcOffer, config: Config, machine: RtcMachine, port: number): Promise<Candidate[]> {
  const requested = parseRequested(offer.candidates);
  const { rtcServer } = config;
  const candidates = gatherCandidates({
    requested,
    configured: rtcServer.candidate,
    detect: rtcServer.useAutoDetectNetworkIp,
    family: rtcServer.ipFamily,
    interfaces: machine.interfaceAddresses(),
    apiHosts: requested.length > 0 ? [] : await apiHostsOf(offer.apiHost, config, machine),
    listen: rtcServer.listen,
    port,
  });
  if (candidates.length === 0)
    throw new Refusal("unavailable", "no address to reach this gateway at is known (rtc_server.candidate)");
  return candidates;
}

/** What answers announce when nothing is asked for by name: configured or detected, without the API's host. */
export function standingCandidates({ rtcServer }: Config, machine: RtcMachine, port: number): Candidate[] {
  return gatherCandidates({
    requested: [],
    configured: rtcServer.candidate,
    detect: rtcServer.useAutoDetectNetworkIp,
    family: rtcServer.ipFamily,
    interfaces: machine.interfaceAddresses(),
    apiHosts: [],
    listen: rtcServer.listen,
    port,
  });
}

async function apiHostsOf(host: string, { rtcServer }: Config, machine: RtcMachine): Promise<string[]> {
  if (!rtcServer.apiAsCandidates || host === "") return [];
  if (addressBytes(host) !== undefined) return [host];
  // A name may have addresses of a family that no media socket is of.
  const isServed = (address: string): boolean => servesFamily(rtcServer.listen, address, rtcServer.ipFamily);
  const resolved = rtcServer.resolveApiDomain ? (await machine.resolve(host)).filter(isServed) : [];
  return rtcServer.keepApiDomain ? [...resolved, host] : resolved;
}

function newSsrc(used: Set<number>): number {
  for (;;) {
    const ssrc = randomInt(2 ** 32);
    if (ssrc === 0 || used.has(ssrc)) continue;
    used.add(ssrc);
    return ssrc;
  }
}

const STREAM_ID = "sluice";
