import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../../gateway/media/errors.js";
import {
  type ChunkLimits,
  type ChunkMessage,
  ChunkReader,
  ChunkWriter,
  sizeOfMessage,
  writeMessage,
} from "../../gateway/rtmp/chunk.js";

const message = (changes: Partial<ChunkMessage> = {}): ChunkMessage => ({
  chunkStreamId: 4,
  type: 9,
  streamId: 1,
  timestamp: 1000,
  payload: Buffer.from("payload"),
  ...changes,
});

function readAll(bytes: Buffer, limits: Partial<ChunkLimits> = {}): ChunkMessage[] {
  const reader = new ChunkReader(limits);
  reader.push(bytes);
  return drain(reader);
}

function drain(reader: ChunkReader): ChunkMessage[] {
  const messages: ChunkMessage[] = [];
  for (let next = reader.read(); next !== undefined; next = reader.read()) messages.push(next);
  return messages;
}

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
const times = (messages: readonly ChunkMessage[]) => messages.map((m) => m.timestamp);
const refused = (code: string) => (error: unknown) => error instanceof ProtocolError && error.code === code;

const CASES: readonly { name: string; bytes: string; messages: ChunkMessage[] }[] = [
  {
    name: "format 0",
    bytes: "04 0003e8 000007 09 01000000 7061796c6f6164",
    messages: [message()],
  },
  {
    name: "chunk stream ids of two and three bytes",
    bytes: "00 00 0003e8 000001 09 01000000 aa   01 0001 0003e8 000001 09 01000000 bb",
    messages: [message({ chunkStreamId: 64, payload: hex("aa") }), message({ chunkStreamId: 64 + 256, payload: hex("bb") })],
  },
  {
    name: "an extended timestamp",
    bytes: "04 ffffff 000001 09 01000000 01000000 aa",
    messages: [message({ timestamp: 0x01000000, payload: hex("aa") })],
  },
  {
    name: "formats 1 to 3 with deltas",
    bytes: "04 0003e8 000001 09 01000000 aa  44 000028 000002 08 bbbb  84 000014 cccc  c4 dddd",
    messages: [
      message({ payload: hex("aa") }),
      message({ timestamp: 1040, type: 8, payload: hex("bbbb") }),
      message({ timestamp: 1060, type: 8, payload: hex("cccc") }),
      message({ timestamp: 1080, type: 8, payload: hex("dddd") }),
    ],
  },
  {
    name: "format 3 after format 0 repeats its time as a delta (section 5.3.1.2.4)",
    bytes: "04 000010 000001 09 01000000 aa  c4 bb",
    messages: [message({ timestamp: 16, payload: hex("aa") }), message({ timestamp: 32, payload: hex("bb") })],
  },
  {
    name: "an empty message",
    bytes: "04 0003e8 000000 09 01000000 c4",
    messages: [message({ payload: hex("") }), message({ payload: hex(""), timestamp: 2000 })],
  },
  {
    name: "format 1 on a fresh chunk stream, as librtmp pings",
    bytes: "42 000000 000006 04 0006 00000001",
    messages: [message({ chunkStreamId: 2, type: 4, streamId: 0, timestamp: 0, payload: hex("000600000001") })],
  },
];

for (const { name, bytes, messages } of CASES) {
  test(`reads ${name}`, () => assert.deepEqual(readAll(hex(bytes)), messages));

  test(`reads ${name}, split at every position and byte by byte`, () => {
    const all = hex(bytes);
    for (let cut = 1; cut < all.length; cut++) {
      const reader = new ChunkReader();
      reader.push(Buffer.from(all.subarray(0, cut)));
      const got = drain(reader);
      reader.push(Buffer.from(all.subarray(cut)));
      got.push(...drain(reader));
      assert.deepEqual(got, messages, `cut at ${cut}`);
    }
    const reader = new ChunkReader();
    const got: ChunkMessage[] = [];
    for (const byte of all) {
      reader.push(Buffer.from([byte]));
      got.push(...drain(reader));
    }
    assert.deepEqual(got, messages);
  });
}

