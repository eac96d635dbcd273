import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../../gateway/media/errors.js";
import { AmfObject, amfObject } from "../../gateway/rtmp/amf.js";
import { writeAmf0 } from "../../gateway/rtmp/amf0.js";
import { writeAmf3 } from "../../gateway/rtmp/amf3.js";
import { type ChunkMessage, ChunkReader, ChunkWriter } from "../../gateway/rtmp/chunk.js";
import { HANDSHAKE_SIZE, startHandshake } from "../../gateway/rtmp/handshake.js";
import { commandMessage, controlMessage, MESSAGE, USER_CONTROL, userControlMessage } from "../../gateway/rtmp/message.js";
import { RECORDED_SESSIONS } from "../support/recorded-sessions.js";
import {
  audioConfigTag,
  audioTag,
  clientBytes,
  metadataTag,
  publishCommands,
  readServerBytes,
  sampleTags,
  type Tag,
  toMessage,
  videoConfigTag,
  videoTag,
} from "../support/rtmp-client.js";
import { SessionHarness } from "../support/rtmp-session.js";
import { seededBytes } from "../support/seeded.js";

const refused = (code: string) => (error: unknown) => error instanceof ProtocolError && error.code === code;

/** A client after its handshake, with a writer for what comes next. */
function connected(answer: "grant" | "refuse" | "later" = "grant") {
  const harness = new SessionHarness(answer);
  const writer = new ChunkWriter();
  harness.receive(Buffer.concat([startHandshake(seededBytes(1)), Buffer.alloc(HANDSHAKE_SIZE)]));
  const send = (...messages: ChunkMessage[]) => harness.receive(Buffer.concat(messages.map((m) => writer.write(m))));
  return { harness, send, sendTag: (tag: Tag) => send(toMessage(tag)) };
}

function publishing() {
  const client = connected();
  client.send(...publishCommands());
  return client;
}

const command = (name: string, transactionId: number, values: Parameters<typeof commandMessage>[1]["values"], streamId = 0) =>
  commandMessage(streamId, { name, transactionId, values });

test("a client publishes, and its frames come out", () => {
  const harness = new SessionHarness();
  harness.receive(clientBytes(sampleTags(), { end: true }));
  const [request] = harness.requests;
  assert.equal(request?.app, "live");
  assert.equal(request?.stream, "livestream");
  assert.equal(request?.vhost, "127.0.0.1");
  assert.equal(request?.agent, "test/1.0");
  assert.equal(harness.frames.length, 3 + 50);
  assert.deepEqual(
    harness.frames.slice(0, 4).map((f) => [f.kind, f.isConfig, f.dts, f.pts]),
    [
      ["data", false, 0, 0],
      ["video", true, 0, 0],
      ["audio", true, 0, 0],
      ["video", false, 0, 40_000],
    ],
  );
  assert.deepEqual(harness.unpublished, ["FCUnpublish"]);
  assert.deepEqual(harness.statusCodes, ["NetStream.Publish.Start", "NetStream.Unpublish.Success"]);
  assert.deepEqual(harness.closed, []);
  const results = readServerBytes(harness.sent).filter((c) => c.name === "_result");
  assert.deepEqual(
    results.map((c) => c.transactionId),
    [1, 2, 3, 4, 6],
  );
  assert.equal(results[3]?.values[1], 1); // stream id of createStream
});

test("the same session split at every position gives the same frames and answers", () => {
  const bytes = clientBytes(
    [metadataTag(), videoConfigTag(), videoTag(0, { key: true, size: 300 }), audioConfigTag(), audioTag(5)],
    { end: true },
  );
  const whole = new SessionHarness();
  whole.receive(bytes);
  for (let cut = 1; cut < bytes.length; cut++) {
    const harness = new SessionHarness();
    harness.receive(Buffer.from(bytes.subarray(0, cut)));
    harness.receive(Buffer.from(bytes.subarray(cut)));
    assert.deepEqual(harness.frames, whole.frames, `cut at ${cut}`);
    assert.ok(harness.sent.equals(whole.sent), `answers, cut at ${cut}`);
  }
  const harness = new SessionHarness();
  for (const byte of bytes) harness.receive(Buffer.from([byte]));
  assert.deepEqual(harness.frames, whole.frames);
});

