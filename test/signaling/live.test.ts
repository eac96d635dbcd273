import assert from "node:assert/strict";
import { test } from "node:test";

import { LiveHub } from "../../gateway/hub/hub.js";
import type { Peer, Publication } from "../../gateway/hub/types.js";
import { Refusal } from "../../gateway/media/errors.js";
import { type MixerFactory, RoomLives } from "../../gateway/signaling/live.js";
import type { MixPlan } from "../../transcoder/room-mixer.js";
import { FakeClock } from "../support/fake-clock.js";
import { aacConfig, avcConfig, BASELINE_PPS, BASELINE_SPS, picture, soundFrame } from "../support/pictures.js";

const VHOST = "__defaultVhost__";

/** A child that a test lets publish, fail or be closed. */
type FakeMixer = { plan: MixPlan; isClosed: boolean; fail: (reason: string) => void };

class World {
  readonly clock = new FakeClock();
  readonly mixers: FakeMixer[] = [];
  readonly hub: LiveHub;
  readonly lives: RoomLives;
  readonly log: string[] = [];
  people: string[] | undefined = [];
  settings = { enabled: true, maxChildren: 1 };
  refusal: string | undefined;
  readonly #flows = new Map<string, { publication: Publication; video: boolean; audio: boolean }>();
  #secrets = 0;

  constructor() {
    this.hub = new LiveHub({
      clock: this.clock,
      vhost: () => ({ name: VHOST, gopCacheFrames: 100, grace: 10_000, takeover: "stale" }),
      isSuccessor: (request) => this.lives.isSuccessor(request),
      onEvent: (event) => {
        if (event.type === "publish") this.lives.onPublish({ name: event.stream.name, peer: event.peer });
      },
    });
    const world = this;
    const mixers: MixerFactory = {
      get refusal() {
        return world.refusal;
      },
      start: (plan, onEnd) => {
        const mixer: FakeMixer = { plan, isClosed: false, fail: onEnd };
        this.mixers.push(mixer);
        return {
          close: () => {
            mixer.isClosed = true;
          },
          gone: Promise.resolve(),
        };
      },
      command: (plan) => `mix ${plan.inputs.map(({ display }) => display).join(" ")}`,
      isAddressable: (display) => !display.includes("?"),
    };
    this.lives = new RoomLives({
      clock: this.clock,
      hub: this.hub,
      mixers,
      settings: () => this.settings,
      server: { host: "127.0.0.1", port: 1935 },
      participants: () => this.people,
      isBridged: () => true,
      secret: () => `secret-${++this.#secrets}`,
      log: { info: (_fields, message) => this.log.push(message), warn: (_fields, message) => this.log.push(message) },
      vhostOf: () => VHOST,
      defaultVhost: VHOST,
    });
  }

  /** Somebody joins and publishes, with these tracks flowing from now on. */
  async join(display: string, tracks: { video?: boolean; audio?: boolean } = {}): Promise<void> {
    this.people = [...(this.people ?? []), display];
    const publication = await this.publish(display, "");
    const { video = true, audio = true } = tracks;
    if (video) publication.writeFrame(avcConfig(BASELINE_SPS, BASELINE_PPS));
    if (audio) publication.writeFrame(aacConfig(48_000));
    this.#flows.set(display, { publication, video, audio });
    this.#write();
  }

  leave(display: string): void {
    this.people = this.people?.filter((one) => one !== display);
    this.#flows.get(display)?.publication.end("left");
    this.#flows.delete(display);
  }

