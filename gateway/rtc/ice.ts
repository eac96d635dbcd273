// ICE-lite agent of one session (RFC 8445 sections 2.5 and 7.3): answers checks, learns the peer's addresses from them, and lets
// the peer, which is always controlling, choose one. Nothing that is not signed with our password has any effect.

import type { Endpoint } from "../native/types.js";
import type { IceCredentials } from "./sdp-answer.js";
import { parseStun, verifyIntegrity, writeBindingError, writeBindingResponse } from "./stun.js";

/** What a datagram led to: `ignored` ones must have no effect at all, not even on timeouts. */
export type IceVerdict = "ignored" | "refused" | "answered" | "selected";

type RemoteAddress = { readonly endpoint: Endpoint; priority: number; lastHeard: number };

export class IceLiteAgent {
  /** The address media goes to: the peer's choice. */
  selected: Endpoint | undefined;
  /** The address that the last check pushed out of the list, if it did. */
  forgotten: Endpoint | undefined;
  /** The response to the last check, for the caller to send back to where the check came from. */
  response: Buffer | undefined;
  readonly statistics = { checks: 0, ignored: 0 };

  readonly #echoesUsername: boolean;
  #local: IceCredentials;
  #remoteFragment: string;
  /** The credentials before a restart: they hold until the peer uses the new ones (RFC 8445 section 9). */
  #previous: { readonly local: IceCredentials; readonly remoteFragment: string } | undefined;
  readonly #addresses: RemoteAddress[] = [];
  #selectedPriority = 0;
  #selectedHeard = Number.NEGATIVE_INFINITY;

  /** @param echoesUsername in responses: the credentials were chosen by somebody who checks a path with a tool. Default false */
  constructor(local: IceCredentials, remoteFragment: string, echoesUsername = false) {
    this.#local = local;
    this.#echoesUsername = echoesUsername;
    this.#remoteFragment = remoteFragment;
  }

  get local(): IceCredentials {
    return this.#local;
  }

  /** Takes a datagram that looks like STUN. After anything but `ignored`, `response` is to be sent. */
  receive(now: number, datagram: Buffer, from: Endpoint): IceVerdict {
    this.response = undefined;
    this.forgotten = undefined;
    const message = parseStun(datagram);
    if (message === undefined || message.class !== "request") return this.#ignore();
    const credentials = this.#credentialsFor(message.username);
    if (credentials === undefined || !verifyIntegrity(datagram, message, credentials.password)) return this.#ignore();
    const { password } = credentials;
    if (message.unknownAttributes.length > 0) {
      this.response = writeBindingError(message.transactionId, 420, password, message.unknownAttributes);
      return "refused";
    }
    if (message.role?.name === "controlled") {
      this.response = writeBindingError(message.transactionId, 487, password); // we are lite: the peer must control
      return "refused";
    }
    this.statistics.checks++;
    if (credentials === this.#local) this.#previous = undefined;
    const echo = this.#echoesUsername ? message.username : undefined;
    this.response = writeBindingResponse(message.transactionId, from.address, from.port, password, echo);
    const remote = this.#learn(now, from, message.priority ?? 0);
    if (remote === undefined) return "answered";
    const isSelected = this.selected !== undefined && sameEndpoint(this.selected, from);
    if (isSelected) this.#selectedHeard = now;
    if (isSelected) return "answered";
    // A peer whose router gave it a new port goes on checking the pair it chose long ago, from the new port and without choosing
    // it again: once the old address is silent the new one is it.
    const isSilent = this.selected !== undefined && now - this.#selectedHeard >= SELECTED_SILENCE;
    if (!message.useCandidate && !isSilent) return "answered";
    // An aggressive peer nominates several pairs: the best stays (RFC 5245 section 8.1.1.2).
    if (this.selected !== undefined && remote.priority < this.#selectedPriority && !isSilent) return "answered";
    this.selected = remote.endpoint;
    this.#selectedPriority = remote.priority;
    this.#selectedHeard = now;
    return "selected";
  }

  /** Notes an authenticated packet of another kind. */
  heard(now: number, from: Endpoint): void {
    if (this.selected !== undefined && sameEndpoint(this.selected, from)) this.#selectedHeard = now;
  }

  /** The address is no more: its TCP connection has ended. If it was the selected one, the next check from any other selects that. */
  drop(endpoint: Endpoint): void {
    const index = this.#addresses.findIndex((address) => sameEndpoint(address.endpoint, endpoint));
    if (index !== -1) this.#addresses.splice(index, 1);
    if (this.selected === undefined || !sameEndpoint(this.selected, endpoint)) return;
    this.#selectedHeard = Number.NEGATIVE_INFINITY;
    this.#selectedPriority = 0;
  }

  /** True for an address from which a signed check has come. */
  knows(endpoint: Endpoint): boolean {
    return this.#addresses.some((address) => sameEndpoint(address.endpoint, endpoint));
  }

  /** Every address from which a signed check has come. */
  get addresses(): readonly Endpoint[] {
    return this.#addresses.map((address) => address.endpoint);
  }

  /** The user-name fragments of ours that are in force. */
  get localFragments(): readonly string[] {
    const { usernameFragment } = this.#local;
    return this.#previous === undefined ? [usernameFragment] : [this.#previous.local.usernameFragment, usernameFragment];
  }

  get remoteFragment(): string {
    return this.#remoteFragment;
  }

  /** New credentials; media goes on over the selected pair meanwhile. */
  restart(local: IceCredentials, remoteFragment: string): void {
    // Of several restarts in a row none may have reached the peer: what it has used last stays in force.
    this.#previous ??= { local: this.#local, remoteFragment: this.#remoteFragment };
    this.#local = local;
    this.#remoteFragment = remoteFragment;
    this.#selectedPriority = 0; // whatever pair the peer chooses now is the better one
  }

  #credentialsFor(username: string | undefined): IceCredentials | undefined {
    if (username === undefined) return undefined;
    if (username === `${this.#local.usernameFragment}:${this.#remoteFragment}`) return this.#local;
    const previous = this.#previous;
    if (previous === undefined || username !== `${previous.local.usernameFragment}:${previous.remoteFragment}`) return undefined;
    return previous.local;
  }

  #learn(now: number, from: Endpoint, priority: number): RemoteAddress | undefined {
    for (const address of this.#addresses) {
      if (!sameEndpoint(address.endpoint, from)) continue;
      address.lastHeard = now;
      address.priority = priority;
      return address;
    }
    if (this.#addresses.length >= MAX_ADDRESSES) {
      const oldest = this.#addresses.reduce((a, b) => (a.lastHeard <= b.lastHeard ? a : b));
      if (now - oldest.lastHeard < SELECTED_SILENCE) return undefined;
      this.#addresses.splice(this.#addresses.indexOf(oldest), 1);
      this.forgotten = oldest.endpoint;
    }
    const address = { endpoint: from, priority, lastHeard: now };
    this.#addresses.push(address);
    return address;
  }

  #ignore(): IceVerdict {
    this.statistics.ignored++;
    return "ignored";
  }
}

export function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.port === b.port && a.socket === b.socket && a.address === b.address;
}

const SELECTED_SILENCE = 3_000; // ms; a pair in use is checked at least every 2.5 s by browsers
const MAX_ADDRESSES = 16; // of one peer: interfaces times address families