test("nothing more is read while a publish waits, then everything", () => {
  const harness = new SessionHarness("later");
  harness.receive(clientBytes(sampleTags()));
  assert.equal(harness.session.isWaiting, true);
  assert.equal(harness.frames.length, 0);
  harness.session.grantPublish(harness.now, { firstPacketTimeout: 100, normalTimeout: 100 });
  assert.equal(harness.frames.length, 53);
});

test("what is sent before the answer is bounded", () => {
  const harness = new SessionHarness("later");
  harness.receive(clientBytes([]));
  assert.throws(() => {
    for (let i = 0; i < 100; i++) harness.receive(Buffer.alloc(65_536));
  }, refused("too-early"));
});

test("a refused publish is told why, and the session ends", () => {
  const harness = new SessionHarness("refuse");
  harness.receive(clientBytes(sampleTags()));
  assert.deepEqual(harness.statusCodes, ["NetStream.Publish.BadName"]);
  assert.deepEqual(harness.closed, ["refused: taken"]);
  assert.equal(harness.frames.length, 0);
});

test("play can be refused", () => {
  const { harness, send } = connected("refuse");
  send(...publishCommands().slice(0, 4), command("play", 0, [null, "livestream"], 1));
  assert.deepEqual(harness.statusCodes, ["NetStream.Play.Failed"]);
  assert.equal(harness.closed.length, 1);
});

/** Commands of a player up to `play`, as ffmpeg and librtmp send them. */
const playCommands = (stream = "livestream") => [
  ...publishCommands().slice(0, 1),
  command("createStream", 2, [null]),
  command("getStreamLength", 3, [null, stream]),
  command("play", 0, [null, stream, -2000], 1),
];

function playing() {
  const client = connected();
  client.send(...playCommands());
  const codes = () => client.harness.statusCodes.slice(2); // without Reset and Start
  return { ...client, codes };
}

/** User control events that were sent, as [event, stream]. */
function streamEvents(harness: SessionHarness): [number, number][] {
  const events: [number, number][] = [];
  for (const message of messagesOf(harness.sent)) {
    if (message.type === MESSAGE.USER_CONTROL) events.push([message.payload.readUInt16BE(0), message.payload.readUInt32BE(2)]);
  }
  return events;
}

function messagesOf(sent: Buffer): ChunkMessage[] {
  const reader = new ChunkReader();
  reader.push(sent.subarray(1 + 2 * HANDSHAKE_SIZE));
  const messages: ChunkMessage[] = [];
  for (let message = reader.read(); message !== undefined; message = reader.read()) messages.push(message);
  return messages;
}

test("a granted play: chunk size, StreamBegin, Reset, Start, sample access, and only then the owner's media", () => {
  const { harness } = playing();
  assert.equal(harness.requests[0]?.stream, "livestream");
  assert.equal(harness.requests[0]?.streamId, 1);
  assert.deepEqual(harness.statusCodes, ["NetStream.Play.Reset", "NetStream.Play.Start"]);
  assert.deepEqual(streamEvents(harness), [[USER_CONTROL.STREAM_BEGIN, 1]]);
  assert.deepEqual(harness.wishes, ["all"]);
  const types = messagesOf(harness.sent).map(({ type }) => type);
  assert.deepEqual(types.slice(-5), [
    MESSAGE.SET_CHUNK_SIZE,
    MESSAGE.USER_CONTROL,
    MESSAGE.COMMAND_AMF0,
    MESSAGE.COMMAND_AMF0,
    MESSAGE.DATA_AMF0,
  ]);
  harness.advance(10 * 60_000); // a player has nothing to say
  assert.deepEqual(harness.closed, []);
});

test("pause, receiveAudio and receiveVideo say what the player wants", () => {
  const { harness, send, codes } = playing();
  send(command("pause", 0, [null, true, 0], 1));
  send(command("pause", 0, [null, true, 0], 1));
  send(command("pause", 0, [null, false, 0], 1));
  send(command("receiveAudio", 0, [null, false], 1));
  send(command("receiveVideo", 0, [null, false], 1));
  send(command("receiveAudio", 0, [null, true], 1));
  send(command("receiveVideo", 0, [null, true], 1));
  assert.deepEqual(harness.wishes, ["all", "nothing", "all", "video", "nothing", "audio", "all"]);
  assert.deepEqual(codes(), ["NetStream.Pause.Notify", "NetStream.Pause.Notify", "NetStream.Unpause.Notify"]);
  const { STREAM_BEGIN, STREAM_EOF } = USER_CONTROL;
  assert.deepEqual(
    streamEvents(harness).map(([event]) => event),
    [STREAM_BEGIN, STREAM_EOF, STREAM_EOF, STREAM_BEGIN],
  );
});

