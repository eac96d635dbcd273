// Who is answered what and when: sessions, held requests, streams that come and go. In made-up time, without HTTP.

import assert from "node:assert/strict";
import { createDecipheriv } from "node:crypto";
import { test } from "node:test";

import type { HlsAnswer, HlsRequest } from "../../gateway/hls/service.js";
import { Refusal } from "../../gateway/media/errors.js";
import { peer, RecordingSource } from "../support/frames.js";
import { readPlaylist } from "../support/hls-rules.js";
import { HlsWorld } from "../support/hls-source.js";

type Given = HlsAnswer | Refusal;

/** A viewer: one connection, one program. */
class Viewer {
  readonly world: HlsWorld;
  readonly request: HlsRequest;
  media = "";

  constructor(world: HlsWorld, agent = "player", address = "192.0.2.7") {
    this.world = world;
    this.request = { address, agent, pageUrl: undefined, connection: {}, isHead: false };
  }

  /** @returns what was answered so far, and what takes the question back */
  ask(url: string, request = this.request): { given: Given | undefined; cancel: () => void } {
    const [path = "", query = ""] = url.split("?");
    const target = this.world.service.target(path, query, "gw.example");
    assert.ok(target !== undefined, `${url} is an address of HLS`);
    const question: { given: Given | undefined; cancel: () => void } = { given: undefined, cancel: () => {} };
    question.cancel = this.world.service.answer(target, request, (answer) => {
      assert.equal(question.given, undefined, "answered once");
      question.given = answer;
    });
    return question;
  }

  /** Asks for the multivariant playlist, and the media playlist that it names. */
  async open(path = "/live/livestream.m3u8"): Promise<string> {
    const master = this.ask(path);
    await turn();
    const line = textOf(master.given)
      .split("\n")
      .find((text) => text !== "" && !text.startsWith("#"));
    this.media = `/live/${line}`;
    const media = this.ask(this.media);
    await turn();
    return textOf(media.given);
  }
}

/** What the hub's promises need. */
async function turn(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

function textOf(given: Given | undefined): string {
  assert.ok(given !== undefined, "is answered");
  if (given instanceof Refusal) assert.fail(`refused: ${given.message}`);
  assert.equal(given.kind, "playlist");
  return given.kind === "playlist" ? given.text : "";
}

function bytesOf(given: Given | undefined): Buffer {
  assert.ok(given !== undefined && !(given instanceof Refusal) && given.kind === "media");
  return Buffer.concat(given.body);
}

function codeOf(given: Given | undefined): string {
  return given instanceof Refusal ? given.code : given === undefined ? "waits" : given.kind;
}

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return error instanceof Refusal ? error.code : String(error);
  }
  return "granted";
}

test("from the address to every part", async () => {
  const world = new HlsWorld();
  const publisher = await world.publish();
  publisher.run(7_000);
  const viewer = new Viewer(world);
  const listed = readPlaylist(await viewer.open());
  assert.equal(listed.segments.length, 4);
  for (const segment of listed.segments) {
    const parts = segment.parts.map(({ uri }) => bytesOf(viewer.ask(`/live/${uri}`).given));
    if (segment.uri === undefined) continue;
    const whole = bytesOf(viewer.ask(`/live/${segment.uri}`).given);
    if (parts.length > 0) assert.deepEqual(Buffer.concat(parts), whole);
    assert.ok(bytesOf(viewer.ask(`/live/${segment.map}`).given).includes("moov"));
  }
  assert.match(viewer.media, /^\/live\/livestream\.m3u8\?hls_ctx=\w+$/);
});

test("the multivariant playlist says what there is", async () => {
  const world = new HlsWorld();
  (await world.publish({ size: 5_000 })).run(10_000);
  const viewer = new Viewer(world);
  const master = viewer.ask("/live/livestream.m3u8?token=a%20b&vhost=x");
  await turn();
  const [, , , info = "", uri] = textOf(master.given).split("\n");
  assert.match(info, /CODECS="avc1\.64000c,mp4a\.40\.2",RESOLUTION=320x180,FRAME-RATE=25\.000/);
  const [peak = 0, average = 0] = [/BANDWIDTH=(\d+)/, /AVERAGE-BANDWIDTH=(\d+)/].map((pattern) =>
    Number(pattern.exec(info)?.[1]),
  );
  assert.ok(peak > 1_000_000 && peak < 1_200_000 && average <= peak && average > 900_000, info);
  assert.match(uri ?? "", /^livestream\.m3u8\?token=a%20b&vhost=x&hls_ctx=\w+$/);
});

