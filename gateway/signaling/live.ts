// A room as one live stream: which participants are mixed, and when the mixing child is replaced because they changed.
//
// A successor opens its inputs while its predecessor still mixes, and takes the stream over when it begins to publish: the hub keeps the
// viewers and the clock. Who closes whom: `stop`, an empty room and `close` end a room's children; a child that ends by itself is
// started again, slower each time.

import type { Mixer, MixInput, MixLayout, MixPlan } from "../../transcoder/room-mixer.js";
import type { Clock, TimerHandle } from "../hub/clock.js";
import type { Hub, Peer, PublishRequest, Stream } from "../hub/types.js";
import { Refusal } from "../media/errors.js";
import { MIX_NAME } from "./message.js";
import { mixableTracks, TrackWatch } from "./track-watch.js";

/** The machine's side of mixing. */
export interface MixerFactory {
  /** Why nothing can be mixed on this machine, or undefined. */
  readonly refusal: string | undefined;
  /** `onEnd` is called at most once, never after `close`. */
  start(plan: MixPlan, onEnd: (reason: string) => void): Mixer;
  /** The plan as a person would type it. */
  command(plan: MixPlan): string;
  /** RTMP can ask for a stream of that name. */
  isAddressable(display: string): boolean;
}

export type RoomLivesOptions = {
  readonly clock: Clock;
  readonly hub: Pick<Hub, "find">;
  readonly mixers: MixerFactory;
  /** `transcode { enabled; max_children; }` as configured now. */
  readonly settings: () => { readonly enabled: boolean; readonly maxChildren: number };
  /** Where this gateway's RTMP is reached from this machine. */
  readonly server: { readonly host: string; readonly port: number };
  /** Names of those in a room, in their order; undefined: there is no such room. */
  readonly participants: (vhost: string, room: string) => readonly string[] | undefined;
  /** WebRTC publishers of a vhost can be watched over RTMP. */
  readonly isBridged: (vhost: string) => boolean;
  /** Unguessable texts by which the hub knows a room's own children. */
  readonly secret: () => string;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  /** The configured vhost that serves a name. */
  readonly vhostOf: (name: string) => string;
  /** The vhost that needs no name in an address. */
  readonly defaultVhost: string;
};

/** What the API shows. */
export type LiveState = {
  /** `waiting`: nobody publishes anything that can be mixed. */
  readonly state: "off" | "waiting" | "starting" | "live" | "failing";
  readonly layout: MixLayout;
  /** Milliseconds since 1970 at which it was asked for. */
  readonly since: number | undefined;
  readonly inputs: readonly string[];
  readonly leftOut: readonly { readonly display: string; readonly reason: string }[];
  /** Children started so far. */
  readonly starts: number;
  /** Why the last child that failed did. */
  readonly error: string | undefined;
  /** Why it cannot be started here, or undefined. */
  readonly refusal: string | undefined;
  /** Address of the mixed stream, and the command that makes it, for whoever runs it himself. */
  readonly url: string;
  readonly command: string | undefined;
};

/** Milliseconds between two looks at a room. */
const LOOK = 250;
/** Milliseconds that a newcomer must have been there: several who come together make one new child. */
const SETTLE = 500;
/** Milliseconds without a packet after which a track counts as stopped. */
const STALLED = 2_000;
/** Milliseconds between two children, at least: each costs the opening of all inputs. */
const BETWEEN_STARTS = 1_500;
/** Milliseconds that opening the inputs is thought to take: the mix begins then, so that it neither lags nor waits. */
const OPENING = 500;
const OPENING_EACH = 150;
/** Milliseconds until a child must publish, and within which its stream must go on. */
const BEGIN_WITHIN = 15_000;
const STANDSTILL = 6_000;
/** Milliseconds before a failed child is started again: doubled each time. */
const RETRY = 1_000;
const MAX_RETRY = 30_000;

export class RoomLives {
  readonly #options: RoomLivesOptions;
  readonly #lives = new Map<string, RoomLive>();

  constructor(options: RoomLivesOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#lives.size;
  }