test("seek is answered and changes nothing; play2 is refused and the play goes on", () => {
  const { harness, send, codes } = playing();
  send(command("seek", 0, [null, 10_000], 1), command("play2", 0, [null, amfObject({})], 1));
  assert.deepEqual(codes(), ["NetStream.Seek.Notify", "NetStream.Play.Failed"]);
  assert.deepEqual(harness.closed, []);
  assert.equal(harness.session.state, "playing");
});

for (const [name, end] of [
  ["closeStream", command("closeStream", 0, [null], 1)],
  ["deleteStream", command("deleteStream", 0, [null, 1])],
  ["FCUnsubscribe", command("FCUnsubscribe", 0, [null, "livestream"])],
] as const) {
  test(`${name} ends the play, and another may follow on the connection`, () => {
    const { harness, send, codes } = playing();
    send(end);
    assert.deepEqual(harness.playsEnded, [name]);
    assert.deepEqual(codes(), ["NetStream.Play.Stop"]);
    send(command("createStream", 9, [null]), command("play", 0, [null, "other"], 2));
    assert.equal(harness.requests[1]?.stream, "other");
    assert.equal(harness.requests[1]?.streamId, 2);
    harness.advance(60_000);
    assert.deepEqual(harness.closed, []);
  });
}

test("a second play takes the place of the first, a publish beside it is refused", () => {
  const { harness, send, codes } = playing();
  send(command("play", 0, [null, "other"], 1));
  assert.deepEqual(harness.playsEnded, ["another play"]);
  assert.deepEqual(codes(), ["NetStream.Play.Stop", "NetStream.Play.Reset", "NetStream.Play.Start"]);
  assert.throws(() => send(command("publish", 0, [null, "x", "live"], 1)), refused("busy-connection"));
});

test("commands of a player without a play do no harm", () => {
  const { harness, send } = connected();
  send(...playCommands().slice(0, 2));
  send(command("pause", 0, [null, true, 0], 1), command("seek", 0, [null, 0], 1), command("receiveAudio", 0, [null, false], 1));
  send(command("closeStream", 0, [null], 1), command("FCSubscribe", 5, [null, "livestream"]));
  assert.deepEqual(harness.wishes, []);
  assert.deepEqual(harness.playsEnded, []);
  assert.equal(readServerBytes(harness.sent).at(-1)?.name, "onFCSubscribe");
});

test("the end of the stream is told, and ends the session", () => {
  const { harness, codes } = playing();
  harness.session.endPlay("the publisher left");
  harness.session.endPlay("again");
  assert.deepEqual(codes(), ["NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetConnection.Connect.Closed"]);
  assert.deepEqual(streamEvents(harness).at(-1), [USER_CONTROL.STREAM_EOF, 1]);
  assert.deepEqual(harness.closed, ["the publisher left"]);
});

test("a server that is full says so", () => {
  const harness = new SessionHarness("grant", { rejection: "full" });
  harness.receive(clientBytes([]));
  assert.deepEqual(harness.statusCodes, ["NetConnection.Connect.Rejected"]);
  assert.deepEqual(harness.closed, ["full"]);
});

test("publish before connect is told so and ends the session", () => {
  const { harness, send } = connected();
  assert.throws(() => send(command("publish", 1, [null, "x"], 1)), refused("command-before-connect"));
  assert.deepEqual(harness.statusCodes, ["NetConnection.Connect.Rejected"]);
  assert.equal(harness.requests.length, 0);
});

test("media before publish is ignored", () => {
  const { harness, sendTag } = connected();
  sendTag(videoConfigTag());
  assert.equal(harness.frames.length, 0);
});

test("what encoders ask besides is answered: _checkbw, getStreamLength, an unknown command", () => {
  const { harness, send } = publishing();
  send(command("_checkbw", 7, [null]), command("getStreamLength", 8, [null, "x"]), command("makeCoffee", 9, [null]));
  send(command("makeTea", 0, [null]));
  const answers = readServerBytes(harness.sent).filter((c) => c.transactionId >= 7);
  assert.deepEqual(
    answers.map((c) => [c.name, c.transactionId]),
    [
      ["_result", 7],
      ["_result", 8],
      ["_error", 9],
    ],
  );
});