  /** A track begins or stops. */
  flow(display: string, tracks: { video?: boolean; audio?: boolean }): void {
    Object.assign(this.#flows.get(display) ?? {}, tracks);
  }

  async publish(stream: string, parameters: string): Promise<Publication> {
    const peer: Peer = { id: `${stream}${Math.floor(this.clock.now())}`, protocol: "rtmp", address: "127.0.0.1", parameters };
    const source = { requestKeyFrame: () => {}, close: () => {} };
    return await this.hub.publish({ name: { vhost: VHOST, app: "r", stream }, peer, source, lane: "frames" });
  }

  /** The newest child publishes, as a real one does a moment after its start; it goes on with a frame every tick. */
  async begin(index = this.mixers.length - 1): Promise<void> {
    const mixer = this.mixers[index];
    assert.ok(mixer);
    const publication = await this.publish("merge", mixer.plan.output.slice("merge".length));
    this.#flows.set(`merge ${index}`, { publication, video: true, audio: false });
  }

  stall(index: number): void {
    this.#flows.delete(`merge ${index}`);
  }

  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 50) {
      this.#write();
      this.clock.advance(50);
    }
  }

  start(layout: "pip" | "grid" = "grid"): void {
    this.lives.start(VHOST, "r", layout);
  }
  get state() {
    return this.lives.state(VHOST, "r", "grid", "gw.example");
  }
  /** Names and tracks that the newest child mixes: `A` both, `a` sound alone, `A-` picture alone. */
  get mixed(): string {
    const inputs = this.mixers.at(-1)?.plan.inputs ?? [];
    return inputs
      .map(({ display, hasVideo, hasAudio }) => (hasVideo ? (hasAudio ? display : `${display}-`) : display.toLowerCase()))
      .join(" ");
  }

  #write(): void {
    const at = this.clock.now() * 1000;
    for (const { publication, video, audio } of this.#flows.values()) {
      if (video) publication.writeFrame(picture("IDR", at));
      if (audio) publication.writeFrame(soundFrame(at));
    }
  }
}

function refusalOf(act: () => void): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Refusal) return error.code;
    throw error;
  }
  return "none";
}

test("refuses with the reason: not configured, no room, live already, nothing to mix with, too many", async () => {
  const world = new World();
  await world.join("A");
  world.settings = { enabled: false, maxChildren: 1 };
  assert.equal(
    refusalOf(() => world.start()),
    "forbidden",
  );
  assert.match(world.state.refusal ?? "", /transcode/);
  assert.equal(world.state.command, "mix A"); // it can be copied all the same
  assert.equal(world.state.url, "rtmp://gw.example/r/merge");
  world.settings = { enabled: true, maxChildren: 0 };
  assert.equal(
    refusalOf(() => world.start()),
    "overloaded",
  );
  world.settings = { enabled: true, maxChildren: 1 };
  world.refusal = "there is no ffmpeg";
  assert.equal(
    refusalOf(() => world.start()),
    "unavailable",
  );
  world.refusal = undefined;
  const stranger = await world.publish("merge", "");
  assert.equal(
    refusalOf(() => world.start()),
    "busy",
  );
  stranger.end("done");
  world.start();
  assert.equal(
    refusalOf(() => world.start()),
    "busy",
  );
  const empty = new World();
  empty.people = undefined;
  assert.equal(
    refusalOf(() => empty.start()),
    "not-found",
  );
});

test("mixes who is there, each with the tracks that come, at the streams' own times", async () => {
  const world = new World();
  await world.join("A");
  world.clock.advance(5_000);
  await world.join("B", { video: false });
  await world.join("C", { audio: false });
  world.people?.push("D"); // publishes nothing
  world.pass(100);
  world.start("pip");
  world.pass(300);
  assert.equal(world.mixed, "A b C-");
  const [a, b] = world.mixers[0]?.plan.inputs ?? [];
  assert.equal((b?.offset ?? 0) - (a?.offset ?? 0), 5_000_000);
  assert.equal(world.mixers[0]?.plan.layout, "pip");
  assert.deepEqual(world.state.leftOut, [{ display: "D", reason: "publishes nothing" }]);
  assert.equal(world.state.state, "starting");
  await world.begin();
  assert.equal(world.state.state, "live");
});

test("a child with the newcomer takes over from the one before, without a gap between publishers", async () => {
  const world = new World();
  await world.join("A");
  world.start();
  world.pass(300);
  await world.begin();
  world.pass(3_000);
  await Promise.all([world.join("B"), world.join("C")]);
  world.pass(1_500);
  assert.equal(world.mixers.length, 2); // one for both
  assert.equal(world.mixed, "A B C");
  assert.deepEqual([world.mixers[0]?.isClosed, world.state.state], [false, "live"]);
  const before = world.hub.find({ vhost: VHOST, app: "r", stream: "merge" });
  await world.begin();
  assert.equal(world.mixers[0]?.isClosed, true);
  const after = world.hub.find({ vhost: VHOST, app: "r", stream: "merge" });
  assert.ok(after === before && after?.state === "live");
  assert.equal(world.state.error, undefined);
});

