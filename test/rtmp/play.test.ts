// Playing over RTMP: the real server and hub, players over sockets and a real ffmpeg.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { promisify } from "node:util";

import type { ChunkMessage } from "../../gateway/rtmp/chunk.js";
import { commandMessage, MESSAGE } from "../../gateway/rtmp/message.js";
import { eventually } from "../support/child.js";
import { runFfmpeg } from "../support/clip.js";
import {
  AAC_CONFIG,
  AVC_CONFIG,
  audioConfigTag,
  audioTag,
  metadataTag,
  type RtmpClient,
  sampleTags,
  statusCode,
  statusText,
  videoConfigTag,
  videoTag,
} from "../support/rtmp-client.js";
import { playerBytes } from "../support/rtmp-sink.js";
import { rtmpWorld } from "../support/rtmp-world.js";

const run = promisify(execFile);

const mediaOf = (client: RtmpClient) =>
  client.controls.filter(({ type }) => type === MESSAGE.AUDIO || type === MESSAGE.VIDEO || type === MESSAGE.DATA_AMF0);

/** Waits until the player has got so many audio, video and data messages. */
async function received(client: RtmpClient, count: number): Promise<ChunkMessage[]> {
  return await eventually(`${count} messages`, () => {
    const media = mediaOf(client);
    return media.length >= count ? media : undefined;
  });
}

const isVideo = ({ type }: ChunkMessage) => type === MESSAGE.VIDEO;

test("a player gets metadata, configurations, the cached group, and then what comes", async (t) => {
  const { hub, publisher, player } = await rtmpWorld(t);
  const source = await publisher();
  for (const tag of sampleTags()) source.sendTag(tag);
  await eventually("published", () => ([...hub.streams()][0]?.received.units === 50 ? true : undefined));
  const { client } = await player();
  // Sample access, metadata, two configurations; the last key frame is number 24 of 25, with one audio frame behind it.
  const media = await received(client, 6);
  assert.equal(media.length, 6);
  assert.match(media[0]?.payload.toString("latin1") ?? "", /RtmpSampleAccess/);
  assert.match(media[1]?.payload.toString("latin1") ?? "", /onMetaData/);
  assert.deepEqual(media[2]?.payload.subarray(5), AVC_CONFIG);
  assert.deepEqual(media[3]?.payload.subarray(2), AAC_CONFIG);
  assert.deepEqual(media[4]?.payload, videoTag(0, { key: true, compositionTime: 40, size: 200 + 37 * 24 }).body);
  assert.deepEqual(media[5]?.payload, audioTag(0, 60 + 24).body);
  assert.equal((media[5]?.timestamp ?? 0) - (media[4]?.timestamp ?? 0), 5);
  source.sendTag(videoTag(1000, { size: 70_000 })); // two chunks
  const live = (await received(client, 7))[6];
  assert.equal(live?.payload.length, 70_009);
  assert.equal((live?.timestamp ?? 0) - (media[4]?.timestamp ?? 0), 40);
});

test("a stream that nobody publishes is refused at once, with the reason", async (t) => {
  const { player, lines, events } = await rtmpWorld(t);
  const { client, answer } = await player("nobody");
  assert.equal(answer && statusCode(answer), "NetStream.Play.StreamNotFound");
  assert.equal(answer && statusText(answer), "nobody publishes live/nobody at the moment");
  await client.closed;
  assert.deepEqual(
    lines.slice(1).map((line) => line.msg),
    [], // players ask again and again: below info
  );
  assert.deepEqual(events, []);
});

test("a publisher that comes back within the grace time: players go on with new configurations, from its key frame", async (t) => {
  const { publisher, player, hub } = await rtmpWorld(t, { grace: 10_000 });
  const first = await publisher();
  first.sendTag(videoConfigTag());
  first.sendTag(videoTag(0, { key: true }));
  const { client } = await player();
  const before = await received(client, 3);
  await first.close();
  await eventually("grace", () => ([...hub.streams()][0]?.state === "grace" ? true : undefined));
  const { client: during, answer } = await player();
  assert.equal(answer && statusCode(answer), "NetStream.Play.Start");
  const second = await publisher();
  second.sendTag(videoConfigTag(5000));
  second.sendTag(videoTag(5000)); // its key frame was before: nobody could decode this one
  second.sendTag(videoTag(5040, { key: true, size: 99 }));
  const after = (await received(client, 5)).slice(3);
  assert.deepEqual(after[0]?.payload.subarray(5), AVC_CONFIG);
  assert.equal(after[1]?.payload.length, 99 + 9);
  assert.ok((after[1]?.timestamp ?? 0) >= (before[2]?.timestamp ?? 0));
  const late = await received(during, 5); // it was shown the last picture meanwhile
  assert.equal(late.filter(isVideo).length, 4);
});