test("joins chunks of messages that are interleaved", () => {
  const reader = new ChunkReader();
  const first = Buffer.alloc(200, 1);
  const second = Buffer.alloc(150, 2);
  reader.push(hex("04 000000 0000c8 09 01000000"));
  reader.push(first.subarray(0, 128));
  reader.push(hex("05 000007 000096 08 01000000"));
  reader.push(second.subarray(0, 128));
  reader.push(Buffer.concat([hex("c4"), first.subarray(128), hex("c5"), second.subarray(128)]));
  assert.deepEqual(drain(reader), [
    message({ timestamp: 0, payload: first }),
    message({ chunkStreamId: 5, timestamp: 7, type: 8, payload: second }),
  ]);
  assert.equal(reader.buffered, 0);
});

test("an extended timestamp is repeated in format 3 chunks, and may be missing", () => {
  const payload = Buffer.alloc(200, 7);
  const head = Buffer.concat([hex("04 ffffff 0000c8 09 01000000 01000001"), payload.subarray(0, 128)]);
  const expected = [message({ timestamp: 0x01000001, payload })];
  assert.deepEqual(readAll(Buffer.concat([head, hex("c4 01000001"), payload.subarray(128)])), expected);
  assert.deepEqual(readAll(Buffer.concat([head, hex("c4"), payload.subarray(128)])), expected);
});

test("an extended delta adds to the time", () => {
  assert.deepEqual(
    times(readAll(hex("04 000001 000001 09 01000000 aa 84 ffffff 01000000 bb c4 01000000 cc"))),
    [1, 0x01000001, 0x02000001],
  );
});

test("time wraps at 32 bits", () => {
  assert.deepEqual(times(readAll(hex("04 ffffff 000001 09 01000000 fffffff0 aa 84 000020 bb"))), [0xfffffff0, 0x10]);
});

test("set chunk size holds from the next chunk on", () => {
  const payload = Buffer.alloc(300, 3);
  const bytes = Buffer.concat([hex("02 000000 000004 01 00000000 0000012c"), hex("04 000000 00012c 09 01000000"), payload]);
  const messages = readAll(bytes);
  assert.equal(messages.length, 2);
  assert.deepEqual(messages[1]?.payload, payload);
});

for (const size of ["00000000", "80000000", "ffffffff"]) {
  test(`refuses the chunk size 0x${size}`, () => {
    assert.throws(() => readAll(hex(`02 000000 000004 01 00000000 ${size}`)), refused("chunk-size-invalid"));
  });
}

test("the largest allowed chunk size is taken", () => {
  const reader = new ChunkReader();
  reader.push(hex("02 000000 000004 01 00000000 7fffffff"));
  drain(reader);
  assert.equal(reader.chunkSize, 0xffffff);
});

test("abort throws the unfinished message away", () => {
  const reader = new ChunkReader();
  reader.push(Buffer.concat([hex("04 000000 0000c8 09 01000000"), Buffer.alloc(128)]));
  assert.equal(reader.read(), undefined);
  assert.equal(reader.buffered, 200);
  reader.push(hex("02 000000 000004 02 00000000 00000004"));
  assert.equal(drain(reader).length, 1);
  assert.equal(reader.buffered, 0);
  reader.push(hex("04 000005 000001 09 01000000 aa"));
  assert.deepEqual(drain(reader), [message({ timestamp: 5, payload: hex("aa") })]);
});

test("a message in one piece is a view, a message in pieces is its own buffer", () => {
  const bytes = hex("04 0003e8 000007 09 01000000 7061796c6f6164");
  const [whole] = readAll(bytes);
  bytes[bytes.length - 1] = 0;
  assert.equal(whole?.payload[6], 0);
});

test("16 MB that are declared and never sent cost 64 KiB", () => {
  const reader = new ChunkReader();
  reader.push(
    Buffer.concat([hex("02 000000 000004 01 00000000 00ffffff"), hex("04 000000 ffffff 09 01000000"), Buffer.alloc(1000)]),
  );
  drain(reader);
  assert.equal(reader.buffered, 65_536);
});

test("a message of 16 MB that is sent arrives", () => {
  const payload = Buffer.alloc(0xffffff, 9);
  const writer = new ChunkWriter();
  writer.chunkSize = 60_000;
  const bytes = Buffer.concat([hex("02 000000 000004 01 00000000 0000ea60"), writer.write(message({ payload }))]);
  const reader = new ChunkReader();
  const got: ChunkMessage[] = [];
  for (let at = 0; at < bytes.length; at += 65_536) {
    reader.push(bytes.subarray(at, at + 65_536));
    got.push(...drain(reader));
  }
  assert.equal(got[1]?.payload.equals(payload), true);
  assert.equal(reader.buffered, 0);
});

