// A publisher, a link, the gateway's media side for publishers and its stream's lane, on one fake clock.

import { LiveHub } from "../../gateway/hub/hub.js";
import type { Converter, PacketBatch, Publication, Stream } from "../../gateway/hub/types.js";
import type { EgressPort } from "../../gateway/rtc/egress.js";
import { Publisher } from "../../gateway/rtc/publisher.js";
import type { NegotiatedTrack } from "../../gateway/rtc/sdp-answer.js";
import type { MediaKind, MediaPacket } from "../../gateway/rtp/packet.js";
import { FakeClock } from "./fake-clock.js";
import { Collector, peer } from "./frames.js";
import { type LinkFaults, LossyPipe } from "./lossy-link.js";
import { AUDIO, RtpPublisher, type RtpPublisherOptions, VIDEO } from "./rtp-publisher.js";

const NAME = { vhost: "__defaultVhost__", app: "live", stream: "livestream" };

export type PublisherWorldOptions = LinkFaults & {
  readonly seed?: number;
  readonly audio?: NegotiatedTrack | undefined;
  readonly video?: NegotiatedTrack | undefined;
  readonly source?: RtpPublisherOptions;
  readonly converter?: (stream: Stream, clock: FakeClock) => Converter;
};

type Session = { readonly publisher: Publisher; readonly publication: Publication; wake?: { cancel(): void }; open: boolean };

export class PublisherWorld {
  readonly clock = new FakeClock();
  readonly hub: LiveHub;
  readonly viewer = new Collector<PacketBatch>();
  readonly rtcp: Buffer[] = [];
  readonly #options: PublisherWorldOptions;
  #session: Session | undefined;
  #source: RtpPublisher | undefined;

  static async open(options: PublisherWorldOptions = {}): Promise<PublisherWorld> {
    const world = new PublisherWorld(options);
    await world.publish();
    return world;
  }

  private constructor(options: PublisherWorldOptions) {
    this.#options = options;
    this.hub = new LiveHub({
      clock: this.clock,
      vhost: (name) => ({ name, gopCacheFrames: 2_500, grace: 10_000, takeover: "on" }),
      converter: (stream) => options.converter?.(stream, this.clock),
    });
  }

  get stream(): Stream {
    const stream = this.hub.find(NAME);
    if (stream === undefined) throw new Error("the stream is gone");
    return stream;
  }

  get publisher(): Publisher {
    if (this.#session === undefined) throw new Error("nobody publishes");
    return this.#session.publisher;
  }

  get source(): RtpPublisher {
    if (this.#source === undefined) throw new Error("nobody publishes");
    return this.#source;
  }

  /** A publisher comes, first or again. */
  async publish(source: RtpPublisherOptions = this.#options.source ?? {}): Promise<void> {
    const { clock } = this;
    const { seed = 1, audio = AUDIO, video = VIDEO, ...faults } = this.#options;
    const publication = await this.hub.publish({
      name: NAME,
      peer: peer("192.0.2.9", "rtc"),
      lane: "packets",
      source: {
        requestKeyFrame: () => {
          session.publisher.requestKeyFrame(clock.now());
          arm();
        },
        close: () => {},
      },
    });
    const publisher = new Publisher({ audio, video, publication, cname: "test", random: () => 0x77777777 });
    const session: Session = { publisher, publication, open: true };
    const arm = (): void => {
      session.wake?.cancel();
      const due = publisher.nextTimeout();
      if (due === Number.POSITIVE_INFINITY || !session.open) return;
      session.wake = clock.after(due - clock.now(), () => {
        publisher.onTimeout(clock.now());
        arm();
      });
    };
    const up = new LossyPipe(clock, seed, faults, (bytes) => {
      if (!session.open) return;
      const type = bytes.readUInt8(1);
      if (type >= 192 && type <= 223) publisher.rtcp(clock.now(), bytes);
      else publisher.rtp(clock.now(), bytes);
      bytes.fill(0xee);
      arm();
    });
    const rtpSource = new RtpPublisher(clock, (packet) => up.send(packet), source);
    const down = new LossyPipe(clock, seed + 1, faults, (bytes) => rtpSource.receive(bytes));
    const port: EgressPort = {
      setRemote: () => {},
      sendRtp: () => 0,
      lag: 0,
      sendRtcp: (packet) => {
        this.rtcp.push(Buffer.from(packet));
        down.send(Buffer.from(packet));
        return packet.length;
      },
      close: () => {},
    };
    if (this.#session === undefined) this.stream.packets.add(this.viewer);
    this.#session = session;
    this.#source = rtpSource;
    publisher.start(clock.now(), port);
    arm();
  }

  unpublish(): void {
    const session = this.#session;
    if (session === undefined) return;
    session.open = false;
    session.wake?.cancel();
    session.publisher.close();
    session.publication.end("left");
  }

  packets(kind: MediaKind): MediaPacket[] {
    return this.viewer.items.flat().filter((packet) => packet.kind === kind);
  }

  /** Whole pictures that a viewer could decode, by the number their publisher gave them. */
  pictures(): number[] {
    const pictures: number[] = [];
    let frame = -1;
    let previous = -1;
    for (const packet of this.packets("video")) {
      const isStart = (packet.payload.readUInt8(0) & 0x1f) === 28 && (packet.payload.readUInt8(1) & 0x80) !== 0;
      if (isStart) frame = packet.payload.readUInt32BE(3);
      else if (previous !== -1 && packet.sequenceNumber !== previous + 1) frame = -1;
      previous = packet.sequenceNumber;
      if (packet.marker && frame !== -1) pictures.push(frame);
    }
    return pictures;
  }

  close(): void {
    this.unpublish();
    this.hub.close("the test is over");
  }
}
