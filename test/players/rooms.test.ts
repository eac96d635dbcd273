// What the room pages decide without a browser: addresses, tiles, who speaks, whether a viewer is thinned.

import assert from "node:assert/strict";
import { test } from "node:test";

const load = async (name: string): Promise<unknown> => import(new URL(`../../../players/js/${name}`, import.meta.url).href);

type Places = {
  readonly room: string | undefined;
  readonly display: string | undefined;
  signaling(): string;
  stream(kind: "whip" | "whep", room: string, display: string): string;
  api(path: string): string;
  ownApi(path: string): string;
  invitation(room: string): string;
  watch(room: string, stream: string): string;
};
const { roomPlaces } = (await load("room-url.js")) as { roomPlaces(location: URL): Places };
const { fitGrid } = (await load("tile-grid.js")) as {
  fitGrid(
    count: number,
    width: number,
    height: number,
    options?: object,
  ): { columns: number; tileWidth: number; tileHeight: number };
};
const { SpeakerChoice } = (await load("speaker.js")) as {
  SpeakerChoice: new () => { choose(now: number, levels: ReadonlyMap<string, number>): string | undefined };
};
const { ThinWatch } = (await load("thinning.js")) as {
  ThinWatch: new () => {
    readonly cause: string | undefined;
    readonly shown: number;
    readonly sent: number;
    note(received: number | undefined, decoded: number | undefined, sent: number | undefined): void;
  };
};

const HERE = "http://gw.example:8080/demos/room.html";
const ADDRESSES: readonly [page: string, signaling: string, whip: string][] = [
  [HERE, "ws://gw.example:8080/sig/v1/rtc", "http://gw.example:8080/rtc/v1/whip/?app=tea&stream=Ann"],
  ["https://gw.example/demos/room.html", "wss://gw.example/sig/v1/rtc", "https://gw.example/rtc/v1/whip/?app=tea&stream=Ann"],
  [
    "https://site.example/media/demos/one2one.html?token=a%20b",
    "wss://site.example/media/sig/v1/rtc?token=a+b",
    "https://site.example/media/rtc/v1/whip/?app=tea&stream=Ann&token=a+b",
  ],
  [
    `${HERE}?host=gw.example&wss=wss&wsh=sig.example&wsp=1989`,
    "wss://sig.example:1989/sig/v1/rtc",
    "http://gw.example:8080/rtc/v1/whip/?app=tea&stream=Ann",
  ],
  [`${HERE}?host=other.example`, "ws://gw.example:8080/sig/v1/rtc", "http://other.example:1985/rtc/v1/whip/?app=tea&stream=Ann"],
  [
    `${HERE}?host=other.example:8080`,
    "ws://gw.example:8080/sig/v1/rtc",
    "http://other.example:8080/rtc/v1/whip/?app=tea&stream=Ann",
  ],
  [
    `${HERE}?vhost=v&eip=192.0.2.1`,
    "ws://gw.example:8080/sig/v1/rtc?vhost=v&eip=192.0.2.1",
    "http://gw.example:8080/rtc/v1/whip/?app=tea&stream=Ann&vhost=v&eip=192.0.2.1",
  ],
  [
    "http://[fd00::1]:8080/demos/room.html",
    "ws://[fd00::1]:8080/sig/v1/rtc",
    "http://[fd00::1]:8080/rtc/v1/whip/?app=tea&stream=Ann",
  ],
];