test("a viewer is counted once, is asked about once, and ends when it stops asking", async () => {
  let asked = 0;
  const world = new HlsWorld({
    gate: async (action) => {
      if (action === "play") asked++;
      return undefined;
    },
  });
  const publisher = await world.publish();
  publisher.run(5_000);
  assert.equal([...world.hub.clients()].length, 1, "packaging is no viewer");
  const viewer = new Viewer(world);
  await viewer.open();
  for (let i = 0; i < 40; i++) {
    publisher.run(1_000);
    const listed = readPlaylist(textOf(viewer.ask(viewer.media).given));
    viewer.ask(`/live/${listed.segments[0]?.uri}`);
  }
  const client = [...world.hub.clients()].find(({ role }) => role === "play");
  assert.equal(client?.peer.protocol, "hls");
  assert.ok((client?.bytes() ?? 0) > 10_000);
  assert.equal(asked, 1);
  publisher.run(12_000);
  assert.equal([...world.hub.clients()].length, 1);
  assert.match(world.log.at(-1) ?? "", /^hls play ended .*the player stopped asking/);
});

test("a stream that is only packaged is not watched, so that its publisher is read at leisure", async () => {
  const world = new HlsWorld();
  const publisher = await world.publish();
  publisher.run(5_000);
  const { frames } = publisher.publication.stream;
  assert.deepEqual([frames.viewerCount, frames.isAwaited], [1, false]);
  await new Viewer(world).open();
  assert.equal(frames.isAwaited, true);
  publisher.run(60_000);
  assert.equal(frames.isAwaited, false);
});

test("players that ask for files alone are told apart by address and program", async () => {
  const world = new HlsWorld();
  (await world.publish()).run(5_000);
  const viewer = new Viewer(world, "one");
  const uri = `/live/${readPlaylist(await viewer.open()).segments[0]?.uri}`;
  const plays = (): number => [...world.hub.clients()].filter(({ role }) => role === "play").length;
  viewer.ask(uri, { ...viewer.request, connection: {} });
  assert.equal(plays(), 1, "another connection of the same program");
  const stranger = new Viewer(world, "two");
  const answer = stranger.ask(uri);
  await turn();
  assert.ok(bytesOf(answer.given).length > 0);
  assert.equal(plays(), 2);
});

test("who may not play gets no playlist, no segment and no key", async () => {
  const world = new HlsWorld({
    settings: { keys: true },
    gate: async (action, { peer }) => {
      if (action === "play" && !peer.parameters.includes("token=good")) throw new Refusal("forbidden", "no");
      return undefined;
    },
  });
  (await world.publish()).run(7_000);
  const good = new Viewer(world, "good");
  const text = await good.open("/live/livestream.m3u8?token=good");
  const listed = readPlaylist(text);
  const key = /URI="([^"]+\.key)"/.exec(text)?.[1];
  assert.equal(bytesOf(good.ask(`/live/${key}`).given).length, 16);
  const bad = new Viewer(world, "bad");
  for (const url of ["livestream.m3u8", "livestream.m3u8?hls_ctx=abc", listed.segments[0]?.uri, listed.segments[0]?.map, key]) {
    const answer = bad.ask(`/live/${url}`);
    await turn();
    assert.equal(codeOf(answer.given), "forbidden", url);
  }
});

test("who was refused is asked about again, also on the same connection", async () => {
  let isOpen = false;
  const world = new HlsWorld({
    gate: async (action, { peer }) => {
      if (action === "play" && peer.address === "192.0.2.9" && !isOpen) throw new Refusal("forbidden", "not yet");
      return undefined;
    },
  });
  (await world.publish()).run(5_000);
  const uri = `/live/${readPlaylist(await new Viewer(world).open()).segments[0]?.uri}`;
  const viewer = new Viewer(world, "late", "192.0.2.9");
  const answer = async (): Promise<string> => {
    const question = viewer.ask(uri);
    await turn();
    return codeOf(question.given);
  };
  assert.equal(await answer(), "forbidden");
  isOpen = true;
  assert.equal(await answer(), "media");
});

test("a viewer of a stream that has ended is asked about again for the next of that name", async () => {
  let asked = 0;
  const world = new HlsWorld({
    grace: 0,
    gate: async (action) => {
      if (action === "play") asked++;
      return undefined;
    },
  });
  const first = await world.publish();
  first.run(6_450);
  const viewer = new Viewer(world);
  const old = readPlaylist(await viewer.open()).segments[0]?.uri;
  first.publication.end("done");
  (await world.publish()).run(4_100);
  const uri = readPlaylist(world.service.streams[0]?.mediaPlaylist(false).text ?? "").segments[0]?.uri;
  assert.equal(codeOf(viewer.ask(`/live/${old}`).given), "media");
  assert.equal(asked, 1);
  const next = viewer.ask(`/live/${uri}`);
  await turn();
  assert.deepEqual([codeOf(next.given), asked], ["media", 2]);
});