test("the end of the stream: UnpublishNotify, StreamEOF, and the connection closes", async (t) => {
  const { publisher, player, events, lines } = await rtmpWorld(t);
  const source = await publisher();
  source.sendTag(videoConfigTag());
  source.sendTag(videoTag(0, { key: true }));
  const { client } = await player();
  await received(client, 3);
  await source.close();
  await client.closed;
  const codes = client.commands.filter(({ name }) => name === "onStatus").map(statusCode);
  assert.ok(codes.includes("NetStream.Play.UnpublishNotify"));
  const eof = client.controls.filter(({ type, payload }) => type === MESSAGE.USER_CONTROL && payload.readUInt16BE(0) === 1);
  assert.equal(eof.length, 1);
  assert.deepEqual(
    events.map(({ type }) => type),
    ["publish", "play", "unpublish", "stop", "end"],
  );
  const told = lines.filter(({ msg }) => msg.startsWith("rtmp play")).map(({ msg, stream }) => [msg, stream]);
  assert.deepEqual(told, [
    ["rtmp play started", "live/livestream"],
    ["rtmp play ended", "live/livestream"],
  ]);
});

test("a player that leaves, one that is kicked, and one that pauses", async (t) => {
  const { hub, publisher, player, events } = await rtmpWorld(t);
  const source = await publisher();
  source.sendTag(audioConfigTag());
  source.sendTag(audioTag(0));
  const { client: leaver } = await player();
  const { client: kicked } = await player();
  const { client: pauser } = await player();
  const viewers = () => [...hub.streams()][0]?.frames.viewerCount;
  assert.equal(viewers(), 1); // one fan-out for all three
  await leaver.close();
  for (const { role, close } of [...hub.clients()].slice(2, 3)) if (role === "play") close("kicked by the operator");
  await kicked.closed;
  assert.equal(kicked.commands.filter((c) => statusText(c) === "kicked by the operator").length, 2);
  pauser.send(commandMessage(1, { name: "pause", transactionId: 0, values: [null, true, 0] }));
  await pauser.waitFor((command) => statusCode(command) === "NetStream.Pause.Notify");
  assert.equal(viewers(), 0);
  source.sendTag(audioTag(20));
  pauser.send(commandMessage(1, { name: "pause", transactionId: 0, values: [null, false, 0] }));
  await pauser.waitFor((command) => statusCode(command) === "NetStream.Unpause.Notify");
  const had = mediaOf(pauser).length;
  source.sendTag(audioTag(40));
  await received(pauser, had + 1);
  assert.deepEqual(
    events.map(({ type }) => type),
    ["publish", "play", "play", "play", "stop", "stop"],
  );
});

test("players on other message streams, and of one track, get their own", async (t) => {
  const { publisher, player } = await rtmpWorld(t);
  const source = await publisher();
  for (const tag of [metadataTag(), videoConfigTag(), audioConfigTag(), videoTag(0, { key: true }), audioTag(5)]) {
    source.sendTag(tag);
  }
  const { client } = await player();
  await received(client, 6);
  client.send(commandMessage(1, { name: "closeStream", transactionId: 0, values: [null] }));
  client.send(commandMessage(0, { name: "createStream", transactionId: 3, values: [null] }));
  client.send(commandMessage(2, { name: "play", transactionId: 0, values: [null, "livestream"] }));
  const again = (await received(client, 12)).slice(6);
  assert.deepEqual(new Set(again.map(({ streamId }) => streamId)), new Set([2]));
  client.send(commandMessage(2, { name: "receiveVideo", transactionId: 0, values: [null, false] }));
  client.send(commandMessage(2, { name: "seek", transactionId: 0, values: [null, 0] })); // its answer: the other was read
  await client.waitFor((command) => statusCode(command) === "NetStream.Seek.Notify");
  source.sendTag(videoTag(40));
  source.sendTag(audioTag(45));
  const last = (await received(client, 15)).slice(12);
  assert.deepEqual(last.filter(isVideo), []);
});