test("a limit stands beside each length", () => {
  assert.throws(() => readAll(hex("04 000000 000101 09 01000000"), { maxMessageLength: 256 }), refused("chunk-message-too-long"));
  const open = (id: number) => hex(`${(3 + id).toString(16).padStart(2, "0")} 000000 010000 09 01000000 aa`);
  const many = (count: number) => {
    const reader = new ChunkReader({ maxChunkStreams: 8, maxBuffered: 6 * 65_536 });
    for (let id = 0; id < count; id++) {
      // each leaves an unfinished chunk of its own: finish it before the next
      reader.push(Buffer.concat([open(id), Buffer.alloc(127)]));
      drain(reader);
    }
  };
  assert.doesNotThrow(() => many(6));
  assert.throws(() => many(7), refused("chunk-too-much-buffered"));
  const streams = Buffer.concat(
    Array.from({ length: 9 }, (_, id) => hex(`${(3 + id).toString(16).padStart(2, "0")} 000000 000000 09 01000000`)),
  );
  assert.throws(() => readAll(streams, { maxChunkStreams: 8 }), refused("chunk-too-many-streams"));
});

test("a chunk that continues nothing, and a message inside a message, are refused", () => {
  assert.throws(() => readAll(hex("84 000000")), refused("chunk-format"));
  assert.throws(() => readAll(hex("c4")), refused("chunk-format"));
  const begun = Buffer.concat([hex("04 000000 0000c8 09 01000000"), Buffer.alloc(128)]);
  assert.throws(() => readAll(Buffer.concat([begun, hex("04 000000 000001 09 01000000")])), refused("chunk-interrupted"));
});

const WRITTEN: readonly ChunkMessage[] = [
  message({ payload: Buffer.alloc(1000, 1) }),
  message({ timestamp: 1040, payload: Buffer.alloc(500, 2) }),
  message({ timestamp: 1080, payload: Buffer.alloc(500, 3) }),
  message({ timestamp: 1120, payload: Buffer.alloc(500, 4) }),
  message({ timestamp: 1100, payload: Buffer.alloc(10, 5) }),
  message({ timestamp: 0x01000100, payload: Buffer.alloc(300, 6) }),
  message({ timestamp: 0x02000200, payload: Buffer.alloc(300, 7) }),
  message({ timestamp: 0xffffffff, payload: Buffer.alloc(129, 8) }),
  message({ timestamp: 3, payload: Buffer.alloc(128, 9) }),
  message({ chunkStreamId: 63, streamId: 7, payload: Buffer.alloc(0) }),
  message({ chunkStreamId: 64, payload: Buffer.alloc(300, 10) }),
  message({ chunkStreamId: 319, payload: Buffer.alloc(300, 11) }),
  message({ chunkStreamId: 320, payload: Buffer.alloc(300, 12) }),
  message({ chunkStreamId: 65_599, timestamp: 0xffffff, payload: Buffer.alloc(300, 13) }),
];

test("what the writer writes the reader reads, in every format", () => {
  const writer = new ChunkWriter();
  assert.deepEqual(readAll(Buffer.concat(WRITTEN.map((m) => writer.write(m)))), WRITTEN);
});

test("the writer uses the shortest header", () => {
  const writer = new ChunkWriter();
  const formats = WRITTEN.slice(0, 5).map((m) => (writer.write(m)[0] as number) >> 6);
  assert.deepEqual(formats, [0, 1, 3, 3, 0]);
});

test("a message that stands alone has the size that was said", () => {
  for (const m of WRITTEN) {
    for (const chunkSize of [128, 4096]) {
      const size = sizeOfMessage(m.chunkStreamId, m.timestamp, m.payload.length, chunkSize);
      const out = Buffer.alloc(size + 1);
      assert.equal(writeMessage(out, 1, m, chunkSize), size + 1);
      const setSize = hex(`02 000000 000004 01 00000000 ${chunkSize.toString(16).padStart(8, "0")}`);
      assert.deepEqual(readAll(Buffer.concat([setSize, out.subarray(1)]))[1], m);
    }
  }
});