test("encrypted segments can be read with their key, and there are no parts", async () => {
  const world = new HlsWorld({ settings: { keys: true, fragmentsPerKey: 2 } });
  (await world.publish()).run(13_000);
  const viewer = new Viewer(world);
  const listed = readPlaylist(await viewer.open());
  assert.equal(new Set(listed.segments.map(({ key }) => /URI="([^"]+)"/.exec(key ?? "")?.[1])).size, 3);
  for (const { uri, key } of listed.segments) {
    const [, keyUri, iv = ""] = /URI="([^"]+)",IV=0x([0-9a-f]{32})/.exec(key ?? "") ?? [];
    const decipher = createDecipheriv("aes-128-cbc", bytesOf(viewer.ask(`/live/${keyUri}`).given), Buffer.from(iv, "hex"));
    const bytes = Buffer.concat([decipher.update(bytesOf(viewer.ask(`/live/${uri}`).given)), decipher.final()]);
    assert.ok(bytes.includes("moof"));
  }
  const part = listed.segments[0]?.uri?.replace(/-(\d+)\.m4s$/, "-p0.m4s");
  assert.equal(
    refusal(() => viewer.ask(`/live/${part}`)),
    "not-found",
  );
});

test("a reload is held until its part is there, and no longer", async () => {
  const world = new HlsWorld();
  const publisher = await world.publish();
  publisher.run(7_050);
  const viewer = new Viewer(world);
  const listed = readPlaylist(await viewer.open());
  const open = listed.segments.at(-1);
  assert.ok(open !== undefined && open.uri === undefined);
  const ask = (msn: number, part?: number) =>
    viewer.ask(`${viewer.media}&_HLS_msn=${msn}${part === undefined ? "" : `&_HLS_part=${part}`}`);
  assert.equal(codeOf(ask(open.sequence, open.parts.length - 1).given), "playlist");
  assert.equal(codeOf(ask(open.sequence - 1).given), "playlist");
  assert.equal(codeOf(ask(open.sequence - 1, 99).given), "playlist", "past the end of a segment is the next one's first part");
  const next = ask(open.sequence, open.parts.length);
  const whole = ask(open.sequence);
  const later = ask(open.sequence + 1, 0);
  const hinted = viewer.ask(`/live/${listed.preloadHint}`);
  assert.deepEqual(
    [next, whole, later, hinted].map(({ given }) => given),
    [undefined, undefined, undefined, undefined],
  );
  publisher.run(200);
  assert.equal(readPlaylist(textOf(next.given)).segments.at(-1)?.parts.length, open.parts.length + 1);
  assert.ok(bytesOf(hinted.given).length > 0);
  assert.equal(whole.given, undefined);
  publisher.run(1_000);
  assert.equal(readPlaylist(textOf(whole.given)).segments.find(({ sequence }) => sequence === open.sequence)?.parts.length, 10);
  assert.equal(codeOf(later.given), "playlist");
});

test("a reload far ahead, or one that makes no sense, is a bad request", async () => {
  const world = new HlsWorld();
  const publisher = await world.publish();
  publisher.run(6_100);
  const viewer = new Viewer(world);
  const listed = readPlaylist(await viewer.open());
  const last = listed.segments.filter(({ uri }) => uri !== undefined).at(-1)?.sequence ?? 0;
  const bad = (query: string): string => {
    let given: Given | undefined;
    const code = refusal(() => {
      given = viewer.ask(`${viewer.media}&${query}`).given;
    });
    return code === "granted" ? codeOf(given) : code;
  };
  for (const query of [
    `_HLS_msn=${last + 3}`,
    "_HLS_msn=999999999999",
    `_HLS_msn=${last + 1}&_HLS_part=100`,
    "_HLS_part=1",
    "_HLS_msn=-1",
    "_HLS_msn=x",
    "_HLS_msn=1.5",
    "_HLS_msn=",
    `_HLS_msn=${last}&_HLS_part=-1`,
    "_HLS_skip=perhaps",
  ]) {
    assert.equal(bad(query), "bad-request", query);
  }
  assert.equal(bad(`_HLS_msn=${last + 2}`), "waits");
});