test("nobody else takes the mixed stream over", async () => {
  const world = new World();
  await world.join("A");
  world.start();
  world.pass(300);
  await world.begin();
  world.pass(500);
  const guess = world.publish("merge", "?mix=guessed");
  guess.catch(() => {});
  await new Promise((resolve) => setImmediate(resolve)); // it is asked who it is
  world.pass(2_000);
  await assert.rejects(guess, { code: "busy" });
  assert.equal(world.state.state, "live");
});

test("who leaves, falls silent or turns the camera off does not hold the others up", async () => {
  const world = new World();
  for (const display of ["A", "B"]) await world.join(display);
  world.start();
  world.pass(300);
  await world.begin();
  world.pass(2_000);
  world.flow("B", { video: false });
  world.pass(2_500);
  assert.equal(world.mixed, "A b");
  await world.begin();
  world.flow("B", { video: true });
  world.pass(3_000);
  assert.equal(world.mixed, "A B");
  await world.begin();
  world.pass(2_000);
  world.leave("A");
  world.pass(500);
  assert.equal(world.mixed, "B");
});

test("starts a child that fails again, ever slower, and says why", async () => {
  const world = new World();
  await world.join("A");
  world.start();
  world.pass(300);
  world.mixers[0]?.fail("ended with code 1; Connection refused");
  assert.deepEqual([world.state.state, world.state.error], ["failing", "ended with code 1; Connection refused"]);
  const starts: number[] = [];
  for (let seconds = 0; seconds < 60; seconds++) {
    const before = world.mixers.length;
    world.pass(1_000);
    if (world.mixers.length === before) continue;
    starts.push(seconds);
    world.mixers.at(-1)?.fail("again");
  }
  assert.ok(starts.length >= 4 && starts.length <= 7, `${starts}`);
  const last = (starts.at(-1) ?? 0) - (starts.at(-2) ?? 0);
  assert.ok(last > 10, `${starts}`);
});

test("a child that never publishes, and one whose stream stands still, are replaced", async () => {
  const world = new World();
  await world.join("A");
  world.start();
  world.pass(16_000);
  assert.equal(world.mixers[0]?.isClosed, true);
  world.pass(2_000);
  assert.equal(world.mixers.length, 2);
  await world.begin();
  world.pass(1_000);
  world.stall(1);
  world.pass(9_000);
  assert.equal(world.mixers[1]?.isClosed, true);
  assert.match(world.state.error ?? "", /stood still/);
});

test("ends with the room, by request, and with the gateway; nothing is left behind", async () => {
  for (const how of ["room", "request", "gateway"] as const) {
    const world = new World();
    await world.join("A");
    const pending = world.clock.pending;
    world.start();
    world.pass(300);
    await world.begin();
    await world.join("B");
    world.pass(1_600);
    assert.equal(world.mixers.length, 2);
    if (how === "room") world.people = undefined;
    else if (how === "request") assert.equal(world.lives.stop(VHOST, "r", "ended"), true);
    else await world.lives.close("the gateway is shutting down");
    world.pass(300);
    assert.deepEqual(
      world.mixers.map(({ isClosed }) => isClosed),
      [true, true],
      how,
    );
    assert.equal(world.lives.count, 0);
    assert.equal(world.lives.stop(VHOST, "r", "ended"), false);
    assert.equal(world.state.state, "off");
    assert.equal(world.clock.pending, pending);
    assert.equal(world.hub.find({ vhost: VHOST, app: "r", stream: "A" })?.frames.viewerCount, 0);
  }
});

test("waits while nobody publishes, and begins when somebody does", async () => {
  const world = new World();
  world.people = ["A?"];
  world.start();
  world.pass(1_000);
  assert.deepEqual([world.state.state, world.mixers.length], ["waiting", 0]);
  world.people = [];
  await world.join("A?"); // a name that RTMP cannot ask for
  world.pass(1_000);
  assert.equal(world.mixers.length, 0);
  assert.match(world.state.leftOut[0]?.reason ?? "", /name/);
  await world.join("B");
  world.pass(1_000);
  assert.equal(world.mixed, "B");
});
