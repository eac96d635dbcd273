import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { type Block, type BlockViewer, FrameFanOut, type FrameFanOutOptions } from "../../gateway/hub/frame-fan-out.js";
import { LiveStream } from "../../gateway/hub/stream.js";
import type { Frame } from "../../gateway/media/frame.js";
import { FakeClock } from "../support/fake-clock.js";
import { audioFrame, peer, RecordingSource, videoConfig, videoFrame } from "../support/frames.js";

const WINDOW = 50;

/** Each frame becomes a text of its kind and time, so that blocks can be read. */
function encode(frame: Frame, timestamp: number): Buffer | undefined {
  if (frame.codec === "vp6") return undefined;
  const name = frame.isConfig ? `${frame.kind}-config` : frame.kind === "video" && frame.isKey ? "key" : frame.kind;
  return Buffer.from(`${name}@${timestamp} `);
}

class Viewer implements BlockViewer {
  group: readonly Block[] = [];
  blocks: Block[] = [];
  closed: string | undefined;

  open(group: readonly Block[]): void {
    this.group = group;
  }

  write(block: Block): void {
    this.blocks.push(block);
  }

  close(reason: string): void {
    this.closed = reason;
  }

  get text(): string[] {
    return this.blocks.map(({ bytes }) => bytes.toString().trim());
  }

  get groupText(): string {
    return this.group
      .map(({ bytes }) => bytes.toString())
      .join("| ")
      .trim();
  }
}

function setUp(_t: TestContext, options: Partial<FrameFanOutOptions> & { gopCacheFrames?: number } = {}) {
  const clock = new FakeClock();
  const stream = new LiveStream({
    name: { vhost: "v", app: "live", stream: "s" },
    clock,
    gopCacheFrames: options.gopCacheFrames ?? 100,
  });
  stream.attach(peer(), new RecordingSource(), "frames");
  const fanOut = new FrameFanOut({ stream, clock, selection: "all", encode, window: () => WINDOW, ...options });
  const write = (...frames: Frame[]): void => {
    for (const frame of frames) stream.receive(frame);
  };
  return { clock, stream, fanOut, write };
}

const ms = (time: number): number => time * 1000;

test("a viewer gets the group since the last key frame, then live blocks of what came within the window", (t) => {
  const { clock, fanOut, write } = setUp(t);
  write(videoConfig("a"), videoFrame(ms(0), { isKey: true }), audioFrame(ms(10)));
  const viewer = new Viewer();
  fanOut.add(viewer);
  assert.equal(viewer.groupText, "key@0 audio@10");
  assert.equal(fanOut.preamble(7).toString().trim(), "video-config@7");
  write(videoFrame(ms(40)), audioFrame(ms(50)));
  assert.deepEqual(viewer.text, []);
  clock.advance(WINDOW);
  assert.deepEqual(viewer.text, ["video@40 audio@50"]);
  assert.equal(viewer.blocks[0]?.isEntry, false);
});

test("all viewers get the very same bytes, and late ones the blocks of the others", (t) => {
  const { clock, fanOut, write } = setUp(t);
  const [first, second, third] = [new Viewer(), new Viewer(), new Viewer()];
  fanOut.add(first);
  fanOut.add(second);
  write(videoFrame(ms(0), { isKey: true }), audioFrame(ms(10)));
  clock.advance(WINDOW);
  assert.equal(first.blocks[0]?.bytes, second.blocks[0]?.bytes);
  fanOut.add(third);
  assert.equal(third.group[0]?.bytes, first.blocks[0]?.bytes);
});

test("a key frame begins a block, and then the group", (t) => {
  const { clock, fanOut, write } = setUp(t);
  const viewer = new Viewer();
  fanOut.add(viewer);
  write(videoFrame(ms(0), { isKey: true }), videoFrame(ms(40)), videoFrame(ms(80), { isKey: true }), videoFrame(ms(120)));
  clock.advance(WINDOW);
  assert.deepEqual(viewer.text, ["key@0 video@40", "key@80 video@120"]);
  assert.deepEqual(
    viewer.blocks.map((block) => block.isEntry),
    [true, true],
  );
  const late = new Viewer();
  fanOut.add(late);
  assert.equal(late.groupText, "key@80 video@120");
});