test("a delta update is shorter", async () => {
  const world = new HlsWorld();
  (await world.publish()).run(40_000);
  const viewer = new Viewer(world);
  const whole = readPlaylist(await viewer.open());
  const delta = readPlaylist(textOf(viewer.ask(`${viewer.media}&_HLS_skip=YES`).given));
  assert.ok(delta.skipped >= 8 && delta.segments.length === whole.segments.length - delta.skipped);
});

test("who comes before the first segment waits for it", async () => {
  const world = new HlsWorld();
  const publisher = await world.publish();
  publisher.run(500);
  const viewer = new Viewer(world);
  const master = viewer.ask("/live/livestream.m3u8");
  await turn();
  assert.equal(master.given, undefined);
  publisher.run(2_000);
  assert.match(textOf(master.given), /hls_ctx=/);
});

test("thousands of held requests are all answered when their stream ends", async () => {
  const world = new HlsWorld({ grace: 0 });
  const publisher = await world.publish();
  publisher.run(6_450);
  const viewer = new Viewer(world);
  const listed = readPlaylist(await viewer.open());
  const sequence = (listed.segments.at(-1)?.sequence ?? 0) + 1;
  const held = Array.from({ length: 5_000 }, () => viewer.ask(`${viewer.media}&_HLS_msn=${sequence}`));
  const parts = Array.from({ length: 5_000 }, () => viewer.ask(`/live/${listed.preloadHint}`));
  const gone = held.splice(0, 10);
  for (const question of gone) question.cancel();
  assert.ok(held.every(({ given }) => given === undefined));
  publisher.publication.end("done");
  for (const { given } of held) assert.ok(readPlaylist(textOf(given)).isEnded);
  for (const { given } of parts) assert.ok(given !== undefined);
  assert.ok(gone.every(({ given }) => given === undefined));
});

test("an ended stream can be watched to its end, then it is gone", async () => {
  const world = new HlsWorld({ grace: 0 });
  const publisher = await world.publish();
  publisher.run(6_450);
  const viewer = new Viewer(world);
  await viewer.open();
  publisher.publication.end("done");
  assert.equal([...world.hub.clients()].length, 0);
  const listed = readPlaylist(textOf(viewer.ask(viewer.media).given));
  assert.equal(listed.isEnded, true);
  const uri = `/live/${listed.segments.at(-1)?.uri}`;
  assert.ok(bytesOf(viewer.ask(uri).given).length > 0);
  assert.equal(
    refusal(() => new Viewer(world).ask("/live/livestream.m3u8")),
    "not-live",
  );
  world.clock.advance(21_000);
  for (const url of [viewer.media, uri])
    assert.match(
      refusal(() => viewer.ask(url)),
      /not-live|not-found/,
    );
  assert.equal(world.service.viewerCount, 0);
  assert.equal(world.clock.pending, 0, "no timer is left");
});

test("a stream that comes back goes on with its numbers, and those of the old one see its end", async () => {
  const world = new HlsWorld({ grace: 0 });
  const first = await world.publish();
  first.run(6_050);
  const viewer = new Viewer(world);
  const before = readPlaylist(await viewer.open());
  first.publication.end("done");
  const second = await world.publish();
  second.run(4_100);
  assert.equal(readPlaylist(textOf(viewer.ask(viewer.media).given)).isEnded, true);
  const after = readPlaylist(await new Viewer(world, "new").open());
  assert.ok(after.mediaSequence > (before.segments.at(-1)?.sequence ?? 0));
  assert.equal(after.discontinuitySequence, 1);
  assert.notEqual(after.segments[0]?.uri, before.segments[0]?.uri);
});

test("while the publisher is away a reload is held, and refused for now after three target durations", async () => {
  const world = new HlsWorld({ grace: 20_000 });
  const publisher = await world.publish();
  publisher.run(6_450);
  const viewer = new Viewer(world);
  const listed = readPlaylist(await viewer.open());
  publisher.publication.end("it crashed");
  const sequence = (listed.segments.at(-1)?.sequence ?? 0) + 1;
  const one = viewer.ask(`${viewer.media}&_HLS_msn=${sequence}`);
  world.clock.advance(7_000);
  assert.equal(codeOf(one.given), "overloaded");
  const two = viewer.ask(`${viewer.media}&_HLS_msn=${sequence}&_HLS_part=0`);
  const again = await world.publish();
  again.run(1_500);
  assert.equal(readPlaylist(textOf(two.given)).segments.at(-1)?.discontinuity, 1);
});