  /**
   * Begins to mix a room; the first child starts in this turn when there is something to mix.
   *
   * @throws Refusal `forbidden` (not configured), `not-found`, `busy`, `overloaded`, `unavailable`
   */
  start(vhost: string, room: string, layout: MixLayout): void {
    const { settings, mixers, participants, hub, clock } = this.#options;
    const { enabled, maxChildren } = settings();
    if (!enabled) throw new Refusal("forbidden", NOT_ENABLED);
    if (participants(vhost, room) === undefined) throw new Refusal("not-found", "There is no such room: nobody is in it.");
    const key = keyOf(vhost, room);
    const live = this.#lives.get(key);
    if (live !== undefined)
      throw new Refusal("busy", `The room is live already, with the layout ${live.layout}: end that first.`);
    const merge = hub.find({ vhost, app: room, stream: MIX_NAME });
    if (merge?.state === "live") throw new Refusal("busy", `Somebody publishes ${room}/${MIX_NAME} already.`);
    if (mixers.refusal !== undefined) throw new Refusal("unavailable", mixers.refusal);
    if (this.#lives.size >= maxChildren) {
      throw new Refusal("overloaded", `This gateway mixes its maximum of ${maxChildren} rooms (transcode.max_children).`);
    }
    const made = new RoomLive(vhost, room, layout, this.#options, () => this.#lives.delete(key));
    this.#lives.set(key, made);
    this.#options.log.info({ room, layout }, "room live started");
    made.look(clock.now());
  }

  /** @returns false when the room was not live */
  stop(vhost: string, room: string, reason: string): boolean {
    const live = this.#lives.get(keyOf(vhost, room));
    live?.end(reason);
    return live !== undefined;
  }

  /** @param host as whoever asks reaches this gateway. @param layout of the command while the room is not live */
  state(vhost: string, room: string, layout: MixLayout, host: string): LiveState {
    const { settings, mixers, participants } = this.#options;
    const live = this.#lives.get(keyOf(vhost, room));
    const shownLayout = live?.layout ?? layout;
    const { inputs, leftOut } = this.#present(vhost, room, participants(vhost, room) ?? []);
    const { enabled } = settings();
    const server = `rtmp://${host.includes(":") ? `[${host}]` : host}${this.#options.server.port === 1935 ? "" : `:${this.#options.server.port}`}`;
    const plan: MixPlan = {
      server,
      vhost: vhost === this.#options.defaultVhost ? "" : vhost,
      room,
      layout: shownLayout,
      inputs,
      start: 0,
      output: MIX_NAME,
    };
    return {
      state: live?.state ?? "off",
      layout: shownLayout,
      since: live?.since,
      inputs: (live?.mixed ?? inputs).map(({ display }) => display),
      leftOut,
      starts: live?.starts ?? 0,
      error: live?.error,
      refusal: enabled ? mixers.refusal : NOT_ENABLED,
      url: `${server}/${room}/${MIX_NAME}`,
      command: inputs.length === 0 ? undefined : mixers.command(plan),
    };
  }

  /** Whether a publisher is a room's next child, which may take the mixed stream over from the one before. */
  isSuccessor(request: Pick<PublishRequest, "name" | "peer">): boolean {
    return this.#liveOf(request)?.isNext(tokenOf(request.peer)) === true;
  }

  /** Somebody publishes now; perhaps a room's next child. */
  onPublish(publisher: Pick<PublishRequest, "name" | "peer">): void {
    this.#liveOf(publisher)?.promote(tokenOf(publisher.peer));
  }

  /** Ends all children; fulfilled when none is left. */
  async close(reason: string): Promise<void> {
    const lives = [...this.#lives.values()];
    for (const live of lives) live.end(reason);
    await Promise.all(lives.map((live) => live.gone()));
  }

  #liveOf({ name }: Pick<PublishRequest, "name">): RoomLive | undefined {
    if (name.stream !== MIX_NAME || this.#lives.size === 0) return undefined;
    return this.#lives.get(keyOf(this.#options.vhostOf(name.vhost), name.app));
  }

  /** Who could be mixed now, by what is announced. */
  #present(vhost: string, room: string, names: readonly string[]): { inputs: MixInput[]; leftOut: LeftOut[] } {
    const { hub, mixers, isBridged } = this.#options;
    const inputs: MixInput[] = [];
    const leftOut: LeftOut[] = [];
    for (const display of names) {
      const stream = hub.find({ vhost, app: room, stream: display });
      const { hasVideo, hasAudio, reason } = mixableTracks(stream, isBridged(vhost));
      if (reason !== undefined || stream === undefined) leftOut.push({ display, reason: reason ?? "publishes nothing" });
      else if (!mixers.isAddressable(display)) leftOut.push({ display, reason: UNADDRESSABLE });
      else inputs.push({ display, hasVideo, hasAudio, offset: -stream.now() });
    }
    return { inputs, leftOut };
  }
}

type LeftOut = { readonly display: string; readonly reason: string };
type Child = {
  readonly key: string;
  readonly inputs: readonly MixInput[];
  readonly token: string;
  readonly startedAt: number;
  mixer: Mixer;
};

/** One room that is live. */
class RoomLive {
  readonly layout: MixLayout;
  readonly since: number;
  starts = 0;
  error: string | undefined;
  readonly #vhost: string;
  readonly #room: string;
  readonly #options: RoomLivesOptions;
  readonly #onEnd: () => void;
  readonly #origin: number;
  readonly #watches = new Map<string, TrackWatch>();
  readonly #ending = new Set<Promise<void>>();
  /** The child whose stream is live, and the one that is about to take over. */
  #current: Child | undefined;
  #next: Child | undefined;
  #wanted = { key: "", since: 0 };
  #failures = 0;
  #retryAt = 0;
  #progress = { units: 0, at: 0 };
  #timer: TimerHandle | undefined;
  #isOver = false;

  constructor(vhost: string, room: string, layout: MixLayout, options: RoomLivesOptions, onEnd: () => void) {
    this.#vhost = vhost;
    this.#room = room;
    this.layout = layout;
    this.#options = options;
    this.#onEnd = onEnd;
    this.#origin = options.clock.now();
    this.since = Math.round(options.clock.wallTime());
  }

  get state(): "waiting" | "starting" | "live" | "failing" {
    if (this.#current !== undefined) return "live";
    if (this.#failures > 0) return "failing";
    return this.#next === undefined ? "waiting" : "starting";
  }

  /** What the newest child mixes. */
  get mixed(): readonly MixInput[] {
    return (this.#current ?? this.#next)?.inputs ?? [];
  }

  isNext(token: string | undefined): boolean {
    return this.#next !== undefined && this.#next.token === token;
  }

  promote(token: string | undefined): void {
    const next = this.#next;
    if (next === undefined || !this.isNext(token)) return;
    this.#next = undefined;
    if (this.#current !== undefined) this.#close(this.#current);
    this.#current = next;
    this.#progress = { units: -1, at: this.#options.clock.now() };
  }

  /** Looks who is there, and replaces the child when they are others. */
  look(now: number): void {
    if (this.#isOver) return;
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(LOOK, () => this.look(this.#options.clock.now()));
    const names = this.#options.participants(this.#vhost, this.#room);
    if (names === undefined || names.length === 0) {
      this.end("the room is empty");
      return;
    }
    const inputs = this.#flowing(names);
    const key = JSON.stringify(inputs);
    if (key !== this.#wanted.key) this.#wanted = { key, since: now };
    this.#checkChildren(now);
    if (inputs.length === 0) {
      for (const child of [this.#next, this.#current]) if (child !== undefined) this.#close(child);
      this.#next = undefined;
      this.#current = undefined;
      return;
    }
    const newest = this.#next ?? this.#current;
    if (newest?.key === key || now < this.#retryAt) return;
    // A track that has stopped holds all others up; one that has come can wait a moment.
    const isUrgent = newest === undefined || newest.inputs.some((one) => !inputs.some((other) => holds(other, one)));
    if (!isUrgent && now - this.#wanted.since < SETTLE) return;
    if (newest !== undefined && now - newest.startedAt < BETWEEN_STARTS) return;
    if (this.#next !== undefined) this.#close(this.#next);
    this.#next = this.#start(now, inputs, key);
  }

  end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer?.cancel();
    for (const child of [this.#next, this.#current]) if (child !== undefined) this.#close(child);
    for (const watch of this.#watches.values()) watch.close();
    this.#watches.clear();
    this.#options.log.info({ room: this.#room, reason, starts: this.starts }, "room live ended");
    this.#onEnd();
  }

  async gone(): Promise<void> {
    await Promise.all(this.#ending);
  }

  /** Those whose media comes now, each with the tracks that do. */
  #flowing(names: readonly string[]): MixInput[] {
    const { hub, mixers, isBridged, clock } = this.#options;
    for (const [name, watch] of this.#watches) {
      if (names.includes(name)) continue;
      watch.close();
      this.#watches.delete(name);
    }
    const inputs: MixInput[] = [];
    for (const display of names) {
      const stream = hub.find({ vhost: this.#vhost, app: this.#room, stream: display });
      const tracks = mixableTracks(stream, isBridged(this.#vhost));
      if (stream === undefined || tracks.reason !== undefined || !mixers.isAddressable(display)) continue;
      const watch = this.#watchOf(display, stream, clock);
      const hasVideo = tracks.hasVideo && watch.flows("video", STALLED);
      const hasAudio = tracks.hasAudio && watch.flows("audio", STALLED);
      const offset = watch.offset - Math.round(this.#origin * 1000);
      if (hasVideo || hasAudio) inputs.push({ display, hasVideo, hasAudio, offset });
    }
    return inputs;
  }

  #watchOf(display: string, stream: Stream, clock: Clock): TrackWatch {
    const known = this.#watches.get(display);
    if (known?.isOf(stream) === true) return known;
    known?.close();
    const made = new TrackWatch(stream, clock);
    this.#watches.set(display, made);
    return made;
  }

  /** A child that does not begin, or whose stream stands still, is given up. */
  #checkChildren(now: number): void {
    const { hub } = this.#options;
    if (this.#next !== undefined && now - this.#next.startedAt > BEGIN_WITHIN) {
      this.#fail(this.#next, `it did not publish within ${BEGIN_WITHIN / 1000} s`);
    }
    const current = this.#current;
    if (current === undefined) return;
    const units = hub.find({ vhost: this.#vhost, app: this.#room, stream: MIX_NAME })?.received.units ?? 0;
    if (units !== this.#progress.units) {
      if (units > this.#progress.units && this.#progress.units > 0) this.#failures = 0;
      this.#progress = { units, at: now };
    } else if (now - this.#progress.at > STANDSTILL) this.#fail(current, "the mixed stream stood still");
  }

  #start(now: number, inputs: readonly MixInput[], key: string): Child {
    const { mixers, secret, server, defaultVhost } = this.#options;
    const token = secret();
    const opening = OPENING + OPENING_EACH * inputs.length;
    const plan: MixPlan = {
      server: `rtmp://${server.host.includes(":") ? `[${server.host}]` : server.host}:${server.port}`,
      vhost: this.#vhost === defaultVhost ? "" : this.#vhost,
      room: this.#room,
      layout: this.layout,
      inputs,
      start: Math.round((now - this.#origin + opening) * 1000),
      output: `${MIX_NAME}?mix=${token}`,
    };
    this.starts++;
    const child: Child = {
      key,
      inputs,
      token,
      startedAt: now,
      mixer: mixers.start(plan, (reason) => this.#fail(child, reason)),
    };
    return child;
  }

  #fail(child: Child, reason: string): void {
    if (this.#isOver || (child !== this.#current && child !== this.#next)) return;
    this.#close(child);
    if (child === this.#current) this.#current = undefined;
    else this.#next = undefined;
    this.error = reason;
    this.#retryAt = this.#options.clock.now() + Math.min(MAX_RETRY, RETRY * 2 ** this.#failures);
    this.#failures++;
    this.#options.log.warn({ room: this.#room, reason }, "room live: the mixing child failed");
  }

  #close(child: Child): void {
    child.mixer.close();
    const { gone } = child.mixer;
    this.#ending.add(gone);
    void gone.then(() => this.#ending.delete(gone));
  }
}

/** Whether one input still has all that another had. */
function holds(now: MixInput, before: MixInput): boolean {
  const { display, offset, hasVideo, hasAudio } = before;
  return now.display === display && now.offset === offset && (now.hasVideo || !hasVideo) && (now.hasAudio || !hasAudio);
}

function tokenOf({ parameters }: Peer): string | undefined {
  return new URLSearchParams(parameters).get("mix") ?? undefined;
}

function keyOf(vhost: string, room: string): string {
  return JSON.stringify([vhost, room]);
}

const NOT_ENABLED = "Mixing is switched off here: transcode { enabled on; } switches it on.";
const UNADDRESSABLE = "has a name that RTMP cannot ask for (? @ \\ or an empty part between slashes)";