test("what is sent never steps back in time, over both tracks", (t) => {
  const { clock, fanOut, write } = setUp(t);
  const viewer = new Viewer();
  fanOut.add(viewer);
  write(videoFrame(ms(100), { isKey: true }), videoFrame(ms(140)), audioFrame(ms(110)), audioFrame(ms(131)));
  clock.advance(WINDOW);
  write(audioFrame(ms(120)), videoFrame(ms(180)));
  clock.advance(WINDOW);
  assert.deepEqual(viewer.text, ["key@100 audio@110 audio@131 video@140", "audio@140 video@180"]);
});

test("two frames of one track never have the same time", (t) => {
  const { clock, fanOut, write } = setUp(t);
  const viewer = new Viewer();
  fanOut.add(viewer);
  write(videoFrame(ms(100), { isKey: true }), audioFrame(ms(60)), audioFrame(ms(81)), audioFrame(ms(102)), audioFrame(ms(102)));
  clock.advance(WINDOW);
  assert.deepEqual(viewer.text, ["key@100 audio@100 audio@101 audio@102 audio@103"]);
});

test("video waits for a key frame after new parameter sets", (t) => {
  const { clock, fanOut, write } = setUp(t);
  const viewer = new Viewer();
  write(videoConfig("a"), videoFrame(ms(0), { isKey: true }));
  fanOut.add(viewer);
  write(videoConfig("b"), videoFrame(ms(40)), audioFrame(ms(50)), videoFrame(ms(80), { isKey: true }));
  clock.advance(WINDOW);
  assert.deepEqual(viewer.text, ["video-config@0 audio@50", "key@80"]);
});

test("without a backlog a viewer begins at once where there is no video, else at a key frame", (t) => {
  const { clock, fanOut, write } = setUp(t, { gopCacheFrames: 0 });
  const viewer = new Viewer();
  write(videoFrame(ms(0), { isKey: true }));
  fanOut.add(viewer);
  assert.deepEqual(viewer.group, []);
  write(videoFrame(ms(40)), audioFrame(ms(50)));
  clock.advance(WINDOW);
  write(videoFrame(ms(100), { isKey: true }));
  clock.advance(WINDOW);
  write(audioFrame(ms(120)));
  clock.advance(WINDOW);
  clock.advance(3000); // video has stopped
  write(audioFrame(ms(3120)));
  clock.advance(WINDOW);
  assert.deepEqual(
    viewer.blocks.map((block) => [block.bytes.toString().trim(), block.isEntry]),
    [
      ["audio@50", true],
      ["key@100", true],
      ["audio@120", false],
      ["audio@3120", true],
    ],
  );
});

test("one track alone", (t) => {
  const { clock, stream, fanOut, write } = setUp(t, { selection: "audio" });
  const viewer = new Viewer();
  fanOut.add(viewer);
  write(videoConfig("a"), videoFrame(ms(0), { isKey: true }), audioFrame(ms(10)));
  clock.advance(WINDOW);
  assert.deepEqual(viewer.text, ["audio@10"]);
  assert.equal(fanOut.preamble(0).toString(), "");
  assert.equal(stream.frames.viewerCount, 1);
});

test("frames that the protocol cannot carry are left out", (t) => {
  const { clock, fanOut, write } = setUp(t);
  const viewer = new Viewer();
  fanOut.add(viewer);
  write({ ...videoFrame(0, { isKey: true }), codec: "vp6" });
  clock.advance(WINDOW);
  assert.deepEqual(viewer.text, []);
});

test("reads the stream only while there are viewers, and leaves no timer", (t) => {
  const { clock, stream, fanOut, write } = setUp(t);
  assert.equal(stream.frames.viewerCount, 0);
  const viewer = new Viewer();
  fanOut.add(viewer);
  assert.equal(stream.frames.viewerCount, 1);
  write(videoFrame(ms(0), { isKey: true }));
  fanOut.remove(viewer);
  fanOut.remove(viewer);
  assert.equal(stream.frames.viewerCount, 0);
  assert.equal(clock.pending, 0);
  fanOut.add(viewer);
  write(videoFrame(ms(40)), videoFrame(ms(80)));
  clock.advance(WINDOW);
  fanOut.remove(viewer);
  const next = new Viewer();
  fanOut.add(next);
  assert.equal(next.groupText, "key@0 video@40 video@80"); // not squeezed behind what the first has had
});

test("the end of the stream is told after its last frames", (t) => {
  const { stream, fanOut, write } = setUp(t);
  const viewer = new Viewer();
  fanOut.add(viewer);
  write(videoFrame(ms(0), { isKey: true }));
  stream.close("the publisher left");
  assert.deepEqual(viewer.text, ["key@0"]);
  assert.equal(viewer.closed, "the publisher left");
});
