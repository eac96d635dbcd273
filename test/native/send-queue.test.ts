import assert from "node:assert/strict";
import { test } from "node:test";

import type { LibC } from "../../gateway/native/libc.js";
import { SendQueue, type SendQueueOptions, type SendStatistics } from "../../gateway/native/send-queue.js";
import { parseSocketAddress, type SocketAddress } from "../../gateway/native/socket-address.js";

const OPTION = { control: 40, namelen: 8 };

/** A kernel that notes what it is given and answers as it is told: messages to take at most, or an error by port. */
class FakeKernel {
  readonly datagrams: { readonly port: number; readonly data: string }[] = [];
  readonly messages: number[] = [];
  /** Messages taken before EAGAIN; refilled by the test. */
  room = Number.POSITIVE_INFINITY;
  /** The most that one call takes. */
  atOnce = Number.POSITIVE_INFINITY;
  readonly errors = new Map<number, string>();
  segmentationError: string | undefined;
  queue: SendQueue | undefined;
  #error = "";

  get libc(): LibC {
    const unused = (): number => -1;
    return {
      socket: unused,
      bind: unused,
      getsockname: unused,
      setsockopt: () => 0,
      getsockopt: unused,
      close: unused,
      sendmmsg: (_fd, messages, count) => this.#send(messages, count),
      send: unused,
      recvmmsg: unused,
      watch: () => ({ start: unused, stop: unused, close: unused }),
      errorName: () => this.#error,
    };
  }

  #send(messages: number, count: number): number {
    const { queue } = this;
    assert.ok(queue !== undefined);
    const { bytes, address } = queue;
    const pointer = (offset: number): number => Number(bytes.readBigUInt64LE(offset)) - address;
    let taken = 0;
    for (; taken < Math.min(count, this.atOnce); taken++) {
      const header = messages - address + taken * 64;
      const name = pointer(header);
      const port = bytes.readUInt16BE(name + 2);
      const iov = pointer(header + 16);
      const start = pointer(iov);
      const length = Number(bytes.readBigUInt64LE(iov + 8));
      assert.equal(bytes.readUInt32LE(header + OPTION.namelen), 16);
      assert.ok(start >= 0 && start + length <= bytes.length, "inside the arena");
      const isSegmented = bytes.readBigUInt64LE(header + OPTION.control) !== 0n;
      const segment = isSegmented ? bytes.readUInt16LE(pointer(header + 32) + 16) : length;
      const error = this.room === 0 ? "EAGAIN" : (this.errors.get(port) ?? (isSegmented ? this.segmentationError : undefined));
      if (error !== undefined) {
        this.#error = error;
        return taken === 0 ? -1 : taken;
      }
      this.room--;
      let segments = 0;
      for (let at = 0; at < length; at += segment, segments++) {
        this.datagrams.push({ port, data: bytes.toString("latin1", start + at, start + Math.min(at + segment, length)) });
      }
      assert.ok(segments <= 64 && length <= 65_000);
      this.messages.push(segments);
    }
    return taken;
  }
}

function setUp(options: SendQueueOptions = {}) {
  const kernel = new FakeKernel();
  const statistics: SendStatistics = { datagrams: 0, bytes: 0, calls: 0, failed: 0 };
  const queue = new SendQueue(kernel.libc, 3, statistics, { bytes: 4096, messages: 32, segmentation: true, ...options });
  kernel.queue = queue;
  const put = (data: string, to: SocketAddress): boolean => {
    const offset = queue.reserve(data.length);
    if (offset < 0) return false;
    queue.bytes.write(data, offset, "latin1");
    queue.commit(data.length, to);
    return true;
  };
  return { kernel, statistics, queue, put };
}

function to(port: number): SocketAddress {
  const address = parseSocketAddress("127.0.0.1", port);
  assert.ok(address !== undefined);
  return address;
}

test("datagrams of one size to one address are one message, the last may be shorter", () => {
  const { kernel, queue, put, statistics } = setUp();
  const [a, b] = [to(1), to(2)];
  for (const data of ["aaaa", "bbbb", "cc", "dddd", "eeeee"]) put(data, a);
  put("ffff", b);
  put("gggg", a);
  assert.ok(queue.flush());
  assert.deepEqual(kernel.messages, [3, 1, 1, 1, 1]);
  assert.equal(kernel.datagrams.map(({ port, data }) => port + data).join(" "), "1aaaa 1bbbb 1cc 1dddd 1eeeee 2ffff 1gggg");
  assert.deepEqual(statistics, { datagrams: 7, bytes: 27, calls: 1, failed: 0 });
});

test("a message has at most 64 datagrams and 65,000 bytes", () => {
  const { kernel, queue, put } = setUp({ bytes: 1 << 20 });
  const a = to(1);
  for (let index = 0; index < 130; index++) put("x".repeat(1000), a);
  for (let index = 0; index < 60; index++) put("y".repeat(1400), a);
  queue.flush();
  assert.deepEqual(kernel.messages, [64, 64, 2, 46, 14]);
});