test("unknown streams and files are refused at once, and nothing is made for them", async () => {
  const world = new HlsWorld();
  (await world.publish()).run(5_000);
  const viewer = new Viewer(world);
  const uri = readPlaylist(await viewer.open()).segments[0]?.uri ?? "";
  for (const url of [
    "/live/other.m3u8",
    "/live/other.m3u8?hls_ctx=abc",
    `/other/${uri}`,
    `/live/other-${uri.slice("livestream-".length)}`,
    `/live/${uri.replace(/-\d+\.m4s/, "-9999.m4s")}`,
    `/live/${uri.replace(/-\d+\.m4s/, "-p9999.m4s")}`,
    "/live/livestream-00000000-0.m4s",
  ]) {
    assert.match(
      refusal(() => viewer.ask(url)),
      /^not-(live|found)$/,
      url,
    );
  }
  assert.equal(world.service.viewerCount, 1);
});

test("names that are tricks are bad requests, and what is not HLS is not ours", () => {
  const world = new HlsWorld();
  const target = (path: string, host = "gw.example"): string => {
    let kind = "other";
    const code = refusal(() => {
      kind = world.service.target(path, "", host)?.kind ?? "other";
    });
    return code === "granted" ? kind : code;
  };
  for (const path of [
    "/live/../x.m3u8",
    "/live/%2e%2e%2fx.m3u8",
    "/live/..%5cx.m3u8",
    "/%2e%2e/x.m3u8",
    "/live/x%00.m3u8",
    "/live/%ff.m3u8",
    "/live/%zz.m3u8",
    "/live/.m3u8",
    `/live/${"x".repeat(300)}.m3u8`,
    "/a/../b/livestream-00000000-0.m4s",
  ]) {
    assert.equal(target(path), "bad-request", path);
  }
  for (const path of ["/x.m3u8", "/live/x.flv", "/live/x", "/", "/live/x.mp4", "/api/v1/streams"])
    assert.equal(target(path), "other", path);
  assert.equal(target("/live/x.m3u8", "off.example"), "other");
  assert.equal(target("/a/b/x%20y.m3u8"), "playlist");
});

test("who is sent away stays away for a while", async () => {
  const world = new HlsWorld();
  const publisher = await world.publish();
  publisher.run(5_000);
  const viewer = new Viewer(world);
  const uri = readPlaylist(await viewer.open()).segments[0]?.uri;
  [...world.hub.clients()].find(({ role }) => role === "play")?.close("kicked by the API");
  for (const url of [viewer.media, `/live/${uri}`]) assert.equal(codeOf(viewer.ask(url).given), "forbidden");
  assert.equal([...world.hub.clients()].length, 1);
});

test("on demand a stream is packaged from the first request on, with the group that is kept, until nobody asks", async () => {
  const world = new HlsWorld({ settings: { onDemand: "on" } });
  const publisher = await world.publish();
  publisher.run(5_000);
  assert.equal(publisher.publication.stream.frames.viewerCount, 0);
  const viewer = new Viewer(world);
  const master = viewer.ask("/live/livestream.m3u8");
  await turn();
  assert.equal(publisher.publication.stream.frames.viewerCount, 1);
  publisher.run(1_100); // to the end of the group that was begun before
  await turn();
  assert.match(textOf(master.given), /hls_ctx/);
  publisher.run(75_000);
  assert.equal(publisher.publication.stream.frames.viewerCount, 0);
  assert.equal(world.service.streams.length, 0);
});

test("a WebRTC publisher is packaged from publish on when that is asked for, or when there is a folder to write to", async () => {
  for (const [settings, packaged] of [
    [{}, 0],
    [{ onDemand: "off" }, 1],
    [{ path: "/hls" }, 1],
    [{ path: "/hls", onDemand: "on" }, 0],
  ] as const) {
    const world = new HlsWorld({ settings });
    await world.hub.publish({
      name: { vhost: "__defaultVhost__", app: "room", stream: "ann" },
      peer: peer("192.0.2.1", "rtc"),
      source: new RecordingSource(),
      lane: "packets",
    });
    assert.equal(world.service.streams.length, packaged, JSON.stringify(settings));
    world.service.close();
  }
});

test("the end of the gateway answers all, and leaves no timer", async () => {
  const world = new HlsWorld();
  const publisher = await world.publish();
  publisher.run(6_450);
  const viewer = new Viewer(world);
  const listed = readPlaylist(await viewer.open());
  const held = viewer.ask(`${viewer.media}&_HLS_msn=${(listed.segments.at(-1)?.sequence ?? 0) + 1}`);
  world.hub.close("the end");
  world.service.close();
  assert.equal(codeOf(held.given), "playlist");
  assert.equal(world.clock.pending, 0);
});