test("OBS's order: connect with AMF objects, releaseStream, FCPublish, createStream, publish, data, media, deleteStream", () => {
  const { harness, send, sendTag } = publishing();
  assert.deepEqual(
    readServerBytes(harness.sent).map((c) => c.name),
    ["_result", "_result", "_result", "onFCPublish", "_result", "onStatus"],
  );
  sendTag(metadataTag({ width: 1280, encoder: "obs-output module" }));
  sendTag(videoConfigTag());
  sendTag(videoTag(0, { key: true }));
  send(command("deleteStream", 8, [null, 1]));
  assert.deepEqual(harness.unpublished, ["deleteStream"]);
  assert.equal(harness.session.state, "connected");
});

for (const [name, bytes, agent, parameters] of [
  ["OBS", RECORDED_SESSIONS.obs, "FMLE/3.0 (compatible; FMSc/1.0)", "?secret=x"],
  ["ffmpeg", RECORDED_SESSIONS.ffmpeg, "FMLE/3.0 (compatible; Lavf59.27.100)", "?key=1"],
] as const) {
  test(`a recorded session of ${name} is understood, in pieces of any size`, () => {
    const whole = new SessionHarness();
    whole.receive(bytes);
    assert.equal(whole.session.state, "publishing");
    const [request] = whole.requests;
    assert.deepEqual(
      [request?.app, request?.stream, request?.parameters, request?.agent],
      ["live", "livestream", parameters, agent],
    );
    assert.deepEqual(whole.problems, []);
    const configs = whole.frames.filter((frame) => frame.isConfig).map((frame) => frame.codec);
    assert.deepEqual(configs.sort(), ["aac", "h264"]);
    const pictures = whole.frames.filter((frame) => frame.codec === "h264" && !frame.isConfig);
    assert.ok(pictures.length >= 10 && pictures[0]?.isKey === true);
    assert.ok(
      pictures.some((frame) => frame.pts !== frame.dts),
      "B-frames are on by default",
    );
    for (const kind of ["video", "audio"] as const) {
      const times = whole.frames.filter((frame) => frame.kind === kind).map((frame) => frame.dts);
      assert.deepEqual(
        times,
        times.toSorted((a, b) => a - b),
      );
    }
    for (const size of [1, 7, 1000, 1460, 4097]) {
      const harness = new SessionHarness();
      for (let at = 0; at < bytes.length; at += size) harness.receive(bytes.subarray(at, at + size));
      assert.deepEqual(harness.frames, whole.frames);
    }
  });
}

test("a client may publish again after it ended", () => {
  const { harness, send, sendTag } = publishing();
  send(command("closeStream", 0, [null], 1));
  sendTag(audioTag(0)); // late
  send(command("createStream", 9, [null]), command("publish", 10, [null, "second"], 2));
  assert.equal(harness.session.state, "publishing");
  assert.deepEqual(
    harness.requests.map((r) => r.stream),
    ["livestream", "second"],
  );
  assert.deepEqual(harness.frames, []);
});

test("a second publish on one connection is refused and the first goes on", () => {
  const { harness, send, sendTag } = publishing();
  send(command("publish", 10, [null, "second"], 2));
  assert.deepEqual(harness.statusCodes, ["NetStream.Publish.Start", "NetStream.Publish.BadName"]);
  sendTag(videoConfigTag());
  assert.equal(harness.frames.length, 1);
});

test("AMF3 commands and data are understood", () => {
  const harness = new SessionHarness();
  const writer = new ChunkWriter();
  const amf3 = (type: number, payload: Buffer): Buffer =>
    writer.write({ chunkStreamId: 3, type, streamId: 1, timestamp: 0, payload: Buffer.concat([Buffer.from([0]), payload]) });
  const connect = Buffer.concat([
    writeAmf0(["connect", 1]),
    Buffer.from([0x11]),
    writeAmf3([amfObject({ app: "live", tcUrl: "rtmp://h/live" })]),
  ]);
  harness.receive(Buffer.concat([startHandshake(seededBytes(1)), Buffer.alloc(HANDSHAKE_SIZE)]));
  harness.receive(amf3(MESSAGE.COMMAND_AMF3, connect));
  harness.receive(amf3(MESSAGE.COMMAND_AMF3, writeAmf0(["createStream", 2, null])));
  harness.receive(amf3(MESSAGE.COMMAND_AMF3, writeAmf0(["publish", 3, null, "s", "live"])));
  harness.receive(amf3(MESSAGE.DATA_AMF3, writeAmf0(["@setDataFrame", "onMetaData", amfObject({ width: 1 })])));
  assert.equal(harness.session.state, "publishing");
  assert.deepEqual(harness.frames[0]?.data, writeAmf0(["onMetaData", amfObject({ width: 1 })]));
});