test("a room's addresses follow from the page's", () => {
  for (const [page, signaling, whip] of ADDRESSES) {
    const places = roomPlaces(new URL(page));
    assert.equal(places.signaling(), signaling, page);
    assert.equal(places.stream("whip", "tea", "Ann"), whip, page);
  }
  const places = roomPlaces(new URL(`${HERE}?room=tea&display=Ann&autostart=true&token=x`));
  assert.deepEqual([places.room, places.display], ["tea", "Ann"]);
  assert.equal(places.invitation("tea"), `${HERE}?room=tea&token=x`);
  assert.equal(
    places.watch("tea", "merge"),
    "http://gw.example:8080/players/whep.html?app=tea&stream=merge&token=x&autostart=true",
  );
  assert.equal(places.api("api/v1/rooms"), "http://gw.example:8080/api/v1/rooms");
  assert.equal(places.ownApi("api/v1/rooms"), "http://gw.example:1985/api/v1/rooms");
});

test("a name stays one stream, whatever stands in it", () => {
  const url = new URL(roomPlaces(new URL(HERE)).stream("whep", "tea & cake", "<b>a/b?c=d&e#f</b>"));
  assert.equal(url.searchParams.get("app"), "tea & cake");
  assert.equal(url.searchParams.get("stream"), "<b>a/b?c=d&e#f</b>");
});

test("tiles are as large as the window lets them be, and never leave it", () => {
  assert.deepEqual(
    [1, 2, 3, 4, 5, 9, 16].map((count) => fitGrid(count, 1248, 664).columns),
    [1, 2, 2, 2, 3, 3, 4],
  );
  assert.deepEqual(
    [1, 2, 4].map((count) => fitGrid(count, 374, 720, { tallest: 3 / 4 }).columns),
    [1, 1, 1],
  );
  for (const [width, height] of [
    [1248, 664],
    [374, 720],
    [2500, 500],
  ] as const) {
    for (let count = 1; count <= 16; count++) {
      const { columns, tileWidth, tileHeight } = fitGrid(count, width, height, { gap: 8, least: 0 });
      assert.ok(columns * (tileWidth + 8) - 8 <= width, `${count} in ${width}`);
      assert.ok(Math.ceil(count / columns) * (tileHeight + 8) - 8 <= height, `${count} in ${height}`);
    }
  }
  assert.ok(fitGrid(16, 374, 200, { least: 110 }).tileWidth >= 110, "rather scrolled than too small");
});

test("a speaker stays marked through a pause, and a cough does not take over", () => {
  const choice = new SpeakerChoice();
  const at = (now: number, levels: Record<string, number>) => choice.choose(now, new Map(Object.entries(levels)));
  assert.equal(at(0, { ann: 0.001, bob: 0 }), undefined);
  assert.equal(at(250, { ann: 0.1, bob: 0 }), "ann");
  assert.equal(at(500, { ann: 0.05, bob: 0.3 }), "ann"); // a cough
  assert.equal(at(750, { ann: 0.05, bob: 0 }), "ann");
  assert.equal(at(1_750, { ann: 0, bob: 0 }), "ann"); // a pause
  assert.equal(at(2_000, { ann: 0.02, bob: 0.3 }), "ann");
  assert.equal(at(2_500, { ann: 0.02, bob: 0.3 }), "bob");
  assert.equal(at(2_750, { ann: 0 }), undefined, "bob has left");
  assert.equal(at(3_000, { ann: 0.1 }), "ann");
});

test("a viewer is called thinned after three seconds of too few pictures, and by its cause", () => {
  const watch = new ThinWatch();
  watch.note(10, 10, 25);
  watch.note(10, 10, 25);
  assert.equal(watch.cause, undefined);
  watch.note(10, 10, 25);
  assert.deepEqual([watch.cause, watch.shown, watch.sent], ["path", 10, 25]);
  for (let second = 0; second < 3; second++) watch.note(25, 8, 25);
  assert.equal(watch.cause, "here");
  for (let second = 0; second < 3; second++) watch.note(24, 24, 25);
  assert.equal(watch.cause, undefined);
  for (let second = 0; second < 5; second++) watch.note(0, 0, 1);
  assert.equal(watch.cause, undefined, "a hidden camera sends hardly anything");
  watch.note(undefined, undefined, undefined);
  assert.equal(watch.cause, undefined);
});
