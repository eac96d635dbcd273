// What every offer goes through before its session is made, viewer's or publisher's: limits, ICE credentials, candidates.

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

import { type Config, vhostFor } from "../config/config.js";
import type { StreamName } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import { addressBytes } from "./address.js";
import { gatherCandidates, parseRequested, servesFamily } from "./candidates.js";
import type { RtcMachine } from "./network.js";
import type { Candidate, IceCredentials } from "./sdp-answer.js";

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