test("metadata comes without @setDataFrame, other data does not come", () => {
  const { harness, sendTag } = publishing();
  const data = (...values: Parameters<typeof writeAmf0>[0]) =>
    sendTag({ type: MESSAGE.DATA_AMF0, timestamp: 0, body: writeAmf0(values) });
  const value = new AmfObject("array", [["width", 320]]);
  data("@setDataFrame", "onMetaData", value);
  data("onMetaData", value);
  data("onCuePoint", value);
  data("@clearDataFrame", "onMetaData");
  data("onMetaData", 5);
  assert.deepEqual(
    harness.frames.map((f) => f.data),
    [writeAmf0(["onMetaData", value]), writeAmf0(["onMetaData", value])],
  );
});

test("an aggregate message is taken apart, its times counted from its own", () => {
  const { harness, send } = publishing();
  const part = (type: number, time: number, body: Buffer) => {
    const head = Buffer.alloc(11);
    head[0] = type;
    head.writeUIntBE(body.length, 1, 3);
    head.writeUIntBE(time & 0xffffff, 4, 3);
    head[7] = time >>> 24;
    return Buffer.concat([head, body, Buffer.alloc(4)]);
  };
  const payload = Buffer.concat([
    part(9, 5000, videoConfigTag().body),
    part(9, 5000, videoTag(0, { key: true }).body),
    part(8, 5010, audioConfigTag().body),
    part(8, 5020, audioTag(0).body),
  ]);
  send({ chunkStreamId: 4, type: MESSAGE.AGGREGATE, streamId: 1, timestamp: 100, payload });
  assert.deepEqual(
    harness.frames.map((f) => [f.kind, f.dts]),
    [
      ["video", 100_000],
      ["video", 100_000],
      ["audio", 110_000],
      ["audio", 120_000],
    ],
  );
  const broken = Buffer.from(payload.subarray(0, payload.length - 10));
  assert.throws(
    () => send({ chunkStreamId: 4, type: MESSAGE.AGGREGATE, streamId: 1, timestamp: 200, payload: broken }),
    refused("message-aggregate"),
  );
});

test("a ping is answered with its time, and bytes are acknowledged at half the window", () => {
  const { harness, send, sendTag } = publishing();
  const before = harness.sent.length;
  send(userControlMessage(USER_CONTROL.PING_REQUEST, Buffer.from([1, 2, 3, 4])));
  assert.equal(harness.sent.subarray(before).toString("hex").slice(-12), "000701020304");
  send(controlMessage(MESSAGE.WINDOW_ACKNOWLEDGEMENT_SIZE, 10_000));
  for (let i = 0; i < 8; i++) sendTag(audioTag(i, 1000));
  const reader = new ChunkReader();
  reader.push(harness.sent.subarray(1 + 2 * HANDSHAKE_SIZE));
  const types: number[] = [];
  for (let m = reader.read(); m !== undefined; m = reader.read()) types.push(m.type);
  assert.equal(types.filter((type) => type === MESSAGE.ACKNOWLEDGEMENT).length, 2); // 11.7 KB in all
});

test("timeouts: handshake, no publish, no first packet, silence", () => {
  const slow = new SessionHarness();
  slow.receive(Buffer.from([3]));
  slow.advance(9_999);
  assert.deepEqual(slow.closed, []);
  slow.advance(1);
  assert.deepEqual(slow.closed, ["handshake timeout"]);
  assert.equal(slow.session.nextTimeout(), Number.POSITIVE_INFINITY);

  const idle = connected().harness;
  idle.advance(30_000);
  assert.deepEqual(idle.closed, ["connected without publishing or playing"]);

  const first = publishing();
  first.harness.advance(19_999);
  assert.deepEqual(first.harness.closed, []);
  first.harness.advance(1);
  assert.deepEqual(first.harness.closed, ["no media after publish"]);

  const silent = publishing();
  silent.sendTag(audioConfigTag());
  silent.harness.advance(4_999);
  silent.sendTag(audioTag(0));
  silent.harness.advance(4_999);
  assert.deepEqual(silent.harness.closed, []);
  silent.harness.advance(1);
  assert.deepEqual(silent.harness.closed, ["publisher silent"]);
  assert.deepEqual(silent.harness.statusCodes, [
    "NetStream.Publish.Start",
    "NetStream.Unpublish.Success",
    "NetConnection.Connect.Closed",
  ]);
});

