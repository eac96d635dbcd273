// All sessions behind the media sockets: which one a datagram is for (by the user name of a check, else by the address a signed
// check has come from), and which one is to be woken next.

import type { Clock, TimerHandle } from "../hub/clock.js";
import { type Endpoint, FIRST_STREAM } from "../native/types.js";
import type { RtcSession } from "./session.js";
import { isStun, usernameFragmentOf } from "./stun.js";
import { TimerQueue } from "./timer-queue.js";

export class SessionTable {
  /** Datagrams that belong to no session. */
  strayDatagrams = 0;
  readonly #clock: Clock;
  readonly #onWork: () => void;
  readonly #byId = new Map<string, RtcSession>();
  readonly #byFragment = new Map<string, RtcSession>();
  /** By address, then by port and local socket. */
  readonly #byAddress = new Map<string, Map<number, RtcSession>>();
  readonly #timers = new TimerQueue<RtcSession>();
  #wakeAt = Number.POSITIVE_INFINITY;
  #wake: TimerHandle | undefined;
  /** The time of the datagrams in hand, and whom they were for. */
  #turn: number | undefined;
  readonly #touched: RtcSession[] = [];
  #isClosed = false;

  /** @param onWork called after sessions have run: something may wait to be sent */
  constructor(clock: Clock, onWork: () => void) {
    this.#clock = clock;
    this.#onWork = onWork;
  }

  get size(): number {
    return this.#byId.size;
  }

  get(id: string): RtcSession | undefined {
    return this.#byId.get(id);
  }

  [Symbol.iterator](): Iterator<RtcSession> {
    return this.#byId.values();
  }

  hasFragment(usernameFragment: string): boolean {
    return this.#byFragment.has(usernameFragment);
  }

  ofFragment(usernameFragment: string): RtcSession | undefined {
    return this.#byFragment.get(usernameFragment);
  }

  add(session: RtcSession): void {
    this.#byId.set(session.id, session);
    for (const fragment of session.localFragments) this.#byFragment.set(fragment, session);
    this.#schedule(session);
    this.#arm();
  }

  /** The session has restarted ICE: checks by its new user name are its own too. */
  updateFragments(session: RtcSession): void {
    const inForce = session.ice.localFragments;
    for (const fragment of session.localFragments) if (!inForce.includes(fragment)) this.#byFragment.delete(fragment);
    for (const fragment of inForce) this.#byFragment.set(fragment, session);
    session.localFragments = inForce;
  }

  /** Idempotent. */
  remove(session: RtcSession): void {
    if (!this.#byId.delete(session.id)) return;
    for (const fragment of session.localFragments) this.#byFragment.delete(fragment);
    for (const endpoint of session.ice.addresses) this.forgetAddress(session, endpoint);
    this.#timers.remove(session);
  }

  /** From now on datagrams from there are the session's. */
  learnAddress(session: RtcSession, endpoint: Endpoint): void {
    let ports = this.#byAddress.get(endpoint.address);
    if (ports === undefined) {
      ports = new Map();
      this.#byAddress.set(endpoint.address, ports);
    }
    const key = portKey(endpoint);
    const owner = ports.get(key);
    // An address changes hands only when its session has gone quiet: nobody may take a live viewer's address by a forged source.
    if (owner !== undefined && owner !== session && !owner.isSilent(this.#clock.now())) return;
    ports.set(key, session);
  }

  forgetAddress(session: RtcSession, endpoint: Endpoint): void {
    const ports = this.#byAddress.get(endpoint.address);
    const key = portKey(endpoint);
    if (ports?.get(key) === session) ports.delete(key);
    if (ports?.size === 0) this.#byAddress.delete(endpoint.address);
  }

  /** A TCP connection has ended. */
  endAddress(endpoint: Endpoint): void {
    this.#byAddress.get(endpoint.address)?.get(portKey(endpoint))?.addressEnded(endpoint);
  }

  /**
   * @param datagram valid until the call returns
   * @param more another one follows at once. What a turn's datagrams lead to is done after the last of them, all at one time.
   */
  receive(datagram: Buffer, from: Endpoint, more = false): void {
    this.#turn ??= this.#clock.now();
    const now = this.#turn;
    try {
      this.#handOn(now, datagram, from);
    } finally {
      if (!more) this.#endTurn(now); // whatever one session did: the others of the turn have their work done
    }
  }

  #handOn(now: number, datagram: Buffer, from: Endpoint): void {
    const session = isStun(datagram)
      ? this.#byFragment.get(usernameFragmentOf(datagram) ?? "")
      : this.#byAddress.get(from.address)?.get(portKey(from));
    if (session === undefined) {
      this.strayDatagrams++;
      return;
    }
    if (!session.isTouched) {
      session.isTouched = true;
      this.#touched.push(session);
    }
    session.receive(now, datagram, from);
  }

  #endTurn(now: number): void {
    this.#turn = undefined;
    const touched = this.#touched;
    if (touched.length === 0) return;
    for (let index = 0; index < touched.length; index++) {
      const session = touched[index] as RtcSession;
      session.isTouched = false;
      this.#schedule(session);
    }
    touched.length = 0;
    this.#runDue(now); // what is due now anyway needs no wake-up of its own
    this.#arm();
    this.#onWork();
  }

  /** Something outside has changed what the session has to do, or to send. */
  touch(session: RtcSession): void {
    if (session.isClosed()) return;
    this.#schedule(session);
    this.#arm();
    this.#onWork();
  }

  /** Wakes nobody any more. */
  close(): void {
    this.#isClosed = true;
    this.#wake?.cancel();
  }

  #schedule(session: RtcSession): void {
    const due = session.nextTimeout();
    if (due !== session.due) this.#timers.set(session, due);
  }

  /** One timer for all. One that would fire for nobody is set anew: a turn of the event loop costs more than that. */
  #arm(): void {
    const due = this.#timers.first?.due ?? Number.POSITIVE_INFINITY;
    if (due === this.#wakeAt || this.#isClosed) return;
    const now = this.#clock.now();
    if (due > this.#wakeAt && this.#wakeAt > now + IMMINENT) return;
    this.#wake?.cancel();
    this.#wakeAt = due;
    this.#wake = due === Number.POSITIVE_INFINITY ? undefined : this.#clock.after(Math.max(0, due - now), () => this.#onTimer());
  }

  #onTimer(): void {
    this.#wakeAt = Number.POSITIVE_INFINITY;
    this.#wake = undefined;
    this.#runDue(this.#clock.now());
    this.#arm();
    this.#onWork();
  }

  #runDue(now: number): void {
    for (let session = this.#timers.first; session !== undefined && session.due <= now; session = this.#timers.first) {
      session.onTimeout(now);
      // A session that closed has left the queue; one that forgot what was due must not keep us here.
      if (!session.isClosed()) this.#timers.set(session, Math.max(session.nextTimeout(), now + MIN_WAIT));
    }
  }
}

function portKey(endpoint: Endpoint): number {
  const { socket, port } = endpoint;
  return socket < FIRST_STREAM ? port * FIRST_STREAM + socket : -socket; // a connection has its number for itself
}

const MIN_WAIT = 1; // ms
const IMMINENT = 20; // ms: a timer that fires later than this may be put off in time yet
