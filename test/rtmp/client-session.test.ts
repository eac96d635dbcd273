import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../../gateway/media/errors.js";
import type { Frame } from "../../gateway/media/frame.js";
import { AmfObject, amfObject } from "../../gateway/rtmp/amf.js";
import { type ChunkMessage, ChunkWriter } from "../../gateway/rtmp/chunk.js";
import { type RtmpClientOwner, RtmpClientSession, type RtmpClientSessionOptions } from "../../gateway/rtmp/client-session.js";
import { answerHandshake, HANDSHAKE_SIZE } from "../../gateway/rtmp/handshake.js";
import { mediaBytes } from "../../gateway/rtmp/media-message.js";
import { type Command, commandMessage, MESSAGE, streamEvent, USER_CONTROL } from "../../gateway/rtmp/message.js";
import { MEDIA_CHUNK_SIZE } from "../../gateway/rtmp/message-link.js";
import { parseRtmpUrl } from "../../gateway/rtmp/rtmp-url.js";
import { framesOfTags, readServerBytes, sampleTags, statusCode, toMessage } from "../support/rtmp-client.js";
import { SessionHarness } from "../support/rtmp-session.js";
import { seededBytes } from "../support/seeded.js";

const refused = (code: string) => (error: unknown) => error instanceof ProtocolError && error.code === code;

class Client implements RtmpClientOwner {
  readonly frames: Frame[] = [];
  readonly closed: string[] = [];
  readonly problems: string[] = [];
  readonly session: RtmpClientSession;
  ready = 0;
  now = 1000;
  #sent: Buffer[] = [];

  constructor(action: "publish" | "play", options: Partial<RtmpClientSessionOptions> = {}) {
    const address = parseRtmpUrl("rtmp://127.0.0.1/live/livestream?key=1");
    this.session = new RtmpClientSession(this.now, this, { action, address, random: seededBytes(3), ...options });
  }