test("a message of 16 MB that is declared and trickles in runs into the timeout", () => {
  const { harness } = publishing();
  harness.receive(Buffer.from("06000000ffffff0901000000", "hex"));
  for (let i = 0; i < 25 && harness.closed.length === 0; i++) {
    harness.receive(Buffer.from([1]));
    harness.advance(1000);
  }
  assert.deepEqual(harness.closed, ["no media after publish"]);
});

test("a long message is for those who publish", () => {
  const long = (): Tag => videoTag(0, { key: true, size: 2_000_000 });
  assert.throws(() => connected().sendTag(long()), refused("chunk-message-too-long"));
  const { harness, send, sendTag } = publishing();
  sendTag(videoConfigTag());
  sendTag(long());
  assert.equal(harness.frames.length, 2);
  send(command("deleteStream", 8, [null, 1]));
  assert.throws(() => sendTag(long()), refused("chunk-message-too-long"));
});

test("close says goodbye once, and nothing happens after it", () => {
  const { harness, sendTag } = publishing();
  harness.session.close("kicked");
  harness.session.close("again");
  sendTag(videoConfigTag());
  harness.advance(100_000);
  assert.deepEqual(harness.closed, ["kicked"]);
  assert.deepEqual(harness.frames, []);
});

test("H.264 without SPS is told", () => {
  const { harness, sendTag } = publishing();
  sendTag(videoTag(0, { key: true }));
  sendTag(videoTag(40));
  assert.deepEqual(harness.problems, ["video-without-config"]);
});

const BAD: readonly [string, string, (client: ReturnType<typeof connected>) => void][] = [
  ["connect without an app", "connect-invalid", ({ send }) => send(command("connect", 1, [amfObject({})]))],
  [
    "a second connect",
    "connect-twice",
    ({ send }) => send(publishCommands()[0] as ChunkMessage, publishCommands()[0] as ChunkMessage),
  ],
  ["a command without a name", "message-command", ({ send }) => send({ ...command("x", 1, []), payload: writeAmf0([5]) })],
  [
    "publish without a name",
    "target-invalid",
    ({ send }) => send(...publishCommands().slice(0, 4), command("publish", 5, [null], 1)),
  ],
  [
    "a thousand createStream",
    "too-many-streams",
    ({ send }) =>
      send(...publishCommands().slice(0, 1), ...Array.from({ length: 1000 }, () => command("createStream", 2, [null]))),
  ],
  [
    "AMF nested 10,000 deep",
    "amf-too-deep",
    ({ send }) =>
      send({
        ...command("x", 1, []),
        payload: Buffer.concat([
          writeAmf0(["connect", 1]),
          ...Array.from({ length: 10_000 }, () => Buffer.from("03000161", "hex")),
        ]),
      }),
  ],
  [
    "an array of 2^32",
    "amf-array",
    ({ send }) =>
      send({ ...command("x", 1, []), payload: Buffer.concat([writeAmf0(["connect", 1]), Buffer.from("0affffffff05", "hex")]) }),
  ],
  [
    "a control message of one byte",
    "message-too-short",
    ({ send }) => send({ ...controlMessage(MESSAGE.WINDOW_ACKNOWLEDGEMENT_SIZE, 1), payload: Buffer.from([1]) }),
  ],
  ["chunk size 0", "chunk-size-invalid", ({ send }) => send(controlMessage(MESSAGE.SET_CHUNK_SIZE, 0))],
  ["chunk size 2^31", "chunk-size-invalid", ({ send }) => send(controlMessage(MESSAGE.SET_CHUNK_SIZE, 2 ** 31))],
  ["garbage after the handshake", "chunk-format", ({ harness }) => harness.receive(Buffer.alloc(2000, 0xff))],
];

for (const [name, code, work] of BAD) {
  test(`refuses ${name}`, () => {
    const client = connected();
    assert.throws(() => work(client), refused(code));
    assert.deepEqual(client.harness.requests, []);
  });
}

test("garbage instead of a handshake is refused at its first byte", () => {
  assert.throws(() => new SessionHarness().receive(Buffer.from("GET /")), refused("handshake-version"));
});
