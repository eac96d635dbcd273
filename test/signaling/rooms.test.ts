import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { MAX_MESSAGE } from "../../gateway/signaling/message.js";
import { CLOSE, type Connection, type Link, PING_INTERVAL, type RoomEvent, Rooms } from "../../gateway/signaling/rooms.js";

type Message = { tid?: string | number; msg: Record<string, unknown> | null };

/** A page: what it was sent, and whether its socket was closed. */
class Page implements Link {
  readonly got: Message[] = [];
  closed: number | undefined;
  pings = 0;
  /** Says no once it holds that much. */
  readsTooSlowly = false;
  readonly connection: Connection;
  readonly #world: World;
  #tid = 0;

  constructor(world: World, address: string, vhost = "v") {
    this.#world = world;
    this.connection = world.rooms.open(world.now, { id: `id-${address}`, address, vhost }, this);
  }

  send(text: string): boolean {
    assert.equal(this.closed, undefined, "nothing is sent after the close");
    if (this.readsTooSlowly) return false;
    this.got.push(JSON.parse(text) as Message);
    return true;
  }
  ping(): void {
    this.pings++;
  }
  close(code: number): void {
    assert.equal(this.closed, undefined, "closed once");
    this.closed = code;
  }

  /** @returns the answer */
  ask(msg: object): Record<string, unknown> | null {
    const tid = `t${++this.#tid}`;
    this.connection.receive(this.#world.now, JSON.stringify({ tid, msg }));
    const answer = this.got.find((message) => message.tid === tid);
    assert.ok(answer, `an answer to ${JSON.stringify(msg)}`);
    return answer.msg;
  }
  raw(text: string): void {
    this.connection.receive(this.#world.now, text);
  }
  /** Pushes so far, emptied. */
  pushed(): Record<string, unknown>[] {
    return this.got.splice(0).flatMap((message) => (message.tid === undefined && message.msg !== null ? [message.msg] : []));
  }
  last(): Record<string, unknown> {
    return this.got.at(-1)?.msg ?? {};
  }
}

class World {
  now = 1000;
  readonly events: RoomEvent[] = [];
  #secrets = 0;
  readonly rooms: Rooms;

  constructor(changes: Partial<ConstructorParameters<typeof Rooms>[0]> = {}) {
    this.rooms = new Rooms({
      maxRooms: 3,
      maxParticipants: 4,
      secret: () => `secret-${++this.#secrets}`,
      onEvent: (event) => this.events.push(event),
      ...changes,
    });
  }
  /** Time passes; timers fire when they are due. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (let due = this.rooms.nextTimeout(); due !== undefined && due <= end; due = this.rooms.nextTimeout()) {
      this.now = due;
      this.rooms.onTimeout(this.now);
    }
    this.now = end;
  }
}

const join = (display: string, room = "r") => ({ action: "join", room, display });

test("answers a join with who is there, and tells the others", () => {
  const world = new World();
  const [a, b] = [new Page(world, "a"), new Page(world, "b")];
  assert.deepEqual(a.ask(join("A")), {
    action: "join",
    room: "r",
    self: { display: "A", publishing: false },
    participants: [{ display: "A", publishing: false }],
    resume: "secret-1",
  });
  assert.equal(a.ask({ action: "publish", room: "r", display: "A" }), null);
  const participants = [
    { display: "A", publishing: true },
    { display: "B", publishing: false },
  ];
  assert.deepEqual(b.ask(join("B"))?.["participants"], participants);
  assert.deepEqual(a.pushed(), [
    {
      action: "notify",
      event: "join",
      param: "",
      room: "r",
      self: participants[0],
      peer: participants[1],
      participants,
    },
  ]);
});

test("hands on what is published and called, as it was said, to the others only", () => {
  const world = new World();
  const pages = ["A", "B", "C"].map((display) => {
    const page = new Page(world, display);
    page.ask(join(display));
    return page;
  });
  for (const page of pages) page.pushed();
  const [a, b, c] = pages as [Page, Page, Page];
  assert.equal(a.ask({ action: "publish" }), null);
  assert.equal(a.ask({ action: "control", room: "r", display: "A", call: "chat", data: { text: "<b>hi</b>", n: [1] } }), null);
  assert.deepEqual(a.pushed(), []);
  for (const page of [b, c]) {
    const [published, called] = page.pushed();
    assert.deepEqual([published?.["event"], published?.["peer"]], ["publish", { display: "A", publishing: true }]);
    assert.deepEqual(
      [called?.["event"], called?.["param"], called?.["data"]],
      ["control", "chat", { text: "<b>hi</b>", n: [1] }],
    );
    assert.deepEqual(called?.["self"], { display: page === b ? "B" : "C", publishing: false });
  }
});

test("a socket that closes takes its participant along, and the last one frees the room", () => {
  const world = new World();
  const [a, b] = [new Page(world, "a"), new Page(world, "b")];
  a.ask(join("A"));
  b.ask(join("B"));
  a.connection.closed("gone");
  const [left] = b.pushed();
  assert.deepEqual([left?.["event"], left?.["peer"]], ["leave", { display: "A", publishing: false }]);
  assert.deepEqual(left?.["participants"], [{ display: "B", publishing: false }]);
  assert.equal(b.ask({ action: "leave" }), null);
  assert.deepEqual([world.rooms.roomCount, world.rooms.socketCount, b.closed], [0, 1, undefined]);
  assert.equal(b.ask(join("B", "other"))?.["action"], "join");
});

test("whose network has died is out within 20 seconds; who answers pings stays", () => {
  const world = new World();
  const [dead, alive] = [new Page(world, "dead"), new Page(world, "alive")];
  dead.ask(join("dead"));
  alive.ask(join("alive"));
  world.pass(PING_INTERVAL + 1);
  for (const page of [dead, alive]) page.connection.pong();
  alive.pushed();
  const died = world.now;
  while (dead.closed === undefined) {
    world.pass(500);
    alive.connection.pong();
    assert.ok(world.now - died < 20_000);
  }
  assert.equal(dead.closed, CLOSE.dead);
  assert.equal(alive.pushed().at(-1)?.["event"], "leave");
  world.pass(120_000 - 500);
  assert.equal(alive.closed, CLOSE.dead); // it has not answered for two minutes
});

test("a socket that joins nothing is closed, and no timer is wanted without sockets", () => {
  const world = new World();
  assert.equal(world.rooms.nextTimeout(), undefined);
  const page = new Page(world, "a");
  for (let i = 0; i < 7; i++) {
    world.pass(PING_INTERVAL);
    page.connection.pong();
  }
  assert.equal(page.closed, CLOSE.policy);
  world.pass(PING_INTERVAL);
  assert.equal(world.rooms.nextTimeout(), undefined);
});

test("takes its own name back with the secret, without the others seeing a thing", () => {
  const world = new World();
  const [a, b] = [new Page(world, "a"), new Page(world, "b")];
  const resume = a.ask(join("A"))?.["resume"];
  a.ask({ action: "publish" });
  b.ask(join("B"));
  b.pushed();
  const again = new Page(world, "a2");
  assert.equal(again.ask(join("A"))?.["code"], "taken");
  assert.equal(again.ask({ ...join("A"), resume: "guessed" })?.["code"], "taken");
  assert.deepEqual(again.ask({ ...join("A"), resume })?.["self"], { display: "A", publishing: true });
  assert.equal(a.closed, CLOSE.resumed);
  a.connection.closed("socket"); // as its edge tells a moment later
  assert.deepEqual(b.pushed(), []);
  assert.equal(world.rooms.find("v", "r")?.participants.length, 2);
  again.connection.closed("gone");
  assert.equal(b.pushed()[0]?.["event"], "leave");
});

const REFUSED: readonly [name: string, msg: object, code: string][] = [
  ["an unknown action", { action: "explode" }, "unknown-action"],
  ["no action", {}, "unknown-action"],
  ["an action that is no text", { action: { a: 1 } }, "unknown-action"],
  ["publishing outside of a room", { action: "publish" }, "not-joined"],
  ["a room without a name", { action: "join", display: "A" }, "bad-request"],
  ["a name of blanks", join("  "), "bad-request"],
  ["a name of 65 characters", join("x".repeat(65)), "bad-request"],
  ["a name with a line break", join("a\nb"), "bad-request"],
  ["a name that turns the text around it", join("a\u202eb"), "bad-request"],
  ["half a character", join("a\ud800"), "bad-request"],
  ["a way out of the folder", join("../x"), "bad-request"],
  ["a room that is a path", join("A", "a/b"), "bad-request"],
  ["a room with a query", join("A", "a?b"), "bad-request"],
  ["the name of the mixed stream", join("merge"), "reserved"],
  ["a secret that is a number", { ...join("A"), resume: 5 }, "bad-request"],
  ["a call that is no text", { action: "control", call: 5 }, "bad-request"],
];

test("refuses with a code and a reason, and the socket stays open", async (t) => {
  for (const [name, msg, code] of REFUSED) {
    await t.test(name, () => {
      const page = new Page(new World(), "a");
      const answer = page.ask(msg);
      assert.deepEqual([answer?.["action"], answer?.["code"]], ["error", code]);
      assert.ok(String(answer?.["error"]).length > 10);
      assert.equal(page.closed, undefined);
      assert.equal(page.ask(join("Ännä <script>alert(1)</script>"))?.["action"], "join");
    });
  }
});

test("nonsense around the message is told, as far as it can be", () => {
  const page = new Page(new World(), "a");
  for (const text of ["", "{", "null", "[]", '"join"', "5", '{"msg":{"action":"join"}}', '{"tid":{},"msg":{}}']) {
    page.raw(text);
    assert.equal(page.last()["code"], "bad-request", text);
    assert.equal(page.got.at(-1)?.tid, undefined);
  }
  page.connection.receiveBinary(1000, 10);
  assert.equal(page.last()["code"], "binary");
  assert.equal(page.closed, undefined);
  page.raw(" ".repeat(MAX_MESSAGE + 1));
  assert.equal(page.last()["code"], "too-large");
  assert.equal(page.closed, CLOSE.tooLarge);
});

test("speaks for nobody else, and is in one room at a time", () => {
  const page = new Page(new World(), "a");
  page.ask(join("A"));
  assert.equal(page.ask({ action: "control", display: "B", call: "x" })?.["code"], "forbidden");
  assert.equal(page.ask({ action: "publish", room: "other" })?.["code"], "forbidden");
  assert.equal(page.ask(join("A", "other"))?.["code"], "joined-already");
});

test("rooms of one name in two vhosts are two", () => {
  const world = new World();
  assert.equal(new Page(world, "a", "v1").ask(join("A"))?.["action"], "join");
  assert.equal(new Page(world, "b", "v2").ask(join("A"))?.["action"], "join");
  assert.equal(world.rooms.roomCount, 2);
});

test("limits rooms and participants", () => {
  const world = new World();
  for (const room of ["r1", "r2", "r3"]) new Page(world, room).ask(join("A", room));
  const page = new Page(world, "late");
  assert.equal(page.ask(join("A", "r4"))?.["code"], "too-many-rooms");
  for (const display of ["B", "C", "D"]) new Page(world, display).ask(join(display, "r1"));
  assert.equal(page.ask(join("E", "r1"))?.["code"], "room-full");
  assert.equal(page.ask(join("E", "r2"))?.["action"], "join");
});

test("a rule may keep somebody out", () => {
  const world = new World({ refusal: ({ address }) => (address === "192.0.2.1" ? "joining is not allowed" : undefined) });
  assert.equal(new Page(world, "192.0.2.1").ask(join("A"))?.["code"], "forbidden");
  assert.equal(new Page(world, "192.0.2.2").ask(join("A"))?.["action"], "join");
  assert.deepEqual(
    world.events.map(({ type }) => type),
    ["refused", "join"],
  );
});

test("of a thousand joins a second from one address most are turned down, and another address is not", () => {
  const world = new World({ maxRooms: 10_000 });
  const codes = new Map<unknown, number>();
  for (let i = 0; i < 1000; i++) {
    world.now += 1;
    const answer = new Page(world, "192.0.2.1").ask(join(`A${i}`, `room${i}`));
    codes.set(answer?.["code"], (codes.get(answer?.["code"]) ?? 0) + 1);
  }
  assert.ok((codes.get("too-many-joins") ?? 0) > 850, JSON.stringify([...codes]));
  assert.equal(new Page(world, "192.0.2.2").ask(join("B"))?.["action"], "join");
});

test("limits what one socket sends, in messages and in bytes, and parts with one that floods", () => {
  const world = new World();
  const [a, b] = [new Page(world, "a"), new Page(world, "b")];
  a.ask(join("A"));
  b.ask(join("B"));
  const big = "x".repeat(60_000);
  const said = (): number => b.pushed().filter(({ event }) => event === "control").length;
  let refused = 0;
  for (let i = 0; i < 20; i++) if (a.ask({ action: "control", call: "c", data: big }) !== null) refused++;
  assert.deepEqual([said(), refused], [4, 16]); // 256 KiB at once
  world.now += 1000;
  for (let i = 0; i < 20; i++) a.ask({ action: "control", call: "c", data: big });
  assert.equal(said(), 1);
  world.now += 10_000;
  for (let i = 0; i < 1000 && a.closed === undefined; i++) a.raw(`{"tid":${i},"msg":{"action":"control","call":"c"}}`);
  assert.equal(said(), 100);
  assert.equal(a.closed, CLOSE.policy);
});

test("one that does not read is let go, and the others go on", () => {
  const world = new World();
  const [a, slow, b] = ["A", "slow", "B"].map((display) => {
    const page = new Page(world, display);
    page.ask(join(display));
    return page;
  }) as [Page, Page, Page];
  slow.readsTooSlowly = true;
  b.pushed();
  assert.equal(a.ask({ action: "control", call: "x", data: null }), null);
  assert.equal(slow.closed, CLOSE.slow);
  assert.deepEqual(
    b.pushed().map(({ event }) => event),
    ["control", "leave"],
  );
});

test("says goodbye to all when it closes, without telling each of every other", () => {
  const world = new World();
  const pages = ["A", "B", "C"].map((display) => {
    const page = new Page(world, display);
    page.ask(join(display));
    return page;
  });
  for (const page of pages) page.pushed();
  world.rooms.close("the gateway is shutting down");
  for (const page of pages) assert.deepEqual([page.closed, page.pushed()], [CLOSE.going, []]);
  assert.deepEqual([world.rooms.roomCount, world.rooms.socketCount, world.rooms.nextTimeout()], [0, 0, undefined]);
});

test("whatever comes in whatever order, everybody's picture of a room is the room", () => {
  const step = fc.record({
    page: fc.nat(5),
    what: fc.constantFrom("join", "join", "publish", "leave", "closed", "control", "pong", "time"),
    room: fc.constantFrom("r1", "r2"),
    display: fc.constantFrom("A", "B", "C"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const world = new World();
      const pages = new Map<number, Page>();
      /** What a page must believe, by what it was told. */
      const believed = new Map<Page, unknown>();
      const read = (page: Page): void => {
        for (const { msg } of page.got.splice(0)) {
          if (msg?.["action"] === "join" || msg?.["action"] === "notify") believed.set(page, msg["participants"]);
        }
      };
      for (const { page: index, what, room, display } of steps) {
        let page = pages.get(index);
        if (page === undefined || page.closed !== undefined) {
          page = new Page(world, `192.0.2.${index}`);
          pages.set(index, page);
        }
        if (what === "closed") {
          page.connection.closed("gone");
          pages.delete(index);
          believed.delete(page);
        } else if (what === "pong") page.connection.pong();
        else if (what === "time") world.pass(2500);
        else page.raw(JSON.stringify({ tid: 1, msg: { action: what, ...(what === "join" && { room, display }), call: "c" } }));
        for (const one of pages.values()) read(one);
      }
      for (const page of pages.values()) {
        const { participant } = page.connection;
        if (participant === undefined) continue;
        const { vhost, name } = participant.room;
        const shown = world.rooms.find(vhost, name)?.participants.map(({ display, publishing }) => ({ display, publishing }));
        const picture = new Map(
          (believed.get(page) as { display: string; publishing: boolean }[]).map((one) => [one.display, one]),
        );
        const own = picture.get(participant.display);
        if (own !== undefined) own.publishing = participant.publishing; // it is not told of itself
        assert.deepEqual([...picture.values()], shown);
      }
      let counted = 0;
      for (const room of world.rooms.states()) {
        assert.ok(room.participants.length > 0);
        counted += room.participants.length;
      }
      assert.equal(counted, [...pages.values()].filter(({ connection }) => connection.participant !== undefined).length);
    }),
    { seed: 6, numRuns: 400 },
  );
});
