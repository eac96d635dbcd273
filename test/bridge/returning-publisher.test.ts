// A publisher that drops and returns within 3 s, over RTMP and over WHIP, the same or changed: WHEP viewers and TCP viewers (RTMP,
// FLV) go on without reconnecting, or are told why they cannot.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { RtcToRtmp } from "../../gateway/bridge/rtc-to-rtmp.js";
import { RtmpToRtc } from "../../gateway/bridge/rtmp-to-rtc.js";
import { FixedWorkSlots } from "../../gateway/bridge/types.js";
import type { Publication } from "../../gateway/hub/types.js";
import type { Frame } from "../../gateway/media/frame.js";
import { EchoTranscoders } from "../support/echo-transcoders.js";
import type { FakeClock } from "../support/fake-clock.js";
import { peer, RecordingSource } from "../support/frames.js";
import {
  aacConfig,
  avcConfig,
  BASELINE_PPS,
  BASELINE_SPS,
  HIGH_PPS,
  HIGH_SPS,
  LARGE_HIGH_SPS,
  picture,
  soundFrame,
} from "../support/pictures.js";
import { NAME, RtcWorld, WHIP_OFFER, type WorldPeer } from "../support/rtc-world.js";
import { TcpViewer } from "../support/tcp-viewer.js";

type Change = "the same" | "larger pictures" | "no sound" | "no picture" | "another codec";
type Protocol = "RTMP" | "WHIP";

/** A publisher at work. */
type Live = { readonly run: (ms: number) => void; readonly leave: () => void };

class World {
  readonly rtc: RtcWorld;
  readonly clock: FakeClock;
  transcoders: EchoTranscoders | undefined;

  constructor() {
    const log = { debug: () => {}, info: () => {}, warn: () => {} };
    this.rtc = new RtcWorld({
      grace: 10_000,
      converter: (stream, lane, clock) => {
        this.transcoders ??= new EchoTranscoders(clock);
        const { transcoders } = this;
        return lane === "frames"
          ? new RtmpToRtc({ stream, clock, transcoders, slots: new FixedWorkSlots(1), log })
          : new RtcToRtmp({ stream, clock, transcoders, log });
      },
    });
    this.clock = this.rtc.clock;
  }

  publish(protocol: Protocol, change: Change): Promise<Live> {
    return protocol === "RTMP" ? this.#publishFrames(change) : this.#publishPackets(change);
  }

  /** 25 pictures a second, a key frame each 2 s, AAC. */
  async #publishFrames(change: Change): Promise<Live> {
    const source = new RecordingSource();
    const publication: Publication = await this.rtc.hub.publish({ name: NAME, peer: peer(), source, lane: "frames" });
    const large = change === "larger pictures";
    const write = (frame: Frame): void =>
      publication.writeFrame(change === "another codec" && frame.kind === "video" ? { ...frame, codec: "hevc" } : frame);
    if (change !== "no picture") {
      write(large ? avcConfig(LARGE_HIGH_SPS, HIGH_PPS) : avcConfig(BASELINE_SPS, BASELINE_PPS));
    }
    if (change !== "no sound") write(aacConfig(48_000));
    let time = 0; // ms
    let sounds = 0;
    return {
      run: (ms) => {
        for (const end = time + ms; time < end; time += 20) {
          if (time % 40 === 0 && change !== "no picture") write(picture(time % 2000 === 0 ? "IDR" : "P", time * 1000));
          for (; change !== "no sound" && (sounds * 64) / 3 <= time; sounds++)
            write(soundFrame(Math.round((sounds * 64_000) / 3)));
          this.clock.advance(20);
        }
      },
      leave: () => publication.end("left"),
    };
  }

  async #publishPackets(change: Change): Promise<Live> {
    const sdp =
      change === "no sound"
        ? WHIP_OFFER.replace(/^m=audio \d+/m, "m=audio 0")
        : change === "no picture"
          ? WHIP_OFFER.replace(/^m=video \d+/m, "m=video 0")
          : WHIP_OFFER;
    const { id, source } = await this.rtc.publishBy({
      offer: { sdp, ...(change === "another codec" && { videoCodec: "vp8" }) },
      ...(change === "larger pictures" && { parameterSets: { sps: HIGH_SPS, pps: HIGH_PPS } }),
    });
    return { run: (ms) => source.run(ms), leave: () => void this.rtc.rtc.closeSession(id, "left") };
  }
}

type Times = { readonly keys: readonly number[]; readonly pictures: readonly number[]; readonly sounds: readonly number[] };

/** When what came, since a moment. */
function timesOfPeer(viewer: WorldPeer, since: number): Times {
  const packets = (viewer.video?.inOrder ?? []).filter(({ at }) => at >= since);
  const isKey = (payload: Buffer): boolean => (payload.readUInt8(0) & 0x1f) === 24; // parameter sets go ahead in one packet
  return {
    keys: packets.filter(({ payload }) => isKey(payload)).map(({ at }) => at),
    pictures: packets.filter(({ marker }) => marker).map(({ at }) => at),
    sounds: (viewer.audio?.inOrder ?? []).filter(({ at }) => at >= since).map(({ at }) => at),
  };
}