  /** What was sent since the last look. */
  take(): Buffer {
    return Buffer.concat(this.#sent.splice(0));
  }

  send(bytes: Buffer): void {
    this.#sent.push(bytes);
  }

  receive(bytes: Buffer): void {
    this.session.receive(this.now, bytes);
  }

  advance(ms: number): void {
    this.now += ms;
    this.session.onTimeout(this.now);
  }

  onReady(): void {
    this.ready += 1;
  }

  onFrame(frame: Frame): void {
    this.frames.push(frame);
  }

  onProblem(code: string): void {
    this.problems.push(code);
  }

  onClose(reason: string): void {
    this.closed.push(reason);
  }
}

/** Our own server at the other end; `exchange` carries bytes until both are silent. */
function together(action: "publish" | "play", answer: "grant" | "refuse" | "later" = "grant") {
  const client = new Client(action);
  const server = new SessionHarness(answer);
  let seen = 0;
  const exchange = (): void => {
    for (;;) {
      const up = client.take();
      if (up.length > 0) server.receive(up);
      const down = server.sent.subarray(seen);
      seen += down.length;
      if (down.length > 0) client.receive(Buffer.from(down));
      if (up.length === 0 && down.length === 0) return;
    }
  };
  exchange();
  return { client, server, exchange };
}

/** A server that says what a test wants, after handshake and `connect`. */
function scripted(action: "publish" | "play", options: Partial<RtmpClientSessionOptions> = {}) {
  const client = new Client(action, options);
  const writer = new ChunkWriter();
  client.receive(answerHandshake(client.take(), seededBytes(4)).answer);
  const say = (...messages: ChunkMessage[]): void => client.receive(Buffer.concat(messages.map((m) => writer.write(m))));
  const result = (id: number, ...values: Command["values"]): ChunkMessage =>
    commandMessage(0, { name: "_result", transactionId: id, values });
  const status = (code: string, level = "status", description = "why"): ChunkMessage =>
    commandMessage(1, { name: "onStatus", transactionId: 0, values: [null, amfObject({ level, code, description })] });
  const success = result(1, null, amfObject({ level: "status", code: "NetConnection.Connect.Success" }));
  return { client, say, result, status, success };
}

test("publishes: what goes in comes out at the server, from time 0", () => {
  const { client, server, exchange } = together("publish");
  assert.equal(client.ready, 1);
  assert.deepEqual([server.requests[0]?.app, server.requests[0]?.stream], ["live", "livestream"]);
  assert.equal(server.requests[0]?.parameters, "?key=1");
  const frames = framesOfTags(sampleTags());
  const late = 5_000_000_000; // the stream has run for over an hour
  for (const frame of frames) client.session.write({ ...frame, dts: frame.dts + late, pts: frame.pts + late });
  exchange();
  assert.deepEqual(server.frames, frames);
  client.session.close("done");
  exchange();
  assert.deepEqual(server.unpublished, ["FCUnpublish"]);
  assert.deepEqual(client.closed, ["done"]);
});

test("what is published never steps back in time", () => {
  const { client, server, exchange } = together("publish");
  const [, config, , picture] = framesOfTags(sampleTags());
  assert.ok(config !== undefined && picture !== undefined);
  client.session.write(config);
  for (const dts of [100_000, 140_000, 120_000, 180_000]) client.session.write({ ...picture, dts, pts: dts });
  exchange();
  assert.deepEqual(
    server.frames.slice(1).map(({ dts }) => dts),
    [0, 40_000, 40_000, 80_000],
  );
});

test("plays: what the server's players get comes out", () => {
  const { client, server, exchange } = together("play");
  assert.equal(client.ready, 1);
  const frames = framesOfTags(sampleTags());
  for (const frame of frames) server.send(mediaBytes(frame, frame.dts / 1000, 1, MEDIA_CHUNK_SIZE) ?? Buffer.alloc(0));
  exchange();
  assert.deepEqual(client.frames, frames);
  server.session.endPlay("the publisher left");
  exchange();
  assert.deepEqual(client.closed, ["the publisher left"]);
});

test("a refusal is the reason of the end", () => {
  assert.deepEqual(together("publish", "refuse").client.closed, ["refused by the server: NetStream.Publish.BadName, taken"]);
  assert.deepEqual(together("play", "refuse").client.closed, ["refused by the server: NetStream.Play.Failed, not here"]);
  const { client, say } = scripted("play");
  const info = amfObject({ level: "error", code: "NetConnection.Connect.Rejected", description: "full" });
  say(commandMessage(0, { name: "_error", transactionId: 1, values: [null, info] }));
  assert.deepEqual(client.closed, ["refused by the server: NetConnection.Connect.Rejected, full"]);
});

test("servers that do not know releaseStream and FCPublish, or answer them late", () => {
  const { client, say, result, status, success } = scripted("publish");
  const error = (id: number) => commandMessage(0, { name: "_error", transactionId: id, values: [null, undefined] });
  say(success, error(2), result(4, null, 7), error(3));
  const publish = readServerBytes(Buffer.concat([Buffer.alloc(1 + 2 * HANDSHAKE_SIZE), client.take().subarray(HANDSHAKE_SIZE)]));
  assert.equal(publish.at(-1)?.name, "publish");
  say(status("NetStream.Publish.Start"));
  assert.deepEqual([client.ready, client.closed], [1, []]);
});

test("media without Play.Start, pings, and the ends that servers know", () => {
  const play = () => {
    const server = scripted("play");
    server.say(server.success, server.result(4, null, 1));
    for (const tag of sampleTags().slice(0, 5)) server.say(toMessage(tag));
    assert.equal(server.client.ready, 1);
    assert.equal(server.client.frames.length, 5);
    return server;
  };
  const asked = play();
  asked.client.take();
  const ping = {
    chunkStreamId: 2,
    type: MESSAGE.USER_CONTROL,
    streamId: 0,
    timestamp: 0,
    payload: Buffer.from("000611223344", "hex"),
  };
  asked.say(ping);
  assert.equal(asked.client.take().subarray(-6).toString("hex"), "000711223344");
  asked.say(streamEvent(USER_CONTROL.STREAM_EOF, 1));
  assert.deepEqual(asked.client.closed, ["the stream ended"]);
  for (const code of ["NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetStream.Play.Complete"]) {
    const { client, say, status } = play();
    say(status(code));
    say(status(code));
    assert.deepEqual(client.closed, ["why"]);
  }
  const { client, say, status } = play();
  say(status("NetConnection.Connect.Closed"));
  assert.deepEqual(client.closed, ["ended by the server: NetConnection.Connect.Closed, why"]);
});

test("acknowledges as the server's window asks", () => {
  const { client, say, result, success } = scripted("play");
  const window = Buffer.alloc(4);
  window.writeUInt32BE(10_000);
  say({ chunkStreamId: 2, type: MESSAGE.WINDOW_ACKNOWLEDGEMENT_SIZE, streamId: 0, timestamp: 0, payload: window });
  say(success, result(4, null, 1));
  client.take();
  for (const tag of sampleTags()) say(toMessage(tag));
  const acknowledgement = client.take();
  assert.equal(acknowledgement.readUInt8(7), MESSAGE.ACKNOWLEDGEMENT);
});

test("timeouts: no answer, no media", () => {
  const silent = new Client("play");
  silent.advance(9_999);
  assert.deepEqual(silent.closed, []);
  silent.advance(1);
  assert.deepEqual(silent.closed, ["the server did not answer"]);
  const { client } = together("play");
  client.advance(29_000);
  assert.deepEqual(client.closed, []);
  client.advance(1_000);
  assert.deepEqual(client.closed, ["no media came"]);
  const { client: publisher } = together("publish");
  publisher.advance(100_000);
  assert.deepEqual(publisher.closed, []);
});

test("bad servers: not RTMP, a stream id that is none, media of 20 MB to a stranger, nonsense", () => {
  assert.throws(() => new Client("play").receive(Buffer.from("HTTP/1.1 400 Bad Request\r\n")), refused("handshake-version"));
  for (const id of [0, -1, Number.NaN, "1", null, new AmfObject("object")]) {
    const { say, result, success } = scripted("play");
    say(success);
    assert.throws(() => say(result(4, null, id)), refused("stream-id-invalid"));
  }
  const { say } = scripted("play");
  assert.throws(() => say({ chunkStreamId: 6, type: 9, streamId: 1, timestamp: 0, payload: Buffer.alloc(2 << 20) }));
  const { client } = scripted("play");
  assert.throws(() => client.receive(seededBytes(9)(100_000)), ProtocolError);
});

test("a second _result, or answers to nothing, change nothing", () => {
  const { client, say, result, status, success } = scripted("publish");
  say(success, success, result(4, null, 1), result(4, null, 9), result(77, null, 1));
  say(status("NetStream.Publish.Start"), status("NetStream.Publish.Start"), status("NetStream.Foo"));
  assert.deepEqual([client.ready, client.closed], [1, []]);
  const sent = readServerBytes(Buffer.concat([Buffer.alloc(1 + 2 * HANDSHAKE_SIZE), client.take().subarray(HANDSHAKE_SIZE)]));
  assert.equal(sent.filter(({ name }) => name === "publish").length, 1);
  assert.equal(sent.map(statusCode).filter((code) => code !== undefined).length, 0);
});

test("addresses", () => {
  const { scheme, host, port, app, stream, tcUrl } = parseRtmpUrl("rtmp://example.org/live/tv/channel1?token=a/b");
  assert.deepEqual(
    [scheme, host, port, app, stream, tcUrl],
    ["rtmp", "example.org", 1935, "live/tv", "channel1?token=a/b", "rtmp://example.org:1935/live/tv"],
  );
  assert.deepEqual(parseRtmpUrl("rtmps://[::1]:444/a/b"), {
    scheme: "rtmps",
    host: "::1",
    port: 444,
    app: "a",
    stream: "b",
    tcUrl: "rtmps://[::1]:444/a",
  });
  assert.equal(parseRtmpUrl("rtmps://h/a/b").port, 443);
  for (const bad of ["http://h/a/b", "rtmp://h/a", "rtmp://h/a/", "rtmp:///a/b", "rtmp://h:0/a/b", "rtmp://h:70000/a/b", ""]) {
    assert.throws(() => parseRtmpUrl(bad), TypeError);
  }
});