test("a player that stops reading loses pictures, the publisher and the others do not; when it reads again it gets a key frame", async (t) => {
  const { hub, publisher, player } = await rtmpWorld(t);
  const source = await publisher();
  source.sendTag(videoConfigTag());
  source.sendTag(videoTag(0, { key: true }));
  const { client: slow } = await player();
  const { client: quick } = await player();
  await received(slow, 3);
  const state = () => [...hub.clients()].find(({ role }) => role === "play")?.statistics() ?? {};
  slow.socket.pause();
  let time = 40;
  for (; state()["falls"] !== 1; time += 40) {
    source.sendTag(videoTag(time, { size: 400_000 }));
    const count = mediaOf(quick).length;
    await received(quick, count + 1);
    assert.ok(Number(state()["waiting"]) < 5 << 20);
    assert.ok(time < 40 * 400, "160 MB, and the queue has no end");
  }
  slow.socket.resume();
  await eventually("the player has read what was under way", () => {
    time += 40;
    source.sendTag(videoTag(time, { key: true, size: 77 }));
    return mediaOf(slow).at(-1)?.payload.length === 77 + 9 ? true : undefined;
  });
  const got = mediaOf(slow);
  const key = got.findIndex(({ payload }) => payload.length === 77 + 9);
  assert.deepEqual(got[key - 1]?.payload.subarray(5), AVC_CONFIG); // its decoder may begin here
  assert.ok(Number(state()["dropped"]) > 0);
  assert.equal(mediaOf(quick).filter(isVideo).length > got.filter(isVideo).length, true);
});

test("players by the hundred that leave at once leave nothing behind", async (t) => {
  const { hub, server, publisher, url, events } = await rtmpWorld(t);
  const source = await publisher();
  source.sendTag(videoConfigTag());
  source.sendTag(videoTag(0, { key: true }));
  const port = Number(new URL(url).port);
  for (let round = 0; round < 4; round++) {
    await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => {});
        socket.write(playerBytes());
        if (i % 3 !== 0) await once(socket, "data"); // some go before they have got a byte
        socket.destroy();
        await once(socket, "close");
      }),
    );
  }
  await eventually("all gone", () => (server.connectionCount === 1 ? true : undefined));
  assert.deepEqual(
    [...hub.clients()].map(({ role }) => role),
    ["publish"],
  );
  assert.equal([...hub.streams()][0]?.frames.viewerCount, 0);
  const count = (wanted: string) => events.filter(({ type }) => type === wanted).length;
  assert.equal(count("play"), count("stop"));
});

test("ffmpeg plays what ffmpeg pushes: B-frames, every frame in its place, and a clean end", async (t) => {
  const { hub, url } = await rtmpWorld(t);
  const sources = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=6", "-f", "lavfi", "-i", "sine=f=440:r=48000:d=6"];
  const video = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "3", "-b_strategy", "0", "-g", "50", "-pix_fmt", "yuv420p"];
  const push = runFfmpeg(["-re", ...sources, ...video, "-c:a", "aac", "-ac", "2", "-f", "flv", url]);
  await eventually("live", () => (([...hub.streams()][0]?.received.units ?? 0) > 10 ? true : undefined));
  const entries = "packet=stream_index,dts_time,pts_time,duration_time";
  const strict = ["-v", "error", "-nostdin", "-xerror", "-err_detect", "explode"];
  const [decoded, probed] = await Promise.all([
    run("ffmpeg", [...strict, "-i", url, "-f", "null", "-"]),
    run("ffprobe", ["-v", "error", "-show_entries", entries, "-of", "json", url]),
    push,
  ]);
  assert.equal(decoded.stderr, "");
  type Packet = { stream_index: number; dts_time: string; pts_time: string };
  const { packets } = JSON.parse(probed.stdout) as { packets: Packet[] };
  const dts = packets.map((packet) => Number(packet.dts_time));
  assert.ok(dts.length > 300, `${dts.length} packets`);
  assert.equal(dts.filter((time, i) => time < (dts[i - 1] ?? 0)).length, 0);
  const pictures = packets.filter((packet) => packet.stream_index === 0);
  const shown = pictures.map((packet) => Math.round(Number(packet.pts_time) * 1000)).sort((a, b) => a - b);
  const first = shown[0] ?? 0;
  assert.deepEqual(
    shown,
    shown.map((_, i) => first + i * 40),
  );
});