function timesOfTcp(viewer: TcpViewer, since: number): Times {
  const seen = viewer.seen.filter(({ at, frame }) => at >= since && !frame.isConfig);
  const video = seen.filter(({ frame }) => frame.kind === "video");
  return {
    keys: video.filter(({ frame }) => frame.isKey).map(({ at }) => at),
    pictures: video.map(({ at }) => at),
    sounds: seen.filter(({ frame }) => frame.kind === "audio").map(({ at }) => at),
  };
}

function assertPictures(name: string, { keys, pictures }: Times, returned: number): void {
  const [first] = keys;
  assert.ok(first !== undefined && first - returned <= 300, `${name}: picture back after ${(first ?? Number.NaN) - returned} ms`);
  const inSecond = pictures.filter((at) => at > returned + 1000 && at <= returned + 2000).length;
  assert.ok(inSecond >= 24 && inSecond <= 26, `${name}: ${inSecond} pictures in the second second`);
  const steps = pictures.slice(1).map((at, index) => at - (pictures[index] ?? at));
  assert.ok(Math.max(...steps) <= 400, `${name}: longest rest ${Math.max(...steps)} ms`);
}

function assertSounds(name: string, { sounds }: Times, returned: number, perSecond: number): void {
  const inSecond = sounds.filter((at) => at > returned + 1000 && at <= returned + 2000).length;
  assert.ok(Math.abs(inSecond - perSecond) <= 3, `${name}: ${inSecond} frames of sound in the second second`);
}

/** As sent: over both tracks never back, within a track always on. */
function assertOrder(viewer: TcpViewer): void {
  viewer.seen.slice(1).forEach(({ timestamp }, index) => {
    assert.ok(timestamp >= (viewer.seen[index]?.timestamp ?? 0));
  });
}

async function watched(protocol: Protocol): Promise<{ world: World; first: Live; whep: WorldPeer; tcp: TcpViewer }> {
  const world = new World();
  await world.rtc.start();
  const first = await world.publish(protocol, "the same");
  first.run(1000);
  const whep = await world.rtc.join();
  whep.start();
  const stream = world.rtc.hub.find(NAME);
  assert.ok(stream !== undefined);
  const tcp = new TcpViewer(stream, world.clock);
  first.run(4000);
  const before = world.clock.now() - 1000;
  for (const { pictures } of [timesOfPeer(whep, before), timesOfTcp(tcp, before)]) assert.ok(pictures.length >= 24);
  return { world, first, whep, tcp };
}

async function close(world: World, live: Live, tcp: TcpViewer): Promise<void> {
  live.leave();
  tcp.leave();
  await world.rtc.rtc.close("the test is over");
  world.rtc.hub.close("the test is over");
  world.clock.advance(10_000);
  assert.equal(world.transcoders?.open ?? 0, 0, "no transcoder is left");
}

const CHANGES: readonly Change[] = ["the same", "larger pictures", "no sound", "no picture"];

for (const [from, to] of [
  ["RTMP", "RTMP"],
  ["WHIP", "WHIP"],
  ["RTMP", "WHIP"],
  ["WHIP", "RTMP"],
] as const) {
  suite(`${from}, back by ${to}`, () => {
    for (const change of CHANGES) {
      for (const away of [200, 2800]) {
        test(`${change}, after ${away} ms`, async () => {
          const { world, first, whep, tcp } = await watched(from);
          first.leave();
          world.clock.advance(away);
          const second = await world.publish(to, change);
          const returned = world.clock.now();
          second.run(5000);
          assert.deepEqual([whep.state, whep.byes, tcp.closed], ["connected", 0, undefined]);
          assert.deepEqual(whep.video?.missing, []);
          assertOrder(tcp);
          for (const [name, times] of [
            ["WHEP", timesOfPeer(whep, returned)],
            ["TCP", timesOfTcp(tcp, returned)],
          ] as const) {
            if (change === "no picture") assert.deepEqual(times.pictures.slice(3), [], `${name}: no picture`);
            else assertPictures(name, times, returned);
            if (change === "no sound") assert.ok(times.sounds.length < 60, `${name}: at most silence`);
            else assertSounds(name, times, returned, name === "WHEP" ? 50 : 47);
          }
          await close(world, second, tcp);
        });
      }
    }

    test("another codec: who cannot have it is told so at once, and nobody waits before a picture that stands still", async () => {
      const { world, first, whep, tcp } = await watched(from);
      first.leave();
      world.clock.advance(1000);
      const second = await world.publish(to, "another codec");
      second.run(1000);
      assert.equal(whep.state, "closed");
      const reason = world.rtc.logged.find(({ message }) => message === "webrtc play ended")?.fields;
      assert.match(
        JSON.stringify(reason),
        to === "WHIP" ? /the stream's video is vp8 now, it was h264/ : /hevc video is not bridged/,
      );
      if (to === "WHIP") assert.match(tcp.closed ?? "", /the publisher sends vp8, and only h264 is bridged/);
      else assert.equal(tcp.closed, undefined, "frames pass as they are");
      second.leave();
      // And when the codec is back, so are the bridges.
      const third = await world.publish(to, "the same");
      const again = new TcpViewer(world.rtc.hub.find(NAME) ?? assert.fail(), world.clock);
      const peerAgain = await world.rtc.join();
      peerAgain.start();
      const returned = world.clock.now();
      third.run(3000);
      assertPictures("TCP", timesOfTcp(again, returned), returned);
      assertPictures("WHEP", timesOfPeer(peerAgain, returned), returned);
      again.leave();
      await close(world, third, tcp);
    });
  });
}