test("what the kernel does not take waits in order, what finds no room is refused", () => {
  const { kernel, queue, put, statistics } = setUp();
  const addresses = Array.from({ length: 50 }, (_, index) => to(index + 1));
  kernel.atOnce = 3;
  kernel.room = 5;
  const sent: string[] = [];
  let refused = 0;
  for (let round = 0; round < 40; round++) {
    for (const address of addresses.slice(0, 7)) {
      const data = `${round}-${address.words[0]}`.padEnd(round % 2 ? 100 : 60, ".");
      if (put(data, address)) sent.push(data);
      else refused++;
    }
    queue.flush();
    kernel.room = 4; // less than comes in
  }
  assert.ok(refused > 50);
  kernel.room = Number.POSITIVE_INFINITY;
  assert.ok(queue.flush());
  assert.ok(queue.isEmpty);
  assert.deepEqual(
    kernel.datagrams.map(({ data }) => data),
    sent,
  );
  assert.equal(statistics.datagrams, sent.length);
});

test("an error that is about one address skips that message only", () => {
  const { kernel, queue, put, statistics } = setUp();
  for (const error of ["ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "EPERM", "EACCES", "EINVAL", "EMSGSIZE"]) {
    kernel.errors.set(2, error);
    for (const port of [1, 2, 3]) put("data", to(port));
    assert.ok(queue.flush());
  }
  assert.equal(statistics.failed, 7);
  assert.equal(statistics.datagrams, 14);
  assert.equal(statistics.bytes, 56);
  assert.ok(queue.isSegmenting);
});

for (const error of ["EINVAL", "EIO", "EOPNOTSUPP"]) {
  test(`segmentation is given up for good when the first try gives ${error}, and nothing is lost`, () => {
    const { kernel, queue, put, statistics } = setUp();
    const [a, b] = [to(1), to(2)];
    kernel.segmentationError = error;
    for (const address of [a, b]) for (const data of ["aaaa", "bbbb", "cc"]) put(data, address);
    assert.ok(queue.flush());
    for (const data of ["dddd", "eeee"]) put(data, a);
    assert.ok(queue.flush());
    assert.equal(kernel.datagrams.map(({ port, data }) => port + data).join(" "), "1aaaa 1bbbb 1cc 2aaaa 2bbbb 2cc 1dddd 1eeee");
    assert.ok(!queue.isSegmenting);
    assert.equal(statistics.failed, 0);
    assert.equal(statistics.datagrams, 8);
  });
}

test("EINVAL for one address of small MTU does not cost the others their segmentation", () => {
  const { kernel, queue, put } = setUp();
  const [a, b] = [to(1), to(2)];
  for (const data of ["aaaa", "bbbb"]) put(data, a);
  queue.flush();
  kernel.segmentationError = "EINVAL";
  for (const data of ["cccc", "dddd"]) put(data, b);
  queue.flush();
  kernel.segmentationError = undefined;
  for (const data of ["eeee", "ffff"]) put(data, a);
  queue.flush();
  assert.deepEqual(kernel.messages, [2, 1, 1, 2]);
  assert.ok(queue.isSegmenting);
});

test("a kernel that fills up in the middle of a message sent in pieces gets the rest later", () => {
  const { kernel, queue, put } = setUp();
  kernel.segmentationError = "EIO";
  kernel.room = 2;
  for (const data of ["aaaa", "bbbb", "cccc", "dd"]) put(data, to(1));
  const a = to(1);
  for (const data of ["eeee", "ffff", "gggg", "hh"]) put(data, a);
  assert.ok(!queue.flush());
  kernel.room = 3;
  assert.ok(!queue.flush());
  kernel.room = 100;
  assert.ok(queue.flush());
  assert.equal(kernel.datagrams.map(({ data }) => data).join(" "), "aaaa bbbb cccc dd eeee ffff gggg hh");
});

test("reads addresses as the kernel has them", () => {
  const bytes = (text: string, port = 0x1234): string | undefined => {
    const address = parseSocketAddress(text, port);
    return address && Buffer.from(address.words.buffer, 0, address.length).toString("hex");
  };
  assert.equal(bytes("127.0.0.1"), "020012347f0000010000000000000000");
  assert.equal(bytes("::1"), `0a00123400000000${"0".repeat(30)}0100000000`);
  assert.equal(bytes("2001:db8::a:b"), "0a0012340000000020010db8000000000000000000 0a000b00000000".replace(" ", ""));
  assert.equal(bytes("::ffff:192.0.2.1"), "0a0012340000000000000000000000000000ffffc000020100000000");
  assert.equal(bytes("fe80::1%7")?.slice(-8), "07000000");
  assert.equal(bytes("1:2:3:4:5:6:7:8"), "0a001234000000000001000200030004000500060007000800000000");
  for (const text of ["", "localhost", "1.2.3", "1.2.3.4.5", ":::1", "gg::1"]) assert.equal(bytes(text), undefined, text);
  for (const port of [-1, 65_536, 1.5, Number.NaN]) assert.equal(bytes("127.0.0.1", port), undefined);
});
